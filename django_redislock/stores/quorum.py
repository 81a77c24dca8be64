"""Locks in several independent stores: what a majority of them says."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from .. import majority
from ..keys import Key, about
from .base import Answer, Blocked, Edge, Held, Renewal, Taken, TakenMany, Way
from .election import Elections, Lot, Outcome
from .panel import Panel, Replies
from .quorumear import BETWEEN, QuorumEar
from .twins import InThreads, twin_of
from .verdicts import answered, done, owner, verdict

if TYPE_CHECKING:
    from .nodes import Node

T = TypeVar("T")

MOST_WAITING = 10_000
"""Tokens that wait for several keys of which it is remembered how far they have come."""

PATIENCE = majority.LONGEST_PATIENCE


class Reached(OrderedDict[str, int]):
    """How many of its keys a token that waits may have; those that do not come back are forgotten."""

    def __setitem__(self, token: str, count: int) -> None:
        super().__setitem__(token, count)
        if len(self) > MOST_WAITING:
            self.popitem(last=False)


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
        self._reached = Reached()
        self._ears: WeakValueDictionary[str, QuorumEar] = WeakValueDictionary()
        """Those of tokens that wait, or have waited."""

    @property
    def whole(self) -> QuorumStore:
        """As `Store.whole`."""
        return self

    @property
    def server(self) -> Any:
        """As `Store.server`."""
        return self

    @property
    def twin(self) -> Any:
        """As `Store.twin`."""
        return twin_of(self, InThreads)

    def part(self, key: Key) -> QuorumStore:
        """As `Store.part()`."""
        return self

    def close(self) -> None:
        """Close the connections that are idle; what comes later opens new ones."""
        self.panel.hear_all()
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
        lot = self._lot(token, ttl, holder, channel, meanwhile=meanwhile)
        (outcome,) = self._elections.hold([key], lot)
        return Taken(outcome) if isinstance(outcome, int) else outcome

    def leave(self, key: Key, *, token: str) -> None:
        """Wait no more, and give up what was got in the meantime."""
        self.leave_many([key], token=token)

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
        """As `Store.acquire_many()`."""
        lot = self._lot(token, ttl, holder, "", meanwhile=meanwhile)
        if way is Way.LINE:
            return self._stand_in_lines(keys, lot, self._lot(token, ttl, holder, channel))
        outcomes = self._elections.hold(keys, lot)
        won = [index for index, outcome in enumerate(outcomes) if fence_of(outcome)]
        if way is Way.FREE:
            self._give_up([keys[index] for index in won[limit:]], lot)
            return TakenMany(tuple(fence_of(one) * (index in won[:limit]) for index, one in enumerate(outcomes)))
        if len(won) == len(keys):
            return TakenMany(tuple(map(fence_of, outcomes)))
        self._give_up([keys[index] for index in won], lot)
        return refused(keys, outcomes)

    def _stand_in_lines(self, keys: Sequence[Key], lot: Lot, waiting: Lot) -> TakenMany | Blocked | tuple[Edge, ...]:
        """Take the keys up to the first that is somebody's, and wait there. What lies beyond is not tried again.

        While it waits it would else have what it does not get for a moment, again and again.
        """
        reach = self._reached.pop(lot.token, len(keys))
        while True:
            outcomes = self._elections.hold(keys[:reach], lot)
            first = next((index for index, outcome in enumerate(outcomes) if not fence_of(outcome)), None)
            if first is None:
                if reach == len(keys):
                    return TakenMany(tuple(map(fence_of, outcomes)))
                reach = len(keys)
                continue
            beyond = zip(keys[first:reach], outcomes[first:], strict=True)
            self._give_up([key for key, outcome in beyond if fence_of(outcome)], lot)
            if waiting.channels:
                outcomes[first : first + 1] = self._elections.hold([keys[first]], waiting)
            if not fence_of(outcomes[first]):
                self._reached[lot.token] = first + 1
                return refused(keys[first : first + 1], outcomes[first : first + 1])

    def _give_up(self, keys: Sequence[Key], lot: Lot) -> None:
        if keys:
            self._elections.withdraw(keys, lot)

    def leave_many(self, keys: Sequence[Key], *, token: str) -> None:
        """Wait for none of them any more, and give back those that the token holds."""
        self._reached.pop(token, None)
        replies = self.panel.ask_enough(
            lambda _, node: node.withdraw(keys, token=token),
            within=PATIENCE,
            token=token,
            instead=lambda node: node.settle(keys, token=token),
        )
        self._require(replies, keys)

    def release_many(self, keys: Sequence[Key], *, token: str, ttl: float) -> list[Answer]:
        """Give the keys back that `token` holds; an answer for each."""
        replies = self.panel.ask_enough(
            lambda _, node: node.give_back(keys, token=token, ttl=ttl),
            within=PATIENCE,
            token=token,
            enough=done,
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
        return majority.is_met([node.listens for node in self.nodes].count(True), nodes=len(self.nodes))

    def ear(self, token: str, *, within: float | None = None) -> QuorumEar:
        """An ear for a waiter, which has so many seconds left."""
        ear = self._ears[token] = QuorumEar(self.nodes, token, within=within)
        return ear

    def force(self, key: Key, *, token: str, ttl: float, fence: int | None = None) -> Held | None:
        """As `Store.force()`."""
        take_away = lambda _, node: node.take_away(key, token=token, ttl=ttl, fence=fence)
        replies = self.panel.ask(take_away, within=PATIENCE)
        self._require(replies, [key])
        return owner(self.panel.of(replies, 0), answered=answered(replies))

    def release(self, key: Key, *, token: str, ttl: float) -> Answer:
        """Give the key back if `token` holds it."""
        return self.release_many([key], token=token, ttl=ttl)[0]

    def renew(self, key: Key, *, token: str, ttl: float) -> Answer:
        """Keep the key for `ttl` seconds from now if `token` holds it."""
        self._check(ttl)
        replies = self.panel.ask_enough(
            lambda _, node: node.keep(key, token=token, ttl=ttl), within=majority.patience(ttl), token=token
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

    def follow(self, key: Key, *, flow: str) -> tuple[Edge, ...]:
        """As `Store.follow()`, but it sees none: no node by itself knows who waits."""
        return ()

    def inspect_many(self, keys: Sequence[Key]) -> list[Held | None]:
        """Say who holds each of the keys."""
        replies = self.panel.ask_enough(lambda _, node: node.look(keys), within=PATIENCE)
        self._require(replies, keys)
        return [owner(self.panel.of(replies, index), answered=answered(replies)) for index in range(len(keys))]

    def _lot(
        self, token: str, ttl: float, holder: str, channel: str, *, meanwhile: Callable[[], object] | None = None
    ) -> Lot:
        self._check(ttl)
        return Lot(token, ttl, holder, channel.split(BETWEEN) if channel else (), token in self._ears, meanwhile)

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


def refused(keys: Sequence[Key], outcomes: Sequence[Outcome]) -> Blocked | tuple[Edge, ...]:
    """What stands in the way: the cycle that waiting would close, or who holds which of the keys."""
    for outcome in outcomes:
        if isinstance(outcome, tuple):
            return outcome
    return Blocked(tuple((key, one) for key, one in zip(keys, outcomes, strict=True) if isinstance(one, Held)))
