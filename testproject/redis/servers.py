"""Have a Redis for the length of a `with` block, and stop it afterwards if it was started for that."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError

from .programs import NoRedisFound, Program, find_program

READY_WITHIN = 15.0
TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A Redis that answers."""

    url: str
    what: str
    """What it is and where, without any password of the URL."""


@contextmanager
def serving(environ: Mapping[str, str] = os.environ) -> Iterator[Serving]:
    """The Redis of `REDIS_URL` when that answers, else one that is started and stopped here.

    Raises `NoRedisFound` when this machine has none.
    """
    url = environ.get("REDIS_URL")
    fault = reachable(url) if url else None
    if url and fault is None:
        yield Serving(url=url, what=f"the server of REDIS_URL, {address(url)}")
        return
    instead = f"REDIS_URL ({address(url)}) does not answer ({fault}); instead " if url else ""
    with started(find_program()) as server:
        yield Serving(url=server.url, what=instead + server.what)


@contextmanager
def started(program: Program) -> Iterator[Serving]:
    """Start a program on a free port, wait until it answers, stop it at the end.

    Raises `NoRedisFound` when it does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="redis-") as directory:
        process, port = start(program, directory)
        try:
            yield Serving(url=f"redis://127.0.0.1:{port}/0", what=f"{program.what}, 127.0.0.1:{port}")
        finally:
            stop(process)


def start(program: Program, directory: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start it on a free port; on another one when somebody else took that in between."""
    for _ in range(TRIES):
        port = free_port()
        process = subprocess.Popen(
            [*program.argv, str(port)],
            cwd=directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal must not stop it before those who use it
        )
        try:
            if answers(process, f"redis://127.0.0.1:{port}/0"):
                return process, port
        except BaseException:
            stop(process)
            raise
        stop(process)
    raise NoRedisFound(f"{program.what} does not come up: tried {TRIES} ports.")


def answers(process: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until it answers; `False` when it ended or took too long."""
    until = time.monotonic() + READY_WITHIN
    while process.poll() is None and time.monotonic() < until:
        if reachable(url) is None:
            return True
        time.sleep(0.02)
    return False


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server, whatever state it is in."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def reachable(url: str) -> str | None:
    """Ask once: `None` when it answers, else the kind of fault (its text could quote the URL)."""
    try:
        with Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2) as client:
            client.ping()
    except (RedisError, OSError, ValueError) as error:
        return type(error).__name__
    return None


def address(url: str) -> str:
    """Host and port or socket path of a URL, and nothing else of it."""
    try:
        options = Redis.from_url(url).connection_pool.connection_kwargs
    except ValueError:
        return "not a Redis URL"
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")


def free_port() -> int:
    """A port of this machine that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
