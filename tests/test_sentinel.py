"""Locks on a primary that real Sentinels watch: fail-overs, what they lose, and locks that replicas have to know of."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError
from redis.retry import Retry

from django_redislock import LeaseLost, StoreUnavailable, lock, lock_many
from django_redislock.exceptions import LossReason
from django_redislock.handler import locks
from django_redislock.keys import Key
from django_redislock.steps import arun
from django_redislock.stores import twins
from django_redislock.stores.base import Taken
from testproject.redis.servers import free_port
from tests.flows import attempt, elsewhere, is_free, until, waiters_of
from tests.ledger import COINS, PURSES, Ledger
from tests.servers.sets import SentinelSet
from tests.settings import sentinel_cache

pytestmark = pytest.mark.usefixtures("sentinels")


def replicate(sentinels: SentinelSet) -> None:
    """Wait until both replicas have all that was written."""
    assert sentinels.primary.client.execute_command("WAIT", 2, 5000) == 2


def works() -> bool:
    """Whether a lock can be had."""
    try:
        return is_free("probe")
    except StoreUnavailable:
        return False


def kill(sentinels: SentinelSet) -> None:
    sentinels.lose_primary()


@pytest.mark.parametrize("fail_over", [kill, SentinelSet.fail_over], ids=["killed", "asked for"])
class TestFailOver:
    def test_a_lock_that_was_replicated_goes_on(self, sentinels, fail_over):
        with lock("a", ttl=60) as lease:
            replicate(sentinels)
            fail_over(sentinels)
            until(works)
            assert not is_free("a")
            lease.extend(60)
        assert is_free("a")

    def test_a_waiter_is_woken_by_the_new_primary(self, sentinels, fail_over):
        entered = threading.Event()

        def stand() -> None:
            while not entered.is_set():
                with suppress(StoreUnavailable), lock("a", wait=50, ttl=60):  # a Sentinel may name the former one yet
                    entered.set()

        waiting = threading.Thread(target=stand)
        with lock("a", ttl=60):
            waiting.start()
            until(lambda: waiters_of("a") == 1)
            replicate(sentinels)
            fail_over(sentinels)
            until(lambda: sentinels.primary.client.pubsub_channels("*:wake:*") != [])
        waiting.join()
        assert entered.is_set()


def test_a_loop_follows_the_primary(sentinels):
    async def enters() -> bool:
        try:
            async with lock("probe", nowait=True):
                return True
        except StoreUnavailable:
            return False

    async def work() -> None:
        assert await enters()
        await asyncio.to_thread(sentinels.fail_over)
        async with asyncio.timeout(60):
            while not await enters():
                await asyncio.sleep(0.05)

    asyncio.run(work())


class TestLosses:
    def test_each_lease_that_the_new_primary_does_not_know_is_told(self, sentinels, lost):
        names = [f"shelf-{number}" for number in range(5)]
        with lock("known", ttl=60) as known:
            replicate(sentinels)
            sentinels.cut_replication()
            with pytest.raises(LeaseLost) as caught, lock_many(names, ttl=10) as leases:
                sentinels.lose_primary()
                until(lambda: len(lost) == 5)
                assert {lease.state for lease in leases} == {"lost"}
            assert sorted(lost) == [(name, LossReason.STORE_RESTARTED) for name in names]
            assert caught.value.reason is LossReason.STORE_RESTARTED
            assert known.state == "held"

    def test_scripts_are_brought_to_the_new_primary(self, sentinels):
        assert is_free("a")
        primary = sentinels.lose_primary()
        primary.client.script_flush()
        until(works)


@pytest.mark.long
@pytest.mark.parametrize("db_alias", ["postgres"], indirect=True)
@pytest.mark.django_db(transaction=True, databases=["default", "postgres"])
def test_no_money_is_lost_in_a_fail_over(sentinels, db_alias):
    ledger = Ledger(db_alias)
    with ledger.at_work():
        for fail_over in (SentinelSet.fail_over, kill):
            until(partial(ledger.moved_more, ledger.outcomes["moved"] + 20))
            fail_over(sentinels)
        until(partial(ledger.moved_more, ledger.outcomes["moved"] + 20))
    assert ledger.total == PURSES * COINS


class TestMinReplicas:
    @pytest.fixture
    def careful(self, settings: Any, sentinels: SentinelSet) -> None:
        """Both replicas have to know of a lock of the alias "default"; the alias "bold" does not ask them."""
        settings.REDISLOCK = {"default": {"CACHE": "watched", "MIN_REPLICAS": 2}, "bold": {"CACHE": "watched"}}

    def take(self, name: str = "a") -> Any:
        return locks["default"].store.acquire(Key(name), token="0" * 32, ttl=3, holder='["h",1,"t",""]')

    def test_what_both_acknowledge_counts(self, careful, sentinels):
        with lock("a"):
            assert not is_free("a")
            for replica in sentinels.replicas:
                assert replica.client.keys("*lock:a")
        assert is_free("a")

    @pytest.mark.parametrize(
        "enter", [partial(lock, "a", ttl=3), partial(lock_many, ["a", "b"], ttl=3)], ids=["one", "several"]
    )
    def test_what_one_does_not_acknowledge_is_given_back(self, careful, sentinels, enter):
        sentinels.replicas[0].pause()

        def refusal() -> str:
            with pytest.raises(StoreUnavailable) as caught, enter():
                pytest.fail("The body ran.")
            return str(caught.value)

        until(lambda: refusal().startswith("1 of 2 replicas acknowledged the lock within 1.00 s"))
        until(lambda: lock("a", alias="bold").info() is None)

    def test_a_refusal_waits_for_nobody(self, careful, sentinels):
        with lock("a", alias="bold"):
            sentinels.replicas[0].pause()
            assert elsewhere(attempt) == "busy"

    def test_a_grant_counts_when_both_acknowledge(self, careful, sentinels):
        outcomes = []

        def stand() -> None:
            try:
                with lock("a", wait=20, ttl=3):
                    outcomes.append("entered")
            except StoreUnavailable as error:
                outcomes.append(str(error)[2:15])

        waiting = threading.Thread(target=stand)
        with lock("a", alias="bold", ttl=60):
            waiting.start()
            until(lambda: waiters_of("a") == 1)
            sentinels.replicas[0].pause()
        waiting.join()
        assert outcomes == ["of 2 replicas"]

    def test_a_renewal_that_is_not_acknowledged_does_not_count(self, careful, sentinels):
        with pytest.raises(LeaseLost) as caught, lock("a", ttl=3) as lease:
            sentinels.replicas[0].pause()
            until(lambda: lease.state == "lost")
        assert caught.value.reason is LossReason.EXPIRED

    def test_a_primary_that_was_cut_off_gives_no_lock(self, settings, sentinels):
        settings.REDISLOCK = {"default": {"CACHE": "watched", "MIN_REPLICAS": 1}}
        assert isinstance(self.take("before"), Taken)
        former = sentinels.primary
        with sentinels.replacing():
            former.pause()
        (follower,) = {*sentinels.servers} - {former, sentinels.primary}
        until(lambda: follower.client.role()[2:4] == [sentinels.primary.port, "connected"])
        for sentinel in sentinels.sentinels:
            sentinel.pause()  # so nobody tells it
        former.resume()
        with pytest.raises(StoreUnavailable, match=r"^0 of 1 replicas acknowledged"):
            self.take()


class TestMinReplicasOnALoop:
    """As `TestMinReplicas`, where one connection is that of all tasks."""

    @pytest.fixture(autouse=True)
    def careful(self, settings: Any, sentinels: SentinelSet, monkeypatch: pytest.MonkeyPatch) -> None:
        """Both replicas have to know, and no thread is asked but for the address of the primary."""
        settings.REDISLOCK = {"default": {"CACHE": "watched", "MIN_REPLICAS": 2}, "bold": {"CACHE": "watched"}}
        monkeypatch.setattr(twins, "in_a_thread", None)

    async def enter(self, name: str) -> None:
        async with lock(name, ttl=3):
            pass

    def waits(self, sentinels: SentinelSet) -> int:
        """How many `WAIT` the primary has been asked."""
        calls: int = sentinels.primary.client.info("commandstats").get("cmdstat_wait", {"calls": 0})["calls"]
        return calls

    def test_what_both_acknowledge_counts(self, sentinels):
        async def work() -> None:
            async with lock("a"):
                for replica in sentinels.replicas:
                    assert replica.client.keys("*lock:a")

        asyncio.run(work())
        assert is_free("a")

    def test_many_wait_together(self, sentinels):
        async def work() -> None:
            await self.enter("first")
            await asyncio.gather(*(self.enter(str(number)) for number in range(50)))

        before = self.waits(sentinels)
        asyncio.run(work())
        assert self.waits(sentinels) - before <= 10

    def test_many_are_refused_together(self, sentinels):
        async def work() -> list[Any]:
            await self.enter("first")
            sentinels.replicas[0].pause()
            await asyncio.gather(self.enter("seen"), return_exceptions=True)
            before = self.waits(sentinels)
            entering = (self.enter(str(number)) for number in range(20))
            return [*await asyncio.gather(*entering, return_exceptions=True), self.waits(sentinels) - before]

        *refusals, waits = asyncio.run(work())
        assert {str(refusal)[:40] for refusal in refusals} == {"1 of 2 replicas acknowledged the lock wi"}
        assert waits <= 10
        until(lambda: all(lock(str(number), alias="bold").info() is None for number in range(20)))

    def test_several_locks_are_refused(self, sentinels):
        async def work() -> None:
            sentinels.replicas[0].pause()
            async with lock_many(["a", "b"], ttl=3):
                pytest.fail("The body ran.")

        with pytest.raises(StoreUnavailable, match=r"^1 of 2 replicas"):
            asyncio.run(work())

    def test_a_grant_counts_when_both_acknowledge(self, sentinels):
        async def wait() -> None:
            async with lock("a", wait=20, ttl=3):
                pytest.fail("The body ran.")

        async def work() -> Any:
            async with lock("a", alias="bold", ttl=60):
                waiting = asyncio.create_task(wait())
                while not await asyncio.to_thread(waiters_of, "a"):
                    await asyncio.sleep(0.01)
                sentinels.replicas[0].pause()
            await asyncio.wait([waiting])
            return waiting.exception()

        assert "1 of 2 replicas" in str(asyncio.run(work()))

    def test_a_new_connection_is_not_asked_of_what_was_written_on_another(self, sentinels):
        async def work() -> None:
            await self.enter("a")
            twin = locks["default"].store.twin
            turn = twin._connections.take()
            turn.send_packed_command([b"*1\r\n$4\r\nPING\r\n"])
            await turn.read_answer()
            twin._connections.break_off(ConnectionError("for the test"))
            await turn.connect()
            await arun(twin._replicas._acknowledged(turn, 1.0))

        with pytest.raises(ConnectionError, match="was closed"):
            asyncio.run(work())

    def test_one_who_is_cancelled_leaves_the_others_their_answer(self, sentinels):
        async def work() -> list[Any]:
            await self.enter("first")
            tasks = [asyncio.create_task(self.enter(str(number))) for number in range(20)]
            while nobody_waits(locks["default"].store.twin):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            return await asyncio.gather(*tasks, return_exceptions=True)

        outcomes = asyncio.run(work())
        assert outcomes[1::2] == [None] * 10
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes[::2])
        assert all(is_free(str(number)) for number in range(20))


def nobody_waits(twin: Any) -> bool:
    """Whether no task waits for replicas yet."""
    return bool(twin._replicas._wait.answer.done())


def test_where_nobody_knows_wait_it_is_told(settings):
    settings.REDISLOCK = {"default": {"CACHE": "fake", "MIN_REPLICAS": 1}}
    with pytest.raises(StoreUnavailable, match="MIN_REPLICAS needs a server that knows WAIT"), lock("a"):
        pytest.fail("The body ran.")


def test_sentinels_that_cannot_be_asked_are_named_by_their_addresses(settings):
    ports = [free_port() for _ in range(2)]
    watched = sentinel_cache([("127.0.0.1", port) for port in ports], "gone")
    watched["OPTIONS"]["SENTINEL_KWARGS"] = {"retry": Retry(NoBackoff(), 0)}  # redis-py 8 would ask each for seconds
    settings.CACHES = {**settings.CACHES, "watched": watched}
    with pytest.raises(StoreUnavailable) as caught, lock("a"):
        pytest.fail("The body ran.")
    told = str(caught.value)
    assert "No master found for 'gone'" in told
    assert "redis.connection" not in told
