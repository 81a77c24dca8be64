"""Responses whose body is made after the view has returned, and the lock would be released."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Literal

from django.core.exceptions import ImproperlyConfigured

Streaming = Literal["refuse", "hold"]
STREAMING = ("refuse", "hold")
"""What may be told about such a response."""


def leave_to(response: Any, locks: ExitStack) -> None:
    """Leave the locks to the end of the response's body, if that is still to be made."""
    if not getattr(response, "streaming", False):
        return
    held = locks.pop_all()
    close = response.close

    def close_and_release() -> None:
        with held:
            close()

    response.close = close_and_release  # the server calls it, also when the client has gone


def refuse_stream(response: Any, view: Any) -> None:
    """Raise `ImproperlyConfigured` for a response whose body would be made without the lock."""
    if getattr(response, "streaming", False):
        response.close()
        name = getattr(view, "__qualname__", view)
        raise ImproperlyConfigured(
            f"{name} gives a {type(response).__name__}, whose body is made after its lock was released. Pass "
            f"streaming='hold' to lock_instance() to hold the lock until the stream is closed, or make the body "
            f"in the view."
        )
