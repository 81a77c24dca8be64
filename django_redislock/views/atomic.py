"""`ATOMIC_REQUESTS`, taken over: Django's transaction around the view would end after the lock was released.

Django's order      BEGIN, acquire, view, release, COMMIT
the right one       acquire, BEGIN, view, COMMIT, release
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections
from django.db.transaction import atomic

from ..transactions import users_blocks


def opted_out(view: Any) -> frozenset[str]:
    """The databases that the view was taken out of `ATOMIC_REQUESTS` for, by `non_atomic_requests`."""
    return frozenset(getattr(view, "_non_atomic_requests", ()))


def take_over(wrapper: Any) -> None:
    """Have Django open no transaction around the view: it opens them itself, inside the lock."""
    wrapper._non_atomic_requests = set(connections)


def is_wanted(without: frozenset[str]) -> bool:
    """Whether `ATOMIC_REQUESTS` asks for a transaction on any database."""
    return any(settings["ATOMIC_REQUESTS"] and alias not in without for alias, settings in connections.settings.items())


def wanted_by_settings(without: frozenset[str]) -> list[str]:
    """The databases of which `ATOMIC_REQUESTS` asks for a transaction, as far as none is open there."""
    return [
        alias
        for alias, settings in connections.settings.items()
        if settings["ATOMIC_REQUESTS"] and alias not in without and not users_blocks(connections[alias])
    ]


@contextmanager
def transactions(aliases: list[str], before_commit: Callable[[], None] | None = None) -> Iterator[None]:
    """Transactions on several databases.

    `before_commit` is called when the block has ended well.
    """
    with ExitStack() as stack:
        for alias in aliases:
            stack.enter_context(atomic(using=alias))
        yield
        if before_commit is not None:
            before_commit()
