"""The demo, run as a user runs it: small files, real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.management.base import CommandError
from django.db import connections
from rich.console import Console

from testproject.bank.demo.ledger import audit
from testproject.bank.demo.messages import Task, Terms
from testproject.bank.demo.modes import MODES
from testproject.bank.demo.orders import Skipped
from testproject.bank.demo.pool import Pool, WorkerFailed
from testproject.bank.demo.report import Report
from testproject.bank.demo.runs import Run, moments
from testproject.bank.management.commands.demo import judge
from testproject.bank.models import Account, Transfer
from testproject.bank.transfers import Order
from testproject.redis.servers import reachable
from tests.conftest import DB_ALIASES
from tests.faults import ODDS, Proxy, Weather, proxy_to
from tests.flows import until
from tests.servers import Redis

pytestmark = pytest.mark.long

MANAGE = Path(__file__).parent.parent / "testproject" / "manage.py"
ORDERS = 240
FEW = 60


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Everybody pays the shop; every tenth order is sent again, one line is no order."""
    return files_in(tmp_path, orders=ORDERS)


@pytest.fixture
def few(tmp_path: Path) -> list[str]:
    """The same with fewer orders."""
    return files_in(tmp_path, orders=FEW)


def files_in(tmp_path: Path, *, orders: int) -> list[str]:
    """The files, and the arguments that name them."""
    (tmp_path / "accounts.csv").write_text("number,owner,opening\nS,Shop,0\nA,Home,500\nB,Home,500\nC,Home,20\n")
    lines = [f"{n - n % 10 // 9},{'ABC'[n % 3]},S,{1 + n % 7}.00,purchase" for n in range(orders)]
    (tmp_path / "orders.csv").write_text("\n".join(["key,source,target,amount,purpose", "a fault", *lines]))
    return ["--file", str(tmp_path / "orders.csv"), "--accounts", str(tmp_path / "accounts.csv")]


@pytest.fixture
def environ(real_redis: str, settings: Any) -> dict[str, str]:
    """What the demo is to use: the test's Redis and, once a test names it, its database."""
    return {
        **os.environ,
        "REDIS_URL": settings.CACHES[real_redis]["LOCATION"],
        "DJANGO_SETTINGS_MODULE": "testproject.settings",
    }


def url_of(alias: str) -> str:
    """The URL of the test database."""
    name = connections[alias].settings_dict["NAME"]
    variable = DB_ALIASES[alias]
    if variable is None:
        return f"sqlite:///{name}"
    return urlsplit(os.environ[variable])._replace(path=f"/{name}").geturl()


def demo(*arguments: str, environ: dict[str, str]) -> tuple[int, str, str]:
    """Exit code, output and errors of `manage.py demo`."""
    command = [sys.executable, str(MANAGE), "demo", *arguments]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=55)
    return ended.returncode, ended.stdout, ended.stderr


def row(output: str, label: str) -> list[str]:
    """The figures that the table has in this row."""
    (line,) = [line for line in output.splitlines() if line.startswith(f"│ {label} ")]
    return [cell.strip() for cell in line.split("│")[2:-1]]


@pytest.mark.django_db(transaction=True)
def test_money_is_lost_but_where_the_rows_are_protected(files, environ, db_alias):
    code, output, errors = demo(*files, "--workers", "4", environ=environ | {"DATABASE_URL": url_of(db_alias)})
    protected = ["right"] * (1 + connections[db_alias].features.has_select_for_update)
    assert (code, errors) == (0, "")
    assert "line 2 skipped: 1 columns instead of 5" in output
    lost, *kept = map(int, row(output, "updates lost"))
    assert lost > 0
    assert kept == [0] * len(protected)
    assert row(output, "balances") == ["WRONG", *protected]
    assert row(output, "duplicates, booked once") == ["24"] * (1 + len(protected))
    assert ("select_for_update: left out" in output) == (len(protected) == 1)


@pytest.mark.django_db(transaction=True)
def test_workers_that_are_killed_lose_nothing(files, environ, db_alias):
    arguments = [*files, "--workers", "3", "--chaos", "--modes", "locked"]
    code, output, _ = demo(*arguments, environ=environ | {"DATABASE_URL": url_of(db_alias)})
    assert code == 0
    assert row(output, "workers killed") == ["3"]
    assert row(output, "balances") == ["right"]
    assert Transfer.objects.using(db_alias).count() == ORDERS - 24
    assert sum(account.balance for account in Account.objects.using(db_alias)) == 1020


servers = pytest.mark.parametrize("db_alias", ["postgres", "mariadb"], indirect=True)


def through(proxy: Proxy, environ: dict[str, str]) -> dict[str, str]:
    """Locks are asked for through it, by clients that are in a hurry."""
    url = f"redis://{proxy.address}/0?socket_timeout=0.3&socket_connect_timeout=0.3"
    return environ | {"REDIS_URL": url}


@pytest.mark.django_db(transaction=True)
@servers
def test_faults_on_the_way_to_redis_lose_nothing(few, environ, db_alias):
    arguments = [*few, "--workers", "4", "--modes", "locked", "--ttl", "1"]
    with proxy_to(environ["REDIS_URL"]) as proxy:
        proxy.weather = Weather(ODDS)
        code, output, _ = demo(*arguments, environ=through(proxy, environ) | {"DATABASE_URL": url_of(db_alias)})
    assert code == 0
    assert proxy.weather.faults > 10
    assert int(row(output, "attempts repeated")[0]) > 0
    assert row(output, "balances") == ["right"]


