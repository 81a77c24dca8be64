"""One key, one owner, not re-entrant: acquire, extend, release, each of them one question to the store."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from . import clock
from .exceptions import LockBusy, LockNotHeld, StoreUnavailable, WaitTimeout
from .holder import encode_current
from .keys import Key
from .lease import Lease, LeaseState
from .stores.base import Answer, Held, Store, Taken
from .waiting import obtain

logger = logging.getLogger("django_redislock")


class KeyLock:
    """The lock on one key of one store."""

    __slots__ = ("key", "store")

    def __init__(self, store: Store, key: Key) -> None:
        self.store = store
        self.key = key

    def acquire(self, *, ttl: float, wait: float | None, meanwhile: Callable[[], object] | None = None) -> Lease:
        """Take the key for `ttl` seconds, waiting at most `wait` seconds for it (0: one try; `None`: for ever).

        `meanwhile` is called while the answer is on its way, perhaps more than once.
        Raises `LockBusy` or, when it waited, `WaitTimeout`; `StoreUnavailable` when Redis cannot be asked.
        """
        token = os.urandom(16).hex()
        asked_at = clock.now()

        def ask() -> Taken | Held:
            nonlocal asked_at
            asked_at = clock.now()  # the deadline counts from the question that was answered with yes
            return self.store.acquire(self.key, token=token, ttl=ttl, holder=holder, meanwhile=meanwhile)

        holder = encode_current()
        try:
            answer = obtain(ask, wait=wait)
        except StoreUnavailable:
            raise
        except BaseException:
            self._withdraw(token)
            raise
        if isinstance(answer, Held):
            raise busy(self.key, answer, wait=wait)
        return Lease(key=self.key, token=token, fence=answer.fence, ttl=ttl, asked_at=asked_at, extender=self)

    def release(self, lease: Lease) -> Answer:
        """Give the key back; the answer tells whether it was still held.

        Raises `LockNotHeld` in a child of `fork`, `StoreUnavailable` when Redis cannot be asked.
        """
        self._ensure_ours(lease)
        answer = self.store.release(self.key, token=lease.token)
        lease.end(LeaseState.RELEASED if answer is Answer.DONE else LeaseState.LOST)
        return answer

    def extend(self, lease: Lease, ttl: float) -> None:
        """Keep the key for another `ttl` seconds from now.

        Raises `LockNotHeld` when the lease has ended, `StoreUnavailable` when Redis cannot be asked.
        """
        self._ensure_ours(lease)
        asked_at = clock.now()
        answer = self.store.renew(self.key, token=lease.token, ttl=ttl)
        if answer is not Answer.DONE:
            lease.end(LeaseState.LOST)
            raise not_held(self.key, answer)
        lease.prolong(ttl=ttl, asked_at=asked_at)

    def _ensure_ours(self, lease: Lease) -> None:
        if lease.pid != os.getpid():
            raise LockNotHeld(
                f"{self.key} was acquired by process {lease.pid}, which this process was forked from. "
                f"A child does not own its parent's locks: acquire it in the child.",
                key=self.key.name,
            )

    def _withdraw(self, token: str) -> None:
        """Interrupted between question and answer: if the key was given to us, nobody would release it."""
        try:
            self.store.release(self.key, token=token)
        except StoreUnavailable:
            logger.warning("Interrupted while acquiring %s, and it could not be given back", self.key, exc_info=True)


def busy(key: Key, held: Held, *, wait: float | None) -> LockBusy:
    """The refusal, which says who holds the key and for how long."""
    by = f"{key} is held by {held.holder} for {held.held_for:.1f} s"
    if not wait:
        return LockBusy(f"{by}; not waited for. Pass wait= to wait.", key=key.name, holder=held.holder)
    return WaitTimeout(
        f"{by}; waited {wait:g} s. It ends in {held.remaining:.1f} s at the latest unless it is extended.",
        key=key.name,
        holder=held.holder,
    )


NOT_HELD = {
    Answer.GONE: "the lease ended before, and nobody holds it now",
    Answer.ANOTHERS: "the lease ended before, and another holds it now",
}


def not_held(key: Key, answer: Answer) -> LockNotHeld:
    """The answer to one who is not the owner any more."""
    return LockNotHeld(f"{key} is not held by this owner: {NOT_HELD[answer]}.", key=key.name)
