"""The bank while the connections to Redis fail at random: what became of the money, on each database."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

import testproject.manage
from tests.faults import ODDS, Proxy, Weather, proxy_to

from .report import Column, Report, Row, Target

DATABASES = {
    "PostgreSQL": "TEST_POSTGRES_URL",
    "MariaDB": "TEST_MARIADB_URL",
}
PATIENCE = 0.3
"""Seconds that the clients wait for an answer."""
TTL = 2.0

SHOWN = {
    "orders per second": "rate",
    "attempts repeated": "repeated",
    "workers killed": "killed",
    "updates lost": "lost",
    "orders decided wrongly": "misjudged",
    "money that appeared": "appeared",
    "money that vanished": "vanished",
}
"""Rows of the demo's table, and the keys of our columns."""

COLUMNS = (
    Column("questions", "questions\nto Redis", ",.0f"),
    Column("faults", "faults", ",.0f"),
    Column("rate", "orders/s", ",.0f"),
    Column("repeated", "attempts\nrepeated", ",.0f"),
    Column("killed", "workers\nkilled", "g"),
    Column("lost", "updates\nlost", "g"),
    Column("misjudged", "decided\nwrongly", "g"),
    Column("appeared", "money that\nappeared", "g"),
    Column("vanished", "money that\nvanished", "g"),
)


def run(arguments: argparse.Namespace) -> Report:
    """Carry all orders out once on each database, workers being killed on the way as well."""
    rows = {}
    for name, variable in DATABASES.items():
        if variable in os.environ:
            with proxy_to(os.environ["TEST_REDIS_URL"]) as proxy:
                proxy.weather = Weather(ODDS, seed=arguments.seed)
                rows[name] = ride_out(proxy, os.environ[variable], arguments)
    targets = [
        Target(f"{name}, {key}", row[key], 0, "g")
        for name, row in rows.items()
        for key in ("lost", "misjudged", "appeared", "vanished")
    ]
    faults = ", ".join(f"{odds} % {label(fault)}" for fault, odds in ODDS.items())
    notes = [
        f"{arguments.workers} workers; as many are killed. ttl {TTL:g} s; clients wait {PATIENCE:g} s for an answer.",
        f"Of the questions: {faults}.",
    ]
    return Report(columns=COLUMNS, rows=rows, targets=targets, notes=notes)


def label(fault: object) -> str:
    """What happens, in a few words."""
    return fault.partition(b" ")[0].decode() if isinstance(fault, bytes) else getattr(fault, "name", "").lower()


def ride_out(proxy: Proxy, database_url: str, arguments: argparse.Namespace) -> Row:
    """Run the demo through the proxy, and read its table. Raises `CalledProcessError` when money was lost."""
    url = f"redis://{proxy.address}/0?socket_timeout={PATIENCE}&socket_connect_timeout={PATIENCE}"
    environ = os.environ | {
        "REDIS_URL": url,
        "DATABASE_URL": database_url,
        "DJANGO_SETTINGS_MODULE": "testproject.settings",
    }
    command = [sys.executable, testproject.manage.__file__, "demo", "--modes", "locked", "--chaos"]
    command += ["--ttl", str(TTL), "--workers", str(arguments.workers)]
    command += ["--file", str(arguments.file)] if arguments.file else []
    shown = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True).stdout
    cells = [[cell.strip() for cell in line.split("│")] for line in shown.splitlines() if line.startswith("│")]
    figures: Row = {SHOWN[cell[1]]: float(cell[2].replace(",", "")) for cell in cells if cell[1] in SHOWN}
    return {"questions": proxy.weather.counts.total(), "faults": proxy.weather.faults, **figures}
