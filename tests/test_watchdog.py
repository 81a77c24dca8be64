"""The watchdog at work: one thread that keeps what is held, whatever becomes of threads, processes and servers."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from queue import Queue
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from django.core.cache import caches
from django.db import connection
from django.db.utils import ConnectionHandler

from django_redislock import LeaseLost, clock, lock, lock_many, signals, watchdog
from django_redislock.exceptions import LossReason
from django_redislock.forcing import force_release
from django_redislock.holds import held_here
from django_redislock.lease import Lease, LeaseState
from django_redislock.watchdog import Rounds, Watchdog
from tests.flows import attempt, elsewhere, is_free, peer, until
from tests.servers import Missing
from tests.servers.sets import Member
from tests.settings import cache
from tests.testapp.models import Account, Purse

TTL = 0.6
"""Seconds: short enough for a test, long enough for a machine that has other things to do."""


def threads_named(name: str = "redislock-watchdog") -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def renewed(lease: Lease, *, times: float = 1.5) -> bool:
    """Whether it has been held for so many of its ttls."""
    return lease.held_for > times * lease.ttl and lease.state is LeaseState.HELD


@pytest.fixture
def losses() -> Iterator[Queue[tuple[str, LossReason]]]:
    """The losses that are told."""
    told: Queue[tuple[str, LossReason]] = Queue()

    def hear(lease: Lease, reason: LossReason, **named: Any) -> None:
        told.put((lease.key.name, reason))

    signals.lock_lost.connect(hear)
    yield told
    signals.lock_lost.disconnect(hear)


class TestOneThread:
    """One for all that a process holds."""

    def test_what_is_held_for_longer_than_its_ttl_is_kept(self, lock_alias):
        with lock("a", ttl=TTL) as lease:
            until(lambda: renewed(lease))
            assert not is_free("a")
        assert is_free("a")

    def test_a_lock_that_lasts_longer_does_not_keep_it_from_a_shorter_one(self, lock_alias):
        with lock("long"), lock("short", ttl=TTL) as lease:
            until(lambda: renewed(lease))

    @pytest.mark.long
    def test_it_looks_again_after_its_clock_was_set_by_hand(self, lock_alias, monkeypatch):
        with lock("a", ttl=3) as first:
            until(lambda: watchdog.watchdog.looks_at < math.inf)
            due = watchdog.watchdog.looks_at
            with monkeypatch.context() as patch:
                patch.setattr(clock, "now", lambda: 0.0)
                watchdog.watchdog.ring(due)
                time.sleep(1.5)
            assert clock.now() > due
            with lock("b", ttl=TTL) as second:
                until(lambda: renewed(second))
            assert first.state is LeaseState.HELD

    def test_many_flows_and_locks_share_it(self, lock_alias):
        held: Queue[list[Lease]] = Queue()
        may_end = threading.Event()

        def hold(number: int) -> None:
            with lock_many([f"{number}-{name}" for name in "abc"], ttl=TTL) as leases:
                held.put(leases)
                may_end.wait(30)

        with ThreadPoolExecutor(10) as pool:
            ends = [pool.submit(hold, number) for number in range(10)]
            leases = [lease for _ in ends for lease in held.get(timeout=10)]
            until(lambda: all(map(renewed, leases)))
            (thread,) = threads_named()
            assert thread.daemon  # it keeps no process from ending
            may_end.set()
            assert [end.result() for end in ends] == [None] * 10

    def test_it_ends_when_nothing_is_held_and_starts_again(self, lock_alias, monkeypatch):
        monkeypatch.setattr(watchdog, "IDLE", 0.01)
        own = Watchdog()
        assert own._thread is None
        monkeypatch.setattr("django_redislock.keeping.watchdog", own)
        for _ in range(2):
            with lock("a", ttl=TTL) as lease:
                until(partial(renewed, lease))
            until(lambda: own._thread is None)

    @pytest.mark.django_db(transaction=True)
    def test_it_never_touches_the_database(self, lock_alias, monkeypatch):
        """Not even for a row that it lets go: what a receiver asks then, it asks in another thread."""
        asked: set[str] = set()
        given = ConnectionHandler.__getitem__

        def note(connections: Any, alias: str) -> Any:
            asked.add(threading.current_thread().name)
            return given(connections, alias)

        def ask(**named: Any) -> None:
            Purse.objects.exists()

        purse = Purse.objects.create()
        monkeypatch.setattr(ConnectionHandler, "__getitem__", note)
        signals.lock_lost.connect(ask)
        try:
            with Purse.objects.locked(purse.pk, ttl=TTL, max_hold=2 * TTL, alias=lock_alias):
                until(lambda: "redislock-losses" in asked)
        finally:
            signals.lock_lost.disconnect(ask)
        until(lambda: not threads_named("redislock-losses"))
        assert asked == {threading.current_thread().name, "redislock-losses"}

    def test_it_goes_on_after_an_error(self, lock_alias, monkeypatch, caplog):
        monkeypatch.setattr(watchdog, "AFTER_ERROR", 0.01)
        look, failures = Rounds.look, [ValueError("first"), ValueError("second")]

        def fail_at_first(rounds: Rounds, **named: Any) -> Any:
            if failures:
                raise failures.pop()
            return look(rounds, **named)

        monkeypatch.setattr(Rounds, "look", fail_at_first)
        with lock("a", ttl=TTL) as lease:
            until(lambda: renewed(lease))
        assert "The watchdog goes on after an error" in caplog.text

    def test_where_no_thread_can_be_started_locks_work_until_their_ttl(self, lock_alias, monkeypatch, caplog):
        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr("django_redislock.keeping.watchdog", Watchdog())
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with lock("a", ttl=TTL) as lease:
            assert lease.state is LeaseState.HELD
        assert "The watchdog could not be started" in caplog.text

    def test_what_is_merely_taken_and_given_back_is_never_asked_about(self, lock_alias, caplog):
        caplog.set_level(logging.DEBUG, "django_redislock")
        for number in range(100):
            with lock(str(number)):
                pass
        assert "renewed" not in caplog.text

    @pytest.mark.parametrize(("terms", "after"), [({}, 10), ({"max_hold": 4}, 4), ({"max_hold": None}, 10)])
    def test_it_sleeps_until_the_earliest_third_or_max_hold(self, lock_alias, monkeypatch, terms, after):
        own = Watchdog()
        monkeypatch.setattr("django_redislock.keeping.watchdog", own)
        with lock("a", ttl=30, **terms) as lease:
            until(lambda: own.looks_at != math.inf)
            assert own.looks_at <= lease.acquired_at + after + 0.001

    @pytest.mark.parametrize(
        ("looks_in", "max_hold", "is_rung"),
        [(math.inf, None, True), (9, None, False), (11, None, True), (9, 4, True), (3, 4, False)],
    )
    def test_who_needs_no_earlier_look_does_not_ring(self, lock_alias, monkeypatch, looks_in, max_hold, is_rung):
        own, rung = Watchdog(), list[float]()
        monkeypatch.setattr(own, "ring", rung.append)
        monkeypatch.setattr("django_redislock.keeping.watchdog", own)
        own.looks_at = clock.now() + looks_in
        with lock("a", ttl=30, max_hold=max_hold):
            assert bool(rung) is is_rung


class TestAbandoned:
    """What nobody will give back is not kept."""

    def test_by_its_thread(self, lock_alias):
        guard = lock("a", ttl=TTL)
        elsewhere(guard.acquire)
        until(lambda: is_free("a"))

    def test_by_whoever_dropped_the_lock(self, lock_alias):
        lock("a", ttl=TTL).acquire()
        until(lambda: is_free("a"))

    def test_by_a_killed_process(self, real_redis):
        script = f"from django_redislock import lock\nwith lock('a', ttl={TTL}): print(1, flush=True); sys.stdin.read()"
        with peer(script) as holder:
            holder.hear()
            holder.kill()
            until(lambda: is_free("a"))

    def test_but_what_its_owner_has_in_hand_is_kept(self, lock_alias):
        guard = lock("a", ttl=TTL)
        lease = guard.acquire()
        until(lambda: renewed(lease))
        guard.release()


class TestLoss:
    """It is told at the moment when it is known, and nobody has to look for it."""

    def test_by_force(self, lock_alias, losses):
        with pytest.raises(LeaseLost, match="released by force"), lock("a", ttl=TTL):
            force_release("a")
            assert losses.get(timeout=10) == ("a", LossReason.FORCED)

    def test_by_a_flush(self, lock_alias, losses):
        with pytest.raises(LeaseLost, match="Redis has lost it"), lock("a", ttl=TTL):
            caches[lock_alias].clear()
            assert losses.get(timeout=10) == ("a", LossReason.STORE_RESTARTED)

    def test_by_a_flush_after_which_another_came(self, lock_alias, losses):
        successor = lock("a")
        with pytest.raises(LeaseLost, match="another holds it now"), lock("a", ttl=6):
            caches[lock_alias].clear()
            elsewhere(successor.acquire)
            assert losses.get(timeout=10) == ("a", LossReason.TAKEN_OVER)

    def test_by_max_hold_the_next_in_line_has_it_at_once(self, lock_alias, losses):
        with ThreadPoolExecutor(1) as pool, pytest.raises(LeaseLost, match="longer than max_hold"):
            with lock("a", ttl=30, max_hold=0.2) as lease:
                assert pool.submit(attempt, "a", wait=30).result(timeout=10) == "entered"
                assert 0.2 <= lease.held_for < 10
        assert losses.get(timeout=10) == ("a", LossReason.MAX_HOLD)
        assert losses.empty()

    def test_a_ttl_beyond_the_setting_is_not_cut_short(self, lock_alias, settings):
        settings.REDISLOCK = {"default": {"CACHE": lock_alias, "MAX_HOLD": 0.1}}
        for terms, max_hold in (({}, 30), ({"max_hold": 0.2}, 0.2), ({"max_hold": None}, None)):
            with (guard := lock("a", ttl=30, **terms)) as lease:
                assert guard.max_hold_of(lease) == max_hold

    @pytest.mark.parametrize("max_hold", [0, -1, "5", True, math.inf])
    @pytest.mark.parametrize(
        "call",
        [
            lambda **terms: lock("a", **terms),
            lambda **terms: lock_many(["a"], **terms),
            lambda **terms: Account.objects.locked(1, **terms),
            lambda **terms: Account.objects.locked_many([1], **terms),
        ],
    )
    def test_a_wrong_max_hold_is_refused_at_the_call(self, call, max_hold):
        with pytest.raises((TypeError, ValueError)):
            call(max_hold=max_hold)

    def test_a_slow_receiver_keeps_nobody_from_being_renewed(self, lock_alias):
        told, may_end = threading.Event(), threading.Event()

        def hear(**named: Any) -> None:
            told.set()
            may_end.wait(10)

        signals.lock_lost.connect(hear)
        try:
            with pytest.raises(LeaseLost), lock("a", ttl=TTL), lock("b", ttl=TTL) as kept:
                force_release("a")
                assert told.wait(10)
                until(lambda: renewed(kept))
                may_end.set()
        finally:
            signals.lock_lost.disconnect(hear)

    @pytest.mark.django_db(transaction=True)
    def test_what_receivers_ask_of_the_database_leaves_no_connection(self, lock_alias):
        seen: Queue[Any] = Queue()

        def hear(**named: Any) -> None:
            Account.objects.count()
            seen.put((threading.current_thread(), connection.connection))

        signals.lock_lost.connect(hear)
        try:
            with pytest.raises(LeaseLost), lock("a", ttl=TTL):
                force_release("a")
                thread, raw = seen.get(timeout=10)
                thread.join(10)
        finally:
            signals.lock_lost.disconnect(hear)
        assert thread.name == "redislock-losses"
        with pytest.raises(Exception, match="closed"):
            raw.execute("SELECT 1")


class TestFork:
    """A child neither keeps nor gives back what its parent holds."""

    pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

    def in_child(self, work: Callable[[], bool]) -> bool:
        pid = os.fork()
        if pid == 0:
            os._exit(0 if work() else 1)
        return os.waitpid(pid, 0)[1] == 0

    def test_a_child_keeps_its_own_and_not_its_parents(self, real_redis):
        def keep_one() -> bool:
            before = (held_here(), threads_named())
            with lock("b", ttl=TTL) as lease:
                until(lambda: renewed(lease))
                return before == ([], []) and [hold.lock.key.name for hold in held_here()] == ["b"]

        with lock("a", ttl=TTL) as lease:
            until(lambda: renewed(lease))
            assert self.in_child(keep_one)
            assert lease.state is LeaseState.HELD

    def test_a_forked_child_starts_with_a_clean_watchdog_whatever_its_parent_was_doing(self, real_redis):
        def keep_one() -> bool:
            with lock("b", ttl=TTL) as lease:
                until(lambda: renewed(lease))
                return True

        with watchdog.watchdog._bell:
            assert self.in_child(keep_one)


KEEP = f"""
from django_redislock import lock
from tests.flows import until
from tests.test_watchdog import renewed, threads_named
with lock("a", ttl={TTL}) as lease:
    until(lambda: renewed(lease))
    print(lease.state, len(threads_named()), flush=True)
