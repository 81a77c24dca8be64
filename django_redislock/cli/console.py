"""Where a command writes to: colours on a terminal only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.core.management.color import no_style

if TYPE_CHECKING:
    from django.core.management.base import OutputWrapper


class Console:
    """The command's output and its colours."""

    def __init__(self, out: OutputWrapper, style: Any, *, force_color: bool) -> None:
        self.out = out
        self.style = style if force_color or out.isatty() else no_style()

    def say(self, text: str, color: Callable[[str], str] | None = None) -> None:
        """Write lines."""
        self.out.write("\n".join(color(line) if color else line for line in text.split("\n")))

    def clear(self) -> None:
        """Begin the screen anew, where there is one."""
        if self.out.isatty():
            self.out.write("\033[H\033[2J", ending="")
