"""The arithmetic of a quorum: when a question to several independent servers is decided, and for how long it holds.

The algorithm is Redlock (https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/).
"""

from __future__ import annotations

from collections.abc import Iterable

from . import clock

LONGEST_PATIENCE = 0.25
"""Seconds for which one round of questions to all nodes is waited for at most."""


def needed(nodes: int) -> int:
    """How many of them are a majority: any two majorities have a node in common."""
    return nodes // 2 + 1


def is_met(yes: int, *, nodes: int) -> bool:
    """Whether so many are a majority."""
    return yes >= needed(nodes)


def can_be_met(no: int, *, nodes: int) -> bool:
    """Whether a majority is possible although so many have said no."""
    return is_met(nodes - no, nodes=nodes)


def validity(ttl: float, *, elapsed: float) -> float:
    """Seconds for which what a majority granted is still good: less the time that it took, and the drift of clocks."""
    return clock.safe_ttl(ttl) - elapsed


def patience(ttl: float) -> float:
    """Seconds for which one round of questions is waited for: a small share of the ttl."""
    return min(LONGEST_PATIENCE, ttl / 20)


def highest(fences: Iterable[int]) -> tuple[int, bool]:
    """The fence of a lease that these votes are for, and whether a second round has to raise them to it.

    The next majority has a node in common with this one. Where all of these count as high as the lease, it counts
    higher.
    """
    known = set(fences)
    return max(known), len(known) > 1
