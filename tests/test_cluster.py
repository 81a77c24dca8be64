"""Locks in a Redis Cluster of real servers."""

from __future__ import annotations

from django_redislock import lock
from tests.flows import is_free
from tests.servers.sets import ClusterSet


def test_a_lock_is_held_and_given_back(cluster: ClusterSet):
    with lock("a"):
        assert not is_free("a")
    assert is_free("a")
