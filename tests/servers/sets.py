"""Several Redis servers that belong together, on loopback: a cluster, and a primary that Sentinels watch."""

from __future__ import annotations

import math
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from redis import Redis as Client
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, RedisError, ResponseError
from redis.retry import Retry

from .net import Net
from .process import find_program
from .redis import LOOPBACK, Redis

NODE_TIMEOUT_MS = 1000
"""Milliseconds after which a node of the cluster counts as gone."""
MANUAL_FAILOVER = 6.0
"""Seconds after which a fail-over that was asked for and has not come about is asked for again."""
PATIENT_MS, ALERT_MS = 10_000, 1000
"""Milliseconds after which a Sentinel takes a server for gone. On a busy machine one soon looks gone that is not."""

PUBLISH_MS = 800
"""Milliseconds between two times that a Sentinel tells what it knows. One that has not heard of a fail-over for four
times as long takes the promotion back: it takes more than a second."""


class Member(Redis):
    """One of several, with options of its own."""

    def __init__(self, directory: Path, *options: str, net: Net | None = None) -> None:
        super().__init__(directory)
        self.options = options
        self.net = net
        self.host = net.join() if net else LOOPBACK
        """Where its own connections come from."""

    def prepare(self) -> None:
        """Choose the port, and by which the others reach it."""
        super().prepare()
        self.door = self.net.relay(self.host, self.port) if self.net else self.port

    def command(self) -> list[str]:
        """The server's command line, staying in the foreground."""
        return [*super().command(), *self.options, *(self.announcements() if self.net else [])]

    def announcements(self) -> list[str]:
        """Where it says that it is."""
        told = ["--replica-announce-ip", LOOPBACK, "--replica-announce-port", str(self.door)]
        return ["--bind-source-addr", self.host, *told]

    def pause(self) -> None:
        """Let it stand still, as a machine does that is suspended or cut off."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop it, whatever state it is in: one that stands still would not hear of it."""
        if self._process is not None:
            self.resume()
        super().stop()

    @cached_property
    def client(self) -> Any:
        """A client of this very server; a Sentinel that tells it whom to follow also ends its connections."""
        again = Retry(NoBackoff(), 1)
        return Client(
            host=LOOPBACK,
            port=self.port,
            socket_timeout=5,
            decode_responses=True,
            retry=again,
            retry_on_error=[ConnectionError],
        )

    @property
    def address(self) -> tuple[str, int]:
        """Where the others find it."""
        return LOOPBACK, self.door

    @property
    def is_primary(self) -> bool:
        """Whether it is up, and takes writes as far as it knows."""
        try:
            return bool(self.client.role()[0] == "master")
        except (ConnectionError, OSError):
            return False


class Node(Member):
    """One of a cluster."""

    def prepare(self) -> None:
        """Choose the port; 10,000 above it the nodes talk to each other."""
        while True:
            super().prepare()
            with suppress(OSError, OverflowError), socket.create_server((LOOPBACK, self.port + 10_000)):
                break
        if self.net:
            self.bus = self.net.relay(self.host, self.port + 10_000)

    def announcements(self) -> list[str]:
        """Where it says that it is."""
        told = ["--cluster-announce-ip", LOOPBACK, "--cluster-announce-port", str(self.door)]
        return [*super().announcements(), *told, "--cluster-announce-bus-port", str(self.bus)]


class Watcher(Member):
    """A Sentinel."""

    def __init__(self, directory: Path, primary: Member) -> None:
        super().__init__(directory, net=primary.net)
        self._primary = primary

    @property
    def service(self) -> str:
        """The name by which clients ask for the primary. Another set has another: django-redis keeps pools by it."""
        return f"locks-{self._primary.port}"

    def prepare(self) -> None:
        """Choose the port, and write what it keeps its state in."""
        super().prepare()
        lines = [
            f"port {self.port}",
            f"bind {LOOPBACK}",
            f"dir {self.directory}",
            "sentinel monitor {} {} {} 2".format(self.service, *self._primary.address),
            f"sentinel down-after-milliseconds {self.service} {PATIENT_MS}",
            f"sentinel failover-timeout {self.service} 2000",
            f"sentinel parallel-syncs {self.service} 2",
        ]
        if self.net:
            lines += [f"bind-source-addr {self.host}", f"sentinel announce-ip {LOOPBACK}"]
            lines += [f"sentinel announce-port {self.door}"]
        (self.directory / "sentinel.conf").write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        """The server's command line, staying in the foreground."""
        return [find_program("redis-server", "valkey-server"), str(self.directory / "sentinel.conf"), "--sentinel"]


