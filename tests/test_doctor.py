"""`manage.py redislock doctor`: what is wrong with a server, what to do, and the exit code for monitoring."""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from redis import Connection
from redis import Redis as RedisClient

from django_redislock.cli import findings
from django_redislock.cli.findings import Finding, Level, Patient
from django_redislock.stores.base import Refusal
from tests.faults import Fault, Proxy, Weather, proxy_to
from tests.flows import client_of, until
from tests.line import Line
from tests.servers import Redis


def doctor(*words: str) -> tuple[str, int]:
    """What it prints, and its exit code."""
    out = StringIO()
    try:
        call_command("redislock", "doctor", *words, stdout=out, stderr=out)
    except CommandError as error:
        return out.getvalue(), error.returncode
    return out.getvalue(), 0


@pytest.fixture
def real(real_redis: str, settings: Any) -> Iterator[Any]:
    """A real server under an alias of its own, whose settings a test may change; they are put back."""
    settings.REDISLOCK = {"default": {"CACHE": "real"}}
    url = f"{settings.CACHES['real']['LOCATION']}?socket_timeout=5&socket_connect_timeout=5"
    settings.CACHES = {"real": cache(url)}
    server: Any = client_of("real")
    before = server.config_get("maxmemory*") | server.config_get("appendonly") | server.config_get("min-replicas*")
    yield server
    for name, value in before.items():
        server.config_set(name, value)


def can_be_asked_for_rights(server: Any) -> bool:
    """`ACL DRYRUN` came with Redis 7; before, the trial of each script has to do."""
    return "dryrun" in str(server.execute_command("ACL HELP")).lower()


class Chart(Patient):
    """A patient of whom we know what it would say."""

    def __init__(self, info: dict[str, Any] | Refusal, *, min_replicas: int = 0, **config: str) -> None:
        self.info = info
        self.min_replicas = min_replicas
        self.is_cluster = False
        self._config = config

    def config(self, name: str) -> str | None:
        return self._config.get(name.replace("-", "_"))


def judge(examine: Callable[[Patient], Iterator[Finding]], patient: Patient) -> tuple[Level, str]:
    """The one thing that is found."""
    (finding,) = examine(patient)
    assert finding.remedy or finding.level is Level.OK
    return finding.level, finding.text


# On a real server


def test_a_healthy_server_gives_0(real):
    real.config_set("appendonly", "yes")
    text, code = doctor()
    assert (code, re.findall("(?:WARNING|ERROR).*", text)) == (0, [])
    assert "Every script runs." in text
    assert ("The user default may run every command that is used." in text) is can_be_asked_for_rights(real)


def test_a_warning_gives_1_and_an_error_2(real):
    real.config_set("appendonly", "no")
    assert doctor()[1] == 1
    real.config_set("maxmemory", "100mb")
    real.config_set("maxmemory-policy", "allkeys-lru")
    text, code = doctor()
    assert code == 2
    assert "allkeys-lru drops locks that are held" in text
    assert "Set `maxmemory-policy noeviction`" in text


def test_it_leaves_nothing_behind(real):
    doctor()
    assert Line("real").left() == set()


def test_as_json_it_is_complete(real):
    found = json.loads(doctor("--format", "json", "--alias", "default")[0])["default"]
    assert {finding["about"] for finding in found} >= {"server", "persistence", "memory", "database", "rights", "clock"}
    assert all(finding["remedy"] for finding in found if finding["level"] != "ok")


def told(level: str, about: str, text: str) -> str:
    """Pattern of a line that the doctor prints."""
    return rf"(?m)^  {level} +{about}: {text}"


@pytest.fixture
def clerk(real: Any, settings: Any) -> Iterator[Callable[..., None]]:
    """Sets the rights of the user who asks."""

    def may(*rules: str) -> None:
        real.execute_command("ACL SETUSER", "clerk", "on", ">x", "~*", "&*", "+@all", *rules)
        url = settings.CACHES["real"]["LOCATION"].replace("redis://", "redis://clerk:x@")
        settings.CACHES = {"real": settings.CACHES["real"] | {"LOCATION": url}}

    yield may
    real.acl_deluser("clerk")