"""


LEAVE_BEHIND = f"""
import gevent
from django_redislock import lock
from tests.flows import is_free, until
guard = lock("a", ttl={TTL})
gevent.spawn(guard.acquire).join()
until(lambda: is_free("a"))
print("free", flush=True)
"""


class TestGreenlets:
    @pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="gevent is not installed: extra `test`")
    def test_it_works_in_a_patched_process(self, real_redis):
        with peer(KEEP, first="from gevent import monkey; monkey.patch_all()") as patched:
            assert patched.hear() == "held 1"
            assert patched.end() == 0

    @pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="gevent is not installed: extra `test`")
    def test_what_a_greenlet_has_left_behind_is_not_kept(self, real_redis):
        with peer(LEAVE_BEHIND, first="from gevent import monkey; monkey.patch_all()") as patched:
            assert patched.hear() == "free"


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("gunicorn") is None, reason="gunicorn is not installed: extra `test`")
class TestPreloaded:
    """gunicorn --preload: the workers are forked from a process that holds a lock already."""

    @pytest.fixture
    def served(self, real_redis: str) -> Iterator[str]:
        """Where it is served."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            address = "{}:{}".format(*probe.getsockname())
        options = ["--preload", "--workers", "2", "--bind", address, "--log-level", "error"]
        command = [sys.executable, "-m", "gunicorn", *options, "tests.preloaded:application"]
        with subprocess.Popen(command, cwd=Path(__file__).parent.parent) as server:
            try:
                yield address
            finally:
                server.terminate()

    def answer(self, address: str) -> str:
        with urlopen(f"http://{address}", timeout=30) as response:
            return str(response.read().decode())

    def is_served(self, address: str) -> bool:
        try:
            return bool(self.answer(address))
        except URLError:  # not yet
            return False

    def test_each_process_keeps_its_own(self, served):
        until(lambda: self.is_served(served))
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda _: self.answer(served), range(2)))
        assert answers == ["held by one thread: of a worker"] * 2
        assert not is_free("of the master")


