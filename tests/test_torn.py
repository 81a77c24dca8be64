"""A signal's handler that raises while a lock is acquired or given back, wherever that is: nothing stays taken."""

from __future__ import annotations

import asyncio
import itertools
import linecache
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import Context
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from django.db import connections
from django.db.transaction import atomic

import django_redislock
from django_redislock import lock, lock_many, signals
from django_redislock.guards import Guard
from django_redislock.holds import current_flow, held_here
from tests.flows import PATIENCE, client_of, is_free, until, waiters_of
from tests.testapp.models import Account

FILES = ("guards.py", "holds.py", "keeping.py", "keylock.py", "lease.py", "waiting.py", "steps.py", "stores/redis.py")
ALL = str(Path(django_redislock.__file__).parent)
BEGUN = 2
"""So many lines of an exit are nothing but its beginning: what comes there comes before it, as in the block."""


class Torn(BaseException):
    """As `KeyboardInterrupt`, or the time limits of task queues."""


class Tearing:
    """Raises at one line of the package, also where Python looks for no signals; in what comes after, no more.

    Only the end of a `with` block is one line with what leaves it: between those Python lets nothing come, whatever a
    trace is told.
    """

    def __init__(self, step: int, *, files: tuple[str, ...] = ("",)) -> None:
        self._left = step
        self._files = files
        self.has_come = False

    def __enter__(self) -> None:
        self._before = sys.gettrace()  # that of whoever measures the coverage
        sys.settrace(self._called)

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._before)

    def _called(self, frame: FrameType, event: str, arg: object) -> Any:
        name = frame.f_code.co_filename
        return self._stepping() if name.startswith(ALL) and name.endswith(self._files) else None

    def _stepping(self) -> Any:
        line = 0

        def stepped(frame: FrameType, event: str, arg: object) -> Any:
            nonlocal line
            before, line = line, frame.f_lineno
            if event == "line" and not (line < before and is_with(frame)):
                self._left -= 1
                if self._left < 0 and not self.has_come:
                    self.has_come = True
                    self._come()
            return stepped

        return stepped

    def _come(self) -> None:
        raise Torn


class Cancelling(Tearing):
    """Cancels the task instead, also while the loop runs something else."""

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        super().__enter__()

    def _come(self) -> None:
        self._task.cancel()


def is_with(frame: FrameType) -> bool:
    """Whether its line enters, or leaves, a `with` block."""
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith("with ")


class Holder:
    """Another thread, which has the lock until somebody waits for it or the test goes on."""

    def __init__(self) -> None:
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._hold)
        self._has_it = threading.Event()

    def __enter__(self) -> None:
        self._thread.start()
        assert self._has_it.wait(PATIENCE)

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _hold(self) -> None:
        with lock("a"):
            self._has_it.set()
            while waiters_of("a") == 0 and not self._is_over.wait(0.001):
                pass


@pytest.mark.parametrize("holder", [nullcontext, Holder], ids=["free", "held"])
def test_wherever_it_comes_the_lock_is_free_afterwards(lock_alias, holder):
    lost: list[Any] = []
    note_loss = lambda **told: lost.append(told)
    signals.lock_lost.connect(note_loss)
    for number in itertools.count():
        tearing, guard = Tearing(number, files=FILES), lock("a")
        with holder(), suppress(Torn):
            with tearing:
                guard.acquire()
            guard.release()
        assert is_free("a"), number
        assert (current_flow().living_holds(), guard._entries, lost) == ([], [], []), number
        if not tearing.has_come:
            break
    assert number > 40
    signals.lock_lost.disconnect(note_loss)


def is_in_transaction(connection: Any) -> bool:
    """Whether a transaction is open, as the driver has heard from the server."""
    raw = connection.connection
    if raw is None:
        return False
    if connection.vendor == "postgresql":
        return bool(raw.info.transaction_status)
    return bool(raw.in_transaction if connection.vendor == "sqlite" else raw.server_status & 1)


class Told:
    """What the signals have told."""

    def __init__(self) -> None:
        self.lost: list[Any] = []
        self.released: Counter[tuple[str, int]] = Counter()
        """How often of each lease, by its key and fence."""
        self.too_early: list[Any] = []
        """Those that were released while a transaction was open."""

    def lose(self, **told: Any) -> None:
        self.lost.append(told)

    def release(self, lease: Any, **told: Any) -> None:
        self.released[lease.key.name, lease.fence] += 1
        if any(map(is_in_transaction, connections.all(initialized_only=True))):
            self.too_early.append(lease)


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()
    signals.lock_lost.connect(told.lose)
    signals.lock_released.connect(told.release)
    yield told
    assert told.lost == []
    assert set(told.released.values()) == {1}
    signals.lock_lost.disconnect(told.lose)
    signals.lock_released.disconnect(told.release)


