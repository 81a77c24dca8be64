"""What to send to Redis and how to read the answer: pure functions, without I/O, for sync and async alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from ..holder import decode
from ..keys import bucket_of
from . import scripts
from .base import Answer, Edge, Grant, Held, Kept, Taken
from .packing import Args, Keys, packed

if TYPE_CHECKING:
    from ..keys import Key

ACQUIRE, RELEASE, LEAVE, FORCE = map(scripts.load, ("acquire", "release", "leave", "force"))
RENEW, INSPECT, KEEP, FOLLOW = map(scripts.load, ("renew", "inspect", "keep", "follow"))

RELEASE_NOTE_MS = 10_000
"""How long a release is remembered for the case that its reply is lost and the client sends it again: twice
redis-py's default `socket_timeout`."""

AHEAD = 32
"""Releases that are kept which were made ahead: for as many locks as are mostly held at a time."""

ANSWERS = {1: Answer.DONE, 0: Answer.GONE, -1: Answer.ANOTHERS, -2: Answer.FORCED}


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


Settle = Callable[[bool], "Call[None] | None"]
"""Takes whether the question may have reached the server."""


class Call(Generic[T]):
    """One script call and the function that reads its reply."""

    __slots__ = ("args", "keys", "packed", "read", "script", "settle", "wakes")

    def __init__(
        self,
        script: scripts.Script,
        keys: Keys,
        args: Args,
        read: Callable[[Any], T],
        *,
        settle: Settle | None = None,
        wakes: bool = False,
    ) -> None:
        self.script = script
        self.keys = keys
        self.args = args
        self.read = read
        self.settle = settle
        """Makes the call that follows when no answer comes, so that nothing stays taken, carried out or not."""
        self.wakes = wakes
        """Whether it mostly wakes somebody, who is to hear of that before the one who asks is answered."""
        self.packed = packed(script.known, keys, args)
        """The call of a script that the server knows, as it is sent."""

    def reading(self, read: Callable[[Any], T]) -> Call[T]:
        """The same call, the reply to which is read in another way."""
        return Call(self.script, self.keys, self.args, read, settle=self.settle, wakes=self.wakes)

    @property
    def packed_new(self) -> list[bytes]:
        """The call that brings the text of the script."""
        return packed(self.script.new, Keys(self.keys), self.args)  # whose bytes are not worth keeping


class Question(Protocol[T_co]):
    """What is sent and answered at once: a call, or several together."""

    @property
    def read(self) -> Callable[[Any], T_co]:
        """Reads the reply."""

    @property
    def settle(self) -> Settle | None:
        """As `Call.settle`."""


class Names(NamedTuple):
    """The names in Redis of what belongs to one lock."""

    bucket: str
    """What all begin with that is of this lock alone."""
    lock: str
    held: str
    fence: str
    queue: str
    all: Keys
    """What a verb needs that may hand the lock over."""


def root_of(prefix: str) -> str:
    """What every name of this package begins with."""
    return f"{prefix}:redislock" if prefix else "redislock"


def absent_from(bucket: str) -> str:
    """The name of what never exists in a bucket."""
    return f"{bucket}:absent"


@lru_cache(maxsize=1024)
def names_of(prefix: str, name: str) -> Names:
    """The names below a prefix (the cache's `KEY_PREFIX`, or nothing)."""
    root = root_of(prefix)
    return names_beside(bucket_at(root, name), root, name)


@lru_cache(maxsize=1024)
def names_in_slot(prefix: str, name: str) -> Names:
    """The names in a cluster: all have the bucket's hash tag, so they share a slot. `all` names also what never exists.

    So the node carries nothing out while the slot is on its way to another one. Were all keys of a script still there,
    it would begin, and be broken off at the first key that it comes upon and that is not, with half of its work done.
    """
    bucket = bucket_at(root_of(prefix), name)
    names = names_beside(bucket, bucket, name)
    return names._replace(all=Keys((*names.all, absent_from(bucket))))


def bucket_at(root: str, name: str) -> str:
    """What the names in Redis begin with that are of one lock alone."""
    return f"{root}:{{{bucket_of(name)}}}"


def name_in(lock_key: str, root: str) -> str:
    """The name of a lock; `root`: what its key begins with, with the bucket or without."""
    return lock_key[lock_key.index("}", len(root) - 1) + len("}:lock:") :]


def names_beside(bucket: str, index: str, name: str) -> Names:
    """The names in a bucket; the index and the fence begin otherwise where one server has all buckets."""
    lock, held, fence, queue = f"{bucket}:lock:{name}", f"{index}:held", f"{index}:fence", f"{bucket}:queue:{name}"
    return Names(bucket, lock, held, fence, queue, Keys((lock, held, fence, queue)))


def never(token: str) -> bool:
    """Nobody waits with it."""
    return False


