"""The system checks: every fault of the settings has an id, a hint and a description, and no server is asked."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from django.conf import settings
from django.core import checks
from django.core.cache.backends.locmem import LocMemCache
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import override_settings
from django_redis.cache import RedisCache
from django_redis.client import HerdClient

from django_redislock.checks import check_settings

SECRET = "hunter2"
ROOT = Path(__file__).parent.parent
REDIS = "django_redis.cache.RedisCache"


class OwnCache(RedisCache):  # type: ignore[misc]  # django-redis has no types
    """A cache of the application's own."""


class OwnClient(HerdClient):  # type: ignore[misc]
    """A client of the application's own."""


def a_cache(**changes: Any) -> dict[str, Any]:
    """The entry of a good cache, with changes; `None` takes a setting out."""
    location, options = f"redis://:{SECRET}@127.0.0.1:6379/0", {"PASSWORD": SECRET}
    entry = {"BACKEND": REDIS, "LOCATION": location, "OPTIONS": options, **changes}
    return {name: value for name, value in entry.items() if value is not None}


def a_client(path: Any) -> dict[str, Any]:
    return a_cache(OPTIONS={"CLIENT_CLASS": path, "PASSWORD": SECRET})


def found(redislock: Any, **caches: Any) -> list[checks.CheckMessage]:
    """What the checks say of these settings."""
    with override_settings(REDISLOCK=redislock, CACHES={"default": a_cache(), **caches}):
        return check_settings()


