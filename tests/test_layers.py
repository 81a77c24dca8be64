"""Dependencies point down only: what each module of the package imports is read from its source."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import django_redislock

PACKAGE = "django_redislock"
ROOT = Path(django_redislock.__file__).parent
LONGEST = 300

LAYERS = {
    "values": {"clock", "exceptions", "forks", "holder", "keys", "lease", "majority", "seconds", "steps"},
    "stores": {
        "stores",
        "stores.asking",
        "stores.ballots",
        "stores.base",
        "stores.cluster",
        "stores.clusterinquiry",
        "stores.connections",
        "stores.debts",
        "stores.discretion",
        "stores.election",
        "stores.late",
        "stores.inquiry",
        "stores.lines",
        "stores.listing",
        "stores.clusternodes",
        "stores.loopanswers",
        "stores.loopconnections",
        "stores.loopmakers",
        "stores.loopreplicas",
        "stores.loopstore",
        "stores.loopwakeups",
        "stores.redis",
        "stores.replicas",
        "stores.route",
        "stores.slot",
        "stores.subscription",
        "stores.tries",
        "stores.turns",
        "stores.twins",
        "stores.nodes",
        "stores.options",
        "stores.packing",
        "stores.panel",
        "stores.quorum",
        "stores.quorumear",
        "stores.quoruminquiry",
        "stores.redisnode",
        "stores.scripts",
        "stores.started",
        "stores.straight",
        "stores.many",
        "stores.verbs",
        "stores.verdicts",
        "stores.wakeups",
    },
    "semantics": {
        "awaiting",
        "confirming",
        "keylock",
        "holds",
        "lookout",
        "manylock",
        "renewing",
        "runners",
        "waiting",
        "watchdog",
    },
    "facade": {
        "asread",
        "checkedmodel",
        "checkedsaves",
        "cluster",
        "conf",
        "conflicts",
        "deferred",
        "entries",
        "forcing",
        "guardedsaves",
        "functions",
        "guards",
        "handler",
        "identity",
        "keeping",
        "managers",
        "many",
        "manyrows",
        "naming",
        "overview",
        "optimistic",
        "retry",
        "rollback",
        "rowkeeping",
        "rows",
        "signals",
        "telling",
        "terms",
        "transactions",
        "versionedmodel",
        "versionforms",
        "versionquery",
        "versions",
        "waitgraph",
    },
    "edge": {
        "admin",
        "apps",
        "bridging",
        "checks",
        "cli",
        "cli.console",
        "cli.doctor",
        "cli.findings",
        "cli.listing",
        "cli.names",
        "cli.quorum",
        "cli.releasing",
        "cli.running",
        "cli.show",
        "cli.trial",
        "cli.watching",
        "cli.words",
        "commands",
        "drf",
        "expiry",
        "interruptions",
        "management",
        "management.commands",
        "management.commands.redislock",
        "middleware",
        "migrations",
        "migrations.0001_initial",
        "models",
        "pages",
        "pages.columns",
        "pages.filters",
        "pages.forcing",
        "pages.heldlocks",
        "pages.objects",
        "pages.picture",
        "pages.rows",
        "pages.status",
        "pages.words",
        "queues",
        "rowsets",
        "signatures",
        "targets",
        "tasks",
        "templatetags",
        "templatetags.redislock",
        "versionadmin",
        "versionchecks",
        "views",
        "views.answers",
        "views.asynccalls",
        "views.atomic",
        "views.calls",
        "views.checks",
        "views.decorator",
        "views.framework",
        "views.holding",
        "views.mixins",
        "views.plan",
        "views.refusals",
        "views.streams",
        PACKAGE,
    },
}
LAYER = {module: layer for layer, modules in LAYERS.items() for module in modules}

MAY_USE = {
    "values": {"values"},
    "stores": {"stores", "values"},
    "semantics": {"semantics", "stores.base", "values"},
    "facade": {"facade", "semantics", "stores", "values"},
    "edge": {"edge", "facade", "semantics", "stores", "values"},
}
"""Layers, and modules by name."""

THIRD_PARTIES = {
    "values": set[str](),
    "stores": {"hiredis", "redis"},
    "semantics": {"asgiref"},
    "facade": {"asgiref", "django", "django_redis", "redis"},
    "edge": {"asgiref", "celery", "django", "django_redis", "rest_framework"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One imported module."""

    name: str
    """The full name; of our own modules the name within the package."""
    typing_only: bool
    """Whether only type checkers see it."""
    own: bool
    """Whether it is a module of this package."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or PACKAGE


SOURCES = {module_name(path): path for path in ROOT.rglob("*.py")}


def imports_of(module: str, source: str | None = None) -> list[Import]:
    """All imports of a module, wherever in it they stand."""
    tree = ast.parse(SOURCES[module].read_text() if source is None else source)
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    return [
        Import(name=ours or name, typing_only=node in for_types, own=ours is not None)
        for node in ast.walk(tree)
        for name in named_by(node, package=package_of(module))
        for ours in [within_package(name)]
    ]


def package_of(module: str) -> list[str]:
    """The package, from the top, that a relative import of this module starts in."""
    parts = [] if module == PACKAGE else module.split(".")
    is_package = SOURCES[module].name == "__init__.py"
    return [PACKAGE, *(parts if is_package else parts[:-1])]


def named_by(node: ast.AST, *, package: list[str]) -> Iterator[str]:
    """The full names that an import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package[: len(package) - node.level + 1] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            yield inner if within_package(inner) in SOURCES else base


