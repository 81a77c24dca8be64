"""Waiting for a key that another holds, on a clock that the test ticks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_redislock import clock
from django_redislock.holder import Holder
from django_redislock.stores.base import Held, Taken
from django_redislock.waiting import FIRST_PAUSE, LONGEST_PAUSE, bounded, next_pause, obtain

OURS = Taken(8)
SOMEBODY = Holder(host="web-1", pid=42, thread="MainThread", doing="")
START = 5_000.0

Ask = Callable[[], Taken | Held]


def theirs(remaining: float = 30) -> Held:
    return Held(holder=SOMEBODY, fence=7, since=0, held_for=1, remaining=remaining)


class Ticker:
    """Time that passes only where somebody sleeps, and what was done when."""

    def __init__(self) -> None:
        self.now = START
        self.asked: list[float] = []
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def asking(self, answer: Callable[[float], Taken | Held]) -> Ask:
        """A question whose answer depends on the seconds since the start."""

        def ask() -> Taken | Held:
            self.asked.append(self.now - START)
            return answer(self.now - START)

        return ask

    def busy_until(self, free: float) -> Ask:
        return self.asking(lambda passed: OURS if passed >= free else theirs())

    def busy_for_ever(self, remaining: float = 30) -> Ask:
        return self.asking(lambda passed: theirs(remaining))


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Ticker:
    ticker = Ticker()
    monkeypatch.setattr(clock, "now", lambda: ticker.now)
    monkeypatch.setattr(clock, "sleep", ticker.sleep)
    return ticker


@pytest.mark.parametrize("wait", [0, 10, None])
def test_a_free_key_is_asked_for_once_and_not_slept_for(time, wait):
    assert obtain(time.busy_until(0), wait=wait) is OURS
    assert (time.asked, time.slept) == ([0], [])


def test_without_a_wait_it_is_asked_once(time):
    assert obtain(time.busy_for_ever(), wait=0) == theirs()
    assert (time.asked, time.slept) == ([0], [])


@pytest.mark.parametrize("wait", [0.0001, 0.002, 0.5, 7])
def test_the_last_question_is_asked_when_the_wait_ends(time, wait):
    assert obtain(time.busy_for_ever(), wait=wait) == theirs()
    assert time.asked[-1] == pytest.approx(wait, abs=1e-6)


@pytest.mark.parametrize("wait", [0.0001, 0.002, 0.5, 7])
def test_nobody_sleeps_beyond_the_wait(time, wait):
    obtain(time.busy_for_ever(), wait=wait)
    assert sum(time.slept) == pytest.approx(wait, abs=1e-6)


def test_a_key_that_is_freed_at_the_very_end_is_taken(time):
    assert obtain(time.busy_until(3 - 1e-6), wait=3) is OURS


def test_a_freed_key_is_taken_at_the_next_question(time):
    assert obtain(time.busy_until(2), wait=10) is OURS
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
    assert obtain(time.asking(lambda passed: OURS if passed > left else theirs(left - passed)), wait=10) is OURS
    assert time.now - START <= left + 0.001 + 1e-6


def test_a_ttl_that_is_just_over_is_no_busy_loop(time):
    obtain(time.busy_for_ever(remaining=0), wait=0.1)
    assert min(time.slept[:-1]) >= 0.001


def test_for_ever_is_for_ever(time):
    assert obtain(time.busy_until(3_600), wait=None) is OURS
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
