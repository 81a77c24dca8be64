"""Other flows: threads and processes that a test drives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
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


def attempt(name: str = "a", *, wait: float = 0) -> str:
    """What somebody gets who tries, once or for so long, and gives it back."""
    try:
        with lock(name, wait=wait):
            return "entered"
    except LockBusy:
        return "busy"


def is_free(name: str) -> bool:
    """Whether another thread gets the lock at once; it gives it back."""
    return elsewhere(attempt, name) == "entered"


PATIENCE = 30.0
GLIMPSE = 0.002
"""Seconds between two looks: who waits for a server or for others leaves them the machine."""


def until(condition: Callable[[], bool]) -> None:
    """Ask a server again and again until something is so, which it says on its own clock or of its own state."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"not so after {PATIENCE:g} s"
        time.sleep(GLIMPSE)


def waiters_of(name: str) -> int:
    """How many wait for a lock."""
    info = lock(name).info()
    return info.waiters if info else 0


def hearers_of(name: str) -> int:
    """How many processes listen on the channels of those who wait for a lock of the cache "real"."""
    client = client_of("real")
    tokens = [token.decode() for key in client.scan_iter(f"*:queue:{name}") for token in client.lrange(key, 0, -1)]
    channels = {client.get(f"redislock:flow:{token[:16]}").split()[1] for token in tokens}
    return sum(count for _, count in client.pubsub_numsub(*channels))


def client_of(alias: str) -> Redis:
    """The Redis client of a cache."""
    client: Redis = get_redis_connection(alias)
    return client


class Peer:
    """Another Python process; what it does is told line by line, and it answers line by line."""

    def __init__(self, script: str, *, first: str = "") -> None:
        lines = [first, "import django, sys", "django.setup()", script]
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

    def stop(self) -> None:
        """Stop it (`SIGSTOP`), and wait until it stands still; `SIGCONT` lets it go on."""
        self.send(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def end(self) -> int:
        """Wait until it has ended; gives its exit code."""
        self._process.communicate(timeout=30)
        return self._process.returncode

    def kill(self) -> None:
        """Kill it and wait."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def peer(script: str, *, first: str = "") -> Iterator[Peer]:
    """A process that is gone at the end; it runs `first` before everything else."""
    process = Peer(script, first=first)
    try:
        yield process
    finally:
        process.kill()
