"""The identity of the thing locked, as text, and how a primary key is spelt in it."""

from __future__ import annotations

import datetime
import decimal
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

BUCKETS = 64
"""All that belongs to one lock lives in one of so many buckets. A constant of the protocol: two processes
that disagree about it do not exclude each other."""


MOST_DIGITS = 4300
"""Of a number in a key: Python's own bound for writing out an integer."""


@dataclass(frozen=True, slots=True)
class Key:
    """What is locked: a row (`bank.Account:42`) or a plain name (`nightly-import`)."""

    name: str
    """The text that identifies it."""

    def __str__(self) -> str:
        return self.name


def about(keys: Sequence[Key]) -> str:
    """The keys, for people."""
    return f"{keys[0]} and {len(keys) - 1} more" if len(keys) > 1 else str(keys[0])


def bucket_of(name: str) -> int:
    """The bucket that a name falls in."""
    return zlib.crc32(name.encode()) % BUCKETS


def row_key(label: str, parts: tuple[Any, ...]) -> str:
    """The name of a row: model label, colon, primary key; the fields of a composite one joined by commas.

    Commas and percent signs inside a field of a composite key are escaped, so that no two keys share a name.
    """
    if len(parts) == 1:
        return f"{label}:{spell(parts[0])}"
    escaped = (spell(part).replace("%", "%25").replace(",", "%2C") for part in parts)
    return f"{label}:{','.join(escaped)}"


def spell(value: Any) -> str:
    """One spelling for all equal values of a primary key field.

    Raises `ValueError` for a number that is too long to be written out.
    """
    match value:
        case str():
            return str.__str__(value)  # not the str() of an enum member
        case decimal.Decimal():
            if abs(value.adjusted()) > MOST_DIGITS:
                raise ValueError("it has too many digits")
            return plain(format(value, "f"))
        case float():
            return str(value + 0.0)  # takes the sign off -0.0
        case datetime.datetime() if value.tzinfo is not None:
            return value.astimezone(datetime.UTC).isoformat()
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
    return str(value)


def plain(digits: str) -> str:
    """A decimal number without what does not count: 1.00 is 1, and -0.0 is 0."""
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return "0" if digits == "-0" else digits
