"""The bank behind web servers with several workers: requests, answers, and whether the sums are right."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

from .report import Column, Report, Row, Target
from .sites import SERVERS, postgres_database, put_under_load, site

COLUMNS = (
    Column("rate", "requests\nper s"),
    Column("p50", "p50\nms", "g"),
    Column("p99", "p99\nms", "g"),
    Column("booked", "302", "g"),
    Column("refused", "409", "g"),
    Column("busy", "423", "g"),
    Column("cut_off", "cut\noff", "g"),
    Column("other", "other\nanswers", "g"),
    Column("wrong", "wrong\naccounts", "g"),
    Column("drift", "cents\ntoo many", "g"),
)
NOTES = (
    "302: moved; 409: not enough money; 423: an account was busy for longer than the view waits, 2 s.",
    "Cut off: the worker was killed. Its locks stay until their ttl of 5 s, and who wants them gets 423.",
    "Wrong: the balance, or the number of movements, is not what the transfers make it.",
)


def run(arguments: argparse.Namespace) -> Report:
    """Each server on each database, with all workers left alive and with one killed in the middle."""
    databases = ["SQLite", *(["PostgreSQL"] if "TEST_POSTGRES_URL" in os.environ else [])]
    rows: dict[str, Row] = {}
    for server, kind, kill in product(SERVERS, databases, (False, True)):
        with database(kind) as url, site(server, database=url, redis=os.environ["TEST_REDIS_URL"]) as served:
            figures = put_under_load(served, visitors=arguments.visitors, seconds=arguments.seconds, kill=kill)
            audit = served.audit()
        statuses = figures["statuses"]
        others = sum(count for status, count in statuses.items() if status not in {0, 302, 409, 423})
        rows[f"{server}, {kind}{', one killed' if kill else ''}"] = {
            "rate": figures["rate"],
            "p50": figures["p50"],
            "p99": figures["p99"],
            "booked": statuses.get(302, 0),
            "refused": statuses.get(409, 0),
            "busy": statuses.get(423, 0),
            "cut_off": statuses.get(0, 0),
            "other": others,
            "wrong": audit.wrong,
            "drift": audit.total - audit.opening,
        }
    return Report(
        columns=COLUMNS,
        rows=rows,
        targets=list(targets(rows)),
        notes=[f"{arguments.visitors} visitors for {arguments.seconds} s each.", *NOTES],
    )


@contextmanager
def database(kind: str) -> Iterator[str]:
    """An empty one."""
    if kind == "PostgreSQL":
        with postgres_database(os.environ["TEST_POSTGRES_URL"]) as url:
            yield url
    else:
        with tempfile.TemporaryDirectory() as directory:
            yield f"sqlite:///{directory}/bank.sqlite3"


def targets(rows: dict[str, Row]) -> Iterator[Target]:
    """What has to be so."""
    for name, row in rows.items():
        yield Target(f"{name}: wrong accounts", row["wrong"], 0, "g")
        yield Target(f"{name}: cents too many or too few", abs(row["drift"] or 0), 0, "g")
        yield Target(f"{name}: other answers", row["other"], 0, "g")
        if "killed" not in name:
            yield Target(f"{name}: cut off", row["cut_off"], 0, "g")
