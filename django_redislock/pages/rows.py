"""What the changelist takes for a queryset: the held locks, filtered, sorted and cut in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

from django.core.exceptions import FieldError
from django.db.models import Q, QuerySet

from ..models import HeldLock, identified
from ..overview import Overview, look
from ..stores.listing import Listed, holder_of

Test = Callable[[Listed], bool]

SORTED_BY = {
    "key": "name",
    "alias": "alias",
    "holder": "who",
    "since": "acquired",
    "remaining": "expires",
    "fence": "fence",
    "waiters": "waiters",
}
"""What each column of the list is sorted by."""


class Look:
    """The one look at the servers that all querysets of a page share."""

    def __init__(self, *, queues: bool = False) -> None:
        self.queues = queues

    @cached_property
    def overview(self) -> Overview:
        """What is held, and with `queues` who waits for it. Asked for once."""
        return look(queues=self.queues)


class HeldLocks(QuerySet[HeldLock]):
    """Held locks. Knows what a changelist asks of a queryset, and nothing of the database."""

    ordered = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.look = Look()
        self._tests: tuple[Test, ...] = ()
        self._order: tuple[str, ...] = ()

    def _clone(self) -> HeldLocks:
        clone: HeldLocks = super()._clone()  # type: ignore[misc]  # not in the stubs
        clone.look, clone._tests, clone._order = self.look, self._tests, self._order
        return clone

    def that(self, test: Test) -> HeldLocks:
        """Those for which it is so."""
        clone = self._clone()
        clone._tests = (*self._tests, test)
        return clone

    def none(self) -> HeldLocks:
        """Nothing."""
        return self.that(lambda lock: False)

    def filter(self, *args: Any, **kwargs: Any) -> HeldLocks:
        """By primary key, as actions do it. Raises `FieldError` for anything else."""
        pks = kwargs.pop("pk__in", None)
        if kwargs or any(not isinstance(arg, Q) or arg for arg in args):
            raise FieldError(f"Held locks are not filtered by {args} {kwargs}.")
        if pks is None:
            return self._clone()
        wanted = {identified(pk) for pk in pks}
        return self.that(lambda lock: (lock.alias, lock.name) in wanted)

    def order_by(self, *names: Any) -> HeldLocks:
        """By columns of the list. Raises `FieldError` for anything else."""
        unknown = [name for name in names if name.lstrip("-") not in {*SORTED_BY, "pk"}]
        if unknown:
            raise FieldError(f"Held locks are not sorted by {unknown}.")
        clone = self._clone()
        clone._order = names
        return clone

    @cached_property
    def found(self) -> list[int]:
        """The places in the look of those that pass, in order."""
        locks = self.look.overview.locks
        places: Sequence[int] = range(len(locks))
        if self._tests:
            places = [place for place, lock in enumerate(locks) if all(test(lock) for test in self._tests)]
        found = list(places)
        # What is equal stays in the order of the indexes: the primary key that the admin adds has nothing to decide.
        for name in reversed([name for name in self._order if name.lstrip("-") != "pk"]):
            keys = locks.column(SORTED_BY[name.lstrip("-")])
            if name.lstrip("-") == "holder":
                keys = [str(holder_of(who)) for who in keys]
            found.sort(key=keys.__getitem__, reverse=name.startswith("-"))
        return found

    def count(self) -> int:
        """How many."""
        return len(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def __bool__(self) -> bool:
        return bool(self.found)

    def __iter__(self) -> Iterator[HeldLock]:
        return map(self._at, self.found)

    def __getitem__(self, index: Any) -> Any:
        found = self.found[index]
        return list(map(self._at, found)) if isinstance(index, slice) else self._at(found)

    def _at(self, place: int) -> HeldLock:
        """The lock at a place of the look, as the admin takes it."""
        return HeldLock.of(self.look.overview.locks[place])

    def named(self, identifier: str) -> HeldLock | None:
        """The lock with that primary key, if somebody holds it."""
        locks = self.look.overview.locks
        named = zip(locks.column("alias"), locks.column("name"), strict=True)
        return next((self._at(place) for place, each in enumerate(named) if each == identified(identifier)), None)
