"""A net that is cut: the side of the minority gives no lock, and what it gave before it knew is gone when it heals."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from redis import Redis

from django_redislock import LeaseLost, StoreUnavailable, lock
from django_redislock.exceptions import LossReason
from django_redislock.handler import locks
from django_redislock.keys import Key
from django_redislock.stores.base import Answer, Held, Taken
from django_redislock.stores.redis import RedisStore
from django_redislock.stores.verbs import names_of
from tests.conftest import serving
from tests.flows import is_free, until
from tests.servers.net import Net
from tests.servers.sets import ClusterSet, Member, SentinelSet
from tests.settings import cluster_cache

pytestmark = pytest.mark.long

KEY = Key("a")
OURS, THEIRS, WAITERS = "token-of-ours-01", "token-of-theirs2", "token-of-waiter3"
BUCKET = names_of("", KEY.name).bucket


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    net = Net()
    yield net
    net.close()


@pytest.fixture(autouse=True)
def whole(net: Net) -> Iterator[None]:
    """The net is healed at the end."""
    yield
    net.heal()


@pytest.fixture(scope="module")
def cluster_set(net: Net) -> Iterator[ClusterSet]:
    yield from serving(partial(ClusterSet, net=net))


@pytest.fixture(scope="module")
def sentinel_set(net: Net) -> Iterator[SentinelSet]:
    yield from serving(partial(SentinelSet, net=net))


def store_at(server: Member, *, replicas: int = 0) -> RedisStore:
    """For somebody who reaches this server only."""
    client = Redis(port=server.port, socket_timeout=5)
    return RedisStore(lambda: client, scope="minority", prefix="", root=BUCKET, replicas=replicas)


def take(store: Any, token: str, *, channel: str = "") -> Any:
    return store.acquire(KEY, token=token, ttl=60, holder='["h",1,"t",""]', channel=channel)


def refusal(store: Any, token: str = OURS) -> str:
    """Why the store cannot give the lock; nothing where it does."""
    try:
        take(store, token)
    except StoreUnavailable as error:
        return str(error)
    return ""


def names_in(server: Member) -> set[str]:
    """What is there of the lock, but for the fence of its bucket."""
    return {name for name in server.client.keys(f"{BUCKET}:*") if not name.endswith(":fence")}


def replicate(primary: Member, replicas: int) -> None:
    """Wait until all that was written is everywhere."""
    until(lambda: bool(primary.client.execute_command("WAIT", replicas, 500) == replicas))


class TestCluster:
    @pytest.fixture
    def alone(self, cluster: ClusterSet) -> Member:
        """The primary that has the lock, and will be cut off."""
        return cluster.owner(BUCKET)

    @pytest.fixture
    def trusting(self, alone: Member) -> Iterator[None]:
        """It takes long to find out that it is alone."""
        before = alone.client.config_get("cluster-node-timeout")
        alone.client.config_set("cluster-node-timeout", 60_000)
        yield
        alone.client.config_set("cluster-node-timeout", before["cluster-node-timeout"])

    def test_the_minority_gives_none_and_the_majority_does(self, cluster, alone, net):
        replica = cluster.replica_of(alone)
        net.cut(alone.host)
        until(lambda: "ClusterDownError" in refusal(store_at(alone)))
        until(partial(is_given, "a"))
        assert replica.is_primary

    def test_what_it_gave_before_is_gone_when_the_net_heals(self, cluster, alone, net, trusting):
        net.cut(alone.host)
        minority, majority = store_at(alone), locks["default"].store
        assert isinstance(take(minority, OURS), Taken)
        assert isinstance(take(minority, WAITERS, channel="nobody"), Held)
        replica = cluster.replica_of(alone)
        until(lambda: replica.is_primary)
        fence = take(store_at(replica), THEIRS).fence
        net.heal()
        cluster.settle()
        replicate(cluster.owner(BUCKET), 1)
        assert (cluster.owner(BUCKET), names_in(alone)) == (replica, names_in(replica))
        assert not any("queue" in name or "flow" in name for name in names_in(replica))
        assert [majority.renew(KEY, token=OURS, ttl=60), majority.release(KEY, token=OURS, ttl=60)] == [
            Answer.ANOTHERS
        ] * 2
        assert majority.inspect(KEY).fence == fence

    def test_with_min_replicas_it_gives_none_from_the_first_moment(self, alone, net, trusting):
        net.cut(alone.host)
        assert "0 of 1 replicas acknowledged" in refusal(store_at(alone, replicas=1))
        assert store_at(alone).inspect(KEY) is None

    def test_who_holds_what_the_majority_does_not_know_is_told(self, cluster, alone, net, trusting, lost, settings):
        """Although the one that is cut off is the only one that is asked who has what."""
        place = cluster_cache("redis://{}:{}".format(*alone.address))
        place["OPTIONS"]["REDIS_CLIENT_KWARGS"] = {"dynamic_startup_nodes": False}
        settings.CACHES = {**settings.CACHES, "cluster": place}
        net.cut(alone.host)
        replica = cluster.replica_of(alone)
        with pytest.raises(LeaseLost), lock("a", ttl=30):
            until(lambda: replica.is_primary)
            alone.client.config_set("cluster-node-timeout", 1000)
            until(lambda: bool(lost))
        assert lost == [("a", LossReason.STORE_RESTARTED)]


def is_given(name: str) -> bool:
    """Whether the alias "default" gives the lock."""
    try:
        return is_free(name)
    except StoreUnavailable:
        return False


class TestSentinel:
    @pytest.fixture
    def alone(self, sentinels: SentinelSet) -> Member:
        """The primary, which will be cut off."""
        return sentinels.primary

    def test_what_it_gave_is_gone_when_the_net_heals(self, sentinels, alone, net):
        minority = store_at(alone)
        with sentinels.replacing():
            net.cut(alone.host)
            assert isinstance(take(minority, OURS), Taken)
            assert isinstance(take(minority, WAITERS, channel="nobody"), Held)
        majority = locks["default"].store
        fence = take(majority, THEIRS).fence
        net.heal()
        sentinels.settle()
        replicate(sentinels.primary, 2)
        assert names_in(alone) == names_in(sentinels.primary)
        assert not any("queue" in name or "flow" in name for name in names_in(alone))
        assert [majority.renew(KEY, token=OURS, ttl=60), majority.release(KEY, token=OURS, ttl=60)] == [
            Answer.ANOTHERS
        ] * 2
        assert majority.inspect(KEY).fence == fence

    def test_with_min_replicas_it_gives_none(self, alone, net):
        net.cut(alone.host)
        assert "0 of 1 replicas acknowledged" in refusal(store_at(alone, replicas=1))
        assert store_at(alone).inspect(KEY) is None

    def test_who_holds_what_the_majority_does_not_know_is_told(self, sentinels, alone, net, lost):
        net.cut(alone.host)
        with pytest.raises(LeaseLost), lock("b", ttl=12):
            with sentinels.replacing():
                pass
            net.heal()
            sentinels.settle()  # so the former primary follows the new one
            until(lambda: bool(lost))
        assert lost == [("b", LossReason.STORE_RESTARTED)]
