"""What to send for several keys at once, and how to read the answer: as `verbs`, without I/O."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache, partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from . import scripts
from .base import Answer, Blocked, Edge, Renewal, TakenMany, Way
from .packing import Keys
from .verbs import (
    Call,
    Settle,
    names_in_slot,
    names_of,
    note_ms,
    read_edges,
    read_held,
    read_nothing,
    root_of,
    to_ms,
)

if TYPE_CHECKING:
    from ..keys import Key

ACQUIRE_MANY, RELEASE_MANY = map(scripts.load, ("acquire_many", "release_many"))
LEAVE_MANY, RENEW_MANY = map(scripts.load, ("leave_many", "renew_many"))

PORTION = 500
"""Leases that one script renews: more of them would keep the server from others for over half a millisecond."""

ANSWERS = {"1": Answer.DONE, "0": Answer.GONE, "2": Answer.ANOTHERS, "3": Answer.FORCED}
NAME = attrgetter("name")
LAYOUTS = 16
"""Sets of keys whose names are kept: what was acquired is mostly what is released next."""


class Layout(NamedTuple):
    """Where in Redis several locks are, as `parts/several.lua` takes it."""

    keys: Keys
    """The names of what belongs to them."""
    note: str
    """What all of them together are called in a note."""


@lru_cache(maxsize=LAYOUTS)
def layout_of(prefix: str, wanted: tuple[str, ...], in_slot: bool) -> Layout:
    """The locks of these names below a prefix; `in_slot`: as `names_in_slot()` names them."""
    each = [(names_in_slot if in_slot else names_of)(prefix, name) for name in wanted]
    shared = (each[0].held, each[0].fence, *each[0].all[4:])
    keys = Keys([*[names.lock for names in each], *[names.queue for names in each], *shared])
    return Layout(keys, str(zlib.crc32("\n".join(wanted).encode())))


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
        self._in_slot = root is not None

    def acquire(
        self, keys: Sequence[Key], *, token: str, ttl: float, holder: str, way: Way, limit: int, channel: str = ""
    ) -> Call[TakenMany | Blocked | tuple[Edge, ...]]:
        """Take the keys, or learn who holds which."""
        layout = self._layout(keys)
        args = (token, self._root, to_ms(ttl), holder, channel, way.value, limit)
        settle: Settle = lambda asked: self.leave(keys, token=token) if asked or way is Way.LINE else None
        return Call(ACQUIRE_MANY, layout.keys, args, partial(read_acquire_many, keys), settle=settle)

    def leave(self, keys: Sequence[Key], *, token: str) -> Call[None]:
        """Stop waiting."""
        args = (token, self._root)
        settle: Settle = lambda asked: self.leave(keys, token=token)
        return Call(LEAVE_MANY, self._layout(keys).keys, args, read_nothing, settle=settle)

    def release(self, keys: Sequence[Key], *, token: str, ttl: float, wakes: bool) -> Call[list[Answer]]:
        """Give the keys back; `ttl`: of the leases, `wakes`: as `Call.wakes`."""
        layout = self._layout(keys)
        args = (token, self._root, note_ms(ttl), layout.note)
        settle: Settle = lambda asked: self.leave(keys, token=token)
        return Call(RELEASE_MANY, layout.keys, args, read_answers, settle=settle, wakes=wakes)

    def renew(self, renewals: Sequence[Renewal]) -> Batch:
        """Keep the keys: so many calls that none of them takes long."""
        portions = [renewals[start : start + PORTION] for start in range(0, len(renewals), PORTION)]
        return Batch([self._renew(portion) for portion in portions])

    def _renew(self, renewals: Sequence[Renewal]) -> Call[list[Answer]]:
        tokens = " ".join(renewal.token for renewal in renewals)
        ttls = " ".join(str(to_ms(renewal.ttl)) for renewal in renewals)
        layout = self._layout([renewal.key for renewal in renewals])
        return Call(RENEW_MANY, layout.keys, (tokens, self._root, ttls), read_answers)

    def _layout(self, keys: Sequence[Key]) -> Layout:
        return layout_of(self._prefix, tuple(map(NAME, keys)), self._in_slot)


def read_acquire_many(keys: Sequence[Key], reply: list[Any]) -> TakenMany | Blocked | tuple[Edge, ...]:
    """`{1, fence, ...}` with one for each key or one for all, `{0, index, ...}` with six for each busy key.

    Or as `read_edges()` takes it.
    """
    kind = reply[0]
    if kind == 1:
        fences = tuple(reply[1:])
        return TakenMany(fences if len(fences) == len(keys) else fences * len(keys))
    if kind == 0:
        parts = [reply[start : start + 6] for start in range(1, len(reply), 6)]
        return Blocked(tuple((keys[part[0] - 1], read_held(part[1:])) for part in parts))
    return read_edges(reply)


def read_answers(reply: str) -> list[Answer]:
    """One character for each key."""
    if not reply.strip("1"):  # as mostly
        return [Answer.DONE] * len(reply)
    return [ANSWERS[answer] for answer in reply]
