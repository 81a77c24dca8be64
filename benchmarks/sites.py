"""The bank behind a real web server with several workers, on a database of its own, to be put under load."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg

ACCOUNTS = 6
OPENING = 1000
READY_WITHIN = 60.0

SERVERS = {
    "gunicorn": ["gunicorn", "testproject.wsgi:application", "--workers=3", "--bind=127.0.0.1:{port}"],
    "uvicorn": ["uvicorn", "testproject.asgi:application", "--workers=2", "--lifespan=off", "--port={port}"],
}

OPEN = f"""
from testproject.bank.models import Account
rows = [Account(number=str(number), owner="Load", balance={OPENING}) for number in range({ACCOUNTS})]
print([account.pk for account in Account.objects.bulk_create(rows)])
"""
AUDIT = f"""
from collections import Counter
from decimal import Decimal
from testproject.bank.models import Account, Transfer
# Added up here: SQLite has no decimals, and its sums of thousands of amounts are off by a little.
money, times = Counter(), Counter()
for transfer in Transfer.objects.filter(status="booked"):
    money[transfer.target_id] += transfer.amount
    money[transfer.source_id] -= transfer.amount
    times.update([transfer.target_id, transfer.source_id])
accounts = list(Account.objects.all())
wrong = [
    account for account in accounts
    if (account.balance, account.movements) != ({OPENING} + money[account.pk], times[account.pk])
]
cents = sum((account.balance for account in accounts), Decimal(0)) * 100
print(int(cents), Transfer.objects.filter(status="booked").count(), len(wrong))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What the accounts look like afterwards."""

    total: int
    """Money on all accounts, in cents."""
    booked: int
    """Transfers that were made."""
    wrong: int
    """Accounts whose balance, or number of movements, is not what their transfers make it."""

    opening: int = ACCOUNTS * OPENING * 100
    """Money on all accounts at the beginning, in cents."""

    @property
    def right(self) -> bool:
        """Whether nothing was lost and nothing made."""
        return self.total == self.opening and not self.wrong


class Site:
    """The bank, being served."""

    def __init__(self, server: str, environment: dict[str, str], *, accounts: list[int] | None = None) -> None:
        self._environment = environment
        self.accounts: list[int] = json.loads(self.run(OPEN)) if accounts is None else accounts
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        arguments = [part.format(port=self.port) for part in SERVERS[server]]
        command = [sys.executable, "-m", *arguments, "--log-level=error"]
        self._process = subprocess.Popen(command, env=environment)

    def run(self, script: str) -> str:
        """What a script prints that runs in the bank's project."""
        whole = f"import django; django.setup()\n{script}"
        command = [sys.executable, "-c", whole]
        return subprocess.run(command, env=self._environment, check=True, capture_output=True, text=True).stdout

    def wait(self) -> None:
        """Wait until it answers. Raises `TimeoutError`."""
        end = time.monotonic() + READY_WITHIN
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > end or self._process.poll() is not None:
                    raise TimeoutError("The server does not answer.") from None
                time.sleep(0.05)

    def workers(self) -> list[int]:
        """The processes that answer requests."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
        return [pid for pid, command in commands.items() if b"resource_tracker" not in command]

    def kill_a_worker(self) -> None:
        """As the kernel does when memory runs out."""
        os.kill(self.workers()[0], signal.SIGKILL)

    def audit(self) -> Audit:
        """Compare the accounts with their transfers."""
        total, booked, wrong = map(int, self.run(AUDIT).split())
        return Audit(total=total, booked=booked, wrong=wrong)

    def stop(self) -> None:
        """Stop serving."""
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def site(server: str, *, database: str, redis: str, beside: Site | None = None) -> Iterator[Site]:
    """The bank on a server of `SERVERS`, with an empty database at that URL and its locks on that Redis.

    `beside` another one it has the accounts of that, in the same database.
    """
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "testproject.settings",
        "DATABASE_URL": database,
        "REDIS_URL": redis,
        "DEBUG": "0",
        "ALLOWED_HOSTS": "127.0.0.1",
    }
    migrate = [sys.executable, "-m", "testproject.manage", "migrate", "--verbosity=0"]
    subprocess.run(migrate, env=environment, check=True)
    served = Site(server, environment, accounts=None if beside is None else beside.accounts)
    try:
        served.wait()
        yield served
    finally:
        served.stop()


@contextmanager
def postgres_database(url: str) -> Iterator[str]:
    """A database of its own on the server of that URL."""
    name = f"redislock_load_{os.getpid()}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name}")
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def put_under_load(
    served: Site, *, visitors: int, seconds: float, kill: bool = False, view: str = "move"
) -> dict[str, Any]:
    """What locust counts; `kill` takes a worker away in the middle. `view` moves the money, `amove` likewise."""
    arguments: Sequence[str] = ("--headless", "--only-summary", f"--users={visitors}", f"--spawn-rate={visitors}")
    command = [sys.executable, "-m", "locust", "-f", "benchmarks/load_user.py", *arguments]
    command += [f"--run-time={seconds:g}s", "--stop-timeout=30", f"--host=http://127.0.0.1:{served.port}"]
    environment = os.environ | {"LOAD_ACCOUNTS": json.dumps(served.accounts), "LOAD_VIEW": view}
    root = Path(__file__).parent.parent
    with subprocess.Popen(
        command, env=environment, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        if kill:
            time.sleep(seconds / 2)
            served.kill_a_worker()
        printed, _ = process.communicate()
    lines = [line for line in printed.splitlines() if line.startswith('{"statuses"')]
    figures: dict[str, Any] = json.loads(lines[0])
    figures["statuses"] = {int(status): count for status, count in figures["statuses"].items()}
    return figures