def ids(messages: list[checks.CheckMessage]) -> list[str]:
    return [str(message.id).removeprefix("django_redislock.") for message in messages]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever connects fails."""
    refuse = Mock(side_effect=AssertionError("A check must not touch the network."))
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def three(*hosts: str) -> dict[str, Any]:
    """The caches a, b and c."""
    return {
        name: a_cache(LOCATION=f"redis://{host}:6379/{number}")
        for number, (name, host) in enumerate(zip("abc", hosts, strict=True))
    }


WATCHED = "redis://mymaster/0"


def watched(*sentinels: Any, **changes: Any) -> dict[str, Any]:
    """The entry of a cache on the server that these Sentinels name."""
    options = {
        "CLIENT_CLASS": "django_redis.client.SentinelClient",
        "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
        "SENTINELS": sentinels,
    }
    return a_cache(**{"LOCATION": WATCHED, "OPTIONS": options, **changes})


SEVERAL = [
    a_cache(LOCATION="redis://c:6379", OPTIONS={"CONNECTION_FACTORY": path, "PASSWORD": SECRET})
    for path in ("django_redislock.cluster.ClusterConnectionFactory", "django_redis.pool.SentinelConnectionFactory")
]

FAULTS: list[tuple[str, Any, dict[str, Any]]] = [
    *(("E001", redislock, {}) for redislock in (["default"], "default", ("default",), 5)),
    *(("E001", {"default": entry}, {}) for entry in (None, "default", ["CACHE"], 5)),
    ("E002", {"other": {}}, {}),
    *(("E003", {"default": {name: 1}}, {}) for name in ("TIMEOUT", "ttl", "Wait", "LEASE", "", 5, None)),
    *(("E004", {"default": {"CACHE": value}}, {}) for value in (None, "", 5, b"default", ["default"])),
    *(("E005", {"default": {"TTL": value}}, {}) for value in (0, -1, None, "30", True, float("nan"), 1e13, 10**400)),
    *(("E006", {"default": {"WAIT": value}}, {}) for value in (-1, "10", True, float("nan"), float("inf"), 10**400)),
    *(("E007", {"default": {"KEY_FUNCTION": value}}, {}) for value in (5, "", "function", "no.such", "os.sep")),
    *(("E013", {"default": {"ON_OUTAGE": value}}, {}) for value in ("hope", "", None, True, 5, ["raise"])),
    *(("E020", {"default": {"MIN_REPLICAS": value}}, {}) for value in (-1, "1", None, True, 1.0)),
    *(("E012", {"default": {"MAX_HOLD": value}}, {}) for value in (0, -1, "300", True, float("nan"), float("inf"))),
    ("E008", {"default": {"CACHE": "absent"}}, {}),
    *(
        ("E009", {}, {"default": a_cache(BACKEND=backend)})
        for backend in (
            "django.core.cache.backends.locmem.LocMemCache",
            "django.core.cache.backends.redis.RedisCache",
            "django.core.cache.backends.dummy.DummyCache",
            "no.such.Cache",
            "RedisCache",
            "os.path.join",
            LocMemCache,
            None,
        )
    ),
    *(
        ("E010", {}, {"default": a_client(path)})
        for path in ("django_redis.client.ShardClient", "no.such.Client", "os.path.join", OwnCache, 5)
    ),
    *(("E011", {}, {"default": a_cache(LOCATION=location)}) for location in (None, "")),
    ("E011", {}, {"default": a_cache(LOCATION=[])}),
    ("E020", {"default": {"CACHE": ["a", "b", "c"], "MIN_REPLICAS": 1}}, three("a", "b", "c")),
    *(("E021", {"default": {"CACHE": ["a", "b", "c"]}}, three("a", "b", "c") | {"c": entry}) for entry in SEVERAL),
    ("E022", {"default": {}}, {"default": watched(("a", 1)), "other": watched(("b", 1))}),
    ("E022", {"default": {}}, {"default": watched(("a", 1)), "other": a_cache(LOCATION=WATCHED)}),
    ("E014", {"default": {"GUARD": 0}}, {}),
    ("E014", {"default": {"CACHE": ["a", "b", "c"], "GUARD": 5}}, three("a", "b", "c")),
    ("E015", {"default": {"CACHE": ["a", "b", "c"]}}, three("a", "b", "b")),
    ("E015", {"default": {"CACHE": ["a", "b", "c"]}}, three("a", "b", f"me:{SECRET}@b")),
]


@pytest.mark.parametrize(("fault", "redislock", "caches"), FAULTS)
def test_a_fault_has_its_id_and_a_hint(fault, redislock, caches):
    (message,) = found(redislock, **caches)
    assert ids([message]) == [fault]
    assert message.hint
    assert message.level == checks.ERROR


def sources() -> str:
    return (ROOT / "django_redislock" / "checks.py").read_text()


@pytest.mark.parametrize("fault", sorted(set(re.findall(r'"(E\d{3})"', sources()))))
def test_every_id_is_tested_and_described(fault):
    assert fault in {tested for tested, _, _ in FAULTS}
    assert f"django_redislock.{fault}\n" in (ROOT / "docs" / "checks.md").read_text()


@pytest.mark.parametrize(
    ("redislock", "caches"),
    [
        ({}, {}),
        (None, {}),
        ({"default": {}}, {}),
        ({"default": {"CACHE": "locks", "TTL": 5, "WAIT": None}}, {"locks": a_cache()}),
        ({"default": {}, "slow": {"TTL": 600}}, {}),
        ({}, {"default": a_cache(BACKEND=f"{__name__}.OwnCache")}),
        ({}, {"default": a_cache(BACKEND=OwnCache)}),
        ({}, {"default": a_client("django_redis.client.HerdClient")}),
        ({}, {"default": a_client("django_redis.client.SentinelClient")}),
        ({}, {"default": a_client(f"{__name__}.OwnClient")}),
        ({}, {"default": a_cache(LOCATION=["redis://a:6379", "redis://b:6379"])}),
        ({"default": {"CACHE": "locks"}}, {"default": {"BACKEND": "no.such.Cache"}, "locks": a_cache()}),
        ({}, {"default": watched(("a", 1), ("b", 1)), "other": watched(["b", 1], ["a", 1])}),
        ({}, {"default": watched(("a", 1)), "other": watched(("b", 1), LOCATION="redis://other/0")}),
    ],
)
def test_right_settings_have_no_fault(redislock, caches):
    assert found(redislock, **caches) == []


def test_three_servers_are_a_quorum_and_of_four_no_more_may_fail():
    names = ["a", "b", "c"]
    caches = three("a", "b", "c") | {"d": a_cache(LOCATION="redis://d")}
    assert found({"default": {"CACHE": names}}, **caches) == []
    (message,) = found({"default": {"CACHE": [*names, "d"]}}, **caches)
    assert (message.id, message.level) == ("django_redislock.W003", checks.WARNING)
    assert message.msg == "REDISLOCK['default']: of 4 servers no more may fail than of 3."


def test_each_server_of_a_quorum_is_checked():
    caches = three("a", "b", "c") | {"b": a_cache(BACKEND="no.such.Cache")}
    assert ids(found({"default": {"CACHE": ["a", "b", "absent"]}}, **caches)) == ["E009", "E008"]


def test_no_setting_at_all_means_the_default_cache():
    with override_settings(CACHES={"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}):
        del settings.REDISLOCK
        assert ids(check_settings()) == ["E009"]


def test_all_faults_are_told_at_once():
    redislock = {
        "one": {"CACHE": "absent", "TTL": 0, "WAIT": -1, "KEY_FUNCTION": 5, "TIMEOUT": 3},
        "two": "locks",
        "three": {"CACHE": "locks"},
    }
    messages = found(redislock, locks=a_cache(LOCATION="", OPTIONS={"CLIENT_CLASS": "no.such.Client"}))
    assert ids(messages) == ["E002", "E003", "E005", "E006", "E007", "E008", "E001", "E010", "E011"]


def test_a_fault_names_its_alias():
    messages = found({"default": {}, "slow": {"TTL": 0}, "far": {"CACHE": "absent"}})
    assert [re.match(r"REDISLOCK\['(\w+)'\]", message.msg)[1] for message in messages] == ["slow", "far"]  # type: ignore[index]


def test_the_hint_for_a_missing_cache_lists_those_that_there_are():
    (message,) = found({"default": {"CACHE": "absent"}}, locks=a_cache())
    assert "CACHES has default, locks." in str(message.hint)


def test_no_password_is_told():
    messages = [message for _, redislock, caches in FAULTS for message in found(redislock, **caches)]
    assert [message for message in messages if SECRET in f"{message.msg} {message.hint}"] == []


def test_the_check_command_runs_them():
    with (
        override_settings(REDISLOCK={"default": {"TTL": 0}}, CACHES={"default": a_cache()}),
        pytest.raises(SystemCheckError, match=r"django_redislock\.E005"),
    ):
        call_command("check", "--tag", "caches")
