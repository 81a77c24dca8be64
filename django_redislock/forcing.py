"""Taking a lock away from whoever holds it: what an operator does, through the admin or the command line.

The key is the operator's first, for longer than its holder trusts a confirmation (`confirming`), and is handed over
then: so the next in line does not begin while the holder may still commit.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from django.apps import apps
from django.db.models import Model

from . import clock, signals
from .exceptions import StoreUnavailable
from .guards import LockInfo, NamedLock, info_of
from .handler import DEFAULT_ALIAS, locks
from .keylock import KeyLock, operator_token
from .lease import CONFIDENCE

logger = logging.getLogger("django_redislock")

PAUSE = 4 * CONFIDENCE
"""Seconds between taking away and handing over: the holder asks before it commits, and has time to commit if it has
just asked."""
TTL = 10.0
"""Seconds after which the key is free if the operator's process does not live to hand it over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seized:
    """A lock that was taken away and not handed over yet."""

    lock: KeyLock
    token: str
    at: float
    """Instant of the local monotonic clock at which it was known to be taken away."""
    info: LockInfo
    """Who held it."""


def force_release(name: str, *, alias: str = DEFAULT_ALIAS, fence: int | None = None) -> LockInfo | None:
    """Take a lock away from whoever holds it and hand it to the first in line; gives who held it, or `None`.

    `name` is the one under which the lock is kept, as `LockInfo.key` has it: `bank.Account:42` for a row, unless
    `KEY_FUNCTION` makes another of it. `alias` is one of `REDISLOCK`. With the `fence` of an owner the lock is taken
    from that owner only, and from no one who got it since. The holder is told that its lease is lost, with
    the reason `forced`: before it commits, at its next renewal, or when it gives the lock back. The next in line
    gets the lock after that, a second later. Sends `lock_forced`. `None` as well for what another operator is
    taking away right now.

    Raises `StoreUnavailable` when Redis cannot be asked.
    """
    seized = seize(name, alias=alias, fence=fence)
    if seized is None:
        return None
    hand_over([seized])
    return seized.info


def seize(name: str, *, alias: str = DEFAULT_ALIAS, fence: int | None = None) -> Seized | None:
    """Take a lock away and keep it for now; `hand_over()` ends that. Takes and raises what `force_release()` does."""
    lock = locks[alias].kept(name)
    token = operator_token()
    held = lock.store.force(lock.key, token=token, ttl=TTL, fence=fence)
    if held is None:
        return None
    seized = Seized(lock=lock, token=token, at=clock.now(), info=info_of(lock.key, held))
    logger.warning("Taken away by force: %s, which %s had held for %.1f s", name, held.holder, held.held_for)
    signals.lock_forced.send_robust(model_of(name) or NamedLock, info=seized.info)
    return seized


def hand_over(seized: Sequence[Seized]) -> None:
    """Give each of the locks to the first in line, when who held it has had time to notice."""
    for one in seized:
        clock.sleep(max(0.0, one.at + PAUSE - clock.now()))
        try:
            one.lock.store.release(one.lock.key, token=one.token, ttl=TTL)
        except StoreUnavailable as error:
            logger.warning("Not handed over, and free in %g s: %s. %s", TTL, one.lock.key, error)


def model_of(name: str) -> type[Model] | None:
    """The model whose row a lock's name names, if it names one: `bank.Account:42` does."""
    label, colon, _ = name.partition(":")
    if not colon or label.count(".") != 1:
        return None
    try:
        return apps.get_model(label)
    except LookupError:
        return None