class Keeping(Redis):
    """A server that keeps what it was told, through any crash."""

    def command(self) -> list[str]:
        """The server's command line."""
        return [*super().command(), "--appendonly", "yes", "--appendfsync", "always"]


@pytest.mark.django_db(transaction=True)
@servers
def test_a_server_that_crashes_and_keeps_its_data_loses_nothing(few, environ, db_alias, tmp_path):
    server = Keeping(tmp_path / "redis")
    with ExitStack() as stack:
        environ |= {"REDIS_URL": server.start(), "DATABASE_URL": url_of(db_alias)}
        stack.callback(server.kill)
        proxy = stack.enter_context(proxy_to(server.url))
        running = stack.enter_context(
            started(*few, "--workers", "4", "--modes", "locked", "--ttl", "1", environ=through(proxy, environ))
        )
        until(lambda: len(proxy.seen) > FEW)
        server.kill()
        server.start_again()
        output, _ = running.communicate(timeout=55)
    assert running.returncode == 0
    assert int(row(output, "attempts repeated")[0]) > 0
    assert row(output, "balances") == ["right"]


def started(*arguments: str, environ: dict[str, str]) -> subprocess.Popen[str]:
    """`manage.py demo`, which is running."""
    command = [sys.executable, str(MANAGE), "demo", *arguments]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def fresh(environ: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """A database that does not exist yet."""
    return environ | {"DATABASE_URL": f"sqlite:///{tmp_path}/fresh.sqlite3"}


def test_it_makes_the_tables_itself(files, fresh):
    code, output, _ = demo(*files, "--workers", "1", "--modes", "locked", environ=fresh)
    assert code == 0
    assert output.splitlines()[0].startswith("Redis: the server of REDIS_URL, ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--file", "no.csv"], "no.csv: No such file or directory."),
        (["--file", __file__], "the first line has to be key,source,target,amount,purpose"),
        (["--workers", "0"], "--workers has to be 1 or more."),
        (["--modes", "hope"], "invalid choice: 'hope'"),
    ],
)
def test_what_it_cannot_use_is_told_without_a_traceback(fresh, arguments, complaint):
    code, _, errors = demo(*arguments, environ=fresh)
    assert code != 0
    assert complaint in errors
    assert "Traceback" not in errors


def test_a_file_without_an_order_is_refused(fresh, tmp_path):
    (tmp_path / "none.csv").write_text("key,source,target,amount,purpose\nfault\n")
    _, _, errors = demo("--file", str(tmp_path / "none.csv"), environ=fresh)
    assert "none.csv has no order that can be carried out." in errors


def test_a_database_in_memory_is_refused(environ):
    _, _, errors = demo(environ=environ | {"DATABASE_URL": "sqlite://:memory:"})
    assert "needs a database that several processes see" in errors


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_its_workers_and_its_redis(fresh, number, code):
    del fresh["REDIS_URL"]
    command = [sys.executable, "-u", str(MANAGE), "demo"]
    with subprocess.Popen(
        command, env=fresh, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        while not process.stdout.readline().startswith("Database: "):
            assert process.poll() is None
        os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in errors
    assert reachable(f"redis://{address}/0") == "ConnectionError"


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool(1) as pool:
        pool.wait_until_ready()
        yield pool


def task(mode: str) -> Task:
    order = Order(key="k", source=1, target=2, amount=Decimal(1))
    return Task(order=order, mode=mode, terms=Terms(wait=1, ttl=1))


def test_an_unexpected_error_in_a_worker_ends_the_run_and_is_told(pool):
    with pytest.raises(WorkerFailed, match="KeyError: 'hope'"):
        list(pool.run([task("hope")]))


def test_a_worker_that_ends_by_itself_ends_the_run(pool):
    for worker in pool._workers:
        worker.process.kill()
    with pytest.raises(WorkerFailed, match="A worker ended by itself, with exit code -9"):
        list(pool.run([task("locked")]))


@pytest.mark.parametrize(("orders", "kills", "expected"), [(100, 8, 8), (3, 8, 2), (1, 0, 0)])
def test_workers_are_killed_in_the_middle(orders, kills, expected):
    found = moments(orders, kills)
    assert len(found) == expected
    assert all(orders // 10 < count < orders for count in found)


@pytest.fixture
def wrong() -> Run:
    """One order that was never decided."""
    return Run(
        mode=MODES["locked"],
        audit=audit(opening={}, ledger=[], standings={}, ordered={"k"}),
        orders=1,
        seconds=1,
        duplicates=0,
        retries=0,
        killed=0,
        waits=(0.001, 0.002),
    )


@pytest.fixture
def output() -> StringIO:
    return StringIO()


@pytest.fixture
def report(output: StringIO) -> Report:
    return Report(Console(file=output, width=80))


def test_a_protected_run_with_wrong_balances_is_a_failure(report, wrong):
    with pytest.raises(CommandError, match="The balances are wrong after: locked"):
        judge(report, [wrong])


def test_an_unprotected_run_with_wrong_balances_is_none(report, output, wrong):
    judge(report, [replace(wrong, mode=MODES["unprotected"])])
    assert output.getvalue() == "Every balance is right where the rows were protected.\n"


def test_the_table_shows_what_is_wrong(report, output, wrong):
    report.table([wrong])
    assert row(output.getvalue(), "balances") == ["WRONG"]
    assert row(output.getvalue(), "wait for the rows, p50 ms") == ["1.5"]


def test_many_skipped_lines_are_not_all_shown(report, output):
    report.skipped([Skipped(line=n, reason="[no order]") for n in range(25)])
    assert output.getvalue().splitlines()[-2:] == ["  line 19 skipped: [no order]", "  and 5 more lines skipped"]
