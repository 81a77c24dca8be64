"""Locks in several independent stores: what a majority of them says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from .. import majority
from .base import Answer, Blocked, Edge, Held, Renewal, Taken, TakenMany, Way
from .election import Elections, Lot, Outcome, about
from .panel import Panel, Replies
from .quorumear import BETWEEN, QuorumEar
from .verdicts import answered, owner, verdict

if TYPE_CHECKING:
    from ..keys import Key
    from .nodes import Node

T = TypeVar("T")

PATIENCE = majority.LONGEST_PATIENCE


class QuorumStore:
    """A `Store` made of stores. A node that comes back empty sits out for `guard` seconds, so no ttl may be longer.

    Raises `QuorumNotReached` when too few nodes could be asked, and `ValueError` for a ttl that is too long.
    """

    def __init__(self, nodes: Sequence[Node], *, scope: str, guard: float) -> None:
        self.scope = scope
        self.nodes = nodes
        self._guard = guard
        self.panel = Panel(nodes)
        """By which all nodes are asked at once."""
        self._elections = Elections(self.panel)

    def close(self) -> None:
        """Close the connections that are idle; what comes later opens new ones."""
        for node in self.nodes:
            node.close()

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
        """As `Store.acquire()`. Who waits is told that it is time to ask again."""
        lot = self._lot(token, ttl, holder, channel)._replace(meanwhile=meanwhile)
        (outcome,) = self._elections.hold([key], lot)
        return Taken(outcome) if isinstance(outcome, int) else outcome

    def leave(self, key: Key, *, token: str) -> None:
        """Wait no more, and give up what was got in the meantime."""
        self.leave_many([key], token=token)

    def acquire_many(
        self, keys: Sequence[Key], *, token: str, ttl: float, holder: str, way: Way, limit: int, channel: str = ""
    ) -> TakenMany | Blocked | tuple[Edge, ...]:
        """As `Store.acquire_many()`."""
        lot = self._lot(token, ttl, holder, "")
        outcomes = self._elections.hold(keys, lot)
        chosen, refused = choose(outcomes, way=way, limit=limit)
        spare = [key for key, outcome, one in zip(keys, outcomes, chosen, strict=True) if fence_of(outcome) and not one]
        if spare:
            self._elections.withdraw(spare, lot)
        if not refused:
            return TakenMany(tuple(map(fence_of, chosen)))
        blocked = [(keys[index], outcomes[index]) for index in refused]
        if channel:
            first = blocked[0][0]
            (outcome,) = self._elections.hold([first], self._lot(token, ttl, holder, channel))
            if fence_of(outcome):  # it is ours since: what comes after it is to be asked for
                return self.acquire_many(
                    keys, token=token, ttl=ttl, holder=holder, way=way, limit=limit, channel=channel
                )
            blocked[0] = first, outcome
        if isinstance(blocked[0][1], tuple):
            return blocked[0][1]
        return Blocked(tuple((key, held) for key, held in blocked if isinstance(held, Held)))

    def leave_many(self, keys: Sequence[Key], *, token: str) -> None:
        """Wait for none of them any more, and give back those that the token holds."""
        replies = self.panel.ask_enough(
            lambda _, node: node.withdraw(keys, token=token),
            within=PATIENCE,
            instead=lambda node: node.settle(keys, token=token),
        )
        self._require(replies, keys)

    def release_many(self, keys: Sequence[Key], *, token: str) -> list[Answer]:
        """Give the keys back that `token` holds; an answer for each."""
        replies = self.panel.ask_enough(
            lambda _, node: node.give_back(keys, token=token),
            within=PATIENCE,
            instead=lambda node: node.settle(keys, token=token),
        )
        answers = [verdict(self.panel.of(replies, index)) for index in range(len(keys))]
        if Answer.UNKNOWN in answers:
            self._require(replies, keys)
            self.panel.fail(f"whether {about(keys)} was given back in time is not known", key=keys[0].name)
        return answers

    @property
    def listens(self) -> bool:
        """Whether this process listens already at most nodes, so that an ear costs nothing."""
        return majority.is_met(sum(node.listens for node in self.nodes), nodes=len(self.nodes))

    def ear(self, token: str, *, within: float | None = None) -> QuorumEar:
        """An ear for a waiter, which has so many seconds left."""
        return QuorumEar(self.nodes, token, within=within)

    def force(self, key: Key, *, fence: int | None = None) -> Held | None:
        """As `Store.force()`."""
        replies = self.panel.ask(lambda _, node: node.take_away(key, fence=fence), within=PATIENCE)
        self._require(replies, [key])
        return owner(self.panel.of(replies, 0), answered=answered(replies))

    def release(self, key: Key, *, token: str) -> Answer:
        """Give the key back if `token` holds it."""
        return self.release_many([key], token=token)[0]

    def renew(self, key: Key, *, token: str, ttl: float) -> Answer:
        """Keep the key for `ttl` seconds from now if `token` holds it."""
        self._check(ttl)
        replies = self.panel.ask_enough(
            lambda _, node: node.keep(key, token=token, ttl=ttl), within=majority.patience(ttl)
        )
        answer = verdict(self.panel.of(replies, 0))
        if answer is Answer.UNKNOWN:
            self._require(replies, [key])
            self.panel.fail(f"too few nodes could be asked to renew {key}", key=key.name)
        return answer

    def renew_many(self, renewals: Sequence[Renewal], *, within: float) -> list[Answer]:
        """As `Store.renew_many()`; `Answer.UNKNOWN` for a lease of which too few nodes could say."""
        portions = self.panel.ask(lambda _, node: node.prolong(renewals), within=min(within, PATIENCE))
        replies = portions.map(lambda answers: list(chain.from_iterable(answers)))
        answers = [verdict(self.panel.of(replies, index)) for index in range(len(renewals))]
        if all(answer is Answer.UNKNOWN for answer in answers):
            self._require(replies, [renewal.key for renewal in renewals])
        return answers

    def inspect(self, key: Key) -> Held | None:
        """Say who holds the key, if anyone does."""
        return self.inspect_many([key])[0]

    def inspect_many(self, keys: Sequence[Key]) -> list[Held | None]:
        """Say who holds each of the keys."""
        replies = self.panel.ask_enough(lambda _, node: node.look(keys), within=PATIENCE)
        self._require(replies, keys)
        return [owner(self.panel.of(replies, index), answered=answered(replies)) for index in range(len(keys))]

    def _lot(self, token: str, ttl: float, holder: str, channel: str) -> Lot:
        self._check(ttl)
        return Lot(token, ttl, holder, channel.split(BETWEEN) if channel else ())

    def _check(self, ttl: float) -> None:
        if ttl > self._guard:
            raise ValueError(
                f"ttl={ttl:g} is longer than a node sits out that comes back without its data: {self._guard:g} s. "
                f"Raise GUARD in REDISLOCK, for all processes alike, or take a shorter ttl, which is renewed."
            )

    def _require(self, replies: Replies[T], keys: Sequence[Key]) -> None:
        self.panel.require(replies, about(keys), key=keys[0].name)


def fence_of(outcome: Outcome | None) -> int:
    """The fence of what was got; 0 for what was not."""
    return outcome if isinstance(outcome, int) else 0


def choose(outcomes: Sequence[Outcome], *, way: Way, limit: int) -> tuple[list[int | None], list[int]]:
    """For each key the fence if it is kept, and the places of those that stand in the way of the rest."""
    refused = [index for index, outcome in enumerate(outcomes) if not isinstance(outcome, int)]
    if way is Way.FREE:
        kept = [index for index, outcome in enumerate(outcomes) if isinstance(outcome, int)][:limit]
        refused = []
    elif way is Way.LINE and refused:
        kept, refused = list(range(refused[0])), refused[:1]
    else:
        kept = [] if refused else list(range(len(outcomes)))
    return [fence_of(outcome) if index in kept else None for index, outcome in enumerate(outcomes)], refused