def test_a_right_that_is_lacking_is_named(real, clerk):
    clerk("-zrangebyscore")
    text, code = doctor()
    assert code == 2
    assert ("The user clerk may not run ZRANGEBYSCORE." in text) is can_be_asked_for_rights(real)
    assert "list fails: Redis could not be asked about what is held" in text
    assert "clerk:x" not in text


def test_a_user_who_may_not_subscribe_is_told(clerk):
    clerk("resetchannels", "&some")
    assert re.search(told("WARNING", "waiting", "This user may not subscribe"), doctor()[0])


def test_a_user_who_may_not_see_the_server_is_told_what_to_look_at(clerk):
    clerk("-info")
    text, code = doctor()
    assert re.search(told("WARNING", "server", "INFO is refused: .*"), text)
    assert "or look by hand at version, persistence, memory policy and replication" in text
    assert code == 1


def test_a_user_who_may_not_load_scripts_is_told(clerk):
    clerk("-eval", "-evalsha")
    text, code = doctor()
    assert re.search(told("ERROR", "scripts", "acquire fails: "), text)
    assert code == 2


def test_a_database_that_a_cache_clears_is_told(real, settings):
    settings.CACHES = settings.CACHES | {"pages": settings.CACHES["real"]}
    text, _ = doctor()
    assert re.search(told("WARNING", "database", "The locks share a Redis database with the cache 'pages'"), text)


def test_connections_that_wait_for_ever_are_told(real, settings):
    # django-redis keeps a pool by URL: this one is not asked for elsewhere, with other options.
    url = settings.CACHES["real"]["LOCATION"].partition("?")[0] + "?client_name=patient"
    settings.CACHES = {"real": cache(url) | {"OPTIONS": {"CONNECTION_POOL_KWARGS": NO_TIME_OUTS}}}
    text, code = doctor()
    assert re.search(told("WARNING", "time-outs", "No socket_timeout and no socket_connect_timeout"), text)
    assert code == 1


def test_time_outs_that_no_setting_names_are_those_of_the_client(real, settings):
    url = settings.CACHES["real"]["LOCATION"].partition("?")[0]
    settings.CACHES = {"real": cache(url)}
    waits_for_ever = Connection().socket_timeout is None
    said = told("WARNING", "time-outs", "No socket_timeout") if waits_for_ever else told("OK", "time-outs", r"\d+ s to")
    assert re.search(said, doctor()[0])


NO_TIME_OUTS = {"socket_timeout": None, "socket_connect_timeout": None}


def test_a_server_whose_connections_are_used_up_is_told(real, settings):
    assert re.search(told("OK", "connections", r"\d+ of \d+ that the server takes"), doctor()[0])
    before = real.config_get("maxclients")["maxclients"]
    others = [client_of("real").connection_pool.make_connection() for _ in range(20)]
    try:
        for connection in others:
            connection.connect()
        real.config_set("maxclients", len(real.client_list()) + 3)
        text, _ = doctor()
    finally:
        real.config_set("maxclients", before)
        for connection in others:
            connection.disconnect()
    assert re.search(told("WARNING", "connections", r"\d+ of \d+ that the server takes"), text)
    assert "Raise `maxclients`" in text


def test_a_clock_that_is_not_the_servers_is_told(real, monkeypatch):
    monkeypatch.setattr(findings, "time", SimpleNamespace(time=lambda: time.time() + 90))
    text, _ = doctor()
    assert re.search(told("WARNING", "clock", r"The server's clock is (89|90)\.\d+ s behind this host's"), text)
    assert "Let both follow NTP" in text


