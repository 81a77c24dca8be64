"""The bank behind real web servers, under a real HTTP load: nothing is lost, and nobody gets a strange answer.

`python -m benchmarks load` does the same for longer.
"""

from __future__ import annotations

import os
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