def within_package(name: str) -> str | None:
    """The name as `SOURCES` has it, if it lies in this package."""
    if name == PACKAGE:
        return PACKAGE
    return name.removeprefix(f"{PACKAGE}.") if name.startswith(f"{PACKAGE}.") else None


every_module = pytest.mark.parametrize("module", sorted(SOURCES))


def test_every_module_has_a_layer():
    assert set(SOURCES) == set(LAYER)


@every_module
def test_imports_point_down_only_for_type_checkers_too(module):
    used = {imported.name for imported in imports_of(module) if imported.own}
    assert {name for name in used if not {LAYER[name], name} & MAY_USE[LAYER[module]]} == set()


@every_module
def test_third_parties_stay_in_their_layers(module):
    outside = {imported.name.partition(".")[0] for imported in imports_of(module) if not imported.own}
    assert outside - sys.stdlib_module_names <= THIRD_PARTIES[LAYER[module]]


@every_module
def test_modules_stay_short(module):
    assert len(SOURCES[module].read_text().splitlines()) <= LONGEST


def test_the_redis_client_is_imported_by_stores_only():
    importers = {
        module
        for module in SOURCES
        for imported in imports_of(module)
        if imported.name.partition(".")[0] == "redis" and not imported.own and not imported.typing_only
    }
    assert {LAYER[module] for module in importers} == {"stores"}


def test_no_modules_import_each_other():
    graph = {module: {imported.name for imported in imports_of(module) if imported.own} for module in SOURCES}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("import redis.exceptions", "redis.exceptions"),
        ("from redis import Redis", "redis"),
        ("from . import verbs", "stores.verbs"),
        ("from .base import Store", "stores.base"),
        ("from .. import clock", "clock"),
        ("from ..keys import Key", "keys"),
        ("from .. import lock", PACKAGE),
        ("from django_redislock.conf import Options", "conf"),
        ("def late():\n    from ..handler import locks", "handler"),
    ],
)
def test_every_form_of_import_is_understood(statement, name):
    assert [imported.name for imported in imports_of("stores.redis", statement)] == [name]


def test_an_import_for_type_checkers_is_told_apart():
    source = "import os\nif typing.TYPE_CHECKING:\n    from redis import Redis\nelse:\n    import redis"
    assert [(found.name, found.typing_only) for found in imports_of("keys", source)] == [
        ("os", False),
        ("redis", True),
        ("redis", False),
    ]
