"""Calls as bytes: what stays the same of them from call to call is encoded once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property, lru_cache
from itertools import chain

Args = tuple[str | int, ...]

PING = b"*1\r\n$4\r\nPING\r\n"
"""What does nothing, and is answered after all that was asked before."""


class Keys(tuple[str, ...]):
    """The keys of a call. Those that are kept for the next call have their bytes with them."""

    @cached_property
    def packed(self) -> bytes:
        """Their number, and they themselves."""
        return word(len(self)) + b"".join(map(key, self))

    @cached_property
    def beginnings(self) -> dict[tuple[bytes, int], bytes]:
        """What calls on them begin with, by the command and the length of what comes next."""
        return {}


def packed(command: bytes, keys: Keys, args: Args) -> list[bytes]:
    """The command on these keys; the first argument is new each time. As redis-py's connections send it."""
    if not args:
        return [b"*%d\r\n%b%b" % (3 + len(keys), command, keys.packed)]
    first = str(args[0]).encode()
    kind = (command, len(first))
    beginning = keys.beginnings.get(kind)
    if beginning is None:
        beginning = b"*%d\r\n%b%b$%d\r\n" % (3 + len(keys) + len(args), command, keys.packed, len(first))
        keys.beginnings[kind] = beginning
    return [b"%b%b\r\n%b" % (beginning, first, usual(args[1:]))]


def joined(commands: Iterable[list[bytes]]) -> list[bytes]:
    """Commands that are sent together."""
    return [b"".join(chain.from_iterable(commands))]


def word(value: str | int) -> bytes:
    """One word of a command. Names are in UTF-8, whatever encoding the cache has for its values."""
    data = value.encode() if isinstance(value, str) else b"%d" % value
    return b"$%d\r\n%b\r\n" % (len(data), data)


@lru_cache(maxsize=8192)
def key(name: str) -> bytes:
    """As `word()`, for one that comes again."""
    return word(name)


@lru_cache(maxsize=1024)
def usual(args: Args) -> bytes:
    """As `word()` for each, for such as come together again."""
    return b"".join(map(word, args))
