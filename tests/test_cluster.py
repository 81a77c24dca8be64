"""Locks in a Redis Cluster of real servers: several slots, nodes that fail, and slots that move to another node."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any

import pytest
from django.core.cache import caches
from redis.exceptions import MovedError, ResponseError

from django_redislock import (
    Deadlock,
    LeaseLost,
    LockBusy,
    StoreUnavailable,
    WaitTimeout,
    lock,
    lock_many,
    overview,
    signals,
)
from django_redislock.conf import InvalidLockSettings
from django_redislock.exceptions import LossReason
from django_redislock.handler import locks
from django_redislock.keylock import operator_token
from django_redislock.keys import Key, bucket_of
from django_redislock.stores.base import Answer, Blocked, Held, Renewal, Taken, TakenMany, Way
from django_redislock.stores.cluster import ClusterStore
from django_redislock.stores.clusternodes import Nodes
from django_redislock.stores.verbs import names_of
from tests.flows import attempt, elsewhere, is_free, until, waiters_of
from tests.ledger import COINS, PURSES, Ledger
from tests.servers.sets import ClusterSet, Member
from tests.settings import cluster_cache

pytestmark = pytest.mark.usefixtures("cluster")
OURS, THEIRS, NEW = "0" * 32, "1" * 32, "2" * 32
A, WHO = Key("a"), '["h",1,"t",""]'


def bucket(name: str) -> str:
    return names_of("", name).bucket


def names_on(cluster: ClusterSet, server: Member) -> Iterator[str]:
    """Names of locks in different buckets that a node has."""
    seen = set()
    for number in range(10_000):
        name = f"shelf-{number}"
        if bucket(name) not in seen and cluster.owner(bucket(name)) is server:
            seen.add(bucket(name))
            yield name


@pytest.fixture
def apart(cluster: ClusterSet) -> list[str]:
    """A name on each node."""
    return [next(names_on(cluster, server)) for server in cluster.primaries]


@pytest.fixture
def store(cluster: ClusterSet) -> ClusterStore:
    store = locks["default"].store
    assert isinstance(store, ClusterStore)
    return store


def channels_of(server: Member) -> list[str]:
    """The channels that somebody listens on at a node: those of its slots, where it knows such."""
    with suppress(ResponseError):
        return list(server.client.execute_command("PUBSUB", "SHARDCHANNELS", "*:wake:*"))
    return list(server.client.execute_command("PUBSUB", "CHANNELS", "*:wake:*"))


def move(cluster: ClusterSet, name: str, **how: Any) -> None:
    """Move the slot of a lock to another node."""
    owner = cluster.owner(bucket(name))
    cluster.move(bucket(name), next(server for server in cluster.primaries if server is not owner), **how)


class TestOneLock:
    def test_it_is_held_and_given_back(self):
        with lock("a"):
            assert not is_free("a")
        assert is_free("a")

    def test_who_waits_is_woken_in_order(self):
        order: list[int] = []

        def stand(number: int) -> None:
            with lock("a", wait=20):
                order.append(number)

        threads = [threading.Thread(target=stand, args=(number,)) for number in range(3)]
        with lock("a", ttl=60):
            for number, thread in enumerate(threads):
                thread.start()
                until(partial(waits, "a", number + 1))
        for thread in threads:
            thread.join()
        assert order == [0, 1, 2]

    def test_a_waiter_listens_in_the_slot_of_its_lock(self, cluster):
        with lock("a"):
            waiting = threading.Thread(target=attempt, args=("a",), kwargs={"wait": 20})
            waiting.start()
            until(lambda: waiters_of("a") == 1)
            channels = channels_of(cluster.owner(bucket("a")))
        waiting.join()
        assert any(channel.startswith(f"{bucket('a')}:wake:") for channel in channels)

    def test_a_grant_is_only_a_reason_to_ask(self, store):
        with lock("a", ttl=60):
            ear = store.part(Key("a")).ear(OURS)
            store.acquire(Key("a"), token=OURS, ttl=60, holder=WHO, channel=ear.channel)
        assert ear.listen(20) is None
        ear.close()
        assert isinstance(store.acquire(Key("a"), token=OURS, ttl=60, holder=WHO), Taken)
        store.release(Key("a"), token=OURS, ttl=60)

    @pytest.mark.parametrize(("are_neighbours", "refusal"), [(True, Deadlock), (False, WaitTimeout)])
    def test_a_cycle_is_refused_within_a_bucket_and_times_out_across(self, apart, are_neighbours, refusal):
        one, other = neighbours(2) if are_neighbours else apart[:2]
        held, outcomes = threading.Event(), list[str]()

        def take_both() -> None:
            with lock(other, wait=20):
                held.set()
                with lock(one, wait=20):
                    outcomes.append("has both")

        opposite = threading.Thread(target=take_both)
        with lock(one):
            opposite.start()
            held.wait(20)
            until(lambda: waiters_of(one) == 1)
            with pytest.raises(refusal), lock(other, wait=0.5):
                pytest.fail("Both would wait for ever.")
        opposite.join()
        assert outcomes == ["has both"]


def waits(name: str, count: int) -> bool:
    """Whether so many wait for a lock."""
    return waiters_of(name) == count


def neighbours(count: int) -> list[str]:
    """Names of one bucket."""
    names = (f"shelf-{number}" for number in range(10_000))
    return [name for name in names if bucket_of(name) == 0][:count]


class TestSeveral:
    def test_all_are_held_and_given_back(self, apart):
        with lock_many(apart) as leases:
            assert [lease.key.name for lease in leases] == apart
            assert not any(map(is_free, apart))
        assert all(map(is_free, apart))

    @pytest.mark.parametrize("at", [0, 1, 2])
    def test_all_or_none(self, apart, at):
        def ask() -> None:
            with lock_many(apart, nowait=True):
                pytest.fail("One of them is somebody's.")

        with lock(apart[at]):
            with pytest.raises(LockBusy, match=f"^{apart[at]} is held by"):
                elsewhere(ask)
            assert [is_free(name) for name in apart] == [place != at for place in range(3)]

    def test_those_that_are_free_are_the_first_ones(self, apart):
        names = [*apart, *(f"book-{number}" for number in range(9))]

        def take() -> list[str]:
            with lock_many(names, skip_locked=True, limit=4) as leases:
                return [lease.key.name for lease in leases]

        with lock(names[0]), lock(names[3]):
            assert elsewhere(take) == [names[1], names[2], names[4], names[5]]

    def test_who_waits_gets_one_after_the_other(self, apart):
        entered = threading.Event()

        def stand() -> None:
            with lock_many(apart, wait=20):
                entered.set()

        waiting = threading.Thread(target=stand)
        with lock_many(apart):
            waiting.start()
            until(lambda: sum(map(waiters_of, apart)) == 1)
        waiting.join()
        assert entered.is_set()
        assert all(map(is_free, apart))

    def test_what_a_waiter_has_of_later_buckets_is_given_back(self, store, apart):
        keys = sorted(map(Key, apart), key=lambda key: bucket_of(key.name))
        ask: Any = {"token": OURS, "ttl": 30, "holder": '["h",1,"t",""]', "limit": 3}
        assert isinstance(store.acquire_many(keys, way=Way.LINE, **ask), TakenMany)
        forced_out(store, keys[0])
        with lock(keys[0].name):
            store.acquire_many(keys, way=Way.LINE, **ask)
            assert [store.inspect(key) is None for key in keys] == [False, True, True]

    def test_transfers_in_all_directions_end(self):
        names = [f"account-{number}" for number in range(8)]
        turns = [0] * 4

        def transfer(number: int) -> None:
            for turn in range(10):
                with lock_many([names[(number + turn) % 8], names[(number * 3 + turn * 5 + 1) % 8]], wait=30):
                    turns[number] += 1

        threads = [threading.Thread(target=transfer, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert turns == [10] * 4

    def test_a_release_tells_each(self, store, apart):
        keys = list(map(Key, apart))
        store.acquire_many(keys, token=OURS, ttl=30, holder=WHO, way=Way.ALL, limit=3)
        forced_out(store, keys[1])
        assert store.release_many(keys, token=OURS, ttl=60) == [Answer.DONE, Answer.FORCED, Answer.DONE]


class TestLooking:
    def test_all_that_is_held_is_listed(self, apart):
        with lock_many(apart):
            assert sorted(found.name for found in overview.held()) == sorted(apart)
            assert all(overview.infos(apart))
        assert not overview.held()
        assert overview.infos(apart) == [None] * 3

    def test_who_waits_is_listed(self):
        with lock("a"):
            waiting = threading.Thread(target=attempt, args=("a",), kwargs={"wait": 20})
            waiting.start()
            until(lambda: waiters_of("a") == 1)
            (found,) = overview.held(queues=True)
        waiting.join()
        assert found.waiters == len(found.queue) == 1


class TestMovedSlots:
    def test_a_held_lock_is_held_at_the_new_node(self, cluster):
        with lock("a", ttl=60) as lease:
            move(cluster, "a")
            assert not is_free("a")
            lease.extend(60)
        assert is_free("a")

    def test_a_waiter_is_woken_at_the_new_node(self, cluster):
        entered = threading.Event()

        def stand() -> None:
            with lock("a", wait=50, ttl=60):
                entered.set()

        waiting = threading.Thread(target=stand)
        with lock("a", ttl=60):
            waiting.start()
            until(lambda: waiters_of("a") == 1)
            move(cluster, "a")
            until(lambda: channels_of(cluster.owner(bucket("a"))) != [])
        waiting.join()
        assert entered.is_set()

    def test_while_a_slot_is_on_its_way_it_is_waited_for(self, cluster, store):
        target = on_its_way(cluster, "a")
        answers = []
        asking = threading.Thread(
            target=lambda: answers.append(store.acquire(Key("a"), token=OURS, ttl=30, holder=WHO))
        )
        asking.start()
        cluster.move(bucket("a"), target)
        asking.join()
        assert isinstance(answers[0], Taken)
        assert cluster.owner(bucket("a")) is target

    @pytest.mark.parametrize(
        ("ask", "told"),
        [
            (lambda store: store.release(A, token=OURS, ttl=60), Answer.DONE),
            (lambda store: store.release_many([A], token=OURS, ttl=60), [Answer.DONE]),
            (lambda store: store.leave(A, token=OURS), None),
            (lambda store: store.leave_many([A], token=OURS), None),
            (lambda store: store.renew(A, token=OURS, ttl=40), Answer.DONE),
            (lambda store: store.renew_many([Renewal(A, OURS, 40)], within=5), [Answer.DONE]),
            (lambda store: type(store.force(A, token="!" * 32, ttl=30)), Held),
            (lambda store: type(store.acquire(A, token=NEW, ttl=30, holder=WHO, channel=heard_by(store, NEW))), Held),
            (lambda store: type(line_up(store, NEW)), Blocked),
        ],
        ids=[
            "release",
            "release_many",
            "leave",
            "leave_many",
            "renew",
            "renew_many",
            "force",
            "acquire",
            "acquire_many",
        ],
    )
    def test_nothing_is_begun_while_a_slot_is_on_its_way_and_all_of_it_is_there_yet(self, cluster, store, ask, told):
        """A script would be broken off at the first key that it comes upon and that is not there."""
        store.acquire(A, token=OURS, ttl=30, holder=WHO)
        assert isinstance(store.acquire(A, token=THEIRS, ttl=30, holder=WHO, channel=heard_by(store, THEIRS)), Held)
        heard_by(store, NEW)
        source, target = cluster.owner(bucket("a")), on_its_way(cluster, "a")
        before, errors = all_of(source), errors_of(source)
        answers = []
        asking = threading.Thread(target=lambda: answers.append(ask(store)))
        asking.start()
        until(lambda: errors_of(source) > errors)
        assert all_of(source) == before
        cluster.move(bucket("a"), target)
        asking.join()
        assert answers == [told]

    def test_a_slot_that_stays_on_its_way_is_a_fault_and_never_busy(self, cluster, store, monkeypatch):
        monkeypatch.setattr("django_redislock.stores.route.PATIENCE", 0.2)
        on_its_way(cluster, "a")
        try:
            with pytest.raises(StoreUnavailable, match=r"AskError|TryAgainError"):
                store.acquire(Key("a"), token=OURS, ttl=30, holder=WHO)
        finally:
            for server in cluster.primaries:
                server.client.execute_command("CLUSTER", "SETSLOT", slot_of(cluster, "a"), "STABLE")
        assert isinstance(store.acquire(Key("a"), token=THEIRS, ttl=30, holder=WHO), Taken)


def slot_of(cluster: ClusterSet, name: str) -> int:
    return int(cluster.primaries[0].client.execute_command("CLUSTER", "KEYSLOT", bucket(name)))


def on_its_way(cluster: ClusterSet, name: str) -> Member:
    """The slot of a lock is on its way to another node from now on, which has nothing of it yet."""
    owner = cluster.owner(bucket(name))
    target = next(server for server in cluster.primaries if server is not owner)
    slot = slot_of(cluster, name)
    target.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.name_of(owner))
    owner.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.name_of(target))
    return target


def all_of(server: Member) -> dict[bytes, bytes]:
    """All that a node has."""
    return {name: server.client.dump(name) for name in server.client.keys("*")}


def errors_of(server: Member) -> int:
    """How many questions a node has refused."""
    counts = map(str, server.client.info("errorstats").values())  # read as a table by some of redis-py's versions
    return sum(int(re.sub(r"\D", "", count)) for count in counts)


def heard_by(store: ClusterStore, token: str) -> str:
    """The channel of a waiter."""
    return store.part(A).ear(token).channel


def line_up(store: ClusterStore, token: str) -> object:
    """Stand in line for several keys."""
    channel = store.ear(token).channel
    return store.acquire_many([A], token=token, ttl=30, holder=WHO, way=Way.LINE, limit=1, channel=channel)


def forced_out(store: ClusterStore, key: Key) -> None:
    """An operator takes the key away, and gives it up."""
    token = operator_token()
    assert store.force(key, token=token, ttl=10) is not None
    assert store.release(key, token=token, ttl=60) is Answer.DONE


def fail_over(cluster: ClusterSet, name: str) -> None:
    """Ask the replica of the node that has a lock to take over."""
    cluster.fail_over(cluster.owner(bucket(name)))


def lose(cluster: ClusterSet, name: str) -> None:
    """Kill the node that has a lock, and wait until its replica has taken over."""
    owner = cluster.owner(bucket(name))
    replica = cluster.replica_of(owner)
    owner.kill()
    until(lambda: replica.is_primary)


def replicate(cluster: ClusterSet, name: str) -> None:
    """Wait until the replica has all that was written."""
    assert cluster.owner(bucket(name)).client.execute_command("WAIT", 1, 5000) == 1


def works(name: str) -> bool:
    """Whether a lock can be asked for."""
    try:
        lock(name).info()
    except StoreUnavailable:
        return False
    return True


def enter_at_last() -> None:
    """Wait for lock "a", again when nobody could be asked: so it may be while a replica takes over."""
    while True:
        with suppress(StoreUnavailable), lock("a", wait=50, ttl=60):
            return


@pytest.mark.parametrize("happens", [fail_over, lose])
class TestFailOver:
    def test_a_lock_that_was_replicated_goes_on(self, cluster, happens):
        with lock("a", ttl=60) as lease:
            replicate(cluster, "a")
            happens(cluster, "a")
            until(partial(works, "a"))
            assert not is_free("a")
            lease.extend(60)
        assert is_free("a")

    def test_a_waiter_is_woken_at_the_new_primary(self, cluster, happens):
        waiting = threading.Thread(target=enter_at_last)
        with lock("a", ttl=60):
            waiting.start()
            until(partial(waits, "a", 1))
            replicate(cluster, "a")
            happens(cluster, "a")
            until(partial(works, "a"))
        waiting.join(20)
        assert not waiting.is_alive()

    def test_the_locks_of_the_other_nodes_go_on(self, cluster, apart, happens):
        with lock_many(apart, ttl=12) as leases:
            for name in apart:
                replicate(cluster, name)
            happens(cluster, apart[0])
            until(partial(works, apart[0]))
            until(lambda: min(lease.remaining for lease in leases) < 9)
            until(lambda: min(lease.remaining for lease in leases) > 9)
            assert {lease.state for lease in leases} == {"held"}


def nodes_of(alias: str) -> Nodes:
    """What an alias knows of its cluster."""
    store = locks[alias].store
    assert isinstance(store, ClusterStore)
    return store.nodes


@pytest.fixture
def deaf(cluster: ClusterSet) -> Iterator[Member]:
    """A node that knows of all replicas, but hears of no fail-over of lock "a".

    Who takes slots over lets nobody tell it whose they are.
    """
    owner = cluster.owner(bucket("a"))
    node = next(server for server in cluster.primaries if server is not owner)
    until(partial(cluster.knows_replicas, node))
    slots = cluster.slots_of(owner)
    cluster.set_slots(node, slots, "IMPORTING", cluster.name_of(owner))
    yield node
    cluster.set_slots(node, slots, "STABLE")


@pytest.fixture
def ask_only(settings: Any) -> Callable[[Member], None]:
    """Ask one node alone who has what: as with a name of the whole cluster that leads to this one."""

    def ask_only(node: Member) -> None:
        place = cluster_cache(f"{node.url}?")
        place["OPTIONS"]["REDIS_CLIENT_KWARGS"] = {"dynamic_startup_nodes": False}
        settings.CACHES = {**settings.CACHES, "cluster": place}

    return ask_only


class TestAFailOverThatTheFirstHasNotHeardOf:
    """Who still names the dead node is not believed, and not the only one that is asked."""

    def test_a_lock_is_asked_for_at_the_new_primary(self, cluster, deaf, ask_only):
        ask_only(deaf)
        with lock("a", ttl=60):
            replicate(cluster, "a")
            lose(cluster, "a")
            until(partial(works, "a"))
            assert not is_free("a")
        assert is_free("a")

    def test_so_it_is_where_the_first_is_the_dead_one(self, cluster, ask_only):
        ask_only(cluster.owner(bucket("a")))
        assert is_free("a")
        lose(cluster, "a")
        until(partial(works, "a"))

    def test_who_is_sent_on_to_the_dead_one_asks_the_others(self, cluster, deaf, ask_only):
        ask_only(deaf)
        lose(cluster, "a")
        nodes_of("default").learn(bucket("a"), MovedError(f"0 {deaf.address[0]}:{deaf.address[1]}"))
        until(partial(works, "a"))

    def test_one_that_none_of_the_others_believes_is_found_too(self, cluster, deaf, ask_only):
        ask_only(deaf)
        nodes = nodes_of("default")
        replica = cluster.replica_of(cluster.owner(bucket("a")))

        def knows_the_replica() -> bool:
            nodes.refresh()  # its client may be one that an earlier test has made, with whom it knew then
            known = {(node.host, node.port) for node in nodes.client.get_nodes()}
            return replica.address in known

        until(knows_the_replica)
        for server in cluster.servers:
            if server is not replica:
                nodes.note_hanging(nodes._node(server.address), 60)
        lose(cluster, "a")
        until(partial(works, "a"))

    def test_a_waiter_is_woken_there(self, cluster, deaf, ask_only):
        ask_only(deaf)
        with lock("a", ttl=60):
            waiting = threading.Thread(target=enter_at_last)
            waiting.start()
            until(partial(waits, "a", 1))
            replicate(cluster, "a")
            lose(cluster, "a")
            until(lambda: channels_of(cluster.owner(bucket("a"))) != [])
        waiting.join(20)
        assert not waiting.is_alive()

    def test_nobody_is_asked_who_did_not_answer_a_moment_ago(self, cluster, deaf, ask_only):
        ask_only(deaf)
        assert is_free("a")
        lose(cluster, "a")
        nodes = nodes_of("default")
        for server in cluster.servers:
            nodes.note_hanging(nodes._node(server.address), 60)
        with pytest.raises(StoreUnavailable, match="Connection refused"):
            lock("a").info()


class TestLosses:
    def test_each_lease_that_the_new_primary_does_not_know_is_told(self, cluster, apart):
        told: list[tuple[str, LossReason]] = []
        note = lambda lease, reason, **named: told.append((lease.key.name, reason))
        signals.lock_lost.connect(note)
        try:
            owner = cluster.owner(bucket(apart[0]))
            owner.client.execute_command("ACL", "SETUSER", "default", "-psync", "-sync", "-replconf")
            owner.client.execute_command("CLIENT", "KILL", "TYPE", "replica")
            with pytest.raises(LeaseLost), lock_many(apart, ttl=10) as leases:
                lose(cluster, apart[0])
                until(lambda: bool(told))
                assert [lease.state for lease in leases] == ["lost", "held", "held"]
        finally:
            signals.lock_lost.disconnect(note)
        assert told == [(apart[0], LossReason.STORE_RESTARTED)]


class TestMinReplicas:
    def test_what_the_replica_acknowledges_counts(self, cluster, settings):
        settings.REDISLOCK = {"default": {"CACHE": "cluster", "MIN_REPLICAS": 1}}
        with lock("a", ttl=3):
            assert cluster.replica_of(cluster.owner(bucket("a"))).client.keys("*lock:a")

    def test_what_it_does_not_acknowledge_is_given_back(self, cluster, settings, apart):
        settings.REDISLOCK = {"default": {"CACHE": "cluster", "MIN_REPLICAS": 1}, "bold": {"CACHE": "cluster"}}
        cluster.replica_of(cluster.owner(bucket(apart[2]))).pause()
        with pytest.raises(StoreUnavailable, match=r"^0 of 1 replicas"), lock_many(apart, ttl=3):
            pytest.fail("The body ran.")
        until(lambda: not overview.held("bold"))


class TestNodesThatAreAway:
    @pytest.fixture
    def partial_coverage(self, cluster: ClusterSet) -> Iterator[None]:
        """Nodes go on although others are away."""
        for server in cluster.servers:
            server.client.config_set("cluster-require-full-coverage", "no")
        yield
        for server in cluster.servers:
            server.resume()
            server.client.config_set("cluster-require-full-coverage", "yes")

    @pytest.mark.long
    def test_a_node_that_hangs_keeps_the_leases_of_the_others_from_nothing(
        self, cluster, partial_coverage, apart, settings
    ):
        """Its replica does not take over, since that stands still as well."""
        settings.CACHES = {**settings.CACHES, "cluster": cluster_cache(cluster.url, socket_timeout=0.5)}
        owner = cluster.owner(bucket(apart[0]))
        hanging = [next(names_on(cluster, owner)), apart[0], *islice(names_on(cluster, owner), 1, 3)]
        names = [*dict.fromkeys(hanging), *apart[1:]]
        told: list[str] = []
        note = lambda lease, **named: told.append(lease.key.name)
        signals.lock_lost.connect(note)
        with pytest.raises(LeaseLost), lock_many(names, ttl=6) as leases:
            for server in (owner, cluster.replica_of(owner)):
                server.pause()
            until(lambda: {*hanging} <= {*told})
            until(lambda: all(lease.remaining > 4.5 for lease in leases[-2:]))
            assert {*told} == {*hanging}
        signals.lock_lost.disconnect(note)

    def test_no_node_at_all_is_a_fault(self, settings):
        settings.CACHES = {**settings.CACHES, "cluster": cluster_cache("redis://127.0.0.1:1")}
        with pytest.raises(StoreUnavailable, match="no node of the cluster answers"), lock("a"):
            pytest.fail("The body ran.")
        with pytest.raises(StoreUnavailable, match="no node of the cluster answers"):
            overview.held()

    def test_another_node_is_asked_where_the_first_is_away(self, cluster, settings):
        place = cluster_cache("redis://127.0.0.1:1")
        place["OPTIONS"]["STARTUP_NODES"] = [f"127.0.0.1:{server.port}" for server in cluster.servers[:2]]
        settings.CACHES = {**settings.CACHES, "cluster": place}
        with lock("a"):
            assert overview.held()[0].name == "a"

    def test_a_cache_that_closes_its_connections_takes_none_of_ours(self):
        with lock("a") as lease:
            caches["cluster"].set("key", "value")
            django_redis: Any = caches["cluster"]
            django_redis.client.do_close_clients()
            assert caches["cluster"].get("key") == "value"
            lease.extend(30)

    def test_a_factory_that_cannot_be_imported_is_told(self, settings):
        options = {"OPTIONS": {"CONNECTION_FACTORY": "no.such.Factory"}}
        settings.CACHES = {**settings.CACHES, "cluster": settings.CACHES["cluster"] | options}
        with pytest.raises(InvalidLockSettings, match=r"CONNECTION_FACTORY of the cache 'cluster': .*no"):
            lock("a").info()
        del caches["cluster"]  # closing it would ask for the factory again


@pytest.mark.long
@pytest.mark.parametrize("db_alias", ["postgres"], indirect=True)
@pytest.mark.django_db(transaction=True, databases=["default", "postgres"])
class TestBank:
    def test_no_money_is_lost_in_a_fail_over(self, cluster, db_alias):
        ledger = Ledger(db_alias)
        with ledger.at_work():
            for happens in (fail_over, lose):
                until(partial(ledger.moved_more, ledger.outcomes["moved"] + 20))
                happens(cluster, f"testapp.Purse:{ledger.pks[0]}")
            until(partial(ledger.moved_more, ledger.outcomes["moved"] + 20))
        assert ledger.total == PURSES * COINS

    def test_no_lock_is_lost_while_slots_move(self, cluster, db_alias):
        lost: list[Any] = []
        note = lambda lease, **named: lost.append(lease)
        signals.lock_lost.connect(note)
        ledger = Ledger(db_alias)
        with ledger.at_work():
            for _ in range(2):
                for pk in ledger.pks:
                    until(partial(ledger.moved_more, ledger.outcomes["moved"] + 2))
                    move(cluster, f"testapp.Purse:{pk}", at_once=2)
        signals.lock_lost.disconnect(note)
        assert ledger.total == PURSES * COINS
        assert lost == []
        assert not ledger.outcomes.keys() - {"moved", "WaitTimeout"}