class SentinelSet:
    """A primary, two replicas and three Sentinels."""

    def __init__(self, directory: Path, *, until: Any, net: Net | None = None) -> None:
        self._until = until
        self.net = net
        fast = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
        self.servers = [Member(directory / f"server-{number}", *fast, net=net) for number in range(3)]
        self.sentinels = [Watcher(directory / f"sentinel-{number}", self.servers[0]) for number in range(3)]

    @property
    def service(self) -> str:
        """The name by which clients ask for the primary."""
        return self.sentinels[0].service

    def start(self) -> None:
        """Start all of them, and wait until they know each other. Raises `Missing`."""
        for server in self.servers:
            server.start()
        for replica in self.servers[1:]:
            replica.client.replicaof(*self.servers[0].address)
        for sentinel in self.sentinels:
            sentinel.start()
            with suppress(ResponseError):  # before Redis 7 they look every 10 s who is a replica
                sentinel.client.execute_command("SENTINEL", "DEBUG", "info-period", 500, "publish-period", PUBLISH_MS)
        self.settle()

    def settle(self) -> None:
        """Start those again that were killed, and wait until one is the primary of all others, and all know it."""
        for server in (*self.sentinels, *self.servers):
            server.resume()
        for server in self.servers:
            if not server.answers():
                server.start_again()
                server.client.replicaof(*self.primary.address)
        self._until(self._is_settled)

    def _is_settled(self) -> bool:
        up = [server for server in self.servers if server.is_primary]
        if len(up) != 1 or not self._agree():
            return False
        state = self._state(self.sentinels[0])
        if int(state["num-other-sentinels"]) != 2 or int(state["num-slaves"]) != 2:
            return False
        up[0].client.set("settled", 1)
        return bool(up[0].client.execute_command("WAIT", 2, 500) == 2)

    def primary_says(self, sentinel: Member) -> tuple[str, int]:
        """Whom a Sentinel takes for the primary."""
        host, port = sentinel.client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
        return host, int(port)

    @property
    def primary(self) -> Member:
        """The primary, as the first Sentinel says."""
        address = self.primary_says(self.sentinels[0])
        return next(server for server in self.servers if server.address == address)

    @property
    def replicas(self) -> Sequence[Member]:
        """The others."""
        primary = self.primary
        return [server for server in self.servers if server is not primary]

    def lose_primary(self) -> Member:
        """Kill the primary, and wait until the Sentinels have another; gives that."""
        with self.replacing():
            self.primary.kill()
        return self.primary

    @contextmanager
    def replacing(self) -> Iterator[None]:
        """Let the Sentinels look closely meanwhile, and wait at the end until they have another primary."""
        former = self.primary
        self._take_for_gone_after(ALERT_MS)
        try:
            yield
            self._until(lambda: self.primary is not former and self._agree())
        finally:
            self._take_for_gone_after(PATIENT_MS)

    def _take_for_gone_after(self, milliseconds: int) -> None:
        for sentinel in self.sentinels:
            sentinel.client.execute_command("SENTINEL", "SET", self.service, "down-after-milliseconds", milliseconds)

    def _agree(self) -> bool:
        """Whether all Sentinels name the same primary, which is one, and none is about to replace it."""
        states = [self._state(sentinel) for sentinel in self.sentinels]
        ports = {int(state["port"]) for state in states}
        return ports == {self.primary.door} and self.primary.is_primary and not any(map(is_replacing, states))

    def _state(self, sentinel: Member) -> dict[str, Any]:
        """What a Sentinel knows of the primary."""
        says = sentinel.client.execute_command("SENTINEL", "MASTER", self.service)
        return says if isinstance(says, dict) else dict(zip(says[::2], says[1::2], strict=True))

    def cut_replication(self) -> None:
        """From now on the primary alone knows what is written, until it is killed."""
        client = self.primary.client
        client.execute_command("ACL", "SETUSER", "default", "-psync", "-sync", "-replconf")
        client.execute_command("CLIENT", "KILL", "TYPE", "replica")

    def fail_over(self) -> None:
        """Ask the Sentinels for another primary, as soon as they can and again where they gave up, and wait for it."""
        former = self.primary
        asked_at = -math.inf

        def has_taken_over() -> bool:
            nonlocal asked_at
            if self.primary is not former:
                return self.primary.is_primary
            if time.monotonic() - asked_at > MANUAL_FAILOVER:
                with suppress(RedisError):  # it is busy with the last one
                    self.sentinels[0].client.execute_command("SENTINEL", "FAILOVER", self.service)
                    asked_at = time.monotonic()
            return False

        self._until(has_taken_over)

    def stop(self) -> None:
        """Stop all of them."""
        for server in (*self.sentinels, *self.servers):
            server.stop()


def is_replacing(state: dict[str, Any]) -> bool:
    """Whether a Sentinel that says this is about to replace the primary."""
    return "failover" in str(state["flags"])


