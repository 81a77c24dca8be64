"""Waiting in line among real processes: signals, crashes, and a server that comes back."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from django_redislock import LockNotHeld, StoreUnavailable, lock, locked
from django_redislock.handler import locks
from django_redislock.holder import encode_current
from django_redislock.keys import Key
from django_redislock.stores.base import Held, Taken
from django_redislock.stores.redis import RedisStore
from tests.flows import PATIENCE, client_of, elsewhere, hearers_of, is_free, peer, until, waiters_of
from tests.servers import Missing, Redis
from tests.settings import cache
from tests.testapp.models import Account

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("real_redis")]

ENTER = """
from django_redislock import lock
{first}
with lock("{name}", ttl={ttl}, wait=60) as lease:
    print("held", flush=True)
    sys.stdin.readline()
"""
READY = 'print("ready", flush=True); sys.stdin.readline()'


def script(*, name: str = "a", ttl: float = 30, first: str = "") -> str:
    """What a process runs that waits for a lock and keeps it until it is told."""
    return ENTER.format(name=name, ttl=ttl, first=first)


def in_line(count: int) -> None:
    """Wait until so many wait for the lock."""
    until(lambda: waiters_of("a") == count)


def enter(ttl: float = 30) -> int:
    """Wait for the lock, and give it back; the fence is the server's time of the taking in microseconds."""
    with lock("a", wait=60, ttl=ttl) as lease:
        return lease.fence


def stand_in_line(threads: ThreadPoolExecutor, count: int, *, ttl: float = 30) -> list[Future[int]]:
    """Let threads come one after the other."""
    line = []
    for number in range(count):
        line.append(threads.submit(enter, ttl))
        in_line(number + 1)
    return line


def left_behind(*patterns: str) -> list[str]:
    """The keys that are in Redis."""
    client = client_of("real")
    return [key.decode() for pattern in patterns for key in client.scan_iter(pattern)]


def connections(*commands: str) -> int:
    """How many connections the server has whose last command is one of these, or no lock's command at all."""
    last = [client["cmd"] for client in client_of("real").client_list()]
    return sum(command in commands if commands else command not in {"evalsha", "eval"} for command in last)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads to wait in."""
    with ThreadPoolExecutor(100) as pool:
        yield pool


class TestAKilledHolder:
    def test_the_next_in_line_has_it_when_the_ttl_is_over(self, threads):
        with peer(script(ttl=2)) as holder:
            assert holder.hear() == "held"
            since = lock("a").info().since.timestamp()
            following = threads.submit(enter)
            in_line(1)
            holder.kill()
            assert 2 <= following.result() / 1e6 - since < 3  # one that only asks now and then would be at 15

    def test_newcomers_stay_behind_those_who_waited_for_that(self, threads):
        with peer(script(ttl=2)) as holder:
            assert holder.hear() == "held"
            line = stand_in_line(threads, 5)
            holder.kill()
            line.append(threads.submit(enter))
            fences = [place.result() for place in line]
            assert fences == sorted(fences)


class TestAKilledWaiter:
    def test_it_is_skipped_in_the_very_release(self):
        guard = lock("a")
        guard.acquire()
        with peer(script()) as dead:
            in_line(1)
            with peer(script()) as following:
                in_line(2)
                dead.kill()
                until(lambda: hearers_of("a") == 1)
                guard.release()
                assert lock("a").info().holder.pid == following.pid
                assert following.hear() == "held"

    def test_alone_it_leaves_the_lock_free(self):
        guard = lock("a")
        guard.acquire()
        with peer(script()) as dead:
            in_line(1)
            dead.kill()
        until(lambda: hearers_of("a") == 0)
        guard.release()
        assert is_free("a")


class TestAnInterruptedWaiter:
    SCRIPT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell has switched off in the background
from django_redislock import lock
try:
    with lock("a", wait=60):
        pass
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.stdin.readline()
"""

    def test_it_leaves_no_entry_in_the_queue(self):
        with lock("a"), peer(self.SCRIPT) as waiter:
            in_line(1)
            assert left_behind("*:queue:*", "*:flow:*")
            waiter.send(signal.SIGINT)
            assert waiter.hear() == "interrupted"
            assert not left_behind("*:queue:*", "*:flow:*")

    def test_it_costs_the_next_nothing(self, threads):
        guard = lock("a")
        guard.acquire()
        with peer(self.SCRIPT) as waiter:
            in_line(1)
            following = threads.submit(enter)
            in_line(2)
            waiter.send(signal.SIGINT)
            assert waiter.hear() == "interrupted"
            guard.release()
            assert following.result()


WRITE = """
from django_redislock import LeaseLost, locked
from tests.testapp.models import Account
try:
    with locked(Account.objects.using({using!r}), {pk}, ttl={ttl}, wait=60) as account:
        account.balance += 1
        account.save()
        print("written", flush=True)
        sys.stdin.readline()
    print("committed", flush=True)
except LeaseLost:
    print("lost", flush=True)
"""


