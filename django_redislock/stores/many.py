"""What to send for several keys at once, and how to read the answer: as `verbs`, without I/O."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from . import scripts
from .base import Answer, Blocked, Edge, Renewal, TakenMany, Way
from .packing import Keys
from .verbs import (
    RELEASE_NOTE_MS,
    Call,
    Settle,
    absent_from,
    names_of,
    read_edges,
    read_held,
    read_nothing,
    root_of,
    text,
    to_ms,
)

if TYPE_CHECKING:
    from ..keys import Key

ACQUIRE_MANY, RELEASE_MANY = map(scripts.load, ("acquire_many", "release_many"))
LEAVE_MANY, RENEW_MANY = map(scripts.load, ("leave_many", "renew_many"))

PORTION = 500
"""Leases that one script renews: more of them would keep the server from others for over half a millisecond."""

ANSWERS = {"1": Answer.DONE, "0": Answer.GONE, "2": Answer.ANOTHERS, "3": Answer.FORCED}
NO_NAME = ""
"""In the place where the verbs for one key have its name."""


class Batch(NamedTuple):
    """Calls that are sent together."""

    calls: Sequence[Call[list[Answer]]]
    settle: None = None
    """What was carried out without an answer does no harm."""

    def read(self, replies: Sequence[Any]) -> list[Answer]:
        """The answers of all calls, in their order."""
        return [answer for call, reply in zip(self.calls, replies, strict=True) for answer in call.read(reply)]


class ManyVerbs:
    """The calls for several locks below one prefix, of one server; in a cluster of one bucket."""

    def __init__(self, prefix: str, root: str | None = None) -> None:
        """`root`: as for `Verbs`."""
        self._prefix = prefix
        self._root = root or root_of(prefix)
        self._absent = () if root is None else (absent_from(root),)

    def acquire(
        self, keys: Sequence[Key], *, token: str, ttl: float, holder: str, way: Way, limit: int, channel: str
    ) -> Call[TakenMany | Blocked | tuple[Edge, ...]]:
        """Take the keys, or learn who holds which."""
        args = (token, NO_NAME, self._root, to_ms(ttl), holder, channel, way.value, limit)
        read = partial(read_acquire_many, keys)
        settle: Settle = lambda asked: self.leave(keys, token=token) if asked or way is Way.LINE else None
        return Call(ACQUIRE_MANY, self._locks(keys, self._absent), args, read, settle)

    def leave(self, keys: Sequence[Key], *, token: str) -> Call[None]:
        """Stop waiting."""
        args = (token, NO_NAME, self._root)
        locks = self._locks(keys, self._absent)
        return Call(LEAVE_MANY, locks, args, read_nothing, lambda asked: self.leave(keys, token=token))

    def release(self, keys: Sequence[Key], *, token: str) -> Call[list[Answer]]:
        """Give the keys back."""
        names = "\n".join(key.name for key in keys)
        note = f"{names_of(self._prefix, keys[0].name).bucket}:released:{token}:{zlib.crc32(names.encode())}"
        args = (token, NO_NAME, self._root, RELEASE_NOTE_MS)
        settle: Settle = lambda asked: self.leave(keys, token=token)
        return Call(RELEASE_MANY, self._locks(keys, [note]), args, read_answers, settle)

    def renew(self, renewals: Sequence[Renewal]) -> Batch:
        """Keep the keys: so many calls that none of them takes long."""
        portions = [renewals[start : start + PORTION] for start in range(0, len(renewals), PORTION)]
        return Batch([self._renew(portion) for portion in portions])

    def _renew(self, renewals: Sequence[Renewal]) -> Call[list[Answer]]:
        tokens = " ".join(renewal.token for renewal in renewals)
        ttls = " ".join(str(to_ms(renewal.ttl)) for renewal in renewals)
        keys = self._locks([renewal.key for renewal in renewals], self._absent)
        return Call(RENEW_MANY, keys, (tokens, NO_NAME, self._root, ttls), read_answers)

    def _locks(self, keys: Sequence[Key], others: Sequence[str]) -> Keys:
        return Keys([*[names_of(self._prefix, key.name).lock for key in keys], *others])


def read_acquire_many(keys: Sequence[Key], reply: list[Any]) -> TakenMany | Blocked | tuple[Edge, ...]:
    """`{1, fence, ...}`, `{0, index, ...}` with six for each key that is somebody's, or as `read_edges()` takes it."""
    kind = reply[0]
    if kind == 1:
        return TakenMany(tuple(reply[1:]))
    if kind == 0:
        parts = [reply[start : start + 6] for start in range(1, len(reply), 6)]
        return Blocked(tuple((keys[part[0] - 1], read_held(part[1:])) for part in parts))
    return read_edges(reply)


def read_answers(reply: Any) -> list[Answer]:
    """One character for each key."""
    return [ANSWERS[character] for character in text(reply)]
