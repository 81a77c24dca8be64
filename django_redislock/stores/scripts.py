"""The Lua scripts, by name: one file a verb."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text and the digest by which the server knows it."""

    source: str
    sha: str


def load(name: str) -> Script:
    """Read `scripts/<name>.lua`."""
    source = resources.files(__package__).joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8")
    return Script(source=source, sha=hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
