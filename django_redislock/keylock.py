"""One key, one owner, not re-entrant: acquire, extend, release, each of them one question to the store."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from . import clock, forks
from .exceptions import Deadlock, LockBusy, LockNotHeld, LossReason, StoreUnavailable, WaitTimeout
from .holder import encode_current
from .keys import Key
from .lease import Lease, note_released
from .steps import Steps, arun, run
from .stores.base import Answer, Edge, Held, Store
from .waiting import Look, Obtained, Outcome, obtaining

logger = logging.getLogger("django_redislock")


_secrets: list[str] = []
"""Some in advance: a call of the system for each is what one notices."""
forks.in_child(_secrets.clear)


def new_token(flow: str) -> str:
    """An unguessable token of a flow: what flow it is, the store reads from its first 16 characters."""
    try:
        return flow + _secrets.pop()
    except IndexError:
        _secrets.extend(os.urandom(512).hex("\n", 8).split("\n"))
        return flow + os.urandom(8).hex()


def operator_token() -> str:
    """An unguessable token of an operator, who takes a key away from its owner: no flow's."""
    return "!" + os.urandom(16).hex()


def nothing(lease: Lease) -> None:
    """What there is to do meanwhile, if nothing is."""


class KeyLock:
    """The lock on one key of one store. What begins with an a is for event loops, and asks the store's twin there."""

    __slots__ = ("key", "slot", "store")

    def __init__(self, store: Store, key: Key) -> None:
        self.store = store
        self.key = key
        self.slot = (store.scope, key.name)
        """What is the same for all that are this lock."""

    def acquire(
        self, *, flow: str, ttl: float, wait: float | None, meanwhile: Callable[[Lease], object] = nothing
    ) -> Lease:
        """Take the key for `ttl` seconds, waiting at most `wait` seconds for it (0: one try; `None`: for ever).

        `flow` names who asks. `meanwhile` is called while an answer is on its way, perhaps more than once, with the
        lease, should it be granted. Raises `LockBusy` or, when it waited, `WaitTimeout`; `Deadlock` when waiting would
        never end; `StoreUnavailable` when Redis cannot be asked.
        """
        return run(self._acquiring(self.store, flow=flow, ttl=ttl, wait=wait, meanwhile=meanwhile))

    async def aacquire(
        self,
        *,
        flow: str,
        ttl: float,
        wait: float | None,
        meanwhile: Callable[[Lease], object] = nothing,
        look: Look | None = None,
    ) -> Lease:
        """As `acquire()`. Cancelled, it gives back what it may have got.

        `look` is called with what the store says while it waits, and may raise what ends that.
        """
        return await arun(
            self._acquiring(self.store.twin, flow=flow, ttl=ttl, wait=wait, meanwhile=meanwhile, look=look)
        )

    def release(self, lease: Lease) -> Answer:
        """Give the key back; the answer tells whether it was still held.

        Raises `LockNotHeld` in a child of `fork`, `StoreUnavailable` when Redis cannot be asked.
        """
        self.ensure_ours(lease)
        return ended(lease, self.store.release(self.key, token=lease.token, ttl=lease.ttl))

    async def arelease(self, lease: Lease) -> Answer:
        """As `release()`."""
        self.ensure_ours(lease)
        return ended(lease, await self.store.twin.release(self.key, token=lease.token, ttl=lease.ttl))

    def extend(self, lease: Lease, ttl: float) -> None:
        """Keep the key for another `ttl` seconds from now.

        Raises `LockNotHeld` when the lease has ended, `StoreUnavailable` when Redis cannot be asked.
        """
        run(self._extending(self.store, lease, ttl))

    async def aextend(self, lease: Lease, ttl: float) -> None:
        """As `extend()`."""
        await arun(self._extending(self.store.twin, lease, ttl))

    def ensure_ours(self, lease: Lease) -> None:
        """Raise `LockNotHeld` in a child of `fork`, which has a copy of its parent's lease."""
        if lease.pid != os.getpid():
            raise LockNotHeld(
                f"{self.key} was acquired by process {lease.pid}, which this process was forked from. "
                f"A child does not own its parent's locks: acquire it in the child.",
                key=self.key.name,
            )

    def _acquiring(
        self,
        store: Any,
        *,
        flow: str,
        ttl: float,
        wait: float | None,
        meanwhile: Callable[[Lease], object],
        look: Look | None = None,
    ) -> Steps[Lease]:
        token, lease = new_token(flow), None

        def make() -> Lease:
            # Before the answer is there, it costs no time.
            nonlocal lease
            lease = Lease(self.key, token, ttl, self)
            meanwhile(lease)
            return lease

        ask = partial(store.acquire, self.key, token=token, ttl=ttl, holder=encode_current(), meanwhile=make)
        look_on = look and partial(look, self.key)
        try:
            answer: Outcome = yield from obtaining(store, ask, token=token, ttl=ttl, wait=wait, look=look_on)
            if isinstance(answer, Obtained):
                return (lease or make()).begin(answer.fence, answer.at)
        except StoreUnavailable:
            raise  # and the store has done what it can
        except BaseException:
            yield from self._withdrawing(store, token)
            if lease is not None:
                lease.end(None)
            raise
        if isinstance(answer, Held):
            if wait != 0:
                yield from self._withdrawing(store, token)
            raise busy(self.key, answer, wait=wait)
        raise deadlock(self.key, answer)

    def _extending(self, store: Any, lease: Lease, ttl: float) -> Steps[None]:
        self.ensure_ours(lease)
        if not lease.trusted:
            raise LockNotHeld(str(lease.lost()), key=self.key.name)
        asked_at = clock.now()
        lease.shorten(ttl=ttl, asked_at=asked_at)
        answer: Answer = yield store.renew(self.key, token=lease.token, ttl=ttl)
        if answer is not Answer.DONE:
            lease.end(LOSSES[answer])
            raise not_held(self.key, answer)
        if not lease.prolong(ttl=ttl, asked_at=asked_at):
            raise LockNotHeld(str(lease.lost()), key=self.key.name)

    def _withdrawing(self, store: Any, token: str) -> Steps[None]:
        """Given up on the way: we may be in the queue, or own the key without anybody to release it."""
        try:
            yield store.leave(self.key, token=token)
        except StoreUnavailable as error:
            logger.warning("Given up while acquiring, and what was taken ends with its ttl: %s", error)


