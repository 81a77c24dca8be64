"""The `REDISLOCK` setting, and the durations in it and in calls."""

from __future__ import annotations

import math
import posixpath
from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType

import pytest

from django_redislock import InvalidLockSettings, lock
from django_redislock.conf import DEFAULTS, READERS, OnOutage, Options, faults_of, read_options
from django_redislock.seconds import LONGEST_TTL, SHORTEST_TTL, read_ttl, read_wait

NO_NUMBERS = ["30", "", True, False, [], {}, object(), Decimal(3), 1 + 2j]


PATH = "posixpath.join"
FUNCTION = posixpath.join


def test_an_empty_entry_takes_every_default():
    assert read_options("default", {}) == Options(
        cache="default",
        ttl=30,
        wait=10,
        max_hold=300,
        on_outage=OnOutage.RAISE,
        min_replicas=0,
        guard=60,
        key_function=None,
    )


@pytest.mark.parametrize("kind", [dict, MappingProxyType])
def test_every_option_is_read(kind):
    entry = kind({"CACHE": "locks", "TTL": timedelta(minutes=1), "WAIT": None, "MAX_HOLD": 90, "KEY_FUNCTION": PATH})
    assert read_options("default", entry | {"ON_OUTAGE": "optimistic", "MIN_REPLICAS": 1, "GUARD": 120}) == Options(
        cache="locks",
        ttl=60,
        wait=None,
        max_hold=90,
        on_outage=OnOutage.OPTIMISTIC,
        min_replicas=1,
        guard=120,
        key_function=FUNCTION,
    )


def test_several_caches_are_a_quorum():
    assert read_options("default", {"CACHE": ["a", "b", "c"]}).cache == ("a", "b", "c")
    assert read_options("default", {"CACHE": ("a", "b", "c", "d")}).cache == ("a", "b", "c", "d")


def test_one_server_never_sits_out():
    assert read_options("default", {"CACHE": "a", "TTL": 600}).ttl == 600


def test_every_option_has_a_default():
    assert set(DEFAULTS) == set(READERS)


@pytest.mark.parametrize("function", [PATH, FUNCTION])
def test_a_key_function_is_a_function_or_its_path(function):
    assert read_options("default", {"KEY_FUNCTION": function}).key_function is FUNCTION


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (None, r"REDISLOCK\['odd'\] must be a dict, not NoneType"),
        ("default", r"REDISLOCK\['odd'\] must be a dict, not str"),
        (["CACHE"], r"REDISLOCK\['odd'\] must be a dict, not list"),
        (
            {"TIMEOUT": 30},
            f"no option 'TIMEOUT'; there are {', '.join(READERS)}",
        ),
        ({"ttl": 30}, "no option 'ttl'"),
        ({5: 30}, "no option 5"),
        *(({"CACHE": value}, r"\['CACHE'\]: a cache alias is expected") for value in (None, "", 5, b"a", [5, 6, 7])),
        *(({"CACHE": value}, "a quorum has 3 servers or more") for value in ([], ["a"], ["a", "b"], ("a", "b"))),
        ({"CACHE": ["a", "b", "a"]}, "'a' is named more than once"),
        ({"CACHE": ["a", "b", "redis://:hunter2@c"]}, "not a URL"),
        ({"CACHE": ["a", "b", "c"], "TTL": 90}, r"\['GUARD'\]: it must not be shorter than TTL, 60 s than 90 s"),
        ({"CACHE": ["a", "b", "c"], "GUARD": 10}, r"\['GUARD'\]: it must not be shorter than TTL, 10 s than 30 s"),
        ({"GUARD": None}, r"\['GUARD'\]: ttl is a number of seconds"),
        *(({"TTL": value}, r"\['TTL'\]: seconds are a number or a timedelta") for value in NO_NUMBERS),
        *(({"WAIT": value}, r"\['WAIT'\]: seconds are a number or a timedelta") for value in NO_NUMBERS),
        ({"TTL": 0}, r"\['TTL'\]: ttl must be between 0\.01 and 1e\+12 seconds, not 0"),
        ({"TTL": None}, r"\['TTL'\]: ttl is a number of seconds"),
        *(({"MAX_HOLD": value}, r"\['MAX_HOLD'\]: seconds are a number or a timedelta") for value in NO_NUMBERS),
        ({"ON_OUTAGE": "hope"}, r"\['ON_OUTAGE'\]: on_outage is 'raise' or 'optimistic', not 'hope'"),
        ({"MAX_HOLD": 0}, r"\['MAX_HOLD'\]: max_hold must be more than 0 seconds, or None for ever, not 0"),
        ({"WAIT": -1}, r"\['WAIT'\]: wait must be 0 or more seconds, or None for ever, not -1"),
        ({"KEY_FUNCTION": 5}, r"\['KEY_FUNCTION'\]: a function or its dotted path is expected, not 5"),
        ({"KEY_FUNCTION": ""}, "doesn't look like a module path"),
        ({"KEY_FUNCTION": "tenants"}, "doesn't look like a module path"),
        ({"KEY_FUNCTION": "no.such.function"}, "No module named 'no'"),
        ({"KEY_FUNCTION": f"{__name__}.absent"}, 'does not define a "absent"'),
        ({"KEY_FUNCTION": f"{__name__}.PATH"}, "a function or its dotted path is expected"),
    ],
)
def test_a_wrong_entry_is_told(entry, message):
    with pytest.raises(InvalidLockSettings, match=message):
        read_options("odd", entry)


