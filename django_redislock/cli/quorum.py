"""What several servers are together: whether they are independent, and have a vote."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..exceptions import StoreUnavailable
from ..handler import Locks
from ..holder import encode_current
from ..keys import Key
from ..majority import needed
from ..stores.nodes import Candidacy, SitsOut
from ..stores.quorum import PATIENCE, QuorumStore
from .findings import Finding, Level

TTL = 1.0


def examine_quorum(place: Locks) -> Iterator[Finding]:
    """All that is found about the servers together."""
    yield from sameness(place)
    yield from seats(place)


def sameness(place: Locks) -> Iterator[Finding]:
    """Whether two aliases name one server."""
    aliases: dict[str, list[str]] = {}
    for part, (_store, inquiry) in zip(place.places, place.parts, strict=True):
        try:
            said = inquiry.server("INFO", "server")
        except StoreUnavailable:
            continue  # which is told of the server itself
        if isinstance(said, dict) and "run_id" in said:
            aliases.setdefault(said["run_id"], []).append(part.alias)
    doubles = [" and ".join(map(repr, names)) for names in aliases.values() if len(names) > 1]
    for names in doubles:
        remedy = "Name servers that share nothing: one failure must not take away two votes."
        yield Finding(Level.ERROR, "quorum", f"{names} are one server.", remedy)
    if not doubles and aliases:
        yield Finding(Level.OK, "quorum", f"{sum(map(len, aliases.values()))} servers tell that they are different.")


def seats(place: Locks) -> Iterator[Finding]:
    """Who votes."""
    assert isinstance(place.store, QuorumStore)
    nodes = place.store.nodes
    key, token = Key(f"redislock doctor {os.urandom(8).hex()}"), os.urandom(16).hex()
    candidacy = Candidacy(token, TTL, encode_current(), 0)
    replies = place.store.panel.ask(lambda _, node: node.vote([key], candidacy=candidacy, channel=""), within=PATIENCE)
    place.store.panel.ask(lambda _, node: node.withdraw([key], token=token), within=PATIENCE)
    voting = 0
    for part, reply in zip(place.places, replies, strict=True):
        if reply is None:
            yield Finding(Level.WARNING, "quorum", f"{part.alias!r} does not answer in {PATIENCE:g} s.", "See above.")
        elif isinstance(reply[0], SitsOut):
            left = f"{reply[0].left:.1f} s more"
            text = f"{part.alias!r} is new, or came back without its data or from a restart: it sits out for {left}."
            yield Finding(Level.WARNING, "quorum", text, "Wait. Restart one server at a time, GUARD seconds apart.")
        else:
            voting += 1
    enough = needed(len(nodes))
    level = Level.OK if voting >= enough else Level.ERROR
    remedy = "" if voting >= enough else "Until then nothing can be locked."
    yield Finding(level, "quorum", f"{voting} of {len(nodes)} servers vote, {enough} are needed.", remedy)