def busy(key: Key, held: Held, *, wait: float | None, also: str = "") -> LockBusy:
    """The refusal, which says who holds the key and for how long; `also` says that of other keys."""
    by = f"{key} is held by {held.holder} for {held.held_for:.1f} s{also}"
    if not wait:
        return LockBusy(f"{by}; not waited for. Pass wait= to wait.", key=key.name, holder=held.holder)
    return WaitTimeout(
        f"{by}; waited {wait:g} s. It ends in {held.remaining:.1f} s at the latest unless it is renewed.",
        key=key.name,
        holder=held.holder,
    )


RELEASE = ". Release what you hold and try again, or lock the rows in one order everywhere."


def deadlock(key: Key, edges: Sequence[Edge], *, end: str = RELEASE) -> Deadlock:
    """The refusal to wait in a cycle, which names every part of it; `end` says how it closes, and what to do."""
    chain = ", who waits for ".join(f"{edge.key}, held by {edge.holder}" for edge in edges)
    return Deadlock(
        f"Waiting for {key} would never end: {chain}{end}",
        key=key.name,
        holder=edges[0].holder,
        edges=tuple(edges),
    )


LOSSES = {
    Answer.GONE: LossReason.STORE_RESTARTED,
    Answer.ANOTHERS: LossReason.TAKEN_OVER,
    Answer.FORCED: LossReason.FORCED,
}
"""What an answer to the owner of a lease says that has not reached its deadline: only Redis itself can have lost it."""


def ended(lease: Lease, answer: Answer) -> Answer:
    """Note on the lease what the store has answered to its release."""
    if answer is Answer.DONE:
        note_released((lease,))
    else:
        lease.end(LOSSES.get(answer))
    return answer


def ended_all(leases: Sequence[Lease], answers: Sequence[Answer]) -> None:
    """As `ended()`, for each."""
    if answers.count(Answer.DONE) == len(answers):
        note_released(leases)
    else:
        for lease, answer in zip(leases, answers, strict=True):
            ended(lease, answer)


NOT_HELD = {
    Answer.GONE: "the lease ended before, and nobody holds it now",
    Answer.ANOTHERS: "the lease ended before, and another holds it now",
    Answer.FORCED: "it was released by force",
}


def not_held(key: Key, answer: Answer) -> LockNotHeld:
    """The answer to one who is not the owner any more."""
    return LockNotHeld(f"{key} is not held by this owner: {NOT_HELD[answer]}.", key=key.name)
