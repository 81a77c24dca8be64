"""Many want one lock, and each comes back at once: hand-over, throughput, fairness, requests."""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count

from .crowd import Crowd, Task, clock, crowd
from .line import Line, jain
from .measure import median_of
from .report import Column, Report, Row, Target
from .rivals import ADVISORY, OURS, PYTHON_REDIS_LOCK, connections_of, requests_so_far, rivals_here

LEAD_IN, LOOK = 0.1, 0.05
"""Seconds of contention before the window, 5 ms more for each contender, so that all are connected; and how long
before it the connections are counted."""
SHORTEST = 0.35
"""Seconds of a window at least."""
TURNS = 14
"""How often each contender can have the lock in a window, if they take turns."""

COLUMNS = (
    Column("p50", "hand-over\np50 us", ".0f"),
    Column("p99", "p99 us", ".0f"),
    Column("rate", "acq/s", ".0f"),
    Column("jain", "Jain", ".3f"),
    Column("back", "back\n%", ".0f"),
    Column("requests", "requests\nper acq", ".2f"),
    Column("connections", "conn.", "g"),
    Column("p50_ratio", "p50 x\np-r-l", ".3f"),
    Column("rate_ratio", "acq/s x\np-r-l", ".3f"),
    Column("advisory_ratio", "acq/s x\nadvisory", ".3f"),
)
NOTES = (
    "Hand-over: from the call of release() to the return of another contender's acquire().",
    "Jain: index of fairness over the acquisitions of a window; back: share that went to who had it just before.",
    "Requests: reads of the server's event loop, so what scripts call does not count. Advisory locks: two queries.",
    "All figures are medians over the windows, ratios those of the ratios within a round. p-r-l: python-redis-lock.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """How many compete, and how long each holds."""

    processes: int
    threads: int
    hold: float

    @property
    def contenders(self) -> int:
        """All of them."""
        return self.processes * self.threads

    @property
    def window(self) -> float:
        """Seconds that are looked at."""
        return max(SHORTEST, TURNS * self.contenders * self.hold * 1.05)

    def __str__(self) -> str:
        who = f"{self.processes} processes" if self.threads == 1 else f"{self.threads} threads"
        return f"{who}, {self.hold * 1000:g} ms"


def scenes(*sizes: int, threads: int) -> list[Scene]:
    """Processes of these numbers, and threads of one process."""
    shapes = [*((size, 1) for size in sizes), (1, threads)]
    return [Scene(processes=p, threads=t, hold=hold) for hold in (0.0, 0.005) for p, t in shapes]


Figures = Mapping[str, float]
Rounds = list[dict[str, Figures]]


def run(arguments: argparse.Namespace) -> Report:
    """Measure all rivals in all scenes."""
    chosen = scenes(2, threads=2) if arguments.quick else scenes(2, 8, 32, threads=8)
    rounds: dict[str, Rounds] = {str(scene): [] for scene in chosen}
    keys = (f"line-{number}" for number in count())
    with crowd(max(scene.processes for scene in chosen)) as people:
        names = rivals_here()
        for _ in range(1 if arguments.quick else arguments.rounds):
            for scene in chosen:
                shuffled = random.sample(names, len(names))
                rounds[str(scene)].append({name: watch(people, scene, name, next(keys)) for name in shuffled})
    rows = {f"{scene}: {name}": make_row(rounds[str(scene)], name) for scene in chosen for name in names}
    turns = f"{len(next(iter(rounds.values())))} windows for each line, in turns."
    return Report(columns=COLUMNS, rows=rows, targets=list(targets(rows)), notes=[turns, *NOTES])


def watch(people: Crowd, scene: Scene, rival: str, key: str) -> Figures:
    """The figures of one window."""
    task = Task(rival=rival, key=key, threads=scene.threads, hold=scene.hold)
    people.get_ready([task] * scene.processes)
    begin = clock() + int((LEAD_IN + 0.005 * scene.contenders) * 1e9)
    end = begin + int(scene.window * 1e9)
    people.go(scene.processes, until=end)
    sleep_until(begin - int(LOOK * 1e9))
    connections = connections_of(rival, people.pids[: scene.processes])
    sleep_until(begin)
    requests = requests_so_far()
    sleep_until(end)
    requests = requests_so_far() - requests - 1  # the one that asked
    line = Line(begin=begin, end=end, contenders=people.gather(scene.processes))
    figures = figures_of(line) | {"connections": connections}
    return figures if rival == ADVISORY else figures | {"requests": requests / len(line.had())}


def sleep_until(instant: int) -> None:
    """Sleep until then."""
    time.sleep(max(0, instant - clock()) / 1e9)


def figures_of(line: Line) -> dict[str, float]:
    """What a window tells; without hand-overs there is nothing to tell of them."""
    figures = {"rate": line.rate(), "jain": jain(line.shares()), "back": line.came_back()}
    hand_overs = line.hand_overs()
    if len(hand_overs) > 1:
        figures["p50"] = statistics.median(hand_overs)
        figures["p99"] = statistics.quantiles(hand_overs, n=100, method="inclusive")[98]
    return figures


def make_row(rounds: Rounds, name: str) -> Row:
    """The medians of one rival in one scene."""
    keys = ("p50", "p99", "rate", "jain", "back", "requests", "connections")
    row: Row = {key: median_of(figures[name].get(key) for figures in rounds) for key in keys}
    return row | {
        "p50_ratio": ratio(rounds, "p50", name, PYTHON_REDIS_LOCK),
        "rate_ratio": ratio(rounds, "rate", name, PYTHON_REDIS_LOCK),
        "advisory_ratio": ratio(rounds, "rate", name, ADVISORY),
    }


def ratio(rounds: Rounds, key: str, name: str, base: str) -> float | None:
    """How many times as much as `base`: the median of what each round says."""
    return median_of(
        figures[name][key] / figures[base][key]
        for figures in rounds
        if base in figures and key in figures[name] and key in figures[base]
    )


def targets(rows: Mapping[str, Row]) -> Iterator[Target]:
    """What is to be reached, as far as it was measured."""
    for scene in ("8 processes, 5 ms", "32 processes, 5 ms"):
        if row := rows.get(f"{scene}: {OURS}"):
            yield Target(f"{scene}: hand-over p50, x {PYTHON_REDIS_LOCK}", row["p50_ratio"], 0.80, ".3f")
    if row := rows.get(f"8 processes, 0 ms: {OURS}"):
        what = "8 processes, 0 ms: acquisitions/s"
        yield Target(f"{what}, x {PYTHON_REDIS_LOCK}", row["rate_ratio"], 1.25, ".3f", at_least=True)
        yield Target(f"{what}, x {ADVISORY}", row["advisory_ratio"], 1.0, ".3f", at_least=True)
    own = [row for name, row in rows.items() if name.endswith(OURS)]
    yield Target("fairness, least of all", min(row["jain"] or 0 for row in own), 0.99, ".3f", at_least=True)
    yield Target("requests per acquisition, most of all", max(row["requests"] or 0 for row in own), 2.6, ".2f")
