"""Each verb once on a key that nobody else uses: whether the scripts load and run for this user."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from ..exceptions import StoreUnavailable
from ..holder import encode_current
from ..keylock import operator_token
from ..keys import Key
from ..stores.base import Way
from .findings import Finding, Level, Patient

TTL = 5.0


def trial(patient: Patient) -> Iterator[Finding]:
    """Acquire, look, renew, release and the rest; nothing is left behind."""
    failed = [(verb, error) for verb, error in map(attempt, *zip(*verbs(patient), strict=True)) if error]
    for verb, error in failed:
        remedy = "Give this user the rights that the documentation's page on the protocol lists."
        yield Finding(Level.ERROR, "scripts", f"{verb} fails: {error}", remedy)
    if not failed:
        yield Finding(Level.OK, "scripts", "Every script runs.")
    ear = patient.store.part(Key("doctor")).ear("doctor")
    try:
        hears = bool(ear.channel)
    finally:
        ear.close()
    if hears:
        yield Finding(Level.OK, "waiting", "This user may subscribe, so a release wakes who waits.")
    else:
        yield Finding(
            Level.WARNING,
            "waiting",
            "This user may not subscribe: who waits asks again and again, not in order.",
            "Let it subscribe to `*redislock:wake:*`.",
        )


def attempt(verb: str, ask: Callable[[], object]) -> tuple[str, StoreUnavailable | None]:
    """What becomes of it."""
    try:
        ask()
    except StoreUnavailable as error:
        return verb, error
    return verb, None


def verbs(patient: Patient) -> Iterator[tuple[str, Callable[[], object]]]:
    """Every verb, in an order in which each has an effect."""
    key = Key(f"redislock doctor {os.urandom(8).hex()}")
    store = patient.store.part(key)
    token, who = os.urandom(16).hex(), encode_current()
    yield "acquire", lambda: store.acquire(key, token=token, ttl=TTL, holder=who)
    yield "inspect", lambda: store.inspect(key)
    yield "follow", lambda: store.follow(key, flow="0" * 16)
    yield "list", patient.inquiry.list_held
    yield "renew", lambda: store.renew(key, token=token, ttl=TTL)
    yield "leave", lambda: store.leave(key, token="0" * 32)
    yield "release", lambda: store.release(key, token=token, ttl=TTL)
    yield "acquire_many", lambda: store.acquire_many([key], token=token, ttl=TTL, holder=who, way=Way.ALL, limit=1)
    yield "release_many", lambda: store.release_many([key], token=token, ttl=TTL)
    yield "leave_many", lambda: store.leave_many([key], token=token)
    yield "force", lambda: store.force(key, token=operator_token(), ttl=1)
