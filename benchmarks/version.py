"""A `save()` that compares the version, beside one that does not: time and queries."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec
from typing import Any

from django.db import connection, models, transaction
from django.test.utils import setup_databases, teardown_databases

from django_redislock import VersionField

from . import measure
from .measure import Contender
from .pair import queries_counted
from .report import Column, Report, Row, Target

ROWS = 16
PAIRS = 50
PLAIN, OURS, CONCURRENCY = "plain save()", "VersionField save()", "django-concurrency save()"
SCENES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocommit": nullcontext,
    "in a transaction": transaction.atomic,
}

COLUMNS = (
    Column("p50", "p50\nus"),
    Column("p99", "p99\nus"),
    Column("cpu", "CPU\nus"),
    Column("queries", "SQL", "g"),
    Column("ratio", "x plain", ".3f"),
)
NOTES = (
    "Each saves a row of seven columns that it has in memory. In autocommit every save waits for the disk.",
    "Ratios: the median over the blocks of the ratio of their medians.",
)


class Entry(models.Model):
    """The columns that all have."""

    number = models.CharField(max_length=20)
    owner = models.CharField(max_length=80)
    balance = models.DecimalField(max_digits=14, decimal_places=2, default=0)
    movements = models.IntegerField(default=0)
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.number


class PlainEntry(Entry):
    version = models.BigIntegerField(default=1)

    class Meta:
        app_label = "bank"


class VersionedEntry(Entry):
    version = VersionField()

    class Meta:
        app_label = "bank"


def contestants() -> dict[str, type[models.Model]]:
    """The models; django-concurrency's where it is installed."""
    found: dict[str, type[models.Model]] = {PLAIN: PlainEntry, OURS: VersionedEntry}
    if find_spec("concurrency") is not None:
        from concurrency.fields import AutoIncVersionField  # noqa: PLC0415 - an extra

        meta = type("Meta", (), {"app_label": "bank"})
        attributes = {"version": AutoIncVersionField(), "Meta": meta, "__module__": __name__}
        found[CONCURRENCY] = type("ConcurrencyEntry", (Entry,), attributes)
    return found


def run(arguments: argparse.Namespace) -> Report:
    """Measure all in both scenes."""
    if connection.vendor != "postgresql":
        raise SystemExit("This one needs PostgreSQL.")
    rows: dict[str, Row] = {}
    with tables(contestants()) as savers:
        for scene, around in SCENES.items():
            rows |= compare(scene, around, savers, arguments.rounds)
    notes = [f"{arguments.rounds} blocks of {PAIRS} saves each.", *NOTES]
    return Report(columns=COLUMNS, rows=rows, targets=list(targets(rows)), notes=notes)


@contextmanager
def tables(found: Mapping[str, type[models.Model]]) -> Iterator[dict[str, Callable[[int], None]]]:
    """What saves a row of each, in a database that is dropped afterwards."""
    made = setup_databases(
        verbosity=0, interactive=False, serialized_aliases=set()
    )  # these tables are none of a migration
    try:
        with ExitStack() as stack:
            editor = stack.enter_context(connection.schema_editor())
            for model in found.values():
                editor.create_model(model)
        yield {name: partial(save, fill(model)) for name, model in found.items()}
    finally:
        teardown_databases(made, verbosity=0)


def fill(model: type[models.Model]) -> list[Any]:
    """Rows to save."""
    return [model._base_manager.create(number=f"{number:08}", owner="Nobody") for number in range(ROWS)]


def save(rows: list[Any], number: int) -> None:
    """Save one of them."""
    rows[number % ROWS].save()


def compare(
    scene: str,
    around: Callable[[], AbstractContextManager[Any]],
    savers: Mapping[str, Callable[[int], None]],
    rounds: int,
) -> dict[str, Row]:
    """All of them in one scene."""
    contenders = [Contender(name=name, pair=saver, around=around) for name, saver in savers.items()]
    counted = {contender.name: count_queries(contender) for contender in contenders}
    blocks = measure.interleaved(contenders, rounds=rounds, pairs=PAIRS)
    return {
        f"{name}, {scene}": {
            "p50": measure.p50(blocks, name),
            "p99": measure.p99(blocks, name),
            "cpu": measure.cpu(blocks, name),
            "queries": queries,
            "ratio": measure.ratio(blocks, name, PLAIN),
        }
        for name, queries in counted.items()
    }


def count_queries(contender: Contender) -> float:
    """Queries of one save."""
    with contender.around(), queries_counted() as queries:
        for number in range(ROWS):
            contender.pair(number)
    return len(queries) / ROWS


def targets(rows: Mapping[str, Row]) -> Iterator[Target]:
    """What is to be reached."""
    for scene in SCENES:
        row = rows[f"{OURS}, {scene}"]
        yield Target(f"{OURS}, {scene}, x plain", row["ratio"], 1.05, ".3f")
        yield Target(f"{OURS}, {scene}, queries", row["queries"], 1, "g")
