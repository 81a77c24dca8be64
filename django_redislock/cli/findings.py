"""What may be wrong with a server that keeps locks, and what to do about it: judged from what the server says."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from django.conf import settings

from .. import clock
from ..handler import Locks, address_of, is_cluster
from ..stores import scripts
from ..stores.base import Refusal
from ..stores.connections import ENOUGH
from ..stores.inquiry import Inquiry
from ..stores.verbs import root_of


class Level(IntEnum):
    """How bad it is; the worst one is the exit code."""

    OK = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    """How bad it is."""
    about: str
    """What was looked at, in a word or two."""
    text: str
    """What was found."""
    remedy: str = ""
    """What to do about it."""


OLDEST = (6, 2)
SLOW, SKEWED = 0.005, 1.0
"""Seconds of a round trip, and between two clocks, from which on it is worth a word."""
FULL = 0.8
"""The part of a server's connections that may be open before it is worth a word."""


class Patient:
    """A server of an alias."""

    def __init__(self, alias: str, place: Locks, number: int, inquiry: Inquiry) -> None:
        """`number`: which of the places; `inquiry` asks it, or one node of it."""
        self.alias = alias
        self.cache = place.places[number].alias
        self.is_cluster = is_cluster(self.cache)
        self.min_replicas = place.options.min_replicas
        self.store, _ = place.parts[number]
        self.inquiry = inquiry
        self.info = self._sections()

    def ask(self, *words: str) -> Any:
        """What the server says to a command; a `Refusal` where it does not carry that out."""
        return self.inquiry.server(*words)

    def _sections(self) -> dict[str, Any] | Refusal:
        """What `INFO` says."""
        said = self.ask("INFO")
        return said if isinstance(said, Refusal | dict) else {}

    def config(self, name: str) -> str | None:
        """A setting of the server; nothing where this user may not read it."""
        said = self.ask("CONFIG GET", name)
        return said.get(name) if isinstance(said, dict) else None


def version(patient: Patient) -> Iterator[Finding]:
    """Which server it is."""
    info = patient.info
    if isinstance(info, Refusal):
        remedy = "Let this user run INFO, or look by hand at version, persistence, memory policy and replication."
        yield Finding(Level.WARNING, "server", f"INFO is refused: {info.reason}", remedy)
        return
    name = "Valkey" if "valkey_version" in info else "Redis"
    number = str(info.get("valkey_version") or info.get("redis_version", ""))
    parts = tuple(int(part) for part in re.findall(r"\d+", number)[:2])
    if parts < OLDEST:
        yield Finding(Level.ERROR, "server", f"{name} {number} is too old.", "Use Redis 6.2 or newer.")
    elif "cluster" in (info.get("redis_mode"), info.get("server_mode")) and not patient.is_cluster:
        remedy = 'Set OPTIONS of the cache: "CONNECTION_FACTORY": "django_redislock.cluster.ClusterConnectionFactory".'
        yield Finding(Level.ERROR, "server", f"{name} {number} is a cluster.", remedy)
    else:
        yield Finding(Level.OK, "server", f"{name} {number}")


def persistence(patient: Patient) -> Iterator[Finding]:
    """What a restart leaves of the locks."""
    info = known(patient)
    if info.get("aof_enabled"):
        yield Finding(Level.OK, "persistence", "The append-only file is on.")
    elif info:
        yield Finding(
            Level.WARNING,
            "persistence",
            "The append-only file is off: a restart of the server drops locks that are held.",
            "Set `appendonly yes`, or restart only when nobody holds a lock.",
        )


def memory(patient: Patient) -> Iterator[Finding]:
    """Whether the server may drop a lock for want of memory."""
    info = known(patient)
    policy, limit = info.get("maxmemory_policy"), info.get("maxmemory", 0)
    if policy == "noeviction" or (policy and not limit):
        bound = f"of {limit} bytes" if limit else "none"
        yield Finding(Level.OK, "memory", f"maxmemory-policy {policy}, limit: {bound}: nothing is evicted.")
    elif policy:
        yield Finding(
            Level.ERROR,
            "memory",
            f"maxmemory-policy {policy} drops locks that are held when memory is short.",
            "Set `maxmemory-policy noeviction`, or give the locks a server of their own.",
        )


def sharing(patient: Patient) -> Iterator[Finding]:
    """Whether a `cache.clear()` drops the locks: it is `FLUSHDB`."""
    place = address_of(patient.cache)
    others = [alias for alias in settings.CACHES if alias != patient.cache and address_of(alias) == place]
    shared = [*(["default"] if patient.cache == "default" else []), *others]
    if shared:
        named = ", ".join(repr(alias) for alias in shared)
        yield Finding(
            Level.WARNING,
            "database",
            f"The locks share a Redis database with the cache {named}: its clear() drops every lock.",
            "Give the locks a cache alias of their own with another database number, and name it in CACHE.",
        )
    else:
        yield Finding(Level.OK, "database", "No other cache of CACHES uses this Redis database.")


def replication(patient: Patient) -> Iterator[Finding]:
    """What a fail-over leaves of the locks."""
    info = known(patient)
    role, replicas = info.get("role"), int(info.get("connected_slaves", 0))
    if role == "slave":
        remedy = "Name the primary in LOCATION, or use Sentinel."
        yield Finding(Level.ERROR, "replication", "This server is a replica: it takes no locks.", remedy)
    elif replicas < patient.min_replicas:
        text = f"{replicas} replicas, and MIN_REPLICAS asks for {patient.min_replicas}: no lock is granted."
        yield Finding(Level.ERROR, "replication", text, "Start the replicas, or lower MIN_REPLICAS.")
    elif replicas and not patient.min_replicas and patient.config("min-replicas-to-write") in {None, "0"}:
        yield Finding(
            Level.WARNING,
            "replication",
            f"{replicas} replicas, and a lock is granted before any of them knows of it: a fail-over may drop it.",
            "Set MIN_REPLICAS, or on the server `min-replicas-to-write 1` with a short lag; use versions as well.",
        )
    elif info:
        yield Finding(Level.OK, "replication", f"{replicas} replicas.")


