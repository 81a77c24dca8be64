"""Acquire and release, nobody else wanting the lock: time, processor time, round trips."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from django.db import connection
from django.test.utils import setup_databases, teardown_databases
from redis.connection import AbstractConnection

from django_redislock.stores.straight import Straight
from testproject.bank.models import Account

from . import measure
from .contenders import AGAIN, KEYS, OUR_ROW, OURS, RAW, ROW, of_redis, of_rows
from .measure import Block, Contender
from .report import Column, Report, Row, Target

PAIRS = 50
"""Pairs in one turn: short enough for a block to see one state of the machine."""

COLUMNS = (
    Column("p50", "p50\nus"),
    Column("p99", "p99\nus"),
    Column("cpu", "CPU\nus"),
    Column("round_trips", "Redis\ntrips", "g"),
    Column("queries", "SQL", "g"),
    Column("ratio", "x raw\npair", ".3f"),
    Column("row_ratio", "x row\nlock", ".3f"),
)
NOTES = (
    "CPU: user and system time of this process. Redis trips: requests sent, counted in the client.",
    "SQL: queries, counted by an execute wrapper, which does not see BEGIN and COMMIT: two trips more.",
    "Ratios: the median over the blocks of the ratio of their medians.",
    "select_for_update() waits for the disk at its commit, objects.locked(pk), which only reads, does not.",
)


def run(arguments: argparse.Namespace) -> Report:
    """Measure all contenders that the servers allow for."""
    with accounts() as pks:
        contenders = of_redis() + (of_rows(pks) if pks else [])
        trips = {contender.name: count_trips(contender) for contender in contenders}
        blocks = measure.interleaved(contenders, rounds=arguments.rounds, pairs=PAIRS)
        rows = {name: make_row(blocks, name) | trips[name] for name in trips}
        return Report(
            columns=COLUMNS,
            rows=rows,
            targets=list(targets(rows)),
            notes=[f"{arguments.rounds} blocks of {PAIRS} pairs each.", *NOTES],
        )


@contextmanager
def accounts() -> Iterator[list[int]]:
    """Rows to lock, in a database that is dropped afterwards; none without PostgreSQL."""
    if connection.vendor != "postgresql":
        yield []
        return
    made = setup_databases(verbosity=0, interactive=False)
    try:
        rows = [Account(number=f"{number:08}", owner="Nobody") for number in range(KEYS)]
        yield [account.pk for account in Account.objects.bulk_create(rows)]
    finally:
        teardown_databases(made, verbosity=0)


def count_trips(contender: Contender) -> Row:
    """Requests to Redis and queries to the database per pair, in a pass of its own."""
    with contender.around():
        contender.pair(0)  # connects, and loads scripts
        with requests_counted() as requests, queries_counted() as queries:
            for number in range(KEYS):
                contender.pair(number)
    return {"round_trips": len(requests) / KEYS, "queries": len(queries) / KEYS}


@contextmanager
def requests_counted() -> Iterator[list[None]]:
    """Gives a list that grows by one with each request that a redis-py connection sends."""
    requests: list[None] = []
    with ExitStack() as patches:
        for kind in (AbstractConnection, Straight):

            def counted(sender: Any, *args: Any, send: Any = kind.send_packed_command, **named: Any) -> Any:
                requests.append(None)
                return send(sender, *args, **named)

            patches.enter_context(mock.patch.object(kind, "send_packed_command", counted))
        yield requests


@contextmanager
def queries_counted() -> Iterator[list[None]]:
    """Gives a list that grows by one with each query."""
    queries: list[None] = []

    def counted(execute: Callable[..., Any], *args: Any) -> Any:
        queries.append(None)
        return execute(*args)

    if connection.vendor != "postgresql":
        yield queries
        return
    with connection.execute_wrapper(counted):
        yield queries


def make_row(blocks: Sequence[Block], name: str) -> Row:
    """The figures of one contender."""
    of_a_row = name in {ROW, OUR_ROW}
    return {
        "p50": measure.p50(blocks, name),
        "p99": measure.p99(blocks, name),
        "cpu": measure.cpu(blocks, name),
        "ratio": measure.ratio(blocks, name, RAW),
        "row_ratio": measure.ratio(blocks, name, ROW) if of_a_row else None,
    }


def targets(rows: dict[str, Row]) -> Iterator[Target]:
    """What is to be reached, as far as it was measured."""
    yield Target(f"{OURS}, x raw pair", rows[OURS]["ratio"], 1.10, ".3f")
    yield Target(f"{OURS}, round trips", rows[OURS]["round_trips"], 2, "g")
    yield Target(f"{AGAIN}, p50 in us", rows[AGAIN]["p50"], 3)
    yield Target(f"{AGAIN}, round trips", rows[AGAIN]["round_trips"], 0, "g")
    if OUR_ROW in rows:
        yield Target(f"{OUR_ROW}, x {ROW}", rows[OUR_ROW]["row_ratio"], 1.1, ".3f")
