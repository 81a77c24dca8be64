"""A lock by a quorum of three and of five servers on this machine, nobody else wanting it, beside a raw pair on one."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.test import override_settings
from redis import Redis as Client

from django_redislock import lock
from tests.servers import Redis

from . import measure
from .contenders import KEYS, OURS, RAW, of_redis
from .measure import Block, Contender
from .pair import count_trips
from .report import Column, Report, Row, Target

LIMITS = {3: 2.2, 5: 3.0}
"""How many times as long as a raw pair a lock by so many servers may take."""
PAIRS = 50

COLUMNS = (
    Column("p50", "p50\nus", ".0f"),
    Column("p99", "p99\nus", ".0f"),
    Column("cpu", "CPU\nus", ".0f"),
    Column("round_trips", "Redis\ntrips", ".2f"),
    Column("ratio", "x raw\npair", ".2f"),
)
NOTES = (
    "Raw pair: SET NX PX and a compare-and-delete of one key, on one server.",
    "Redis trips: requests sent, to all servers together; those of one round are on their way at the same time.",
    "All servers share the cores of this machine with the client.",
    "Ratios: the median over the blocks of the ratio of their medians.",
)


def run(arguments: argparse.Namespace) -> Report:
    """Measure both sizes in one run."""
    with servers(max(LIMITS)) as urls, override_settings(**settings_for(urls)):
        contenders = [one for one in of_redis() if one.name in {RAW, OURS}] + [by(size) for size in LIMITS]
        trips = {contender.name: count_trips(contender) for contender in contenders}
        blocks = measure.interleaved(contenders, rounds=2 if arguments.quick else 200, pairs=PAIRS)
        rows = {name: make_row(blocks, name) | counted for name, counted in trips.items()}
    return Report(columns=COLUMNS, rows=rows, targets=list(targets(rows)), notes=list(NOTES))


@contextmanager
def servers(count: int) -> Iterator[list[str]]:
    """So many servers for the while, which vote at once."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="redislock-quorum-")))
        urls = []
        for number in range(count):
            server = Redis(directory / str(number))
            stack.callback(server.stop)
            urls.append(server.start())
            with Client.from_url(urls[-1]) as client:
                run_id = client.info("server")["run_id"]
                client.set("redislock:node", f"{run_id} 0")  # it is known to be new
        yield urls


def settings_for(urls: Sequence[str]) -> dict[str, Any]:
    """An alias for each size, beside the one server of the raw pair."""
    backend = "django_redis.cache.RedisCache"
    caches: dict[str, Any] = {f"node{number}": {"BACKEND": backend, "LOCATION": url} for number, url in enumerate(urls)}
    quorums: dict[str, Any] = {f"quorum{size}": {"CACHE": list(caches)[:size]} for size in LIMITS}
    return {"CACHES": settings.CACHES | caches, "REDISLOCK": settings.REDISLOCK | quorums}


def by(size: int) -> Contender:
    """The lock by so many servers."""
    names = [f"quorum-{number}" for number in range(KEYS)]

    def pair(number: int) -> None:
        with lock(names[number % KEYS], alias=f"quorum{size}"):
            pass

    return Contender(name=name_of(size), pair=pair)


def name_of(size: int) -> str:
    """The name of a row."""
    return f'lock("name"), {size} servers'


def make_row(blocks: Sequence[Block], name: str, *, base: str = RAW) -> Row:
    """The figures of one contender, which is compared with the base."""
    return {
        "p50": measure.p50(blocks, name),
        "p99": measure.p99(blocks, name),
        "cpu": measure.cpu(blocks, name),
        "ratio": measure.ratio(blocks, name, base),
    }


def targets(rows: Mapping[str, Row]) -> Iterator[Target]:
    """What is to be reached."""
    for size, limit in LIMITS.items():
        yield Target(f"{name_of(size)}, x raw pair", rows[name_of(size)]["ratio"], limit, ".2f")
