"""Which tasks cannot go on before another one has ended.

asyncio keeps with each future whom to tell of its end. That is followed through what cancels the awaited task when it
is cancelled itself: `await`, `gather()` and `TaskGroup`. Whoever awaits like this neither goes on nor lets the other
one be before that has ended. What is not known here proves nothing: `wait()`, `shield()`, `as_completed()`, futures,
events and queues, threads, and whatever is within a limit of time.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from types import MethodType
from typing import Any

Future = asyncio.Future[Any]
Task = asyncio.Task[Any]

TELLS_GATHER = "gather.<locals>._done_callback"


def awaiters(task: Task, *, is_stuck: Callable[[Future], bool]) -> Iterator[Task]:
    """The tasks that await it, directly or through others, with no limit of time; the nearest first.

    `is_stuck` says of another task that it cannot fail before one of these goes on: the first of a `gather()` to do so
    ends it for all.
    """
    seen: list[Future] = []
    left: list[Future] = [task]
    while left:
        future = left.pop(0)
        for callback, *_ in getattr(future, "_callbacks", None) or ():
            awaiter = told_by(callback, future, is_stuck)
            if awaiter is None or awaiter in seen or is_limited(awaiter):
                continue
            seen.append(awaiter)
            left.append(awaiter)
            if isinstance(awaiter, asyncio.Task):
                yield awaiter


def told_by(callback: Any, future: Future, is_stuck: Callable[[Future], bool]) -> Future | None:
    """What can end, or go on, only when the future has ended and this callback is called."""
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return owner if awaited_by(owner) is future else None
    if isinstance(owner, asyncio.TaskGroup):
        parent, completed = getattr(owner, "_parent_task", None), getattr(owner, "_on_completed_fut", None)
        return parent if completed is not None and awaited_by(parent) is completed else None
    if getattr(callback, "__qualname__", "") == TELLS_GATHER and callback.__module__ == asyncio.tasks.__name__:
        return gathered(variables_of(callback), future, is_stuck)
    return None


def gathered(variables: dict[str, Any], future: Future, is_stuck: Callable[[Future], bool]) -> Future | None:
    """The future of a `gather()`, unless another one of its tasks may end it before this one has ended."""
    outer, tells_errors = variables.get("outer"), variables.get("return_exceptions")
    if outer is None or outer.done():
        return None
    others = [other for other in variables["children"] if other is not future]
    return outer if tells_errors or all(is_stuck(other) or has_succeeded(other) for other in others) else None


def has_succeeded(future: Future) -> bool:
    """Whether it has ended, and not by an exception."""
    return future.done() and not future.cancelled() and future.exception() is None


def awaited_by(task: Any) -> Any:
    """The future that a task awaits right now."""
    return getattr(task, "_fut_waiter", None)


def variables_of(function: Any) -> dict[str, Any]:
    """What an inner function knows of the outer one."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return {name: cell.cell_contents for name, cell in cells}


def is_limited(task: Any) -> bool:
    """Whether a task is within an `asyncio.timeout()`, that of `wait_for()` included."""
    if not isinstance(task, asyncio.Task):
        return False
    coroutine: Any = task.get_coro()
    while coroutine is not None:
        if any(map(is_limit, gc.get_referents(coroutine))):  # its variables, and the blocks that it is in
            return True
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return False


def is_limit(thing: Any) -> bool:
    """Whether it is the end of an `asyncio.timeout()`, or a context manager's that is within one."""
    manager = thing.__self__ if isinstance(thing, MethodType) else thing
    if isinstance(manager, asyncio.Timeout):
        return manager.when() is not None
    if isinstance(manager, AsyncExitStack):
        return any(is_limit(leave) for _, leave in getattr(manager, "_exit_callbacks", ()))
    generator = getattr(manager, "gen", None) if isinstance(thing, MethodType) else None
    return hasattr(generator, "ag_frame") and any(map(is_limit, gc.get_referents(generator)))
