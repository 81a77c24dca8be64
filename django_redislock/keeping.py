"""What every guard does with the leases it has: who may give them back, when, and what is told of a loss."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model
from django.db.transaction import Atomic
from django.dispatch import Signal

from . import signals
from .exceptions import LockNotHeld, RedisLockError, StoreUnavailable
from .holds import Hold, current_flow
from .lease import Lease, LeaseState
from .manylock import release_all
from .stores.base import Answer
from .terms import Terms
from .transactions import Savepoints, at_end_of_transaction, open_connections

logger = logging.getLogger("django_redislock")

OUTSIDE: Savepoints = frozenset()


class Entry:
    """One entering of a guard."""

    __slots__ = ("atomic", "flow", "holds", "savepoints")

    def __init__(self, holds: list[Hold]) -> None:
        self.holds = holds
        """What was acquired, or entered again."""
        self.flow = holds[0].flow if holds else current_flow()
        """Whose entry it is."""
        self.atomic: Atomic | None = None
        """The transaction that was opened inside the locks."""
        self.savepoints = OUTSIDE
        """The savepoints in which the locks were acquired: the rollback of one of them frees them."""


class Keeper(ABC):
    """A guard's entries, and the rules by which they end. Threads may share one."""

    __slots__ = ("_entries", "_terms")

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
            at_end_of_transaction(connection, since, lambda: self._leave_late(holds))
        return True

    def _finish(self, entry: Entry) -> RedisLockError | None:
        """End one entering; the last one releases, or leaves that to the transactions that are open."""
        last = [hold for hold in entry.holds if hold.count == 1]
        if last and self._defer(last, since=entry.savepoints):
            lost = self._check(last)
            return self._leave([hold for hold in entry.holds if hold not in last]) or lost
        return self._leave(entry.holds)

    def _leave_late(self, holds: Sequence[Hold]) -> None:
        """Leave after the commit, where a loss cannot change anything any more."""
        failure = self._leave(holds)
        if failure is not None:
            logger.warning("Known only after the transaction had ended: %s", failure)

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
        except StoreUnavailable as error:
            logger.warning("The lock stays taken until its ttl of %g s is over: %s", ended[0].lease.ttl, error)
            return lost
        except LockNotHeld as error:
            return error
        for hold, answer in zip(ended, answers, strict=True):
            if answer is not Answer.DONE:
                return lost or hold.lease.lost()
        return lost

    def _give_back(self, holds: Sequence[Hold]) -> list[Answer]:
        try:
            return release_all([(hold.lock, hold.lease) for hold in holds])
        finally:
            for hold in holds if signals.lock_released.receivers else ():
                if hold.lease.state is LeaseState.RELEASED:
                    self._send(signals.lock_released, lease=hold.lease)

    def _check(self, holds: Sequence[Hold]) -> RedisLockError | None:
        """The first loss, if the deadline of any lease has passed."""
        first: RedisLockError | None = None
        for hold in holds:
            if hold.lease.state is LeaseState.LOST:
                hold.lease.end(LeaseState.LOST)
                first = first or hold.lease.lost()
        return first

    def _announce(self, holds: Sequence[Hold]) -> None:
        """Tell who listens that these were acquired, and later that one is lost."""
        on_lost = self._send_lost
        for hold in holds:
            hold.lease.on_lost = on_lost
        for hold in holds if signals.lock_acquired.receivers else ():
            self._send(signals.lock_acquired, lease=hold.lease)

    def _send_lost(self, lease: Lease) -> None:
        self._send(signals.lock_lost, lease=lease)

    def _send(self, signal: Signal, **named: Any) -> None:
        if signal.receivers:
            signal.send_robust(self._sender, **named)


def tell(failure: RedisLockError | None, error: BaseException | None) -> None:
    """Raise the failure, or note it on the exception that is on its way already."""
    if failure is None:
        return
    if error is None:
        raise failure
    error.add_note(str(failure))
