"""Coroutine functions under a lock that belongs to a thread.

The lock is acquired and released by one thread, in one flow, which waits in between while the coroutine runs on its
event loop. What that coroutine does through `sync_to_async`, the asynchronous methods of Django's models included,
runs on the waiting thread again, and so within its transaction.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async

from .signatures import bare


def is_async(function: Any) -> bool:
    """Whether calling it gives something to be awaited; so does `dispatch()` of a class with asynchronous handlers."""
    found = bare(function)
    if iscoroutinefunction(function) or iscoroutinefunction(found):
        return True
    owner = getattr(found, "__self__", None)
    return getattr(found, "__name__", "") == "dispatch" and bool(getattr(owner, "view_is_async", False))


def blocking(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as one that returns what awaiting its answer gives, for a thread that `in_a_thread()` began."""

    async def awaited(*args: Any, **kwargs: Any) -> Any:
        answer = function(*args, **kwargs)
        return await answer if inspect.isawaitable(answer) else answer

    return async_to_sync(awaited)


def in_a_thread(function: Callable[..., Any], *args: Any) -> Coroutine[Any, Any, Any]:
    """Run the function in the thread that this request's synchronous code runs in."""
    return sync_to_async(function, thread_sensitive=True)(*args)
