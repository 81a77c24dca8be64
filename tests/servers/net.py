"""A net between servers that can be cut: each comes from an address of its own, and is reached by way of relays."""

from __future__ import annotations

import socket
import socketserver
import threading
from contextlib import suppress

LOOPBACK = "127.0.0.1"


class Net:
    """Who is on which side, and what passes between them. Those who have not joined reach everybody."""

    def __init__(self) -> None:
        self._hosts: list[str] = []
        self._cut_off: set[str] = set()
        self._relays: list[Relay] = []

    def join(self) -> str:
        """The address from which a server is to make its connections."""
        self._hosts.append(f"127.0.1.{len(self._hosts) + 1}")
        return self._hosts[-1]

    def relay(self, host: str, port: int) -> int:
        """The port by which the others reach a port of that server."""
        relay = Relay(self, host, port)
        self._relays.append(relay)
        threading.Thread(target=relay.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return int(relay.server_address[1])

    def cut(self, *hosts: str) -> None:
        """From now on nothing passes between these and the others, in whatever direction."""
        self._cut_off = set(hosts)
        for relay in self._relays:
            relay.cut()

    def heal(self) -> None:
        """All reach each other again."""
        self._cut_off = set()

    def lets_pass(self, source: str, target: str) -> bool:
        """Whether one reaches the other."""
        return source not in self._hosts or (source in self._cut_off) == (target in self._cut_off)

    def close(self) -> None:
        """Let nothing pass any more."""
        for relay in self._relays:
            relay.shutdown()
            relay.server_close()


class Relay(socketserver.ThreadingTCPServer):
    """Passes on what comes for one port of a server."""

    daemon_threads = True

    def __init__(self, net: Net, host: str, port: int) -> None:
        super().__init__((LOOPBACK, 0), _Passage)
        self.net = net
        self.host = host
        self.port = port
        self.open: dict[socket.socket, str] = {}
        """The connections, and where each comes from."""

    def cut(self) -> None:
        """Cut the connections that may not be any more."""
        for connection, source in list(self.open.items()):
            if not self.net.lets_pass(source, self.host):
                end(connection)


class _Passage(socketserver.BaseRequestHandler):
    """One connection."""

    server: Relay

    def handle(self) -> None:
        source = self.client_address[0]
        self.server.open[self.request] = source
        try:
            if self.server.net.lets_pass(source, self.server.host):
                with suppress(OSError), socket.create_connection((LOOPBACK, self.server.port)) as server:
                    threading.Thread(target=pass_on, args=[server, self.request], daemon=True).start()
                    pass_on(self.request, server)
        finally:
            del self.server.open[self.request]


def pass_on(source: socket.socket, target: socket.socket) -> None:
    """Until either side leaves."""
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    end(source)
    end(target)


def end(connection: socket.socket) -> None:
    """Nothing comes or goes by it any more."""
    with suppress(OSError):  # the other side was faster
        connection.shutdown(socket.SHUT_RDWR)
