"""What happened while many wanted one lock: hand-overs, shares, rates. All instants are of one clock, in ns.

`CLOCK_MONOTONIC` is the same for all processes of a Linux machine, so their instants can be put in one order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

Times = Sequence[tuple[int, int]]
"""Of one contender: when `acquire` had returned, and when `release` was called."""


@dataclass(frozen=True, slots=True, order=True)
class Had:
    """One contender had the lock once."""

    acquired: int
    released: int
    who: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What the contenders did within a window."""

    begin: int
    end: int
    contenders: Sequence[Times]

    def had(self) -> list[Had]:
        """All acquisitions within the window in their order. Raises `AssertionError` if two had the lock at once."""
        everything = sorted(Had(*times, who) for who, own in enumerate(self.contenders) for times in own)
        for before, after in pairwise(everything):
            assert before.released < after.acquired, f"Two had the lock at once: {before}, {after}"
        return [had for had in everything if self.begin <= had.acquired < self.end]

    def hand_overs(self) -> list[float]:
        """Microseconds from the call of `release` to the return of another contender's `acquire`."""
        return [(after.acquired - before.released) / 1e3 for before, after in self.changes()]

    def changes(self) -> Iterator[tuple[Had, Had]]:
        """The successive acquisitions by different contenders."""
        return ((before, after) for before, after in pairwise(self.had()) if before.who != after.who)

    def came_back(self) -> float:
        """The share of acquisitions by who had it just before, in per cent."""
        successions = len(self.had()) - 1
        return 100 * (1 - sum(1 for _ in self.changes()) / successions) if successions > 0 else 0.0

    def rate(self) -> float:
        """Acquisitions per second."""
        return len(self.had()) / (self.end - self.begin) * 1e9

    def shares(self) -> list[int]:
        """How often each contender had it."""
        counts = [0] * len(self.contenders)
        for had in self.had():
            counts[had.who] += 1
        return counts

    def through(self, released: int) -> float:
        """Milliseconds from a release until the last one that waited had the lock."""
        return (max(times[-1][0] for times in self.contenders) - released) / 1e6


def jain(shares: Sequence[int]) -> float:
    """Jain's index of fairness: 1 when all have the same, 1/n when one has everything."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0
