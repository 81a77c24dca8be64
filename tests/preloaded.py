"""A WSGI application that holds a lock before the workers are forked which serve it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from django_redislock import lock  # noqa: E402 - Django comes first
from django_redislock.holds import held_here  # noqa: E402
from tests.flows import until  # noqa: E402
from tests.test_watchdog import TTL, renewed, threads_named  # noqa: E402

of_the_master = lock("of the master", ttl=TTL)
of_the_master.acquire()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Keep a lock for longer than its ttl, and say who does that."""
    with lock("of a worker", ttl=TTL, wait=60) as lease:
        until(lambda: renewed(lease))
        held = ", ".join(hold.lock.key.name for hold in held_here())
        threads = "one thread" if len(threads_named()) == 1 else f"{len(threads_named())} threads"
        answer = f"{lease.state} by {threads}: {held}"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer.encode()]
