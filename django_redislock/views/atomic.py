"""`ATOMIC_REQUESTS`, taken over: Django's transaction around the view would end after the lock was released.

Django's order      BEGIN, acquire, view, release, COMMIT
the right one       acquire, BEGIN, view, COMMIT, release
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
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


NONE: AbstractContextManager[None] = nullcontext()


def request_transactions(without: frozenset[str], before_commit: Callable[[], None]) -> AbstractContextManager[None]:
    """The transactions that `ATOMIC_REQUESTS` asks for, as far as none is open on that database.

    `before_commit` is called when the block has ended well and there is something to commit.
    """
    aliases = [
        alias
        for alias, settings in connections.settings.items()
        if settings["ATOMIC_REQUESTS"] and alias not in without and not users_blocks(connections[alias])
    ]
    return transactions(aliases, before_commit) if aliases else NONE


@contextmanager
def transactions(aliases: list[str], before_commit: Callable[[], None]) -> Iterator[None]:
    """Transactions on several databases."""
    with ExitStack() as stack:
        for alias in aliases:
            stack.enter_context(atomic(using=alias))
        yield
        before_commit()
