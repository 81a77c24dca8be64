"""The contract of a store: what every place that keeps locks can be asked, and the values it answers with.

A store never raises to say "busy" or "lost"; it raises `StoreUnavailable` when it could not be asked.
Every verb may be sent twice, and answers the second time what it answered the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..holder import Holder
    from ..keys import Key


@dataclass(frozen=True, slots=True)
class Taken:
    """The key is ours."""

    fence: int
    """Higher than every fence given for this key before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The key is somebody's."""

    holder: Holder
    """Who holds it."""
    fence: int
    """The fence of that owner."""
    since: float
    """When it was acquired, seconds since the epoch by the server's clock."""
    held_for: float
    """Seconds since then."""
    remaining: float
    """Seconds until the server drops it unless it is renewed."""


class Answer(Enum):
    """What became of a request that only the owner of a token may make."""

    DONE = "done"
    GONE = "gone"
    """Nobody holds the key: the lease had ended before."""
    ANOTHERS = "another's"
    """Somebody else holds the key: the lease had ended before."""


class Store(Protocol):
    """One place that keeps locks. `scope` tells apart stores that do not share their locks."""

    scope: str

    def acquire(
        self, key: Key, *, token: str, ttl: float, holder: str, meanwhile: Callable[[], object] | None = None
    ) -> Taken | Held:
        """Take the key for `token` and `ttl` seconds, or say who holds it.

        `meanwhile` is called while the answer is on its way, perhaps more than once.
        """

    def release(self, key: Key, *, token: str) -> Answer:
        """Give the key back if `token` holds it."""

    def renew(self, key: Key, *, token: str, ttl: float) -> Answer:
        """Keep the key for `ttl` seconds from now if `token` holds it."""

    def inspect(self, key: Key) -> Held | None:
        """Say who holds the key, if anyone does."""
