"""Hearing of a turn at several nodes."""

from __future__ import annotations

import queue
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import clock, majority

if TYPE_CHECKING:
    from .base import Ear, Grant
    from .nodes import Node

BETWEEN = "\n"
"""Between the channels of the nodes."""

GRACE = 0.03
"""Seconds to wait at most for the others when one node has told: the release is on its way to them."""
LOOK = 1.5
"""Seconds at most until one asks again that has heard nothing."""
MOMENT, STEP = 1.0, 0.005
"""Seconds for which the first waiter waits until a majority of nodes is listened to, and between two looks."""


class QuorumEar:
    """An `Ear` at all nodes. What is heard is never the whole grant: it is time to ask again."""

    kept = False

    def __init__(self, nodes: Sequence[Node], token: str, *, within: float | None) -> None:
        self._heard: queue.SimpleQueue[Grant | None] = queue.SimpleQueue()
        self._needed = majority.needed(len(nodes))
        self._ears: list[Ear] = []
        try:
            for node in nodes:
                self._ears.append(node.ear(token, within=0.0, heard=self._heard))
            self._wait(MOMENT if within is None else min(MOMENT, within))
        except BaseException:
            self.close()
            raise

    def _wait(self, seconds: float) -> None:
        """Until a majority is listened to."""
        until = clock.now() + seconds
        while sum(bool(ear.channel) for ear in self._ears) < self._needed and clock.now() < until:
            clock.sleep(STEP)

    @property
    def channel(self) -> str:
        """The channels of all nodes; one may be empty. Nothing where nothing can be heard."""
        channels = [ear.channel for ear in self._ears]
        return BETWEEN.join(channels) if any(channels) else ""

    def listen(self, seconds: float) -> None:
        """Wait until most nodes have told, or for so long at most."""
        until = clock.now() + min(seconds, random.uniform(LOOK / 3, LOOK))
        heard = 0
        while heard < self._needed and clock.now() < until:
            clock.receive(self._heard, until - clock.now())
            heard += 1
            if heard == 1:
                until = min(until, clock.now() + random.uniform(GRACE / 10, GRACE))

    def close(self) -> None:
        """Hear no more."""
        for ear in self._ears:
            ear.close()
