"""What the demo prints: progress while it runs, a table and the verdict at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .messages import Done
from .orders import Skipped
from .runs import Run

SHOWN = 20


class Advance:
    """Counts orders on a progress bar."""

    def __init__(self, console: Console, label: str, total: int) -> None:
        columns = TextColumn("{task.description:17}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self.bar.add_task(label, total=total)

    def __call__(self, _done: Done) -> None:
        self.bar.advance(self._task)


class Report:
    """Writes to a terminal in colour, elsewhere in plain lines."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def skipped(self, lines: Sequence[Skipped]) -> None:
        for skipped in lines[:SHOWN]:
            self.say(f"  line {skipped.line} skipped: {skipped.reason}")
        if len(lines) > SHOWN:
            self.say(f"  and {len(lines) - SHOWN} more lines skipped")

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Advance]:
        """A bar on a terminal; elsewhere nothing until the run is over."""
        advance = Advance(self.console, label, total)
        with advance.bar:
            yield advance

    def finished(self, run: Run) -> None:
        killed = f", {run.killed} workers killed" if run.killed else ""
        if killed or not self.console.is_terminal:
            self.say(f"{run.mode.name}: {run.orders} orders in {run.seconds:.1f} s{killed}")

    def table(self, runs: Sequence[Run]) -> None:
        """One column per run, which fits a narrow terminal."""
        table = Table(title="What became of the money", title_justify="left")
        table.add_column("")
        for run in runs:
            table.add_column(run.mode.name, justify="right", no_wrap=True)
        for label, value in FIGURES.items():
            table.add_row(label, *map(value, runs))
        table.add_section()
        table.add_row("balances", *map(verdict, runs))
        self.console.print(table)


FIGURES: dict[str, Callable[[Run], str]] = {
    "orders per second": lambda run: f"{run.rate:,.0f}",
    "wait for the rows, p50 ms": lambda run: milliseconds(run.wait(50)),
    "wait for the rows, p95 ms": lambda run: milliseconds(run.wait(95)),
    "longest wait, ms": lambda run: milliseconds(max(run.waits)),
    "booked": lambda run: f"{run.audit.booked:,}",
    "refused for want of money": lambda run: f"{run.audit.refused:,}",
    "duplicates, booked once": lambda run: f"{run.duplicates:,}",
    "attempts repeated": lambda run: f"{run.retries:,}",
    "workers killed": lambda run: f"{run.killed:,}",
    "updates lost": lambda run: f"{run.audit.lost_updates:,}",
    "orders decided wrongly": lambda run: f"{run.audit.misjudged:,}",
    "money that appeared": lambda run: f"{run.audit.appeared:,.2f}",
    "money that vanished": lambda run: f"{run.audit.vanished:,.2f}",
}


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.1f}"


def verdict(run: Run) -> str:
    """The last row; `right` takes in what the other rows do not show, such as an order that was never decided."""
    return "[green]right[/]" if run.audit.right else "[bold red]WRONG[/]"
