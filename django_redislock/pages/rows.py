"""What the changelist takes for a queryset: the held locks, filtered, sorted and cut in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any

from django.core.exceptions import FieldError
from django.db.models import Q, QuerySet

from ..models import HeldLock, identified, identify
from ..overview import Overview, look
from ..stores.listing import Listed

Test = Callable[[Listed], bool]

SORT_KEYS: dict[str, Callable[[Listed], Any]] = {
    "pk": attrgetter("alias", "name"),
    "key": attrgetter("name"),
    "alias": attrgetter("alias"),
    "holder": lambda lock: str(lock.holder),
    "since": attrgetter("acquired"),
    "remaining": attrgetter("expires"),
    "fence": attrgetter("fence"),
    "waiters": attrgetter("waiters"),
}


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
        """Nothing, without a look."""
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
        unknown = [name for name in names if name.lstrip("-") not in SORT_KEYS]
        if unknown:
            raise FieldError(f"Held locks are not sorted by {unknown}.")
        clone = self._clone()
        clone._order = names
        return clone

    @cached_property
    def found(self) -> list[Listed]:
        """Those that pass, in order."""
        passed = list(self.look.overview.locks)
        for test in self._tests:
            passed = list(filter(test, passed))
        # What is equal stays in the order of the indexes: the primary key that the admin adds has nothing to decide.
        for name in reversed([name for name in self._order if name.lstrip("-") != "pk"]):
            passed.sort(key=SORT_KEYS[name.lstrip("-")], reverse=name.startswith("-"))
        return passed

    def count(self) -> int:
        """How many."""
        return len(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def __bool__(self) -> bool:
        return bool(self.found)

    def __iter__(self) -> Iterator[HeldLock]:
        return iter(models_of(self.found))

    def __getitem__(self, index: Any) -> Any:
        found = self.found[index]
        return models_of(found) if isinstance(index, slice) else HeldLock.of(found)

    def named(self, identifier: str) -> HeldLock | None:
        """The lock with that primary key, if somebody holds it."""
        for listed in self.look.overview.locks:
            if identify(listed.alias, listed.name) == identifier:
                return HeldLock.of(listed)
        return None


def models_of(found: Sequence[Listed]) -> list[HeldLock]:
    """As the admin takes them."""
    return list(map(HeldLock.of, found))
