"""Fifty operators take locks away at random while money moves: none is lost, and everybody is told."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.models import Sum

from django_redislock import LeaseLost, LockBusy, lock, locked_many, signals
from django_redislock.forcing import force_release
from django_redislock.lease import CONFIDENCE
from tests.testapp.models import Account

WORKERS, OPERATORS, ACCOUNTS, MONEY = 6, 50, 12, 1000
SLOW = 0.3
"""The share of transfers that take longer than a confirmation counts, or nearly."""
FORCED_OUT = 20
"""So many have to be forced out before it ends."""


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
    """Move some money between two rows, which nothing but the lock protects; now and then that takes long."""
    chance = random.Random()
    source, target = chance.sample(pks, 2)
    amount = chance.randint(1, 50)
    with locked_many(Account.objects.using(db), [source, target], wait=10) as rows:
        if chance.random() < SLOW:
            time.sleep(chance.uniform(0, 3 * CONFIDENCE))
        changes = zip(rows, (-amount, amount), strict=True)
        for row, change in sorted(changes, key=lambda pair: pair[0].pk):  # else two forced-out ones may wait in a cycle
            row.balance += change
            row.save(using=db)


def keep_moving(pks: list[int], db: str, ended: threading.Event) -> Counter[str]:
    """Move money until there is an end; gives how often that was done, and how often it was not."""
    outcomes: Counter[str] = Counter()
    while not ended.is_set():
        try:
            move(pks, db)
            outcomes["moved"] += 1
        except (LeaseLost, LockBusy) as error:
            outcomes[type(error).__name__] += 1
    return outcomes


def keep_forcing(names: list[str], ended: threading.Event) -> None:
    """Take locks away and take them, at random, until the work is done."""
    chance = random.Random()
    while not ended.wait(chance.uniform(0.5, 3)):
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


@pytest.mark.long
@pytest.mark.usefixtures("patient_operators")
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
        workers = [pool.submit(closing(keep_moving), pks, db_alias, ended) for _ in range(WORKERS)]
        try:
            while len(told["forced"] & told["working"]) < FORCED_OUT and not any(map(Future.done, workers)):
                wait(workers, timeout=0.1)
        finally:
            ended.set()
        outcomes: Counter[str] = sum((worker.result() for worker in workers), Counter())
        for operator in operators:
            operator.result()
    total = Account.objects.using(db_alias).aggregate(total=Sum("balance"))["total"]
    assert total == ACCOUNTS * MONEY
    assert outcomes["moved"]
    assert outcomes["LeaseLost"]
    forced_out = told["forced"] & told["working"]  # who was still on its way to several locks took them anew
    assert len(forced_out) >= FORCED_OUT
    assert forced_out <= told["lost"]
