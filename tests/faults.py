"""A server that fails on demand: a TCP proxy that stands between a Redis client and a real server."""

from __future__ import annotations

import random
import socket
import socketserver
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import Enum
from io import BufferedIOBase
from urllib.parse import urlsplit

from django_redis.pool import ConnectionFactory

from django_redislock.stores.scripts import Script

LOOPBACK = "127.0.0.1"
SCRIPT_CALLS = frozenset({"EVALSHA", "EVAL"})
CUT = OSError("The connection is cut.")


class Fault(Enum):
    """What happens to a command; bytes are a reply given in the server's place."""

    NONE = "it is answered"
    SLOW = "the answer takes its time"
    LOSE_QUESTION = "the connection is cut before the server sees it"
    LOSE_REPLY = "the server carries it out, and the connection is cut"
    SWALLOW = "the server never sees it, but whatever follows on the connection"
    LATE = "the server carries it out, and the answer comes only before the next one on the connection"
    HANG = "no answer ever comes, nor is anything read that follows on the connection"


OOM = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"

ODDS: Mapping[Fault | bytes, int] = {
    Fault.NONE: 80,
    Fault.SLOW: 4,
    Fault.LOSE_QUESTION: 4,
    Fault.LOSE_REPLY: 4,
    Fault.SWALLOW: 1,
    Fault.LATE: 1,
    Fault.HANG: 1,
    OOM: 3,
    LOADING: 2,
}
"""How often each comes in bad weather, in a hundred."""


class Weather:
    """Faults at random, and how many of each there were."""

    def __init__(self, odds: Mapping[Fault | bytes, int], *, seed: int = 0) -> None:
        self.counts: Counter[Fault | bytes] = Counter()
        self._odds = odds
        self._random = random.Random(seed)

    def next(self) -> Fault | bytes:
        """What happens to the next command."""
        (fault,) = self._random.choices(list(self._odds), list(self._odds.values()))
        self.counts[fault] += 1
        return fault

    @property
    def faults(self) -> int:
        """How many there were."""
        return self.counts.total() - self.counts[Fault.NONE]


FAIR = Weather({Fault.NONE: 1})


class Proxy(socketserver.ThreadingTCPServer):
    """Passes commands on one by one, but for those that `faults` are in store for."""

    daemon_threads = True

    def __init__(self, server: tuple[str, int]) -> None:
        super().__init__((LOOPBACK, 0), _Relay)
        self.server = server
        self.faults: deque[Fault | bytes] = deque()
        """What happens to the next commands that count."""
        self.weather = FAIR
        """What happens to those after them."""
        self.messages: deque[Fault] = deque()
        """What happens to the next messages that are published; the rest is passed on."""
        self.counted = SCRIPT_CALLS
        """The commands that count; all when empty."""
        self.script: Script | None = None
        """The script whose calls by digest count; with none all commands that are `counted` do."""
        self.seen: list[str] = []
        """The commands that counted so far."""
        self.delay = 0.05
        """Seconds that a slow answer takes."""
        self.closed = threading.Event()
        self.is_away = False
        """Whether each connection is cut before anything is said on it."""
        self._open: set[socket.socket] = set()
        self._mutex = threading.Lock()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{LOOPBACK}:{self.server_address[1]}"

    def cut(self) -> None:
        """Cut the connections that are open, as a restarted server does."""
        for connection in list(self._open):
            with suppress(OSError):  # its client was faster
                connection.shutdown(socket.SHUT_RDWR)

    def vanish(self) -> None:
        """Cut all connections, and those that are made from now on, until `is_away` is false again."""
        self.is_away = True
        self.cut()

    def go_away(self) -> None:
        """Cut all connections and accept no more."""
        self.closed.set()
        self.shutdown()
        self.server_close()
        self.cut()

    def fault_of(self, command: bytes) -> Fault | bytes:
        """Note the command, and say what happens to it."""
        name = name_of(command)
        if self.counted and name not in self.counted:
            return Fault.NONE
        if self.script is not None and self.script.sha.encode() not in command:
            return Fault.NONE
        with self._mutex:
            self.seen.append(name)
            return self.faults.popleft() if self.faults else self.weather.next()

    def process_request_thread(self, request: socket.socket, client_address: tuple[str, int]) -> None:  # type: ignore[override]  # the stubs know datagrams, too
        """Remember the connection for as long as it is served."""
        self._open.add(request)
        with suppress(OSError):  # the client has gone
            super().process_request_thread(request, client_address)
        self._open.discard(request)


