"""A lock in a cluster on this machine, nobody else wanting it, beside the same pair of redis-py's cluster client."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from django.conf import settings
from django.test import override_settings
from django_redis import get_redis_connection

from django_redislock import lock
from tests.flows import until
from tests.servers.sets import ClusterSet

from . import measure
from .contenders import KEYS, raw_pair
from .measure import Contender
from .pair import PAIRS, count_trips
from .quorum import COLUMNS, make_row
from .report import Column, Report, Target

LIMIT = 1.3
"""How many times as long as redis-py's pair ours may take."""

RAW = "redis-py's pair"
OURS = 'lock("name")'

NOTES = (
    "redis-py's pair: SET NX PX and a compare-and-delete by EVALSHA of one key, by its client of the cluster.",
    "Three primaries with a replica each share the cores of this machine with the client.",
    "Ratios: the median over the blocks of the ratio of their medians.",
)


def run(arguments: argparse.Namespace) -> Report:
    """Measure both in one run."""
    with cluster() as url, override_settings(**settings_for(url)):
        raw = raw_pair(get_redis_connection("cluster"), [f"raw:{number}" for number in range(KEYS)])
        contenders = [Contender(name=RAW, pair=raw), our_pair()]
        for number, contender in product(range(KEYS), contenders):
            contender.pair(number)  # each node is told the scripts
        trips = {contender.name: count_trips(contender) for contender in contenders}
        blocks = measure.interleaved(contenders, rounds=2 if arguments.quick else 200, pairs=PAIRS)
    rows = {name: make_row(blocks, name, base=RAW) | counted for name, counted in trips.items()}
    ratio = rows[OURS]["ratio"]
    columns = [*COLUMNS[:-1], Column("ratio", "x redis-\npy's", ".2f")]
    target = Target(f"{OURS}, x {RAW}", ratio, LIMIT, ".2f")
    return Report(columns=columns, rows=rows, targets=[target], notes=list(NOTES))


@contextmanager
def cluster() -> Iterator[str]:
    """A cluster for the while."""
    with tempfile.TemporaryDirectory(prefix="redislock-cluster-") as directory:
        servers = ClusterSet(Path(directory), until=until)
        try:
            servers.start()
            yield servers.url
        finally:
            servers.stop()


def settings_for(url: str) -> dict[str, Any]:
    """An alias for the cluster."""
    cache = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": url,
        "OPTIONS": {"CONNECTION_FACTORY": "django_redislock.cluster.ClusterConnectionFactory"},
    }
    return {
        "CACHES": settings.CACHES | {"cluster": cache},
        "REDISLOCK": settings.REDISLOCK | {"cluster": {"CACHE": "cluster"}},
    }


def our_pair() -> Contender:
    """The lock by this package."""
    names = [f"benchmark-{number}" for number in range(KEYS)]

    def pair(number: int) -> None:
        with lock(names[number % KEYS], alias="cluster"):
            pass

    return Contender(name=OURS, pair=pair)
