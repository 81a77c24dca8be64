"""Who holds a lock, for people to read: host, process, thread and what it is doing."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import NamedTuple

from . import forks


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The owner of a lease as it described itself when it acquired."""

    host: str
    """Name of the machine or container."""
    pid: int
    """Process id on that host."""
    thread: str
    """Name of the thread."""
    doing: str
    """The request, command or task that it works on, else the program that is running."""
    user: str = ""
    """Primary key of the user for whom it works, where that is known."""

    def __str__(self) -> str:
        about = ", ".join(filter(None, (self.doing, self.user and f"user {self.user}")))
        return f"{self.host} pid {self.pid} {self.thread}{f' ({about})' if about else ''}"


class Work(NamedTuple):
    """What a flow works on, and for whom."""

    doing: str
    """A request, a command, a task."""
    user: str = ""
    """Primary key of the user."""


LONGEST_WORK = 200
"""Characters of it that are kept: it is stored beside every lock."""

_work: ContextVar[Callable[[], Work] | None] = ContextVar("django_redislock_work", default=None)


class WorkingOn:
    """A block in which locks say what their holder is doing."""

    __slots__ = ("_before", "_describe")

    def __init__(self, describe: Callable[[], Work]) -> None:
        self._describe = describe
        self._before: Callable[[], Work] | None = None

    def __enter__(self) -> None:
        self._before = _work.get()
        _work.set(self._describe)

    def __exit__(self, *error: object) -> None:
        _work.set(self._before)  # not by a token: under ASGI the block may end in a copy of its context


def working_on(describe: Callable[[], Work]) -> WorkingOn:
    """Within the block, locks say that their holder is doing what `describe()` gives.

    It is called when a lock is acquired, not before. It must not ask a database or a server, and what it gives is
    shown to whoever may see locks: it holds no secrets.
    """
    return WorkingOn(describe)


@lru_cache(maxsize=1)
def _host() -> str:
    return socket.gethostname()


@lru_cache(maxsize=1)
def _program() -> str:
    """The script and its subcommand; other arguments may hold secrets and are left out."""
    script = PurePath(sys.argv[0]).name if sys.argv else ""
    has_subcommand = script in {"manage.py", "django-admin"} and len(sys.argv) > 1
    return f"{script} {sys.argv[1]}" if has_subcommand and not sys.argv[1].startswith("-") else script


def is_described() -> bool:
    """Whether what the flow works on is told already."""
    return _work.get() is not None


@lru_cache(maxsize=1024)
def _encoded(pid: int, thread: str, doing: str, user: str) -> str:
    known = [_host(), pid, thread, doing[:LONGEST_WORK] or _program()]
    return json.dumps([*known, user] if user else known, separators=(",", ":"))


def encode_current() -> str:
    """The running thread's description in the form that is stored beside the lock."""
    describe = _work.get()
    doing, user = describe() if describe is not None else ("", "")
    return _encoded(forks.pid, threading.current_thread().name, doing, user)


@lru_cache(maxsize=1024)
def decode(text: str) -> Holder:
    """Read back what `encode_current()` wrote."""
    host, pid, thread, doing, *user = json.loads(text)
    return Holder(host=host, pid=pid, thread=thread, doing=doing, user=user[0] if user else "")