def test_all_faults_of_an_entry_are_found():
    entry = {"CACHE": 5, "TTL": -1, "WAIT": "x", "KEY_FUNCTION": 5, "TIMEOUT": 3, "LOCK": 4}
    faults = ["name", "name", "CACHE", "TTL", "WAIT", "KEY_FUNCTION"]
    assert [fault.about for fault in faults_of("default", entry)] == faults


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (SHORTEST_TTL, 0.01),
        (1, 1.0),
        (2.5, 2.5),
        (timedelta(milliseconds=10), 0.01),
        (timedelta(days=1), 86_400.0),
        (LONGEST_TTL, 1e12),
        (10**12, 1e12),
    ],
)
def test_a_ttl_is_seconds_or_a_timedelta(value, seconds):
    assert (read_ttl(value), type(read_ttl(value))) == (seconds, float)


@pytest.mark.parametrize(
    "value",
    [0, -1, 0.009, timedelta(0), timedelta(seconds=-1), 1.1e12, 10**13, 10**400, math.inf, -math.inf, math.nan],
    ids=lambda value: f"{value!r:.20}",
)
def test_a_ttl_that_redis_does_not_take_is_a_value_error(value):
    with pytest.raises(ValueError, match=r"ttl|seconds"):
        read_ttl(value)


@pytest.mark.parametrize("value", [None, *NO_NUMBERS], ids=repr)
def test_a_ttl_of_another_type_is_a_type_error(value):
    with pytest.raises(TypeError, match=r"ttl|seconds"):
        read_ttl(value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), (0, 0.0), (0.5, 0.5), (10, 10.0), (timedelta(minutes=2), 120.0), (1e300, 1e300)],
)
def test_a_wait_is_seconds_or_a_timedelta_or_for_ever(value, seconds):
    assert read_wait(value) == seconds


@pytest.mark.parametrize(
    "value",
    [-1, -0.001, timedelta(seconds=-1), 10**400, math.inf, -math.inf, math.nan],
    ids=lambda value: f"{value!r:.20}",
)
def test_a_wait_out_of_range_is_a_value_error(value):
    with pytest.raises(ValueError, match=r"wait|seconds"):
        read_wait(value)


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_a_wait_of_another_type_is_a_type_error(value):
    with pytest.raises(TypeError, match="seconds"):
        read_wait(value)


@pytest.mark.parametrize(
    ("terms", "error"),
    [
        ({"ttl": 0}, ValueError),
        ({"ttl": None}, TypeError),
        ({"wait": -1}, ValueError),
        ({"wait": "5"}, TypeError),
        ({"wait": 5, "nowait": True}, TypeError),
    ],
)
def test_a_wrong_duration_is_refused_at_the_call(terms, error):
    with pytest.raises(error):
        lock("a", **terms)


def test_a_url_for_a_cache_alias_is_not_repeated():
    with pytest.raises(InvalidLockSettings, match="not a URL") as caught:
        read_options("default", {"CACHE": "redis://:hunter2@127.0.0.1/0"})
    assert "hunter2" not in str(caught.value)
