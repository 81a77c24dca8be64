"""`lock("name")`: what users say, see and are told."""

from __future__ import annotations

import datetime
import logging
from typing import Any

import pytest
import redis

from django_redislock import InvalidLockSettings, lock
from django_redislock.keylock import KeyLock
from django_redislock.stores.redis import RedisStore
from tests.flows import is_free

pytestmark = pytest.mark.usefixtures("lock_alias")


def no_connection(*args: Any, **kwargs: Any) -> None:
    raise redis.ConnectionError("No server here.")


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "hint"),
        [
            ({"timeout": 5}, "ttl= .* or wait="),
            ({"blocking_timeout": 5}, "wait="),
            ({"blocking": False}, "nowait="),
            ({"expire": 5}, "ttl="),
            ({"colour": "red"}, "'colour'"),
            ({"nowait": True, "wait": 5}, "one of the two"),
            ({"ttl": None}, "outlives a crash"),
            ({"ttl": "30"}, "number or a timedelta"),
            ({"ttl": True}, "number or a timedelta"),
            ({"wait": "10"}, "number or a timedelta"),
        ],
    )
    def test_a_wrong_argument_is_a_type_error_that_says_the_right_one(self, arguments, hint):
        with pytest.raises(TypeError, match=hint):
            lock("a", **arguments)

    @pytest.mark.parametrize(
        "arguments",
        [
            {"ttl": -1},
            {"ttl": 0},
            {"ttl": 0.001},
            {"ttl": 1e13},
            {"ttl": float("inf")},
            {"ttl": float("nan")},
            {"ttl": datetime.timedelta(seconds=-1)},
            {"wait": -1},
            {"wait": float("inf")},
            {"wait": float("nan")},
        ],
    )
    def test_seconds_out_of_range_are_a_value_error(self, arguments):
        with pytest.raises(ValueError, match="seconds"):
            lock("a", **arguments)

    @pytest.mark.parametrize("name", ["", None, 7, b"a"])
    def test_a_name_is_a_string_that_is_not_empty(self, name):
        with pytest.raises(TypeError, match="string that is not empty"):
            lock(name)

    def test_extending_checks_the_ttl_too(self):
        with lock("a") as lease, pytest.raises(ValueError, match="ttl must be between"):
            lease.extend(-1)

    def test_an_alias_that_does_not_exist_is_told_when_it_is_used(self):
        with pytest.raises(InvalidLockSettings, match="nowhere"), lock("a", alias="nowhere"):
            raise AssertionError("The body must not run.")

    def test_a_name_longer_than_any_screen_works(self):
        with lock("ä" * 5000):
            assert not is_free("ä" * 5000)


class TestInterrupts:
    def test_what_was_granted_to_an_interrupted_acquire_is_given_back(self, monkeypatch):
        acquire = RedisStore.acquire

        def interrupted(self: RedisStore, *args: Any, **kwargs: Any) -> None:
            acquire(self, *args, **kwargs)
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(RedisStore, "acquire", interrupted)
            with pytest.raises(KeyboardInterrupt):
                lock("a").acquire()
        assert is_free("a")

    def test_that_it_could_not_be_given_back_is_logged(self, monkeypatch, caplog):
        def interrupted(self: KeyLock, *args: Any, **kwargs: Any) -> None:
            monkeypatch.setattr(RedisStore, "_evaluating", staticmethod(no_connection))
            raise KeyboardInterrupt

        monkeypatch.setattr("django_redislock.stores.redis.RedisStore.acquire", interrupted)
        with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
            lock("a").acquire()
        assert "Given up while acquiring, and what was taken ends with its ttl" in caplog.text
