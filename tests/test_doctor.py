"""`manage.py redislock doctor`: what is wrong with a server, what to do, and the exit code for monitoring."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_redislock.cli import findings
from django_redislock.cli.findings import Finding, Level, Patient
from django_redislock.cli.trial import trial
from django_redislock.handler import locks
from django_redislock.stores.base import Refusal
from tests.faults import proxy_to
from tests.flows import client_of
from tests.line import Line


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


def test_a_right_that_is_lacking_is_named(real, settings):
    real.execute_command("ACL SETUSER", "clerk", "on", ">x", "~*", "&*", "+@all", "-zrangebyscore")
    try:
        url = settings.CACHES["real"]["LOCATION"].replace("redis://", "redis://clerk:x@")
        settings.CACHES = {"real": settings.CACHES["real"] | {"LOCATION": url}}
        text, code = doctor()
    finally:
        real.acl_deluser("clerk")
    assert code == 2
    assert ("The user clerk may not run ZRANGEBYSCORE." in text) is can_be_asked_for_rights(real)
    assert "list fails: Redis could not be asked about what is held" in text
    assert "clerk:x" not in text


def test_a_user_who_may_not_subscribe_is_told(real, settings):
    real.execute_command("ACL SETUSER", "clerk", "on", ">x", "~*", "resetchannels", "&some", "+@all")
    try:
        url = settings.CACHES["real"]["LOCATION"].replace("redis://", "redis://clerk:x@")
        settings.CACHES = {"real": settings.CACHES["real"] | {"LOCATION": url}}
        assert "This user may not subscribe" in doctor()[0]
    finally:
        real.acl_deluser("clerk")


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


def test_no_time_out(settings):
    settings.CACHES = {"default": cache("redis://a/1") | {"OPTIONS": {"SOCKET_TIMEOUT": None}}}
    settings.REDISLOCK = {}
    patient = Chart({})
    patient.store, patient.inquiry = locks["default"].parts[0]
    assert judge(findings.connections, patient) == (
        Level.WARNING,
        "No socket_timeout and no socket_connect_timeout: a server that hangs blocks whoever locks.",
    )


def test_a_clock_that_is_wrong_and_a_long_way_are_told(real, monkeypatch):
    monkeypatch.setattr(findings, "SLOW", 0.0)
    monkeypatch.setattr(findings, "SKEWED", -1.0)
    found = list(findings.clocks(Patient("default", locks["default"], 0, locks["default"].parts[0][1])))
    assert [finding.level for finding in found] == [Level.WARNING, Level.WARNING]
    assert all(finding.remedy for finding in found)


def test_a_script_that_fails_is_named(real_redis, settings):
    with proxy_to(settings.CACHES["real"]["LOCATION"]) as wire:
        settings.CACHES = {"real": cache(f"redis://{wire.address}/0")}
        settings.REDISLOCK = {"default": {"CACHE": "real"}}
        patient = Patient("default", locks["default"], 0, locks["default"].parts[0][1])
        wire.faults.append(b"-ERR no Lua here\r\n")
        found = list(trial(patient))
    assert found[0].level is Level.ERROR
    assert found[0].text.startswith("acquire fails: ")


def test_replicas_that_are_asked_for_are_no_fault_unless_they_are_missing():
    info = {"role": "master", "connected_slaves": 1}
    assert judge(findings.replication, Chart(info, min_replicas=1))[0] is Level.OK
    assert judge(findings.replication, Chart(info, min_replicas=2)) == (
        Level.ERROR,
        "1 replicas, and MIN_REPLICAS asks for 2: no lock is granted.",
    )


def test_each_node_of_a_cluster_is_examined(cluster):
    text, code = doctor()
    assert code == 1
    assert re.findall("ERROR.*", text) == []
    for server in cluster.primaries:
        assert f"server of 127.0.0.1:{server.port}: Redis" in text
    assert text.count("Every script runs.") == 1


def test_a_cluster_that_is_taken_for_one_server_is_told(cluster, settings):
    settings.CACHES = {**settings.CACHES, "plain": cache(f"{cluster.url}/0")}
    settings.REDISLOCK = {"default": {"CACHE": "plain"}}
    text, code = doctor()
    assert code == 2
    assert re.search('is a cluster.\n.*"CONNECTION_FACTORY": "django_redislock.cluster.ClusterConnectionFactory"', text)
