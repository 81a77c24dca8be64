"""The contract of a store, held by several: the very tests that one server has to pass."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from django_redislock.seconds import LONGEST_TTL
from django_redislock.stores.quorum import QuorumStore
from tests import test_stores
from tests.panels import Panel

FIXTURES_OF_ONE_SERVER = {"server", "lock_alias", "place", "real_server", "proxy", "faulty"}


def is_general(test: Any) -> bool:
    """Whether a test asks the store and nothing else."""
    return callable(test) and not FIXTURES_OF_ONE_SERVER & set(inspect.signature(test).parameters)


CONTRACT: dict[str, Callable[..., None]] = {
    name: test for name, test in vars(test_stores).items() if name.startswith("test_") and is_general(test)
}
globals().update(CONTRACT)


@pytest.fixture(params=[3, 5], ids=lambda count: f"{count} fakes")
def store(request: pytest.FixtureRequest) -> QuorumStore:
    return Panel(request.param, guard=LONGEST_TTL).store


def test_the_contract_has_tests():
    assert len(CONTRACT) >= 20
