"""Fifty operators take locks away at random while money moves: none is lost, and everybody is told."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.models import Sum

from django_redislock import LeaseLost, LockBusy, lock, locked_many, signals
from django_redislock.forcing import force_release
from tests.testapp.models import Account

WORKERS, OPERATORS, ACCOUNTS, MONEY, TRANSFERS = 6, 50, 5, 1000, 120


@pytest.fixture
def told() -> Iterator[dict[str, set[tuple[str, int]]]]:
    """The owners that were forced out, those that had begun to work, and those that were told of a loss."""
    found: dict[str, set[tuple[str, int]]] = {"forced": set(), "working": set(), "lost": set()}

    def note_forced(info: Any, **named: Any) -> None:
        found["forced"].add((info.key, info.fence))

    def note_working(lease: Any, **named: Any) -> None:
        found["working"].add((lease.key.name, lease.fence))

    def note_lost(lease: Any, **named: Any) -> None:
        found["lost"].add((lease.key.name, lease.fence))

    signals.lock_forced.connect(note_forced)
    signals.lock_acquired.connect(note_working)
    signals.lock_lost.connect(note_lost)
    yield found
    signals.lock_forced.disconnect(note_forced)
    signals.lock_acquired.disconnect(note_working)
    signals.lock_lost.disconnect(note_lost)


def move(pks: list[int], db: str) -> None:
    """Move some money between two rows, which nothing but the lock protects."""
    chance = random.Random()
    source, target = chance.sample(pks, 2)
    amount = chance.randint(1, 50)
    with locked_many(Account.objects.using(db), [source, target], wait=10) as rows:
        changes = zip(rows, (-amount, amount), strict=True)
        for row, change in sorted(changes, key=lambda pair: pair[0].pk):  # else two forced-out ones may wait in a cycle
            row.balance += change
            row.save(using=db)


def keep_moving(pks: list[int], db: str) -> int:
    """Move money so many times; gives how often that had to be tried again."""
    again = 0
    for _ in range(TRANSFERS // WORKERS):
        while True:
            try:
                move(pks, db)
                break
            except (LeaseLost, LockBusy):
                again += 1
    return again


def keep_forcing(names: list[str], ended: threading.Event) -> None:
    """Take locks away and take them, at random, until the work is done."""
    chance = random.Random()
    while not ended.wait(chance.uniform(0.01, 0.2)):
        name = chance.choice(names)
        force_release(name)
        try:
            with lock(name, nowait=True):
                pass
        except (LockBusy, LeaseLost):
            continue


def closing(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        try:
            return function(*args)
        finally:
            connections.close_all()

    return run


@pytest.mark.parametrize("db_alias", ["postgres"], indirect=True)
@pytest.mark.django_db(transaction=True, databases=["default", "postgres"])
def test_no_money_is_lost_and_everybody_is_told(real_redis, db_alias, told, settings):
    settings.REDISLOCK = {"default": {"CACHE": "real"}}
    with transaction.atomic(using=db_alias):
        rows = [Account.objects.using(db_alias).create(balance=MONEY) for _ in range(ACCOUNTS)]
    pks = [row.pk for row in rows]
    ended = threading.Event()
    with ThreadPoolExecutor(WORKERS + OPERATORS) as pool:
        operators = [
            pool.submit(keep_forcing, [f"testapp.Account:{pk}" for pk in pks], ended) for _ in range(OPERATORS)
        ]
        workers = [pool.submit(closing(keep_moving), pks, db_alias) for _ in range(WORKERS)]
        try:
            again = sum(worker.result() for worker in workers)
        finally:
            ended.set()
        for operator in operators:
            operator.result()
    total = Account.objects.using(db_alias).aggregate(total=Sum("balance"))["total"]
    assert total == ACCOUNTS * MONEY
    forced_out = told["forced"] & told["working"]  # who was still on its way to several locks took them anew
    assert forced_out
    assert again > 0
    assert forced_out <= told["lost"]
