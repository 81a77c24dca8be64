"""What the answers of several nodes mean together: decisions without I/O. An answer that did not come is `None`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from .. import majority
from .base import Answer, Held
from .nodes import Ballot, Cycle, SitsOut, Vote

if TYPE_CHECKING:
    from .base import Edge

T = TypeVar("T")

FRESH = 0.1
"""Seconds. Who has had votes for so short a time, and not from a majority, may be about to give them back."""


def verdict(answers: Sequence[Answer | None]) -> Answer:
    """What becomes of a release or a renewal: done by a majority, or impossible, or unknown."""
    nodes, done = len(answers), answers.count(Answer.DONE)
    if majority.is_met(done, nodes=nodes):
        return Answer.DONE
    unknown = answers.count(None) + answers.count(Answer.UNKNOWN)
    if majority.can_be_met(nodes - done - unknown, nodes=nodes):
        return Answer.UNKNOWN
    return next(answer for answer in (Answer.FORCED, Answer.ANOTHERS, Answer.GONE) if answer in answers)


def decided(replies: Sequence[Sequence[T] | None], is_decided: Callable[[Sequence[T]], bool]) -> bool:
    """Whether a majority has answered, and it is decided for each of the keys by what was answered about it."""
    told = [reply for reply in replies if reply is not None]
    return majority.is_met(len(told), nodes=len(replies)) and all(map(is_decided, zip(*told, strict=True)))


def done(replies: Sequence[Sequence[Answer] | None]) -> bool:
    """Whether a majority has done it for each of the keys."""
    return decided(replies, lambda answers: majority.is_met(answers.count(Answer.DONE), nodes=len(replies)))


def agreed(replies: Sequence[Sequence[Ballot] | None]) -> bool:
    """Whether a majority has voted for each of the keys, and no vote is with another fence."""

    def is_decided(ballots: Sequence[Ballot]) -> bool:
        fences = [vote.fence for vote in votes_of(ballots)]
        return majority.is_met(len(fences), nodes=len(replies)) and not majority.highest(fences)[1]

    return decided(replies, is_decided)


def answered(answers: Sequence[object]) -> int:
    """How many nodes have answered and may vote."""
    return sum(answer is not None and not isinstance(answer, SitsOut) for answer in answers)


def seen(answers: Sequence[T | None], *, absent: int) -> bool:
    """Whether what `absent` of the nodes do not know may be with a majority."""
    return majority.can_be_met(absent, nodes=len(answers))


def owner(looks: Sequence[Held | None], *, answered: int) -> Held | None:
    """Who holds a key, as most of those say who answered; nobody where a majority says so."""
    found = [held for held in looks if held is not None]
    if not found or not majority.can_be_met(answered - len(found), nodes=len(looks)):
        return None
    return most_common(found)


def most_common(found: Sequence[Held]) -> Held:
    """The owner whom most nodes name."""
    fences = Counter(held.fence for held in found)
    return max(found, key=lambda held: (fences[held.fence], held.waiters, held.fence))


def votes_of(ballots: Sequence[Ballot | None]) -> list[Vote]:
    """The votes."""
    return [ballot for ballot in ballots if isinstance(ballot, Vote)]


def refusal(ballots: Sequence[Ballot | None]) -> Held | tuple[Edge, ...] | None:
    """Why a candidate was not elected: who holds the key, or the cycle where a majority knows of this very one.

    Each node by itself may know of one that there is not: by a vote or a place in a line that was given up, which could
    not be told to it yet.
    """
    cycles = Counter(ballot.edges for ballot in ballots if isinstance(ballot, Cycle))
    for cycle, count in cycles.items():
        if majority.is_met(count, nodes=len(ballots)):
            return cycle
    held = refusing(ballots)
    return most_common(held) if held else None


def refusing(ballots: Sequence[Ballot | None]) -> list[Held]:
    """Who holds the key, as the nodes say that did not vote."""
    return [
        ballot.held if isinstance(ballot, Cycle) else ballot for ballot in ballots if isinstance(ballot, Held | Cycle)
    ]


def contested(ballots: Sequence[Ballot | None]) -> bool:
    """Whether those who were refused may have been candidates, each with some votes, none of them elected."""
    held = refusing(ballots)
    if not held:
        return False
    fences, holders = (Counter(names) for names in ([h.fence for h in held], [h.holder for h in held]))
    most = max(*fences.values(), *holders.values())
    if majority.is_met(most, nodes=len(ballots)):
        return False
    unknown = len(ballots) - answered(ballots)
    return not majority.is_met(most + unknown, nodes=len(ballots)) or min(h.held_for for h in held) < FRESH
