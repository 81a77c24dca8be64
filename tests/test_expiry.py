"""A lock that is given up without being released: it is nobody's until its time is over."""

from __future__ import annotations

import pytest
from django.core.cache import caches
from django.db import transaction

from django_redislock import LockNotHeld, lock
from django_redislock.expiry import leave_to_expire
from django_redislock.holds import held_here
from tests.flows import attempt, is_free


@pytest.fixture(autouse=True)
def _on_each_redis(lock_alias: str) -> None:
    pass


def test_nobody_gets_it_not_even_who_held_it():
    guard = lock("a", nowait=True)
    lease = guard.acquire()
    leave_to_expire(guard, after=60)
    assert lease.ended
    assert lease not in [hold.lease for hold in held_here()]
    assert attempt("a") == "busy"
    with pytest.raises(LockNotHeld):
        guard.release()


def test_of_one_that_was_entered_twice_the_inner_is_given_back_as_ever():
    guard = lock("a")
    lease = guard.acquire()
    guard.acquire()
    leave_to_expire(guard, after=60)
    assert not lease.ended
    guard.release()
    assert is_free("a")


@pytest.mark.django_db(transaction=True)
def test_in_a_transaction_it_is_released_at_its_end():
    guard = lock("a")
    with transaction.atomic():
        guard.acquire()
        leave_to_expire(guard, after=60)
        assert not is_free("a")
    assert is_free("a")


def test_what_redis_has_lost_cannot_be_kept(lock_alias):
    guard = lock("a")
    guard.acquire()
    caches[lock_alias].clear()
    with pytest.raises(LockNotHeld):
        leave_to_expire(guard, after=60)
    assert is_free("a")


def test_a_child_of_fork_does_not_touch_what_its_parent_holds(monkeypatch):
    guard = lock("a", ttl=30)
    lease = guard.acquire()
    with monkeypatch.context() as child:
        child.setattr(lease, "pid", -1)
        with pytest.raises(LockNotHeld, match="forked"):
            leave_to_expire(guard, after=60)
    held = guard.info()
    assert held is not None
    assert held.remaining <= 30
    guard.release()
