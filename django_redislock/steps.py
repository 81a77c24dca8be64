"""Decisions that ask and wait, written once: a generator yields what a question gives, and is sent the answer.

Where asking blocks, what is yielded is the answer already; where it does not, it is something to be awaited, unless
there is nothing to wait for. So `answer = yield store.acquire(...)` serves both, and an exception or a cancellation is
raised in the generator at that very place.
"""

from __future__ import annotations

import asyncio
import inspect
import types
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

Steps = Generator[Any, Any, T]
"""What gives a T in the end."""


def run(steps: Steps[T], *, error: BaseException | None = None) -> T:
    """Go through the steps where every question blocks until it is answered; an error is raised in them first."""
    try:
        answer = next(steps) if error is None else steps.throw(error)
        while True:
            answer = steps.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # what the generator returns
    except BaseException as failure:
        if inspect.getgeneratorstate(steps) != inspect.GEN_SUSPENDED:
            raise
        error = failure  # of a signal's handler that has come between two steps
    return run(steps, error=error)


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
                if task.cancelling() > cancels and task not in _shielded:
                    raise asyncio.CancelledError
            except BaseException as error:  # noqa: BLE001 - it is raised in the generator
                question = steps.throw(error)
            else:
                question = steps.send(answer)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # what the generator returns


class Reply(asyncio.Future[T]):
    """What comes in any case: whoever may not be interrupted goes on to wait for it when it is cancelled."""

    is_kept = False
    """Whether it is for such a one."""

    def cancel(self, msg: Any | None = None) -> bool:
        """As `Future.cancel()`. Where that is refused, the task is told when it goes on."""
        return not self.is_kept and super().cancel(msg)

    def come(self, value: T) -> None:
        """Set the result. One task that waits for it, and for nothing else, goes on at once, not a round later.

        Called by the loop: no task is running.
        """
        waiting: Any = self._callbacks or ()
        wake, context = waiting[0] if len(waiting) == 1 else NOBODY
        if not isinstance(getattr(wake, "__self__", None), asyncio.Task) or asyncio.current_task() is not None:
            self.set_result(value)
            return
        self.remove_done_callback(wake)
        self.set_result(value)
        try:
            context.run(wake, self)
        except RuntimeError:  # something else runs in its context now, so that it has not gone on
            self.get_loop().call_soon(wake, self, context=context)
        except (KeyboardInterrupt, SystemExit) as error:
            self.get_loop().call_soon(throw, error)  # out of the loop, as if it had come from there


NOBODY: Any = (None, None)


def throw(error: BaseException) -> None:
    """Raise it."""
    raise error


async def shielded(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await it to its end also when the task is cancelled meanwhile; that is raised when it has ended.

    No task is made for it, which costs a round of the loop. So there must be no `asyncio.timeout()` in it: that would
    interrupt this very task.
    """
    cancels: list[asyncio.CancelledError] = []
    try:
        value = await uninterrupted(coroutine, cancels)
    except BaseException as failure:
        if not cancels:
            raise
        cancels[0].add_note(f"{type(failure).__name__}: {failure}")
        raise cancels[0] from failure
    finally:
        if cancels:
            _shielded.discard(asyncio.current_task())
    if cancels:
        raise cancels[0]
    return value


@types.coroutine
def uninterrupted(coroutine: Coroutine[Any, Any, T], cancels: list[asyncio.CancelledError]) -> Generator[Any, None, T]:
    """Await it, and note what would have interrupted that."""
    step = partial(coroutine.send, None)
    while True:
        try:
            awaited = step()
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # what the coroutine returns
        step = partial(coroutine.send, None)
        try:
            yield awaited if awaited is None else kept(awaited)
        except asyncio.CancelledError as error:
            cancels.append(error)
            _shielded.add(asyncio.current_task())
        except BaseException as error:  # noqa: BLE001 - it is raised in the coroutine
            step = partial(coroutine.throw, error)


_shielded: set[Any] = set()
"""Tasks that hear later that they were cancelled."""


def kept(awaited: asyncio.Future[Any]) -> Reply[Any]:
    """It, or where that can be cancelled what is done together with it, as what a task is told to wait for."""
    if isinstance(awaited, Reply):
        awaited.is_kept = True
        return awaited
    awaited._asyncio_future_blocking = False
    done: Reply[Any] = Reply(loop=awaited.get_loop())
    done.is_kept = done._asyncio_future_blocking = True
    awaited.add_done_callback(lambda awaited: done.set_result(None))
    return done
