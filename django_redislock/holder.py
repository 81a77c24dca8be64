"""Who holds a lock, for people to read: host, process, thread and what it is doing."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath


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
    """The program that is running, such as `manage.py import_prices`."""

    def __str__(self) -> str:
        doing = f" ({self.doing})" if self.doing else ""
        return f"{self.host} pid {self.pid} {self.thread}{doing}"


@lru_cache(maxsize=1)
def _host() -> str:
    return socket.gethostname()


@lru_cache(maxsize=1)
def _program() -> str:
    """The script and its subcommand; other arguments may hold secrets and are left out."""
    script = PurePath(sys.argv[0]).name if sys.argv else ""
    has_subcommand = script in {"manage.py", "django-admin"} and len(sys.argv) > 1
    return f"{script} {sys.argv[1]}" if has_subcommand and not sys.argv[1].startswith("-") else script


@lru_cache(maxsize=1024)
def _encoded(pid: int, thread: str) -> str:
    return json.dumps([_host(), pid, thread, _program()], separators=(",", ":"))


def encode_current() -> str:
    """The running thread's description in the form that is stored beside the lock."""
    return _encoded(os.getpid(), threading.current_thread().name)


def decode(text: str) -> Holder:
    """Read back what `encode_current()` wrote."""
    host, pid, thread, doing = json.loads(text)
    return Holder(host=host, pid=pid, thread=thread, doing=doing)
