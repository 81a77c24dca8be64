"""`@lock_instance` beside `with locked()`: what the decorator costs on a view that nobody else wants."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from django_redislock import lock_instance
from testproject.bank.models import Account

from . import measure
from .contenders import KEYS
from .measure import Block, Contender
from .pair import PAIRS, accounts
from .report import Column, Report, Row, Target

BY_HAND, DECORATED = "with locked()", "@lock_instance"

COLUMNS = (
    Column("p50", "p50\nus"),
    Column("p99", "p99\nus"),
    Column("cpu", "CPU\nus"),
    Column("more", "more than\nby hand, us"),
)


def run(arguments: argparse.Namespace) -> Report:
    """Both views, called without a server."""
    with accounts() as pks:
        if not pks:
            raise SystemExit("No PostgreSQL, no rows to lock.")
        blocks = measure.interleaved(views(pks), rounds=arguments.rounds, pairs=PAIRS)
        rows: dict[str, Row] = {name: make_row(blocks, name) for name in (BY_HAND, DECORATED)}
        return Report(
            columns=COLUMNS,
            rows=rows,
            targets=[Target(f"{DECORATED}, more than {BY_HAND}, p50 in us", rows[DECORATED]["more"], 30)],
            notes=[f"{arguments.rounds} blocks of {PAIRS} requests each, the differences are medians over the blocks."],
        )


def views(pks: list[int]) -> list[Contender]:
    """The same view, written in two ways."""
    request = RequestFactory().post("/accounts/7/withdraw/")

    def by_hand(request: HttpRequest, pk: int) -> HttpResponse:
        with Account.objects.locked(pk):
            return HttpResponse()

    def work(request: HttpRequest, account: Account) -> HttpResponse:
        return HttpResponse()

    decorated: Any = lock_instance(Account)(work)
    return [
        Contender(name=BY_HAND, pair=lambda number: call(by_hand, request, pks[number % KEYS])),
        Contender(name=DECORATED, pair=lambda number: call(decorated, request, pks[number % KEYS])),
    ]


def call(view: Any, request: HttpRequest, pk: int) -> None:
    """As the URL resolver's caller does."""
    view(request, pk=pk)


def make_row(blocks: list[Block], name: str) -> Row:
    """The figures of one view."""
    return {
        "p50": measure.p50(blocks, name),
        "p99": measure.p99(blocks, name),
        "cpu": measure.cpu(blocks, name),
        "more": statistics.median(differences(blocks, name)),
    }


def differences(blocks: list[Block], name: str) -> Iterator[float]:
    """How much longer the median request took than by hand, in microseconds, block by block."""
    for block in blocks:
        yield (statistics.median(block[name].times) - statistics.median(block[BY_HAND].times)) / 1e3
