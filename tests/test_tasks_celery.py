"""`@lock_task` in a real worker of Celery, with broker and locks on the real Redis."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from django_redislock import lock
from tests.flows import client_of, elsewhere, until
from tests.testapp.models import Account

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("real_redis")]

WORKER = [sys.executable, "-m", "celery", "-A", "tests.celery_app", "worker", "--pool", "threads", "-c", "3"]
QUIET = ["-l", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]


@pytest.fixture
def tasks(real_redis: str) -> Any:
    """The tasks; a worker runs while the test does."""
    from tests import celery_app  # noqa: PLC0415  # it has a look at the environment

    return celery_app


@pytest.fixture
def worker(tasks: Any) -> Iterator[subprocess.Popen[bytes]]:
    # Celery's worker looks at every database that it finds in the settings, and the suite made only some of them.
    environment = {name: os.environ[name] for name in os.environ.keys() - {"TEST_POSTGRES_URL", "TEST_MARIADB_URL"}}
    with subprocess.Popen([*WORKER, *QUIET], env=environment) as process:
        yield process
        process.kill()


def notes() -> list[str]:
    return [line.decode() for line in client_of("real").lrange("celery-notes", 0, -1)]


def go_on(name: str) -> None:
    client_of("real").rpush(f"go-on-{name}", "")


def test_a_worker_honours_the_locks(tasks, worker):
    one, other, elsewhere_named = tasks.report.delay("a", "1"), tasks.report.delay("a", "2"), tasks.report.delay("b")
    until(lambda: {"begin a", "begin b"} <= set(notes()))
    assert notes().count("begin a") == 1
    until(lambda: "RETRY" in {one.state, other.state})
    for name in "aab":
        go_on(name)
    assert {one.get(timeout=20), other.get(timeout=20)} == {"a 1", "a 2"}
    assert elsewhere_named.get(timeout=20) == "b"
    assert [line for line in notes() if line.endswith("a")] == ["begin a", "end a"] * 2

    with lock("task:tests.celery_app.skipping"), lock("task:tests.celery_app.failing"):
        assert tasks.skipping.delay().get(timeout=20) is None
        with pytest.raises(Exception, match="is held by"):
            tasks.failing.delay().get(timeout=20)
    assert tasks.skipping.delay().get(timeout=20) == "ran"

    with lock("task:tests.celery_app.tried_twice"), pytest.raises(Exception, match="is held by"):
        tasks.tried_twice.delay().get(timeout=20)

    account = Account.objects.create(name="rent", balance=100)
    results = [tasks.withdraw.delay(account.pk, 10) for _ in range(5)]
    for result in results:
        result.get(timeout=20)
    assert Account.objects.get().balance == 50


def test_a_task_names_itself_as_the_holder(tasks, worker):
    result = tasks.report.delay("c")
    until(lambda: "begin c" in notes())
    info = lock("task:tests.celery_app.report?name=c").info()
    assert info is not None
    assert info.holder.doing == f"task tests.celery_app.report {result.id}"
    go_on("c")
    result.get(timeout=20)


def test_called_as_such_in_no_worker_busy_is_told(tasks):
    with lock("task:tests.celery_app.tried_twice"), pytest.raises(Exception, match="is held by"):
        elsewhere(tasks.tried_twice)
