"""Putting a task back because it was busy: Celery, `django.tasks`, and their like.

Neither is imported here: a task of theirs runs only where somebody has done that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from django.utils import timezone
from django.utils.module_loading import import_string

from .exceptions import LockBusy

Function = Callable[..., Any]


def current_celery_task(function: Function) -> Any:
    """The Celery task that runs now, if it is the function's; nothing for a function that is called as such."""
    celery = sys.modules.get("celery")
    task = celery.current_task if celery is not None else None
    if not task:
        return None
    return task if getattr(task.run, "__func__", task.run) is function else None


def django_task(function: Function, args: tuple[Any, ...]) -> Any:
    """The task of `django.tasks` that the function was made, as it was enqueued where its context tells that."""
    if is_given_by_queue(args) and hasattr(args[0], "task_result"):
        return args[0].task_result.task
    try:
        task = import_string(f"{function.__module__}.{function.__qualname__}")
    except ImportError:  # of a function inside another one, which no queue takes
        return None
    return task if getattr(task, "func", None) is function and hasattr(task, "enqueue") else None


def is_given_by_queue(args: tuple[Any, ...]) -> bool:
    """Whether the first argument comes from the queue: the task itself (`bind=True`) or its context."""
    return bool(args) and (hasattr(args[0], "apply_async") or hasattr(args[0], "task_result"))


def put_back(
    function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, error: LockBusy, after: float
) -> None:
    """Have the task run again `after` seconds from now.

    Raises what Celery's `retry()` raises; the error itself where nobody can run it later, or where the function was
    called as such.
    """
    celery_task = current_celery_task(function)
    if celery_task is not None:
        raise celery_task.retry(exc=error, countdown=after)
    task = django_task(function, args)
    if task is None:
        raise error
    if not task.get_backend().supports_defer:
        error.add_note(
            f"It is not tried again: the backend {task.backend!r} of django.tasks cannot run a task later. Use one "
            f"that can, or tell when_busy='fail' or 'skip'."
        )
        raise error
    own = args[1:] if is_given_by_queue(args) else args
    task.using(run_after=timezone.now() + timedelta(seconds=after)).enqueue(*own, **kwargs)


def describe(function: Function) -> str:
    """The task as what a holder is doing."""
    task = current_celery_task(function)
    return f"task {name_of(function)}{f' {task.request.id}' if task is not None else ''}"


def name_of(function: Function) -> str:
    """What the function is called wherever it is looked up."""
    return f"{function.__module__}.{function.__qualname__}"
