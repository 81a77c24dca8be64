"""One exception is one decision; each carries what is known about the lock, also to another process."""

from __future__ import annotations

import copy
import pickle

import pytest
from django.core.exceptions import ImproperlyConfigured

import django_redislock
from django_redislock import (
    Deadlock,
    InvalidLockSettings,
    LeaseLost,
    LockBusy,
    LockNotHeld,
    QuorumNotReached,
    RedisLockError,
    StoreUnavailable,
    VersionConflict,
    WaitTimeout,
)
from django_redislock.holder import Holder
from django_redislock.stores.base import Edge

SOMEBODY = Holder(host="web-1", pid=42, thread="MainThread", doing="manage.py migrate")
ERRORS = [
    Deadlock,
    InvalidLockSettings,
    LeaseLost,
    LockBusy,
    LockNotHeld,
    QuorumNotReached,
    RedisLockError,
    StoreUnavailable,
    VersionConflict,
    WaitTimeout,
]

every_error = pytest.mark.parametrize("kind", ERRORS)


def test_every_error_is_at_the_top_of_the_package():
    public = {getattr(django_redislock, name) for name in django_redislock.__all__}
    assert {kind for kind in public if isinstance(kind, type) and issubclass(kind, Exception)} == set(ERRORS)


@every_error
def test_every_error_has_one_root(kind):
    assert issubclass(kind, RedisLockError)


@every_error
def test_every_error_says_when_to_expect_it(kind):
    assert kind.__doc__


@pytest.mark.parametrize(
    ("kind", "parents"),
    [
        (LockBusy, set()),
        (WaitTimeout, {LockBusy}),
        (Deadlock, set()),
        (LeaseLost, set()),
        (LockNotHeld, set()),
        (StoreUnavailable, set()),
        (VersionConflict, set()),
        (InvalidLockSettings, set()),
    ],
)
def test_no_error_is_mistaken_for_another(kind, parents):
    others = set(ERRORS) - {kind, RedisLockError}
    assert {other for other in others if issubclass(kind, other)} == parents


def test_wrong_settings_are_djangos_error_too():
    assert issubclass(InvalidLockSettings, ImproperlyConfigured)


@every_error
def test_what_is_not_known_is_none(kind):
    error = kind("Something happened.")
    assert (str(error), error.key, error.holder) == ("Something happened.", None, None)


@every_error
@pytest.mark.parametrize("carry", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_key_and_holder_reach_another_process(kind, carry):
    carried = carry(kind("Something happened.", key="bank.Account:42", holder=SOMEBODY))
    assert type(carried) is kind
    assert (str(carried), carried.key, carried.holder) == ("Something happened.", "bank.Account:42", SOMEBODY)


def test_the_cycle_reaches_another_process():
    edges = (Edge(key="bank.Account:42", holder=SOMEBODY),)
    carried = pickle.loads(pickle.dumps(Deadlock("Never.", key="bank.Account:42", edges=edges)))
    assert carried.edges == edges
