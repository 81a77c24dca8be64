"""Moving money: what an order is, how it is decided, and how both its accounts are locked."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

from django.db import IntegrityError

from .models import Account, Transfer

TTL = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Somebody wants money to be moved. Sent twice with one key, it is the same wish."""

    key: str
    source: int
    target: int
    amount: Decimal

    @property
    def accounts(self) -> list[int]:
        """The keys of both rows, in one order for all who write them: so nobody deadlocks in the database."""
        return sorted((self.source, self.target))


class Outcome(enum.StrEnum):
    BOOKED = "booked"
    REFUSED = "refused"
    DUPLICATE = "duplicate"


Rows = Mapping[int, Account]


@contextmanager
def locked_rows(order: Order, *, wait: float, ttl: float = TTL) -> Iterator[Rows]:
    """Both accounts of an order, locked and fresh, inside a transaction.

    Both locks are held before the transaction begins, in whatever order they are named.

    Raises what `locked_many()` raises.
    """
    with Account.objects.locked_many(order.accounts, wait=wait, ttl=ttl) as rows:
        yield {row.pk: row for row in rows}


def book(order: Order, rows: Rows) -> Outcome:
    """Decide the order with both rows in hand and write the decision. To be called in a transaction.

    Raises `IntegrityError` when its key was decided before.
    """
    source, target = rows[order.source], rows[order.target]
    outcome = Outcome.BOOKED if source.balance >= order.amount else Outcome.REFUSED
    if outcome is Outcome.BOOKED:
        source.balance -= order.amount
        target.balance += order.amount
        for pk in order.accounts:
            rows[pk].movements += 1
            rows[pk].save()
    Transfer.objects.create(
        key=order.key, source=source, target=target, amount=order.amount, status=Transfer.Status(outcome)
    )
    return outcome


def decided_once(order: Order, decide: Callable[[], Outcome]) -> Outcome:
    """What `decide` says, or that the key was decided before: the unique key says so and rolled all back."""
    try:
        return decide()
    except IntegrityError:
        if not Transfer.objects.filter(key=order.key).exists():
            raise
        return Outcome.DUPLICATE


def transfer(order: Order, *, wait: float) -> Outcome:
    """Carry an order out, safely beside any number of others.

    Raises what `locked_many()` raises; then nothing was booked.
    """

    def decide() -> Outcome:
        with locked_rows(order, wait=wait) as rows:
            return book(order, rows)

    return decided_once(order, decide)
