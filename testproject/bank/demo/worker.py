"""A worker process: takes tasks from a pipe until that is closed. It imports no model before Django is set up."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection

import django

from .messages import Answer, Done, Failed, Ready, Task


def serve(pipe: Connection) -> None:
    """Do what comes through the pipe, one after the other, until it is closed or the demo is gone."""
    django.setup()
    from .carrying import carry_out  # noqa: PLC0415  models cannot be imported any earlier

    with suppress(EOFError, ConnectionError):
        pipe.send(Ready())
        while True:
            pipe.send(answer(pipe.recv(), carry_out))


def answer(task: Task, carry_out: Callable[[Task], Done]) -> Answer:
    """What became of the task. An unexpected error is told to the demo, which ends with it."""
    try:
        return carry_out(task)
    except Exception:  # noqa: BLE001  the process that gave the task tells it, and ends
        return Failed(traceback=traceback.format_exc())
