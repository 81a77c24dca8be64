"""`@retry_on_conflict()`: do it again with fresh rows when another was faster."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db.models import Model
from django.db.transaction import atomic

from . import clock
from .conflicts import VersionConflict
from .transactions import open_connections, pins_snapshot
from .versions import version_field_of

F = TypeVar("F", bound=Callable[..., Any])

FIRST_PAUSE = 0.01
"""Seconds that the first pause takes at most; each further one twice as many."""
LONGEST_PAUSE = 1.0


def retry_on_conflict(attempts: int = 5) -> Callable[[F], F]:
    """Run a function again when it ends in `VersionConflict`: `@retry_on_conflict()`, also on a coroutine function.

    `attempts` is how often it is run at most; the conflict of the last one is raised. Between two of them there is a
    pause of random length. What is to be fresh the function reads itself; versioned instances among its arguments are
    refreshed. All that it does is done again, so what is not in the database must bear that.

    It belongs around the transaction. Inside one, each attempt runs in a savepoint of its own; where that would be of
    no use (REPEATABLE READ and up read what they saw first, and a coroutine has no savepoints) it is not run again.
    """
    if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
        raise ValueError(f"retry_on_conflict() takes the number of attempts, 1 at least, not {attempts!r}.")

    def decorate(function: F) -> F:
        run = _run_async if iscoroutinefunction(function) else _run

        @wraps(function)
        def retried(*args: Any, **named: Any) -> Any:
            return run(function, attempts, args, named)

        @wraps(function)
        async def retried_async(*args: Any, **named: Any) -> Any:
            return await run(function, attempts, args, named)

        return retried_async if iscoroutinefunction(function) else retried  # type: ignore[return-value]  # the same signature

    return decorate


def _run(function: Callable[..., Any], attempts: int, args: Any, named: Any) -> Any:
    outer = open_connections()
    pinned = any(pins_snapshot(connection) for connection in outer)
    for pause in pauses(1 if pinned else attempts):
        try:
            with ExitStack() as savepoints:
                for connection in outer:
                    savepoints.enter_context(atomic(using=connection.alias))
                return function(*args, **named)
        except VersionConflict as error:
            if pause is None:
                add_note(error, attempts, in_transaction=pinned)
                raise
        clock.sleep(pause)
        refresh([*args, *named.values()])
    raise AssertionError("The last attempt returns or raises.")


async def _run_async(function: Callable[..., Any], attempts: int, args: Any, named: Any) -> Any:
    outer = await sync_to_async(open_connections)()
    for pause in pauses(1 if outer else attempts):
        try:
            return await function(*args, **named)
        except VersionConflict as error:
            if pause is None:
                add_note(error, attempts, in_transaction=bool(outer))
                raise
        await asyncio.sleep(pause)
        await sync_to_async(refresh)([*args, *named.values()])
    raise AssertionError("The last attempt returns or raises.")


def pauses(attempts: int) -> Iterator[float | None]:
    """Seconds to wait after each attempt that failed; `None` after the last one."""
    for attempt in range(attempts - 1):
        yield random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt))
    yield None


def add_note(error: VersionConflict, attempts: int, *, in_transaction: bool) -> None:
    """Say in the conflict how often it was tried."""
    if in_transaction and attempts > 1:
        error.add_note("Not tried again: a transaction is open around it. Put retry_on_conflict() around atomic().")
    else:
        error.add_note(f"Tried {attempts} times.")


def refresh(values: Iterable[Any]) -> None:
    """Read the versioned instances among these again."""
    for value in values:
        if isinstance(value, Model) and version_field_of(type(value)) is not None and not value._state.adding:
            value.refresh_from_db()
