"""Signals that end a process, turned into an exception, so that what it holds is given back first.

SIGTERM and SIGHUP end a Python program without running a single `finally`: each deploy would leave a lock behind
until its ttl.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

NAMES = ("SIGTERM", "SIGHUP", "SIGINT")
ENDING = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
DEFAULTS: tuple[Any, ...] = (signal.SIG_DFL, signal.default_int_handler)
"""Handlers that are replaced. One that the program has set itself, to ignore a signal or to do it better, stays."""


class Terminated(SystemExit):
    """A signal has asked the process to end."""


class Interruptions:
    """Within the block a signal that ends the process raises; after the block it ends the process.

    Only the main thread can handle signals: in others nothing is changed.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._caught: int | None = None
        self._postponed = False

    def __enter__(self) -> Interruptions:
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                if signal.getsignal(number) in DEFAULTS:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._caught is not None:
            return  # it is on its way out
        self._caught = number
        if not self._postponed:
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated(128 + number)

    def postpone(self) -> None:
        """From here on signals are noted and wait for the end of the block: nothing comes in between."""
        self._postponed = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._caught is not None and not isinstance(error, KeyboardInterrupt):
            signal.raise_signal(self._caught)  # with the handler of before, so that the exit status is the signal's
