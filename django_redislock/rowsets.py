"""Several rows that a call is about, locked together: each model's in one go, several models' in one order for all.

locks of all rows, sorted      only where rows of several models, or a stream, are to be held beyond the transaction
    BEGIN, rows read afresh
        the call
    COMMIT
release

On an event loop there is no transaction; the order is the same.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async
from django.db.models import Model

from . import clock
from .exceptions import RedisLockError
from .functions import locked, locked_many, queryset_of
from .handler import DEFAULT_ALIAS, locks
from .identity import name_of
from .rows import RowLock
from .seconds import read_wait
from .steps import Steps, arun, run
from .targets import Found, Target
from .telling import tell_late
from .terms import UNSET, LockTerms, MaybeBool

logger = logging.getLogger("django_redislock")

Enter = Callable[[Any], Any]
"""Enters a lock and keeps it; on an event loop what it gives is to be awaited."""


class Wanted(NamedTuple):
    """A row that is to be locked."""

    target: Target
    found: Found


@contextmanager
def locked_rows(
    wanted: Sequence[Wanted], terms: LockTerms, *, atomic: MaybeBool, beyond: ExitStack | None = None
) -> Iterator[Mapping[str, Model]]:
    """Lock the rows and give them, read afresh in a transaction, by the names of their targets.

    `beyond` outlives the block: where it is given, the locks are released when it is closed. Raises on entering and
    on leaving what `locked()` and `locked_many()` raise.
    """
    named = [name_row(target, found) for target, found in wanted]
    with ExitStack() as stack:
        hold = None if beyond is None else beyond.enter_context
        yield run(entering(named, terms, enter=stack.enter_context, hold=hold, atomic=atomic))


@asynccontextmanager
async def alocked_rows(wanted: Sequence[Wanted], terms: LockTerms) -> AsyncIterator[Mapping[str, Model]]:
    """As `locked_rows()`, on an event loop and without a transaction."""
    named = [await sync_to_async(name_row)(target, found) for target, found in wanted]
    async with AsyncExitStack() as stack:
        yield await arun(entering(named, terms, enter=stack.enter_async_context))


class Named(NamedTuple):
    """A row of which the primary key is known."""

    name: str
    """Of its target."""
    rows: Any
    """What it is taken from: a lookup has to find it again once it is locked."""
    pk: Any
    key: str
    """The name of its lock."""


def name_row(target: Target, found: Found) -> Named:
    """Find out the primary key of a row. Raises `DoesNotExist`, `MultipleObjectsReturned`."""
    pk = target.pk_of(found)
    rows = queryset_of(target.rows).filter(**found.lookup) if found.lookup else target.rows
    return Named(target.name, rows, pk, name_of(target.model, pk))


def entering(
    named: Sequence[Named], terms: LockTerms, *, enter: Enter, hold: Enter | None = None, atomic: MaybeBool = UNSET
) -> Steps[dict[str, Model]]:
    """Enter the locks; `hold` enters those that are to be kept beyond the transaction."""
    sources = {id(row.rows): row.rows for row in named}
    if len(sources) > 1 or hold is not None:
        yield from holding_all(named, terms, enter=hold or enter)
    rows: dict[str, Model] = {}
    for source, queryset in sources.items():
        group = [row for row in named if id(row.rows) == source]
        read = yield enter(locked_many(queryset, [row.pk for row in group], atomic=atomic, **terms))
        rows |= {row.name: instance for row, instance in zip(group, read, strict=True)}
    return rows


def holding_all(named: Sequence[Named], terms: LockTerms, *, enter: Enter) -> Steps[None]:
    """Acquire the locks one after the other, in the order of their names. `wait` is for all of them together."""
    wait = wait_of(terms)
    end = None if wait is None else clock.now() + wait
    others: Any = {name: value for name, value in terms.items() if name not in {"wait", "nowait"}}
    for row in sorted(named, key=lambda row: row.key):
        left = None if end is None else max(0.0, end - clock.now())
        yield enter(Kept(locked(row.rows, row.pk, atomic=False, wait=left, **others)))


def wait_of(terms: Mapping[str, Any]) -> float | None:
    """Seconds that acquiring may take, by the terms or by the setting."""
    if terms.get("nowait"):
        return 0.0
    if "wait" in terms:
        return read_wait(terms["wait"])
    return locks[terms.get("alias", DEFAULT_ALIAS)].options.wait


class Kept:
    """A lock around the transaction that is opened inside it; what is lost after the commit is only logged.

    Raised, it would read as "rolled back", and a caller who tries again would do it twice.
    """

    def __init__(self, lock: RowLock[Model]) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.__enter__()

    async def __aenter__(self) -> None:
        await self._lock.__aenter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._lock.__exit__(kind, error, traceback)
        except RedisLockError as late:
            logger.warning("Known only after the commit: %s", late)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._lock.__aexit__(kind, error, traceback)
        except RedisLockError as late:
            tell_late(late)
