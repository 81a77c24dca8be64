"""Row locks: acquire, BEGIN, read the row afresh, body, COMMIT, release."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connections, router
from django.db.models import Model, QuerySet

from .conf import read_on_outage
from .entries import Entry
from .exceptions import StoreUnavailable
from .guardedsaves import guard_saves
from .guards import Guard
from .handler import DEFAULT_ALIAS
from .identity import name_of
from .lease import Lease
from .rowkeeping import RowKeeper, Selection, newest_of
from .steps import Steps, arun, run
from .terms import OTHER_WORDS, UNSET, MaybeBool, MaybeOnOutage, MaybeSeconds, Terms, read_terms, refuse_words
from .transactions import ensure_visible_end

M = TypeVar("M", bound=Model)
M_co = TypeVar("M_co", bound=Model, covariant=True)
P = ParamSpec("P")
T = TypeVar("T")

Enter = Callable[[str, Callable[[], object]], Any]
"""Acquires what has this name; meanwhile the row may be selected."""

EXACT = (int, str, UUID)
"""Types of which two values are equal only if they are spelt alike."""


class Source(Protocol[M_co]):
    """Where a row comes from."""

    @property
    def model(self) -> type[Model]:
        """The model that was named; its row may live in a parent's table."""

    @property
    def using(self) -> str:
        """The database that the row is written to, and so is read from."""

    def find(self) -> Any:
        """The primary key of the row. Raises `DoesNotExist` or `MultipleObjectsReturned`."""

    def select(self, pk: Any) -> Any:
        """What `read()` needs and what can be made before: it touches no database."""

    def read(self, selected: Any, *, newest: bool) -> M_co:
        """The row as it is now; `newest` asks for a locking read. Raises `DoesNotExist`."""


class Selected(Generic[M]):
    """The row of a queryset that has a primary key or that a lookup finds."""

    def __init__(self, queryset: QuerySet[M], pk: Any, lookup: dict[str, Any]) -> None:
        if (pk is None) == (not lookup):
            raise ValueError(
                f"locked() takes the primary key of a saved {queryset.model.__name__} or a lookup, "
                f"one of the two: not {pk!r} and {lookup!r}."
            )
        if isinstance(pk, Model):
            raise TypeError(f"locked() takes a primary key here: pass {pk!r}.pk, or use the function locked(instance).")
        if queryset._fields is not None:  # type: ignore[attr-defined]  # set by values() and values_list()
            raise TypeError("locked() gives a model instance: it does not go with values() or values_list().")
        if queryset.query.is_sliced:
            raise TypeError("locked() looks for one row among all of a queryset: lock before you take a slice.")
        self.model = queryset.model
        self.using = writes_to(queryset)
        self._queryset = queryset.filter(**lookup) if lookup else queryset
        self._pk = pk

    def __repr__(self) -> str:
        return f"{self.model._meta.label} {'of a lookup' if self._pk is None else repr(self._pk)}"

    def find(self) -> Any:
        """The primary key that was given, else that of the row which the lookup finds."""
        if self._pk is not None:
            return self._pk
        return self._queryset.using(self.using).values_list("pk", flat=True).get()

    def select(self, pk: Any) -> QuerySet[M]:
        """The queryset of this row alone."""
        found = self._queryset.filter(pk=pk)
        # A queryset of our own: `using()` and `get()` would copy it four times more.
        found._db = self.using  # type: ignore[attr-defined]
        if not found.query.distinct_fields:
            found.query.clear_ordering(force=True)  # one row needs none; `get()` drops it too
        return found

    def read(self, selected: QuerySet[M], *, newest: bool) -> M:
        """The row, if it still belongs to the queryset."""
        for row in newest_of(selected, self.using) if newest else selected:
            return row
        message = f"No {self!r} is in this queryset."
        raise self.model.DoesNotExist(message)  # type: ignore[attr-defined]  # each model has its own


def writes_to(queryset: Any) -> str:
    """The database that rows of the queryset are written to, as its `db` says once it is for writing."""
    return queryset._db or router.db_for_write(queryset.model, **queryset._hints)


class Given(Generic[M]):
    """An instance that is there already, and is refreshed in place."""

    def __init__(self, instance: M) -> None:
        if instance._state.adding or instance.pk is None:
            raise ValueError(f"{instance!r} is not saved yet: there is no row to lock.")
        self.model = type(instance)
        self.using = router.db_for_write(type(instance), instance=instance)
        self._instance = instance

    def __repr__(self) -> str:
        return f"{self.model._meta.label} {self._instance.pk!r}"

    def find(self) -> Any:
        """The instance's primary key."""
        return self._instance.pk

    def select(self, pk: Any) -> None:
        """There is nothing to be made before."""

    def read(self, selected: None, *, newest: bool) -> M:
        """The instance, with the fields that the row has now."""
        queryset = newest_of(self.model._base_manager.all(), self.using) if newest else None
        self._instance.refresh_from_db(using=self.using, from_queryset=queryset)
        return self._instance