class ClusterSet:
    """Three primaries with a replica each."""

    def __init__(self, directory: Path, *, until: Any, net: Net | None = None) -> None:
        self._until = until
        self.net = net
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS))
        fast = ("--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0")
        self.servers = [Node(directory / f"node-{number}", *options, *fast, net=net) for number in range(6)]

    def start(self) -> None:
        """Start all of them, and wait until they are a cluster. Raises `Missing`."""
        for server in self.servers:
            server.start()
        names = [f"{LOOPBACK}:{server.port}" for server in self.servers]
        words = ["--cluster", "create", *names, "--cluster-replicas", "1", "--cluster-yes"]
        self.servers[0].run(find_program("redis-cli", "valkey-cli"), *words)
        self.settle()

    def settle(self) -> None:
        """Start those again that were killed, and wait until there are three primaries with a replica each."""
        for server in self.servers:
            server.resume()
            if not server.answers():
                server.start_again()
        self._until(self._is_settled)

    def _is_settled(self) -> bool:
        views = {self._view(server) for server in self.servers}
        links = [server.client.info("replication").get("master_link_status") for server in self.servers]
        return len(views) == 1 and None not in views and links.count("up") == 3

    def _view(self, server: Member) -> tuple[Any, ...] | None:
        """Who has which slots, as a node sees it; nothing while it does not see all of them."""
        info = server.client.execute_command("CLUSTER", "INFO")
        state = info if isinstance(info, dict) else dict(line.split(":") for line in info.split())
        slots = server.client.execute_command("CLUSTER", "SLOTS")
        ranges = [(*key, value["primary"]) for key, value in slots.items()] if isinstance(slots, dict) else slots
        if state["cluster_state"] != "ok" or state["cluster_slots_ok"] != "16384":
            return None
        return tuple(sorted(str(part if isinstance(slots, dict) else part[:3]) for part in ranges))

    def slots_of(self, primary: Member) -> list[int]:
        """The slots that it has, as it says itself."""
        ranges = ranges_of(primary)
        return [slot for first, last, nodes in ranges if nodes[0] == primary.door for slot in range(first, last + 1)]

    def knows_replicas(self, server: Member) -> bool:
        """Whether it tells of a replica for all slots."""
        return all(len(nodes) > 1 for _, _, nodes in ranges_of(server))

    def set_slots(self, server: Member, slots: Sequence[int], *how: str) -> None:
        """Tell one server something of these slots."""
        pipe = server.client.pipeline(transaction=False)
        for slot in slots:
            pipe.execute_command("CLUSTER", "SETSLOT", slot, *how)
        pipe.execute()

    @property
    def url(self) -> str:
        """The address of one of them."""
        return "redis://{}:{}".format(*self.servers[0].address)

    @property
    def primaries(self) -> list[Member]:
        """Those that take writes."""
        return [server for server in self.servers if server.is_primary]

    def owner(self, key: str) -> Member:
        """The primary that has the slot of a key."""
        primaries = self.primaries
        slot = int(primaries[0].client.execute_command("CLUSTER", "KEYSLOT", key))
        for server in primaries:
            nodes = server.client.execute_command("CLUSTER", "NODES")
            if covers(nodes, server.door, slot):
                return server
        raise AssertionError(f"nobody has slot {slot}")

    def replica_of(self, primary: Member) -> Member:
        """Its replica."""
        return next(
            server for server in self.servers if not server.is_primary and server.client.role()[2] == primary.door
        )

    def name_of(self, server: Member) -> str:
        """By which the nodes know it."""
        return str(server.client.execute_command("CLUSTER", "MYID"))

    def fail_over(self, primary: Member) -> None:
        """Let its replica take over, which it may refuse for a while, and wait for that."""
        replica = self.replica_of(primary)
        asked_at = -math.inf

        def has_taken_over() -> bool:
            nonlocal asked_at
            if replica.is_primary:
                return not primary.is_primary
            if time.monotonic() - asked_at > MANUAL_FAILOVER:
                asked_at = time.monotonic()
                with suppress(ResponseError):
                    replica.client.execute_command("CLUSTER", "FAILOVER")
            return False

        self._until(has_taken_over)

    def move(self, key: str, target: Member, *, at_once: int = 100) -> None:
        """Move the slot of a key to another primary, as redis-cli does, so many keys at once."""
        source = self.owner(key)
        slot = int(source.client.execute_command("CLUSTER", "KEYSLOT", key))
        target.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.name_of(source))
        source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.name_of(target))
        while keys := source.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, at_once):
            source.client.execute_command("MIGRATE", LOOPBACK, target.port, "", 0, 5000, "KEYS", *keys)
        for server in (target, source, *(other for other in self.primaries if other not in (source, target))):
            server.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", self.name_of(target))

    def stop(self) -> None:
        """Stop all of them."""
        for server in self.servers:
            server.stop()


def ranges_of(server: Member) -> list[tuple[int, int, list[int]]]:
    """First and last slot of each range, and the ports of the primary and its replicas, as a server says."""
    slots = server.client.execute_command("CLUSTER", "SLOTS")
    if isinstance(slots, dict):
        found = [(*range_, [value["primary"], *value["replicas"]]) for range_, value in slots.items()]
    else:
        found = [(first, last, nodes) for first, last, *nodes in slots]
    return [(first, last, [node[1] for node in nodes]) for first, last, nodes in found]


def covers(nodes: Any, port: int, slot: int) -> bool:
    """Whether what `CLUSTER NODES` says gives the slot to the server with this port."""
    if isinstance(nodes, dict):
        ranges = [part for name, node in nodes.items() if name.endswith(f":{port}") for part in node["slots"]]
    else:
        lines = [line.split() for line in nodes.splitlines()]
        ranges = [part.split("-") for line in lines if f":{port}@" in line[1] for part in line[8:] if part[0] != "["]
    return any(int(part[0]) <= slot <= int(part[-1]) for part in ranges)
