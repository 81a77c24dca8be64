"""One URL of a database, turned into an entry of `DATABASES`."""

from __future__ import annotations

import pathlib
from typing import Any

import dj_database_url
import pymysql

# Django looks for MySQLdb; this one needs no C library. It has to be in place before Django loads the back end.
pymysql.install_as_MySQLdb()

SQLITE_OPTIONS: dict[str, Any] = {
    # A transaction that reads first and writes later fails at once with "database is locked" when another has
    # written in between, whatever the timeout. One that says at BEGIN that it will write waits its turn.
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    # Readers do not wait for the writer. NORMAL is as safe as FULL against a crash of the process.
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
}


def sqlite(path: pathlib.Path) -> dict[str, Any]:
    """An SQLite file that several processes write to."""
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": path, "OPTIONS": dict(SQLITE_OPTIONS)}


def from_url(url: str) -> dict[str, Any]:
    """The entry for a URL, with what SQLite needs to be written to by several processes."""
    entry: dict[str, Any] = {**dj_database_url.parse(url)}
    if entry["ENGINE"].endswith(".sqlite3"):
        entry["OPTIONS"] = {**SQLITE_OPTIONS, **entry.get("OPTIONS", {})}
    return entry
