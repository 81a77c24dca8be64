"""How a key is taken at several nodes: by the votes of a majority, and with a fence that no later majority misses.

A first round asks all nodes for their votes. Where a majority gives them, but not all with one fence, a second round
raises them to the highest: the lease counts only when a majority has heard of its fence, so that the next majority,
which has a node in common with this one, gives a higher one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .. import clock, majority
from ..keys import Key, about
from .base import Edge, Held
from .nodes import Asked, Ballot, Candidacy, Node, SitsOut, Vote
from .verdicts import agreed, contested, refusal, votes_of

if TYPE_CHECKING:
    from .panel import Panel, Replies

TRIES = 5
"""So often a key is asked for that others ask for at the same time, each getting some votes."""
PAUSE = 0.004
"""Seconds to the second of these tries at most; twice as many to the next."""
MARGIN = 2_000
"""Microseconds by which the fence that is hoped for is ahead of the nodes' clocks, for what is on its way longer."""

Outcome = int | Held | tuple[Edge, ...]
"""The fence, who holds the key, or the cycle that waiting for it would close."""


class Lot(NamedTuple):
    """What is asked for together."""

    token: str
    ttl: float
    holder: str
    channels: Sequence[str]
    """Of each node, where one waits for its vote; empty: one does not."""
    waits: bool = False
    """Whether the token may be in the lines of nodes by an earlier question."""
    meanwhile: Callable[[], object] | None = None