def tearings(kind: type[Tearing] = Tearing, *, first: int = BEGUN, more_than: int = 30) -> Iterator[Tearing]:
    """What raises at the first line, at the second, and so on until there is none left."""
    for number in itertools.count(first):
        tearing = kind(number)
        yield tearing
        if not tearing.has_come:
            assert number > more_than
            return


@contextmanager
def torn_by(tearing: Tearing) -> Iterator[None]:
    """What its handler raises goes on as it is."""
    torn: list[Torn] = []
    try:
        with tearing:
            yield
    except Torn as error:
        torn.append(error.with_traceback(None))
    assert len(torn) == tearing.has_come
    assert not any(hasattr(error, "__notes__") for error in torn)


def leave(guard: Any) -> None:
    guard.__exit__(None, None, None)


def holds() -> list[tuple[str, int]]:
    """What this thread holds, and how often it has entered that."""
    return [(hold.lock.key.name, hold.count) for hold in current_flow().living_holds()]


ways = pytest.mark.parametrize("give_back", [leave, Guard.release], ids=["with", "release"])


@ways
def test_wherever_it_comes_the_lock_is_given_back(lock_alias, give_back, told):
    for tearing in tearings():
        guard = lock("a")
        guard.acquire()
        with torn_by(tearing):
            give_back(guard)
        assert (is_free("a"), holds(), guard._entries) == (True, [], [])


@ways
def test_what_the_block_around_it_has_entered_stays_held(lock_alias, give_back, told):
    for tearing in tearings():
        with lock("a"):
            guard = lock("a")
            guard.acquire()
            with torn_by(tearing):
                give_back(guard)
            assert (is_free("a"), holds(), guard._entries) == (False, [("a", 1)], [])
        assert is_free("a")


GUARDS = {
    "name": lambda: lock("b"),
    "several": lambda: lock_many(["a", "b", "c"]),
    "free": lambda: lock_many(["a", "b", "c"], skip_locked=True, limit=2),
}


@pytest.mark.parametrize("around", [False, True], ids=["new", "again"])
@pytest.mark.parametrize("make", GUARDS.values(), ids=GUARDS)
def test_torn_while_it_is_entered_it_is_left(lock_alias, make, around, told):
    for tearing in tearings(first=0, more_than=15):
        with lock("b") if around else nullcontext():
            guard = make()
            with torn_by(tearing):
                guard.__enter__()
            if not tearing.has_come:
                leave(guard)
            assert ([is_free(name) for name in "abc"], guard._entries) == ([True, not around, True], [])
            assert holds() == ([("b", 1)] if around else [])
        assert is_free("b")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_torn_while_a_row_is_entered_it_is_left(db_alias, several, told):
    accounts = [Account.objects.using(db_alias).create(name=name) for name in "ab"]
    pks = [account.pk for account in accounts]
    names = [f"testapp.Account:{pk}" for pk in pks]
    objects = Account.objects.using(db_alias)
    for tearing in tearings(first=0):
        with lock(names[1]):
            guard: Any = objects.locked_many([*pks, 999], skip_locked=True) if several else objects.locked(pks[0])
            with torn_by(tearing):
                guard.__enter__()
            if not tearing.has_come:
                leave(guard)
            assert (is_free(names[0]), holds(), guard._entries) == (True, [(names[1], 1)], [])
            assert not is_in_transaction(connections[db_alias])
    assert is_free("testapp.Account:999")
    assert {lease.key.name for lease in told.too_early} <= {"testapp.Account:999"}  # which is no row


def test_torn_while_redis_is_silent_it_is_given_back_when_that_answers(real_redis):
    client, guard = client_of(real_redis), lock("a", alias=real_redis)

    def strike() -> None:
        until(lambda: any("b" in other["flags"] for other in client.client_list()))
        os.kill(os.getpid(), signal.SIGUSR1)
        client.client_unpause()

    def be_torn(*_: object) -> None:
        raise Torn

    guard.acquire()
    before = signal.signal(signal.SIGUSR1, be_torn)
    client.client_pause(int(PATIENCE * 1000), all=False)
    thread = threading.Thread(target=strike)
    thread.start()
    with pytest.raises(Torn):
        guard.release()
    thread.join()
    signal.signal(signal.SIGUSR1, before)
    assert (guard.info(), holds(), guard._entries) == (None, [], [])


