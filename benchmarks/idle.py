"""A hundred wait for a lock that is held for long: what the waiting costs, and how fast all are through then."""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Iterator, Mapping

import psycopg

from .crowd import Crowd, Task, clock, crowd
from .line import Line
from .measure import median_of
from .report import Column, Report, Row, Target
from .rivals import ADVISORY, OURS, RIVALS, connections_of, requests_so_far, rivals_here

PROCESSES = 8
SETTLE = 1.0
"""Seconds after which all wait, and the requests are counted."""

COLUMNS = (
    Column("requests", "requests/s", ".1f"),
    Column("connections", "connections", "g"),
    Column("through", "all through\nms", ".0f"),
)
KEYS = [column.key for column in COLUMNS]
NOTES = (
    "Requests: reads of the server's event loop. Connections: the holder's, too.",
    "All through: from the call of release() to the return of the last acquire(); each releases at once.",
)


def run(arguments: argparse.Namespace) -> Report:
    """Measure all rivals."""
    waiters, hold, rounds = (10, 1.5, 1) if arguments.quick else (arguments.waiters, 5.0, arguments.rounds)
    figures: dict[str, list[Row]] = {}
    with crowd(PROCESSES) as people:
        names = [name for name in rivals_here() if name != ADVISORY or room_for(waiters)]
        for number in range(rounds):
            for name in random.sample(names, len(names)):
                figures.setdefault(name, []).append(watch(people, name, f"idle-{number}", waiters=waiters, hold=hold))
    rows = {name: {key: median_of(row[key] for row in figures[name]) for key in KEYS} for name in names}
    what = f"{waiters} threads in {PROCESSES} processes wait for a lock held {hold:g} s; medians of {rounds} rounds."
    return Report(columns=COLUMNS, rows=rows, targets=list(targets(rows)), notes=[what, *NOTES])


def watch(people: Crowd, rival: str, key: str, *, waiters: int, hold: float) -> Row:
    """Hold the lock, look at those who wait, and let them through."""
    shares = [waiters // PROCESSES + (number < waiters % PROCESSES) for number in range(PROCESSES)]
    people.get_ready([Task(rival=rival, key=key, threads=share, once=True) for share in shares])
    with RIVALS[rival](key) as locking:
        with locking():
            acquired = clock()
            people.go(PROCESSES, until=0)
            time.sleep(SETTLE)
            before, since = requests_so_far(), clock()
            time.sleep(max(0.0, hold - (clock() - acquired) / 1e9))
            requests = requests_so_far() - before - 1  # the one that asked
            seconds = (clock() - since) / 1e9
            connections = connections_of(rival, [os.getpid(), *people.pids])
            released = clock()
        line = Line(begin=acquired, end=released, contenders=[[(acquired, released)], *people.gather(PROCESSES)])
    row: Row = {"connections": connections, "through": line.through(released)}
    return row | {"requests": None if rival == ADVISORY else requests / seconds}


def room_for(waiters: int) -> bool:
    """Whether PostgreSQL takes a connection for each of them and a few more."""
    with psycopg.connect(os.environ["TEST_POSTGRES_URL"]) as connection:
        most = connection.execute("SHOW max_connections").fetchall()[0][0]
    return int(most) >= waiters + 10


def targets(rows: Mapping[str, Row]) -> Iterator[Target]:
    """What is to be reached."""
    yield Target(f"{OURS}, requests/s", rows[OURS]["requests"], 1)
    yield Target(f"{OURS}, connections", rows[OURS]["connections"], 10, "g")
    yield Target(f"{OURS}, ms until all are through", rows[OURS]["through"], 40, ".0f")
