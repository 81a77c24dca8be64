"""Answers of nodes that were not waited for, since those of the others were enough."""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import clock, forks
from ..exceptions import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from .nodes import Asked

MOST = 4
"""So many of one node are left to come, each on a connection of its own. Then the oldest are waited for."""


class Late(NamedTuple):
    """One that is to come yet."""

    pid: int
    number: int
    """Of the node."""
    token: str
    asked: Asked[Any]
    until: float
    """When it has to have come."""

    def hear(self) -> Any:
        """The answer, or the error in its place."""
        try:
            return self.asked.receive(self.until)
        except StoreUnavailable as error:
            return error


class Latecomers:
    """The answers that this process has not heard yet. Those that do not come in time are taken back.

    What a token asks of a node must not overtake what it has asked there before: that is waited for. All others are
    heard when they have come, by whoever asks next.
    """

    def __init__(self) -> None:
        self._late: list[Late] = []
        self.start_over()
        forks.starts_over(self)
        weakref.finalize(self, hear_all, self._late)

    def start_over(self) -> None:
        """As in a process that has just been forked: what the parent has asked is the parent's."""
        self._late.clear()
        self._pid = os.getpid()
        self._guard = threading.RLock()  # a signal's handler may ask as well

    def _guarded(self) -> threading.RLock:
        """What to hold while the list is looked at, in this process."""
        if self._pid != os.getpid():
            self.start_over()
        return self._guard

    def add(self, asked: Mapping[int, Asked[Any]], *, token: str, until: float) -> None:
        """Hear them later."""
        with self._guarded():
            self._late += [Late(self._pid, number, token, question, until) for number, question in asked.items()]

    def drop(self, asked: Collection[Asked[Any]]) -> None:
        """Do not hear them."""
        with self._guarded():
            self._late[:] = [late for late in self._late if late.asked not in asked]

    def owing(self, token: str) -> set[int]:
        """The nodes that owe this token an answer."""
        return {late.number for late in self._late if late.token == token}

    def hear(self, token: str) -> list[tuple[Late, Any]]:
        """What has come, what this token has to wait for, and what should have come by now."""
        if not self._late:
            return []
        with self._guarded():
            due = self._due(token)
            self._late[:] = [late for late in self._late if late not in due]
        heard: list[tuple[Late, Any]] = []
        try:
            while due:
                heard.append((due[0], due[0].hear()))
                due.popleft()
        except BaseException:
            due.popleft().asked.abandon()
            with self._guarded():
                self._late += due
            raise
        return heard

    def hear_all(self) -> None:
        """Wait for all of them."""
        with self._guarded():
            waiting = self._late.copy()
            self._late.clear()
        hear_all(waiting)

    def _due(self, token: str) -> deque[Late]:
        due: deque[Late] = deque()
        now, left = clock.now(), Counter(late.number for late in self._late)
        for late in self._late:
            if late.token == token or left[late.number] > MOST or late.until <= now or late.asked.has_come():
                due.append(late)
                left[late.number] -= 1
        return due


def hear_all(waiting: list[Late]) -> None:
    """Wait for these, if they are this process'."""
    while waiting:
        late = waiting.pop()
        if late.pid == os.getpid():
            late.hear()
