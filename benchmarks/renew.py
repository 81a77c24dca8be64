"""A thousand locks that are held for much longer than their ttl: what keeping them costs, and whether it succeeds."""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any
from unittest import mock

import redis
import redis_lock
from redis.connection import AbstractConnection

from django_redislock import lock
from django_redislock.keeping import Keeper
from django_redislock.stores.straight import Straight

from . import measure
from .contenders import KEYS, OURS
from .measure import Contender
from .report import Column, Report, Row, Target

UNWATCHED = 'lock("name"), not renewed'
RIVAL = "python-redis-lock, auto_renewal"
ROUNDS, PAIRS = 400, 50

COLUMNS = (
    Column("threads", "threads", "g"),
    Column("requests", "requests\n/s", ".2f"),
    Column("calls", "commands\n/s", ".1f"),
    Column("cpu", "CPU\n% of a core", ".2f"),
    Column("lost", "lost", "g"),
    Column("p50", "pair\nus", ".1f"),
)
NOTES = (
    "Requests: round trips, counted in the client; one may carry several commands. CPU: this process, which sleeps.",
    "Lost: of which the server does not know this owner at the end.",
    "Pair: acquire and release of a lock that nobody else wants, which is given back before it is to be renewed.",
)


@dataclass(frozen=True, slots=True)
class Held:
    """Locks that are held."""

    still: Callable[[], int]
    """How many of them the server knows as ours."""
    release: Callable[[], None]


def ours(count: int, ttl: float) -> Held:
    """Ours."""
    guards = [lock(f"name-{number}", ttl=ttl, max_hold=None) for number in range(count)]
    fences = [guard.acquire().fence for guard in guards]

    def still() -> int:
        infos = (guard.info() for guard in guards)
        return sum(info is not None and info.fence == fence for info, fence in zip(infos, fences, strict=True))

    def release() -> None:
        for guard in guards:
            guard.release()

    return Held(still, release)


def theirs(count: int, ttl: float) -> Held:
    """A thread for each, and as many connections as they like: where a pool has none left, such a thread dies."""
    client = redis.Redis.from_url(os.environ["TEST_REDIS_URL"], max_connections=count + 1)
    locks = [redis_lock.Lock(client, f"name-{number}", expire=round(ttl), auto_renewal=True) for number in range(count)]
    for each in locks:
        each.acquire()

    def release() -> None:
        for each in locks:
            if each.get_owner_id() == each.id:
                each.release()

    return Held(lambda: sum(each.get_owner_id() == each.id for each in locks), release)


HOLDERS = {OURS: ours, RIVAL: theirs}


def run(arguments: argparse.Namespace) -> Report:
    """Hold them, one rival after the other; then compare pairs."""
    count, ttl, seconds, rounds = (20, 1.0, 2.0, 2) if arguments.quick else (1_000, 10.0, arguments.seconds, ROUNDS)
    rows = {name: watch(hold, count=count, ttl=ttl, seconds=seconds) for name, hold in HOLDERS.items()}
    blocks = measure.interleaved(pairs(), rounds=rounds, pairs=PAIRS)
    nothing: Row = dict.fromkeys(column.key for column in COLUMNS)
    for name in (OURS, UNWATCHED):
        rows[name] = {**nothing, **rows.get(name, {}), "p50": measure.p50(blocks, name)}
    rows[RIVAL]["p50"] = None
    what = f"{count} locks with a ttl of {ttl:g} s, held for {seconds:g} s; {rounds} blocks of {PAIRS} pairs."
    ratio = measure.ratio(blocks, OURS, UNWATCHED)
    return Report(columns=COLUMNS, rows=rows, targets=list(targets(rows, ratio)), notes=[what, *NOTES])


def watch(hold: Callable[[int, float], Held], *, count: int, ttl: float, seconds: float) -> Row:
    """Hold the locks, and look at what that takes."""
    with counted() as sent:
        before = threading.active_count()
        held = hold(count, ttl)
        time.sleep(ttl / 2)  # until what was acquired one after the other is renewed together
        threads, sent_before, cpu, began = threading.active_count() - before, list(sent), time.process_time(), clock()
        time.sleep(seconds)
        passed, cpu = clock() - began, time.process_time() - cpu
        requests, calls = (now - then for now, then in zip(sent, sent_before, strict=True))
    lost = count - held.still()
    held.release()
    row: Row = {"threads": threads, "requests": requests / passed, "calls": calls / passed}
    return row | {"cpu": cpu / passed * 100, "lost": lost}


clock = time.perf_counter


class counted(AbstractContextManager[list[int]]):  # noqa: N801 - it is used as a function
    """Counts what is sent meanwhile: round trips, and the commands in them."""

    def __enter__(self) -> list[int]:
        sent = [0, 0]
        self._patches = ExitStack()
        for kind in (AbstractConnection, Straight):

            def count(
                connection: Any, command: Any, *args: Any, send: Any = kind.send_packed_command, **named: Any
            ) -> Any:
                sent[0] += 1
                sent[1] += max(1, b"".join(command).count(b"EVALSHA")) if isinstance(command, list) else 1
                return send(connection, command, *args, **named)

            self._patches.enter_context(mock.patch.object(kind, "send_packed_command", count))
        return sent

    def __exit__(self, *error: object) -> None:
        self._patches.close()


def pairs() -> list[Contender]:
    """Ours as it is, and without the watchdog."""

    def pair(number: int) -> None:
        with lock(f"pair-{number % KEYS}"):
            pass

    def announce_nothing(keeper: Keeper, holds: object) -> None:
        """A mock would take longer than what it stands for."""

    def bare() -> AbstractContextManager[Any]:
        return mock.patch.object(Keeper, "_announce", announce_nothing)

    return [Contender(name=OURS, pair=pair), Contender(name=UNWATCHED, pair=pair, around=bare)]


def targets(rows: Mapping[str, Row], ratio: float) -> Iterator[Target]:
    """What is to be reached."""
    yield Target("threads", rows[OURS]["threads"], 1, "g")
    yield Target("requests/s", rows[OURS]["requests"], 1, ".2f")
    yield Target("% of a core", rows[OURS]["cpu"], 1, ".2f")
    yield Target("lost", rows[OURS]["lost"], 0, "g")
    yield Target(f"{OURS} x not renewed", ratio, 1.02, ".3f")