def rights(patient: Patient) -> Iterator[Finding]:
    """Whether this user may run each command that the scripts use, on their keys and channels."""
    root = root_of(patient.inquiry.prefix)
    user = patient.ask("ACL WHOAMI")
    if isinstance(user, Refusal):
        yield Finding(Level.WARNING, "rights", f"ACL WHOAMI is refused: {user.reason}", "See the trial of each script.")
        return
    name = user.decode() if isinstance(user, bytes) else user
    lacking: list[str] = []
    for words in commands(root):
        said = patient.ask("ACL DRYRUN", name, *words)
        if isinstance(said, Refusal):
            yield Finding(Level.OK, "rights", f"Not asked one by one ({said.reason}); see the trial of each script.")
            return
        if said not in {b"OK", "OK", True}:
            lacking.append(words[0])
    if lacking:
        remedy = f"ACL SETUSER {name} ~{root}:* &{root}:wake:* +{' +'.join(command.lower() for command in lacking)}"
        yield Finding(Level.ERROR, "rights", f"The user {name} may not run {', '.join(lacking)}.", remedy)
    else:
        yield Finding(Level.OK, "rights", f"The user {name} may run every command that is used.")


def commands(root: str) -> Iterator[tuple[str, ...]]:
    """Each command that is used, with what stands in the place of its arguments."""
    key = f"{root}:{{0}}:lock:doctor"
    more = {
        "SET": ("x",), "MSETNX": ("x",), "PEXPIRE": ("1",), "ZADD": ("1", "x"), "ZREM": ("x",),
        "ZREMRANGEBYSCORE": ("0", "1"), "ZRANGEBYSCORE": ("0", "1"), "RPUSH": ("x",), "LREM": ("1", "x"),
        "LINDEX": ("0",), "LRANGE": ("0", "1"), "LPOS": ("x",),
    }  # fmt: skip
    for command in sorted(scripts.commands()):
        if command == "PUBLISH":
            yield command, f"{root}:wake:doctor", "x"
        elif command == "PUBSUB":
            yield command, "CHANNELS"
        elif command == "TIME":
            yield (command,)
        else:
            yield command, key, *more.get(command, ())
    yield "EVALSHA", "0" * 40, "1", key
    yield "EVAL", "return 1", "1", key
    yield "SUBSCRIBE", f"{root}:wake:doctor"


def clocks(patient: Patient) -> Iterator[Finding]:
    """How far the server's clock is from this host's, and how long a question takes."""
    trips: list[float] = []
    skew = 0.0
    for _ in range(9):
        began = clock.now()
        said = patient.ask("TIME")
        trips.append(clock.now() - began)
        skew = said[0] + said[1] / 1e6 - time.time() + trips[-1] / 2
    trip = statistics.median(trips)
    yield Finding(
        Level.WARNING if trip > SLOW else Level.OK,
        "round trip",
        f"{trip * 1000:.2f} ms; acquire and release take one each.",
        "Put the server nearer to the application." if trip > SLOW else "",
    )
    yield Finding(
        Level.WARNING if abs(skew) > SKEWED else Level.OK,
        "clock",
        f"The server's clock is {abs(skew):.3f} s {'ahead of' if skew > 0 else 'behind'} this host's.",
        "Let both follow NTP: times in messages are the server's." if abs(skew) > SKEWED else "",
    )


def clients(patient: Patient) -> Iterator[Finding]:
    """Whether the server takes the connections that are opened to it."""
    info = known(patient)
    most, now = int(info.get("maxclients", 0)), int(info.get("connected_clients", 0))
    text = f"{now} of {most} that the server takes are open; the locks of a process keep up to {ENOUGH + 1}."
    if now > most * FULL > 0:
        remedy = "Raise `maxclients` of the server, or find out who opens so many: CLIENT LIST."
        yield Finding(Level.WARNING, "connections", text, remedy)
    elif most:
        yield Finding(Level.OK, "connections", text)


def connections(patient: Patient) -> Iterator[Finding]:
    """Whether a server that hangs keeps the application from going on."""
    found = patient.inquiry.time_outs()
    missing = [name for name, seconds in found.items() if seconds is None]
    if missing:
        yield Finding(
            Level.WARNING,
            "time-outs",
            f"No {' and no '.join(missing)}: a server that hangs blocks whoever locks.",
            'Set OPTIONS of the cache, such as "SOCKET_TIMEOUT": 5 and "SOCKET_CONNECT_TIMEOUT": 5.',
        )
    else:
        text = f"{found['socket_timeout']:g} s to answer, {found['socket_connect_timeout']:g} s to connect."
        yield Finding(Level.OK, "time-outs", text)


def known(patient: Patient) -> dict[str, Any]:
    """What `INFO` says, or nothing where it is refused: then there is a finding of it."""
    return {} if isinstance(patient.info, Refusal) else patient.info


EXAMINATIONS: tuple[Callable[[Patient], Iterator[Finding]], ...] = (
    version, persistence, memory, sharing, replication, rights, clocks, clients, connections,
)  # fmt: skip
