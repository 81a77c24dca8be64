"""Several row locks at once: acquire all, BEGIN, read the rows afresh, body, COMMIT, release all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections
from django.db.models import Model, QuerySet

from .conf import read_on_outage
from .entries import Entry
from .exceptions import StoreUnavailable
from .guardedsaves import guard_saves
from .holds import Hold
from .identity import name_of, shown
from .many import Choice, ManyGuard, read_list, read_many_terms
from .rowkeeping import RowKeeper, newest_of
from .steps import Steps, arun, run
from .terms import UNSET, MaybeBool, MaybeOnOutage, Terms
from .transactions import ensure_visible_end

M = TypeVar("M", bound=Model)

NAMED = 20
"""So many primary keys that are missing are told."""


class Ways(NamedTuple):
    """What is done in one way by threads and in another by tasks."""

    enter: Callable[[Sequence[str], Entry], Any]
    find: Callable[[Entry, Mapping[str, tuple[Any, Hold | None]]], Any]
    let_go: Callable[[list[Hold]], Any]


class RowLocks(RowKeeper, ManyGuard, Generic[M]):
    """The locks on several rows. `with` gives the rows, read after the locks were acquired.

    They come in the order asked for; a row that was asked for twice comes twice, as the same instance. The locks are
    for `with` only: there is no `acquire()` by hand.
    """

    __slots__ = ("_atomic", "_on_outage", "_pks", "_queryset", "_target")

    def __init__(
        self,
        queryset: QuerySet[M],
        pks: list[Any],
        terms: Terms,
        choice: Choice,
        *,
        atomic: MaybeBool,
        on_outage: MaybeOnOutage,
    ) -> None:
        super().__init__(terms, choice)
        self._on_outage = on_outage if on_outage is UNSET else read_on_outage(on_outage)
        queryset = queryset.all()
        queryset._for_write = True  # type: ignore[attr-defined]  # as select_for_update() does
        self._target = queryset.db
        self._queryset = queryset
        self._pks = pks
        self._atomic = atomic

    def __repr__(self) -> str:
        return f"<RowLocks {self._queryset.model._meta.label} {self._pks!r}>"

    @property
    def _model(self) -> type[M]:
        return self._queryset.model

    @property
    def _using(self) -> str:
        return self._target

    def __enter__(self) -> list[M]:
        ensure_visible_end(connections[self._using])
        entry, ways = Entry([]), Ways(enter=self._enter, find=self._find, let_go=self._let_go)
        try:
            return run(self._locking(list(self._asked()), entry, ways))
        except BaseException as error:
            self._undo(entry, error)
            raise

    async def __aenter__(self) -> list[M]:
        self._refuse_atomic()
        find = sync_to_async(self._find_alone)
        entry, ways = Entry([]), Ways(enter=self._aenter, find=find, let_go=self._alet_go)
        try:
            return await arun(self._locking(list(self._asked()), entry, ways))
        except BaseException as error:
            await self._aundo(entry, error)
            raise

    def _locking(self, asked: Sequence[tuple[str, Any]], entry: Entry, ways: Ways) -> Steps[list[M]]:
        holds = yield from self._entering_all(asked, entry, ways)
        locked = {
            name: (pk, hold)
            for (name, pk), hold in zip(asked, holds, strict=True)
            if hold is not None or not self._choice.skips_locked
        }
        rows: dict[str, M] = yield ways.find(entry, locked)
        missing = [name for name in locked if name not in rows]
        if missing and not self._choice.skips_locked:
            raise self._does_not_exist([locked[name][0] for name in missing], rows, locked)
        yield from self._sparing(
            entry, [hold for _, hold in map(locked.__getitem__, missing) if hold is not None], ways
        )
        return [rows[name] for name, _ in asked if name in locked and name in rows]

    def _entering_all(self, asked: Sequence[tuple[str, Any]], entry: Entry, ways: Ways) -> Steps[Sequence[Hold | None]]:
        """A hold for each row; none for what is somebody's, and none at all where the block goes on by version."""
        try:
            holds: Sequence[Hold | None] = yield ways.enter([name for name, _ in asked], entry)
            return holds
        except StoreUnavailable as away:
            if self._choice.skips_locked:
                raise  # which are free, only Redis knows
            yield ways.let_go(entry.holds)
            self._enter_by_version(away, entry)
            return [None] * len(asked)

    def _sparing(self, entry: Entry, spare: list[Hold], ways: Ways) -> Steps[None]:
        """Give back at once what turned out to have no row."""
        without = set(map(id, spare))
        kept = [hold for hold in entry.holds if id(hold) not in without]
        try:
            entry.holds = kept
            yield ways.let_go(spare)
        except BaseException:
            if entry.holds is kept:
                yield ways.let_go(spare)
            raise

    def _find(self, entry: Entry, locked: Mapping[str, tuple[Any, Hold | None]]) -> dict[str, M]:
        """The rows, in the transaction."""
        newest = self._begin(entry)
        return self._read([pk for pk, _ in locked.values()], newest=newest)

    def _find_alone(self, entry: Entry, locked: Mapping[str, tuple[Any, Hold | None]]) -> dict[str, M]:
        """The rows, without a transaction of their own; what is saved of them is checked against their leases."""
        ensure_visible_end(connections[self._using])
        _, newest = self._join(entry)
        rows = self._read([pk for pk, _ in locked.values()], newest=newest)
        for name, (_, hold) in locked.items():
            if hold is not None and name in rows:
                guard_saves(rows[name], hold.lease)
        return rows

    def _asked(self) -> Iterator[tuple[str, Any]]:
        """What is asked for: the name of each lock with its primary key. Raises `DoesNotExist`."""
        for pk in self._pks:
            try:
                yield name_of(self._model, pk), pk
            except self._model.DoesNotExist:  # type: ignore[attr-defined]  # each model has its own
                if not self._choice.skips_locked:
                    raise

    def _read(self, pks: Sequence[Any], *, newest: bool) -> dict[str, M]:
        """The rows that there are, by the names of their locks; in one query, if the database takes as many values."""
        queryset = newest_of(self._queryset, self._using) if newest else self._queryset
        most = connections[self._using].features.max_query_params or len(pks) or 1
        portion = max(1, most // len(getattr(self._model._meta.pk, "fields", [None])))
        rows: dict[str, M] = {}
        for start in range(0, len(pks), portion):
            for row in queryset.using(self._using).filter(pk__in=pks[start : start + portion]).order_by():
                rows[name_of(self._model, row.pk)] = row
        return rows

    def _does_not_exist(self, pks: Sequence[Any], rows: Iterable[str], asked: Iterable[str]) -> Exception:
        """The error that names what is missing."""
        label = self._model._meta.label
        more = f" and {len(pks) - NAMED} more" if len(pks) > NAMED else ""
        message = (
            f"No {label} that belongs to the queryset has the primary key {', '.join(map(shown, pks[:NAMED]))}{more}."
        )
        others = sorted(set(rows).difference(asked))
        if others:
            message += f" The database takes {', '.join(others)} for it: pass primary keys as the rows have them."
        error: Exception = self._model.DoesNotExist(message)  # type: ignore[attr-defined]  # each model has its own
        return error


def select_many(
    queryset: QuerySet[M],
    pks: Iterable[Any],
    /,
    *,
    atomic: MaybeBool = UNSET,
    on_outage: MaybeOnOutage = UNSET,
    **named: Any,
) -> RowLocks[M]:
    """The locks on the rows of a queryset that primary keys name; checks all that it is given."""
    call = "locked_many()"
    terms, choice = read_many_terms(call, **named)
    pks = read_list(call, pks, of="primary keys")
    if choice.skips_locked and on_outage is not UNSET:
        raise TypeError("skip_locked=True takes what is free, which only Redis knows: it goes without on_outage=.")
    for pk in pks:
        if isinstance(pk, Model):
            raise TypeError(f"{call} takes primary keys: pass {pk!r}.pk, not the instance.")
        if pk is None:
            raise ValueError(f"{call} takes the primary keys of saved rows, not None.")
    if queryset._fields is not None:  # type: ignore[attr-defined]  # set by values() and values_list()
        raise TypeError(f"{call} gives model instances: it does not go with values() or values_list().")
    if queryset.query.is_sliced:
        raise TypeError(f"{call} does not go with a slice of a queryset: pass a slice of the primary keys.")
    return RowLocks(queryset, pks, terms, choice, atomic=atomic, on_outage=on_outage)
