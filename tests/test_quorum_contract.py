"""The contract of a store, held by several: the very tests that one server has to pass."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from django_redislock.seconds import LONGEST_TTL
from django_redislock.stores.quorum import QuorumStore
from tests import test_stores
from tests.panels import Panel, empty, real_node

FIXTURES_OF_ONE_SERVER = {"server", "lock_alias", "place", "real_server", "proxy", "faulty"}


def is_general(test: Any) -> bool:
    """Whether a test asks the store and nothing else."""
    return callable(test) and not FIXTURES_OF_ONE_SERVER & set(inspect.signature(test).parameters)


CONTRACT: dict[str, Callable[..., None]] = {
    name: test for name, test in vars(test_stores).items() if name.startswith("test_") and is_general(test)
}
globals().update(CONTRACT)


@pytest.fixture(
    params=[
        (3, "fakes"),
        (5, "fakes"),
        pytest.param((3, "servers"), marks=pytest.mark.long),
        pytest.param((5, "servers"), marks=pytest.mark.long),
    ],
    ids="{0[0]} {0[1]}".format,
)
def store(request: pytest.FixtureRequest) -> Iterator[QuorumStore]:
    count, kind = request.param
    if kind == "fakes":
        yield Panel(count, guard=LONGEST_TTL).store
        return
    request.getfixturevalue("real_redis")
    servers = request.getfixturevalue("servers_of_quorum")[:count]
    empty(servers)
    nodes = [
        real_node(server.url, scope=f"node {number}", guard=LONGEST_TTL, seconds=5)
        for number, server in enumerate(servers)
    ]
    store = QuorumStore(nodes, scope="quorum", guard=LONGEST_TTL)
    yield store
    store.close()


def test_the_contract_has_tests():
    assert len(CONTRACT) >= 20
