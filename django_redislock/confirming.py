"""Asking the store about leases right before what they protect becomes final.

The local deadline tells that nobody can have got a key since it ended by itself. It does not tell that an operator took
the key away: for that the store is asked, unless it has just confirmed the lease. An operator leaves the holder time to
ask: a key that was taken away is given to nobody else for longer than a confirmation counts (`forcing`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence

from . import clock
from .exceptions import StoreUnavailable
from .lease import CONFIDENCE, Lease
from .renewing import note, renewal_of
from .stores.base import Store

logger = logging.getLogger("django_redislock")

PATIENCE = 1.0
"""Seconds that the question may take. Then the deadline alone decides, as it does where the store is away."""


def confirm(leases: Iterable[Lease]) -> None:
    """Ask about those of which the store has said nothing for `CONFIDENCE` seconds, and note what it says."""
    doubtful: dict[Store, list[Lease]] = {}
    for lease in leases:
        if clock.now() - lease.confirmed_at >= CONFIDENCE and lease.trusted and lease.pid == os.getpid():
            doubtful.setdefault(lease.store.whole, []).append(lease)
    for store, those in doubtful.items():
        ask(store, those)


def ask(store: Store, leases: Sequence[Lease]) -> None:
    """Renew them, which tells whether they are held."""
    renewals = [renewal_of(lease) for lease in leases]
    seen = [lease.deadline for lease in leases]
    asked_at = clock.now()
    try:
        answers = store.renew_many(renewals, within=min(PATIENCE, *(lease.remaining for lease in leases)))
    except StoreUnavailable as error:
        logger.debug("%d leases could not be confirmed: %s", len(leases), error)
        for lease in leases:
            lease.doubt(str(error))
        return
    for lease, renewal, deadline, answer in zip(leases, renewals, seen, answers, strict=True):
        if note(lease, renewal, answer, asked_at=asked_at, seen=deadline):
            lease.tell()
