"""The admin page of held locks among many other keys, beside an ordinary changelist of as many rows."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client, override_settings
from django_redis import get_redis_connection

from django_redislock import lock_many

from . import measure
from .measure import Contender
from .report import Column, Report, Row, Target

USERS, HELD = "changelist of users", "held locks"
PATHS = {USERS: "/admin/auth/user/", HELD: "/admin/django_redislock/heldlock/"}
LIMIT = 3.0
"""How many times as long as the ordinary changelist the first page may take."""
AT_ONCE = 1000
ROUNDS, PAGES = 12, 3

COLUMNS = (Column("p50", "p50\nms", ".1f"), Column("cpu", "CPU\nms", ".1f"), Column("ratio", "x users", ".2f"))
FILL = "for number = 1, tonumber(ARGV[1]) do redis.call('SET', 'other:' .. number, 'x') end"


def run(arguments: argparse.Namespace) -> Report:
    """Hold the locks, fill the server, and fetch both pages in turns."""
    with holding(arguments.locks, others=arguments.others), visiting() as client:
        contenders = [Contender(name=name, pair=partial(fetch, client, path)) for name, path in PATHS.items()]
        blocks = measure.interleaved(contenders, rounds=ROUNDS, pairs=PAGES)
    rows: dict[str, Row] = {
        name: {
            "p50": measure.p50(blocks, name) / 1e3,
            "cpu": measure.cpu(blocks, name) / 1e3,
            "ratio": measure.ratio(blocks, name, USERS),
        }
        for name in PATHS
    }
    return Report(
        columns=COLUMNS,
        rows=rows,
        targets=[Target("first page of held locks, x changelist of users", rows[HELD]["ratio"], LIMIT, ".2f")],
        notes=[
            f"{arguments.locks} locks held, {arguments.others} other keys, 10000 users; 100 rows a page.",
            "Both are asked for by Django's test client, in the process that measures; the database is SQLite.",
        ],
    )


def fetch(client: Client, path: str, number: int) -> None:
    """One page."""
    assert client.get(path).status_code == 200


@contextmanager
def holding(count: int, *, others: int) -> Iterator[None]:
    """So many locks, and so many other keys."""
    server = get_redis_connection("default")
    server.flushdb()
    server.eval(FILL, 0, others)
    names = [f"bank.Account:{number}" for number in range(count)]
    with ExitStack() as stack:
        for start in range(0, count, AT_ONCE):
            stack.enter_context(lock_many(names[start : start + AT_ONCE], ttl=600))
        yield
    server.flushdb()


@contextmanager
def visiting() -> Iterator[Client]:
    """Somebody who is logged in, on a site with many users."""
    call_command("migrate", verbosity=0)
    root = User.objects.create_superuser("root")
    User.objects.bulk_create(
        User(username=f"user-{number:05}", email=f"{number}@example.org") for number in range(10_000)
    )
    client = Client()
    with override_settings(ALLOWED_HOSTS=["testserver"]):
        client.force_login(root)
        yield client
