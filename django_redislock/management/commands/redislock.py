"""`manage.py redislock`: see what is locked, free it, run a program under a lock, examine the servers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...cli import doctor, listing, releasing, running, show, watching
from ...cli.console import Console
from ...exceptions import RedisLockError

WORDS = {
    "list": (listing, "List the locks that are held."),
    "show": (show, "Tell all that is known about one lock, and who waits for whom."),
    "release": (releasing, "Take a lock away from whoever holds it."),
    "run": (running, "Hold a lock while a program runs, like flock(1)."),
    "watch": (watching, "List the locks again and again."),
    "doctor": (doctor, "Examine the servers that keep the locks. Exit code 1: warnings, 2: errors."),
}


class WordParser(CommandParser):
    """Leaves alone what stands behind `--`: it is the program of `run`, with options of its own."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, for what stands before."""
        before, dashes, program = partition(args or [])
        namespace, unknown = super().parse_known_args(before, namespace)
        if dashes:
            namespace.program = program
        return namespace, unknown


def partition(words: Sequence[str]) -> tuple[list[str], bool, list[str]]:
    """What stands before `--`, whether that is there, and what stands behind it."""
    words = list(words)
    if "--" not in words:
        return words, False, []
    place = words.index("--")
    return words[:place], True, words[place + 1 :]


class Command(BaseCommand):
    """Delegates each word to its module."""

    help = "See and free the locks that are held, run a program under one, examine the servers that keep them."
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's own type; in an incident the locks come first

    def add_arguments(self, parser: CommandParser) -> None:
        """One subcommand for each word."""
        words = parser.add_subparsers(
            dest="word", required=True, metavar="{" + ",".join(WORDS) + "}", parser_class=WordParser
        )
        for word, (module, purpose) in WORDS.items():
            own = words.add_parser(word, help=purpose, description=purpose)
            module.add_arguments(own)
            for option in ("--no-color", "--force-color", "--traceback"):  # after the word as well as before it
                own.add_argument(option, action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
            for option in ("--settings", "--pythonpath"):
                own.add_argument(option, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
            own.add_argument("-v", "--verbosity", type=int, default=argparse.SUPPRESS, help=argparse.SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it; what cannot be done is said in a sentence."""
        console = Console(self.stdout, self.style, force_color=bool(options["force_color"]))
        try:
            WORDS[options["word"]][0].run(console, options)
        except RedisLockError as error:
            raise CommandError(str(error)) from error
