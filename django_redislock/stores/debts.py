"""What could not be given back: it is, as soon as the server answers again."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .verbs import Call

MOST = 1_000
"""So many are remembered; what is forgotten ends with its ttl, as all would without this."""


class Debts:
    """Calls that settle questions which were not answered. Each may be sent although it is not needed any more."""

    __slots__ = ("_owed",)

    def __init__(self) -> None:
        self._owed: deque[tuple[int, Call[None]]] = deque(maxlen=MOST)

    def __len__(self) -> int:
        return len(self._owed)

    def add(self, call: Call[None]) -> None:
        """Remember it."""
        self._owed.append((os.getpid(), call))

    def pay(self, send: Callable[[Call[None]], Any]) -> None:
        """Send all of them; what `send` raises ends it, and the call at which it did stays owed.

        A child of `fork` has its parent's list as well: it forgets that.
        """
        while self._owed:
            try:
                owed = self._owed.popleft()
            except IndexError:  # another thread has paid the rest
                return
            try:
                if owed[0] == os.getpid():
                    send(owed[1])
            except BaseException:
                self._owed.appendleft(owed)
                raise