class RowLock(RowKeeper, Guard, Generic[M]):
    """The lock on one row. `with` gives the row, read after the lock was acquired."""

    __slots__ = ("_atomic", "_on_outage", "_source")

    def __init__(self, source: Source[M], terms: Terms, *, atomic: MaybeBool, on_outage: MaybeOnOutage) -> None:
        super().__init__(terms)
        self._source = source
        self._atomic = atomic
        self._on_outage = on_outage if on_outage is UNSET else read_on_outage(on_outage)

    def __repr__(self) -> str:
        return f"<RowLock {self._source}>"

    @property
    def _model(self) -> type[Model]:
        return self._source.model

    def _name(self) -> str:
        return name_of(self._source.model, self._source.find())

    async def _aname(self) -> str:
        return await sync_to_async(self._name)()

    @property
    def _using(self) -> str:
        return self._source.using

    def acquire(self, *, wait: MaybeSeconds | None = UNSET) -> Lease:
        """Take the lock and give the lease, or raise, whatever `on_outage` says; opens no transaction and reads no row.

        Raises `LockBusy`, `WaitTimeout` or `StoreUnavailable`, `DoesNotExist` for what cannot be a primary key, and
        `TransactionManagementError` where autocommit was switched off by hand.
        """
        ensure_visible_end(connections[self._using])
        return super().acquire(wait=wait)

    async def aacquire(self, *, wait: MaybeSeconds | None = UNSET) -> Lease:
        """As `acquire()`, on an event loop."""
        await sync_to_async(lambda: ensure_visible_end(connections[self._using]))()  # of that thread
        return await super().aacquire(wait=wait)

    def __enter__(self) -> M:
        ensure_visible_end(connections[self._using])
        coming: list[Entry] = []
        enter: Enter = lambda name, select: self._enter(name, coming, meanwhile=select)
        try:
            return run(self._locking(self._source.find(), enter, self._read, self._undo))
        except BaseException as error:
            self._give_up(coming, error)
            raise

    async def __aenter__(self) -> M:
        self._refuse_atomic()
        enter: Enter = lambda name, select: self._aenter(name)
        pk = await sync_to_async(self._find)()
        return await arun(self._locking(pk, enter, sync_to_async(self._read_alone), self._aundo))

    async def arun(self, function: Callable[Concatenate[M, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the blocking function in a thread, with the row, the lock and the transaction around it.

        `await Account.objects.locked(pk).arun(pay, amount)` calls `pay(account, amount)`, and gives what it gives.
        """

        def work() -> T:
            with self as row:
                return function(row, *args, **kwargs)

        return await sync_to_async(work)()

    def _find(self) -> Any:
        ensure_visible_end(connections[self._using])
        return self._source.find()

    def _locking(
        self, pk: Any, enter: Enter, read: Callable[..., Any], undo: Callable[[Entry, BaseException | None], Any]
    ) -> Steps[M]:
        while True:
            name = name_of(self._source.model, pk)
            select = Selection(self._source, pk)
            try:
                entry: Entry = yield enter(name, select)
            except StoreUnavailable as away:
                entry = Entry([])
                self._enter_by_version(away, entry)
            try:
                row: M = yield read(entry, select)
            except BaseException as error:
                yield undo(entry, error)
                raise
            if (type(pk) in EXACT and type(row.pk) is type(pk) and row.pk == pk) or name_of(type(row), row.pk) == name:
                return row
            # The database takes two spellings for one (a case-insensitive collation, padding): the row's own counts.
            yield undo(entry, None)
            pk = row.pk

    def _read(self, entry: Entry, select: Callable[[], Any]) -> M:
        """The row, in the transaction."""
        newest = self._begin(entry)
        row = self._source.read(select(), newest=newest)
        return row if self._atomic else self._guard(row, entry)

    def _read_alone(self, entry: Entry, select: Callable[[], Any]) -> M:
        """The row, without a transaction of its own."""
        _, newest = self._join(entry)
        return self._guard(self._source.read(select(), newest=newest), entry)

    def _guard(self, row: M, entry: Entry) -> M:
        """Check what is saved of the row against the lease."""
        for hold in entry.holds:
            guard_saves(row, hold.lease)
        return row


def select(
    queryset: QuerySet[M],
    pk: Any = None,
    /,
    *,
    wait: MaybeSeconds | None = UNSET,
    nowait: bool = False,
    ttl: MaybeSeconds = UNSET,
    max_hold: MaybeSeconds | None = UNSET,
    atomic: MaybeBool = UNSET,
    on_outage: MaybeOnOutage = UNSET,
    alias: str = DEFAULT_ALIAS,
    **lookup: Any,
) -> RowLock[M]:
    """The lock on the row of a queryset that a primary key or a lookup names; checks all that it is given."""
    other_words = OTHER_WORDS.keys() & lookup.keys()
    if other_words:
        fields = {field.name for field in queryset.model._meta.get_fields()}
        refuse_words(sorted(other_words - fields), call="locked()")
    terms = read_terms(wait=wait, nowait=nowait, ttl=ttl, max_hold=max_hold, alias=alias)
    return RowLock(Selected(queryset, pk, lookup), terms, atomic=atomic, on_outage=on_outage)


def give(
    instance: M,
    pk: None = None,
    /,
    *,
    wait: MaybeSeconds | None = UNSET,
    nowait: bool = False,
    ttl: MaybeSeconds = UNSET,
    max_hold: MaybeSeconds | None = UNSET,
    atomic: MaybeBool = UNSET,
    on_outage: MaybeOnOutage = UNSET,
    alias: str = DEFAULT_ALIAS,
    **unknown: Any,
) -> RowLock[M]:
    """The lock on the row of an instance; checks all that it is given."""
    refuse_words(unknown, call="locked(instance)")
    if pk is not None:
        raise TypeError(f"locked(instance) locks the row of that instance: it takes no other primary key ({pk!r}).")
    terms = read_terms(wait=wait, nowait=nowait, ttl=ttl, max_hold=max_hold, alias=alias)
    return RowLock(Given(instance), terms, atomic=atomic, on_outage=on_outage)
