"""`python -m benchmarks COMMAND`: each command is the module of that name, with `run(arguments) -> Report`."""

from __future__ import annotations

import argparse
import os
from importlib import import_module
from pathlib import Path

import django

from tests.servers import PostgreSQL, Redis, running


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