def test_a_thread_that_was_torn_before_its_first_lock_gets_that(lock_alias):
    def begin(tearing: Tearing) -> None:
        with torn_by(tearing):
            current_flow()
        with lock("a"):
            assert holds() == [("a", 1)]
            assert held_here() == current_flow().living_holds()

    for tearing in tearings(first=0, more_than=5):
        Context().run(begin, tearing)


async def test_a_task_that_is_cancelled_meanwhile_has_given_it_back(lock_alias, loop, told):
    for tearing in tearings(Cancelling, first=0):
        guard = lock("a")
        await guard.aacquire()
        is_cancelled = False
        try:
            with tearing:
                await guard.__aexit__(None, None, None)
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            is_cancelled = asyncio.current_task().uncancel() == 0
        assert is_cancelled is tearing.has_come
        assert (await asyncio.to_thread(is_free, "a"), holds(), guard._entries) == (True, [], [])


def test_of_several_each_is_given_back_once(lock_alias, told):
    for tearing in tearings():
        with lock("b"):
            guard = lock_many(["a", "b", "c"])
            guard.__enter__()
            with torn_by(tearing):
                leave(guard)
            assert ([is_free(name) for name in "abc"], holds()) == ([True, False, True], [("b", 1)])
        assert is_free("b")


@pytest.mark.django_db(transaction=True)
@ways
def test_within_a_transaction_it_is_given_back_at_its_end_and_not_before(lock_alias, give_back, told):
    for tearing in tearings():
        guard = lock("a")
        with atomic():
            guard.acquire()
            with torn_by(tearing):
                give_back(guard)
            assert (is_free("a"), guard._entries) == (False, [])
            again = lock("a")
            again.acquire()
        assert (is_free("a"), holds()) == (False, [("a", 1)])
        again.release()
        assert (is_free("a"), holds()) == (True, [])
        assert vars(connections["default"]).get("commit") is None
    assert told.too_early == []


@pytest.mark.django_db(transaction=True, databases=["default", "postgres"])
def test_of_two_transactions_it_waits_for_both(real_redis, told):
    for tearing in tearings():
        with atomic():
            with atomic(using="postgres"):
                guard = lock("a")
                guard.acquire()
                with torn_by(tearing):
                    leave(guard)
                assert not is_free("a")
            assert not is_free("a")
        assert (is_free("a"), holds()) == (True, [])
    assert told.too_early == []


@pytest.mark.django_db(transaction=True)
def test_a_torn_end_of_the_transaction_is_its_end(db_alias, told, caplog):
    account = Account.objects.using(db_alias).create(name="a", balance=0)
    for tearing in tearings():
        account.balance += 1
        block = atomic(using=db_alias)
        block.__enter__()
        with lock("a"):
            account.save(using=db_alias)
        with torn_by(tearing):
            leave(block)
        assert (is_free("a"), holds(), is_in_transaction(connections[db_alias])) == (True, [], False)
    assert told.too_early == []
    assert not caplog.records


@pytest.mark.django_db(transaction=True)
def test_a_row_is_committed_before_it_is_given_back_or_not_at_all(db_alias, told):
    account = Account.objects.using(db_alias).create(name="a", balance=0)
    for tearing in tearings():
        guard = Account.objects.using(db_alias).locked(account.pk)
        row = guard.__enter__()
        row.balance += 1
        row.save()
        with torn_by(tearing):
            leave(guard)
        assert (is_free(f"testapp.Account:{account.pk}"), holds(), guard._entries) == (True, [], [])
        assert not is_in_transaction(connections[db_alias])
    assert told.too_early == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_after_a_torn_rollback_it_is_free(db_alias, told):
    """What a finalizer raises, Python prints."""
    for tearing in tearings(first=1):
        block = atomic(using=db_alias)
        block.__enter__()
        with lock("a"):
            pass
        with tearing:
            block.__exit__(Torn, Torn(), None)
        assert (is_free("a"), holds()) == (True, []), tearing
    assert told.too_early == []


@pytest.mark.parametrize("error", [TimeoutError, ConnectionError, OSError])
def test_what_a_handler_raises_while_redis_hangs_is_no_fault_of_redis(real_redis, error):
    """`TimeoutError` is what a handler of SIGALRM mostly raises, and an `OSError` as those of a connection are."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise error("the work has taken too long")

    guard = lock("a", alias=real_redis)
    with guard:
        pass  # the connection is open
    before = signal.signal(signal.SIGALRM, ring)
    client_of(real_redis).client_pause(600)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(error, match="too long"):
            guard.acquire()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert held_here() == []
    until(lambda: not lock("a", alias=real_redis).info())
