"""What `with` enters: a lock that is resolved, acquired, and given back by the rules of transactions."""

from __future__ import annotations

from abc import abstractmethod
from asyncio import _get_running_loop
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Literal

from asgiref.sync import sync_to_async
from django.utils.asyncio import async_unsafe

from . import signals
from .conf import Options
from .entries import Entry
from .exceptions import LockBusy, LockNotHeld, RedisLockError
from .handler import Locks, locks
from .holder import Holder
from .holds import Flow, Hold, current_flow, leave_all
from .keeping import Keeper, has_waiting_thread
from .keylock import KeyLock, not_held
from .keys import Key
from .lease import Lease
from .seconds import read_wait
from .steps import shielded
from .stores.base import Answer, Held
from .terms import UNSET, MaybeSeconds, Terms, Unset

Wait = float | Literal[Unset.UNSET] | None


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
    """Seconds until the server drops it unless it is renewed."""
    fence: int
    """The fence of the owner."""
    waiters: int
    """How many wait for it."""
    first_waits_for: float
    """Seconds for which the first of them has waited; 0 when nobody waits."""


def info_of(key: Key, held: Held) -> LockInfo:
    """What the store says of a holder, for people."""
    return LockInfo(
        key=key.name,
        holder=held.holder,
        since=datetime.fromtimestamp(held.since, UTC),
        remaining=held.remaining,
        fence=held.fence,
        waiters=held.waiters,
        first_waits_for=held.first_waits_for,
    )


