"""The contract of a node: one of several independent stores that keep the same locks, and the values it answers with.

Every question comes in three parts, so that one thread can ask all nodes at once: it is made ready, sent, and answered
when it is received. Each raises `StoreUnavailable` when the node cannot be asked; the node has then seen to it that
nothing stays taken by the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from .base import Answer, Edge, Held, Renewal

if TYPE_CHECKING:
    import queue

    from ..keys import Key
    from .base import Ear, Grant

T_co = TypeVar("T_co", covariant=True)


class Vote(NamedTuple):
    """The node has given its vote for a key to the token."""

    fence: int
    """Higher than every fence that this node has given or heard of for the key."""
    asked: int
    """When, us since the epoch by the node's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SitsOut:
    """The node has come back without its data, and does not vote until what it may have voted for is over."""

    left: float
    """Seconds until it votes again."""
    ends: int
    """When that is, ms since the epoch by the node's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """The key is somebody's, and as far as the node knows waiting for it would never end."""

    edges: tuple[Edge, ...]
    """Who holds what, and waits for that of the next one."""
    held: Held
    """Who holds the key."""


Ballot = Vote | Held | Cycle | SitsOut


class Candidacy(NamedTuple):
    """What somebody wants of each node."""

    token: str
    ttl: float
    """Seconds that the node keeps its vote."""
    holder: str
    least: int
    """The fence that is hoped for: a node that has given a lower one gives this."""


class Asked(Protocol[T_co]):
    """A question that is ready to be sent."""

    def send(self) -> None:
        """Put it on its way."""

    @property
    def is_understood(self) -> bool:
        """Whether the node carries it out without more from us. One that does not know the script yet asks for it."""

    def has_come(self) -> bool:
        """Whether `receive()` need not wait."""

    def receive(self, until: float) -> T_co:
        """The answer, if it comes before that instant."""

    def abandon(self) -> None:
        """Nobody is interested any more. What the question took is given back, unless it was answered or has failed."""


class Node(Protocol):
    """One of the stores. `scope` names it for people."""

    scope: str

    def vote(self, keys: Sequence[Key], *, candidacy: Candidacy, channel: str) -> Asked[list[Ballot]]:
        """Ask for its vote for each key; with the channel of an ear, wait in line for those that it refuses."""

    def raise_fences(self, fences: Sequence[tuple[Key, int]], *, token: str) -> Asked[list[bool]]:
        """Let it give no fence up to this any more for each key; whether the token still has its vote."""

    def give_back(self, keys: Sequence[Key], *, token: str, ttl: float) -> Asked[list[Answer]]:
        """Release the keys."""

    def withdraw(self, keys: Sequence[Key], *, token: str) -> Asked[list[None]]:
        """Wait for none of the keys any more, and give up the votes for them."""

    def settle(self, keys: Sequence[Key], *, token: str) -> None:
        """The same, not now but before the next question."""

    def keep(self, key: Key, *, token: str, ttl: float) -> Asked[list[Answer]]:
        """Keep its vote for `ttl` seconds from now."""

    def prolong(self, renewals: Sequence[Renewal]) -> Asked[list[list[Answer]]]:
        """Keep each vote for its ttl from now, or for longer if it has more left; the answers come in portions."""

    def look(self, keys: Sequence[Key]) -> Asked[list[Held | None]]:
        """Who has its vote for each key."""

    def take_away(self, key: Key, *, token: str, ttl: float, fence: int | None) -> Asked[list[Held | None]]:
        """Take the key for the token from whoever holds it, or from the owner with that fence; who did."""

    def plead(self, seat: SitsOut) -> bool:
        """Find out whether it has to sit out; says whether it may vote now."""

    @property
    def listens(self) -> bool:
        """As `Store.listens`."""

    def ear(
        self, token: str, *, within: float | None = None, heard: queue.SimpleQueue[Grant | None] | None = None
    ) -> Ear:
        """As `Store.ear()`; what it hears is put in there."""

    def close(self) -> None:
        """Close the connections that are idle."""
