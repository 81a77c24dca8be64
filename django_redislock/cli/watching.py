"""`redislock watch`: the list, again and again."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime
from itertools import count
from typing import Any

from django.core.management.base import CommandError

from .. import clock
from . import listing
from .console import Console


def add_arguments(parser: ArgumentParser) -> None:
    """What `list` takes, and how often."""
    listing.add_arguments(parser)
    parser.add_argument("--interval", type=float, default=2.0, help="Seconds between two looks. Default: %(default)s.")
    parser.add_argument("--count", type=int, help="End after so many looks. Default: at Ctrl-C.")


def run(console: Console, options: dict[str, Any]) -> None:
    """Show it until Ctrl-C. A server that is away is told, and asked again."""
    if options["interval"] <= 0:
        raise CommandError("--interval is a number of seconds above 0.")
    try:
        for number in range(options["count"]) if options["count"] is not None else count():
            if number:
                clock.sleep(options["interval"])
            look(console, options)
    except KeyboardInterrupt:
        console.say("")


def look(console: Console, options: dict[str, Any]) -> None:
    """One screen."""
    console.clear()
    if options["format"] == "table":
        console.say(f"{datetime.now().astimezone():%H:%M:%S}, every {options['interval']:g} s. Ctrl-C ends.")
    try:
        listing.run(console, options)
    except CommandError as error:
        console.say(str(error), console.style.ERROR)
