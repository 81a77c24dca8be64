"""The watchdog: one thread of a process that keeps all its leases, and tells which are lost.

It starts with the first lease, sleeps until the earliest third of a ttl, and ends when nothing has been held for a
while. What it does at a look is decided in `renewing`. It waits for no server: each is asked in a thread that ends with
the answer, so that one that hangs, be it while connecting, delays nothing that is held on another. Those ask stores,
and touch no database.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from . import clock
from .exceptions import LossReason, StoreUnavailable
from .forks import in_child
from .holds import Hold, held_here
from .renewing import (
    Pauses,
    in_hand,
    lost_by,
    next_look,
    on_each_server,
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

Errand = Callable[[], object]


def apart(errand: Errand) -> None:
    """Do it in a thread of its own; in this one where no other can be started."""
    thread = threading.Thread(target=errand, name="redislock-renewal", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no more threads, or the interpreter is about to end
        errand()


class Rounds:
    """The looks at what is held, one after the other."""

    def __init__(
        self,
        held: Callable[[], Iterable[Hold]],
        *,
        tell: Callable[[Sequence[Lease]], object],
        ring: Callable[[float], object],
        apart: Callable[[Errand], object] = apart,
    ) -> None:
        """`tell` is given leases that are lost, `ring` the instant of the next look when a server has been asked.

        `apart` does what may take its time.
        """
        self._held = held
        self._tell = tell
        self._ring = ring
        self._apart = apart
        self._pauses: dict[Store, float] = {}
        self._asked: set[Any] = set()
        """The servers that are being asked."""

    def look(self, *, late: float = 0.0) -> float:
        """Have renewed what is due; gives the instant of the next look.

        `late`: seconds by which this look comes later than it was planned.
        """
        holds = in_hand(self._held())
        servers = {store: store.server for store in {hold.lock.store for hold in holds}}
        for store in list(self._pauses):
            if store not in servers:
                self._pauses.pop(store, None)
        if starved(holds, late=late):
            logger.warning(
                "The watchdog came %.1f s late to renew %d leases: the process stood still, or something kept its "
                "threads from running",
                late,
                len(holds),
            )
        tasks = tasks_of(holds, self._left_alone(servers), now=clock.now())
        lost = [hold.lease for hold in tasks.over if hold.lease.expire()]
        for hold in tasks.let_go:
            if hold.lease.lose(LossReason.MAX_HOLD):
                lost.append(hold.lease)
                self._let_go(hold)
        self._tell(lost)
        for server, stores in on_each_server(tasks.renew, servers).items():
            self._asked.add(server)
            there = [hold for hold in holds if servers[hold.lock.store] == server]
            self._apart(partial(self._renew_there, server, stores, there))
        return next_look(in_hand(holds), self._left_alone(servers))

    def _left_alone(self, servers: Mapping[Store, Any]) -> Pauses:
        """What is not to be asked yet: who failed just now, and who has not answered yet."""
        return self._pauses | {store: math.inf for store, server in servers.items() if server in self._asked}

    def _renew_there(self, server: Any, due: Mapping[Store, Sequence[Hold]], holds: Sequence[Hold]) -> None:
        """Renew what is due of all that is held on one server."""
        try:
            for store in sorted(due, key=self._pauses.__contains__):  # those that fail may take long
                share = share_of((hold for hold in holds if hold.lock.store is not store), now=clock.now())
                self._tell(self._renew(store, due[store], share))
        finally:
            self._asked.discard(server)
            self._ring(next_look(in_hand(holds), self._pauses))

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

    def _let_go(self, hold: Hold) -> None:
        """Hand over what was held for too long, and is lost by that.

        Where its owner commits right now, that gives it back by itself. Each of the two notes first what it does and
        looks then what the other has noted: so either the owner sees the loss, or we see that it commits.
        """
        if not hold.closing:
            self._apart(partial(hand_over, hold))


def hand_over(hold: Hold) -> None:
    """Give the key to the next one."""
    try:
        hold.lock.store.release(hold.lock.key, token=hold.lease.token, ttl=hold.lease.ttl)
    except StoreUnavailable as error:
        logger.debug("%s could not be handed over and ends with its ttl: %s", hold.lock.key, error)
    except Exception:
        logger.exception("The watchdog goes on after an error")


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
        self._rounds = Rounds(held_here, tell=self._hear, ring=self._ring_again)
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

    def _ring_again(self, at: float) -> None:
        """A server has been asked. Where it keeps nothing any more, there is no reason to look."""
        if at < math.inf:
            self.ring(at)

    def _hear(self, lost: Sequence[Lease]) -> None:
        """Have it told. Not in this thread: a receiver of the signal that takes its time must keep nothing waiting."""
        if lost:
            threading.Thread(target=self._tell, args=(lost,), name="redislock-losses", daemon=True).start()

    def _run(self) -> None:
        at = math.inf
        while (late := self._sleep(at)) is not None:
            try:
                at = self._rounds.look(late=late)
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
