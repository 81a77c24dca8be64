"""`redislock list`: what is held."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any

from django.core.management.base import CommandError

from ..naming import label_of
from ..overview import Overview, look
from ..stores.listing import Listed
from .console import Console
from .words import describe, spell_seconds, table

SORTS: dict[str, Callable[[Listed], Any]] = {
    "key": attrgetter("name"),
    "since": attrgetter("acquired"),
    "remaining": attrgetter("expires"),
    "waiters": lambda lock: -lock.waiters,
}
HEAD = ("KEY", "HELD FOR", "ENDS IN", "WAITERS", "FENCE", "ALIAS", "HOLDER")


def add_arguments(parser: ArgumentParser) -> None:
    """Which locks are shown, and how."""
    parser.add_argument("text", nargs="?", default="", help="Only locks with this in their key or holder.")
    parser.add_argument("--model", help="Only rows of this model, such as bank.Account.")
    parser.add_argument("--host", help="Only holders on this host.")
    parser.add_argument("--alias", help="Only this alias of REDISLOCK. Default: all.")
    parser.add_argument("--sort", choices=SORTS, default="since", help="Default: the oldest first.")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="Default: %(default)s.")


def run(console: Console, options: dict[str, Any]) -> None:
    """Print what is held now. Raises `CommandError` when nothing could be asked."""
    overview = look([options["alias"]] if options["alias"] else None)
    found = choose(overview, options)
    if options["format"] == "json":
        console.say(json.dumps([describe(lock) for lock in found], indent=2))
    else:
        show(console, found)
    tell_faults(console, overview)


def choose(overview: Overview, options: dict[str, Any]) -> list[Listed]:
    """Those that the filters leave, in order."""
    wanted = [found for found in overview.locks if fits(found, options)]
    return sorted(wanted, key=SORTS[options["sort"]])


def fits(lock: Listed, options: dict[str, Any]) -> bool:
    """Whether no filter is against it."""
    text, model, host = options["text"].lower(), options["model"], options["host"]
    return (
        (not text or text in lock.name.lower() or text in str(lock.holder).lower())
        and (not model or label_of(lock.name).lower() == model.lower())
        and (not host or lock.holder.host == host)
    )


def show(console: Console, found: Iterable[Listed]) -> None:
    """The table, with what waits or ends soon in colours."""
    rows = [
        (
            lock.name,
            spell_seconds(lock.held_for),
            spell_seconds(lock.remaining),
            str(lock.waiters),
            str(lock.fence),
            lock.alias,
            str(lock.holder),
        )
        for lock in found
    ]
    if not rows:
        console.say("No lock is held.")
        return
    head, *lines = table(HEAD, rows)
    console.say(head, console.style.MIGRATE_HEADING)
    for line, row in zip(lines, rows, strict=True):
        console.say(line, console.style.WARNING if row[3] != "0" else None)


def tell_faults(console: Console, overview: Overview) -> None:
    """Say what could not be asked; raises `CommandError`, so that nobody takes the list for complete."""
    if overview.faults:
        raise CommandError("\n".join(f"{alias}: {fault}" for alias, fault in overview.faults.items()))