PAUSED = """
from django_redislock import LeaseLost, signals
from tests.testapp.models import Account
signals.lock_lost.connect(lambda reason, **named: print("signal:", reason, flush=True), weak=False)
try:
    with Account.objects.using("{using}").locked({pk}, ttl={ttl}) as account:
        print("read", flush=True)
        sys.stdin.readline()
        account.balance -= 10
        account.save()
except LeaseLost as lost:
    print("error:", lost.reason, flush=True)
"""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("db_alias", ["postgres", "mariadb"], indirect=True)  # a paused writer keeps all out of SQLite
@pytest.mark.long
class TestAPausedHolder:
    """SIGSTOP past the ttl: the timeline of docs/leases.md."""

    def test_another_works_meanwhile_and_the_late_one_is_told_and_rolled_back(self, real_redis, db_alias):
        account = Account.objects.using(db_alias).create(balance=100)
        with peer(PAUSED.format(using=db_alias, pk=account.pk, ttl=TTL)) as paused:
            assert paused.hear() == "read"
            paused.stop()
            with Account.objects.using(db_alias).locked(account.pk, wait=30) as row:
                row.balance += 5
                row.save()
            paused.send(signal.SIGCONT)
            assert paused.hear() == "signal: expired"
            paused.tell()
            assert paused.hear() == "error: expired"
        account.refresh_from_db()
        assert account.balance == 105


