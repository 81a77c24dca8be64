"""The contract of a store: what every place that keeps locks can be asked, and the values it answers with.

A store never raises to say "busy" or "lost"; it raises `StoreUnavailable` when it could not be asked, and has then done
what it can so that nothing stays taken by a question that was not answered.
Every verb may be sent twice, and answers the second time what it answered the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..holder import Holder
    from ..keys import Key


class Taken(NamedTuple):
    """The key is ours."""

    fence: int
    """Higher than every fence given for this key before."""


@dataclass(slots=True, kw_only=True)  # not frozen, which would take most of the time in which it is made
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
    asked: float
    """When this was said, seconds since the epoch by the server's clock."""
    waiters: int = 0
    """How many wait for it, where that was asked for."""
    first_waits_for: float = 0.0
    """Seconds for which the first of them has waited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The places of those who wait for a key and listen on one channel."""

    left: float | None
    """Seconds until the holder's ttl ends; nothing where nobody holds the key."""
    tokens: frozenset[str]
    """Who they are."""


@dataclass(frozen=True, slots=True)
class TakenMany:
    """The keys are ours, or with `Way.FREE` some of them."""

    fences: tuple[int, ...]
    """For each key as in `Taken`, in the order of the keys; 0 for one that is not ours."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """Some of the keys are somebody's."""

    by: tuple[tuple[Key, Held], ...]
    """Which, and who holds each: with `Way.LINE` only the first."""


class Way(Enum):
    """How several keys are taken."""

    ALL = "all"
    """All of them or none."""
    LINE = "line"
    """One after the other up to the first that is somebody's; in its queue one waits with what one has by then."""
    FREE = "free"
    """Those that are free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A part of a cycle: somebody holds a key, and waits for that of the next edge."""

    key: str
    """The name of the key."""
    holder: Holder
    """Who holds it."""


class Grant(NamedTuple):
    """What a waiter is told that was made the owner."""

    fence: int
    """As in `Taken`."""
    granted: float
    """When, seconds since the epoch by the server's clock."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The server understood, and does not do it: it knows no such command, or this user may not."""

    reason: str
    """In the server's words."""


class Renewal(NamedTuple):
    """What a lease asks for."""

    key: Key
    token: str
    ttl: float
    """Seconds from now."""


class Ear(Protocol):
    """Where one waiter hears of its grant."""

    @property
    def channel(self) -> str:
        """What the store is told to publish on; empty where nothing can be heard, so that one has to ask."""

    @property
    def kept(self) -> bool:
        """Whether the place in the queue is kept, and the holder's end looked for, without being asked again."""

    def listen(self, seconds: float) -> Grant | None:
        """Wait so long at most; nothing heard means that it is time to ask again."""

    def close(self) -> None:
        """Hear no more."""


class Answer(Enum):
    """What became of a request that only the owner of a token may make."""

    DONE = "done"
    GONE = "gone"
    """Nobody holds the key: the lease had ended before."""
    ANOTHERS = "another's"
    """Somebody else holds the key: the lease had ended before."""
    FORCED = "forced"
    """The key was taken away by force."""
    UNKNOWN = "unknown"
    """Too few of several servers could be asked; a renewal of several leases may be told so of one of them."""


class Store(Protocol):
    """One place that keeps locks. `scope` tells apart stores that do not share their locks."""

    scope: str

    @property
    def whole(self) -> Store:
        """Whom to ask of several keys: itself, unless it is a part of something."""

    @property
    def server(self) -> Any:
        """What is behind it, to be compared: stores of one server stand still together when it hangs."""

    @property
    def twin(self) -> Any:
        """Whom tasks ask on the loop that is running: it has these verbs, and what they give is to be awaited."""

    def part(self, key: Key) -> Store:
        """Whom to ask of this key alone, for as long as one likes: itself, unless it is made of parts."""

    def acquire(
        self,
        key: Key,
        *,
        token: str,
        ttl: float,
        holder: str,
        channel: str = "",
        meanwhile: Callable[[], object] | None = None,
    ) -> Taken | Held | tuple[Edge, ...]:
        """Take the key for `token` and `ttl` seconds, or say who holds it.

        With the channel of an ear the token waits in line: first come, first served, and is told on the channel
        when it was made the owner. Where that would never happen the edges of the cycle are given.
        `meanwhile` is called while the answer is on its way, perhaps more than once.
        """

    def leave(self, key: Key, *, token: str) -> None:
        """Wait no more; what was granted in the meantime goes to the next."""

    def acquire_many(
        self,
        keys: Sequence[Key],
        *,
        token: str,
        ttl: float,
        holder: str,
        way: Way,
        limit: int,
        channel: str = "",
        meanwhile: Callable[[], object] | None = None,
    ) -> TakenMany | Blocked | tuple[Edge, ...]:
        """Take the keys, at most `limit` of them, for one token; those it holds already are its for a new ttl.

        With a channel as for `acquire()`, in the queue of the first key that is somebody's.
        """

    def leave_many(self, keys: Sequence[Key], *, token: str) -> None:
        """Wait for none of them any more, and give back those that the token holds."""

    def release_many(self, keys: Sequence[Key], *, token: str, ttl: float) -> list[Answer]:
        """Give the keys back that `token` holds for `ttl` seconds each time; an answer for each."""

    @property
    def listens(self) -> bool:
        """Whether this process listens already, so that an ear costs nothing."""

    def ear(self, token: str, *, within: float | None = None) -> Ear:
        """An ear for a waiter, which has so many seconds left."""

    def force(self, key: Key, *, token: str, ttl: float, fence: int | None = None) -> Held | None:
        """Take the key from whoever holds it, for `token` and `ttl` seconds; says who did, who is told `Answer.FORCED`.

        A release hands it over. The token is an operator's (`operator_token()`), from whom it cannot be taken away.
        With a fence only from the owner that has it.
        """

    def release(self, key: Key, *, token: str, ttl: float) -> Answer:
        """Give the key back if `token` holds it, for `ttl` seconds each time: nothing is noted of it for longer."""

    def renew(self, key: Key, *, token: str, ttl: float) -> Answer:
        """Keep the key for `ttl` seconds from now if `token` holds it."""

    def renew_many(self, renewals: Sequence[Renewal], *, within: float) -> list[Answer]:
        """Keep each key for its ttl from now, or for longer if it has more left; an answer for each.

        One question, which may take so many seconds.
        """

    def inspect(self, key: Key) -> Held | None:
        """Say who holds the key, if anyone does."""

    def follow(self, key: Key, *, flow: str) -> tuple[Edge, ...]:
        """Who waits for whom, from the holder of the key on to one who waits for this flow: nothing where none does."""
