"""The suite's fixtures: one parameter per Redis, one per database, on whatever servers there are."""

from __future__ import annotations

import gc
import inspect
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest
from django.conf import settings
from django.core.cache import caches
from django.core.management.color import no_style
from django.db import connections
from django.test import TransactionTestCase, override_settings
from pytest_django import DjangoDbBlocker

from django_redislock import forcing, signals
from django_redislock.exceptions import LossReason
from tests.browser import find_browser
from tests.faces import FACES, Face
from tests.flows import until
from tests.servers import Missing, Redis
from tests.servers.redis import Doors
from tests.servers.sets import ClusterSet, SentinelSet
from tests.settings import cache as redis_cache
from tests.settings import cluster_cache, sentinel_cache

S = TypeVar("S", ClusterSet, SentinelSet, Doors)

LOCK_ALIASES = {"fake": None, "real": "TEST_REDIS_URL"}
DB_ALIASES = {"default": None, "postgres": "TEST_POSTGRES_URL", "mariadb": "TEST_MARIADB_URL"}
MISSING = [variable for variable in (LOCK_ALIASES | DB_ALIASES).values() if variable and variable not in os.environ]
BROWSER = "a_browser"
HINT = "`python -m tests.servers -- COMMAND...` starts the servers that this machine has"

PAUSE = forcing.PAUSE

NO_BROWSER = "No Chromium on the path, so skipped: tests in a browser. On Debian `apt-get install chromium` gives it"


@pytest.fixture(params=list(LOCK_ALIASES))
def lock_alias(request: pytest.FixtureRequest) -> Iterator[str]:
    """An alias of `REDISLOCK`, once in this process' memory and once on a real server, empty at the start.

    Within the test the alias "default" is the same Redis, so code that names no alias is tested too.
    """
    alias: str = request.param
    caches[alias].clear()
    entry = {"CACHE": alias, "TTL": 30, "WAIT": 10}
    with override_settings(REDISLOCK={"default": entry, alias: entry}):
        yield alias


@pytest.fixture(params=list(DB_ALIASES))
def db_alias(request: pytest.FixtureRequest) -> str:
    """An alias of `DATABASES`; the test may use this database only.

    `@pytest.mark.django_db(transaction=True)` on the test lets it commit.
    """
    alias: str = request.param
    return alias


@pytest.fixture(params=list(FACES))
def face(request: pytest.FixtureRequest) -> Face:
    """Threads, tasks, and tasks on a loop of uvloop. A test that is a coroutine function is run by its face."""
    return FACES[request.param]


@pytest.fixture(params=[name for name in FACES if name != "threads"])
def loop(request: pytest.FixtureRequest) -> Face:
    """As `face`, for what only tasks do."""
    return FACES[request.param]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine function; others are run as ever."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments: dict[str, Any] = {
        name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters
    }
    (arguments.get("face") or arguments["loop"]).run(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture(autouse=True)
def hasty_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes locks away hands them over at once, as if no holder could be about to commit."""
    monkeypatch.setattr(forcing, "PAUSE", 0.0)


@pytest.fixture
def patient_operators(hasty_operators: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes locks away leaves the holder time, as they do outside of tests."""
    monkeypatch.setattr(forcing, "PAUSE", PAUSE)


@pytest.fixture
def real_redis() -> str:
    """The alias of a real server, empty at the start: for tests with processes of their own."""
    caches["real"].clear()
    return "real"


@pytest.fixture(scope="session")
def cluster_set() -> Iterator[ClusterSet]:
    """Three primaries with a replica each; started by the first test that needs them."""
    yield from serving(ClusterSet)


@pytest.fixture(scope="session")
def sentinel_set() -> Iterator[SentinelSet]:
    """A primary with two replicas and three Sentinels; started by the first test that needs them."""
    yield from serving(SentinelSet)


def serving(kind: Callable[..., S]) -> Iterator[S]:
    """Start them, and stop them at the end."""
    with TemporaryDirectory(prefix="redislock-") as directory:
        servers = kind(Path(directory), until=until)
        try:
            servers.start()
            yield servers
        except Missing as reason:
            (pytest.fail if os.environ.get("REDISLOCK_REQUIRE_SERVERS") == "1" else pytest.skip)(str(reason))
        finally:
            servers.stop()


@pytest.fixture
def cluster(cluster_set: ClusterSet, settings: Any) -> ClusterSet:
    """A Redis Cluster, as the alias "default" and the cache "cluster", empty at the start."""
    cluster_set.settle()
    for server in cluster_set.primaries:
        server.client.flushall()
    settings.CACHES = {**settings.CACHES, "cluster": cluster_cache(cluster_set.url)}
    settings.REDISLOCK = {"default": {"CACHE": "cluster"}}
    return cluster_set


@pytest.fixture
def sentinels(sentinel_set: SentinelSet, settings: Any) -> SentinelSet:
    """A primary that Sentinels watch, as the alias "default" and the cache "watched", empty at the start."""
    sentinel_set.settle()
    sentinel_set.primary.client.flushall()
    addresses = [sentinel.address for sentinel in sentinel_set.sentinels]
    settings.CACHES = {**settings.CACHES, "watched": sentinel_cache(addresses, sentinel_set.service)}
    settings.REDISLOCK = {"default": {"CACHE": "watched"}}
    return sentinel_set


@pytest.fixture(scope="session")
def server_with_doors() -> Iterator[Doors]:
    """A server with a Unix socket and a port for TLS; started by the first test that needs it."""
    yield from serving(lambda directory, until: Doors(directory / "doors"))


@pytest.fixture
def doors(server_with_doors: Doors, settings: Any) -> Doors:
    """That server as the caches "socket" and "tls", empty at the start."""
    tls = redis_cache(server_with_doors.tls_url, ssl_ca_certs=str(server_with_doors.certificate))
    unix = redis_cache(f"unix://{server_with_doors.socket}")
    settings.CACHES = {**settings.CACHES, "socket": unix, "tls": tls}
    caches["socket"].clear()
    return server_with_doors


@pytest.fixture(scope="session")
def servers_of_quorum(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Redis]]:
    """Five real servers, for a quorum. Ask for `real_redis` as well: where that is skipped, so is this."""
    directory = tmp_path_factory.mktemp("quorum")
    directory.chmod(0o755)
    servers = [Redis(directory / str(number)) for number in range(5)]
    try:
        for server in servers:
            server.start()
        yield servers
    finally:
        for server in servers:
            server.stop()


