"""The watchdog: one thread of a process that renews all its leases, and tells which are lost.

It starts with the first lease, sleeps until the earliest third of a ttl, and ends when nothing has been held for a
while. What it does at a look is decided in `renewing`. It asks stores, and touches no database.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from . import clock
from .exceptions import LossReason, StoreUnavailable
from .forks import in_child
from .holds import Hold, held_here
from .renewing import (
    in_hand,
    lost_by,
    next_look,
    patience_of,
    pause_of,
    renewals_of,
    share_of,
    starved,
    tasks_of,
)
from .stores.base import Answer

if TYPE_CHECKING:
    from .lease import Lease
    from .stores.base import Store

logger = logging.getLogger("django_redislock")

IDLE = 30.0
"""Seconds without a lease after which the thread ends."""
AFTER_ERROR = 1.0
"""Seconds until the next look after one that failed."""
LONGEST_SLEEP = 3600.0
"""Seconds, since threads cannot sleep for as long as a ttl may be."""


class Rounds:
    """The looks at what is held, one after the other."""

    def __init__(self, held: Callable[[], Iterable[Hold]]) -> None:
        self._held = held
        self._pauses: dict[Store, float] = {}

    def look(self, *, late: float = 0.0) -> tuple[float, list[Lease]]:
        """Renew what is due; gives the instant of the next look, and the leases of which the loss is to be told.

        `late`: seconds by which this look comes later than it was planned.
        """
        holds = in_hand(self._held())
        stores = {hold.lock.store for hold in holds}
        self._pauses = {store: until for store, until in self._pauses.items() if store in stores}
        if starved(holds, late=late):
            logger.warning(
                "The watchdog came %.1f s late to renew %d leases: the process stood still, or something kept its "
                "threads from running",
                late,
                len(holds),
            )
        tasks = tasks_of(holds, self._pauses, now=clock.now())
        lost = [hold.lease for hold in tasks.over if hold.lease.expire()]
        for store in sorted(tasks.renew, key=self._pauses.__contains__):  # those that fail may take long
            share = share_of((hold for hold in holds if hold.lock.store is not store), now=clock.now())
            lost += self._renew(store, tasks.renew[store], share)
        lost += [hold.lease for hold in tasks.let_go if self._let_go(hold)]
        return next_look(in_hand(holds), self._pauses), lost

    def _renew(self, store: Store, holds: Sequence[Hold], share: float) -> list[Lease]:
        """Ask for another ttl, for so many seconds at most; gives what is lost."""
        renewals = renewals_of(holds)
        seen = [hold.lease.deadline for hold in holds]
        asked_at = clock.now()
        try:
            answers = store.renew_many(renewals, within=min(patience_of(holds), share))
        except StoreUnavailable as error:
            logger.debug("%d leases could not be renewed: %s", len(holds), error)
            self._doubt(store, holds, error)
            return []
        except Exception as error:  # a mistake somewhere must not end the leases of the other stores
            logger.exception("The watchdog goes on after an error")
            self._doubt(store, holds, error)
            return []
        if Answer.UNKNOWN in answers:
            self._pauses[store] = clock.now() + pause_of(holds)
        else:
            self._pauses.pop(store, None)
        logger.debug("%d leases renewed, asked for at once", len(holds))
        return [
            hold.lease
            for hold, renewal, deadline, answer in zip(holds, renewals, seen, answers, strict=True)
            if lost_by(hold, renewal, answer, asked_at=asked_at, seen=deadline)
        ]

    def _doubt(self, store: Store, holds: Sequence[Hold], error: Exception) -> None:
        """Note that they could not be renewed, and when it is to be tried again."""
        self._pauses[store] = clock.now() + pause_of(holds)
        for hold in holds:
            hold.lease.doubt(str(error))

    def _let_go(self, hold: Hold) -> bool:
        """Hand over what was held for too long; says whether it is lost by that.

        Where its owner commits right now, that gives it back by itself. Each of the two notes first what it does and
        looks then what the other has noted: so either the owner sees the loss, or we see that it commits.
        """
        if not hold.lease.lose(LossReason.MAX_HOLD):
            return False
        if not hold.closing:
            try:
                hold.lock.store.release(hold.lock.key, token=hold.lease.token)
            except StoreUnavailable as error:
                logger.debug("%s could not be handed over and ends with its ttl: %s", hold.lock.key, error)
            except Exception:
                logger.exception("The watchdog goes on after an error")
        return True


class Watchdog:
    """The thread that looks."""

    def __init__(self) -> None:
        self.afterwards: Callable[[], object] = lambda: None
        """Called in the thread in which losses are told, when that is done."""
        self.start_over()

    def start_over(self) -> None:
        """As in a process that has just been forked: the thread is the parent's, and so is what it holds."""
        self._bell = threading.Condition()
        self._rung_for = math.inf
        self._thread: threading.Thread | None = None
        self._rounds = Rounds(held_here)
        self.looks_at = math.inf
        """When it looks by itself. Whoever needs it earlier has to ring: while it looks, that is everybody."""

    def ring(self, at: float) -> None:
        """Make sure that it looks at that instant. Who needs it before `looks_at` has to."""
        with self._bell:
            self._rung_for = min(self._rung_for, at)
            if self._thread is not None:
                self._bell.notify()
                return
            thread = threading.Thread(target=self._run, name="redislock-watchdog", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # no more threads, or the interpreter is about to end
                logger.warning("The watchdog could not be started, so leases end with their ttl: %s", error)
            else:
                self._thread = thread

    def _run(self) -> None:
        at = math.inf
        while (late := self._sleep(at)) is not None:
            try:
                at, lost = self._rounds.look(late=late)
                if lost:
                    # Not in this thread: a receiver of the signal that takes its time must not keep it from renewing.
                    threading.Thread(target=self._tell, args=(lost,), name="redislock-losses", daemon=True).start()
            except Exception:
                logger.exception("The watchdog goes on after an error")
                at = clock.now() + AFTER_ERROR

    def _sleep(self, at: float) -> float | None:
        """Sleep until that instant, or an earlier one that it is rung for; gives by how much it overslept.

        Gives nothing when it has been idle for long: the thread ends.
        """
        began = clock.now()
        with self._bell:
            while True:
                at, self._rung_for = min(at, self._rung_for), math.inf
                self.looks_at = at
                late = clock.now() - at
                if late >= 0:
                    self.looks_at = math.inf
                    return min(late, clock.now() - began)
                is_idle = at == math.inf
                woken = self._bell.wait(IDLE if is_idle else min(-late, LONGEST_SLEEP))
                if is_idle and not woken and self._rung_for == math.inf:
                    self._thread = None
                    return None

    def _tell(self, lost: Iterable[Lease]) -> None:
        """Tell the guards."""
        try:
            for lease in lost:
                lease.tell()
        finally:
            self.afterwards()


watchdog = Watchdog()
in_child(watchdog.start_over)
