"""What `with` enters: a lock that is resolved, acquired, and given back by the rules of transactions."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model
from django.db.transaction import Atomic
from django.dispatch import Signal
from django.utils.asyncio import async_unsafe

from . import signals
from .conf import Options
from .exceptions import LockBusy, LockNotHeld, RedisLockError, StoreUnavailable
from .handler import locks
from .holder import Holder
from .holds import Hold, current_flow, enter, enter_again
from .keylock import KeyLock, not_held
from .lease import Lease, LeaseState
from .seconds import read_wait
from .stores.base import Answer
from .terms import UNSET, MaybeSeconds, Terms, Unset
from .transactions import Savepoints, at_end_of_transaction, open_connections

logger = logging.getLogger("django_redislock")

OUTSIDE: Savepoints = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class LockInfo:
    """Who holds a lock."""

    key: str
    """The name under which it is kept."""
    holder: Holder
    """Who holds it."""
    since: datetime
    """When it was acquired, by the server's clock."""
    remaining: float
    """Seconds until the server drops it unless it is extended."""
    fence: int
    """The fence of the owner."""
    waiters: int
    """How many wait for it."""
    first_waits_for: float
    """Seconds for which the first of them has waited; 0 when nobody waits."""


class Entry:
    """One entering of a guard."""

    __slots__ = ("atomic", "hold", "savepoints")

    def __init__(self, hold: Hold) -> None:
        self.hold = hold
        self.atomic: Atomic | None = None
        """The transaction that was opened inside the lock."""
        self.savepoints = OUTSIDE
        """The savepoints in which the lock was acquired: the rollback of one of them frees it."""


