"""`redislock doctor`: asks the servers what the system checks cannot know."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from django.core.management.base import CommandError

from ..exceptions import RedisLockError, StoreUnavailable
from ..handler import Locks, locks
from ..overview import aliases_of
from .console import Console
from .findings import EXAMINATIONS, Finding, Level, Patient
from .quorum import examine_quorum
from .trial import trial


def add_arguments(parser: ArgumentParser) -> None:
    """Which servers, and how it is told."""
    parser.add_argument("--alias", help="Only this alias of REDISLOCK. Default: all.")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="Default: %(default)s.")


def run(console: Console, options: dict[str, Any]) -> None:
    """Print the findings. Raises `CommandError` with exit code 1 for warnings, 2 for errors."""
    faults: dict[str, RedisLockError] = {}
    aliases = [options["alias"]] if options["alias"] else aliases_of(faults)
    found = {alias: list(examine(alias)) for alias in aliases}
    found |= {alias: [Finding(Level.ERROR, "settings", str(fault))] for alias, fault in faults.items()}
    if options["format"] == "json":
        console.say(json.dumps({alias: list(map(describe, findings)) for alias, findings in found.items()}, indent=2))
    else:
        for alias, findings in found.items():
            show(console, alias, findings)
    levels = [finding.level for findings in found.values() for finding in findings]
    worst = max(levels)
    if worst:
        raise CommandError(
            f"{levels.count(Level.ERROR)} errors, {levels.count(Level.WARNING)} warnings.", returncode=int(worst)
        )


def examine(alias: str) -> Iterator[Finding]:
    """All that is found about an alias; where the server cannot be asked, that is the last of it."""
    try:
        place = locks[alias]
    except RedisLockError as error:
        yield Finding(Level.ERROR, "settings", str(error), "`manage.py check --tag caches` tells more.")
        return
    for number, part in enumerate(place.places):
        found = examine_server(alias, place, number)
        yield from found if len(place.places) == 1 else (about_node(finding, part.alias) for finding in found)
    if len(place.places) > 1:
        yield from examine_quorum(place)


def examine_server(alias: str, place: Locks, number: int) -> Iterator[Finding]:
    """All that is found about one of its servers."""
    try:
        _, whole = place.parts[number]
        for inquiry in whole.servers():
            patient = Patient(alias, place, number, inquiry)
            for look in EXAMINATIONS:
                yield from (located(finding, inquiry.where) for finding in look(patient))
        yield from trial(Patient(alias, place, number, whole))
    except StoreUnavailable as error:
        remedy = "Start the server, or put LOCATION right: `manage.py check --tag caches` reads the settings."
        yield Finding(Level.ERROR, "connection", str(error), remedy)
    except RedisLockError as error:
        yield Finding(Level.ERROR, "settings", str(error), "`manage.py check --tag caches` tells more.")


def located(finding: Finding, where: str) -> Finding:
    """The finding, which says of which server it is where there are several."""
    return replace(finding, about=f"{finding.about} of {where}") if where else finding


def about_node(finding: Finding, cache: str) -> Finding:
    """The finding, with the name of the server."""
    return replace(finding, about=f"{cache}, {finding.about}")


def describe(finding: Finding) -> dict[str, str]:
    """A finding in plain values."""
    return {
        "level": finding.level.name.lower(),
        "about": finding.about,
        "text": finding.text,
        "remedy": finding.remedy,
    }


def show(console: Console, alias: str, findings: list[Finding]) -> None:
    """The findings of one alias, line by line."""
    style = console.style
    colors = {Level.OK: style.SUCCESS, Level.WARNING: style.WARNING, Level.ERROR: style.ERROR}
    console.say(f"Alias {alias!r}", style.MIGRATE_HEADING)
    for finding in findings:
        console.say(f"  {finding.level.name:<7}  {finding.about}: {finding.text}", colors[finding.level])
        if finding.remedy:
            console.say(f"           {finding.remedy}")