SERVER_ARGUMENTS = {"without persistence": [], "with persistence": ["--appendonly", "yes", "--appendfsync", "always"]}


@pytest.fixture
def start(tmp_path: Path, settings: Any) -> Iterator[Callable[[str], Member]]:
    """Starts a server of the test's own."""
    with ExitStack() as stack:

        def start_one(how: str) -> Member:
            server = Member(tmp_path / "redis", *SERVER_ARGUMENTS[how])
            try:
                url = server.start()
            except Missing as reason:
                pytest.skip(f"a server of the test's own: {reason}")
            stack.callback(server.stop)
            settings.CACHES = {**settings.CACHES, "own": cache(url, socket_timeout=None)}
            settings.REDISLOCK = {"default": {"CACHE": "own"}}
            return server

        yield start_one


@pytest.mark.long
class TestAServerThatIsKilled:
    """The lease is in doubt while nobody answers, and good until its deadline."""

    def test_with_what_it_knew_the_lease_goes_on(self, start):
        server = start("with persistence")
        with lock("a", ttl=5) as lease:
            server.kill()
            until(lambda: lease.state is LeaseState.UNKNOWN)
            lease.ensure_held()
            server.start_again()
            until(lambda: lease.state is LeaseState.HELD)
            assert not is_free("a")
        assert lease.reason is None

    def test_without_what_it_knew_the_lease_is_lost(self, start, losses):
        server = start("without persistence")
        with pytest.raises(LeaseLost, match="Redis has lost it"), lock("a", ttl=5):
            server.kill()
            server.start_again()
            assert losses.get(timeout=10) == ("a", LossReason.STORE_RESTARTED)

    def test_for_longer_than_the_ttl_the_lease_is_lost(self, start, losses):
        server = start("without persistence")
        with pytest.raises(LeaseLost, match=r"not renewed in time, .* Redis could not be asked"), lock("a", ttl=TTL):
            server.kill()
            assert losses.get(timeout=10) == ("a", LossReason.EXPIRED)


