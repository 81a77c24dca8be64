"""A Celery application whose worker the tests start, and its tasks."""

from __future__ import annotations

import os
from typing import Any

import django
from celery import Celery

from django_redislock import lock_task

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from django_redis import get_redis_connection  # noqa: E402  # it needs the settings

from tests.testapp.models import Account  # noqa: E402  # it needs the apps

URL = os.environ.get("TEST_REDIS_URL", "memory://")
app = Celery("tests", broker=URL, backend=URL if URL != "memory://" else "cache+memory://")
app.conf.update(
    broker_transport_options={"global_keyprefix": "celery:"},
    result_backend_transport_options={"global_keyprefix": "celery:"},
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    task_always_eager=URL == "memory://",
)


def note(line: str) -> None:
    """Write down what happens, in order, where the tests see it."""
    get_redis_connection("real").rpush("celery-notes", line)


@app.task(bind=True, max_retries=200)
@lock_task(by=["name"], retry_in=0.05)
def report(self: Any, name: str, line: str = "") -> str:
    """Takes a while, and says when it begins and ends."""
    note(f"begin {name}")
    get_redis_connection("real").blpop(f"go-on-{name}", timeout=20)
    note(f"end {name}")
    return f"{name} {line}".strip()


@app.task
@lock_task(by=[], when_busy="skip")
def skipping() -> str:
    return "ran"


@app.task
@lock_task(by=[], when_busy="fail")
def failing() -> str:
    return "ran"


@app.task(max_retries=1)
@lock_task(by=[], retry_in=0.01)
def tried_twice() -> str:
    return "ran"


@app.task(max_retries=200)
@lock_task(Account, retry_in=0.01)
def withdraw(account_id: int, amount: int, account: Account) -> str:
    account.balance -= amount
    account.save()
    return f"{account.name} {account.balance:.0f}"
