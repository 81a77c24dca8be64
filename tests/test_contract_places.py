"""What users call, on every kind of Redis: the same tests on one server, behind Sentinels, in a cluster, by quorum."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from django.test import override_settings
from django_redis import get_redis_connection

from django_redislock import LeaseLost, LockBusy, LockNotHeld, WaitTimeout, get_lease, lock, lock_many
from django_redislock.exceptions import LossReason
from django_redislock.handler import locks
from django_redislock.overview import held, infos
from tests.flows import attempt, elsewhere, is_free, until, waiters_of
from tests.panels import empty
from tests.settings import cache
from tests.test_contract import TestRefusals, TestUse  # noqa: F401 - the same holds everywhere
from tests.test_forcing import (  # noqa: F401 - the same holds everywhere
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
from tests.test_holds import TestAsyncio, TestCounting, TestThreads  # noqa: F401 - the same holds everywhere
from tests.test_stores import keys_of
from tests.testapp.models import Account

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("lock_alias")]

KINDS = {
    "fake": "",
    "real": "real_redis",
    "socket": "doors",
    "tls": "doors",
    "watched": "sentinels",
    "cluster": "cluster",
    "3 servers": "three",
    "5 servers": "five",
}
"""What keeps the locks, and the fixture that makes it."""
NAMES = [f"shelf-{number}" for number in range(6)]
"""In different buckets, so on different nodes of a cluster."""


@pytest.fixture
def three(real_redis: str, servers_of_quorum: list[Any], settings: Any) -> None:
    """The first three servers of a quorum."""
    add_quorum(servers_of_quorum[:3], settings)


@pytest.fixture
def five(real_redis: str, servers_of_quorum: list[Any], settings: Any) -> None:
    """All five."""
    add_quorum(servers_of_quorum, settings)


def add_quorum(servers: list[Any], settings: Any) -> None:
    empty(servers)
    settings.CACHES = {**settings.CACHES, **{f"server{n}": cache(one.url) for n, one in enumerate(servers)}}


@pytest.fixture(params=list(KINDS))
def lock_alias(request: pytest.FixtureRequest) -> Iterator[str]:
    """The alias "default" and one more, on each kind of Redis, empty at the start."""
    kind: str = request.param
    if KINDS[kind]:
        request.getfixturevalue(KINDS[kind])
    else:
        get_redis_connection(kind).flushall()
    number = int(kind[0]) if kind[0].isdigit() else 0
    place = [f"server{n}" for n in range(number)] if number else kind
    entry = {"CACHE": place, "TTL": 30, "WAIT": 10}
    with override_settings(REDISLOCK={"default": entry, kind: entry}):
        yield kind


def keys(pattern: str) -> list[tuple[Any, bytes]]:
    """The keys of all servers, each with its server's client."""
    clients = [get_redis_connection(place.alias) for place in locks["default"].places]
    return [(client, key) for client in clients for key in keys_of(client, pattern)]


def forget(name: str) -> None:
    """What keeps the locks loses one, as by a restart."""
    for client, key in keys(f"*:lock:{name}"):
        client.delete(key)


def names_of(**terms: Any) -> list[str]:
    """Those of the names that somebody gets who asks for all of them like that, and gives them back."""
    with lock_many(NAMES, **terms) as leases:
        return [lease.key.name for lease in leases]


class TestWaiting:
    def test_first_come_first_served(self, lock_alias):
        order: list[int] = []

        def stand(number: int) -> None:
            with lock("a", wait=20):
                order.append(number)

        threads = [threading.Thread(target=stand, args=[number]) for number in range(3)]
        with lock("a", ttl=60):
            for count, thread in enumerate(threads, start=1):
                thread.start()
                until(lambda: waiters_of("a") == count)  # noqa: B023 - called at once
            assert order == []
        for thread in threads:
            thread.join()
        # Where several servers vote, everybody gets it, but the order is not promised.
        assert (sorted(order) if lock_alias.endswith("servers") else order) == [0, 1, 2]

    def test_who_gives_up_leaves_nothing(self):
        with lock("a"):
            with pytest.raises(WaitTimeout):
                elsewhere(lock("a", wait=0.1).acquire)
            assert waiters_of("a") == 0
        assert is_free("a")

    def test_whom_the_owner_leaves_waiting_gets_it_when_its_ttl_is_over(self):
        abandoned = lock("a", ttl=1)
        elsewhere(abandoned.acquire)
        assert elsewhere(partial(attempt, wait=20)) == "entered"


class TestKeeping:
    def test_what_is_held_for_longer_than_its_ttl_is_kept(self):
        with lock("a", ttl=2) as lease, lock("b", ttl=2) as other:
            ends = [lease.deadline, other.deadline]
            until(lambda: lease.deadline > ends[0] + 1 and other.deadline > ends[1] + 1)
            assert not is_free("a")
            assert lease.state == other.state == "held"

    def test_what_the_servers_have_forgotten_is_told(self, lost):
        with pytest.raises(LeaseLost), lock("a", ttl=2) as lease:
            forget("a")
            until(lambda: bool(lost))
            assert lease.state == "lost"
        assert lost == [("a", LossReason.STORE_RESTARTED)]

    def test_what_they_have_forgotten_is_not_brought_back(self):
        with pytest.raises(LeaseLost), lock("a") as lease:
            forget("a")
            with pytest.raises(LockNotHeld):
                lease.extend()
            assert is_free("a")

    def test_a_late_owner_leaves_the_new_one_alone(self):
        successor = lock("a")
        with pytest.raises(LeaseLost), lock("a"):
            forget("a")
            elsewhere(successor.acquire)
        assert not is_free("a")

    def test_fences_grow(self):
        fences = []
        for _ in range(5):
            with lock("a") as lease:
                fences.append(lease.fence)
        forget("a")
        with lock("a") as lease:
            fences.append(lease.fence)
        assert fences == sorted(set(fences))


