"""A signal's handler that raises while a lock is being acquired, wherever that is: nothing stays taken."""

from __future__ import annotations

import itertools
import sys
import threading
from contextlib import nullcontext, suppress
from types import FrameType
from typing import Any

import pytest

from django_redislock import lock, signals
from django_redislock.holds import current_flow
from tests.flows import PATIENCE, is_free, waiters_of

FILES = ("guards.py", "holds.py", "keeping.py", "keylock.py", "lease.py", "waiting.py", "steps.py", "stores/redis.py")


class Torn(BaseException):
    """As `KeyboardInterrupt`, or the time limits of task queues."""


class Tearing:
    """Raises at one line of the package, also where Python looks for no signals; in what comes after, no more."""

    def __init__(self, step: int) -> None:
        self._left = step
        self.has_come = False

    def __enter__(self) -> None:
        self._before = sys.gettrace()  # that of whoever measures the coverage
        sys.settrace(self._called)

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._before)

    def _called(self, frame: FrameType, event: str, arg: object) -> Any:
        if not frame.f_code.co_filename.endswith(FILES):
            return None
        return self._stepped

    def _stepped(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "line":
            self._left -= 1
            if self._left < 0 and not self.has_come:
                self.has_come = True
                raise Torn
        return self._stepped


class Holder:
    """Another thread, which has the lock until somebody waits for it or the test goes on."""

    def __init__(self) -> None:
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._hold)
        self._has_it = threading.Event()

    def __enter__(self) -> None:
        self._thread.start()
        assert self._has_it.wait(PATIENCE)

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _hold(self) -> None:
        with lock("a"):
            self._has_it.set()
            while waiters_of("a") == 0 and not self._is_over.wait(0.001):
                pass


@pytest.mark.parametrize("holder", [nullcontext, Holder], ids=["free", "held"])
def test_wherever_it_comes_the_lock_is_free_afterwards(lock_alias, holder):
    lost: list[Any] = []
    note_loss = lambda **told: lost.append(told)
    signals.lock_lost.connect(note_loss)
    for number in itertools.count():
        tearing, guard = Tearing(number), lock("a")
        with holder(), suppress(Torn):
            with tearing:
                guard.acquire()
            guard.release()
        assert is_free("a"), number
        assert (current_flow().living_holds(), guard._entries, lost) == ([], [], []), number
        if not tearing.has_come:
            break
    assert number > 40
    signals.lock_lost.disconnect(note_loss)