@pytest.fixture(scope="session")
def a_browser() -> None:
    """For tests that need a Chromium."""


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The test databases, also for the processes that tests start."""
    os.environ["REDISLOCK_IN_TEST_DATABASES"] = "1"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", empty_tables)
        yield


def empty_tables(test: Any) -> None:
    """What Django does with `flush` after a test that commits, but for what `migrate` has made and no test changes.

    To make that anew takes longer than most of these tests.
    """
    for alias in test._databases_names(include_mirrors=False):
        connections[alias].ops.execute_sql_flush(emptying(alias))


@cache
def emptying(alias: str) -> list[str]:
    """The statements that empty the tables of a database that tests write to."""
    connection = connections[alias]
    tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
    written = sorted({*tables} - {"auth_permission", "django_content_type"})
    if connection.vendor == "postgresql":  # Django's TRUNCATE makes new files
        return [f"DELETE FROM {connection.ops.quote_name(table)}" for table in written]
    return list(connection.ops.sql_flush(no_style(), written))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give a test with `db_alias` the database of its parameter, and no other."""
    if alias := parameters_of(item).get("db_alias"):
        own = item.get_closest_marker("django_db")
        marks = {"databases": [alias], **(own.kwargs if own else {})}
        item.add_marker(pytest.mark.django_db(**marks), append=False)


def pytest_collection_finish() -> None:
    """Who collects garbage need not look at the thousands of tests again and again."""
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a server that is not there, or fail when it has to be there."""
    parameters = parameters_of(item)
    needed = {LOCK_ALIASES.get(parameters.get("lock_alias", "")), DB_ALIASES.get(parameters.get("db_alias", ""))}
    if "real_redis" in getattr(item, "fixturenames", ()):
        needed.add(LOCK_ALIASES["real"])
    refuse = pytest.fail if os.environ.get("REDISLOCK_REQUIRE_SERVERS") == "1" else pytest.skip
    for variable in needed.intersection(MISSING):
        refuse(f"{variable} is not set: {HINT}")
    if BROWSER in getattr(item, "fixturenames", ()) and find_browser() is None:
        refuse(NO_BROWSER)


def pytest_unconfigure() -> None:
    """Remove what SQLite leaves beside a database file while a connection of some thread is still open."""
    for suffix in ("", "-shm", "-wal"):
        Path(f"{settings.SQLITE}{suffix}").unlink(missing_ok=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which servers the tests had to do without."""
    if MISSING:
        terminalreporter.section("servers", yellow=True)
        terminalreporter.write_line(f"Not set, so skipped: {', '.join(MISSING)}. {HINT}.")
    if find_browser() is None:
        terminalreporter.section("browser", yellow=True)
        terminalreporter.write_line(f"{NO_BROWSER}.")


def parameters_of(item: pytest.Item) -> dict[str, str]:
    """The parameters that fixtures gave to this run of the test."""
    callspec = getattr(item, "callspec", None)
    return callspec.params if callspec else {}


@pytest.fixture
def lost() -> Iterator[list[tuple[str, LossReason]]]:
    """The leases of which the loss was told."""
    told: list[tuple[str, LossReason]] = []

    def note(lease: Any, reason: LossReason, **named: Any) -> None:
        told.append((lease.key.name, reason))

    signals.lock_lost.connect(note)
    yield told
    signals.lock_lost.disconnect(note)