class Verbs:
    """The calls of the protocol for the locks below one prefix."""

    def __init__(self, prefix: str, root: str | None = None) -> None:
        """`root`: in a cluster, where all is in one bucket, what the names of that begin with."""
        self._root = root or root_of(prefix)
        self._names = partial(names_of if root is None else names_in_slot, prefix)

    def acquire(
        self, key: Key, *, token: str, ttl: float, holder: str, channel: str, waits: Callable[[str], bool] = never
    ) -> Call[Taken | Held | tuple[Edge, ...]]:
        """Take the key, or learn who holds it and wait in line to be told on the channel.

        `waits` tells whether the token may be in line since an earlier question, although it has no channel right now.
        """
        names = self._names(key.name)
        args = (token, self._root, to_ms(ttl), holder, channel)
        settle: Settle = lambda asked: self.leave(key, token=token) if asked or channel or waits(token) else None
        return Call(ACQUIRE, names.all, args, read_acquire, settle=settle)

    @lru_cache(maxsize=AHEAD)  # noqa: B019 - of what it keeps alive there is one for each place
    def release(self, key: Key, *, token: str, ttl: float, wakes: bool = False) -> Call[Answer]:
        """Give the key back; `ttl`: of the lease, `wakes`: as `Call.wakes`.

        It can be made ahead, when the key is asked for: then it is there when it is needed.
        """
        names = self._names(key.name)
        args = (token, self._root, note_ms(ttl))
        settle: Settle = lambda asked: self.leave(key, token=token)
        return Call(RELEASE, names.all, args, ANSWERS.__getitem__, settle=settle, wakes=wakes)

    def leave(self, key: Key, *, token: str) -> Call[None]:
        """Stop waiting."""
        names = self._names(key.name)
        args = (token, self._root)
        settle: Settle = lambda asked: self.leave(key, token=token)
        return Call(LEAVE, names.all, args, read_nothing, settle=settle)

    def force(self, key: Key, *, token: str, ttl: float, fence: int | None) -> Call[Held | None]:
        """Take the key from whoever holds it, or from the owner with that fence."""
        names = self._names(key.name)
        # That note does not exist, either, until it is done.
        keys = Keys((*names.all[:4], f"{names.bucket}:forced:{token}:{key.name}"))
        args = (token, self._root, RELEASE_NOTE_MS, to_ms(ttl), "" if fence is None else fence)
        return Call(FORCE, keys, args, read_force)

    def renew(self, key: Key, *, token: str, ttl: float) -> Call[Answer]:
        """Keep the key."""
        names = self._names(key.name)
        # With the name: a token that several keys were acquired for may be released of one after the other.
        keys = Keys((names.lock, names.held, f"{names.bucket}:released:{token}:{key.name}"))
        return Call(RENEW, keys, (token, to_ms(ttl)), ANSWERS.__getitem__)

    def inspect(self, key: Key) -> Call[Held | None]:
        """Learn who holds the key."""
        names = self._names(key.name)
        return Call(INSPECT, Keys((names.lock, names.queue)), (self._root,), read_inspect)

    def follow(self, key: Key, *, flow: str) -> Call[tuple[Edge, ...]]:
        """Learn whether who holds the key waits for the flow, and around which corners."""
        return Call(FOLLOW, self._names(key.name).all, (flow, self._root), read_edges)

    def keep(self, key: Key, *, channel: str) -> Call[Kept]:
        """Keep the places of those who wait for the key and listen on the channel."""
        names = self._names(key.name)
        return Call(KEEP, Keys((names.lock, names.queue)), (channel, self._root), read_kept)


@lru_cache(maxsize=128)
def note_ms(ttl: float) -> int:
    """How long the release of a lease is remembered: not for longer than what a crash of its holder leaves."""
    return min(RELEASE_NOTE_MS, to_ms(ttl))


@lru_cache(maxsize=128)
def to_ms(seconds: float) -> int:
    """Redis counts in milliseconds."""
    return round(seconds * 1000)


def read_acquire(reply: list[Any]) -> Taken | Held | tuple[Edge, ...]:
    """`{1, fence}`, `{0, ...}` as `read_held()` takes it, or `{2, name, holder, name, holder, ...}`."""
    kind = reply[0]
    if kind == 1:
        return Taken(reply[1])
    if kind == 0:
        return read_held(reply[1:])
    return read_edges(reply)


def read_edges(reply: list[Any]) -> tuple[Edge, ...]:
    """`{2, name, holder, name, holder, ...}`."""
    edges = zip(reply[1::2], reply[2::2], strict=True)
    return tuple(Edge(key=name, holder=decode(who)) for name, who in edges)


def read_force(reply: list[Any] | None) -> Held | None:
    """Nothing, or as `read_held()` takes it."""
    return None if reply is None else read_held(reply)


def read_inspect(reply: list[Any] | None) -> Held | None:
    """Nothing, or as `read_held()` takes it, with the number of waiters and since when the first of them waits."""
    if reply is None:
        return None
    return replace(read_held(reply[:5]), waiters=reply[5], first_waits_for=(reply[2] - reply[6]) / 1e6)


def read_kept(reply: list[Any]) -> Kept:
    """`{ttl left in ms, token, token, ...}`."""
    left, *tokens = reply
    return Kept(left=left / 1e3 if left >= 0 else None, tokens=frozenset(tokens))


def read_held(reply: list[Any]) -> Held:
    """`{fence, since in us, now in us, ttl left in ms, holder}`."""
    fence, since, now, left, who = reply
    return Held(
        holder=decode(who),
        fence=fence,
        since=since / 1e6,
        held_for=(now - since) / 1e6,
        remaining=max(0, left) / 1e3,
        asked=now / 1e6,
    )


def read_nothing(reply: Any) -> None:
    """There is nothing to be told."""


def read_grant(message: str) -> tuple[str, Grant | None]:
    """`token fence granted-in-us`, as it is published on a channel; a token alone is to ask again."""
    token, *grant = message.split(" ")
    if not grant:
        return token, None
    fence, granted = grant
    return token, Grant(int(fence), int(granted) / 1e6)
