"""What was measured on what, as a table for people and as JSON for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from django.db import connection
from django_redis import get_redis_connection
from rich import box
from rich.console import Console
from rich.table import Table

PACKAGES = ("Django", "django-redis", "redis", "hiredis", "python-redis-lock", "django-concurrency", "psycopg")

Row = dict[str, float | None]
"""Figures by the key of their column; `None` where there is none to give."""


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of each row."""

    key: str
    head: str
    format: str = ".1f"


@dataclass(frozen=True, slots=True)
class Target:
    """A bound to keep. It is reported and never fails a run: the machine may be busy."""

    what: str
    value: float | None
    limit: float
    format: str = ".1f"
    at_least: bool = False
    """Whether it is a lower bound."""

    @property
    def met(self) -> bool:
        """Whether it is kept."""
        if self.value is None:
            return False
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        value, bound = shown(self.value, self.format), "least" if self.at_least else "most"
        return f"{'met   ' if self.met else 'MISSED'}  {self.what}: {value} (at {bound} {self.limit:g})"


def versions_here() -> dict[str, str]:
    """What took part."""
    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not there"
    found["Redis server"] = get_redis_connection("default").info("server")["redis_version"]
    if connection.vendor == "postgresql":
        found["PostgreSQL"] = ".".join(map(str, connection.get_database_version()))
    return found | {"cores": str(os.cpu_count())}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The outcome of a command."""

    columns: Sequence[Column]
    rows: Mapping[str, Row]
    targets: Sequence[Target]
    notes: list[str]
    versions: Mapping[str, str] = field(default_factory=versions_here)

    def show(self) -> None:
        """Print it."""
        console = Console(highlight=False, markup=False, soft_wrap=True, width=150)
        console.print(" · ".join(f"{name} {number}" for name, number in self.versions.items()))
        console.print(self.table())
        for line in (*self.notes, "", *self.targets):
            console.print(str(line))

    def table(self) -> Table:
        """A line for each row."""
        table = Table(box=box.SIMPLE, pad_edge=False)
        table.add_column(vertical="bottom", no_wrap=True)
        for column in self.columns:
            table.add_column(column.head, justify="right", no_wrap=True)
        for name, row in self.rows.items():
            table.add_row(name, *(shown(row[column.key], column.format) for column in self.columns))
        return table

    def save(self, path: Path) -> None:
        """Write the figures as JSON."""
        content = {
            "versions": self.versions,
            "rows": self.rows,
            "targets": [
                {"what": target.what, "value": target.value, "limit": target.limit, "met": target.met}
                for target in self.targets
            ],
            "notes": self.notes,
        }
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def shown(value: float | None, spec: str) -> str:
    """A figure as text."""
    return "" if value is None else format(value, spec)
