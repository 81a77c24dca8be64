"""One run: fresh accounts, all orders, and afterwards the audit of what is in the database."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from testproject.bank.models import Account, Transfer
from testproject.bank.transfers import Order, Outcome

from .ledger import Audit, Entry, Standing, audit
from .messages import Done, Task, Terms
from .modes import Mode
from .orders import OpeningBalance, OrderLine
from .pool import Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a run went."""

    mode: Mode
    audit: Audit
    orders: int
    seconds: float
    duplicates: int
    retries: int
    killed: int
    waits: tuple[float, ...]
    """Seconds until both rows were there, for each order."""

    @property
    def rate(self) -> float:
        """Orders per second."""
        return self.orders / self.seconds

    def wait(self, percent: int) -> float:
        """Seconds within which so many per cent of the orders had their rows."""
        return statistics.quantiles(self.waits, n=100, method="inclusive")[percent - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What every run starts from."""

    accounts: Sequence[OpeningBalance]
    lines: Sequence[OrderLine]
    terms: Terms
    kills: int = 0
    """How many workers are killed during a protected run."""


def run(plan: Plan, mode: Mode, *, pool: Pool, progress: Callable[[Done], Any]) -> Run:
    """Carry all orders out in one way.

    Raises `WorkerFailed`.
    """
    pks = open_accounts(plan.accounts)
    tasks = [Task(order=order_of(line, pks), mode=mode.name, terms=plan.terms) for line in plan.lines]
    kill_at = moments(len(tasks), plan.kills) if mode.protected else frozenset()
    pool.wait_until_ready()
    killed_before = pool.killed
    started = time.perf_counter()
    done = []
    for answer in pool.run(tasks, kill_at=kill_at):
        progress(answer)
        done.append(answer)
    return Run(
        mode=mode,
        seconds=time.perf_counter() - started,
        audit=take_stock(plan),
        orders=len(done),
        duplicates=sum(each.outcome is Outcome.DUPLICATE for each in done),
        retries=sum(each.retries for each in done),
        killed=pool.killed - killed_before,
        waits=tuple(each.waited for each in done),
    )


@transaction.atomic
def open_accounts(accounts: Sequence[OpeningBalance]) -> dict[str, int]:
    """Begin anew: no transfers, every account as it was opened. Gives the primary keys by number."""
    Transfer.objects.all().delete()
    Account.objects.all().delete()
    Account.objects.bulk_create(Account(number=a.number, owner=a.owner, balance=a.amount) for a in accounts)
    return dict(Account.objects.values_list("number", "pk"))


def order_of(line: OrderLine, pks: dict[str, int]) -> Order:
    return Order(key=line.key, source=pks[line.source], target=pks[line.target], amount=line.amount)


def moments(orders: int, kills: int) -> frozenset[int]:
    """After which of the answers somebody is killed: any but the first and the last tenth."""
    middle = range(orders // 10 + 1, orders - orders // 10)
    return frozenset(random.sample(middle, min(kills, len(middle))))


def take_stock(plan: Plan) -> Audit:
    """Audit what is in the database. The ledger is read in the order in which it was written."""
    lines = Transfer.objects.order_by("pk").values_list("key", "source__number", "target__number", "amount", "status")
    return audit(
        opening={account.number: account.amount for account in plan.accounts},
        ordered={line.key for line in plan.lines},
        ledger=[
            Entry(key=key, source=source, target=target, amount=amount, booked=status == Transfer.Status.BOOKED)
            for key, source, target, amount, status in lines
        ],
        standings={
            number: Standing(balance=balance, movements=movements)
            for number, balance, movements in Account.objects.values_list("number", "balance", "movements")
        },
    )