@pytest.fixture
def two_servers(tmp_path: Path, real_redis: str, settings: Any) -> Iterator[list[Any]]:
    """A primary, which has the locks, and a server that may follow it."""
    servers = [Redis(tmp_path / name) for name in ("primary", "replica")]
    try:
        for server in servers:
            server.start()
        settings.CACHES = {"primary": cache(servers[0].url), "replica": cache(servers[1].url)}
        settings.REDISLOCK = {alias: {"CACHE": alias} for alias in ("primary", "replica")}
        yield [RedisClient.from_url(server.url) for server in servers]
    finally:
        for server in servers:
            server.stop()


def follow(primary: Any, replica: Any) -> None:
    """Have one follow the other, and wait until it does."""
    options = primary.connection_pool.connection_kwargs
    replica.replicaof(options["host"], options["port"])
    until(lambda: primary.info("replication")["connected_slaves"] == 1)


@pytest.mark.long
def test_replicas_that_nobody_waits_for_are_told(two_servers, settings):
    follow(*two_servers)
    text, code = doctor("--alias", "primary")
    lacks = told("WARNING", "replication", "1 replicas, and a lock is granted before any of them knows of it")
    assert re.search(lacks, text)
    assert code == 1
    two_servers[0].config_set("min-replicas-to-write", 1)
    assert re.search(told("OK", "replication", "1 replicas"), doctor("--alias", "primary")[0])


@pytest.mark.long
def test_replicas_that_are_missing_are_told(two_servers, settings):
    follow(*two_servers)
    settings.REDISLOCK = {"primary": {"CACHE": "primary", "MIN_REPLICAS": 2}}
    text, code = doctor("--alias", "primary")
    assert re.search(told("ERROR", "replication", "1 replicas, and MIN_REPLICAS asks for 2: no lock is granted"), text)
    assert code == 2


def test_a_replica_in_the_place_of_a_primary_is_told(two_servers):
    follow(*two_servers)
    text, code = doctor("--alias", "replica")
    assert re.search(told("ERROR", "replication", "This server is a replica: it takes no locks"), text)
    assert re.search(told("ERROR", "scripts", "acquire fails: "), text)
    assert code == 2


# On the way to a server


@pytest.fixture
def wire(real: Any, settings: Any) -> Iterator[Proxy]:
    """What stands between."""
    with proxy_to(settings.CACHES["real"]["LOCATION"]) as proxy:
        settings.CACHES = {"real": cache(f"redis://{proxy.address}/0?socket_timeout=5&socket_connect_timeout=5")}
        yield proxy


def test_a_long_way_is_told(wire):
    wire.counted, wire.weather, wire.delay = frozenset({"TIME"}), Weather({Fault.SLOW: 1}), 0.02
    text, code = doctor()
    assert re.search(told("WARNING", "round trip", r"2\d\.\d\d ms"), text)
    assert "Put the server nearer" in text
    assert code == 1


def test_a_server_that_is_too_old_is_told(wire):
    said = b"redis_version:6.0.16\r\nredis_mode:standalone\r\nrole:master\r\n"
    wire.counted, wire.faults = frozenset({"INFO"}), deque([b"$%d\r\n%s\r\n" % (len(said), said)])
    text, code = doctor()
    assert re.search(told("ERROR", "server", "Redis 6.0.16 is too old"), text)
    assert code == 2


def test_a_script_that_fails_is_named(wire):
    wire.faults.append(b"-ERR no Lua here\r\n")
    text, code = doctor()
    assert re.search(told("ERROR", "scripts", "acquire fails: "), text)
    assert code == 2


def test_a_server_without_any_of_these_commands_is_examined_all_the_same(settings):
    settings.REDISLOCK = {"default": {"CACHE": "fake"}}
    text, code = doctor()
    assert code == 1
    assert "Every script runs." in text


# Away


def test_a_server_that_is_away_gives_2_and_keeps_its_password(settings):
    location = "redis://:open-sesame@127.0.0.1:1/0"
    settings.CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": location}}
    settings.REDISLOCK = {}
    text, code = doctor()
    assert code == 2
    assert "connection: Redis could not be asked" in text
    assert "open-sesame" not in text


