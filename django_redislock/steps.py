"""Decisions that ask and wait, written once: a generator yields what a question gives, and is sent the answer.

Where asking blocks, what is yielded is the answer already; where it does not, it is something to be awaited, unless
there is nothing to wait for. So `answer = yield store.acquire(...)` serves both, and an exception or a cancellation is
raised in the generator at that very place.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")

Steps = Generator[Any, Any, T]
"""What gives a T in the end."""


def run(steps: Steps[T]) -> T:
    """Go through the steps where every question blocks until it is answered."""
    try:
        answer = next(steps)
        while True:
            answer = steps.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # what the generator returns


async def arun(steps: Steps[T]) -> T:
    """Go through the steps where what can be awaited is a question, and anything else the answer.

    A cancellation that a question keeps to itself is raised all the same: in Python 3.11 `asyncio.wait_for()`, which
    redis-py sends with, does so when it is done at that very moment (https://github.com/python/cpython/issues/86296).
    """
    task = asyncio.current_task()
    assert task is not None  # who awaits runs in a task
    try:
        question = next(steps)
        while True:
            if not hasattr(question, "__await__"):
                question = steps.send(question)
                continue
            cancels = task.cancelling()
            try:
                answer = await question
                if task.cancelling() > cancels:
                    raise asyncio.CancelledError
            except BaseException as error:  # noqa: BLE001 - it is raised in the generator
                question = steps.throw(error)
            else:
                question = steps.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # what the generator returns


class Unstoppable(asyncio.Task[T]):
    """A task that nobody can cancel. Who awaits it and is cancelled hears of that when it has ended."""

    def cancel(self, msg: Any | None = None) -> bool:
        """Refused: whoever was cancelled while awaiting this goes on to wait."""
        return False


AT_ONCE: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}
"""Begins a task without waiting for the next round of the loop."""


async def shielded(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await it to its end also when the task is cancelled meanwhile; that is raised when it has ended."""
    task = Unstoppable(coroutine, loop=asyncio.get_running_loop(), **AT_ONCE)
    try:
        return await task
    except asyncio.CancelledError as cancelled:
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            cancelled.add_note(f"{type(failure).__name__}: {failure}")
        raise