class Guard(ABC):
    """A lock as users have it in hand: for `with`, or `acquire()` and `release()`. Threads may share one."""

    __slots__ = ("_entries", "_terms")

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._entries: list[Entry] = []

    @property
    @abstractmethod
    def _model(self) -> type[Model] | None:
        """The model of the row that is locked."""

    @abstractmethod
    def _name(self) -> str:
        """The name of what is locked."""

    def _transactions(self) -> list[BaseDatabaseWrapper]:
        """The connections whose open transactions the release waits for."""
        return open_connections()

    def acquire(self, *, wait: MaybeSeconds | None = UNSET) -> Lease:
        """Take the lock, waiting at most `wait` seconds (`None`: for ever), and give the lease.

        Raises `LockBusy`, `WaitTimeout` or `StoreUnavailable`.
        """
        return self._enter(self._name(), wait=UNSET if wait is UNSET else read_wait(wait)).hold.lease

    def release(self) -> None:
        """Give back what this thread or task acquired last through this object; within a transaction, at its end.

        Raises `LockNotHeld` when there is nothing to give back or the lease had ended, `StoreUnavailable` when
        Redis cannot be asked.
        """
        entry = self._own_entry()
        self._entries.remove(entry)
        hold = entry.hold
        if (hold.count > 1 or not self._defer(entry)) and hold.leave():
            answer = self._give_back(hold)
            if answer is not Answer.DONE:
                raise not_held(hold.lock.key, answer)

    def info(self) -> LockInfo | None:
        """Who holds the lock now, or `None`. Raises `StoreUnavailable` when Redis cannot be asked."""
        lock = locks[self._terms.alias].lock(self._name(), model=self._model)
        held = lock.store.inspect(lock.key)
        if held is None:
            return None
        since = datetime.fromtimestamp(held.since, UTC)
        return LockInfo(
            key=lock.key.name,
            holder=held.holder,
            since=since,
            remaining=held.remaining,
            fence=held.fence,
            waiters=held.waiters,
            first_waits_for=held.first_waits_for,
        )

    def _enter(self, name: str, *, wait: float | Literal[Unset.UNSET] | None = UNSET) -> Entry:
        """Acquire or enter again; `wait` overrides the terms, which override the setting."""
        place = locks[self._terms.alias]
        lock = place.lock(name, model=self._model)
        entry = Entry(enter_again(lock) or self._acquire(lock, place.options, wait))
        self._entries.append(entry)
        return entry

    @async_unsafe("A lock that blocks its thread cannot be acquired in an async context: use sync_to_async.")
    def _acquire(self, lock: KeyLock, options: Options, wait: float | Literal[Unset.UNSET] | None) -> Hold:
        ttl, wait = self._terms.ttl, self._terms.wait if wait is UNSET else wait
        try:
            hold = enter(lock, ttl=options.ttl if ttl is UNSET else ttl, wait=options.wait if wait is UNSET else wait)
        except LockBusy as error:
            self._send(signals.lock_contended, error=error)
            raise
        hold.lease.on_lost = self._send_lost
        self._send(signals.lock_acquired, lease=hold.lease)
        return hold

    def _own_entry(self) -> Entry:
        """The last entry of the flow that asks; raises `LockNotHeld` when it has none."""
        flow = current_flow()
        for entry in reversed(self._entries):
            if entry.hold.flow is flow:
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

    def _defer(self, entry: Entry) -> bool:
        """Leave the release to the end of the open transactions, if there are any."""
        hold = entry.hold
        connections = self._transactions()
        if not connections:
            return False
        hold.count += len(connections) - 1  # each of them keeps the lease on its own account
        for connection in connections:
            at_end_of_transaction(connection, entry.savepoints, lambda: self._leave_late(hold))
        return True

    def _finish(self, entry: Entry) -> RedisLockError | None:
        """End one entering; the last one releases, or leaves that to the transactions that are open."""
        if entry.hold.count == 1 and self._defer(entry):
            return self._check(entry.hold.lease)
        return self._leave(entry.hold)

    def _leave_late(self, hold: Hold) -> None:
        """Leave after the commit, where a loss cannot change anything any more."""
        failure = self._leave(hold)
        if failure is not None:
            logger.warning("Known only after the transaction had ended: %s", failure)

    def _leave(self, hold: Hold) -> RedisLockError | None:
        """End one entering, and release with the last; gives what is to be told of it.

        That Redis cannot be asked is logged only: the work is done, and the ttl will free the key.
        """
        lost = self._check(hold.lease)
        if not hold.leave():
            return lost
        try:
            answer = self._give_back(hold)
        except StoreUnavailable as error:
            logger.warning("The lock stays taken until its ttl of %g s is over: %s", hold.lease.ttl, error)
            return lost
        except LockNotHeld as error:
            return error
        return lost if answer is Answer.DONE else hold.lease.lost()

    def _give_back(self, hold: Hold) -> Answer:
        answer = hold.lock.release(hold.lease)
        if hold.lease.state is LeaseState.RELEASED:
            self._send(signals.lock_released, lease=hold.lease)
        return answer

    def _check(self, lease: Lease) -> RedisLockError | None:
        """The loss of the lease, if its deadline has passed."""
        if lease.state is not LeaseState.LOST:
            return None
        lease.end(LeaseState.LOST)
        return lease.lost()

    def _send_lost(self, lease: Lease) -> None:
        self._send(signals.lock_lost, lease=lease)

    def _send(self, signal: Signal, **named: Any) -> None:
        if signal.receivers:
            signal.send_robust(self._model or type(self), **named)


def tell(failure: RedisLockError | None, error: BaseException | None) -> None:
    """Raise the failure, or note it on the exception that is on its way already."""
    if failure is None:
        return
    if error is None:
        raise failure
    error.add_note(str(failure))


class NamedLock(Guard):
    """The lock on a plain name. `with` gives the lease."""

    __slots__ = ("_plain_name",)

    def __init__(self, name: str, terms: Terms) -> None:
        if not isinstance(name, str) or not name:
            raise TypeError(f"A lock's name is a string that is not empty, not {name!r}.")
        super().__init__(terms)
        self._plain_name = name

    def __repr__(self) -> str:
        return f"<NamedLock {self._plain_name}>"

    @property
    def _model(self) -> None:
        return None

    def _name(self) -> str:
        return self._plain_name

    def __enter__(self) -> Lease:
        return self._enter(self._plain_name).hold.lease

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        tell(self._finish(self._exited_entry()), error)
