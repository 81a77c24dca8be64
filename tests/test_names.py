"""`lock("name")`: what users say, see and are told."""

from __future__ import annotations

import datetime
import logging
from typing import Any

import pytest
from django.core.cache import caches

from django_redislock import InvalidLockSettings, LeaseLost, LockBusy, LockNotHeld, StoreUnavailable, WaitTimeout, lock
from django_redislock.keylock import KeyLock
from django_redislock.stores.redis import RedisStore
from tests.flows import elsewhere, is_free
from tests.testapp.models import Account

pytestmark = pytest.mark.usefixtures("lock_alias")


def no_connection(*args: Any, **kwargs: Any) -> None:
    raise ConnectionRefusedError("No server here.")


class TestUse:
    def test_with_gives_the_lease_and_gives_it_back(self):
        with lock("a") as lease:
            assert lease.state == "held"
            assert 0 < lease.remaining <= 30
            assert not is_free("a")
        assert lease.state == "released"
        assert lease.remaining == 0
        assert is_free("a")

    def test_a_lease_that_was_given_back_says_so(self):
        with lock("a") as lease:
            pass
        with pytest.raises(LeaseLost, match="has been given back"):
            lease.ensure_held()

    def test_an_exception_passes_through_and_releases(self):
        with pytest.raises(ValueError, match="body"), lock("a"):
            raise ValueError("body")
        assert is_free("a")

    def test_by_hand(self):
        guard = lock("a")
        lease = guard.acquire(wait=0)
        assert lease.key.name == "a"
        guard.release()
        assert is_free("a")

    def test_the_lease_is_extended(self):
        with lock("a", ttl=5) as lease:
            lease.extend(60)
            assert lease.remaining > 50
            info = lock("a").info()
            assert info is not None
            assert info.remaining > 50

    def test_who_holds_it_is_known_to_everyone(self):
        with lock("a") as lease:
            info = elsewhere(lock("a").info)
        assert (info.key, info.fence) == ("a", lease.fence)
        assert info.holder.thread == "MainThread"
        assert abs(info.since - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=1)
        assert lock("a").info() is None

    def test_a_name_that_spells_a_row_is_that_rows_lock(self, db):
        with lock("testapp.Account:7"):
            assert Account.objects.is_locked(7)


class TestRefusals:
    def test_not_waiting_says_who_holds_it(self):
        with (
            lock("a"),
            pytest.raises(LockBusy, match=r"^a is held by \S+ pid \d+ MainThread .* for \d+\.\d s; not") as e,
        ):
            elsewhere(lock("a", nowait=True).acquire)
        assert type(e.value) is LockBusy
        assert e.value.key == "a"
        assert e.value.holder.thread == "MainThread"

    def test_waiting_in_vain_says_for_how_long(self):
        with lock("a"), pytest.raises(WaitTimeout, match=r"waited 0\.05 s"):
            elsewhere(lock("a", wait=datetime.timedelta(milliseconds=50)).acquire)

    def test_the_wait_of_acquire_overrides_that_of_the_lock(self):
        with lock("a"), pytest.raises(LockBusy, match="not waited for"):
            elsewhere(lambda: lock("a", wait=60).acquire(wait=0))

    def test_the_wait_of_the_setting_counts_otherwise(self, settings):
        settings.REDISLOCK = {"default": {"CACHE": "fake", "WAIT": 0}}
        with lock("a"), pytest.raises(LockBusy, match="not waited for"):
            elsewhere(lock("a").acquire)

    def test_the_token_is_in_no_text(self):
        with lock("a") as lease, pytest.raises(LockBusy) as refused:
            elsewhere(lock("a", nowait=True).acquire)
        assert lease.token not in f"{lease!r} {refused.value} {vars(refused.value)}"


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


class TestLoss:
    def test_a_lease_that_is_gone_is_told_at_the_end_of_the_block(self, lock_alias):
        with pytest.raises(LeaseLost, match="another may hold it now"), lock("a"):
            caches[lock_alias].clear()

    def test_the_bodys_own_exception_wins(self, lock_alias):
        with pytest.raises(ValueError, match="body") as caught, lock("a"):
            caches[lock_alias].clear()
            raise ValueError("body")
        assert "was lost" in caught.value.__notes__[0]

    def test_releasing_by_hand_what_is_gone_is_told(self, lock_alias):
        guard = lock("a")
        guard.acquire()
        caches[lock_alias].clear()
        with pytest.raises(LockNotHeld, match="nobody holds it now"):
            guard.release()

    def test_extending_what_is_gone_is_told_and_brings_nothing_back(self, lock_alias):
        with pytest.raises(LeaseLost), lock("a") as lease:
            caches[lock_alias].clear()
            with pytest.raises(LockNotHeld):
                lease.extend()
            assert lease.state == "lost"
            assert is_free("a")

    def test_extending_what_another_holds_is_told(self, lock_alias):
        successor = lock("a")
        with pytest.raises(LeaseLost), lock("a") as lease:
            caches[lock_alias].clear()
            elsewhere(successor.acquire)
            with pytest.raises(LockNotHeld, match="another holds it now"):
                lease.extend()


class TestRedisAway:
    @pytest.fixture
    def away(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Takes the server away."""
        return lambda: monkeypatch.setattr(
            "django_redislock.stores.redis.RedisStore._evaluating", staticmethod(no_connection)
        )

    def test_acquiring_never_reads_as_busy(self, away):
        away()
        with pytest.raises(StoreUnavailable, match="nobody knows who holds it") as caught, lock("a"):
            raise AssertionError("The body must not run.")
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)
        assert caught.value.key == "a"

    def test_a_body_that_is_done_stays_done(self, away, caplog):
        with lock("a"):
            away()
        assert "stays taken until its ttl of 30 s" in caplog.text

    def test_releasing_by_hand_tells(self, away):
        guard = lock("a")
        guard.acquire()
        away()
        with pytest.raises(StoreUnavailable):
            guard.release()


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
