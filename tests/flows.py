"""Other flows: threads and processes that a test drives."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import connections
from django_redis import get_redis_connection
from redis import Redis

from django_redislock import LockBusy, lock

T = TypeVar("T")


def elsewhere(function: Callable[..., T], *args: Any) -> T:
    """What the function gives, or raises, in another thread with database connections of its own."""

    def run() -> T:
        try:
            return function(*args)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


def attempt(name: str = "a") -> str:
    """What somebody gets who tries once, and gives it back."""
    try:
        with lock(name, nowait=True):
            return "entered"
    except LockBusy:
        return "busy"


def is_free(name: str) -> bool:
    """Whether another thread gets the lock at once; it gives it back."""
    return elsewhere(attempt, name) == "entered"


def client_of(alias: str) -> Redis:
    """The Redis client of a cache."""
    client: Redis = get_redis_connection(alias)
    return client


class Peer:
    """Another Python process; what it does is told line by line, and it answers line by line."""

    def __init__(self, script: str) -> None:
        lines = ["import django, sys", "django.setup()", script]
        self._process = subprocess.Popen(
            [sys.executable, "-c", "\n".join(lines)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        )
        self.pid = self._process.pid

    def hear(self) -> str:
        """The next line that it prints."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def tell(self, line: str = "") -> None:
        """Write a line to it."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def send(self, signal: int) -> None:
        """Send it a signal."""
        self._process.send_signal(signal)

    def end(self) -> int:
        """Wait until it has ended; gives its exit code."""
        self._process.communicate(timeout=30)
        return self._process.returncode

    def kill(self) -> None:
        """Kill it and wait."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def peer(script: str) -> Iterator[Peer]:
    """A process that is gone at the end."""
    process = Peer(script)
    try:
        yield process
    finally:
        process.kill()
