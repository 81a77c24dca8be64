"""Waiters who listen themselves, in turns: whose turn it is tells the others, whatever becomes of that one."""

from __future__ import annotations

import importlib.util
import itertools
import os
import queue
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from types import FrameType
from typing import Any

import pytest

from django_redislock import lock
from django_redislock.stores import turns, wakeups
from django_redislock.stores.base import Grant
from django_redislock.stores.turns import TURN, Turns, WakeupsInTurns
from django_redislock.stores.wakeups import Heard, Interrupted, WaitersEar
from tests.flows import PATIENCE, attempt, hearers_of, peer, until, waiters_of

LONG = 600
"""Seconds; longer than a test may take: who is not woken fails."""

# By hand


class Wire:
    """A connection that says what the test tells it to, and knows who has read it."""

    is_audible = True

    def __init__(self) -> None:
        self.readers: list[str] = []
        self.closed = threading.Event()
        self._said: deque[list[str] | BaseException] = deque()
        self._tears: deque[BaseException] = deque()
        self._news = threading.Condition()

    def say(self, *messages: str) -> None:
        """Have these read together."""
        with self._news:
            self._said.append(list(messages))
            self._news.notify_all()

    def fail(self, error: BaseException) -> None:
        """Raise this in who reads."""
        with self._news:
            self._said.append(error)
            self._news.notify_all()

    def tear(self, error: BaseException) -> None:
        """Raise this in who waits for something to read."""
        with self._news:
            self._tears.append(error)
            self._news.notify_all()

    def wait(self, seconds: float) -> bool:
        with self._news:
            self._news.wait_for(lambda: self._said or self._tears or self.closed.is_set(), seconds)
            if seconds and self._tears:
                raise self._tears.popleft()
            return bool(self._said) or self.closed.is_set()

    def read_all(self) -> list[str]:
        self.readers.append(threading.current_thread().name)
        if self.closed.is_set():
            raise Interrupted("closed")
        try:
            said = self._said.popleft()
        except IndexError:
            return []
        if isinstance(said, BaseException):
            raise said
        return said

    def read(self, seconds: float) -> None:
        raise AssertionError("nobody reads but who has the turn")

    def close(self) -> None:
        with self._news:
            self.closed.set()
            self._news.notify_all()


class Torn(BaseException):
    """As a signal's handler may raise, or a greenlet that is killed."""


NO_HANDLER = nullcontext()


class House:
    """Waiters of one process."""

    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self.wakeups = WakeupsInTurns(self._subscribe, prefix="redislock", rest=lambda: None)
        self._pool = ThreadPoolExecutor(10, thread_name_prefix="waiter")

    def _subscribe(self, channel: str) -> Wire:
        self.wires.append(Wire())
        return self.wires[-1]

    @property
    def wire(self) -> Wire:
        return self.wires[-1]

    @property
    def turns(self) -> Turns:
        assert self.wakeups.turns is not None
        return self.wakeups.turns

    def ear(self, token: str) -> WaitersEar:
        """The ear of a waiter that has asked since the connection was made."""
        return self.wakeups.ear(token)

    def wait(
        self, token: str, seconds: float = LONG, *, handler: AbstractContextManager[None] = NO_HANDLER
    ) -> Future[Grant | None]:
        """Have somebody wait, whose turn it is if it is nobody's."""
        ear = self.ear(token)
        future = self._pool.submit(self._listen, ear, seconds, handler)
        until(lambda: future.done() or ear in getattr(self.wakeups.turns, "line", ()))
        return future

    def _listen(self, ear: WaitersEar, seconds: float, handler: AbstractContextManager[None]) -> Grant | None:
        try:
            with handler:
                try:
                    return ear.listen(seconds)
                finally:
                    ear.close()
        finally:
            ear.close()  # as `Ear`s are closed where that was torn, too

    def reader(self) -> str:
        """Whose turn it is."""
        return next((token for token, ear in self.wakeups._ears.items() if self.turns._first() is ear), "")

    def stop(self) -> None:
        """Nobody waits any more."""
        ears = list(self.wakeups._ears.values())
        self.wakeups._ears.clear()
        if self.wakeups.turns is not None:
            self.wakeups.turns._failures.put(Interrupted("the thread need not wait"))
        for ear in ears:
            ear.tell(None)
        self._pool.shutdown()


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(wakeups, "MOMENT", PATIENCE)
    monkeypatch.setattr(wakeups, "IDLE", 0)
    monkeypatch.setattr(wakeups, "SLICE", 0.01)
    monkeypatch.setattr(turns, "SLICE", 0.05)
    monkeypatch.setattr(turns, "GRACE", 0.005)
    house = House()
    yield house
    house.stop()
    until(lambda: house.wakeups._listener is None)
    assert all(wire.closed.wait(PATIENCE) for wire in house.wires)