@pytest.mark.parametrize("wrong", [{"default": {"TTL": "long"}}, ["default"], {"default": {"CACHE": "none"}}])
def test_wrong_settings_give_2(settings, wrong):
    settings.REDISLOCK = wrong
    text, code = doctor()
    assert (code, "settings: " in text) == (2, True)


# What is judged from what is said


@pytest.mark.parametrize(
    ("info", "level", "text"),
    [
        ({"redis_version": "6.0.16"}, Level.ERROR, "too old"),
        ({"redis_version": "7.0.15", "redis_mode": "cluster"}, Level.ERROR, "is a cluster"),
        ({"valkey_version": "8.1.8", "server_mode": "cluster"}, Level.ERROR, "is a cluster"),
        ({"redis_version": "7.2.4", "valkey_version": "8.0.1"}, Level.OK, "Valkey 8.0.1"),
        (Refusal("NOPERM"), Level.WARNING, "INFO is refused: NOPERM"),
    ],
)
def test_the_version(info, level, text):
    found = judge(findings.version, Chart(info))
    assert found[0] is level
    assert text in found[1]


@pytest.mark.parametrize(
    ("policy", "limit", "level"),
    [("noeviction", 1, Level.OK), ("allkeys-lru", 0, Level.OK), ("volatile-ttl", 1, Level.ERROR)],
)
def test_the_memory(policy, limit, level):
    assert judge(findings.memory, Chart({"maxmemory_policy": policy, "maxmemory": limit}))[0] is level


@pytest.mark.parametrize(
    ("info", "config", "level"),
    [
        ({"role": "slave"}, {}, Level.ERROR),
        ({"role": "master", "connected_slaves": 2}, {"min_replicas_to_write": "0"}, Level.WARNING),
        ({"role": "master", "connected_slaves": 2}, {}, Level.WARNING),
        ({"role": "master", "connected_slaves": 2}, {"min_replicas_to_write": "1"}, Level.OK),
        ({"role": "master", "connected_slaves": 0}, {}, Level.OK),
    ],
)
def test_the_replication(info, config, level):
    assert judge(findings.replication, Chart(info, **config))[0] is level


def cache(location: Any) -> dict[str, Any]:
    return {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": location}


@pytest.mark.parametrize(
    ("name", "caches", "level"),
    [
        ("default", {"default": cache("redis://a/1")}, Level.WARNING),
        ("locks", {"default": cache("redis://a/1"), "locks": cache("redis://a/2")}, Level.OK),
        ("locks", {"default": cache("redis://a/1"), "locks": cache("redis://:secret@a/1?x=1")}, Level.WARNING),
        ("locks", {"default": cache(["redis://a/1", "redis://b/1"]), "locks": cache("redis://a/1,redis://b/1")}, 1),
    ],
)
def test_the_database(settings, name, caches, level):
    settings.CACHES = caches
    patient = Chart({})
    patient.cache = name
    found, text = judge(findings.sharing, patient)
    assert found == level
    assert "secret" not in text


def test_each_node_of_a_cluster_is_examined(cluster):
    text, code = doctor()
    assert code == 1
    assert re.findall("ERROR.*", text) == []
    for server in cluster.primaries:
        assert re.search(rf"server of 127\.0\.0\.1:{server.port}: (Redis|Valkey) \d", text)
    assert text.count("Every script runs.") == 1


def test_a_cluster_that_is_taken_for_one_server_is_told(cluster, settings):
    settings.CACHES = {**settings.CACHES, "plain": cache(f"{cluster.url}/0")}
    settings.REDISLOCK = {"default": {"CACHE": "plain"}}
    text, code = doctor()
    assert code == 2
    assert re.search('is a cluster.\n.*"CONNECTION_FACTORY": "django_redislock.cluster.ClusterConnectionFactory"', text)
