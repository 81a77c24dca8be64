"""Re-entrancy: who may enter a held lock again, and how often it was entered.

A *flow* is what owns locks: the code that runs in one `contextvars` context. A thread has a context of its own,
and so has an asyncio task; a child task, a worker of `asyncio.to_thread` and code behind `sync_to_async` run in
*copies*, where the variable below has the same value although not everybody there is the owner. A flow therefore
proves itself: `ContextVar.reset()` accepts a token only in the very context in which the token was made; else what
runs the flow must be waiting for the code that asks (see `runners`). A flow that cannot prove that it is the owner is
not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import ContextVar, Token
from functools import partial
from typing import TYPE_CHECKING
from weakref import ref

from . import forks
from .lookout import Lookout, Owner
from .manylock import Take, aacquire_all, aacquire_free, acquire_all, acquire_free
from .runners import Runner, current_task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .keylock import KeyLock
    from .lease import Lease


class Hold:
    """A lease, and how often its owner has entered it."""

    __slots__ = ("closing", "count", "flow", "lease", "lock")

    def __init__(self, flow: Flow, lock: KeyLock, lease: Lease) -> None:
        self.flow = flow
        self.lock = lock
        self.lease = lease
        self.count = 1
        self.closing = False
        """Whether its owner commits right now: then it is not let go any more."""


Charge = Callable[[Iterable[Hold]], object]
"""Takes charge of holds that are about to be acquired."""


class Flow:
    """The holds of one flow, by store and key."""

    __slots__ = ("__weakref__", "_holds", "_mark", "_outer", "_pid", "_runner", "name")

    def __init__(self, outer: Flow | None) -> None:
        self.name = os.urandom(8).hex()
        """By which the store knows it: who waits for whom."""
        self._outer = outer
        self._pid = forks.notice()
        self._runner = Runner()
        self._holds: dict[tuple[str, str], Hold] = {}
        self._mark: Token[Flow | None] = _flow.set(_flow.get())
        _flows.add(ref(self, _flows.discard))
        _flow.set(self)  # at last, since a signal's handler may raise before

    def find(self, lock: KeyLock) -> Hold | None:
        """This flow's hold on the lock, if it has one."""
        return self._holds.get(lock.slot)

    def find_trusted(self, lock: KeyLock) -> Hold | None:
        """This flow's hold on the lock, if it has one that may be entered again.

        A lease that was lost is not: the key is to be acquired anew, and the block outside is told of its loss at its
        own end.
        """
        hold = self._holds.get(lock.slot)
        return hold if hold is not None and hold.lease.trusted else None

    def find_all(self, locks: Iterable[KeyLock]) -> list[Hold]:
        """This flow's holds on those of the locks that it has."""
        return [self._holds[lock.slot] for lock in locks if lock.slot in self._holds] if self._holds else []

    def has(self, slot: tuple[str, str]) -> bool:
        """Whether it holds the lock with this `slot`."""
        return slot in self._holds

    def run_on(self) -> None:
        """Note who runs it, before it is to own anything: one context may be that of several tasks, in turn."""
        if not self._runner.is_alive:
            self._runner = Runner()

    def add(self, hold: Hold) -> None:
        """Note that this flow owns its lease."""
        self._holds[hold.lock.slot] = hold

    def prepare(self, into: list[Hold], charge: Charge, locks: Sequence[KeyLock], leases: Sequence[Lease]) -> Take:
        """Make the holds that there will be when the leases have begun; what is given notes them then.

        They are put on a list first: a signal's handler may raise in between. `charge` is called with them.
        """
        self.run_on()
        holds = {lock.slot: Hold(self, lock, lease) for lock, lease in zip(locks, leases, strict=True)}

        charge(holds.values())

        def take() -> None:
            into.extend(holds.values())
            self._holds.update(holds)

        return take

    def living_holds(self) -> list[Hold]:
        """What it holds, as long as its thread lives: what that has left behind nobody will give back."""
        return list(self._holds.values()) if self._runner.is_alive else []

    def forget(self, holds: list[Hold]) -> None:
        """The leases of these holds are owned no more."""
        if [*self._holds.values()] == holds:  # as mostly
            self._holds.clear()
            return
        for hold in holds:
            slot = hold.lock.slot
            if self._holds.get(slot) is hold:
                del self._holds[slot]

    def proves_itself(self) -> bool:
        """Whether the code that asks runs in this flow's own context, or it waits for that; and in its own process."""
        if self._pid != os.getpid():
            return False
        try:
            _flow.reset(self._mark)
            self._mark = _flow.set(self)
        except (ValueError, RuntimeError):  # made in another context; or its owner is proving itself right now
            return self._runner.waits_for_us
        except BaseException:  # of a signal's handler
            self._mark_anew()
            raise
        return True

    def _mark_anew(self) -> None:
        """Make another token, if this is the context in which the last one was made, used up or not."""
        try:
            with suppress(RuntimeError):
                _flow.reset(self._mark)
        except ValueError:
            return
        self._mark = _flow.set(self)

    def lookout(self, locks: Iterable[KeyLock]) -> Lookout | None:
        """For a task that may have to wait for these, where a flow around this one has anything."""
        around = self._outer_owner()
        task = None if around is None else current_task()
        if task is None:
            return None
        owners = []
        while around is not None:
            holds = around.find_all(locks)
            leases = {hold.lock.key.name: hold.lease for hold in holds}
            owners.append(Owner(around.name, around._runner, leases, around.has))
            around = around._outer_owner()
        return Lookout(task, owners, {lock.key.name: lock.store for lock in locks})

    def _outer_owner(self) -> Flow | None:
        return None if self._outer is None else self._outer.nearest_owner()

    def nearest_owner(self) -> Flow | None:
        """This flow or the closest one around it that owns anything."""
        flow: Flow | None = self
        while flow is not None and not flow._holds:
            flow = flow._outer
        return flow


