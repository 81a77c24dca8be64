"""`python -m benchmarks COMMAND`: each command is the module of that name, with `run(arguments) -> Report`."""

from __future__ import annotations

import argparse
import os
from importlib import import_module
from pathlib import Path

import django

from tests.servers import MariaDB, PostgreSQL, Redis, running


class RoomyPostgreSQL(PostgreSQL):
    """One that takes a connection for each of a hundred waiters."""

    def command(self) -> list[str]:
        """The server's command line."""
        return [*super().command(), "-c", "max_connections=200"]


def main() -> None:
    """Start the servers, measure, report."""
    arguments = parser().parse_args()
    with running(arguments.servers) as servers:
        if Redis.name in servers.missing:
            raise SystemExit(f"No Redis: {servers.missing[Redis.name]}")
        os.environ |= servers.urls
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
        django.setup()
        # Not before: the module imports models.
        report = import_module(f"benchmarks.{arguments.command}").run(arguments)
    report.notes.extend(f"Without {name}: {why}." for name, why in servers.missing.items())
    report.show()
    if arguments.json:
        report.save(arguments.json)


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    whole = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = whole.add_subparsers(dest="command", required=True)

    pair = commands.add_parser("pair", help="acquire and release, uncontended, beside the alternatives")
    pair.set_defaults(servers=(Redis, PostgreSQL))
    pair.add_argument("--rounds", type=positive, default=200, help="blocks in which all take a turn (200)")

    memory = commands.add_parser("memory", help="client and server memory per held lock")
    memory.set_defaults(servers=(Redis,))
    memory.add_argument("--locks", type=positive, default=10_000, help="how many are held at once (10000)")

    contended = commands.add_parser("contended", help="many want one lock, and each comes back at once")
    contended.set_defaults(servers=(Redis, RoomyPostgreSQL))
    contended.add_argument("--rounds", type=positive, default=3, help="windows for each line of the table (3)")
    contended.add_argument("--quick", action="store_true", help="two contenders, one round: to see that it runs")

    idle = commands.add_parser("idle", help="many wait for a lock that is held for long")
    idle.set_defaults(servers=(Redis, RoomyPostgreSQL))
    idle.add_argument("--waiters", type=positive, default=100, help="how many wait (100)")
    idle.add_argument("--rounds", type=positive, default=3, help="how often (3)")
    idle.add_argument("--quick", action="store_true", help="ten waiters, one short round: to see that it runs")

    pages = commands.add_parser("pages", help="the admin page of held locks, beside an ordinary changelist")
    pages.set_defaults(servers=(Redis,))
    pages.add_argument("--locks", type=positive, default=10_000, help="how many are held (10000)")
    pages.add_argument("--others", type=positive, default=1_000_000, help="how many other keys there are (1000000)")

    many = commands.add_parser("many", help="several locks at once, uncontended")
    many.set_defaults(servers=(Redis,))
    many.add_argument("--quick", action="store_true", help="ten names, two blocks: to see that it runs")

    tasks = commands.add_parser("tasks", help="locks of tasks on one event loop")
    tasks.set_defaults(servers=(Redis,))
    tasks.add_argument("--waiters", type=positive, default=10_000, help="how many wait (10000)")
    tasks.add_argument("--quick", action="store_true", help="a few tasks, two blocks: to see that it runs")

    quorum = commands.add_parser("quorum", help="a lock by three and by five servers, uncontended")
    quorum.set_defaults(servers=(Redis,))
    quorum.add_argument("--quick", action="store_true", help="two blocks: to see that it runs")

    cluster = commands.add_parser("cluster", help="a lock in a cluster, uncontended, beside redis-py's own pair")
    cluster.set_defaults(servers=(Redis,))
    cluster.add_argument("--quick", action="store_true", help="two blocks: to see that it runs")

    faults = commands.add_parser("faults", help="the bank while the connections to Redis fail at random")
    faults.set_defaults(servers=(Redis, PostgreSQL, MariaDB))
    faults.add_argument("--file", type=Path, help="CSV file of transfer orders (those of the demo)")
    faults.add_argument("--workers", type=positive, default=8, help="how many processes (8)")
    faults.add_argument("--seed", type=int, default=0, help="of the weather (0)")

    load = commands.add_parser("load", help="the bank behind gunicorn and uvicorn, under a real HTTP load")
    load.set_defaults(servers=(Redis, RoomyPostgreSQL))
    load.add_argument("--visitors", type=positive, default=32, help="how many come back at once (32)")
    load.add_argument("--seconds", type=positive, default=20, help="for how long, each time (20)")

    edges = commands.add_parser("edges", help="the decorator beside `with locked()`, uncontended")
    edges.set_defaults(servers=(Redis, PostgreSQL))
    edges.add_argument("--rounds", type=positive, default=200, help="blocks in which both take a turn (200)")

    renew = commands.add_parser("renew", help="a thousand locks held for much longer than their ttl")
    renew.set_defaults(servers=(Redis,))
    renew.add_argument("--seconds", type=positive, default=120, help="how long each rival holds them (120)")
    renew.add_argument("--quick", action="store_true", help="twenty locks, two seconds: to see that it runs")

    version = commands.add_parser("version", help="a save that compares the version, beside one that does not")
    version.set_defaults(servers=(Redis, PostgreSQL))
    version.add_argument("--rounds", type=positive, default=100, help="blocks in which all take a turn (100)")

    for command in commands.choices.values():
        command.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file, too")
    return whole


def positive(text: str) -> int:
    """A number that there can be of something."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("1 at least")
    return number


if __name__ == "__main__":
    main()
