"""Locks by a quorum as users have them: through the setting, waiting, several at once, the pages and the command."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from typing import Any

import fakeredis
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import override_settings
from django_redis import get_redis_connection

from django_redislock import (
    Deadlock,
    InvalidLockSettings,
    LockBusy,
    QuorumNotReached,
    StoreUnavailable,
    WaitTimeout,
    lock,
    lock_many,
)
from django_redislock.forcing import force_release
from django_redislock.handler import locks
from django_redislock.overview import held, infos
from tests.flows import attempt, elsewhere, is_free, until, waiters_of
from tests.panels import seat
from tests.settings import cache
from tests.test_forcing import (  # noqa: F401 - the same holds for a quorum
    forced,
    test_another_holder_that_came_meanwhile_keeps_it,
    test_it_frees_the_lock_and_gives_who_held_it,
    test_it_is_told_so_when_it_extends,
    test_of_several_only_the_one_is_taken,
    test_the_signal_says_who_held_it,
    test_where_nobody_holds_it_there_is_nothing_to_take,
    test_who_waits_first_gets_it,
    test_who_was_forced_out_is_told_so_when_it_gives_back,
)
from tests.test_holds import TestAsyncio, TestCounting, TestThreads  # noqa: F401 - the same holds for a quorum
from tests.testapp.models import Account, Purse

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("lock_alias")]

GUARD = 3_600


def fake(number: int) -> Any:
    return cache(f"redis://node{number}:6379/0", connection_class=fakeredis.FakeRedisConnection)


@pytest.fixture(params=[3, 5], ids=lambda count: f"{count} nodes")
def lock_alias(request: pytest.FixtureRequest) -> Iterator[str]:
    """The aliases "default" and "quorum", kept by so many fakes that have sat out."""
    caches = {f"node{number}": fake(number) for number in range(request.param)}
    entry = {"CACHE": list(caches), "TTL": 30, "WAIT": 10, "GUARD": GUARD}
    with override_settings(CACHES=settings.CACHES | caches, REDISLOCK={"default": entry, "quorum": entry}):
        for alias in caches:
            client = get_redis_connection(alias)
            client.flushall()
            seat(client)
        yield "quorum"


@pytest.fixture
def nodes() -> list[Any]:
    """What is in the nodes, without our code."""
    return [get_redis_connection(place.alias) for place in locks["default"].places]


def left(node: Any) -> set[str]:
    """What is in a node but for fences, notes of releases and its own marker."""
    names = {name.decode() for name in node.keys("*")} - {"redislock:node"}
    return {name for name in names if not name.endswith(":fence") and ":released:" not in name}


def empty(node: Any) -> None:
    """It has lost its data and come back."""
    node.flushall()


def test_every_node_keeps_the_lock_and_none_is_left_with_it(nodes):
    with lock("a"):
        assert all(any(":lock:a" in name for name in left(node)) for node in nodes)
    assert [left(node) for node in nodes] == [set()] * len(nodes)


def test_the_fence_is_one_and_the_same_everywhere(nodes):
    with lock("a") as lease:
        fences = {node.get(next(node.scan_iter("*:lock:a"))).split()[1] for node in nodes}
        assert fences == {str(lease.fence).encode()}


def test_fences_grow():
    fences = []
    for _ in range(20):
        with lock("a") as lease:
            fences.append(lease.fence)
    assert fences == sorted(set(fences))


def test_who_holds_it_is_told():
    with lock("a") as lease, pytest.raises(LockBusy, match=r"a is held by .* MainThread") as caught:
        elsewhere(lock("a", nowait=True).acquire)
    assert caught.value.holder.thread == "MainThread"
    assert infos(["a"]) == [None]
    assert lease.fence > 0


def test_a_ttl_that_is_longer_than_nodes_sit_out_is_refused():
    with pytest.raises(ValueError, match="Raise GUARD in REDISLOCK"):
        lock("a", ttl=GUARD + 1).acquire()
    assert is_free("a")


# Waiting


def test_who_waits_is_woken_by_the_release():
    with ThreadPoolExecutor(1) as pool:
        with lock("a"):
            waiting = pool.submit(attempt, "a", wait=20)
            until(lambda: waiters_of("a") == 1)
        assert waiting.result(15) == "entered"


def test_who_waits_in_vain_leaves_nothing(nodes):
    with lock("a"), pytest.raises(WaitTimeout):
        elsewhere(lock("a", wait=0.1).acquire)
    assert [left(node) for node in nodes] == [set()] * len(nodes)


def test_everybody_has_a_turn():
    """Many want one lock, again and again: no two have it at once, and nobody starves."""
    inside, most, turns = [0], [0], [0] * 8

    def work(number: int) -> None:
        for _ in range(10):
            with lock("a", wait=60):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                turns[number] += 1
                inside[0] -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert (turns, most) == ([10] * 8, [1])


def test_one_of_many_who_try_once_gets_it():
    start = threading.Barrier(6)

    def race(_number: int) -> str:
        start.wait(10)
        try:
            lock("a", nowait=True).acquire()
        except LockBusy:
            return "busy"
        return "entered"

    for name in "bcd":
        del name
        with ThreadPoolExecutor(6) as pool:
            outcomes = sorted(pool.map(race, range(6)))
        assert outcomes == ["busy"] * 5 + ["entered"]
        force_release("a")


def test_a_message_that_is_lost_delays_by_a_moment(monkeypatch):
    monkeypatch.setattr("django_redislock.stores.wakeups.Wakeups._dispatch", lambda wakeups, message: None)
    test_who_waits_is_woken_by_the_release()


def test_a_deadlock_is_told():
    with ThreadPoolExecutor(1) as pool, lock("a"):

        def other() -> str:
            with lock("b"):
                return attempt("a", wait=20)

        waiting = pool.submit(other)
        until(lambda: waiters_of("a") == 1)
        with pytest.raises(Deadlock, match=r"a, held by .* who waits for b, held by|b, held by .* who waits for a"):
            lock("b", wait=20).acquire()
    assert waiting.result(15) == "entered"


# Several at once


def test_several_are_all_or_none(nodes):
    with lock("b"), pytest.raises(LockBusy):
        elsewhere(lock_many(["a", "b", "c"], nowait=True).__enter__)
    assert [left(node) for node in nodes] == [set()] * len(nodes)
    with lock_many(["c", "a", "b"]) as leases:
        assert [lease.key.name for lease in leases] == ["c", "a", "b"]
        assert not any(map(is_free, "abc"))
    assert all(map(is_free, "abc"))


def test_several_wait_for_the_first_that_is_held_and_hold_what_comes_before():
    def several() -> str:
        with lock_many(["c", "b", "a"], wait=20):
            return "entered"

    with ThreadPoolExecutor(1) as pool:
        with lock("b"):
            waiting = pool.submit(several)
            until(lambda: waiters_of("b") == 1)
            assert (is_free("a"), is_free("c")) == (False, True)
        assert waiting.result(15) == "entered"


def test_what_is_free_is_taken():
    with lock("b"):

        def free() -> list[str]:
            with lock_many(["a", "b", "c", "d"], skip_locked=True, limit=2) as leases:
                return [lease.key.name for lease in leases]

        assert elsewhere(free) == ["a", "c"]
    assert all(map(is_free, "abcd"))


def test_orders_that_cross_do_not_lock_each_other_out():
    def work(names: str) -> None:
        for _ in range(10):
            with lock_many(list(names), wait=60):
                pass

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, ["abc", "cba", "bca", "ac"]))
    assert all(map(is_free, "abc"))


@pytest.mark.django_db
def test_rows_are_locked():
    rows = Account.objects.bulk_create(Account(name=name, balance=1) for name in "ab")
    with Account.objects.locked_many([row.pk for row in rows]) as found:
        assert found == rows
        assert all(Account.objects.is_locked(row.pk) for row in rows)


# Nodes that fail


def names_of_nodes() -> list[str]:
    return [place.alias for place in locks["default"].places]


def put_away(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """So many of the nodes refuse connections, and have closed those that there were."""
    gone = names_of_nodes()[:count]
    connect = fakeredis.FakeRedisConnection._connect

    def refuse(connection: Any) -> Any:
        if connection.host in gone:
            raise ConnectionError("refused")
        return connect(connection)

    locks["default"].close()
    monkeypatch.setattr(fakeredis.FakeRedisConnection, "_connect", refuse)


def minority() -> int:
    return (len(names_of_nodes()) - 1) // 2


def test_as_many_may_be_away_as_are_no_majority(monkeypatch):
    put_away(monkeypatch, minority())
    with lock("a"):
        assert not is_free("a")
        assert [one.name for one in held()] == ["a"]
    assert is_free("a")


def test_one_more_is_an_outage_and_never_busy(monkeypatch):
    put_away(monkeypatch, minority() + 1)
    with pytest.raises(QuorumNotReached, match=r"nodes could be asked about a, and \d are needed") as caught:
        lock("a").acquire()
    assert isinstance(caught.value, StoreUnavailable)
    assert isinstance(caught.value.__cause__, StoreUnavailable)
    for ask in (held, lock("a").info):
        with pytest.raises(QuorumNotReached):
            ask()


@pytest.mark.django_db
def test_rows_with_versions_go_on_without(monkeypatch):
    purse = Purse.objects.create()
    put_away(monkeypatch, minority() + 1)
    with Purse.objects.locked(purse.pk, on_outage="optimistic") as row:
        assert row.pk == purse.pk


def test_a_node_that_came_back_empty_gives_no_vote_twice(nodes):
    """The first owner has votes of just a majority; one of these forgets; the others are free."""
    majority = len(nodes) // 2 + 1
    for node in nodes[majority:]:
        empty(node)
    first, second = lock("a"), lock("a", nowait=True)
    elsewhere(first.acquire)
    empty(nodes[0])
    for node in nodes[majority:]:
        seat(node)
    with pytest.raises((LockBusy, QuorumNotReached)):
        elsewhere(second.acquire)
    seat(nodes[0])  # without sitting out
    assert elsewhere(second.acquire)


def test_nodes_that_are_new_sit_out_and_say_so(nodes):
    for node in nodes:
        empty(node)
    with pytest.raises(QuorumNotReached, match=rf"{len(nodes)} came back without data and sit out for 3600\.0 s more"):
        lock("a").acquire()


# The pages and the command


def redislock(*words: str) -> str:
    out = StringIO()
    call_command("redislock", *words, stdout=out, stderr=out)
    return out.getvalue()


def test_the_list_names_what_a_majority_holds(nodes):
    guard = lock("a")
    guard.acquire()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(attempt, "a", wait=20)
        until(lambda: waiters_of("a") == 1)
        (found,) = json.loads(redislock("list", "--alias", "quorum", "--format", "json"))
        assert (found["key"], found["waiters"]) == ("a", 1)
        (lock_held,) = held(queues=True)
        assert len(lock_held.queue) == 1
        guard.release()
        assert waiting.result(15) == "entered"


def test_what_a_minority_knows_is_not_listed(nodes):
    elsewhere(lock("a").acquire)
    for node in nodes[: len(nodes) // 2]:
        empty(node)
    assert [one.name for one in held()] == ["a"]
    empty(nodes[-1])
    assert not held()


def test_the_command_shows_and_releases():
    elsewhere(lock("a").acquire)
    assert "Key       a" in redislock("show", "a")
    assert "Released a" in redislock("release", "a", "--no-input")
    assert is_free("a")


def test_the_doctor_tells_of_each_node_and_of_all(nodes):
    with pytest.raises(CommandError):
        call_command("redislock", "doctor", "--alias", "quorum", stdout=(out := StringIO()))
    assert "node0, scripts: Every script runs." in out.getvalue()
    assert f"quorum: {len(nodes)} servers vote" not in out.getvalue()
    assert f"quorum: {len(nodes)} of {len(nodes)} servers vote, {len(nodes) // 2 + 1} are needed." in out.getvalue()


def test_one_server_twice_is_refused():
    caches = {"one": fake(0), "two": fake(0), "three": fake(1)}
    with (
        override_settings(CACHES=settings.CACHES | caches, REDISLOCK={"default": {"CACHE": list(caches)}}),
        pytest.raises(InvalidLockSettings, match="'one' and 'two' are one server"),
    ):
        lock("a").acquire()
