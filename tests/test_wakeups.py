"""Being woken: one connection of a process listens for all its waiters, whatever becomes of that connection."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from django_redislock import clock, lock
from django_redislock.handler import locks
from django_redislock.keylock import KeyLock
from django_redislock.keys import Key
from django_redislock.lease import Lease
from django_redislock.steps import run
from django_redislock.stores import wakeups
from django_redislock.stores.base import Grant
from django_redislock.stores.connections import Connections
from django_redislock.stores.redis import RedisStore
from django_redislock.stores.subscription import PoolSubscription
from django_redislock.stores.wakeups import IDLE, LONGEST_PAUSE, Heard, Interrupted, Refused, WaitersEar, Wakeups
from tests.flows import PATIENCE, attempt, client_of, hearers_of, until, waiters_of
from tests.servers.process import Missing
from tests.servers.redis import Redis as RedisServer
from tests.test_stores import MANNERS

KEY = Key("shelf")
LONG = 600
"""Longer than a test may take: who is not woken fails."""

# By hand


class Radio:
    """A subscription that says what the test tells it to."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.closed = threading.Event()
        self._said: queue.SimpleQueue[str | Exception | None] = queue.SimpleQueue()
        self._asked = threading.Semaphore(0)

    def read(self, seconds: float) -> str | None:
        self._asked.release()
        said = self._said.get()
        if isinstance(said, Exception):
            raise said
        return said

    def close(self) -> None:
        self.closed.set()
        self._asked.release()

    def say(self, said: str | Exception | None = None) -> None:
        """Say this, or nothing for a while; it has been dealt with at the end."""
        self._said.put(said)
        self.settle()

    def settle(self) -> None:
        """Wait until somebody listens, or has ceased to."""
        assert self._asked.acquire(timeout=10)