class Elections:
    """The elections that are held at these nodes."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._ahead = 0
        """Microseconds by which the furthest of the nodes' clocks is ahead of ours, when last heard of."""

    def hold(self, keys: Sequence[Key], lot: Lot) -> list[Outcome]:
        """Ask for all keys, again for those that nobody has got. Raises `QuorumNotReached`; then none is taken."""
        outcomes: dict[Key, Outcome] = {}
        rest, pause, began = keys, PAUSE, clock.now()
        try:
            for tries_left in reversed(range(TRIES)):
                found, rest = self._round(rest, lot)
                outcomes |= found
                if not rest or not tries_left or clock.now() - began > lot.ttl / 4:
                    break
                clock.sleep(random.uniform(0, pause))
                pause *= 2
            if majority.validity(lot.ttl, elapsed=clock.now() - began) <= 0:
                self._panel.fail("what was granted was over before all had answered", key=keys[0].name)
        except BaseException:
            self.withdraw(keys, lot)
            raise
        return [outcomes[key] for key in keys]

    def withdraw(self, keys: Sequence[Key], lot: Lot) -> None:
        """Give everything up, also where no answer came."""
        self._panel.ask_enough(
            lambda _, node: node.withdraw(keys, token=lot.token),
            within=majority.patience(lot.ttl),
            token=lot.token,
            instead=lambda node: node.settle(keys, token=lot.token),
        )

    def _round(self, keys: Sequence[Key], lot: Lot) -> tuple[dict[Key, Outcome], list[Key]]:
        """Ask once; gives what became of each key, and which of them are to be asked for again."""
        replies = self._ask(keys, lot)
        ballots = {key: self._panel.of(replies, index) for index, key in enumerate(keys)}
        elected = self._elected(ballots, lot)
        if elected and lot.waits:
            self._leave_lines(list(elected), ballots, lot)
        outcomes: dict[Key, Outcome] = {**elected}
        if len(elected) == len(keys):
            return outcomes, []
        self._panel.require(seats(replies), about(keys), key=keys[0].name, also=absence(replies))
        refused = [key for key in keys if key not in elected]
        self._return(refused, ballots, lot)
        for key in refused:
            answer = refusal(ballots[key])
            if answer is None:
                self._panel.fail("its votes were lost before they could be counted", key=key.name)
            outcomes[key] = answer
        return outcomes, [key for key in refused if contested(ballots[key])]

    def _ask(self, keys: Sequence[Key], lot: Lot) -> Replies[list[Ballot]]:
        """The first round; asked again at once when a node is found to have sat out without need."""
        replies = self._ask_once(keys, lot)
        return self._ask_once(keys, lot) if self._panel.plead(replies) else replies

    def _ask_once(self, keys: Sequence[Key], lot: Lot) -> Replies[list[Ballot]]:
        now = round(clock.now() * 1e6)
        candidacy = Candidacy(lot.token, lot.ttl, lot.holder, now + self._ahead + MARGIN)

        def start(number: int, node: Node) -> Asked[list[Ballot]]:
            return node.vote(keys, candidacy=candidacy, channel=lot.channels[number] if lot.channels else "")

        replies = self._panel.ask_enough(
            start,
            within=majority.patience(lot.ttl),
            token=lot.token,
            enough=None if lot.waits else agreed,  # it may be in a line that it has to leave
            meanwhile=lot.meanwhile,
        )
        told = [ballot.asked for reply in replies if reply for ballot in reply if isinstance(ballot, Vote)]
        if told:
            self._ahead = max(told) - now
        return replies

    def _elected(self, ballots: dict[Key, list[Ballot | None]], lot: Lot) -> dict[Key, int]:
        """The keys with the votes of a majority, and the fence of each, which a majority has heard of in time."""
        found: dict[Key, int] = {}
        differ: list[tuple[Key, int]] = []
        for key, counted in ballots.items():
            fences = [vote.fence for vote in votes_of(counted)]
            if majority.is_met(len(fences), nodes=len(counted)):
                fence, is_to_raise = majority.highest(fences)
                if is_to_raise:
                    differ.append((key, fence))
                else:
                    found[key] = fence
        if differ:
            replies = self._panel.ask_enough(
                lambda _, node: node.raise_fences(differ, token=lot.token),
                within=majority.patience(lot.ttl),
                token=lot.token,
            )
            for index, (key, fence) in enumerate(differ):
                raised = sum(bool(answer) for answer in self._panel.of(replies, index))
                if majority.is_met(raised, nodes=len(self._panel.nodes)):
                    found[key] = fence
        return found

    def _leave_lines(self, keys: Sequence[Key], ballots: dict[Key, list[Ballot | None]], lot: Lot) -> None:
        """Wait no more for what was got where the vote is another's, or the question did not arrive.

        What stays there reads as if the owner waited for its own key: a part of a cycle that there is not.
        """
        lines: dict[int, list[Key]] = {}
        for number, node in enumerate(self._panel.nodes):
            lost = [key for key in keys if not isinstance(ballots[key][number], Vote)]
            lines[number] = [key for key in lost if ballots[key][number] is not None]
            if unasked := [key for key in lost if ballots[key][number] is None]:
                node.settle(unasked, token=lot.token)
        self._withdraw_at(lines, lot)

    def _return(self, keys: Sequence[Key], ballots: dict[Key, list[Ballot | None]], lot: Lot) -> None:
        """Give the votes back that are not enough. The place in the lines of the other nodes is kept."""
        won = {
            number: [key for key in keys if isinstance(ballots[key][number], Vote)]
            for number in range(len(self._panel.nodes))
        }
        self._withdraw_at(won, lot)

    def _withdraw_at(self, keys: dict[int, list[Key]], lot: Lot) -> None:
        """Give up what is said for each node."""
        if any(keys.values()):
            self._panel.ask(
                lambda number, node: node.withdraw(keys[number], token=lot.token) if keys[number] else None,
                within=majority.patience(lot.ttl),
                token=lot.token,
            )


def seats(replies: Replies[list[Ballot]]) -> Replies[Ballot]:
    """What the nodes say of themselves: one that sits out does so for each key."""
    return replies.map(lambda reply: reply[0])


def absence(replies: Replies[list[Ballot]]) -> str:
    """Which nodes sit out, for people."""
    left = [reply.left for reply in seats(replies) if isinstance(reply, SitsOut)]
    return f"{len(left)} came back without data and sit out for {max(left):.1f} s more" if left else ""
