"""`redislock run KEY -- CMD ARGS`: hold a lock while a program runs, as `flock` does with a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from django.core.management.base import CommandError

from ..exceptions import LeaseLost, LockBusy, StoreUnavailable
from ..functions import lock
from ..handler import DEFAULT_ALIAS
from ..lease import Lease
from ..terms import UNSET
from .console import Console
from .names import kept_name

BUSY = 75  # EX_TEMPFAIL of sysexits.h: try again later
LOST = 76
LOOK_EVERY = 0.5
"""Seconds between two looks at the lease."""
NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as shells have it
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def add_arguments(parser: ArgumentParser) -> None:
    """Which lock, how long for, and the program."""
    parser.add_argument("key", help="A name, or a row such as bank.Account:42.")
    parser.add_argument("--alias", default=DEFAULT_ALIAS, help="Alias of REDISLOCK. Default: %(default)s.")
    parser.add_argument("--wait", type=float, help="Seconds to wait for the lock. Default: the setting. 0: one try.")
    parser.add_argument("--ttl", type=float, help="Seconds until it ends if this host dies. Default: the setting.")
    parser.set_defaults(program=[])
    parser.usage = "manage.py redislock run KEY [--alias ALIAS] [--wait WAIT] [--ttl TTL] -- PROGRAM [ARGUMENT ...]"


def run(console: Console, options: dict[str, Any]) -> None:
    """Hold the lock while the program runs. Exits with its status, 75 when the lock is busy, 76 when it was lost."""
    if not options["program"]:
        raise CommandError("Say what to run: manage.py redislock run KEY -- PROGRAM ARGUMENTS.")
    status = hold(options["program"], options)
    if status:
        sys.exit(status)


def hold(program: list[str], options: dict[str, Any]) -> int:
    """The exit status. Raises `CommandError`."""
    ttl, wait = (UNSET if options[name] is None else options[name] for name in ("ttl", "wait"))
    try:
        name = kept_name(options["key"], alias=options["alias"])
        with handling(leave), lock(name, alias=options["alias"], ttl=ttl, wait=wait, max_hold=None) as lease:
            return carry_out(program, lease)
    except LockBusy as error:
        raise CommandError(str(error), returncode=BUSY) from error
    except LeaseLost as error:
        raise CommandError(str(error), returncode=LOST) from error
    except (StoreUnavailable, ValueError) as error:
        raise CommandError(str(error)) from error


def carry_out(program: list[str], lease: Lease) -> int:
    """Run the program to its end, or until the lease is lost: then it is told to end."""
    passing = Passing()
    with handling(passing):
        try:
            child = subprocess.Popen(program)
        except FileNotFoundError as error:
            raise CommandError(f"{program[0]}: {error.strerror}", returncode=NOT_FOUND) from error
        except OSError as error:
            raise CommandError(f"{program[0]}: {error.strerror}", returncode=NOT_EXECUTABLE) from error
        passing.to(child)
        code = wait_for(child, lease)
    return 128 - code if code < 0 else code


def wait_for(child: subprocess.Popen[bytes], lease: Lease) -> int:
    """The child's return code. The watchdog keeps the lease meanwhile; without it the child is told to end."""
    while lease.trusted:
        with suppress(subprocess.TimeoutExpired):
            return child.wait(timeout=LOOK_EVERY)
    child.terminate()
    return child.wait()


def leave(number: int, _frame: FrameType | None) -> NoReturn:
    """End in good order: the lock is given back on the way out."""
    sys.exit(128 + number)


class Passing:
    """Passes signals on to the child, those that come before it is there as soon as it is."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal."""
        if self._child is None:
            self._early.append(number)
        elif number != signal.SIGINT or not in_foreground():
            self._child.send_signal(number)

    def to(self, child: subprocess.Popen[bytes]) -> None:
        """This is the child."""
        self._child = child
        for number in self._early:
            child.send_signal(number)


def in_foreground() -> bool:
    """Whether Ctrl-C in a terminal reaches our child too, as one of the same process group."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):  # no terminal, or no standard input at all
        return False


@contextmanager
def handling(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Signals go to the handler meanwhile, where this is the thread that gets them."""
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in PASSED_ON} if is_main else {}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
