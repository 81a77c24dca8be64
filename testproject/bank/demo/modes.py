"""The ways to get hold of both rows of an order. What is done with them afterwards is the same for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from django.db import connection, transaction

from testproject.bank.models import Account
from testproject.bank.transfers import Order, Rows, locked_rows

from .messages import Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """One way, and what is to be expected of it."""

    name: str
    rows: Callable[[Order, Terms], AbstractContextManager[Rows]]
    """Gives the rows inside a transaction, which ends with the block."""
    protected: bool
    """Whether it promises that no money is lost."""
    available: Callable[[], bool] = lambda: True
    """Whether the database can do it."""


@contextmanager
def unprotected(order: Order, _terms: Terms) -> Iterator[Rows]:
    """What most code does: get, change, save. The writing is all or nothing, and yet updates are lost."""
    rows = {pk: Account.objects.get(pk=pk) for pk in order.accounts}
    with transaction.atomic():
        yield rows


@contextmanager
def select_for_update(order: Order, _terms: Terms) -> Iterator[Rows]:
    """Row locks of the database."""
    with transaction.atomic():
        rows = Account.objects.select_for_update().filter(pk__in=order.accounts).order_by("pk")
        yield {row.pk: row for row in rows}


def locked(order: Order, terms: Terms) -> AbstractContextManager[Rows]:
    """Row locks on Redis."""
    return locked_rows(order, wait=terms.wait, ttl=terms.ttl)


MODES = {
    mode.name: mode
    for mode in (
        Mode(name="unprotected", rows=unprotected, protected=False),
        Mode(
            name="select_for_update",
            rows=select_for_update,
            protected=True,
            available=lambda: connection.features.has_select_for_update,
        ),
        Mode(name="locked", rows=locked, protected=True),
    )
}
