"""The time-bounded right to a key."""

from __future__ import annotations

import threading
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, Self

from . import clock, forks
from .exceptions import LeaseLost, LossReason
from .seconds import Seconds, read_ttl

if TYPE_CHECKING:
    from collections.abc import Iterable
    from weakref import ref

    from .keys import Key


class LeaseState(StrEnum):
    """Where a lease is in its life."""

    HELD = "held"
    UNKNOWN = "unknown"
    """It is good until its deadline, but Redis could not be asked to renew it."""
    LOST = "lost"
    RELEASED = "released"


OPEN = (LeaseState.HELD, LeaseState.UNKNOWN)

WHY = {
    LossReason.EXPIRED: "it was not renewed in time, and another may hold it now",
    LossReason.FORCED: "it was released by force, and another may hold it now",
    LossReason.STORE_RESTARTED: "Redis has lost it (restarted, flushed or out of memory), and another may hold it now",
    LossReason.TAKEN_OVER: "Redis has lost it (restarted, flushed or out of memory), and another holds it now",
    LossReason.MAX_HOLD: "it was held for longer than max_hold, so the next in line has got it",
}


CONFIDENCE = 0.25
"""Seconds for which the store's word counts that a lease is held: in that time nobody else gets the key."""


class Extender(Protocol):
    """Whoever can ask the store about a lease."""

    @property
    def store(self) -> Any:
        """The store."""

    def extend(self, lease: Lease, ttl: float) -> None:
        """Keep the lease for another `ttl` seconds."""

    async def aextend(self, lease: Lease, ttl: float) -> None:
        """As `extend()`, on an event loop."""


class Handle(Protocol):
    """What its owner has in hand: without it nobody could give the lease back."""

    def max_hold_of(self, lease: Lease) -> float | None:
        """Seconds for which the lease is renewed before it is let go; `None`: for ever."""

    def hear_of_loss(self, lease: Lease) -> None:
        """Called once, the moment the loss is known."""