class Guard(Keeper):
    """A lock as users have it in hand: for `with`, or `acquire()` and `release()`. Threads may share one."""

    __slots__ = ()

    @abstractmethod
    def _name(self) -> str:
        """The name of what is locked."""

    async def _aname(self) -> str:
        """As `_name()`, on an event loop."""
        return self._name()

    def acquire(self, *, wait: MaybeSeconds | None = UNSET) -> Lease:
        """Take the lock, waiting at most `wait` seconds (`None`: for ever), and give the lease.

        Raises `LockBusy`, `WaitTimeout` or `StoreUnavailable`.
        """
        name, wait, coming = self._name(), UNSET if wait is UNSET else read_wait(wait), list[Entry]()
        try:
            return self._enter(name, coming, wait=wait).holds[0].lease
        except BaseException as error:
            self._give_up(coming, error)
            raise

    async def aacquire(self, *, wait: MaybeSeconds | None = UNSET) -> Lease:
        """As `acquire()`, on an event loop."""
        wait = UNSET if wait is UNSET else read_wait(wait)
        return (await self._aenter(await self._aname(), wait=wait)).holds[0].lease

    def release(self) -> None:
        """Give back what this thread or task acquired last through this object; within a transaction, at its end.

        Raises `LockNotHeld` when there is nothing to give back or the lease had ended, `StoreUnavailable` when
        Redis cannot be asked.
        """
        entry = None
        try:
            entry = self._own_entry()
            self._release(entry)
        except RedisLockError:
            raise
        except BaseException as torn:
            self._end_torn(torn, entry, self._own_entry)
            raise

    async def arelease(self) -> None:
        """As `release()`, on an event loop; it goes on to its end also when the task is cancelled meanwhile."""
        entry = self._own_entry()
        release = sync_to_async(self._release) if has_waiting_thread() else self._arelease
        await shielded(release(entry))

    def _release(self, entry: Entry) -> None:
        if self._is_to_release(entry):
            ensure_done(entry, self._give_back(entry.holds))

    async def _arelease(self, entry: Entry) -> None:
        if self._is_to_release(entry):
            ensure_done(entry, await self._agive_back(entry.holds))

    def _is_to_release(self, entry: Entry) -> bool:
        """Take it from the entries; says whether it is to be released now. Raises `LockNotHeld`."""
        if not entry.holds:
            raise LockNotHeld(f"{self!r} is not held: Redis was away, so the block goes on by version. It ends itself.")
        self._entries.remove(entry)
        if self._defer(entry):
            entry.holds = []
        else:
            leave_all(entry.holds)
        return bool(entry.holds)

    def info(self) -> LockInfo | None:
        """Who holds the lock now, or `None`. Raises `StoreUnavailable` when Redis cannot be asked."""
        lock = locks[self._terms.alias].lock(self._name(), model=self._model)
        held = lock.store.inspect(lock.key)
        return None if held is None else info_of(lock.key, held)

    async def ainfo(self) -> LockInfo | None:
        """As `info()`, on an event loop."""
        lock = locks[self._terms.alias].lock(await self._aname(), model=self._model)
        held = await lock.store.twin.inspect(lock.key)
        return None if held is None else info_of(lock.key, held)

    def _enter(
        self, name: str, coming: list[Entry], *, wait: Wait = UNSET, meanwhile: Callable[[], object] | None = None
    ) -> Entry:
        """Acquire or enter again; `wait` overrides the terms, which override the setting.

        `meanwhile` may be called, while the answer is on its way.
        """
        place = locks[self._terms.alias]
        lock, flow = place.lock(name, model=self._model), current_flow()
        hold = flow.find_trusted(lock)
        if hold is not None:
            return self._entered_again(coming, hold)
        if _get_running_loop() is not None:
            ensure_may_block()
        ttl, wait = self._limits(place, wait)
        prepare = partial(self._prepare, coming, flow=flow, lock=lock, options=place.options, meanwhile=meanwhile)
        try:
            lock.acquire(flow=flow.name, ttl=ttl, wait=wait, meanwhile=prepare)
        except LockBusy as error:
            self._send(signals.lock_contended, error=error)
            raise
        return self._acquired(*coming)

    async def _aenter(self, name: str, *, wait: Wait = UNSET) -> Entry:
        """As `_enter()`."""
        place = locks[self._terms.alias]
        lock, flow = place.lock(name, model=self._model), current_flow()
        hold, coming = flow.find_trusted(lock), list[Entry]()
        if hold is not None:
            return self._entered_again(coming, hold)
        ttl, wait = self._limits(place, wait)
        prepare = partial(self._prepare, coming, flow=flow, lock=lock, options=place.options)
        lookout = flow.lookout([lock])
        look = None if lookout is None else lookout.look
        try:
            await lock.aacquire(flow=flow.name, ttl=ttl, wait=wait, meanwhile=prepare, look=look)
        except LockBusy as error:
            self._send(signals.lock_contended, error=error)
            raise
        finally:
            if lookout is not None:
                lookout.end()
        return self._acquired(*coming)

    def _prepare(
        self,
        coming: list[Entry],
        lease: Lease,
        *,
        flow: Flow,
        lock: KeyLock,
        options: Options,
        meanwhile: Callable[[], object] | None = None,
    ) -> None:
        """What there will be if the lease is granted: the entry of a hold, told of its loss. It may be called again."""
        flow.run_on()
        coming[:] = [Entry([Hold(flow, lock, lease)])]
        self._take_charge(coming[0].holds, options)
        if meanwhile is not None:
            meanwhile()

    def _acquired(self, entry: Entry) -> Entry:
        entry.flow.add(entry.holds[0])
        self._announce(entry.holds)
        self._entries.append(entry)
        return entry

    def _give_up(self, coming: Sequence[Entry], error: BaseException) -> None:
        """Give back what was granted, which nobody else could do: it may be that a signal's handler has raised."""
        for entry in coming:
            if all(hold.lease.has_begun and not hold.lease.ended for hold in entry.holds):
                self._undo(entry, error)

    def _entered_again(self, coming: list[Entry], hold: Hold) -> Entry:
        entry = Entry([], hold.flow)
        coming.append(entry)
        hold.count, entry.holds = hold.count + 1, [hold]  # both or neither, when a signal's handler raises
        self._entries.append(entry)
        return entry

    def _limits(self, place: Locks, wait: Wait) -> tuple[float, float | None]:
        """How long it is to last, and how long it may take."""
        _, ttl, usual, _ = self._terms
        wait = usual if wait is UNSET else wait
        return place.options.ttl if ttl is UNSET else ttl, place.options.wait if wait is UNSET else wait


@async_unsafe("A lock that blocks its thread cannot be acquired in an async context: use `async with`.")
def ensure_may_block() -> None:
    """Raise `SynchronousOnlyOperation` on an event loop, unless Django's setting allows for it."""


def ensure_done(entry: Entry, answers: list[Answer]) -> None:
    """Raise `LockNotHeld` when it was not held any more."""
    for hold, answer in zip(entry.holds, answers, strict=True):
        if answer is not Answer.DONE:
            raise not_held(hold.lock.key, answer)


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

    _model = None

    def _name(self) -> str:
        return self._plain_name

    def __enter__(self) -> Lease:
        coming: list[Entry] = []
        try:
            return self._enter(self._plain_name, coming).holds[0].lease
        except BaseException as error:
            self._give_up(coming, error)
            raise

    async def __aenter__(self) -> Lease:
        return (await self._aenter(self._plain_name)).holds[0].lease
