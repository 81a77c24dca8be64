"""What runs a flow, a thread, a greenlet or a task, and whether the code that asks is what it waits for.

Code behind `sync_to_async` and `async_to_sync` runs in another thread or task, in a copy of the flow's context, while
the flow itself stands still and waits for it. Copies prove nothing, child tasks and plain threads have them too; but
asgiref's frames on both sides share an object of that one call. A frame that cannot be found proves nothing either.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any
from weakref import ref

from asgiref.sync import AsyncToSync, SyncToAsync

from . import clock

AWAITS_THREAD = SyncToAsync.__call__.__code__
RUNS_IN_THREAD = SyncToAsync.thread_handler.__code__
AWAITS_TASK = AsyncToSync.__call__.__code__
RUNS_IN_TASK = AsyncToSync.main_wrap.__code__
LOOP_OF_ITS_OWN = "new_loop_wrap"
"""The coroutine that asgiref runs in a new loop; it awaits that of `main_wrap()`."""

TRIES = 1_000
"""So often one looks at a task that is running: it may be about to wait."""


class Runner:
    """What runs now."""

    __slots__ = ("_greenlet", "_task", "_thread")

    def __init__(self) -> None:
        task = current_task()
        self._task = None if task is None else ref(task)
        self._thread = threading.current_thread()
        # A greenlet that was spawned by itself: the thread that stands for it never ends.
        greenlets = sys.modules.get("greenlet")
        is_spawned = greenlets is not None and isinstance(self._thread, threading._DummyThread)
        self._greenlet: Any = greenlets.getcurrent() if is_spawned and greenlets is not None else None

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        if self._task is not None:
            task = self._task()
            return task is not None and not task.done()
        return self._thread.is_alive() if self._greenlet is None else not self._greenlet.dead

    @property
    def waits_for_us(self) -> bool:
        """Whether it stands still until the code that asks has returned."""
        ours = current_task()
        if self._task is not None:
            theirs = self._task()
            return theirs is not None and ours is None and awaits_this_thread(theirs)
        return ours is not None and self.stands_still_for(ours)

    def stands_still_for(self, task: asyncio.Task[Any]) -> bool:
        """Whether it is the task, or a thread that waits for it."""
        if self._task is not None:
            return self._task() is task
        return self._thread.ident is not None and awaits_task(self._thread.ident, task)


def current_task() -> asyncio.Task[Any] | None:
    """The task that runs in this thread, if any."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def awaits_this_thread(task: asyncio.Task[Any]) -> bool:
    """Whether the task awaits the very `sync_to_async` call that this thread runs in, or is about to."""
    ours = next((frame for frame in outwards(sys._getframe()) if frame.f_code is RUNS_IN_THREAD), None)
    if ours is None:
        return False
    mark = ours.f_locals["task_context"]
    for _ in range(TRIES):
        if awaits_call(task, mark) or runs_call(task, mark):
            return True
        if asyncio.current_task(task.get_loop()) is not task:
            return awaits_call(task, mark)  # it may have begun to wait just now
        clock.sleep(0)
    return False


def awaits_call(task: asyncio.Task[Any], mark: Any) -> bool:
    """Whether what the task awaits leads to the call with this mark. That of a task which is running leads nowhere."""
    awaited: Any = task.get_coro()
    while awaited is not None:
        if is_call(getattr(awaited, "cr_frame", None), mark):
            return True
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return False


def runs_call(task: asyncio.Task[Any], mark: Any) -> bool:
    """Whether the task is running, in the call with this mark: a thread may begin before the task waits for it."""
    root = getattr(task.get_coro(), "cr_frame", None)
    for innermost in sys._current_frames().values():
        frames = list(outwards(innermost))
        if root in frames and any(is_call(frame, mark) for frame in frames[: frames.index(root) + 1]):
            return True
    return False


def is_call(frame: FrameType | None, mark: Any) -> bool:
    """Whether it is that of the `sync_to_async` call with this mark."""
    return frame is not None and frame.f_code is AWAITS_THREAD and frame.f_locals.get("task_context") is mark


def awaits_task(thread: int, task: asyncio.Task[Any]) -> bool:
    """Whether the thread stands in the very `async_to_sync` call that this task was made for."""
    root: Any = task.get_coro()
    if getattr(root, "__name__", "") == LOOP_OF_ITS_OWN and root.cr_code.co_filename == RUNS_IN_TASK.co_filename:
        root = root.cr_frame.f_locals.get("awaitable")
    if getattr(root, "cr_code", None) is not RUNS_IN_TASK:
        return False
    mark = root.cr_frame.f_locals["call_result"]
    theirs = outwards(sys._current_frames().get(thread))
    return any(frame.f_code is AWAITS_TASK and frame.f_locals.get("call_result") is mark for frame in theirs)


def outwards(frame: FrameType | None) -> Iterator[FrameType]:
    """The frame, and those that it was called from."""
    while frame is not None:
        yield frame
        frame = frame.f_back
