"""The time-bounded right to a key."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from . import clock
from .exceptions import LeaseLost
from .seconds import Seconds, read_ttl

if TYPE_CHECKING:
    from collections.abc import Callable

    from .keys import Key


class LeaseState(StrEnum):
    """Where a lease is in its life."""

    HELD = "held"
    LOST = "lost"
    RELEASED = "released"


class Extender(Protocol):
    """Whoever can ask the store for more time."""

    def extend(self, lease: Lease, ttl: float) -> None:
        """Keep the lease for another `ttl` seconds."""


class Lease:
    """Key, token, fence and deadline of one acquisition: what its owner holds in hand.

    Everything but `extend()` is local and costs no round trip.
    """

    __slots__ = ("_extender", "_state", "acquired_at", "deadline", "fence", "key", "on_lost", "pid", "token", "ttl")

    def __init__(self, *, key: Key, token: str, fence: int, ttl: float, asked_at: float, extender: Extender) -> None:
        self.key = key
        self.token = token
        """The secret that proves ownership. It is never shown."""
        self.fence = fence
        """Grows with every new owner of the key; hand it to what lies outside the database."""
        self.ttl = ttl
        """Seconds that the server keeps the lease."""
        self.acquired_at = asked_at
        self.deadline = asked_at + clock.safe_ttl(ttl)
        """Instant of the local monotonic clock after which the lease is no longer trusted."""
        self.pid = os.getpid()
        """The process that acquired it; a child of `fork` has a copy of the lease, but not the right."""
        self._state = LeaseState.HELD
        self._extender = extender
        self.on_lost: Callable[[Lease], None] | None = None
        """Called once, the moment the loss is known."""

    def __repr__(self) -> str:
        return f"<Lease {self.key} fence={self.fence} {self.state}>"

    @property
    def state(self) -> LeaseState:
        """`held`, `lost` or `released`, as far as is known without asking the server."""
        if self._state is LeaseState.HELD and clock.now() >= self.deadline:
            return LeaseState.LOST
        return self._state

    @property
    def remaining(self) -> float:
        """Seconds for which the lease can still be trusted; 0 when it has ended."""
        return max(0.0, self.deadline - clock.now()) if self._state is LeaseState.HELD else 0.0

    @property
    def held_for(self) -> float:
        """Seconds since the lease was asked for."""
        return clock.now() - self.acquired_at

    def ensure_held(self) -> None:
        """Check the local deadline.

        Raises `LeaseLost` when the lease has ended: what comes next must not be done.
        """
        if self.state is not LeaseState.HELD:
            raise self.lost()

    def extend(self, ttl: Seconds | None = None) -> None:
        """Ask the server to keep the lease for another `ttl` seconds from now (its own ttl when not given).

        Raises `LockNotHeld` when the server no longer knows it, `StoreUnavailable` when it cannot be asked.
        """
        self._extender.extend(self, self.ttl if ttl is None else read_ttl(ttl))

    def prolong(self, *, ttl: float, asked_at: float) -> None:
        """Note what the server granted to a question asked at `asked_at`."""
        self.ttl = ttl
        self.deadline = asked_at + clock.safe_ttl(ttl)

    def end(self, state: LeaseState) -> None:
        """Note how the lease has ended. What is lost stays lost."""
        if self._state is not LeaseState.HELD:
            return
        self._state = state
        if state is LeaseState.LOST and self.on_lost is not None:
            self.on_lost(self)

    def lost(self) -> LeaseLost:
        """The error that tells that this lease has ended."""
        if self._state is LeaseState.RELEASED:
            return LeaseLost(f"The lease on {self.key} has been given back: acquire it again.", key=self.key.name)
        return LeaseLost(
            f"The lease on {self.key} was lost {self.held_for:.1f} s after it was acquired with a ttl of "
            f"{self.ttl:g} s: another may hold it now. Nothing more may be done under it; use a longer ttl, "
            f"extend() it, or do less while holding it.",
            key=self.key.name,
        )
