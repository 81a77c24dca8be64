"""When a lease is to be renewed, let go or given up, and what the store's answer makes of it: decisions without I/O.

A lease is renewed when a third of its ttl is over, and with it all that are half as far, so that leases which were
acquired at any times soon go together: one question for all of them. A fault of the store leaves a lease *unknown*:
that is tried again until the deadline. What is over on the local clock is lost, and never renewed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from . import clock
from .holds import Hold
from .keylock import LOSSES
from .lease import Handle, Lease
from .stores.base import Answer, Renewal, Store

TRIES = 20
"""So often in a ttl a store that could not be asked is asked again at most."""
LONGEST_PAUSE = 1.0
"""Seconds between two such tries at most."""

Pauses = Mapping[Store, float]
"""The instants before which stores are left alone that could not be asked; infinite for those that are being asked."""


class Tasks(NamedTuple):
    """What is to be done now."""

    over: Sequence[Hold]
    """Their deadlines have passed: they are lost."""
    let_go: Sequence[Hold]
    """They were held for longer than `max_hold`."""
    renew: Mapping[Store, Sequence[Hold]]
    """Another ttl is to be asked for, of each store with one question."""


def in_hand(holds: Iterable[Hold]) -> list[Hold]:
    """Those that have not ended and that somebody can still give back."""
    return [hold for hold in holds if handle_of(hold) is not None and not hold.lease.ended]


def handle_of(hold: Hold) -> Handle | None:
    """What its owner has in hand, if anything."""
    handle = hold.lease.handle
    return None if handle is None else handle()


def renew_at(hold: Hold) -> float:
    """The instant at which a third of the ttl is over."""
    lease = hold.lease
    return lease.deadline - clock.safe_ttl(lease.ttl) + lease.ttl / 3


def let_go_at(hold: Hold) -> float:
    """The instant at which `max_hold` is over."""
    handle = handle_of(hold)
    max_hold = None if handle is None else handle.max_hold_of(hold.lease)
    return math.inf if max_hold is None else hold.lease.acquired_at + max_hold


def due_at(hold: Hold, pauses: Pauses) -> float:
    """The instant at which it is to be renewed. While its owner commits it is renewed, but not beyond `max_hold`."""
    at = max(renew_at(hold), pauses.get(hold.lock.store, -math.inf))
    return at if at < let_go_at(hold) else math.inf


def tasks_of(holds: Iterable[Hold], pauses: Pauses, *, now: float) -> Tasks:
    """What is to be done with these."""
    over: list[Hold] = []
    let_go: list[Hold] = []
    rest: list[Hold] = []
    for hold in holds:
        if now >= hold.lease.deadline:
            over.append(hold)
        elif now >= let_go_at(hold) and not hold.closing:
            let_go.append(hold)
        else:
            rest.append(hold)
    due = {hold.lock.store for hold in rest if now >= due_at(hold, pauses)}
    renew: dict[Store, list[Hold]] = {}
    for hold in rest:
        if hold.lock.store in due and now >= due_at(hold, {}) - hold.lease.ttl / 6:
            renew.setdefault(hold.lock.store, []).append(hold)
    return Tasks(over=over, let_go=let_go, renew=renew)


def on_each_server(
    due: Mapping[Store, Sequence[Hold]], servers: Mapping[Store, Any]
) -> dict[Any, dict[Store, Sequence[Hold]]]:
    """What is due of each store, by the server that is behind it."""
    found: dict[Any, dict[Store, Sequence[Hold]]] = {}
    for store, holds in due.items():
        found.setdefault(servers[store], {})[store] = holds
    return found


def next_look(holds: Iterable[Hold], pauses: Pauses) -> float:
    """The instant at which something is to be done next; infinite when nothing is held."""
    instants = (
        min(due_at(hold, pauses), hold.lease.deadline, math.inf if hold.closing else let_go_at(hold)) for hold in holds
    )
    return min(instants, default=math.inf)


def pause_of(holds: Iterable[Hold]) -> float:
    """Seconds until a store that could not be asked is asked again."""
    return min(LONGEST_PAUSE, min(hold.lease.ttl for hold in holds) / TRIES)


def patience_of(holds: Iterable[Hold]) -> float:
    """Seconds that a question may take, so that another one is possible before the deadline."""
    return min(hold.lease.ttl for hold in holds) / 3


def share_of(others: Iterable[Hold], *, now: float) -> float:
    """Seconds for which a store may keep those waiting that are asked after it: half of what the first has left.

    So several that hang, one after the other, still leave time to ask the rest.
    """
    left = min((hold.lease.deadline - now for hold in others if not hold.lease.ended), default=math.inf)
    return max(0.0, left / 2)


def starved(holds: Iterable[Hold], *, late: float) -> bool:
    """Whether a look came so late that it put one of these in danger."""
    return late > min((hold.lease.ttl for hold in holds), default=math.inf) / 6


def renewals_of(holds: Sequence[Hold]) -> list[Renewal]:
    """What is asked for."""
    return [renewal_of(hold.lease) for hold in holds]


def renewal_of(lease: Lease) -> Renewal:
    """Another ttl of its own."""
    return Renewal(key=lease.key, token=lease.token, ttl=lease.ttl)


def lost_by(hold: Hold, renewal: Renewal, answer: Answer, *, asked_at: float, seen: float) -> bool:
    """Note the answer; says whether the lease is lost by it, and that is new.

    What its owner has begun to give back in the meantime is nobody's loss.
    """
    return hold.count > 0 and note(hold.lease, renewal, answer, asked_at=asked_at, seen=seen)


def note(lease: Lease, renewal: Renewal, answer: Answer, *, asked_at: float, seen: float) -> bool:
    """Note the answer on the lease; says whether it is lost by it, and that is new."""
    if answer is Answer.UNKNOWN:
        lease.doubt("too few servers could be asked")
        return False
    if answer is not Answer.DONE:
        return lease.lose(LOSSES[answer])
    return not lease.prolong(ttl=renewal.ttl, asked_at=asked_at, seen=seen) and lease.expire()
