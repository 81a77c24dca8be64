"""`@lock_task` with `django.tasks`, which Django has from 6.0 on."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from django_redislock import lock, lock_task
from tests.flows import elsewhere
from tests.testapp.models import Account

tasks = pytest.importorskip("django.tasks", reason="django.tasks comes with Django 6.0")
DEFERRING = {"default": {"BACKEND": "tests.deferring.DeferringBackend", "QUEUES": ["default", "slow"]}}

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("lock_alias")]


@tasks.task
@lock_task(by=["country"], retry_in=30)
def report(country: str, year: int = 2026) -> str:
    return f"{country} {year}"


@tasks.task(takes_context=True)
@lock_task(retry_in=30)
def with_context(context: Any, country: str) -> str:
    return f"{country} {context.attempt}"


@tasks.task
@lock_task(when_busy="skip")
def skipping() -> str:
    return "ran"


@tasks.task
@lock_task(Account)
def withdraw(account_id: int, account: Account) -> str:
    account.balance -= 10
    account.save()
    return account.name


@tasks.task
@lock_task(Account)
async def withdraw_async(account_id: int, account: Account) -> str:
    account.balance -= 10
    await account.asave()
    return account.name


@pytest.fixture
def deferring(settings: Any) -> Any:
    settings.TASKS = DEFERRING
    backend = tasks.default_task_backend
    backend.kept.clear()
    return backend


KEY = f"task:{__name__}.report?country=no"


def test_a_task_runs_under_its_lock(deferring):
    assert report.enqueue("no", year=2027).return_value == "no 2027"


def test_busy_runs_it_later(deferring):
    with lock(KEY):
        elsewhere(lambda: report.using(queue_name="slow").enqueue("no", year=2027))
        run_after, again = elsewhere(deferring.run_next)
    assert timedelta(seconds=25) < run_after - timezone.now() <= timedelta(seconds=30)
    assert again.return_value is None
    assert deferring.run_next()[1].return_value == "no 2027"
    assert not deferring.kept


def test_busy_runs_it_later_where_it_was_enqueued(deferring):
    digest = hashlib.sha256(b'{"country": "no"}').hexdigest()[:16]
    with lock(f"task:{__name__}.with_context#{digest}"):
        elsewhere(lambda: with_context.using(queue_name="slow").enqueue("no"))
    assert [task.queue_name for task, _, _ in deferring.kept] == ["slow"]
    assert deferring.run_next()[1].return_value == "no 1"


def test_a_backend_that_cannot_run_it_later_says_so(settings):
    settings.TASKS = {"default": {"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"}}
    with lock(KEY):
        result = elsewhere(lambda: report.enqueue("no"))
    assert result.status == tasks.TaskResultStatus.FAILED
    assert "LockBusy" in result.errors[0].exception_class_path
    assert "the backend 'default' of django.tasks cannot run a task later" in result.errors[0].traceback


def test_it_is_skipped_where_that_is_told(deferring):
    with lock(f"task:{__name__}.skipping"):
        assert elsewhere(skipping.enqueue).return_value is None
    assert skipping.enqueue().return_value == "ran"


@pytest.mark.parametrize("task", [withdraw, withdraw_async], ids=["sync", "async"])
def test_a_row_is_passed_in(deferring, task):
    account = Account.objects.create(name="rent", balance=100)
    assert task.enqueue(account.pk).return_value == "rent"
    assert Account.objects.get().balance == 90
