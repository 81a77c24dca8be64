"""What the guards of rows do with the database: BEGIN, a read that is new, COMMIT or ROLLBACK before the release."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model, QuerySet
from django.db.transaction import Atomic

from . import signals
from .conf import OnOutage
from .entries import Entry
from .exceptions import RedisLockError, StoreUnavailable
from .handler import locks
from .keeping import Keeper
from .terms import UNSET, MaybeBool, Unset
from .transactions import ensure_ended, leave_transaction, pins_snapshot, savepoints_of, users_blocks
from .versions import version_field_of

logger = logging.getLogger("django_redislock")

M = TypeVar("M", bound=Model)


class RowKeeper(Keeper):
    """The rules for a block in which rows are locked."""

    __slots__ = ()

    _atomic: MaybeBool
    _on_outage: OnOutage | Literal[Unset.UNSET]

    @property
    @abstractmethod
    def _using(self) -> str:
        """The database that the rows are written to."""

    def _transactions(self) -> list[BaseDatabaseWrapper]:
        connection = connections[self._using]
        return [connection] if users_blocks(connection) else []

    def _enter_by_version(self, away: StoreUnavailable, entry: Entry) -> None:
        """Go on without locks: the rows' versions decide what is saved. Raises `away` where that is not wanted."""
        on_outage = locks[self._terms.alias].options.on_outage if self._on_outage is UNSET else self._on_outage
        if on_outage is not OnOutage.OPTIMISTIC or self._model is None or version_field_of(self._model) is None:
            raise away
        logger.warning("Without lock and by version alone: %r. %s", self, away)
        self._send(signals.store_unavailable, error=away)
        self._entries.append(entry)

    def _begin(self, entry: Entry) -> bool:
        """Open the transaction; says whether only a locking read is sure to read what is newest."""
        joins, newest = self._join(entry)
        if self._atomic:
            entry.atomic, entry.commits = Atomic(self._using, savepoint=True, durable=False), not joins
            entry.atomic.__enter__()
        return newest

    def _refuse_atomic(self) -> None:
        """Raise `TypeError` where a transaction was asked for that tasks cannot have."""
        if self._atomic is True:
            raise TypeError(
                "atomic=True cannot be had with `async with`: Django has no transaction that tasks could hold. "
                "Leave it out, or do the work in a function that blocks: await ....locked(pk).arun(function)."
            )

    def _join(self, entry: Entry) -> tuple[bool, bool]:
        """Note the transaction that is open; says whether there is one, and whether only a locking read is new."""
        connection = connections[self._using]
        joins = bool(users_blocks(connection))
        if joins:
            entry.savepoints = savepoints_of(connection)
        return joins, joins and connection.features.has_select_for_update and pins_snapshot(connection)

    def _end(self, entry: Entry, error: BaseException | None) -> RedisLockError | None:
        # Nobody commits what is not locked any more.
        commits = entry.commits and error is None
        lost = self._check_before_commit(entry.holds) if commits else self._check(entry.holds)
        failure = error or lost
        if entry.atomic is not None:
            leave_transaction(entry.atomic, failure)
        undone = entry.atomic is not None and failure is not None
        late = self._leave(entry.holds) if undone else super()._end(entry, error)
        if late is not None and failure is None and entry.atomic is not None:
            # Raised, this would read as "rolled back", and a caller who tries again would do it twice.
            logger.warning("Known only after the commit: %s", late)
            return None
        return lost or late

    def _end_torn(self, torn: BaseException, entry: Entry | None, find: Callable[[], Entry]) -> None:
        entry = entry or find()
        self._roll_back(entry, torn)
        super()._end_torn(torn, entry, find)

    def _undo(self, entry: Entry, error: BaseException | None) -> None:
        try:
            self._roll_back(entry, error)
            super()._undo(entry, error)
        except BaseException as torn:
            self._end_torn(torn, entry, self._exited_entry)
            raise

    def _roll_back(self, entry: Entry, error: BaseException | None) -> None:
        connection = connections[self._using]
        if entry.atomic is not None and entry.atomic in connection.atomic_blocks:
            leave_transaction(entry.atomic, error)
        elif entry.commits:
            ensure_ended(connection)


class Selection:
    """What a source selects for a primary key: made once, when it is first called for."""

    __slots__ = ("_made", "_pk", "_source")

    def __init__(self, source: Any, pk: Any) -> None:
        self._source = source
        self._pk = pk

    def __call__(self) -> Any:
        """What is selected."""
        try:
            return self._made
        except AttributeError:
            self._made: Any = self._source.select(self._pk)
            return self._made


def newest_of(queryset: QuerySet[M], using: str) -> QuerySet[M]:
    """A locking read of the row alone, without what `select_related()` joins where the database can."""
    of = ("self",) if connections[using].features.has_select_for_update_of else ()
    return queryset.select_for_update(of=of)
