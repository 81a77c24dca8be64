"""Waiters who listen themselves, in turns: no other thread stands between the server and one that waits alone.

Whose turn it is reads the wake-up connection, tells the others what is theirs, and wakes the next one when it goes. The
thread of the process connects, closes, and looks each second whether there is something that nobody has read.

A signal's handler may come between any two steps, raise there, or wait for a lock itself. So nothing here is held that
another waits for, every step leaves all in order, and who does not go on is passed over by the thread.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol

from .. import clock
from .base import Grant
from .wakeups import SLICE, Heard, Interrupted, Subscription, WaitersEar, Wakeups

TURN = Grant(fence=0, granted=0.0)
"""What one is told whose turn it is now, or was."""
GRACE = 0.2
"""Seconds that who has the turn is given to read what is there: it waits for nothing meanwhile."""


class Audible(Subscription, Protocol):
    """A `Subscription` that several can wait for, while one reads."""

    def wait(self, seconds: float) -> bool:
        """Whether there is something to read within so many seconds. What interrupts this takes nothing with it."""

    def read_all(self) -> list[str]:
        """The messages that have come; none if another has read them. Raises `Interrupted`."""


class Turns:
    """Who reads a subscription. To the thread of the process it is a `Subscription` that says nothing itself."""

    def __init__(self, subscription: Audible, dispatch: Callable[[str], None]) -> None:
        """`dispatch` tells a message to whom it is for."""
        self._subscription = subscription
        self._dispatch = dispatch
        self._pid = os.getpid()
        self.line: dict[Any, None] = {}
        """Who listens. It is the first one's turn."""
        self._listening: Any = None
        """Who waits for the server, or did so last and is there yet."""
        self._gate = threading.Lock()
        """Closed while somebody reads. It stays closed when that one is torn out of it, or the connection broken."""
        self._reads = 0
        """How often somebody has read."""
        self._failures: queue.SimpleQueue[Interrupted] = queue.SimpleQueue()

    def listen(self, ear: Any, heard: Heard, seconds: float) -> Grant | None:
        """As `Ear.listen()`: what one hears oneself, or is told by whose turn it is."""
        until = clock.now() + seconds
        try:
            while True:
                self.line[ear] = None  # which changes nothing, unless it was passed over
                can_read = True
                while can_read and heard.empty() and self._first() is ear and (left := until - clock.now()) > 0:
                    self._listening = ear
                    can_read = self._hear(min(SLICE, left))
                if heard.empty():
                    left = until - clock.now()
                    told = clock.receive(heard, left if can_read else min(SLICE, left))
                else:
                    told = heard.get_nowait()  # which nobody else takes
                if told is not TURN:
                    return told
        finally:
            self.leave(ear)

    def leave(self, ear: Any) -> None:
        """Listen no more."""
        if ear not in self.line:
            return
        if self._listening is ear:
            self._listening = None
        is_first = self._first() is ear
        self.line.pop(ear, None)
        if is_first and self.line:
            self._call_first()

    def read(self, seconds: float) -> None:
        """Wait so long; then read what nobody else does, and pass over the one that should have."""
        self._rest(seconds - GRACE)
        reads = self._reads
        if self._is_left():
            self._rest(GRACE)
            if self._reads == reads and self._is_left():
                self._take_over()
        if self.line and self._first() is not self._listening:
            self._call_first()

    def _rest(self, seconds: float) -> None:
        failure = clock.receive(self._failures, seconds)
        if failure is not None:
            raise failure

    def _is_left(self) -> bool:
        """Whether there is something to read, or to go on with reading."""
        return self._gate.locked() or self._subscription.wait(0)

    def _take_over(self) -> None:
        if not self._gate.acquire(timeout=GRACE):
            raise Interrupted("who read has not come back")
        self._read()
        self._gate.release()
        first = self._first()
        if first is not None:
            self.line.pop(first, None)
            first.tell(TURN)  # it comes again, if it is there

    def close(self) -> None:
        """Close the connection: nobody listens any more, or it is broken."""
        self._subscription.close()

    def _first(self) -> Any:
        line = list(self.line)  # at once, whoever comes and goes
        return line[0] if line else None

    def _call_first(self) -> None:
        first = self._first()
        if first is not None:
            first.tell(TURN)

    def _hear(self, seconds: float) -> bool:
        """Tell everybody what has come, if anything does within so many seconds. Says whether that can go on."""
        is_something = self._subscription.wait(seconds)
        if self._pid != os.getpid():
            return False  # what comes is the parent's
        if not is_something:
            return True
        try:
            if not self._gate.acquire(blocking=False):
                return False
            self._read()
            self._gate.release()
        except Interrupted as error:
            self._failures.put(error)
            return False
        except BaseException as error:
            # Who is torn out of reading may have taken with it what was said to another: all have to ask again.
            self._failures.put(Interrupted(f"reading was interrupted: {error!r}"))
            raise
        return True

    def _read(self) -> None:
        self._reads += 1
        for message in self._subscription.read_all():
            try:
                self._dispatch(message)
            except ValueError as error:
                raise Interrupted(f"unreadable: {message!r}") from error


class ListeningEar(WaitersEar):
    """An `Ear` of this process whose waiter listens itself when it is its turn."""

    __slots__ = ()

    _wakeups: WakeupsInTurns

    def listen(self, seconds: float) -> Grant | None:
        """As `Ear.listen()`."""
        wakeups = self._wakeups
        turns = wakeups.turns if wakeups.channel else None
        if turns is not None:
            return turns.listen(self, self._heard, seconds)
        told = super().listen(seconds)
        return None if told is TURN else told  # on a connection that is no more


class WakeupsInTurns(Wakeups):
    """The wake-up connection of this process to one server; its waiters listen themselves where that is possible."""

    _kind = ListeningEar

    def __init__(self, subscribe: Callable[[str], Any], *, prefix: str, rest: Callable[[], object]) -> None:
        super().__init__(lambda channel: self._in_turns(subscribe(channel)), prefix=prefix, rest=rest)

    def start_over(self) -> None:
        """As `Wakeups.start_over()`."""
        super().start_over()
        self.turns: Turns | None = None
        """Where one listens, as long as there is a channel."""

    def forget(self, token: str) -> None:
        """As `Wakeups.forget()`."""
        ear = self._ears.pop(token, None)
        if self.turns is not None and ear in self.turns.line:
            self.turns.leave(ear)  # it was interrupted in that

    def _in_turns(self, subscription: Any) -> Any:
        is_audible = getattr(subscription, "is_audible", False)
        self.turns = Turns(subscription, self._dispatch) if is_audible else None
        return self.turns or subscription