@pytest.mark.django_db(transaction=True)
class TestAStoppedHolder:
    def test_it_is_told_and_nothing_it_wrote_is_committed(self, db_alias):
        account = Account.objects.using(db_alias).create(balance=0)
        guard = locked(account)
        with peer(WRITE.format(using=db_alias, pk=account.pk, ttl=0.5)) as holder:
            assert holder.hear() == "written"
            holder.stop()
            guard.acquire(wait=30)
            holder.send(signal.SIGCONT)
            holder.tell()
            assert holder.hear() == "lost"
            account.refresh_from_db()
            assert account.balance == 0
            guard.release()


class TestAStoppedWaiter:
    TRUSTS = """
from django_redislock import lock
with lock("a", ttl=2, wait=60) as lease:
    print(lease.state, lock("a").info().remaining >= lease.remaining, flush=True)
"""

    @pytest.mark.parametrize("ttl", [1, 6], ids=["as_short_a_ttl", "a_longer_ttl_of_its_own"])
    def test_what_it_is_granted_in_its_sleep_costs_the_next_its_ttl(self, threads, ttl):
        guard = lock("a")
        guard.acquire()
        with peer(script(ttl=1)) as stopped:
            in_line(1)
            following = threads.submit(enter, ttl)
            in_line(2)
            stopped.stop()
            guard.release()
            since = lock("a").info().since.timestamp()
            assert 1 <= following.result() / 1e6 - since < 2

    def test_woken_in_time_it_trusts_its_lease_no_longer_than_the_server(self):
        guard = lock("a")
        guard.acquire()
        with peer(self.TRUSTS) as stopped:
            in_line(1)
            stopped.stop()
            guard.release()
            until(lambda: lock("a").info().remaining < 0.8)
            stopped.send(signal.SIGCONT)
            assert stopped.hear() == "held True"

    def test_woken_too_late_it_stands_in_line_again(self):
        guard = lock("a")
        guard.acquire()
        with peer(self.TRUSTS) as stopped:
            in_line(1)
            stopped.stop()
            guard.release()
            guard.acquire(wait=60)
            stopped.send(signal.SIGCONT)
            in_line(1)
            guard.release()
            assert stopped.hear() == "held True"


class TestALostMessage:
    def test_who_asks_again_has_the_key_for_a_whole_ttl_from_then_on(self):
        store, client = locks["default"].lock("a", model=None).store, client_of("real")
        holder = encode_current()
        with client.pubsub() as ear:
            ear.subscribe("ear")
            until(lambda: ear.get_message() is not None)
            assert isinstance(store.acquire(Key("a"), token="one", ttl=30, holder=holder), Taken)
            assert isinstance(store.acquire(Key("a"), token="two", ttl=30, holder=holder, channel="ear"), Held)
            store.release(Key("a"), token="one", ttl=30)
            client.pexpire(left_behind("*:lock:a")[0], 5_000)  # the message got lost 25 s ago
            assert isinstance(store.acquire(Key("a"), token="two", ttl=30, holder=holder, channel="ear"), Taken)
        assert lock("a").info().remaining > 25


class TestOneLine:
    SCRIPT = """
import threading
from django_redislock import lock
from tests.flows import client_of
def enter(name):
    with lock("a", wait=60):
        client_of("real").rpush("order", name)
for name in sys.stdin:
    threading.Thread(target=enter, args=[name.strip()]).start()
"""

    def test_processes_and_threads_are_served_as_they_came(self, threads):
        def here(name: str) -> None:
            with lock("a", wait=60):
                client_of("real").rpush("order", name)

        with peer(self.SCRIPT) as one, peer(self.SCRIPT) as other:
            doors = [one.tell, lambda name: threads.submit(here, name), other.tell]
            with lock("a"):
                for number in range(9):
                    doors[number % 3](str(number))
                    in_line(number + 1)
            until(lambda: client_of("real").llen("order") == 9)
        assert client_of("real").lrange("order", 0, -1) == [b"%d" % number for number in range(9)]


class TestACycle:
    SCRIPT = """
from django_redislock import Deadlock, lock
try:
    with lock("{first}"):
        print("ready", flush=True)
        sys.stdin.readline()
        with lock("{second}", wait=60):
            print("went on", flush=True)
except Deadlock as refused:
    print(*(edge.key for edge in refused.edges), flush=True)
"""

    def test_one_of_two_is_refused_and_the_other_goes_on(self):
        ab, ba = self.SCRIPT.format(first="a", second="b"), self.SCRIPT.format(first="b", second="a")
        with peer(ab) as one, peer(ba) as other:
            assert [one.hear(), other.hear()] == ["ready", "ready"]
            one.tell()
            other.tell()
            assert {one.hear(), other.hear()} in ({"went on", "a b"}, {"went on", "b a"})


