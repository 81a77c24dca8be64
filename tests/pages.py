"""The pages of the documentation, taken apart and run."""

from __future__ import annotations

import doctest
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"(?P<skip><!-- not run: .+ -->\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block of a page."""

    kind: str
    text: str
    line: int
    is_run: bool


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(
            kind=match["kind"],
            text=match["text"],
            line=text.count("\n", 0, match.start("text")),
            is_run=not match["skip"],
        )
        for match in FENCE.finditer(text)
    ]


def name_of(page: Path) -> str:
    return page.name


def text_of(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def run(page: Path, names: dict[str, Any]) -> None:
    """Run the page's Python as one program; a traceback shows the lines of the page."""
    for block in blocks_of(page):
        if block.is_run and block.kind == "python":
            exec(compile("\n" * block.line + block.text, page, "exec"), names)
        elif block.is_run and block.kind == "pycon":
            example = doctest.DocTestParser().get_doctest(block.text, names, page.name, str(page), block.line)
            example.globs = names
            doctest.DebugRunner().run(example, clear_globs=False)


def sections_of(name: str) -> dict[str, list[Block]]:
    """The blocks below each heading of the second level."""
    page = ROOT / "docs" / name
    lines = page.read_text().splitlines()
    starts = {index: line.removeprefix("## ") for index, line in enumerate(lines) if line.startswith("## ")}
    found: dict[str, list[Block]] = {title: [] for title in starts.values()}
    for block in blocks_of(page):
        above = [title for start, title in starts.items() if start < block.line]
        if above:
            found[above[-1]].append(block)
    return found


def anchors_of(page: Path) -> set[str]:
    """What a link may name after the `#`."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}
