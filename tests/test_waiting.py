"""Waiting for a key that another holds, on a clock that the test ticks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_redislock import clock
from django_redislock.holder import Holder
from django_redislock.keys import Key
from django_redislock.steps import Steps, run
from django_redislock.stores.base import Edge, Grant, Held, Taken
from django_redislock.waiting import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    Obtained,
    Outcome,
    bounded,
    granted_at,
    next_pause,
    obtaining,
)

OURS = Taken(8)
EDGE = Edge(key="shelf", holder=Holder(host="web-1", pid=42, thread="MainThread", doing=""))
SOMEBODY = Holder(host="web-1", pid=42, thread="MainThread", doing="")
START = 5_000.0
SERVERS_START = 1_700_000_000.0
TTL = 30.0

Answer = Taken | Held | tuple[Edge, ...]


def theirs(remaining: float = 30, passed: float = 0) -> Held:
    return Held(holder=SOMEBODY, fence=7, since=0, held_for=1, remaining=remaining, asked=SERVERS_START + passed)


class Ticker:
    """A store and its ear, and time that passes only where somebody listens; what was done when."""

    scope = "ticking"

    def __init__(self) -> None:
        self.now = START
        self.channel = ""
        self.kept = False
        self.listens = False
        self.asked: list[float] = []
        self.asked_on: list[str] = []
        self.slept: list[float] = []
        self.closed = 0
        self.granted: float | None = None
        self._answer: Callable[[float], Answer] = lambda passed: theirs()

    @property
    def passed(self) -> float:
        return self.now - START

    def acquire(
        self, key: Key, *, token: str, ttl: float, holder: str, channel: str = "", meanwhile: object = None
    ) -> Answer:
        self.asked.append(self.passed)
        self.asked_on.append(channel)
        return self._answer(self.passed)

    def ear(self, token: str, *, within: float | None = None) -> Ticker:
        return self

    def listen(self, seconds: float) -> Grant | None:
        self.slept.append(seconds)
        if self.granted is not None and self.granted <= self.passed + seconds:
            self.now = START + self.granted
            return Grant(fence=8, granted=SERVERS_START + self.granted)
        self.now += seconds
        return None

    def close(self) -> None:
        self.closed += 1

    def asking(self, answer: Callable[[float], Answer]) -> Ticker:
        """Answers by the seconds since the start."""
        self._answer = answer
        return self

    def busy_until(self, free: float) -> Ticker:
        return self.asking(lambda passed: OURS if passed >= free else theirs(passed=passed))

    def busy_for_ever(self, remaining: float = 30) -> Ticker:
        return self.asking(lambda passed: theirs(remaining, passed))

    def granting(self, granted: float, remaining: float = 30) -> Ticker:
        """In a queue; the key is granted after so many seconds."""
        self.channel, self.granted = "wake", granted
        return self.busy_for_ever(remaining)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Ticker:
    ticker = Ticker()
    monkeypatch.setattr(clock, "now", lambda: ticker.now)
    return ticker


def obtain(store: Ticker, *, wait: float | None) -> Outcome:
    ask = partial(store.acquire, Key("shelf"), token="t", ttl=TTL, holder="")
    return run(obtaining(store, ask, token="t", ttl=TTL, wait=wait))


def is_ours(outcome: Outcome) -> bool:
    return isinstance(outcome, Obtained) and outcome.fence == 8


@pytest.mark.parametrize("wait", [0, 10, None])
def test_a_free_key_is_asked_for_once_and_not_slept_for(time, wait):
    assert is_ours(obtain(time.busy_until(0), wait=wait))
    assert (time.asked, time.slept) == ([0], [])


def test_without_a_wait_it_is_asked_once(time):
    assert obtain(time.busy_for_ever(), wait=0) == theirs()
    assert (time.asked, time.slept) == ([0], [])


@pytest.mark.parametrize("wait", [0.0001, 0.002, 0.5, 7])
def test_the_last_question_is_asked_when_the_wait_ends(time, wait):
    assert isinstance(obtain(time.busy_for_ever(), wait=wait), Held)
    assert time.asked[-1] == pytest.approx(wait, abs=1e-6)


@pytest.mark.parametrize("wait", [0.0001, 0.002, 0.5, 7])
def test_nobody_sleeps_beyond_the_wait(time, wait):
    obtain(time.busy_for_ever(), wait=wait)
    assert sum(time.slept) == pytest.approx(wait, abs=1e-6)


def test_a_key_that_is_freed_at_the_very_end_is_taken(time):
    assert is_ours(obtain(time.busy_until(3 - 1e-6), wait=3))


def test_a_freed_key_is_taken_at_the_next_question(time):
    assert is_ours(obtain(time.busy_until(2), wait=10))
    assert time.asked[-2] < 2 <= time.asked[-1] <= 2 + LONGEST_PAUSE


def test_the_refusal_is_the_last_answer(time):
    answer = obtain(time.asking(lambda passed: theirs(30 - passed)), wait=5)
    assert isinstance(answer, Held)
    assert answer.remaining == pytest.approx(25, abs=1e-6)


def test_time_that_the_questions_take_counts(time):
    def slow(passed: float) -> Held:
        time.now += 4
        return theirs()

    obtain(time.asking(slow), wait=6)
    assert len(time.asked) == 2


def test_nobody_sleeps_beyond_the_holders_ttl(time):
    left = 0.0105
    assert is_ours(obtain(time.asking(lambda passed: OURS if passed > left else theirs(left - passed)), wait=10))
    assert time.now - START <= left + 0.001 + 1e-6


def test_a_ttl_that_is_just_over_is_no_busy_loop(time):
    obtain(time.busy_for_ever(remaining=0), wait=0.1)
    assert min(time.slept[:-1]) >= 0.001


def test_for_ever_is_for_ever(time):
    assert is_ours(obtain(time.busy_until(3_600), wait=None))
    assert time.asked[-1] >= 3_600


@pytest.mark.parametrize("wait", [10, None])
def test_what_the_question_raises_ends_the_waiting(time, wait):
    def fail(passed: float) -> Held:
        if passed > 1:
            raise OSError("away")
        return theirs()

    with pytest.raises(OSError, match="away"):
        obtain(time.asking(fail), wait=wait)


def test_pauses_are_bounded(time):
    obtain(time.busy_for_ever(), wait=60)
    assert min(time.slept[:-1]) >= FIRST_PAUSE
    assert max(time.slept) <= LONGEST_PAUSE


def test_pauses_grow(time):
    obtain(time.busy_for_ever(), wait=60)
    assert time.slept[0] <= 3 * FIRST_PAUSE
    assert max(time.slept[10:]) > 10 * FIRST_PAUSE


def test_waiters_do_not_march_in_step(time):
    obtain(time.busy_for_ever(), wait=5)
    first, time.slept = time.slept, []
    obtain(time.busy_for_ever(), wait=5)
    assert first != time.slept


def test_who_waits_is_told_of_its_grant_and_asks_no_more(time):
    assert is_ours(obtain(time.granting(3), wait=10))
    assert (time.asked_on, time.passed) == (["", "wake"], 3)


def test_where_one_listens_already_the_first_question_joins_the_queue(time):
    time.listens = True
    assert is_ours(obtain(time.granting(3), wait=10))
    assert time.asked_on == ["wake"]


def test_who_does_not_want_to_wait_joins_no_queue(time):
    time.listens, time.channel = True, "wake"
    assert isinstance(obtain(time.busy_for_ever(), wait=0), Held)
    assert time.asked_on == [""]


def test_who_waits_asks_again_when_the_holders_ttl_is_over(time):
    obtain(time.granting(3, remaining=1), wait=10)
    assert time.asked[2:] == pytest.approx([1.001, 2.002])


def test_who_waits_asks_again_before_its_place_in_the_queue_expires(time):
    obtain(time.granting(100, remaining=1_000), wait=None)
    assert max(time.slept) <= TTL / 2


def test_who_gives_up_hears_no_more(time):
    time.channel = "wake"
    assert isinstance(obtain(time.busy_for_ever(), wait=5), Held)
    assert (time.closed, time.passed) == (1, 5)


def test_a_key_that_is_freed_at_the_last_question_is_ours(time):
    time.channel = "wake"
    assert is_ours(obtain(time.busy_until(5), wait=5))


@pytest.mark.parametrize("end", [lambda passed: 1 / 0, lambda passed: OURS, lambda passed: (EDGE,)])
def test_the_ear_is_closed_whatever_happens(time, end):
    with suppress(ZeroDivisionError):
        obtain(time.asking(lambda passed: end(passed) if len(time.asked) > 1 else theirs()), wait=5)
    assert time.closed == 1


def test_a_cycle_is_told_at_once(time):
    answers = iter([theirs(), (EDGE,)])
    assert obtain(time.asking(lambda passed: next(answers)), wait=5) == (EDGE,)
    assert time.passed == 0


def test_the_ttl_counts_from_the_grant_by_the_servers_clock(time):
    outcome = obtain(time.granting(3), wait=10)
    assert isinstance(outcome, Obtained)
    assert outcome.at == pytest.approx(START + clock.safe_ttl(3))


@settings(deadline=None)
@given(asked_at=st.floats(0, 1e6), took=st.floats(0, 10), passed=st.floats(0, 1e5), drift=st.floats(-0.01, 0.01))
def test_a_grant_is_never_taken_for_younger_than_it_is(asked_at, took, passed, drift):
    """The server answers `took` seconds after the question, and grants when `passed` more seconds are over here."""
    answer = theirs()
    grant = Grant(fence=8, granted=answer.asked + passed * (1 + drift))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now", lambda: asked_at + took + passed + 1)
        assert granted_at(grant, answer, asked_at=asked_at) <= asked_at + took + passed


def test_a_grant_of_a_server_whose_clock_jumps_is_not_of_the_future(time):
    assert granted_at(Grant(fence=8, granted=SERVERS_START + 3_600), theirs(), asked_at=START) == START


@settings(deadline=None)
@given(st.floats(min_value=FIRST_PAUSE, max_value=LONGEST_PAUSE))
def test_the_next_pause_is_at_most_three_times_the_last(last):
    assert FIRST_PAUSE <= next_pause(last) <= min(LONGEST_PAUSE, 3 * last)


@settings(deadline=None)
@given(
    pause=st.floats(FIRST_PAUSE, LONGEST_PAUSE),
    left=st.none() | st.floats(0, 60, exclude_min=True),
    holder_left=st.floats(0, 60),
)
def test_a_sleep_is_never_too_long_nor_nothing(pause, left, holder_left):
    seconds = bounded(pause, left=left, holder_left=holder_left)
    assert 0 < seconds <= pause
    assert seconds <= holder_left + 0.001
    assert left is None or seconds <= left


class Rung(BaseException):
    """As a signal's handler may raise."""


@pytest.mark.parametrize("lines", range(2, 6))
def test_what_comes_between_two_steps_is_raised_in_them(lines):
    """Else they would end without giving back what they have taken."""

    def steps() -> Steps[str]:
        try:
            yield "asked"
            yield "asked more"
            yield "asked even more"
        except Rung:
            yield "given back"
            done.append("given back")
            raise
        return "done"

    def ring(frame: FrameType, event: str, arg: object) -> Any:
        seen.append(frame.f_code is run.__code__ and event == "line")
        if sum(seen) == lines:
            raise Rung
        return ring if frame.f_code is run.__code__ else None

    done: list[str] = []
    seen: list[bool] = []
    before = sys.gettrace()
    sys.settrace(ring)
    try:
        with pytest.raises(Rung):
            run(steps())
    finally:
        sys.settrace(before)
    assert done == (["given back"] if lines > 2 else [])
