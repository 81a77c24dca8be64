"""What could not be given back: it is, as soon as the server answers again."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from .. import clock

if TYPE_CHECKING:
    from ..steps import Steps
    from .verbs import Call

logger = logging.getLogger("django_redislock")

MOST = 1_000
"""So many are remembered; what is forgotten ends with its ttl, as all would without this."""
LONGEST = 3600.0
"""Seconds for which each is remembered: by then nearly every ttl is over."""


class NotNow(Exception):
    """The server answers, but refuses what was sent: it is full, or a replica."""


class Debt(NamedTuple):
    """One that is owed."""

    pid: int
    until: float
    call: Call[None]

    @property
    def stands(self) -> bool:
        """Whether it is this process' and still of use. A child of `fork` has its parent's as well."""
        return self.pid == os.getpid() and clock.now() < self.until


class Debts(deque[Debt]):
    """Calls that settle questions which were not answered. Each may be sent although it is not needed any more."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(maxlen=MOST)

    def add(self, call: Call[None]) -> None:
        """Remember it."""
        self.append(Debt(os.getpid(), clock.now() + LONGEST, call))

    def paying(self, send: Callable[[Call[None]], Steps[None]]) -> Steps[None]:
        """Send all of them; what `send` raises ends it, and the call at which it did stays owed.

        `NotNow` ends it quietly: that one comes after the others the next time.
        """
        while self:
            try:
                owed = self.popleft()
            except IndexError:  # another thread has paid the rest
                return
            try:
                if owed.stands:
                    yield from send(owed.call)
            except NotNow as refusal:  # that there was no answer has been told
                logger.debug("Refused, so what may be taken stays so for now: %s", refusal)
                self.append(owed)
                return
            except BaseException:
                self.appendleft(owed)
                raise
