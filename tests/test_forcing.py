"""An operator takes a lock away from whoever holds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.test import override_settings

from django_redislock import LeaseLost, LockNotHeld, lock, lock_many, signals
from django_redislock.forcing import force_release, model_of
from django_redislock.guards import NamedLock
from tests.flows import attempt, elsewhere, is_free, until, waiters_of
from tests.testapp.models import Account

pytestmark = pytest.mark.usefixtures("lock_alias")


@pytest.fixture
def forced() -> Iterator[list[dict[str, Any]]]:
    """What was said of locks that were taken away."""
    told: list[dict[str, Any]] = []
    receiver = lambda **named: told.append(named)
    signals.lock_forced.connect(receiver)
    yield told
    signals.lock_forced.disconnect(receiver)


def test_it_frees_the_lock_and_gives_who_held_it(caplog):
    with pytest.raises(LeaseLost), lock("a") as lease:
        info = force_release("a")
        assert (info.key, info.fence, info.holder.thread) == ("a", lease.fence, "MainThread")
        assert is_free("a")
    assert "Taken away by force: a, which " in caplog.text


def test_where_nobody_holds_it_there_is_nothing_to_take(forced):
    assert force_release("a") is None
    assert forced == []


def test_who_waits_first_gets_it():
    with pytest.raises(LeaseLost), lock("a"):
        waiting = lock("a", wait=30)

        def wait() -> str:
            with waiting:
                return "entered"

        def force() -> None:
            until(lambda: waiters_of("a") == 1)
            force_release("a")

        assert in_two_threads(wait, force) == "entered"


def in_two_threads(one: Callable[[], str], other: Callable[[], None]) -> str:
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(one)
        pool.submit(other).result()
        return first.result()


@pytest.mark.parametrize(
    ("name", "sender"),
    [("a", NamedLock), ("testapp.Account:1", Account), ("no.Model:1", NamedLock), ("a:testapp.Account:1", NamedLock)],
)
def test_the_signal_says_who_held_it(forced, name, sender):
    guard = lock(name)
    guard.acquire()
    info = force_release(name)
    with pytest.raises(LockNotHeld):
        guard.release()
    assert [(told["sender"], told["info"]) for told in forced] == [(sender, info)]


def test_who_was_forced_out_is_told_so_when_it_gives_back():
    guard = lock("a")
    guard.acquire()
    force_release("a")
    with pytest.raises(LockNotHeld, match="released by force"):
        guard.release()


def test_it_is_told_so_when_it_extends():
    with pytest.raises(LeaseLost), lock("a") as lease:
        force_release("a")
        with pytest.raises(LockNotHeld, match="released by force"):
            lease.extend()


def test_of_several_only_the_one_is_taken():
    with pytest.raises(LeaseLost, match="lease on b "), lock_many(["a", "b"]):
        force_release("b")
        assert not is_free("a")
        assert is_free("b")
    assert is_free("a")


def test_another_holder_that_came_meanwhile_keeps_it():
    with pytest.raises(LeaseLost), lock("a"):
        force_release("a")
        successor = lock("a")
        elsewhere(successor.acquire)
    assert attempt("a") == "busy"


def in_oslo(name: str, *, model: Any) -> str:
    return f"oslo:{name}"


def test_the_name_is_the_one_under_which_it_is_kept(lock_alias):
    with override_settings(REDISLOCK={"default": {"CACHE": lock_alias, "KEY_FUNCTION": in_oslo}}):
        with pytest.raises(LeaseLost), lock("a"):
            assert force_release("a") is None
            assert force_release(lock("a").info().key) is not None


def test_a_name_that_spells_a_rows_key_names_its_model():
    assert [model_of(name) for name in ("testapp.Account:1", "testapp.Account", "a.b.c:1")] == [Account, None, None]
