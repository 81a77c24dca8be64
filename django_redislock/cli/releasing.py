"""`redislock release KEY`: take a lock away from whoever holds it."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from ..forcing import force_release
from ..handler import DEFAULT_ALIAS
from ..overview import infos
from ..stores.listing import Listed
from .console import Console
from .names import find
from .words import plain, spell_seconds


def add_arguments(parser: ArgumentParser) -> None:
    """Which lock, and whether to ask."""
    parser.add_argument("key", help="A name, or a row such as bank.Account:42.")
    parser.add_argument("--alias", default=DEFAULT_ALIAS, help="Alias of REDISLOCK. Default: %(default)s.")
    parser.add_argument("--no-input", "--noinput", action="store_false", dest="interactive", help="Do not ask.")


def run(console: Console, options: dict[str, Any]) -> None:
    """Ask, do it, and say what was done. Raises `CommandError` when it is not done."""
    alias = options["alias"]
    lock, _everything = find(options["key"], alias=alias)
    held = f"{plain(lock.name)}, held by {plain(str(lock.holder))} for {spell_seconds(lock.held_for)}"
    if options["interactive"]:
        ask(console, held, lock)
    forced = force_release(lock.name, alias=alias, fence=lock.fence)
    if forced is None:
        raise CommandError(f"Nothing was done: {held}, was given back meanwhile.")
    console.say(f"Released {held}.", console.style.SUCCESS)
    (now,) = infos([lock.name], alias=alias)
    console.say("Nobody waited for it." if now is None else f"It is held by {plain(str(now.holder))} now.")


def ask(console: Console, held: str, lock: Listed) -> None:
    """Say what will happen; raises `CommandError` unless the answer is yes."""
    console.say(f"{held}.\nIts lease will be lost: what it does under the lock is rolled back or refused.")
    console.say(
        f"{lock.waiters} wait for it; the first of them will get it." if lock.waiters else "Nobody waits for it."
    )
    try:
        answer = input("Release it? [y/N] ")
    except EOFError:
        raise CommandError("Nobody answered: pass --no-input where nobody can.") from None
    if answer.strip().lower() not in {"y", "yes"}:
        raise CommandError("Nothing was done.")
