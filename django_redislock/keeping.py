"""What every guard does with the leases it has: who may give them back, when, and what is told of a loss."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any
from weakref import ref

from asgiref.sync import AsyncToSync, sync_to_async
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model
from django.db.transaction import Atomic
from django.dispatch import Signal

from . import signals
from .conf import Options
from .confirming import confirm
from .exceptions import LockNotHeld, LossReason, RedisLockError, StoreUnavailable
from .holds import Hold, current_flow
from .lease import Handle, Lease, LeaseState, lost_of
from .manylock import arelease_all, release_all
from .steps import shielded
from .stores.base import Answer
from .terms import UNSET, Terms
from .transactions import Savepoints, at_end_of_transaction, open_connections
from .versions import version_field_of
from .watchdog import watchdog

logger = logging.getLogger("django_redislock")

OUTSIDE: Savepoints = frozenset()


class Entry:
    """One entering of a guard."""

    __slots__ = ("atomic", "commits", "flow", "holds", "savepoints")

    def __init__(self, holds: list[Hold]) -> None:
        self.holds = holds
        """What was acquired, or entered again."""
        self.flow = holds[0].flow if holds else current_flow()
        """Whose entry it is."""
        self.atomic: Atomic | None = None
        """The transaction that was opened inside the locks."""
        self.commits = False
        """Whether the end of that is the COMMIT, and not merely that of a savepoint."""
        self.savepoints = OUTSIDE
        """The savepoints in which the locks were acquired: the rollback of one of them frees them."""


class Keeper(ABC):
    """A guard's entries, and the rules by which they end. Threads may share one."""

    __slots__ = ("__weakref__", "_entries", "_options", "_terms")

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

    def _transactions(self) -> list[BaseDatabaseWrapper]:
        """The connections whose open transactions the release waits for."""
        return open_connections()

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
        entry = self._entries[0] if len(self._entries) == 1 else self._own_entry()
        self._entries.remove(entry)
        return entry

    def _defer(self, holds: Sequence[Hold], *, since: Savepoints) -> bool:
        """Leave the release to the end of the open transactions, if there are any."""
        connections = self._transactions()
        if not connections:
            return False
        for hold in holds:
            hold.count += len(connections) - 1  # each of them keeps the lease on its own account
        for connection in connections:
            deferred = Deferred(self, holds)
            at_end_of_transaction(connection, since, deferred.leave, check=deferred.check)
        return True

    def _finish(self, entry: Entry) -> RedisLockError | None:
        """End one entering; the last one releases, or leaves that to the transactions that are open."""
        holds, lost = self._undeferred(entry)
        return self._leave(holds) or lost

    async def _afinish(self, entry: Entry) -> RedisLockError | None:
        """As `_finish()`; where a thread waits for this loop, it is that thread's transactions which count."""
        if has_waiting_thread():
            return await sync_to_async(self._finish)(entry)
        holds, lost = self._undeferred(entry)
        return await self._aleave(holds) or lost

    def _undeferred(self, entry: Entry) -> tuple[Sequence[Hold], RedisLockError | None]:
        """Defer what has to be; gives the rest, and what is lost of the former."""
        last = [hold for hold in entry.holds if hold.count == 1]
        if not last or not self._defer(last, since=entry.savepoints):
            return entry.holds, None
        return [hold for hold in entry.holds if hold not in last], self._check(last)

    def _leave(self, holds: Sequence[Hold]) -> RedisLockError | None:
        """End one entering of each, and release with the last; gives what is to be told of it.

        That Redis cannot be asked is logged only: the work is done, and the ttl will free the keys.
        """
        lost = self._check(holds)
        ended = [hold for hold in holds if hold.leave()]
        if not ended:
            return lost
        try:
            answers = self._give_back(ended)
            return self._lost_by(ended, answers, lost)
        except (StoreUnavailable, LockNotHeld) as error:
            return refused(error, ended) or lost

    async def _aleave(self, holds: Sequence[Hold]) -> RedisLockError | None:
        """As `_leave()`."""
        lost = self._check(holds)
        ended = [hold for hold in holds if hold.leave()]
        if not ended:
            return lost
        try:
            answers = await self._agive_back(ended)
            return self._lost_by(ended, answers, lost)
        except (StoreUnavailable, LockNotHeld) as error:
            return refused(error, ended) or lost

    def _lost_by(
        self, holds: Sequence[Hold], answers: Sequence[Answer], before: RedisLockError | None
    ) -> RedisLockError | None:
        """The first loss: what was lost before, or what these answers to their release tell."""
        if before is not None or answers.count(Answer.DONE) == len(answers):
            return before
        for hold, answer in zip(holds, answers, strict=True):
            if answer is not Answer.DONE and not self._goes_on(hold.lease):
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

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        tell(await shielded(self._afinish(self._exited_entry())), error)

    def _take_charge(self, holds: Sequence[Hold], options: Options) -> None:
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


class Deferred:
    """Holds whose release waits for the end of a transaction."""

    __slots__ = ("_holds", "_keeper", "_refused")

    def __init__(self, keeper: Keeper, holds: Sequence[Hold]) -> None:
        self._keeper = keeper
        self._holds = holds
        self._refused = False

    def check(self) -> RedisLockError | None:
        """What speaks against the COMMIT that is about to begin, if anything."""
        failure = self._keeper._check_before_commit(self._holds)
        self._refused = failure is not None
        return failure

    def leave(self) -> None:
        """Leave after the end, where a loss cannot change anything any more."""
        failure = self._keeper._leave(self._holds)
        if failure is not None and not self._refused:
            logger.warning("Known only after the transaction had ended: %s", failure)


watchdog.afterwards = connections.close_all


def has_waiting_thread() -> bool:
    """Whether synchronous code waits for what runs on this loop (`async_to_sync`): its transactions may be open."""
    return getattr(AsyncToSync.executors, "current", None) is not None


def refused(error: RedisLockError, holds: Sequence[Hold]) -> RedisLockError | None:
    """What is to be told of a release that was not carried out: nothing but a log entry where Redis is away."""
    if not isinstance(error, StoreUnavailable):
        return error
    logger.warning("The lock stays taken until its ttl of %g s is over: %s", holds[0].lease.ttl, error)
    return None


def tell(failure: RedisLockError | None, error: BaseException | None) -> None:
    """Raise the failure, or note it on the exception that is on its way already."""
    if failure is None:
        return
    if error is None:
        raise failure
    error.add_note(str(failure))
