"""Private servers for the suite and the benchmarks: in temporary directories, torn down afterwards.

`python -m tests.servers -- COMMAND...` runs a command with their addresses in the environment.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .mariadb import MariaDB
from .postgres import PostgreSQL
from .process import Missing, Server
from .redis import Redis

KINDS: tuple[type[Server], ...] = (Redis, PostgreSQL, MariaDB)

__all__ = ["KINDS", "MariaDB", "Missing", "PostgreSQL", "Redis", "Running", "Server", "running"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What `running` could provide."""

    urls: dict[str, str] = field(default_factory=dict)
    """Environment variable -> address, for those that were started."""
    missing: dict[str, str] = field(default_factory=dict)
    """Server name -> why this machine has none."""


@contextmanager
def running(kinds: Sequence[type[Server]] = KINDS) -> Iterator[Running]:
    """Start the servers whose variable is not set in the environment yet; stop them at the end."""
    answer = Running()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="redislock-")))
        # The servers' own accounts must reach their directories inside it.
        directory.chmod(0o755)
        servers = [kind(directory / kind.name.lower()) for kind in kinds if kind.variable not in os.environ]
        for server in servers:
            stack.callback(server.stop)
        with ThreadPoolExecutor(max_workers=len(KINDS)) as pool:
            for server, started in [(server, pool.submit(server.start)) for server in servers]:
                try:
                    answer.urls[server.variable] = started.result()
                except Missing as reason:
                    answer.missing[server.name] = str(reason)
        yield answer
