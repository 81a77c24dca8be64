"""Words and tables for a terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from ..naming import label_of
from ..stores.listing import Listed, Waiter

UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def spell_seconds(seconds: float) -> str:
    """A duration as short as can be read: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `4 d 1 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, name, smaller, smaller_name in UNITS:
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // smaller} {smaller_name}"
    return f"{whole} s"


def plain(text: str) -> str:
    """Text without characters that would move the cursor or change colours: names may hold anything."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines with columns under each other; the last column is as wide as it is."""
    lines = [list(head), *(list(map(plain, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def describe(lock: Listed) -> dict[str, Any]:
    """A lock in plain values, as `--format json` gives it."""
    return {
        "alias": lock.alias,
        "key": lock.name,
        "model": label_of(lock.name) or None,
        "holder": dataclasses.asdict(lock.holder),
        "since": datetime.fromtimestamp(lock.since, UTC).isoformat(),
        "held_for": round(lock.held_for, 3),
        "remaining": round(lock.remaining, 3),
        "fence": lock.fence,
        "waiters": lock.waiters,
    }


def describe_waiter(waiter: Waiter) -> dict[str, Any]:
    """Somebody in a queue, in plain values."""
    return {"holder": dataclasses.asdict(waiter.holder), "waits_for": round(waiter.waits_for, 3)}
