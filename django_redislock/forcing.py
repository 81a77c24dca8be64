"""Taking a lock away from whoever holds it: what an operator does, through the admin or the command line."""

from __future__ import annotations

import logging

from django.apps import apps
from django.db.models import Model

from . import signals
from .guards import LockInfo, NamedLock, info_of
from .handler import DEFAULT_ALIAS, locks

logger = logging.getLogger("django_redislock")


def force_release(name: str, *, alias: str = DEFAULT_ALIAS, fence: int | None = None) -> LockInfo | None:
    """Take a lock away from whoever holds it and hand it to the first in line; gives who held it, or `None`.

    `name` is the one under which the lock is kept, as `LockInfo.key` has it: `bank.Account:42` for a row, unless
    `KEY_FUNCTION` makes another of it. `alias` is one of `REDISLOCK`. With the `fence` of an owner the lock is taken
    from that owner only, and from no one who got it since. The holder is told that its lease is lost, with
    the reason `forced`: at its next renewal, or when it gives the lock back. What it does until then it does
    without lock. Sends `lock_forced`.

    Raises `StoreUnavailable` when Redis cannot be asked.
    """
    lock = locks[alias].kept(name)
    held = lock.store.force(lock.key, fence=fence)
    if held is None:
        return None
    info = info_of(lock.key, held)
    logger.warning("Released by force: %s, which %s had held for %.1f s", name, held.holder, held.held_for)
    signals.lock_forced.send_robust(model_of(name) or NamedLock, info=info)
    return info


def model_of(name: str) -> type[Model] | None:
    """The model whose row a lock's name names, if it names one: `bank.Account:42` does."""
    label, colon, _ = name.partition(":")
    if not colon or label.count(".") != 1:
        return None
    try:
        return apps.get_model(label)
    except LookupError:
        return None
