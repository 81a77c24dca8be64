"""How to compare: all take short turns in one run, and the figures of a turn are compared within its block.

A machine that is slower for a while is slower for all of a block alike, so ratios within blocks stay what they are.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

WARM_UP = 3
"""Pairs before each turn that are not measured: they bring the code back into the processor's caches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to lock and unlock."""

    name: str
    pair: Callable[[int], None]
    """Locks and unlocks once; the number, which counts up, chooses the key."""
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    """What is to be entered around a turn; it is not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one contender needed for its pairs of one block, in nanoseconds."""

    times: Sequence[int]
    """Duration of each pair."""
    cpu: int
    """Processor time of this process, user and system, for all of them together."""


Block = Mapping[str, Turn]


def interleaved(contenders: Sequence[Contender], *, rounds: int, pairs: int) -> list[Block]:
    """Let all take a turn of `pairs` in each of `rounds` blocks, in random order."""
    return [
        {contender.name: take_turn(contender, pairs) for contender in random.sample(contenders, len(contenders))}
        for _ in range(rounds)
    ]


def take_turn(contender: Contender, pairs: int) -> Turn:
    """Run and time `pairs` of one contender."""
    pair, clock, times = contender.pair, time.perf_counter_ns, []
    with contender.around():
        for number in range(WARM_UP):
            pair(number)
        cpu = time.process_time_ns()
        for number in range(pairs):
            start = clock()
            pair(number)
            times.append(clock() - start)
        cpu = time.process_time_ns() - cpu
    return Turn(times=times, cpu=cpu)


def p50(blocks: Sequence[Block], name: str) -> float:
    """Half of all pairs took at most so many microseconds."""
    return statistics.median(all_times(blocks, name)) / 1e3


def p99(blocks: Sequence[Block], name: str) -> float:
    """99 % of all pairs took at most so many microseconds."""
    return statistics.quantiles(all_times(blocks, name), n=100, method="inclusive")[98] / 1e3


def cpu(blocks: Sequence[Block], name: str) -> float:
    """Microseconds of processor time per pair, on average."""
    return sum(block[name].cpu for block in blocks) / len(all_times(blocks, name)) / 1e3


def ratio(blocks: Sequence[Block], name: str, base: str) -> float:
    """How many times as long as `base` it takes: the median over the blocks of the ratio of their medians."""
    return statistics.median(
        statistics.median(block[name].times) / statistics.median(block[base].times) for block in blocks
    )


def all_times(blocks: Sequence[Block], name: str) -> list[int]:
    """The durations of all blocks."""
    return list(chain.from_iterable(block[name].times for block in blocks))


def median_of(figures: Iterable[float | None]) -> float | None:
    """The median of those that there are."""
    known = [figure for figure in figures if figure is not None]
    return statistics.median(known) if known else None
