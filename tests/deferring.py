"""A backend of `django.tasks` that keeps tasks until a test runs them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.tasks.backends.immediate import ImmediateBackend


class DeferringBackend(ImmediateBackend):
    """Runs what was enqueued when it is told to, whatever the time."""

    supports_defer = True

    # Each thread has a backend of its own.
    kept: ClassVar[list[tuple[Any, Any, Any]]] = []

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        if task.run_after is None:
            return super().enqueue(task, args, kwargs)
        self.validate_task(task)
        self.kept.append((task, args, kwargs))
        return None

    def run_next(self) -> tuple[datetime, Any]:
        """Run the task that was kept first; gives when it was to run, and its result."""
        task, args, kwargs = self.kept.pop(0)
        return task.run_after, super().enqueue(task, args, kwargs)
