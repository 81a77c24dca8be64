"""PostgreSQL on a free loopback port, as Redis is: what is compared goes the same way."""

from __future__ import annotations

import signal
import subprocess
from functools import cached_property
from pathlib import Path

from .process import Server, find_program
from .redis import LOOPBACK, free_port

USER = "redislock"


class PostgreSQL(Server):
    """A PostgreSQL with its own defaults, so it writes through to the disk at each commit."""

    name = "PostgreSQL"
    variable = "TEST_POSTGRES_URL"
    account = "postgres"
    stop_signal = signal.SIGINT  # its "fast" shutdown; SIGTERM would wait for clients to leave

    @cached_property
    def programs(self) -> Path:
        """Where initdb is, and so all the rest, of the newest version: Debian has them off the path."""
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name, reverse=True)
        return Path(find_program("initdb", also=versions)).resolve().parent

    @property
    def url(self) -> str:
        """The address for the environment variable."""
        return f"postgres://{USER}@{LOOPBACK}:{self.port}/postgres"

    def prepare(self) -> None:
        """Choose the port, and make the cluster."""
        self.port = free_port()
        data = str(self.directory / "data")
        how = ["--username", USER, "--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync"]
        self.run(str(self.programs / "initdb"), "--pgdata", data, *how)

    def command(self) -> list[str]:
        """The server's command line, staying in the foreground."""
        data = str(self.directory / "data")
        where = ["-k", str(self.directory), "-h", LOOPBACK, "-p", str(self.port)]
        return [str(self.programs / "postgres"), "-D", data, *where]

    def answers(self) -> bool:
        """Whether the server takes requests by now."""
        where = ["--host", LOOPBACK, "--port", str(self.port)]
        ask = [str(self.programs / "pg_isready"), "--quiet", *where, "--username", USER]
        return subprocess.run(ask, check=False).returncode == 0
