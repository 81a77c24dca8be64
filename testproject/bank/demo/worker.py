"""A worker process: takes tasks from a pipe until that is closed. It imports no model before Django is set up."""

from __future__ import annotations

import signal
import traceback
from multiprocessing.connection import Connection

import django

from .messages import Answer, Failed, Ready


def serve(pipe: Connection) -> None:
    """Do what comes through the pipe, one after the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the demo, which then closes the pipe
    django.setup()
    from .carrying import carry_out  # noqa: PLC0415  models cannot be imported any earlier

    pipe.send(Ready())
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        answer: Answer
        try:
            answer = carry_out(task)
        except Exception:  # noqa: BLE001  it is told to the demo, which ends with it
            answer = Failed(traceback=traceback.format_exc())
        pipe.send(answer)
