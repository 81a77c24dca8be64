"""The Lua scripts, by name: one file a verb."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources

from .packing import word


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text and the digest by which the server knows it."""

    source: str
    sha: str
    known: bytes
    """What calls a script that the server knows, as it is sent."""
    new: bytes
    """What calls one that it does not."""


def read(*path: str) -> str:
    """The text of a file below `scripts/`."""
    return resources.files(__package__).joinpath("scripts", *path).read_text(encoding="utf-8")


def load(name: str) -> Script:
    """Read `scripts/<name>.lua`, with the parts that it shares with other verbs where it names them."""
    source = whole(read(f"{name}.lua"))
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    known, new = word("EVALSHA") + word(sha), word("EVAL") + word(source)
    return Script(source=source, sha=sha, known=known, new=new)


def whole(text: str) -> str:
    """With the text of the parts that are included, and of those that these include."""
    return re.sub(r"^ *-- include: (.*)\n", lambda line: parts(line[1]), text, flags=re.MULTILINE)


def parts(names: str) -> str:
    """The text of parts, one after the other."""
    return "".join(whole(read("parts", f"{name}.lua")) for name in names.split())


def commands() -> set[str]:
    """The commands of Redis that the scripts use."""
    here = resources.files(__package__).joinpath("scripts")
    files = [*here.iterdir(), *here.joinpath("parts").iterdir()]
    texts = [file.read_text(encoding="utf-8") for file in files if file.name.endswith(".lua")]
    return {command for source in texts for command in re.findall(r"\bcall\('(\w+)'", source)}