_flow: ContextVar[Flow | None] = ContextVar("django_redislock_flow", default=None)

_flows: set[ref[Flow]] = set()
"""All flows of this process."""
forks.in_child(_flows.clear)


def leave_all(holds: list[Hold], *, last: bool = True) -> None:
    """Undo one entering of each. Those stay on the list for which it was the last one: they are to be released.

    All are of one flow. `last`: whether to undo that as well. A signal's handler may raise between any two lines.
    Called again after that it does the rest: each line either counts and takes off the list, or may be done twice.
    """
    if {hold.count for hold in holds} != {1}:
        leave_each(holds, last=last)
    if last and holds:
        holds[0].flow.forget(holds)
        for hold in holds:
            hold.count = 0


def leave_each(holds: list[Hold], *, last: bool) -> None:
    """The first part of `leave_all()`: those that stay are entered for the last time."""
    index = len(holds)
    for hold in reversed(holds):
        index -= 1
        count = hold.count
        if count > 1:
            hold.closing = False
            hold.count, holds[index], holds[-1:] = hold.count - 1, holds[-1], ()
        elif count or not last:
            continue
        elif hold.lease.ended:
            holds[index], holds[-1:] = holds[-1], ()
        else:
            hold.lease.end(None)  # its release may have been asked for: no answer to another one is about a loss


def held_here() -> list[Hold]:
    """What the flows of this process hold. Any thread may ask: copying a list or a set is one step."""
    flows = [reference() for reference in list(_flows)]
    return [hold for flow in flows if flow is not None for hold in flow.living_holds()]


def current_flow() -> Flow:
    """The flow of the code that asks.

    `sync_to_async` copies the variable back when it returns, so that the value may be an inner flow that was
    left behind: the flows around it are asked as well.
    """
    seen = flow = _flow.get()
    while flow is not None:
        if flow.proves_itself():
            return flow
        flow = flow._outer
    return Flow(seen.nearest_owner() if seen is not None else None)


def enter_all_again(flow: Flow, locks: Iterable[KeyLock], into: list[Hold], *, limit: int | None) -> None:
    """Enter the first ones of the locks that the flow holds once more, without a round trip, and put them on the list.

    As for `Flow.find_trusted()`.
    """
    for hold in [hold for hold in flow.find_all(locks) if hold.lease.trusted][:limit]:
        # Both or neither, when a signal's handler raises: nothing is called between the two.
        into[len(into) :], hold.count = (hold,), hold.count + 1


def enter_all(
    flow: Flow, locks: Sequence[KeyLock], into: list[Hold], *, ttl: float, wait: float | None, charge: Charge
) -> None:
    """Acquire the locks for the flow. As `acquire_all()`."""
    acquire_all(locks, flow=flow.name, ttl=ttl, wait=wait, prepare=partial(flow.prepare, into, charge))


async def aenter_all(
    flow: Flow, locks: Sequence[KeyLock], into: list[Hold], *, ttl: float, wait: float | None, charge: Charge
) -> None:
    """As `enter_all()`, on an event loop."""
    lookout = flow.lookout(locks)
    look = None if lookout is None else lookout.look
    prepare = partial(flow.prepare, into, charge)
    try:
        await aacquire_all(locks, flow=flow.name, ttl=ttl, wait=wait, prepare=prepare, look=look)
    finally:
        if lookout is not None:
            lookout.end()


def enter_free(
    flow: Flow, locks: Sequence[KeyLock], into: list[Hold], *, ttl: float, limit: int, charge: Charge
) -> None:
    """Acquire those of the locks that are free for the flow. As `acquire_free()`."""
    acquire_free(locks, flow=flow.name, ttl=ttl, limit=limit, prepare=partial(flow.prepare, into, charge))


async def aenter_free(
    flow: Flow, locks: Sequence[KeyLock], into: list[Hold], *, ttl: float, limit: int, charge: Charge
) -> None:
    """As `enter_free()`, on an event loop."""
    await aacquire_free(locks, flow=flow.name, ttl=ttl, limit=limit, prepare=partial(flow.prepare, into, charge))
