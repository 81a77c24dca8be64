"""Carry one order out, in a worker process."""

from __future__ import annotations

import time

from django.db import OperationalError, connection

from django_redislock import Deadlock, LeaseLost, LockBusy, StoreUnavailable
from testproject.bank.transfers import Outcome, book, decided_once

from .messages import Done, Task
from .modes import MODES

ATTEMPTS = 20
PAUSE = 0.2
"""Seconds before the next attempt where the store was away: it may be restarting. What it was not told to release is
ours until its ttl is over, and so may close a cycle with what others wait for."""

# A deadlock that the database ended, a database that stayed locked for too long, a lock that was not to be had in
# time or that ended too early, a store that was away: nothing was booked, or the key says so at the next attempt.
TEMPORARY = (OperationalError, LockBusy, LeaseLost, StoreUnavailable, Deadlock)


def carry_out(task: Task) -> Done:
    """Try until the order is decided, a bounded number of times.

    Raises the error of the last attempt.
    """
    started = time.perf_counter()
    for retries in range(ATTEMPTS):
        try:
            outcome, rows_at = attempt(task)
        except TEMPORARY as error:
            if retries == ATTEMPTS - 1:
                raise
            connection.close_if_unusable_or_obsolete()
            if isinstance(error, StoreUnavailable | Deadlock):
                time.sleep(PAUSE)
        else:
            break
    return Done(outcome=outcome, waited=rows_at - started, retries=retries)


def attempt(task: Task) -> tuple[Outcome, float]:
    """Try once; gives the instant at which the rows were there, too."""
    rows_at = 0.0

    def decide() -> Outcome:
        nonlocal rows_at
        with MODES[task.mode].rows(task.order, task.terms) as rows:
            rows_at = time.perf_counter()
            return book(task.order, rows)

    return decided_once(task.order, decide), rows_at
