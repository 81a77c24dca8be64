from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn, cast

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.sqlite3.base import DatabaseWrapper as SQLite
from rich.console import Console

import testproject.bank.data
from testproject.bank.demo.messages import Terms
from testproject.bank.demo.modes import MODES, Mode
from testproject.bank.demo.orders import BadFile, read_accounts, read_orders
from testproject.bank.demo.pool import Pool, WorkerFailed
from testproject.bank.demo.report import Report
from testproject.bank.demo.runs import Plan, Run, run
from testproject.redis import NoRedisFound, serving

DATA = Path(testproject.bank.data.__file__).parent
TTL = 30.0
TTL_UNDER_CHAOS = 2.0  # what a killed worker held is free after this
WAIT = 10.0


class Command(BaseCommand):
    help = (
        "Move money between accounts with several processes at once, in several ways, and look what becomes of it. "
        "Begins by deleting all accounts and transfers of the database. Exit code 0 only when every protected run "
        "leaves every balance right."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--file", type=Path, default=DATA / "transfers.csv", help="CSV file of transfer orders.")
        parser.add_argument("--accounts", type=Path, default=DATA / "accounts.csv", help="CSV file of accounts.")
        parser.add_argument("--workers", type=int, default=8, help="How many processes. Default: %(default)s.")
        parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), help="Which ways. Default: all.")
        parser.add_argument("--ttl", type=float, help="Seconds that a lock lasts. Default: 30; 2 with --chaos.")
        parser.add_argument(
            "--chaos", action="store_true", help="Kill as many workers as there are (SIGKILL) during a protected run."
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["workers"] < 1:
            raise CommandError("--workers has to be 1 or more.")
        signal.signal(signal.SIGTERM, leave)
        report = Report(self._console())
        try:
            with serving() as server:
                os.environ["REDIS_URL"] = server.url  # for the workers, which read their settings anew
                report.say(f"Redis: {server.what}")
                runs = self._demo(report, options)
        except (BadFile, NoRedisFound, WorkerFailed) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError("Interrupted.", returncode=128 + signal.SIGINT) from None
        report.table(runs)
        judge(report, runs)

    def _console(self) -> Console:
        self.stdout.ending = ""  # rich ends its lines itself
        return Console(file=cast("IO[str]", self.stdout))

    def _demo(self, report: Report, options: dict[str, Any]) -> list[Run]:
        plan = self._plan(report, options)
        modes = self._modes(report, options["modes"])
        runs = []
        with Pool(options["workers"]) as pool:
            for mode in modes:
                with report.progress(mode.name, len(plan.lines)) as progress:
                    runs.append(run(plan, mode, pool=pool, progress=progress))
                report.finished(runs[-1])
        return runs

    def _plan(self, report: Report, options: dict[str, Any]) -> Plan:
        accounts = read_accounts(options["accounts"])
        batch = read_orders(options["file"], accounts={account.number for account in accounts})
        report.say(f"{options['file'].name}: {len(batch.orders)} orders, {len(batch.skipped)} lines skipped")
        report.skipped(batch.skipped)
        if not batch.orders:
            raise BadFile(f"{options['file'].name} has no order that can be carried out.")
        chaos = options["chaos"]
        return Plan(
            accounts=accounts,
            lines=batch.orders,
            terms=Terms(wait=WAIT, ttl=options["ttl"] or (TTL_UNDER_CHAOS if chaos else TTL)),
            kills=options["workers"] if chaos else 0,
        )

    def _modes(self, report: Report, names: Sequence[str]) -> list[Mode]:
        connection = connections[DEFAULT_DB_ALIAS]
        if isinstance(connection, SQLite) and connection.is_in_memory_db():
            raise CommandError("The demo needs a database that several processes see, not one in memory.")
        call_command("migrate", verbosity=0)
        report.say(f"Database: {connection.display_name} {'.'.join(map(str, connection.get_database_version()))}")
        for name in names:
            if not MODES[name].available():
                report.say(f"{name}: left out, {connection.display_name} has no such thing")
        return [MODES[name] for name in names if MODES[name].available()]


def judge(report: Report, runs: Sequence[Run]) -> None:
    """Say what to think of the table. Raises `CommandError` when a protected run lost money."""
    wrong = [run.mode.name for run in runs if run.mode.protected and not run.audit.right]
    if wrong:
        raise CommandError(f"The balances are wrong after: {', '.join(wrong)}.")
    report.say("Every balance is right where the rows were protected.")


def leave(number: int, _frame: FrameType | None) -> NoReturn:
    """Leave by way of all `finally` blocks, which the default for SIGTERM skips."""
    sys.exit(128 + number)
