"""What to send to Redis and how to read the answer: pure functions, without I/O, for sync and async alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from ..holder import decode
from ..keys import bucket_of
from . import scripts
from .base import Answer, Held, Taken

if TYPE_CHECKING:
    from ..keys import Key

ACQUIRE, RELEASE, RENEW, INSPECT = map(scripts.load, ("acquire", "release", "renew", "inspect"))

RELEASE_NOTE_MS = 10_000
"""How long a release is remembered for the case that its reply is lost and the client sends it again: twice
redis-py's default `socket_timeout`."""

ANSWERS = {1: Answer.DONE, 0: Answer.GONE, -1: Answer.ANOTHERS}


T = TypeVar("T")


class Call(NamedTuple, Generic[T]):
    """One script call and the function that reads its reply."""

    script: scripts.Script
    keys: tuple[str, ...]
    args: tuple[str | int, ...]
    read: Callable[[Any], T]


class Names(NamedTuple):
    """The names in Redis of what belongs to one lock; all have the bucket's hash tag, so they share a slot."""

    bucket: str
    lock: str
    held: str
    fence: str


@lru_cache(maxsize=1024)
def names_of(prefix: str, name: str) -> Names:
    """The names below a prefix (the cache's `KEY_PREFIX`, or nothing)."""
    root = f"{prefix}:redislock" if prefix else "redislock"
    bucket = f"{root}:{{{bucket_of(name)}}}"
    return Names(bucket=bucket, lock=f"{bucket}:lock:{name}", held=f"{bucket}:held", fence=f"{bucket}:fence")


class Verbs:
    """The calls of the protocol for the locks below one prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def acquire(self, key: Key, *, token: str, ttl: float, holder: str) -> Call[Taken | Held]:
        """Take the key, or learn who holds it."""
        _, lock, held, fence = names_of(self._prefix, key.name)
        return Call(ACQUIRE, (lock, held, fence), (token, to_ms(ttl), holder, key.name), read_acquire)

    def release(self, key: Key, *, token: str) -> Call[Answer]:
        """Give the key back."""
        bucket, lock, held, _ = names_of(self._prefix, key.name)
        note = f"{bucket}:released:{token}"
        return Call(RELEASE, (lock, held, note), (token, key.name, RELEASE_NOTE_MS), ANSWERS.__getitem__)

    def renew(self, key: Key, *, token: str, ttl: float) -> Call[Answer]:
        """Keep the key."""
        _, lock, held, _ = names_of(self._prefix, key.name)
        return Call(RENEW, (lock, held), (token, to_ms(ttl), key.name), ANSWERS.__getitem__)

    def inspect(self, key: Key) -> Call[Held | None]:
        """Learn who holds the key."""
        return Call(INSPECT, (names_of(self._prefix, key.name).lock,), (), read_inspect)


def to_ms(seconds: float) -> int:
    """Redis counts in milliseconds."""
    return round(seconds * 1000)


def read_acquire(reply: list[Any]) -> Taken | Held:
    """`{1, fence}` or `{0, ...}` as `read_held()` takes it."""
    return Taken(reply[1]) if reply[0] == 1 else read_held(reply[1:])


def read_inspect(reply: list[Any] | None) -> Held | None:
    """Nothing, or as `read_held()` takes it."""
    return None if reply is None else read_held(reply)


def read_held(reply: list[Any]) -> Held:
    """`{fence, since in us, now in us, ttl left in ms, holder}`; the holder is text or, mostly, bytes."""
    fence, since, now, left, who = reply
    text = who.decode() if isinstance(who, bytes) else who
    return Held(
        holder=decode(text), fence=fence, since=since / 1e6, held_for=(now - since) / 1e6, remaining=max(0, left) / 1e3
    )
