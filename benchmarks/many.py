"""Several locks at once, nobody else wanting them: beside one, and beside as many one after the other."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

from django_redislock import lock, lock_many

from . import measure
from .contenders import RAW, of_redis
from .measure import Block, Contender
from .pair import count_trips
from .report import Column, Report, Row, Target

BLOCKS = {10: 200, 100: 60, 1000: 8}
"""How many locks at once, and for how many blocks they are compared."""
LIMITS = {10: 1.5, 100: 3.0}
"""How many times as long as a raw pair so many may take."""
PAIRS = 5
"""Of each contender in a block."""

COLUMNS = (
    Column("p50", "p50\nus", ".0f"),
    Column("p99", "p99\nus", ".0f"),
    Column("cpu", "CPU\nus", ".0f"),
    Column("round_trips", "Redis\ntrips", "g"),
    Column("ratio", "x raw\npair", ".2f"),
    Column("each_ratio", "x one by\none", ".3f"),
)
NOTES = (
    "Raw pair: SET NX PX and a compare-and-delete of one key. One by one: nested, released in reverse order.",
    "Ratios: the median over the blocks of the ratio of their medians.",
)


def run(arguments: argparse.Namespace) -> Report:
    """Measure all sizes, each with a raw pair beside it."""
    rows: dict[str, Row] = {}
    for size, blocks in {10: 2}.items() if arguments.quick else BLOCKS.items():
        rows |= {name: row for name, row in compare(size, blocks).items() if name not in rows}
    return Report(columns=COLUMNS, rows=rows, targets=list(targets(rows)), notes=list(NOTES))


def compare(size: int, blocks: int) -> dict[str, Row]:
    """All ways to take so many."""
    contenders = [of_redis()[0], *of_many(size)]
    trips = {contender.name: count_trips(contender) for contender in contenders}
    measured = measure.interleaved(contenders, rounds=blocks, pairs=PAIRS)
    return {name: make_row(measured, name, size) | counted for name, counted in trips.items()}


def of_many(size: int) -> list[Contender]:
    """At once, and one by one."""
    names = [f"many-{number:04}" for number in range(size)]

    def at_once(number: int) -> None:
        with lock_many(names):
            pass

    def one_by_one(number: int) -> None:
        with ExitStack() as stack:
            for name in names:
                stack.enter_context(lock(name))

    return [Contender(name=at_once_of(size), pair=at_once), Contender(name=one_by_one_of(size), pair=one_by_one)]


def at_once_of(size: int) -> str:
    """The name of a row."""
    return f"lock_many(), {size} names"


def one_by_one_of(size: int) -> str:
    """The name of a row."""
    return f'{size} x lock("name")'


def make_row(blocks: Sequence[Block], name: str, size: int) -> Row:
    """The figures of one contender."""
    return {
        "p50": measure.p50(blocks, name),
        "p99": measure.p99(blocks, name),
        "cpu": measure.cpu(blocks, name),
        "ratio": measure.ratio(blocks, name, RAW),
        "each_ratio": None if name == RAW else measure.ratio(blocks, name, one_by_one_of(size)),
    }


def targets(rows: Mapping[str, Row]) -> Iterator[Target]:
    """What is to be reached, as far as it was measured."""
    for size, limit in LIMITS.items():
        if row := rows.get(at_once_of(size)):
            yield Target(f"{at_once_of(size)}, x raw pair", row["ratio"], limit, ".2f")
