"""Several keys of one store for one owner: acquired with one token, given back with one question."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import clock
from .exceptions import LockBusy, StoreUnavailable
from .holder import encode_current
from .keylock import LOSSES, busy, deadlock, new_token
from .keys import Key
from .lease import Lease
from .stores.base import Answer, Blocked, Ear, Edge, Store, TakenMany, Way
from .waiting import FIRST_PAUSE, bounded, next_pause

if TYPE_CHECKING:
    from .keylock import KeyLock

logger = logging.getLogger("django_redislock")

NAMED = 3
"""So many refusals are told in full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants: the keys for a token and `ttl` seconds."""

    store: Store
    locks: Sequence[KeyLock]
    token: str
    ttl: float
    holder: str

    def ask(self, way: Way, *, limit: int | None = None, channel: str = "") -> TakenMany | Blocked | tuple[Edge, ...]:
        """Ask the store."""
        return self.store.acquire_many(
            [lock.key for lock in self.locks],
            token=self.token,
            ttl=self.ttl,
            holder=self.holder,
            way=way,
            limit=len(self.locks) if limit is None else limit,
            channel=channel,
        )

    def leases(self, taken: TakenMany, *, asked_at: float) -> list[tuple[KeyLock, Lease]]:
        """What was taken, each with its lock."""
        return [
            (
                lock,
                Lease(key=lock.key, token=self.token, fence=fence, ttl=self.ttl, asked_at=asked_at, extender=lock),
            )
            for lock, fence in zip(self.locks, taken.fences, strict=True)
            if fence
        ]

    def withdraw(self) -> None:
        """Given up on the way: we may be in a queue, and own what nobody would release."""
        try:
            self.store.leave_many([lock.key for lock in self.locks], token=self.token)
        except StoreUnavailable as error:
            logger.warning("Given up while acquiring, and what was taken ends with its ttl: %s", error)


def acquire_all(locks: Sequence[KeyLock], *, flow: str, ttl: float, wait: float | None) -> list[tuple[KeyLock, Lease]]:
    """Take all keys for `ttl` seconds, waiting at most `wait` seconds for them (0: one try; `None`: for ever).

    `locks` are of one store, each once, in the order of their names: who waits for one of them holds only what
    comes before it. Raises as `KeyLock.acquire()`; then none is held.
    """
    wish = Wish(store=locks[0].store.whole, locks=locks, token=new_token(flow), ttl=ttl, holder=encode_current())
    asked_at = clock.now()
    try:
        answer: TakenMany | Blocked | tuple[Edge, ...]
        if wait == 0:
            answer = wish.ask(Way.ALL)
        else:
            answer, asked_at = stand_in_lines(wish, end=None if wait is None else asked_at + wait)
        if isinstance(answer, TakenMany):
            return wish.leases(answer, asked_at=asked_at)
        raise refusal(answer, wait=wait) if isinstance(answer, Blocked) else deadlock(Key(answer[0].key), answer)
    except StoreUnavailable:
        raise  # and the store has done what it can
    except BaseException as error:
        if wait != 0 or not isinstance(error, LockBusy):
            wish.withdraw()
        raise


def acquire_free(locks: Sequence[KeyLock], *, flow: str, ttl: float, limit: int) -> list[tuple[KeyLock, Lease]]:
    """Take those keys that are free, at most `limit` of them, the first ones first. Raises `StoreUnavailable`."""
    wish = Wish(store=locks[0].store.whole, locks=locks, token=new_token(flow), ttl=ttl, holder=encode_current())
    asked_at = clock.now()
    try:
        answer = wish.ask(Way.FREE, limit=limit)
    except StoreUnavailable:
        raise  # and the store has done what it can
    except BaseException:
        wish.withdraw()
        raise
    assert isinstance(answer, TakenMany)  # nobody is refused who takes what there is
    return wish.leases(answer, asked_at=asked_at)


def stand_in_lines(wish: Wish, *, end: float | None) -> tuple[TakenMany | Blocked | tuple[Edge, ...], float]:
    """Ask, and wait for the first key that is somebody's, then for the next, as long as the wait lasts.

    What was taken is kept for another ttl with each question, so that all leases last from the last one, the
    instant of which is given too.
    """
    asked_at = clock.now()
    if not wish.store.listens:
        answer = wish.ask(Way.LINE)
        if isinstance(answer, TakenMany):
            return answer, asked_at
    ear = wish.store.ear(wish.token, within=None if end is None else end - clock.now())
    try:
        pause = FIRST_PAUSE
        while True:
            asked_at = clock.now()
            answer = wish.ask(Way.LINE, channel=ear.channel)
            if not isinstance(answer, Blocked) or (end is not None and clock.now() >= end):
                return answer, asked_at
            pause = next_pause(pause)
            listen(ear, answer, longest=wish.ttl / 2 if ear.channel else pause, end=end)
    finally:
        ear.close()


def listen(ear: Ear, answer: Blocked, *, longest: float, end: float | None) -> None:
    """Wait until it is time to ask again.

    What a grant says is not relied on: it may be that of a key waited for before, which was found by asking.
    """
    left = None if end is None else end - clock.now()
    ear.listen(bounded(longest, left=left, holder_left=answer.by[0][1].remaining))


def refusal(blocked: Blocked, *, wait: float | None) -> LockBusy:
    """The refusal, which says who holds which key."""
    (key, held), *others = blocked.by
    also = "".join(f"; {key} by {held.holder}" for key, held in others[: NAMED - 1])
    more = len(others) - NAMED + 1
    return busy(key, held, wait=wait, also=f"{also}; and {more} more are held" if more > 0 else also)


def release_all(held: Sequence[tuple[KeyLock, Lease]]) -> list[Answer]:
    """Give the keys back, with one question for each token; the answers tell whether each was still held.

    Raises `LockNotHeld` in a child of `fork`, `StoreUnavailable` when Redis cannot be asked.
    """
    if len(held) == 1:
        return [lock.release(lease) for lock, lease in held]
    by_token: dict[str, list[int]] = {}
    for index, (_, lease) in enumerate(held):
        by_token.setdefault(lease.token, []).append(index)
    answers = [Answer.GONE] * len(held)
    for token, indexes in by_token.items():
        first, lease = held[indexes[0]]
        first.ensure_ours(lease)
        told = first.store.whole.release_many([held[index][0].key for index in indexes], token=token)
        for index, answer in zip(indexes, told, strict=True):
            held[index][1].end(LOSSES.get(answer))
            answers[index] = answer
    return answers