class Station:
    """Where one subscribes, on a clock that the test ticks."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.radios: list[Radio] = []
        self.failures: list[Exception] = []
        self.slept: list[float] = []
        self._tuned_in = threading.Semaphore(0)
        self.wakeups = Wakeups(self.subscribe, prefix="redislock")

    def subscribe(self, channel: str) -> Radio:
        if self.failures:
            raise self.failures.pop(0)
        self.radios.append(Radio(channel))
        self._tuned_in.release()
        return self.radios[-1]

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def ear(self, token: str) -> WaitersEar:
        """The ear of a waiter, which is not told anything yet."""
        is_first = not self.wakeups.channel
        ear = self.wakeups.ear(token)
        if is_first:
            self.next_radio()
        return ear

    def next_radio(self) -> Radio:
        """The connection that is made next."""
        assert self._tuned_in.acquire(timeout=10)
        self.radios[-1].settle()
        return self.radios[-1]

    def stop(self) -> None:
        """Nobody waits any more."""
        self.wakeups._ears.clear()
        self.now += IDLE + 1
        for radio in self.radios:
            if not radio.closed.is_set():
                radio.say()
                assert radio.closed.wait(10)


@pytest.fixture
def station(monkeypatch: pytest.MonkeyPatch) -> Iterator[Station]:
    station = Station()
    monkeypatch.setattr(clock, "now", lambda: station.now)
    monkeypatch.setattr(clock, "sleep", station.sleep)
    monkeypatch.setattr(wakeups, "MOMENT", 10)
    yield station
    station.stop()


def test_nothing_is_opened_before_somebody_waits(station):
    assert (station.radios, station.wakeups.channel) == ([], "")


def test_the_first_waiter_opens_the_connection_and_all_share_it(station):
    ears = [station.ear(token) for token in "abc"]
    (radio,) = station.radios
    assert {ear.channel for ear in ears} == {station.wakeups.channel, radio.channel}


def test_a_grant_reaches_its_waiter_and_no_other(station):
    ours, theirs = station.ear("ours"), station.ear("theirs")
    station.radios[0].say("ours 8 5000000")
    assert ours.listen(LONG) == Grant(fence=8, granted=5)
    assert theirs.listen(0) is None


@pytest.mark.parametrize("message", ["unknown 8 5000000", "", None])
def test_what_is_for_nobody_is_ignored(station, message):
    ear = station.ear("ours")
    station.radios[0].say(message)
    station.radios[0].say("ours 9 5000000")
    assert ear.listen(LONG).fence == 9


def test_who_has_left_hears_no_more(station):
    ear, other = station.ear("ours"), station.ear("other")
    ear.close()
    station.radios[0].say("ours 8 5000000")
    assert (ear.listen(0), other.listen(0)) == (None, None)


def test_the_connection_is_closed_some_time_after_the_last_waiter(station):
    station.ear("a").close()
    station.now += IDLE - 0.1
    station.radios[0].say()
    assert not station.radios[0].closed.is_set()
    station.now += 0.2
    station.radios[0].say()
    assert station.radios[0].closed.wait(10)
    assert station.wakeups.channel == ""


def test_the_connection_is_kept_while_anybody_waits(station):
    station.ear("a")
    station.now += 100 * IDLE
    station.radios[0].say()
    assert station.wakeups.channel == station.radios[0].channel


def test_a_waiter_that_comes_meanwhile_is_heard_on_the_same_connection(station):
    station.ear("a").close()
    station.now += IDLE - 0.1
    station.radios[0].say()
    ear = station.ear("b")
    station.now += 100 * IDLE
    station.radios[0].say("b 8 5000000")
    assert (ear.listen(LONG).fence, len(station.radios)) == (8, 1)


def test_after_that_the_next_waiter_opens_another_on_the_same_channel(station):
    station.ear("a").close()
    station.now += IDLE + 1
    station.radios[0].say()
    assert station.radios[0].closed.wait(10)
    station.ear("b")
    assert [radio.channel for radio in station.radios] == [station.radios[0].channel] * 2


def test_a_connection_that_broke_is_made_anew_and_all_ask_again(station):
    ears = [station.ear(token) for token in "abc"]
    station.radios[0].say(Interrupted("cut"))
    assert station.radios[0].closed.is_set()
    radio = station.next_radio()
    assert [ear.listen(LONG) for ear in ears] == [None] * 3
    radio.say("b 8 5000000")
    assert ears[1].listen(LONG).fence == 8


def test_nobody_is_left_waiting_for_a_listener_that_failed_where_it_should_not(station, caplog):
    station.failures = [TypeError("unexpected setting")] * 3
    ear = station.ear("a")
    station.radios[0].say(ValueError("unreadable message"))
    assert station.radios[0].closed.is_set()
    radio = station.next_radio()
    assert ear.listen(LONG) is None
    radio.say("a 8 5000000")
    assert ear.listen(LONG).fence == 8
    told = [record.exc_info[0] for record in caplog.records if record.levelname == "ERROR"]
    assert told == [TypeError] * 3 + [ValueError]


def test_there_is_no_channel_while_there_is_no_connection(station, monkeypatch):
    may_go_on, sleeps = threading.Event(), threading.Event()

    def sleep(seconds: float) -> None:
        sleeps.set()
        may_go_on.wait(10)

    ear = station.ear("a")
    monkeypatch.setattr(clock, "sleep", sleep)
    station.radios[0].say(Interrupted("cut"))
    assert sleeps.wait(10)
    assert ear.channel == ""
    may_go_on.set()
    assert station.next_radio().channel == ear.channel


def test_a_server_that_stays_away_is_asked_ever_less_often(station):
    station.failures = [Interrupted("away")] * 12
    station.ear("a")
    assert station.slept == sorted(station.slept)
    assert (len(station.slept), station.slept[-1]) == (12, LONGEST_PAUSE)


def test_once_the_server_was_there_the_next_attempt_comes_soon_again(station):
    station.failures = [Interrupted("away")] * 12
    station.ear("a")
    station.radios[0].say(Interrupted("cut"))
    station.next_radio()
    assert station.slept[-1] < station.slept[0]


def test_a_refusal_is_told_once_and_the_waiters_ask_again(station, caplog):
    station.failures = [Refused("NOPERM")] * 9
    ears = [station.wakeups.ear(token) for token in "abc"]
    assert [ear.channel for ear in ears] == [""] * 3
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == ["The Redis user may not subscribe"]
    assert len(station.failures) == 8


def test_a_child_of_fork_starts_over(station):
    parents = station.ear("a")
    before = parents.channel
    station.wakeups.start_over()
    assert parents.channel == ""
    ear = station.ear("b")
    assert (len(station.radios), ear.channel == station.radios[1].channel != before) == (2, True)


@pytest.mark.parametrize("wait", [0.01, 0])
def test_nobody_waits_longer_for_the_connection_than_for_the_lock(station, monkeypatch, wait):
    monkeypatch.setattr(wakeups, "MOMENT", LONG)
    station.failures = [Interrupted("away")]
    may_go_on = threading.Event()
    monkeypatch.setattr(clock, "sleep", lambda seconds: may_go_on.wait(10))
    assert station.wakeups.ear("a", within=wait).channel == ""
    may_go_on.set()
    station.next_radio()


def test_of_two_that_begin_to_listen_one_ends_at_once(station):
    station.ear("a")
    run(station.wakeups._running())
    assert len(station.radios) == 1


def test_what_one_hears_elsewhere_already_is_left_to_be_heard(station):
    """For one who listens at several places."""
    heard: Heard = queue.SimpleQueue()
    heard.put(Grant(fence=8, granted=5))
    station.wakeups.ear("a", within=0, heard=heard)
    station.next_radio()
    assert heard.get_nowait() == Grant(fence=8, granted=5)


class TestOneWhoComesWhileTheListenerGoes:
    @pytest.fixture
    def wakeups(self, monkeypatch):
        """Where nobody listens any more than the test says."""
        wakeups = Wakeups(pytest.fail, prefix="redislock")
        wakeups.channel, wakeups._listener, wakeups._place = wakeups._channel, "going", {"taken": "going"}
        monkeypatch.setattr(wakeups, "_begin", lambda: f"after {len(wakeups._place)}")
        return wakeups

    def test_keeps_it_and_is_told_that_it_is_still_there(self, wakeups):
        ear = wakeups._ears["late"] = WaitersEar(wakeups, "late")
        assert not wakeups._retire()
        assert (wakeups.channel, ear._heard.get_nowait(), wakeups._listener) == (wakeups._channel, None, "going")

    def test_on_a_broken_connection_is_told_nothing_yet(self, wakeups):
        ear = wakeups._ears["late"] = WaitersEar(wakeups, "late")
        wakeups.channel = ""
        assert not wakeups._retire()
        assert (wakeups.channel, ear._heard.empty()) == ("", True)

    @pytest.mark.parametrize("is_before", [True, False])
    def test_is_heard_by_another(self, wakeups, is_before):
        def come() -> None:
            wakeups._ears["late"] = WaitersEar(wakeups, "late")
            wakeups._see_to_it()

        class Place(dict[str, object]):
            def clear(self) -> None:
                if is_before:
                    come()
                super().clear()
                if not is_before:
                    come()

        wakeups._place = Place(taken="going")
        assert wakeups._retire()
        assert (wakeups._listener, wakeups.channel) == ("after 0", "")


@pytest.mark.parametrize("prefix", ["shop:redislock", "our shop:redislock", "a\tb\n:redislock"])
def test_a_channel_is_one_word(prefix):
    """The scripts keep it in front of other words."""

    def subscribe(channel: str) -> Radio:
        channels.append(channel)
        raise Refused("enough")

    channels: list[str] = []
    Wakeups(subscribe, prefix=prefix).ear("a")
    assert [len(channel.split()) for channel in channels] == [1]


# On a server


class Shop:
    """A store of its own on a server, whose locks are waited for by threads."""

    def __init__(self, connect: Callable[[], Redis], server: Any) -> None:
        self.server = server
        self.store = RedisStore(connect, scope="shop", prefix="")
        self.before = self.subscribers()
        self._pool = ThreadPoolExecutor(30)

    def close(self) -> None:
        self._pool.shutdown()
        self.store.close()
        for client in self.new_subscribers():
            self.server.client_kill_filter(_id=client)

    def subscribers(self) -> set[str]:
        return {client["id"] for client in self.server.client_list(_type="pubsub")}

    def new_subscribers(self) -> set[str]:
        return self.subscribers() - self.before

    def acquire(self, who: str, wait: float = 20) -> Lease:
        return KeyLock(self.store, KEY).acquire(flow=f"{who:_<16}", ttl=LONG, wait=wait)

    def release(self, lease: Lease) -> None:
        KeyLock(self.store, KEY).release(lease)

    def pass_on(self, who: str) -> str:
        """Wait for the key, and give it back."""
        self.release(self.acquire(who))
        return who

    def queue(self, count: int) -> list[Future[str]]:
        """So many wait, in threads."""
        waiters = [self._pool.submit(self.pass_on, f"waiter-{number}") for number in range(count)]
        while self.server.llen("redislock:{35}:queue:shelf") < count:
            assert not any(waiter.done() for waiter in waiters)
        return waiters


def pool_of(url: str, **options: Any) -> Callable[[], Redis]:
    pool = ConnectionPool.from_url(url, **options)
    return lambda: Redis(connection_pool=pool)


URL = settings.CACHES.get("real", {}).get("LOCATION", "")


@pytest.fixture
def open_shop(real_redis: str) -> Iterator[Callable[..., Shop]]:
    shops = []

    def open_one(url: str = URL, server: Any = None, **options: Any) -> Shop:
        shops.append(Shop(pool_of(url, **options), server or client_of(real_redis)))
        return shops[-1]

    yield open_one
    for shop in shops:
        shop.close()


def assert_all_are_served(shop: Shop, count: int = 3) -> None:
    lease = shop.acquire("first")
    waiters = shop.queue(count)
    shop.release(lease)
    assert {waiter.result(20) for waiter in waiters} == {f"waiter-{number}" for number in range(count)}


def test_many_waiters_need_one_connection(open_shop):
    shop = open_shop()
    lease = shop.acquire("first")
    waiters = shop.queue(20)
    assert len(shop.new_subscribers()) == 1
    shop.release(lease)
    assert len({waiter.result(20) for waiter in waiters}) == 20
    assert len(shop.new_subscribers()) == 1


@pytest.mark.parametrize(
    "options",
    [{}, {"socket_timeout": 0.3}, {"max_connections": 1}, *MANNERS],
    ids=str,
)
def test_every_manner_of_client_is_woken(open_shop, options):
    assert_all_are_served(open_shop(**options))


@pytest.fixture
def walled_server(tmp_path: Path) -> Iterator[tuple[str, str, Redis]]:
    """A server with a password, on a port and on a Unix socket."""

    class Walled(RedisServer):
        def command(self) -> list[str]:
            return [*super().command(), "--requirepass", "hunter2", "--unixsocket", str(tmp_path / "socket")]

        def answers(self) -> bool:
            return (tmp_path / "socket").exists()

    server = Walled(tmp_path / "server")
    try:
        server.start()
    except Missing as missing:
        pytest.skip(str(missing))
    urls = server.url.replace("redis://", "redis://:hunter2@"), f"unix://:hunter2@{tmp_path}/socket"
    yield *urls, Redis.from_url(urls[0])
    server.stop()


@pytest.mark.parametrize("way", [0, 1], ids=["password", "Unix socket"])
def test_the_wake_up_connection_is_made_as_the_others_are(walled_server, open_shop, way):
    assert_all_are_served(open_shop(walled_server[way], walled_server[2]))


def test_who_may_not_subscribe_waits_by_asking(open_shop, caplog):
    server = client_of("real")
    server.acl_setuser("deaf", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-subscribe"])
    shop = open_shop(URL.replace("redis://", "redis://deaf:@"))
    lease = shop.acquire("first")
    waiters = [shop._pool.submit(shop.pass_on, who) for who in "abc"]
    while not caplog.records:
        assert not any(waiter.done() for waiter in waiters)
    shop.release(lease)
    assert {waiter.result(20) for waiter in waiters} == set("abc")
    assert (len(caplog.records), shop.new_subscribers()) == (1, set())
    server.acl_deluser("deaf")


def test_connections_that_another_thread_closes_take_nothing_from_those_who_wait(open_shop):
    """`CLOSE_CONNECTION` does so at the end of each request."""
    pool = ConnectionPool.from_url(URL)
    shop = open_shop(server=None)
    shop.store._connect = lambda: Redis(connection_pool=pool)
    lease = shop.acquire("first")
    waiters = shop.queue(3)
    pool.disconnect()
    shop.release(lease)
    assert len([waiter.result(20) for waiter in waiters]) == 3


@pytest.mark.parametrize("options", [{}, {"retry": Retry(NoBackoff(), 3)}], ids=["once", "again"])
def test_who_waits_gets_the_key_although_the_wake_up_connection_was_killed(open_shop, options):
    shop = open_shop(**options)
    lease = shop.acquire("first")
    waiters = shop.queue(3)
    (killed,) = shop.new_subscribers()
    shop.server.client_kill_filter(_id=killed)
    shop.release(lease)
    assert len([waiter.result(20) for waiter in waiters]) == 3


@pytest.mark.parametrize("options", [{}, {"retry": Retry(NoBackoff(), 3)}], ids=["once", "again"])
def test_a_connection_that_the_client_has_made_anew_counts_as_broken(open_shop, options):
    """What was published meanwhile is lost, so the waiters have to know."""
    shop = open_shop()
    subscription = PoolSubscription(pool_of(URL, **options)().connection_pool, "a channel")
    (killed,) = shop.new_subscribers()
    shop.server.client_kill_filter(_id=killed)
    with pytest.raises(Interrupted):
        for _ in range(3):
            subscription.read(0.5)
    subscription.close()


def test_a_read_may_take_longer_than_the_clients_own_limit(open_shop):
    shop = open_shop()
    subscription = PoolSubscription(pool_of(URL, socket_timeout=0.05)().connection_pool, "a channel")
    assert subscription.read(0.2) is None
    shop.server.publish("a channel", "hello")
    assert subscription.read(5) == "hello"
    subscription.close()


def test_a_server_that_is_away_interrupts(real_redis):
    pool = pool_of("redis://127.0.0.1:1/0")().connection_pool
    with pytest.raises(Interrupted):
        PoolSubscription(pool, "a channel")


@pytest.mark.usefixtures("real_redis")
class TestConnectionsOfTheCommands:
    def test_a_process_that_does_nothing_but_wait_keeps_the_wake_up_connection_alone(self, monkeypatch):
        monkeypatch.setattr(wakeups, "SLICE", 0.05)
        with ThreadPoolExecutor(1) as thread:
            with lock("a"):
                waiter = thread.submit(attempt, wait=PATIENCE)
                until(lambda: waiters_of("a") == 1)
                until(lambda: self.connections()._count == 0)
                assert hearers_of("a") == 1
            assert waiter.result(PATIENCE) == "entered"

    def test_they_are_closed_when_nothing_was_asked_since_the_last_look(self):
        with lock("a"):
            connections = Connections(self.connections().pool)  # into which no listener looks
        connections.give(connections.take())
        connections.close_unused()
        assert connections._count == 1
        connections.close_unused()
        assert connections._count == 0

    @staticmethod
    def connections() -> Any:
        store: Any = locks["default"].store
        return store._connections