class TestAServerThatForgets:
    def test_who_waits_gets_it_although_the_scripts_are_gone(self, threads):
        with lock("a"):
            line = stand_in_line(threads, 5)
            client_of("real").script_flush()
        fences = [place.result() for place in line]
        assert fences == sorted(fences)


@pytest.fixture
def own_redis(tmp_path: Path, settings: Any) -> Iterator[Redis]:
    """A server that the test may kill."""
    server = Redis(tmp_path / "redis")
    try:
        url = server.start()
    except Missing as reason:
        pytest.skip(f"a server of the test's own: {reason}")
    settings.CACHES = {**settings.CACHES, "own": cache(url)}
    settings.REDISLOCK = {"default": {"CACHE": "own"}}
    yield server
    server.stop()


def own_store() -> RedisStore:
    """The store of that server."""
    store = locks["default"].lock("a", model=None).store
    assert isinstance(store, RedisStore)
    return store


def nobody_asks(store: RedisStore) -> bool:
    """Whether no question to the store is on its way: each has its connection, and all of them are idle."""
    return store._connections._idle.qsize() == store._connections._count


class TestAServerThatComesBack:
    def test_all_who_sleep_through_it_are_woken_and_get_the_lock(self, own_redis, threads):
        with lock("a"):
            first = stand_in_line(threads, 1)
        first[0].result()  # it was woken, so from here on the wake-up connection tells nobody to ask because it is new
        guard = lock("a", ttl=300)
        guard.acquire()
        line = stand_in_line(threads, 20, ttl=300)
        until(partial(nobody_asks, own_store()))
        own_redis.kill()
        own_redis.start_again()
        assert len({place.result(PATIENCE) for place in line}) == 20
        with pytest.raises(LockNotHeld):
            guard.release()

    def test_who_asks_while_it_is_away_is_told(self, own_redis, threads):
        def try_for_a_while() -> None:
            with lock("a", wait=0.5):
                raise AssertionError("entered")

        elsewhere(lock("a").acquire)  # what nobody gives back is not this thread's
        waiter = threads.submit(try_for_a_while)
        in_line(1)
        own_redis.kill()
        with pytest.raises(StoreUnavailable):
            waiter.result()
        store = own_store()
        until(lambda: store._wakeups._listener is None)  # and nobody tries to connect again


class TestAHundredThreads:
    def test_none_starves_and_all_of_them_wait_on_one_connection(self, threads):
        before, asked_before = connections(), connections("evalsha", "eval")
        with lock("a"):
            line = stand_in_line(threads, 100)
            assert hearers_of("a") == 1
            assert connections() - before <= 2
            assert connections("evalsha", "eval") - asked_before < 10
        fences = [place.result() for place in line]
        assert fences == sorted(fences)

    def test_coming_all_at_once_again_and_again_all_get_it(self, threads):
        barrier = Barrier(100)

        def come_back() -> list[int]:
            barrier.wait()
            return [enter() for _ in range(3)]

        comers = [threads.submit(come_back) for _ in range(100)]
        assert len({fence for comer in comers for fence in comer.result()}) == 300


class TestWhatIsLeft:
    def test_after_all_have_died_the_fences_alone_outlive_the_longest_ttl(self):
        client = client_of("real")
        with ExitStack() as stack:
            peers = [stack.enter_context(peer(script(name=name, ttl=1.5, first=READY))) for name in "aabb"]
            assert [process.hear() for process in peers] == ["ready"] * 4
            for process in peers:
                process.tell()
            until(lambda: waiters_of("a") == waiters_of("b") == 1)
            for process in peers:
                process.kill()
        lives = {key.decode(): client.pttl(key) for key in client.scan_iter("*redislock*")}
        assert {word for key in lives for word in key.split(":")} >= {"lock", "held", "queue", "flow", "fence"}
        assert all(life == -1 if key.endswith(":fence") else 0 < life <= 1500 for key, life in lives.items()), lives
        until(lambda: all(key.endswith(b":fence") for key in client.scan_iter()))


class TestGreenlets:
    SCRIPT = """
import gevent
from django_redislock import lock
from tests.flows import hearers_of
order = []
def enter(number):
    with lock("a", wait=60):
        order.append(number)
line = []
with lock("a"):
    for number in range(20):
        line.append(gevent.spawn(enter, number))
        while lock("a").info().waiters == number:
            pass
    hearers = hearers_of("a")
gevent.joinall(line, raise_error=True)
print(order == list(range(20)), hearers, flush=True)
"""

    @pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="gevent is not installed: extra `test`")
    def test_they_wait_in_line(self):
        with peer(self.SCRIPT, first="from gevent import monkey; monkey.patch_all()") as patched:
            assert patched.hear() == "True 1"
