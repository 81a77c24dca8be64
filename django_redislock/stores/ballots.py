"""What to send to a node of a quorum, and how to read the answer: as `verbs`, without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from . import scripts
from .nodes import Ballot, Candidacy, Cycle, SitsOut, Vote
from .packing import Keys
from .verbs import Call, names_of, read_edges, read_held, root_of, to_ms

if TYPE_CHECKING:
    from ..keys import Key

VOTE = scripts.load("vote")
RAISE = scripts.load("raise")
ADMIT = scripts.load("admit")

NO_RUN = "-"
"""In the place of a run id that the server does not tell."""

FORGETTING = ("flushall", "flushdb", "swapdb", "replicaof", "slaveof", "debug", "config", "config|resetstat")
"""Commands by which a server may have lost votes, or what it knows of these commands."""


class Ballots:
    """The calls for the locks below one prefix, at a node that sits out for `guard` seconds."""

    def __init__(self, prefix: str, *, guard: float) -> None:
        self._prefix = prefix
        self._root = root_of(prefix)
        self._guard = to_ms(guard)

    def vote(self, key: Key, candidacy: Candidacy, *, channel: str, run: str) -> Call[Ballot]:
        """Ask for the node's vote. `run` is the run id of the server."""
        token, ttl, holder, least = candidacy
        args = (f"{token} {least}", self._root, to_ms(ttl), holder, channel, run, self._guard)
        return Call(VOTE, keys_of_vote(self._prefix, key.name), args, read_vote)

    def raise_fence(self, key: Key, fence: int, *, token: str) -> Call[bool]:
        """Raise the fence of a vote."""
        return Call(RAISE, names_of(self._prefix, key.name).all, (token, self._root, fence), bool)

    def admit(self, seat: SitsOut, *, run: str, kept: float) -> Call[int]:
        """Let the node vote earlier, which has lost nothing for so many seconds."""
        return Call(ADMIT, Keys((marker_of(self._prefix),)), (run, seat.ends, to_ms(kept), self._guard), int)


@lru_cache(maxsize=1024)
def keys_of_vote(prefix: str, name: str) -> Keys:
    """Those of the lock, and the marker."""
    return Keys((*names_of(prefix, name).all, marker_of(prefix)))


def marker_of(prefix: str) -> str:
    """Where a node keeps in which run of its server it votes, and from when on."""
    return f"{root_of(prefix)}:node"


def read_vote(reply: list[Any]) -> Ballot:
    """`{1, fence, now in us}`, `{3, ms left, end in ms}`, `{0, who}`, `{2, {who}, cycle}`."""
    kind = reply[0]
    if kind == 1:
        return Vote(reply[1], reply[2])
    if kind == 3:
        return SitsOut(left=reply[1] / 1e3, ends=reply[2])
    if kind == 2:
        return Cycle(held=read_held(reply[1]), edges=read_edges(reply[2]))
    return read_held(reply[1:])


def read_info(reply: str) -> dict[str, str]:
    """What `INFO` says, name by name."""
    lines = (line.partition(":") for line in reply.splitlines())
    return {name: value for name, colon, value in lines if colon}


def run_of(info: Mapping[str, str]) -> str:
    """The run id that `INFO server` tells."""
    return info.get("run_id") or NO_RUN


def kept_for(info: Mapping[str, str]) -> float:
    """Seconds for which the server has lost nothing, as far as it tells by `INFO`; 0 when it does not.

    That is since its start, unless it was told to forget.
    """
    counted = any(name.startswith("cmdstat_") for name in info)
    if not counted or info.get("evicted_keys") != "0" or any(f"cmdstat_{name}" in info for name in FORGETTING):
        return 0.0
    return float(info.get("uptime_in_seconds", 0))
