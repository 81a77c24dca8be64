"""Several keys of one store for one owner: acquired with one token, given back with one question."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from itertools import compress
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol

from . import clock
from .exceptions import LockBusy, StoreUnavailable
from .holder import encode_current
from .keylock import busy, deadlock, ended_all, new_token
from .keys import Key
from .lease import Lease, begin_all, note_released
from .steps import Steps, arun, run
from .stores.base import Answer, Blocked, Edge, Store, TakenMany, Way
from .waiting import FIRST_PAUSE, Look, bounded, listening, next_pause

if TYPE_CHECKING:
    from .keylock import KeyLock

logger = logging.getLogger("django_redislock")

Take = Callable[[], None]
"""Notes whose the leases are, once they have begun."""
Prepare = Callable[[Sequence["KeyLock"], Sequence[Lease]], Take]
"""Is given locks, and the leases that there will be if they are acquired."""
NAMED = 3
"""So many refusals are told in full."""


class Wish:
    """What somebody wants: the keys for a token and `ttl` seconds."""

    __slots__ = ("_leases", "_prepare", "_take", "holder", "locks", "look", "store", "token", "ttl")

    def __init__(
        self, store: Any, locks: Sequence[KeyLock], *, flow: str, ttl: float, prepare: Prepare, look: Look | None = None
    ) -> None:
        """`store`: whom to ask, the store or its twin on an event loop. `look`: as in `aacquire_all()`."""
        self.store = store
        self.locks = locks
        self.token = new_token(flow)
        self.ttl = ttl
        self.holder = encode_current()
        self.look = look
        self._prepare = prepare
        self._leases: Sequence[Lease] = ()
        self._take: Take | None = None

    def ask(self, way: Way, *, limit: int | None = None, channel: str = "") -> Any:
        """Ask the store."""
        return self.store.acquire_many(
            [lock.key for lock in self.locks],
            token=self.token,
            ttl=self.ttl,
            holder=self.holder,
            way=way,
            limit=len(self.locks) if limit is None else limit,
            channel=channel,
            meanwhile=None if way is Way.FREE else self.make,
        )

    def make(self) -> None:
        """Make the leases, unless that is done: before the answer is there it costs no time."""
        if self._take is None:
            self._make(self.locks)

    def _make(self, locks: Sequence[KeyLock]) -> None:
        token, ttl = self.token, self.ttl
        self._leases = [Lease(lock.key, token, ttl, lock) for lock in locks]
        self._take = self._prepare(locks, self._leases)

    def take(self, taken: TakenMany, *, asked_at: float) -> None:
        """Begin the leases of the locks that were taken with the question asked at `asked_at`."""
        fences = taken.fences
        if self._take is None:
            self._make(list(compress(self.locks, fences)))
            fences = tuple(filter(None, fences))
        begin_all(self._leases, fences, ttl=self.ttl, asked_at=asked_at)
        assert self._take is not None  # it was made
        self._take()

    def withdrawing(self) -> Steps[None]:
        """Given up on the way: we may be in a queue, and own what nobody would release."""
        note_released(self._leases)
        try:
            yield self.store.leave_many([lock.key for lock in self.locks], token=self.token)
        except StoreUnavailable as error:
            logger.warning("Given up while acquiring, and what was taken ends with its ttl: %s", error)


def acquire_all(locks: Sequence[KeyLock], *, flow: str, ttl: float, wait: float | None, prepare: Prepare) -> None:
    """Take all keys for `ttl` seconds, waiting at most `wait` seconds for them (0: one try; `None`: for ever).

    `locks` are of one store, each once, in the order of their names: who waits for one of them holds only what
    comes before it. `prepare` may be called while the answer is on its way, and what it gives once they are acquired.
    Raises as `KeyLock.acquire()`; then none is held, unless that was through with them.
    """
    run(acquiring_all(locks[0].store.whole, locks, flow=flow, ttl=ttl, wait=wait, prepare=prepare))


async def aacquire_all(
    locks: Sequence[KeyLock], *, flow: str, ttl: float, wait: float | None, prepare: Prepare, look: Look | None = None
) -> None:
    """As `acquire_all()`, on an event loop. `look` as in `KeyLock.aacquire()`."""
    await arun(
        acquiring_all(locks[0].store.whole.twin, locks, flow=flow, ttl=ttl, wait=wait, prepare=prepare, look=look)
    )


def acquiring_all(
    store: Any,
    locks: Sequence[KeyLock],
    *,
    flow: str,
    ttl: float,
    wait: float | None,
    prepare: Prepare,
    look: Look | None = None,
) -> Steps[None]:
    """The steps of `acquire_all()`."""
    wish = Wish(store, locks, flow=flow, ttl=ttl, prepare=prepare, look=look)
    asked_at = clock.now()
    try:
        answer: TakenMany | Blocked | tuple[Edge, ...]
        if wait == 0:
            answer = yield wish.ask(Way.ALL)
        else:
            answer, asked_at = yield from standing_in_lines(wish, end=None if wait is None else asked_at + wait)
        if not isinstance(answer, TakenMany):
            raise refusal(answer, wait=wait) if isinstance(answer, Blocked) else deadlock(Key(answer[0].key), answer)
        wish.take(answer, asked_at=asked_at)
    except StoreUnavailable:
        raise  # and the store has done what it can
    except BaseException as error:
        if wait != 0 or not isinstance(error, LockBusy):
            yield from wish.withdrawing()
        raise


def acquire_free(locks: Sequence[KeyLock], *, flow: str, ttl: float, limit: int, prepare: Prepare) -> None:
    """Take those keys that are free, at most `limit` of them, the first ones first. Raises `StoreUnavailable`."""
    run(acquiring_free(locks[0].store.whole, locks, flow=flow, ttl=ttl, limit=limit, prepare=prepare))


async def aacquire_free(locks: Sequence[KeyLock], *, flow: str, ttl: float, limit: int, prepare: Prepare) -> None:
    """As `acquire_free()`, on an event loop."""
    await arun(acquiring_free(locks[0].store.whole.twin, locks, flow=flow, ttl=ttl, limit=limit, prepare=prepare))


def acquiring_free(
    store: Any, locks: Sequence[KeyLock], *, flow: str, ttl: float, limit: int, prepare: Prepare
) -> Steps[None]:
    """The steps of `acquire_free()`."""
    wish = Wish(store, locks, flow=flow, ttl=ttl, prepare=prepare)
    asked_at = clock.now()
    try:
        answer = yield wish.ask(Way.FREE, limit=limit)
        assert isinstance(answer, TakenMany)  # nobody is refused who takes what there is
        wish.take(answer, asked_at=asked_at)
    except StoreUnavailable:
        raise  # and the store has done what it can
    except BaseException:
        yield from wish.withdrawing()
        raise


def standing_in_lines(wish: Wish, *, end: float | None) -> Steps[tuple[TakenMany | Blocked | tuple[Edge, ...], float]]:
    """Ask, and wait for the first key that is somebody's, then for the next, as long as the wait lasts.

    What was taken is kept for another ttl with each question, so that all leases last from the last one, the
    instant of which is given too.
    """
    asked_at = clock.now()
    if not wish.store.listens:
        answer = yield wish.ask(Way.LINE)
        if isinstance(answer, TakenMany):
            return answer, asked_at
    ear = yield wish.store.ear(wish.token, within=None if end is None else end - clock.now())
    try:
        pause = FIRST_PAUSE
        while True:
            asked_at = clock.now()
            answer = yield wish.ask(Way.LINE, channel=ear.channel)
            if not isinstance(answer, Blocked) or (end is not None and clock.now() >= end):
                return answer, asked_at
            pause = next_pause(pause)
            longest = bounded_by(answer, longest=wish.ttl / 2 if ear.channel else pause, end=end)
            # What a grant says is not relied on: it may be that of a key waited for before, which was found by asking.
            yield from listening(ear, longest, wish.look and partial(wish.look, *answer.by[0]))
    finally:
        ear.close()


def bounded_by(answer: Blocked, *, longest: float, end: float | None) -> float:
    """Seconds until it is time to ask again."""
    left = None if end is None else end - clock.now()
    return bounded(longest, left=left, holder_left=answer.by[0][1].remaining)


def refusal(blocked: Blocked, *, wait: float | None) -> LockBusy:
    """The refusal, which says who holds which key."""
    (key, held), *others = blocked.by
    also = "".join(f"; {key} by {held.holder}" for key, held in others[: NAMED - 1])
    more = len(others) - NAMED + 1
    return busy(key, held, wait=wait, also=f"{also}; and {more} more are held" if more > 0 else also)


class Owned(Protocol):
    """What is to be given back."""

    @property
    def lock(self) -> KeyLock:
        """The lock on the key."""

    @property
    def lease(self) -> Lease:
        """The right to it."""


def release_all(held: Sequence[Owned]) -> list[Answer]:
    """Give the keys back, with one question for each token; the answers tell whether each was still held.

    Raises `LockNotHeld` in a child of `fork`, `StoreUnavailable` when Redis cannot be asked.
    """
    if len(held) == 1:
        return [one.lock.release(one.lease) for one in held]
    return run(releasing_all(held, lambda store: store))


async def arelease_all(held: Sequence[Owned]) -> list[Answer]:
    """As `release_all()`, on an event loop."""
    if len(held) == 1:
        return [await one.lock.arelease(one.lease) for one in held]
    return await arun(releasing_all(held, attrgetter("twin")))


def releasing_all(held: Sequence[Owned], whom: Callable[[Store], Any]) -> Steps[list[Answer]]:
    """The steps for several; `whom` says whom to ask instead of a store."""
    lock, leases = held[0].lock, [one.lease for one in held]
    tokens = {lease.token for lease in leases}
    if len(tokens) == 1:
        return (yield from releasing_acquisition(lock, leases, whom))
    answers: dict[Lease, Answer] = {}
    for token in tokens:
        same = [lease for lease in leases if lease.token == token]
        answers.update(zip(same, (yield from releasing_acquisition(lock, same, whom)), strict=True))
    return [answers[lease] for lease in leases]


def releasing_acquisition(lock: KeyLock, leases: Sequence[Lease], whom: Callable[[Store], Any]) -> Steps[list[Answer]]:
    """The steps for what was acquired with one token; `lock` is one of those that are given back."""
    lock.ensure_ours(leases[0])
    ttls = {lease.ttl for lease in leases}
    answers: list[Answer] = yield whom(lock.store.whole).release_many(
        [lease.key for lease in leases], token=leases[0].token, ttl=max(ttls)
    )
    ended_all(leases, answers)
    return answers