class TestSeveral:
    def test_all_are_held_and_given_back(self):
        with lock_many(NAMES) as leases:
            assert [lease.key.name for lease in leases] == NAMES
            assert not any(map(is_free, NAMES))
        assert all(map(is_free, NAMES))

    @pytest.mark.parametrize("taken", [NAMES[0], NAMES[-1]])
    def test_all_or_none(self, taken):
        with lock(taken):
            with pytest.raises(LockBusy, match=f"^{taken} is held by"):
                elsewhere(partial(names_of, nowait=True))
            assert [name for name, info in zip(NAMES, infos(NAMES), strict=True) if info] == [taken]

    def test_those_that_are_free(self):
        with lock(NAMES[0]), lock(NAMES[3]):
            assert elsewhere(partial(names_of, skip_locked=True, limit=3)) == [NAMES[1], NAMES[2], NAMES[4]]

    def test_who_waits_for_several_gets_them(self):
        entered = threading.Event()

        def take_all() -> None:
            with lock_many(NAMES, wait=20):
                entered.set()

        waiting = threading.Thread(target=take_all)
        with lock_many(NAMES[2:4], ttl=60):
            waiting.start()
            until(lambda: sum(map(waiters_of, NAMES[2:4])) == 1)
            assert not entered.is_set()
        waiting.join()
        assert entered.is_set()
        assert all(map(is_free, NAMES))

    def test_all_that_is_held_is_listed(self):
        with lock_many(NAMES) as leases:
            assert {found.name: found.fence for found in held()} == {lease.key.name: lease.fence for lease in leases}
        assert not held()


@pytest.mark.django_db(transaction=True)
class TestRows:
    def test_a_row_is_read_after_it_was_locked(self):
        pk = Account.objects.create(balance=10).pk
        with Account.objects.locked(pk) as account:
            assert elsewhere(Account.objects.is_locked, pk)
            account.balance -= 3
            account.save()
        assert not Account.objects.is_locked(pk)
        assert Account.objects.get().balance == 7

    def test_a_loss_rolls_back(self):
        pk = Account.objects.create(balance=10).pk
        with pytest.raises(LeaseLost), Account.objects.locked(pk, ttl=2) as account:
            account.balance -= 3
            account.save()
            forget(f"testapp.Account:{pk}")
            until(lambda: get_lease(account).state == "lost")
        assert Account.objects.get().balance == 10


class TestLoops:
    def test_tasks_come_one_after_the_other(self):
        order: list[int] = []

        async def enter(number: int) -> None:
            async with lock("a", wait=20):
                order.append(number)
                await asyncio.sleep(0)
                order.append(number)

        async def work() -> None:
            await asyncio.gather(*map(enter, range(4)))

        asyncio.run(work())
        assert order[::2] == order[1::2]
        assert sorted(order[::2]) == [0, 1, 2, 3]

    def test_a_task_waits_for_a_thread(self):
        async def wait() -> str:
            async with lock("a", wait=20):
                return "entered"

        async def work(thread: ThreadPoolExecutor) -> str:
            loop, guard = asyncio.get_running_loop(), lock("a", ttl=60)
            await loop.run_in_executor(thread, guard.acquire)
            waiting = asyncio.create_task(wait())
            await asyncio.to_thread(until, lambda: waiters_of("a") == 1)
            assert not waiting.done()
            await loop.run_in_executor(thread, guard.release)
            return await waiting

        with ThreadPoolExecutor(1) as thread:
            assert asyncio.run(work(thread)) == "entered"

    def test_several_at_once_and_a_loss(self):
        async def work() -> None:
            async with lock_many(NAMES, ttl=2) as leases:
                await asyncio.to_thread(forget, NAMES[2])
                async with asyncio.timeout(20):
                    while leases[2].state != "lost":
                        await asyncio.sleep(0.01)
                assert {lease.state for lease in leases if lease is not leases[2]} == {"held"}

        with pytest.raises(LeaseLost, match=f"^The lease on {NAMES[2]} "):
            asyncio.run(work())
        assert all(map(is_free, NAMES))


def test_all_that_stays_is_fences_and_notes():
    with lock("a"), lock_many(NAMES):
        with pytest.raises(WaitTimeout):
            elsewhere(lock("a", wait=0.05).acquire)
    kept = {key for client, key in keys("*redislock:*") if client.pttl(key) < 0}
    assert {key.rpartition(b":")[2] for key in kept} <= {b"fence", b"node"}
    assert keys("*:lock:*") == keys("*:queue:*") == keys("*:flow:*") == keys("*:held") == []
