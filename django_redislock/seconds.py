"""Durations that users pass: a number of seconds or a `timedelta`, within bounds."""

from __future__ import annotations

import datetime
import math
from typing import Any

Seconds = float | int | datetime.timedelta

SHORTEST_TTL = 0.01
LONGEST_TTL = 1e12
"""Seconds. Longer ones leave the range in which Redis and Lua count milliseconds exactly."""


def read_seconds(value: Any) -> float:
    """A number or a `timedelta`, as seconds."""
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"seconds are a number or a timedelta, not {value!r}.")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if math.isnan(seconds):
        raise ValueError("seconds are a number, not NaN.")
    return seconds


def read_ttl(value: Any) -> float:
    """How long the server keeps a lease."""
    if value is None:
        raise TypeError("ttl is a number of seconds; a lock that never expires outlives a crash of its holder.")
    seconds = read_seconds(value)
    if not SHORTEST_TTL <= seconds <= LONGEST_TTL:
        raise ValueError(f"ttl must be between {SHORTEST_TTL:g} and {LONGEST_TTL:g} seconds, not {seconds:g}.")
    return seconds


def read_wait(value: Any) -> float | None:
    """How long acquiring may take."""
    if value is None:
        return None
    seconds = read_seconds(value)
    if seconds < 0 or math.isinf(seconds):
        raise ValueError(f"wait must be 0 or more seconds, or None for ever, not {seconds:g}.")
    return seconds


def read_max_hold(value: Any) -> float | None:
    """How long a lease is renewed before it is let go."""
    if value is None:
        return None
    seconds = read_seconds(value)
    if not seconds > 0 or math.isinf(seconds):
        raise ValueError(f"max_hold must be more than 0 seconds, or None for ever, not {seconds:g}.")
    return seconds
