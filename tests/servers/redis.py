"""redis-server, or valkey-server, on a free loopback port."""

from __future__ import annotations

import socket

from .process import Server, find_program

LOOPBACK = "127.0.0.1"


class Redis(Server):
    """A Redis that keeps nothing on disk."""

    name = "Redis"
    variable = "TEST_REDIS_URL"

    def prepare(self) -> None:
        """Choose the port."""
        with socket.create_server((LOOPBACK, 0)) as probe:
            self.port = probe.getsockname()[1]

    @property
    def url(self) -> str:
        """The address for the environment variable."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    def command(self) -> list[str]:
        """The server's command line, staying in the foreground."""
        program = find_program("redis-server", "valkey-server")
        where = ["--bind", LOOPBACK, "--port", str(self.port), "--dir", str(self.directory)]
        return [program, *where, "--save", "", "--appendonly", "no", "--daemonize", "no"]

    def answers(self) -> bool:
        """Whether the server takes requests by now."""
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False
