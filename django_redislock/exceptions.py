"""What can go wrong with a lock. One exception is one decision for the caller."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .holder import Holder


class RedisLockError(Exception):
    """The root of this package's errors.

    `key` names what was to be locked, `holder` who holds it; each is `None` where it is not known.
    """

    def __init__(self, message: str, *, key: str | None = None, holder: Holder | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.holder = holder


class LockBusy(RedisLockError):
    """Somebody else holds the key and the caller did not want to wait: come back later."""


class WaitTimeout(LockBusy):
    """Somebody else held the key for as long as the caller wanted to wait."""


class Deadlock(RedisLockError):
    """Waiting would never end: everybody in a cycle waits for the next. Release what is held, and try again."""

    edges: Sequence[Any]
    """The parts of the cycle: each has a `key` and its `holder`, who waits for the key of the next edge."""

    def __init__(
        self, message: str, *, key: str | None = None, holder: Holder | None = None, edges: Sequence[Any] = ()
    ) -> None:
        super().__init__(message, key=key, holder=holder)
        self.edges = edges
        """The parts of the cycle."""


class LossReason(StrEnum):
    """Why a lease ended before its holder gave it back."""

    EXPIRED = "expired"
    """It was not renewed in time."""
    FORCED = "forced"
    """An operator took it away."""
    STORE_RESTARTED = "store restarted"
    """Redis does not know it any more although its time was not over."""
    TAKEN_OVER = "taken over"
    """Redis does not know it any more, and another holds the key."""
    MAX_HOLD = "max hold"
    """It was held for longer than `max_hold` and went to the next in line."""


class LeaseLost(RedisLockError):
    """The lease ended before its holder gave it back: what was done under it may have been overtaken.

    `reason` says why; it is `None` for a lease that its holder has given back.
    """

    def __init__(
        self, message: str, *, key: str | None = None, holder: Holder | None = None, reason: LossReason | None = None
    ) -> None:
        super().__init__(message, key=key, holder=holder)
        self.reason = reason
        """Why it was lost."""


class LockNotHeld(RedisLockError):
    """Released or extended by one who does not hold it."""


class StoreUnavailable(RedisLockError):
    """Redis could not be asked, so nobody knows who holds the key; `__cause__` is the client's error."""


class QuorumNotReached(StoreUnavailable):
    """Too few of several independent servers could be asked, so nobody knows who holds the key."""
