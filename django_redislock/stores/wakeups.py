"""Waking those who wait: one connection of a process, subscribed to a channel of its own, for all its waiters.

A thread listens on it from the first contention until shortly after the last, or sees to it that those who wait do so
themselves. It sends nothing, and asks nothing.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Protocol

from .. import clock, forks
from ..steps import Steps, run
from .base import Grant
from .verbs import read_grant

logger = logging.getLogger("django_redislock")

SLICE = 1.0
"""Seconds for which the thread blocks at most, shorter than any sensible `socket_timeout`."""
IDLE = 5.0
"""Seconds after the last waiter for which the connection is kept."""
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 1.0
"""Seconds between two attempts to connect again."""
MOMENT = 1.0
"""Seconds for which the first waiter waits for the subscription, before it goes on without: by asking again."""


Heard = queue.SimpleQueue[Grant | None]
"""What a waiter has heard and not taken notice of yet."""


class Refused(Exception):
    """The server does not let this user subscribe."""


class Interrupted(Exception):
    """The connection broke."""


class Subscription(Protocol):
    """A connection that is subscribed. Both raise `Interrupted`."""

    def read(self, seconds: float) -> str | None:
        """The next message, if one comes within so many seconds."""

    def close(self) -> None:
        """Close the connection."""


class WaitersEar:
    """An `Ear` of this process."""

    __slots__ = ("_heard", "_wakeups", "close", "tell")

    kept = False

    def __init__(self, wakeups: Wakeups, token: str, heard: Heard | None = None) -> None:
        self._wakeups = wakeups
        self._heard: Heard = queue.SimpleQueue() if heard is None else heard
        self.tell: Callable[[Grant | None], None] = self._heard.put
        """Wakes the waiter: with its grant, or to ask again."""
        self.close: Callable[[], None] = partial(wakeups.forget, token)
        """Hears no more."""

    @property
    def channel(self) -> str:
        """The channel of this process, while it is subscribed."""
        return self._wakeups.channel

    def listen(self, seconds: float) -> Grant | None:
        """Wait so long at most; nothing heard means that it is time to ask again."""
        return clock.receive(self._heard, seconds)


class Wakeups:
    """The wake-up connection of this process to one server."""

    _kind: ClassVar[Any] = WaitersEar

    def __init__(
        self, subscribe: Callable[[str], Any], *, prefix: str, rest: Callable[[], object] | None = None
    ) -> None:
        """`rest` is called when nothing has come for a while, again and again."""
        self._subscribe = subscribe
        self._prefix = prefix
        self._rest = rest
        self.start_over()
        forks.starts_over(self)

    def start_over(self) -> None:
        """As in a process that has just been forked: whatever the parent had is the parent's."""
        word = "_".join(self._prefix.split())  # the scripts find its end by the space after it
        self._channel = f"{word}:wake:{os.urandom(8).hex()}"
        self.channel = ""
        """What this process is subscribed to now, if it is."""
        self._ears: dict[str, WaitersEar] = {}
        self._listener: Any = None
        """The thread, while there is one."""
        self._place: dict[str, object] = {}
        """Who listens. No lock, for a signal's handler may come between any two steps, and wait as well."""
        self._refused = False

    def ear(self, token: str, *, within: float | None = None, heard: Heard | None = None) -> WaitersEar:
        """As `Store.ear()`. The first one connects, and waits for that a moment.

        What is heard is put into `heard`, where that is given: for one who listens at several places.
        """
        ear: WaitersEar = run(self.hearing(token, within, heard))
        return ear

    def hearing(self, token: str, within: float | None, heard: Any = None) -> Steps[Any]:
        """The steps of `ear()`."""
        ear = self._kind(self, token, heard)
        moment = MOMENT if within is None else min(MOMENT, within)
        try:
            self._ears[token] = ear
            will_be_told = not self.channel and not self._refused
            self._see_to_it()
            if will_be_told and moment > 0:
                yield ear.listen(moment)
        except BaseException:
            self.forget(token)
            raise
        return ear

    def _see_to_it(self) -> None:
        """Have somebody listen. Of two who begin at once one ends at once."""
        if self._listener is None and not self._refused:
            self._listener = self._begin()

    def _begin(self) -> Any:
        """Begin to listen, beside what goes on here."""
        thread = threading.Thread(target=lambda: run(self._running()), name="redislock-wakeups", daemon=True)
        thread.start()
        return thread

    def _pause(self, seconds: float) -> Any:
        clock.sleep(seconds)

    def has_ear(self, token: str) -> bool:
        """Whether somebody listens for this token."""
        return token in self._ears

    def forget(self, token: str) -> None:
        """Nobody listens for this token any more."""
        self._ears.pop(token, None)

    def _running(self) -> Steps[None]:
        """Listen, unless another does; connect again when the connection breaks while somebody waits."""
        myself = object()
        if self._place.setdefault("taken", myself) is not myself:
            return
        pause = FIRST_PAUSE
        while True:
            try:
                subscription = yield self._subscribe(self._channel)
                yield from self._listening(subscription)
                return
            except Refused as error:
                self._give_up(error)
                return
            except Interrupted as error:
                logger.debug("The wake-up connection broke: %s", error)
            except Exception:
                # Nobody may be left waiting for a listener that is dead.
                logger.exception("Listening for releases failed; who waits asks again until it works")
            pause = FIRST_PAUSE if self.channel else min(LONGEST_PAUSE, pause * 2)
            self.channel = ""
            if self._retire():
                return
            yield self._pause(pause)

    def _listening(self, subscription: Any) -> Steps[None]:
        """Pass on what is heard until nobody waits any more. Raises `Interrupted`."""
        try:
            self._be_ready(self._channel)  # what was published in the meantime is lost: they have to ask
            last_used = clock.now()
            while self._ears or clock.now() - last_used < IDLE or not self._retire():
                last_used = clock.now() if self._ears else last_used
                message = yield subscription.read(SLICE)
                if message:
                    self._dispatch(message)
                elif self._rest is not None:
                    self._rest()
        finally:
            yield subscription.close()

    def _give_up(self, error: Refused) -> None:
        """Without subscription everybody has to ask again and again."""
        logger.warning("The Redis user may not subscribe, so who waits for a lock has to ask again: %s", error)
        self._refused = True
        self._be_ready("")

    def _retire(self) -> bool:
        """Give the place up unless somebody has come in the meantime."""
        channel, self.channel = self.channel, ""  # who comes now waits until somebody listens
        if self._ears:
            if channel:
                self._be_ready(channel)
            return False
        self._place.clear()
        self._listener = None
        if self._ears:  # it came before it could know that nobody listens any more
            self._see_to_it()
        return True

    def _dispatch(self, message: str) -> None:
        token, grant = read_grant(message)
        ear = self._ears.get(token)
        if ear is not None:  # else it has left, and given up what it was granted
            ear.tell(grant)

    def _be_ready(self, channel: str) -> None:
        """Tell all who wait, be it for that."""
        self.channel = channel
        for ear in list(self._ears.values()):
            ear.tell(None)