@pytest.fixture
def unattended(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """Where nobody looks by himself before it is too late."""
    monkeypatch.setattr(wakeups, "SLICE", LONG)
    monkeypatch.setattr(turns, "SLICE", LONG)
    return house


def granted(token: str, fence: int = 8) -> str:
    return f"{token} {fence} 5000000"


GRANT = Grant(fence=8, granted=5)


def test_who_waits_alone_listens_itself(unattended):
    ear = unattended.ear("a")
    unattended.wire.say(granted("a"))
    assert ear.listen(LONG) == GRANT
    assert unattended.wire.readers == [threading.current_thread().name]
    ear.close()


def test_whose_turn_it_is_tells_the_others(unattended):
    first, second, third = map(unattended.wait, "abc")
    unattended.wire.say(granted("b"), granted("c", 9))
    assert (second.result(PATIENCE), third.result(PATIENCE)) == (GRANT, Grant(fence=9, granted=5))
    assert (first.done(), unattended.reader()) == (False, "a")


def test_who_goes_leaves_its_turn_to_the_one_that_has_waited_longest(house):
    first, second, third = map(house.wait, "abc")
    house.wire.say(granted("a"))
    assert first.result(PATIENCE) == GRANT
    until(lambda: house.reader() == "b")
    house.wire.say(granted("c"))
    assert third.result(PATIENCE) == GRANT
    house.wire.say(granted("b"))
    assert second.result(PATIENCE) == GRANT


def test_who_is_called_first_reads(unattended):
    first, second = unattended.wait("a"), unattended.wait("b")
    for token, waiter in (("a", first), ("b", second)):
        unattended.wire.say(granted(token))
        assert waiter.result(PATIENCE) == GRANT
    assert len(set(unattended.wire.readers)) == 2
    assert "redislock-wakeups" not in unattended.wire.readers


def test_who_has_waited_long_enough_leaves_its_turn(house):
    first, second = house.wait("a", 0.05), house.wait("b")
    assert first.result(PATIENCE) is None
    house.wire.say(granted("b"))
    assert second.result(PATIENCE) == GRANT


def test_who_is_torn_out_of_waiting_leaves_its_turn_and_takes_nothing_with_it(house):
    first, second = house.wait("a"), house.wait("b")
    house.wire.tear(Torn())
    with pytest.raises(Torn):
        first.result(PATIENCE)
    house.wire.say(granted("b"))
    assert second.result(PATIENCE) == GRANT
    assert len(house.wires) == 1


@pytest.mark.parametrize("error", [Torn(), TimeoutError("the work has taken too long")], ids=repr)
def test_when_one_is_torn_out_of_reading_all_others_ask_again(unattended, error):
    """What it has read may have been for another."""
    first, second = unattended.wait("a"), unattended.wait("b")
    unattended.wire.fail(error)
    with pytest.raises(type(error)):
        first.result(PATIENCE)
    assert second.result(PATIENCE) is None
    assert len(unattended.wires) == 2


def test_when_the_connection_breaks_all_ask_again(house):
    people = [house.wait(token) for token in "abc"]
    house.wire.fail(Interrupted("cut"))
    assert [person.result(PATIENCE) for person in people] == [None] * 3
    assert (len(house.wires), house.wires[0].closed.is_set()) == (2, True)


@pytest.mark.parametrize("message", ["a 8", "a 8 5 5", "a b c", "a 8 5.5"])
def test_what_cannot_be_read_hurts_nobody(unattended, message):
    waiter = unattended.wait("a")
    unattended.wire.say(message)
    assert waiter.result(PATIENCE) is None
    assert len(unattended.wires) == 2


@pytest.mark.parametrize("message", ["b 8 5000000", "b", ""])
def test_what_is_for_nobody_is_ignored(unattended, message):
    waiter = unattended.wait("a")
    unattended.wire.say(message)
    unattended.wire.say(granted("a"))
    assert waiter.result(PATIENCE) == GRANT
    assert len(unattended.wires) == 1


def test_who_cannot_read_asks_again_before_long(table, monkeypatch):
    monkeypatch.setattr(turns, "SLICE", 0.01)
    table._gate.acquire()
    table._subscription.say(granted("a"))
    seat = Seat()
    assert table.listen(seat, seat.heard, LONG) is None
    assert table._subscription.readers == []


def test_nobody_reads_a_broken_connection_any_more(table):
    """It would have nothing else to do."""
    seat = Seat()
    table._subscription.close()
    for _ in range(3):
        assert table.listen(seat, seat.heard, 0.01) is None
    assert len(table._subscription.readers) == 1


def test_when_one_that_reads_does_not_come_back_all_ask_again(house):
    waiter = house.wait("a")
    house.turns._gate.acquire()
    assert waiter.result(PATIENCE) is None
    assert len(house.wires) == 2


def test_a_connection_that_breaks_is_made_anew_also_while_nobody_listens(house):
    ear = house.ear("a")
    house.wire.fail(Interrupted("cut"))
    until(lambda: len(house.wires) == 2)
    assert ear.listen(LONG) is None
    house.wire.say(granted("a"))
    assert ear.listen(LONG) == GRANT
    ear.close()


def test_what_comes_before_one_listens_is_not_lost(house):
    ear = house.ear("a")
    house.wire.say(granted("a"))
    until(lambda: not ear._heard.empty())
    assert ear.listen(LONG) == GRANT
    ear.close()


def test_one_that_is_there_no_more_is_passed_over(house):
    house.ear("a").close()
    ghost = Seat()
    house.turns.line[ghost] = None
    waiter, other = house.wait("b"), house.wait("c")
    house.wire.say(granted("b"))
    assert waiter.result(PATIENCE) == GRANT
    until(lambda: house.reader() == "c")
    house.wire.say(granted("c"))
    assert other.result(PATIENCE) == GRANT


def test_one_that_was_passed_over_and_is_there_comes_again(house):
    waiter = house.wait("a")
    (ear,) = house.turns.line
    house.turns.line.clear()
    ear.tell(TURN)
    house.wire.say("somebody")
    until(lambda: house.reader() == "a")
    house.wire.say(granted("a"))
    assert waiter.result(PATIENCE) == GRANT


def test_the_first_is_called_once_more_when_nobody_has_told_it(house):
    first, second = house.wait("a"), house.wait("b")
    ear, _ = house.turns.line
    house.turns.line.pop(ear)  # and torn out there
    until(lambda: house.reader() == "b")
    house.wire.say(granted("b"))
    assert second.result(PATIENCE) == GRANT
    ear.tell(None)
    assert first.result(PATIENCE) is None


def test_a_turn_on_a_connection_that_is_no_more_is_no_grant(house, monkeypatch):
    ear = house.ear("a")
    ear.tell(TURN)
    monkeypatch.setattr(house.wakeups, "turns", None)
    assert ear.listen(LONG) is None
    ear.close()


# Wherever a signal comes


class Handler:
    """Does something at the step of that number of what this thread does in `turns`."""

    def __init__(self, number: int, do: Callable[[], object]) -> None:
        self.has_come = False
        self._left = number
        self._do = do

    def __enter__(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self._called)

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._before)

    def _called(self, frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code.co_filename != turns.__file__:
            return None
        frame.f_trace_opcodes = True
        return self._stepped

    def _stepped(self, frame: FrameType, event: str, arg: object) -> Any:
        self._left -= event == "opcode"
        if self._left < 0 and not self.has_come:
            self.has_come = True
            self._do()
        return self._stepped


def insist(house: House, token: str) -> Grant:
    """Wait as one who has the lock already when it asks again."""
    ear = house.ear(token)
    try:
        house.wire.say(granted(token))
        while (told := ear.listen(LONG)) is None:
            house.wire.say(granted(token))
        return told
    finally:
        ear.close()


def each_step(house: House, do: Callable[[int], object]) -> Iterator[Handler]:
    """Handlers for one step after the other, until there are no more."""
    house.ear("nobody")  # so that there is one connection as long as it does not break
    last = 0
    for number in itertools.count():
        with Handler(sys.maxsize, sys.exit):  # newer Pythons tell of steps from the second time on
            insist(house, "first")
        handler = Handler(number, lambda number=number: do(number))  # type: ignore[misc]
        yield handler
        last = number if handler.has_come else last
        if number - last > 20:  # one takes fewer steps when another is faster
            break
    assert last > 200
    house.wakeups.forget("nobody")


@pytest.mark.timeout(300)
def test_wherever_one_is_torn_out_the_others_go_on(house):
    def tear(number: int) -> None:
        raise Torn

    for handler in each_step(house, tear):
        first = house.wait("a", handler=handler)
        other = house.wait("b")
        house.wire.say(granted("a"))
        with suppress(Torn):
            assert first.result(PATIENCE) in {GRANT, None}
        house.wire.say(granted("b"))
        assert other.result(PATIENCE) in {GRANT, None}


@pytest.mark.timeout(300)
def test_wherever_a_handler_waits_it_is_woken_and_so_is_whom_it_interrupts(house):
    def wait(number: int) -> None:
        assert insist(house, f"handler-{number}") == GRANT

    for handler in each_step(house, wait):
        with handler:
            assert insist(house, "a") == GRANT


class Seat:
    """Somebody who waits, and whom the test alone moves."""

    def __init__(self) -> None:
        self.heard: Heard = queue.SimpleQueue()

    def tell(self, grant: Grant | None) -> None:
        self.heard.put(grant)


@pytest.fixture
def table() -> Turns:
    return Turns(Wire(), lambda message: None)


def test_who_was_given_the_turn_and_goes_without_noticing_leaves_it_to_the_next(table):
    seats = [Seat() for _ in range(3)]
    table.line = dict.fromkeys(seats)
    for seat in seats[:2]:
        table.leave(seat)
    assert (table._first(), seats[2].heard.get_nowait()) == (seats[2], TURN)


def test_who_was_torn_out_of_leaving_leaves_when_its_ear_is_closed(house):
    ear = house.ear("a")
    house.turns.line[ear] = None
    ear.close()
    assert list(house.turns.line) == []


def test_the_thread_calls_the_first_again_and_again(table):
    seat = Seat()
    table.line[seat] = None
    table.read(0)
    assert (seat.heard.get_nowait(), list(table.line)) == (TURN, [seat])


def test_the_thread_lets_alone_who_listens_until_that_one_goes(table, monkeypatch):
    first, second = Seat(), Seat()
    table.line = dict.fromkeys((first, second))
    table._subscription.say("somebody")
    table._dispatch = lambda message: first.tell(GRANT)
    with monkeypatch.context() as patch:
        patch.setattr(table, "leave", lambda ear: None)  # it has heard something, and is there yet
        assert table.listen(first, first.heard, LONG) == GRANT
    table.read(0)
    assert (first.heard.empty(), second.heard.empty()) == (True, True)
    table.leave(first)
    table.line = dict.fromkeys((first,))
    table.read(0)
    assert first.heard.get_nowait() is TURN


def test_one_that_does_not_read_is_told_that_it_was_passed_over(table):
    seat, following = Seat(), Seat()
    table.line = dict.fromkeys((seat, following))
    table._subscription.say("somebody")
    table.read(0)
    assert (seat.heard.get_nowait(), following.heard.get_nowait(), list(table.line)) == (TURN, TURN, [following])


def test_one_that_reads_is_not_passed_over_for_what_comes_next(table, monkeypatch):
    seat = Seat()
    table.line[seat] = None
    table._subscription.say("somebody")
    table._subscription.say("somebody else")
    monkeypatch.setattr(table, "_rest", lambda seconds: table._read() if seconds == turns.GRACE else None)
    table.read(0)
    assert list(table.line) == [seat]
    assert len(table._subscription._said) == 1


def test_who_goes_without_having_had_the_turn_wakes_nobody(table):
    first, second, third = (Seat() for _ in range(3))
    table.line = dict.fromkeys((first, second, third))
    table.leave(second)
    table.leave(first)
    assert (first.heard.empty(), second.heard.empty(), third.heard.qsize()) == (True, True, 1)


def test_a_turn_that_is_anothers_by_now_is_not_taken(table):
    first, second = Seat(), Seat()
    table.line = dict.fromkeys((first, second))
    second.tell(TURN)
    second.tell(GRANT)
    assert table.listen(second, second.heard, LONG) == GRANT
    assert list(table.line) == [first]
    assert table._subscription.readers == []


def test_in_a_child_of_fork_nobody_reads_what_is_the_parents(table, monkeypatch):
    seat = Seat()
    pid = os.getpid()

    def fork(seconds: float) -> bool:
        monkeypatch.setattr(os, "getpid", lambda: pid + 1)
        return True

    monkeypatch.setattr(table._subscription, "wait", fork)
    monkeypatch.setattr(table._subscription, "read_all", lambda: pytest.fail("read"))
    assert table.listen(seat, seat.heard, 0.01) is None


def test_a_connection_that_cannot_be_waited_for_is_read_by_the_thread(house, monkeypatch):
    monkeypatch.setattr(Wire, "is_audible", False)
    monkeypatch.setattr(
        Wire, "read", lambda self, seconds: next(iter(self.read_all() if self.wait(seconds) else []), None)
    )
    ear = house.ear("a")
    house.wire.say(granted("a"))
    assert ear.listen(LONG) == GRANT
    assert house.wire.readers == ["redislock-wakeups"]
    ear.close()


# On a server

on_a_server = pytest.mark.usefixtures("real_redis")
INTERRUPTED = """
import signal, threading
from django_redislock import lock
from django_redislock.handler import locks
from tests.flows import until

def ring(number, frame):
    raise {error}("enough")

wakeups = locks["default"].store._wakeups

def somebody_listens():
    return wakeups.turns is not None and wakeups.turns._first() is not None

def follow():
    until(somebody_listens)
    with lock("a", wait=60):
        print("entered", flush=True)

signal.signal(signal.SIGALRM, ring)
threading.Thread(target=follow).start()
try:
    with lock("a", wait=60):
        print("too early", flush=True)
except {error} as error:
    print(error, flush=True)
"""


@on_a_server
@pytest.mark.parametrize("error", ["OSError", "TimeoutError", "RuntimeError", "KeyboardInterrupt"])
def test_what_a_signals_handler_raises_ends_the_waiting_and_nobody_elses(error):
    guard = lock("a")
    guard.acquire()
    with peer(INTERRUPTED.format(error=error)) as waiters:
        until(lambda: waiters_of("a") == 2)
        waiters.send(signal.SIGALRM)
        assert waiters.hear() == "enough"
        assert waiters_of("a") == 1
        guard.release()
        assert waiters.hear() == "entered"


@on_a_server
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_waits_on_a_connection_of_its_own_and_takes_nothing_from_its_parent():
    with ThreadPoolExecutor(1) as thread:
        with lock("a"):
            waiter = thread.submit(attempt, wait=PATIENCE)
            until(lambda: waiters_of("a") == 1)
            child = os.fork()
            if child == 0:
                signal.alarm(int(PATIENCE))
                os._exit(0 if attempt(wait=PATIENCE) == "entered" else 1)
            until(lambda: waiters_of("a") == 2)
            assert hearers_of("a") == 2
        assert waiter.result(PATIENCE) == "entered"
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


KILLED = """
import gevent
from django_redislock import lock
from tests.flows import until, waiters_of

def enter():
    with lock("a", wait=60):
        return "entered"

def be_late():
    with gevent.Timeout(0.2, False):
        return enter()
    return "late"

late = gevent.spawn(be_late)
until(lambda: waiters_of("a") == 1)
killed, other = gevent.spawn(enter), None
until(lambda: waiters_of("a") == 2 or late.ready())
other = gevent.spawn(enter)
late.join()
until(lambda: waiters_of("a") == 2)
killed.kill()
print(late.value, waiters_of("a"), flush=True)
print(other.get(), flush=True)
"""


@on_a_server
@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="gevent is not installed: extra `test`")
def test_greenlets_that_are_killed_leave_their_turn_to_others():
    guard = lock("a")
    guard.acquire()
    with peer(KILLED, first="from gevent import monkey; monkey.patch_all()") as greenlets:
        assert greenlets.hear() == "late 1"
        guard.release()
        assert greenlets.hear() == "entered"