class Lease:
    """Key, token, fence and deadline of one acquisition: what its owner holds in hand.

    Everything but `extend()` is local and costs no round trip.
    """

    __slots__ = (
        "_doubt",
        "_extender",
        "_state",
        "acquired_at",
        "confirmed_at",
        "deadline",
        "fence",
        "handle",
        "key",
        "pid",
        "reason",
        "token",
        "ttl",
    )

    def __init__(self, key: Key, token: str, ttl: float, extender: Extender) -> None:
        self.key = key
        self.token = token
        """The secret that proves ownership. It is never shown."""
        self.ttl = ttl
        """Seconds that the server keeps the lease."""
        self.pid = forks.pid
        """The process that acquired it; a child of `fork` has a copy of the lease, but not the right."""
        self._state = LeaseState.HELD
        self._extender = extender
        self.handle: ref[Handle] | None = None
        """What its owner has in hand; `None` while it is being acquired."""
        self.reason: LossReason | None = None
        """Why it was lost, once it is."""

    def begin(self, fence: int, asked_at: float) -> Self:
        """Note that the store has granted it to a question asked at `asked_at`; gives it, which nobody has before."""
        self.fence = fence
        """Grows with every new owner of the key; hand it to what lies outside the database."""
        self.acquired_at = asked_at
        self.confirmed_at = asked_at
        """Instant of the local monotonic clock of the last question that the store has answered with yes."""
        self.deadline = asked_at + clock.safe_ttl(self.ttl)
        """Instant of the local monotonic clock after which the lease is no longer trusted."""
        return self

    @property
    def has_begun(self) -> bool:
        """Whether it was granted."""
        return hasattr(self, "deadline")

    def __repr__(self) -> str:
        return f"<Lease {self.key} fence={self.fence} {self.state}>"

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A copy, or what is unpickled elsewhere, is `None`: the right is not copied, and the token stays here."""
        return type(None), ()

    @property
    def state(self) -> LeaseState:
        """`held`, `unknown`, `lost` or `released`, as far as is known without asking the server."""
        if clock.now() >= self.deadline and self.expire():
            self.tell()
        return self._state

    @property
    def store(self) -> Any:
        """The store that keeps it."""
        return self._extender.store

    @property
    def trusted(self) -> bool:
        """Whether what needs the lease may be done now: it is held, and its deadline is not over."""
        return self._state in OPEN if clock.now() < self.deadline else self.state in OPEN

    @property
    def ended(self) -> bool:
        """Whether its end has been noted, whatever the deadline says."""
        return self._state not in OPEN

    @property
    def remaining(self) -> float:
        """Seconds for which the lease can still be trusted; 0 when it has ended."""
        return max(0.0, self.deadline - clock.now()) if self._state in OPEN else 0.0

    @property
    def held_for(self) -> float:
        """Seconds since the lease was asked for."""
        return clock.now() - self.acquired_at

    def ensure_held(self) -> None:
        """Check the local deadline, and what is known of the lease.

        Raises `LeaseLost` when the lease has ended: what comes next must not be done.
        """
        if not self.trusted:
            raise self.lost()

    def extend(self, ttl: Seconds | None = None) -> None:
        """Ask the server to keep the lease for another `ttl` seconds from now (its own ttl when not given).

        From then on it is renewed with that ttl. Raises `LockNotHeld` when the lease has ended, `StoreUnavailable`
        when the server cannot be asked.
        """
        self._extender.extend(self, self.ttl if ttl is None else read_ttl(ttl))

    async def aextend(self, ttl: Seconds | None = None) -> None:
        """As `extend()`, on an event loop."""
        await self._extender.aextend(self, self.ttl if ttl is None else read_ttl(ttl))

    # What the store said of it. More than one thread may hear that; who is first counts.

    def shorten(self, *, ttl: float, asked_at: float) -> None:
        """Note that the server is being asked to keep it for `ttl` seconds only, whatever comes of the question."""
        deadline = asked_at + clock.safe_ttl(ttl)
        with _notes:
            if deadline < self.deadline:
                self.ttl, self.deadline = ttl, deadline

    def prolong(self, *, ttl: float, asked_at: float, seen: float | None = None) -> bool:
        """Note what the server granted to a question asked at `asked_at`; says whether that came in time.

        What was over already stays over. A renewal says with `seen` which deadline it found: where the lease was
        extended meanwhile, that counts.
        """
        with _notes:
            if self._state not in OPEN or clock.now() >= self.deadline:
                return False
            self.confirmed_at = max(self.confirmed_at, asked_at)
            if seen is None or seen == self.deadline:
                self.ttl, self.deadline = ttl, asked_at + clock.safe_ttl(ttl)
            if self._state is LeaseState.UNKNOWN:
                self._state, self._doubt = LeaseState.HELD, ""
            return True

    def doubt(self, why: str) -> None:
        """Note that the server could not be asked."""
        with _notes:
            if self._state in OPEN:
                self._state = LeaseState.UNKNOWN
                self._doubt = why

    def expire(self) -> bool:
        """Note that its deadline is over; says whether that is so and new, and to be told."""
        with _notes:
            if self._state not in OPEN or clock.now() < self.deadline:
                return False
            self._state, self.reason = LeaseState.LOST, LossReason.EXPIRED
            return True

    def lose(self, reason: LossReason) -> bool:
        """Note that it has ended; says whether that is new, and to be told."""
        with _notes:
            if self._state not in OPEN:
                return False
            if reason is not LossReason.FORCED and clock.now() >= self.deadline:
                reason = LossReason.EXPIRED  # what is gone by then is gone for no other reason
            self._state, self.reason = LeaseState.LOST, reason
            return True

    def end(self, reason: LossReason | None) -> None:
        """Note that it was given back (`None`), or why it is lost, and tell that. What is lost stays lost."""
        if reason is not None:
            if self.lose(reason):
                self.tell()
            return
        note_released((self,))

    def tell(self) -> None:
        """Tell its owner that it is lost, if there is one left."""
        handle = None if self.handle is None else self.handle()
        if handle is not None:
            handle.hear_of_loss(self)

    def lost(self) -> LeaseLost:
        """The error that tells that this lease has ended."""
        if self.reason is None:
            return LeaseLost(f"The lease on {self.key} has been given back: acquire it again.", key=self.key.name)
        return LeaseLost(
            f"The lease on {self.key} was lost {self.held_for:.1f} s after it was acquired with a ttl of "
            f"{self.ttl:g} s: {WHY[self.reason]}.{self._trouble()} Nothing more may be done under it.",
            key=self.key.name,
            reason=self.reason,
        )

    def _trouble(self) -> str:
        """What kept it from being renewed, if that is known."""
        doubt = getattr(self, "_doubt", "")  # most leases are never in doubt, nor made for it
        return f" {doubt}" if doubt and self.reason is LossReason.EXPIRED else ""


def begin_all(leases: Iterable[Lease], fences: Iterable[int], *, ttl: float, asked_at: float) -> None:
    """As `Lease.begin()`, for several with the same ttl."""
    deadline = asked_at + clock.safe_ttl(ttl)
    for lease, fence in zip(leases, fences, strict=True):
        lease.acquired_at = lease.confirmed_at = asked_at
        lease.fence, lease.deadline = fence, deadline


def note_released(leases: Iterable[Lease]) -> None:
    """Note that they were given back. What is lost stays lost."""
    released = LeaseState.RELEASED
    with _notes:
        for lease in leases:
            if lease._state in OPEN:
                lease._state = released


def lost_of(leases: Iterable[Lease]) -> list[Lease]:
    """Those that are lost. As `state`, which looks at the clock for each."""
    now, held = clock.now(), LeaseState.HELD
    doubtful = [lease for lease in leases if now >= lease.deadline or lease._state is not held]
    return [lease for lease in doubtful if lease.state is LeaseState.LOST]


_notes = threading.RLock()
"""Held for moments only, while it is noted what has become of a lease. A signal handler, or a finalizer, may come in
between and release another one."""


def start_over() -> None:
    """In a child of `fork`, the thread that held the mutex may not exist."""
    global _notes  # noqa: PLW0603 - there is one for all leases, so that a lease does not cost one
    _notes = threading.RLock()


forks.in_child(start_over)
