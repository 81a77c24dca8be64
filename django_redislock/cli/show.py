"""`redislock show KEY`: one lock, who waits for it, and who waits for those."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from ..handler import DEFAULT_ALIAS
from ..stores.listing import Listed
from ..waitgraph import LockNode, Step, WaitGraph, steps
from .console import Console
from .names import find
from .words import describe, describe_waiter, plain, spell_seconds

MOST_STEPS = 100


def add_arguments(parser: ArgumentParser) -> None:
    """Which lock, and how it is shown."""
    parser.add_argument("key", help="A name, or a row such as bank.Account:42.")
    parser.add_argument("--alias", default=DEFAULT_ALIAS, help="Alias of REDISLOCK. Default: %(default)s.")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="Default: %(default)s.")


def run(console: Console, options: dict[str, Any]) -> None:
    """Print all that is known. Raises `CommandError` when nobody holds it."""
    alias = options["alias"]
    lock, everything = find(options["key"], alias=alias, queues=True)
    if options["format"] == "json":
        queue = [describe_waiter(waiter) for waiter in lock.queue]
        console.say(json.dumps(describe(lock) | {"queue": queue}, indent=2))
        return
    for title, value in facts(lock):
        console.say(f"{title:<9} {plain(value)}")
    tree = list(steps(WaitGraph(everything).around(lock.name)))
    if len(tree) > 1:
        console.say("\nWho waits for whom:")
        for step in tree[:MOST_STEPS]:
            console.say(plain(spell_step(step)), console.style.WARNING if is_it(step, lock) else None)
        if len(tree) > MOST_STEPS:
            console.say(f"... and {len(tree) - MOST_STEPS} more lines")


def facts(lock: Listed) -> Iterator[tuple[str, str]]:
    """What is known, line by line."""
    yield "Key", lock.name
    yield "Alias", lock.alias
    yield "Holder", str(lock.holder)
    since = datetime.fromtimestamp(lock.since, UTC)
    yield "Since", f"{since:%Y-%m-%d %H:%M:%S} UTC, for {spell_seconds(lock.held_for)}"
    yield "Ends in", f"{spell_seconds(lock.remaining)}, unless it is renewed"
    yield "Fence", str(lock.fence)
    yield "Waiters", str(lock.waiters)


def spell_step(step: Step) -> str:
    """One line of the tree."""
    node, indent = step.node, "   " * step.depth
    if isinstance(node, LockNode):
        return f"{indent}{node.lock.name}, held by {node.lock.holder} for {spell_seconds(node.lock.held_for)}"
    also = ", and holds" if node.holds else ""
    return f"{indent}{node.place}. {node.waiter.holder} waits for {spell_seconds(node.waiter.waits_for)}{also}"


def is_it(step: Step, lock: Listed) -> bool:
    """Whether the line is that of the lock that was asked about."""
    return isinstance(step.node, LockNode) and step.node.lock.name == lock.name
