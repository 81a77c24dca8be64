"""A Redis with other doors than a plain port: a Unix socket, and TLS."""

from __future__ import annotations

import socket
from pathlib import Path

import trustme

from .redis import LOOPBACK, Redis


class Doors(Redis):
    """One server behind a Unix socket and behind TLS, with a certificate of an authority of its own."""

    def prepare(self) -> None:
        """Choose the ports and make the certificate."""
        super().prepare()
        with socket.create_server((LOOPBACK, 0)) as probe:
            self.tls_port = probe.getsockname()[1]
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.authority))
        authority.issue_cert(LOOPBACK).private_key_and_cert_chain_pem.write_to_path(str(self._certificate))

    def command(self) -> list[str]:
        """The server's command line, staying in the foreground."""
        certificate = ["--tls-cert-file", str(self._certificate), "--tls-key-file", str(self._certificate)]
        trusted = ["--tls-ca-cert-file", str(self.authority), "--tls-auth-clients", "no"]
        tls = ["--tls-port", str(self.tls_port), *certificate, *trusted]
        return [*super().command(), "--unixsocket", str(self.directory / "socket"), *tls]

    @property
    def authority(self) -> Path:
        """The certificate of whoever signed the server's."""
        return self.directory / "authority.pem"

    @property
    def _certificate(self) -> Path:
        return self.directory / "server.pem"

    @property
    def urls(self) -> dict[str, str]:
        """The address of each door."""
        return {"socket": f"unix://{self.directory}/socket?db=0", "tls": f"rediss://{LOOPBACK}:{self.tls_port}/0"}
