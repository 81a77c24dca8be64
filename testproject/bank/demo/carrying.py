"""Carry one order out, in a worker process."""

from __future__ import annotations

import time

from django.db import OperationalError, connection

from django_redislock import LeaseLost, LockBusy
from testproject.bank.transfers import Outcome, book, decided_once

from .messages import Done, Task
from .modes import MODES

ATTEMPTS = 20

# A deadlock that the database ended, a database that stayed locked for too long, a lock that was not to be had in
# time or that ended too early: nothing was booked, or the key says so at the next attempt.
TEMPORARY = (OperationalError, LockBusy, LeaseLost)


def carry_out(task: Task) -> Done:
    """Try until the order is decided, a bounded number of times.

    Raises the error of the last attempt.
    """
    started = time.perf_counter()
    retries = 0
    while True:
        try:
            outcome, rows_at = attempt(task)
        except TEMPORARY:
            retries += 1
            if retries == ATTEMPTS:
                raise
            connection.close_if_unusable_or_obsolete()
        else:
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
