"""What every guard does with the leases it has: who may give them back, when, and what is told of a loss."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Any
from weakref import ref

from asgiref.sync import AsyncToSync, sync_to_async
from django.db import connections
from django.db.models import Model
from django.dispatch import Signal

from . import signals
from .conf import Options
from .confirming import confirm
from .deferred import Deferred
from .entries import Entry
from .exceptions import LockNotHeld, LossReason, RedisLockError, StoreUnavailable
from .holds import Hold, current_flow, leave_all
from .lease import Handle, Lease, LeaseState, lost_of
from .manylock import arelease_all, release_all
from .steps import shielded
from .stores.base import Answer
from .telling import refused, tell, tell_late
from .terms import UNSET, Terms
from .transactions import at_end_of_transaction, open_connections
from .versions import version_field_of
from .watchdog import watchdog

logger = logging.getLogger("django_redislock")


class Keeper(ABC):
    """A guard's entries, and the rules by which they end. Threads may share one."""

    __slots__ = ("__weakref__", "_entries", "_options", "_terms")

    _transactions = staticmethod(open_connections)
    """The connections whose open transactions the release waits for."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._entries: list[Entry] = []

    @property
    @abstractmethod
    def _model(self) -> type[Model] | None:
        """The model of the rows that are locked."""

    @property
    def _sender(self) -> type:
        """Whose signals these are."""
        return self._model or type(self)

    def _own_entry(self) -> Entry:
        """The last entry of the flow that asks; raises `LockNotHeld` when it has none."""
        flow = current_flow()
        for entry in reversed(self._entries):
            if entry.flow is flow:
                return entry
        raise LockNotHeld(f"{self!r} is not held by this thread or task: acquire() it first, and release() it once.")

    def _exited_entry(self) -> Entry:
        """The entry that the end of a `with` block belongs to.

        An only entry is the one, also in another context than it was made in (a generator that is continued
        through `sync_to_async`).
        """
        return self._entries[0] if len(self._entries) == 1 else self._own_entry()

    def _defer(self, entry: Entry) -> bool:
        """Leave the release to the end of the open transactions, if there are any."""
        if 1 not in [hold.count for hold in entry.holds]:
            return False
        connections = self._transactions()
        if not connections:
            return False
        deferred = Deferred(entry.holds, connections, check=self._check_before_commit, leave=self._leave)
        for connection in connections:
            left = partial(deferred.leave, connection)
            at_end_of_transaction(connection, entry.savepoints, left, check=deferred.check)
        return True

    def _leave_rest(self, entry: Entry) -> RedisLockError | None:
        """End one entering of what is not deferred; gives the first loss of all."""
        lost = self._check(entry.holds)
        leave_all(entry.holds, last=False)
        entry.holds = []
        return lost

    def _end(self, entry: Entry, error: BaseException | None) -> RedisLockError | None:
        """End one entering; the last one releases, or leaves that to the transactions that are open."""
        return self._leave_rest(entry) if self._defer(entry) else self._leave(entry.holds)

    async def _aend(self, entry: Entry) -> RedisLockError | None:
        """As `_end()`; where a thread waits for this loop, it is that thread's transactions which count."""
        if has_waiting_thread():
            return await sync_to_async(self._end)(entry, None)
        return self._leave_rest(entry) if self._defer(entry) else await self._aleave(entry.holds)

    def _end_torn(self, torn: BaseException, entry: Entry | None, find: Callable[[], Entry]) -> None:
        """Do the rest of what a signal's handler has torn, whatever that is; nothing is done twice."""
        entry = entry or find()
        if entry in self._entries:
            self._entries.remove(entry)
        Keeper._end(self, entry, torn)

    def _undo(self, entry: Entry, error: BaseException | None) -> None:
        """Take back an entering in which nothing was done yet, as far as it has come."""
        try:
            if entry in self._entries:
                self._entries.remove(entry)
            self._let_go(entry.holds)
        except BaseException as torn:
            self._end_torn(torn, entry, self._exited_entry)
            raise

    async def _aundo(self, entry: Entry, error: BaseException | None) -> None:
        """As `_undo()`, where there is no transaction."""
        if entry in self._entries:
            self._entries.remove(entry)
        await self._alet_go(entry.holds)

    def _let_go(self, holds: list[Hold]) -> None:
        """Take back an entering of what nothing was done with yet."""
        tell_late(self._leave(holds))

    async def _alet_go(self, holds: list[Hold]) -> None:
        """As `_let_go()`."""
        tell_late(await shielded(self._aleave(holds)))

    def _leave(self, holds: list[Hold]) -> RedisLockError | None:
        """End one entering of each, and release with the last; gives what is to be told of it. None stays on the list.

        That Redis cannot be asked is logged only: the work is done, and the ttl will free the keys.
        """
        lost = self._check(holds)
        leave_all(holds)
        if not holds:
            return lost
        try:
            lost = self._lost_by(holds, self._give_back(holds), lost)
        except (StoreUnavailable, LockNotHeld) as error:
            lost = refused(error, holds) or lost
        holds.clear()
        return lost

    async def _aleave(self, holds: list[Hold]) -> RedisLockError | None:
        """As `_leave()`."""
        lost = self._check(holds)
        leave_all(holds)
        if not holds:
            return lost
        try:
            lost = self._lost_by(holds, await self._agive_back(holds), lost)
        except (StoreUnavailable, LockNotHeld) as error:
            lost = refused(error, holds) or lost
        holds.clear()
        return lost

    def _lost_by(
        self, holds: Sequence[Hold], answers: Sequence[Answer], before: RedisLockError | None
    ) -> RedisLockError | None:
        """The first loss: what was lost before, or what these answers to their release tell."""
        if before is not None or answers.count(Answer.DONE) == len(answers):
            return before
        for hold, answer in zip(holds, answers, strict=True):
            if answer is not Answer.DONE and hold.lease.reason is not None and not self._goes_on(hold.lease):
                return hold.lease.lost()
        return None

    def _give_back(self, holds: Sequence[Hold]) -> list[Answer]:
        try:
            return release_all(holds)
        finally:
            if signals.lock_released.receivers:
                self._tell_released(holds)

    async def _agive_back(self, holds: Sequence[Hold]) -> list[Answer]:
        try:
            return await arelease_all(holds)
        finally:
            if signals.lock_released.receivers:
                self._tell_released(holds)

    def _tell_released(self, holds: Sequence[Hold]) -> None:
        for hold in holds:
            if hold.lease.state is LeaseState.RELEASED:
                self._send(signals.lock_released, lease=hold.lease)

    def _check(self, holds: Sequence[Hold]) -> RedisLockError | None:
        """The first loss, if any lease has ended or its deadline has passed."""
        for lease in lost_of([hold.lease for hold in holds]):
            if not self._goes_on(lease):
                return lease.lost()
        return None

    def _check_before_commit(self, holds: Sequence[Hold]) -> RedisLockError | None:
        """As `_check()`, with the store's word for what it has not confirmed for a while."""
        for hold in holds:
            hold.closing = True
        confirm(hold.lease for hold in holds)
        return self._check(holds)

    def _goes_on(self, lease: Lease) -> bool:
        """Whether its task goes on without it: past `max_hold`, where the version of the row decides each save."""
        model = self._model
        return lease.reason is LossReason.MAX_HOLD and model is not None and version_field_of(model) is not None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        entry = None
        try:
            entry = self._exited_entry()
            self._entries.remove(entry)
            failure = self._end(entry, error)
        except BaseException as torn:
            if entry is not None or not isinstance(torn, LockNotHeld):
                self._end_torn(torn, entry, self._exited_entry)
            raise
        tell(failure, error)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        entry = self._exited_entry()
        self._entries.remove(entry)
        tell(await shielded(self._aend(entry)), error)

    def _take_charge(self, holds: Iterable[Hold], options: Options) -> None:
        """Be told of their losses."""
        self._options = options
        handle: ref[Handle] = ref(self)
        for hold in holds:
            hold.lease.handle = handle

    def _announce(self, holds: Sequence[Hold]) -> None:
        """Have them renewed, and tell who listens that these were acquired. All of them were acquired at once."""
        if holds:
            lease = holds[0].lease
            soonest, max_hold = lease.ttl / 3, self._terms.max_hold
            if max_hold is not UNSET and max_hold is not None and max_hold < soonest:
                soonest = max_hold
            # One that should have looked before may have been misled by a clock that was set by hand, as tests do.
            if not lease.acquired_at <= watchdog.looks_at <= lease.acquired_at + soonest:
                watchdog.ring(lease.acquired_at + soonest)
        for hold in holds if signals.lock_acquired.receivers else ():
            self._send(signals.lock_acquired, lease=hold.lease)

    def max_hold_of(self, lease: Lease) -> float | None:
        """As `Handle.max_hold_of()`."""
        if self._terms.max_hold is not UNSET:
            return self._terms.max_hold
        setting = self._options.max_hold
        # A ttl that was asked for in so many words is longer than what the setting has in mind.
        return None if setting is None else max(setting, lease.ttl)

    def hear_of_loss(self, lease: Lease) -> None:
        """As `Handle.hear_of_loss()`."""
        if lease.reason is LossReason.MAX_HOLD:
            end = "goes on, and the version of its row decides" if self._goes_on(lease) else "will end in LeaseLost"
            logger.warning("Let go after max_hold: %s, held for %.1f s. Its task %s", lease.key, lease.held_for, end)
        self._send(signals.lock_lost, lease=lease, reason=lease.reason)

    def _send(self, signal: Signal, **named: Any) -> None:
        if signal.receivers:
            signal.send_robust(self._sender, **named)


watchdog.afterwards = connections.close_all


def has_waiting_thread() -> bool:
    """Whether synchronous code waits for what runs on this loop (`async_to_sync`): its transactions may be open."""
    return getattr(AsyncToSync.executors, "current", None) is not None
