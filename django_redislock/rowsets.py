"""The rows that a call is about, locked together: each model's in one go, several models' in one order for all.

locks of all rows, sorted      only where rows of several models, or a stream, are to be held beyond the transaction
    BEGIN, rows read afresh
        the call
    COMMIT
release
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import Any, NamedTuple

from django.db.models import Model

from . import clock
from .exceptions import RedisLockError
from .functions import locked, locked_many, queryset_of
from .handler import DEFAULT_ALIAS, locks
from .identity import name_of
from .rows import RowLock
from .seconds import read_wait
from .targets import Found, Target
from .terms import LockTerms

logger = logging.getLogger("django_redislock")


class Wanted(NamedTuple):
    """A row that is to be locked."""

    target: Target
    found: Found


def locked_rows(
    wanted: Sequence[Wanted], terms: LockTerms, *, atomic: bool, beyond: ExitStack | None = None
) -> AbstractContextManager[Mapping[str, Model]]:
    """Lock the rows and give them, read afresh in a transaction, by the names of their targets.

    `beyond` outlives the block: where it is given, the locks are released when it is closed. Raises on entering and
    on leaving what `locked()` and `locked_many()` raise.
    """
    if len(wanted) == 1 and beyond is None:
        ((target, found),) = wanted
        return OneRow(target.name, locked(target.rows, found.pk, atomic=atomic, **terms, **found.lookup))
    return several(wanted, terms, atomic=atomic, beyond=beyond)


class OneRow:
    """The lock on a single row; a class, and no generator, because every request of most views goes through it."""

    __slots__ = ("_lock", "_name")

    def __init__(self, name: str, lock: RowLock[Model]) -> None:
        self._name = name
        self._lock = lock

    def __enter__(self) -> dict[str, Model]:
        return {self._name: self._lock.__enter__()}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.__exit__(kind, error, traceback)


@contextmanager
def several(
    wanted: Sequence[Wanted], terms: LockTerms, *, atomic: bool, beyond: ExitStack | None
) -> Iterator[dict[str, Model]]:
    """Several rows, or one whose lock is to outlive the transaction."""
    named = [name_row(target, found) for target, found in wanted]
    sources = {id(row.rows): row.rows for row in named}
    with ExitStack() as outside, ExitStack() as inside:
        if len(sources) > 1 or beyond is not None:
            hold_all(outside if beyond is None else beyond, named, terms)
        rows: dict[str, Model] = {}
        for source, queryset in sources.items():
            group = [row for row in named if id(row.rows) == source]
            pks = [row.pk for row in group]
            read = inside.enter_context(locked_many(queryset, pks, atomic=atomic, **terms))
            rows |= {row.name: instance for row, instance in zip(group, read, strict=True)}
        yield rows


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


def hold_all(stack: ExitStack, named: Sequence[Named], terms: LockTerms) -> None:
    """Acquire the locks one after the other, in the order of their names, and keep them until the stack is closed.

    `wait` is for all of them together.
    """
    wait = wait_of(terms)
    end = None if wait is None else clock.now() + wait
    others: Any = {name: value for name, value in terms.items() if name not in {"wait", "nowait"}}
    for row in sorted(named, key=lambda row: row.key):
        left = None if end is None else max(0.0, end - clock.now())
        stack.enter_context(kept(locked(row.rows, row.pk, atomic=False, wait=left, **others)))


def wait_of(terms: Mapping[str, Any]) -> float | None:
    """Seconds that acquiring may take, by the terms or by the setting."""
    if terms.get("nowait"):
        return 0.0
    if "wait" in terms:
        return read_wait(terms["wait"])
    return locks[terms.get("alias", DEFAULT_ALIAS)].options.wait


@contextmanager
def kept(lock: RowLock[Model]) -> Iterator[None]:
    """Hold a lock around a transaction that is opened inside it; what is lost after the commit is only logged."""
    lock.__enter__()
    try:
        yield
    except BaseException as error:
        lock.__exit__(type(error), error, error.__traceback__)
        raise
    try:
        lock.__exit__(None, None, None)
    except RedisLockError as late:
        # Raised, this would read as "rolled back", and a caller who tries again would do it twice.
        logger.warning("Known only after the commit: %s", late)