class _Relay(socketserver.StreamRequestHandler):
    """One client's connection."""

    server: Proxy

    def handle(self) -> None:
        """Relay until either side leaves or a fault cuts it."""
        if self.server.is_away:
            return
        with (
            suppress(OSError),
            socket.create_connection(self.server.server) as server,
            server.makefile("rb") as replies,
        ):
            late = b""
            while command := read_message(self.rfile):
                fault = self.server.fault_of(command)
                if not self.lets_pass(fault):
                    continue
                if not isinstance(fault, bytes):
                    server.sendall(command)
                reply = late + (fault if isinstance(fault, bytes) else read_message(replies))
                late = reply if fault is Fault.LATE else b""
                if not late:
                    self.answer(fault, reply)
                if name_of(command) == "SUBSCRIBE":
                    self.pass_on(server, replies)

    def lets_pass(self, fault: Fault | bytes) -> bool:
        """Whether the question is not swallowed. Raises `OSError` to cut the connection."""
        if fault is Fault.HANG:
            self.server.closed.wait()
        if fault in {Fault.HANG, Fault.LOSE_QUESTION}:
            raise CUT
        return fault is not Fault.SWALLOW

    def answer(self, fault: Fault | bytes, reply: bytes) -> None:
        """Pass the reply on. Raises `OSError` to cut the connection."""
        if fault is Fault.LOSE_REPLY:
            raise CUT
        if fault is Fault.SLOW:
            self.server.closed.wait(self.server.delay)
        self.wfile.write(reply)

    def pass_on(self, server: socket.socket, replies: BufferedIOBase) -> None:
        """From here on messages come by themselves; what the client says meanwhile is passed on as well."""
        threading.Thread(target=self.speak, args=[server], daemon=True).start()
        while message := read_message(replies):
            faults = self.server.messages
            fault = faults.popleft() if faults and name_of(message) == "MESSAGE" else Fault.NONE
            if fault is not Fault.SWALLOW:
                self.answer(fault, message)
        raise CUT

    def speak(self, server: socket.socket) -> None:
        """Pass on what a subscriber says, and that it has left."""
        with suppress(OSError, ValueError):  # either side has gone
            while command := read_message(self.rfile):
                server.sendall(command)
            server.shutdown(socket.SHUT_RDWR)


def name_of(command: bytes) -> str:
    """The first word of a command, which comes as an array of strings."""
    return command.split(b"\r\n", 3)[2].decode().upper()


def read_message(stream: BufferedIOBase) -> bytes:
    """One message of the Redis protocol, version 2 or 3, as it came; nothing when the other side has left.

    https://redis.io/docs/latest/develop/reference/protocol-spec/
    """
    line = stream.readline()
    kind = line[:1]
    if kind in {b"$", b"=", b"!"}:
        length = int(line[1:])
        return line + stream.read(length + 2) if length >= 0 else line
    if kind in {b"*", b"~", b"%", b">"}:
        count = int(line[1:]) * (2 if kind == b"%" else 1)
        return line + b"".join(read_message(stream) for _ in range(count))
    return line


@contextmanager
def proxy_to(url: str) -> Iterator[Proxy]:
    """A proxy to the server that a URL names."""
    parts = urlsplit(url)
    with Proxy((parts.hostname or LOOPBACK, parts.port or 6379)) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.go_away()
            thread.join()
            # django-redis keeps a pool by URL: the next server on this port would be asked with this one's time-outs.
            for url in [known for known in ConnectionFactory._pools if proxy.address in known]:
                ConnectionFactory._pools.pop(url).disconnect()
