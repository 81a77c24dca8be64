"""Calls as bytes: what stays the same of them from call to call is encoded once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from itertools import chain

Word = str | int


class Keys(tuple[str, ...]):
    """The keys of a call. Those that are kept for the next call have their bytes with them."""

    @cached_property
    def packed(self) -> bytes:
        """Their number, and they themselves."""
        return b"".join(map(known, (len(self), *self)))


def packed(command: bytes, keys: Keys, args: Sequence[Word]) -> list[bytes]:
    """The command on these keys; the first argument is new each time. As redis-py's connections send it."""
    first = b"".join(map(word, args[:1]))
    number = 3 + len(keys) + len(args)
    return [b"".join((b"*%d\r\n" % number, command, keys.packed, first, *map(known, args[1:])))]


def joined(commands: Iterable[list[bytes]]) -> list[bytes]:
    """Commands that are sent together."""
    return [b"".join(chain.from_iterable(commands))]


def word(value: Word) -> bytes:
    """One word of a command. Names are in UTF-8, whatever encoding the cache has for its values."""
    data = value.encode() if isinstance(value, str) else b"%d" % value
    return b"$%d\r\n%b\r\n" % (len(data), data)


known = lru_cache(maxsize=8192)(word)
"""As `word()`, for one that comes again."""
