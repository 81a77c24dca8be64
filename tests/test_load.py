"""The bank behind real web servers, under a real HTTP load: nothing is lost, and nobody gets a strange answer.

`python -m benchmarks load` does the same for longer.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.sites import postgres_database, put_under_load, site

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("real_redis"), pytest.mark.timeout(120)]

EXPECTED = {200, 302, 423, 409}
CUT_OFF = {0, 502}
"""What those see whose worker is killed: the connection ends."""


@pytest.mark.parametrize(
    ("server", "database", "kill"),
    [
        ("gunicorn", "postgres", False),
        ("gunicorn", "sqlite", True),
        ("uvicorn", "postgres", True),
        ("uvicorn", "sqlite", False),
    ],
)
def test_the_sums_are_right(server, database, kill, tmp_path: Path):
    with ExitStack() as stack:
        if database == "sqlite":
            url = f"sqlite:///{tmp_path / 'bank.sqlite3'}"
        elif "TEST_POSTGRES_URL" in os.environ:
            url = stack.enter_context(postgres_database(os.environ["TEST_POSTGRES_URL"]))
        else:
            pytest.skip("There is no PostgreSQL.")
        served = stack.enter_context(site(server, database=url, redis=os.environ["TEST_REDIS_URL"]))
        figures = put_under_load(served, visitors=8, seconds=6, kill=kill)
        audit = served.audit()
    assert audit.right, audit
    assert audit.booked >= figures["statuses"][302] > 10
    assert set(figures["statuses"]) <= EXPECTED | (CUT_OFF if kill else set()), figures


def test_tasks_and_threads_move_the_same_money(tmp_path: Path):
    """The asynchronous view on uvicorn, the other one on gunicorn, on the same accounts at the same time."""
    redis = os.environ["TEST_REDIS_URL"]
    if "TEST_POSTGRES_URL" not in os.environ:
        pytest.skip("There is no PostgreSQL.")
    with (
        postgres_database(os.environ["TEST_POSTGRES_URL"]) as url,
        site("gunicorn", database=url, redis=redis) as threads,
        site("uvicorn", database=url, redis=redis, beside=threads) as tasks,
        ThreadPoolExecutor(2) as pool,
    ):
        loads = [
            pool.submit(put_under_load, served, visitors=6, seconds=6, view=view)
            for served, view in ((threads, "move"), (tasks, "amove"))
        ]
        statuses = [load.result()["statuses"] for load in loads]
        audit = threads.audit()
    assert audit.right, audit
    assert all(one.get(302) for one in statuses), statuses
    assert audit.booked == sum(one[302] for one in statuses)
    assert set().union(*statuses) <= EXPECTED, statuses