@pytest.mark.long
class TestAServerThatHangs:
    """It answers nobody, not even who connects, and the client waits for it without end."""

    @pytest.fixture
    def hanging(self, start: Any, real_redis: str, settings: Any) -> Member:
        """A server that will hang, as the alias "own"; the default is a good one."""
        server: Member = start("without persistence")
        settings.REDISLOCK = {"default": {"CACHE": real_redis}, "own": {"CACHE": "own"}}
        return server

    def test_what_is_held_on_another_is_renewed(self, hanging, losses):
        with pytest.raises(LeaseLost, match="lease on a "), lock("a", alias="own", ttl=TTL), lock("b", ttl=TTL) as kept:
            hanging.pause()
            assert losses.get(timeout=10) == ("a", LossReason.EXPIRED)
            until(partial(renewed, kept, times=6))
            hanging.resume()
        assert losses.empty()

    def test_what_it_keeps_from_being_handed_over_is_lost_and_the_other_goes_on(self, hanging, losses):
        with pytest.raises(LeaseLost), lock("a", alias="own", ttl=30, max_hold=0.2), lock("b", ttl=TTL) as kept:
            hanging.pause()
            assert losses.get(timeout=10) == ("a", LossReason.MAX_HOLD)
            until(partial(renewed, kept, times=6))
            hanging.resume()
        assert losses.empty()
