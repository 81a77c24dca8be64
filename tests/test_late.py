"""Answers of the nodes of a quorum that were not waited for."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from django_redislock import StoreUnavailable, clock
from django_redislock.stores.late import MOST, Latecomers
from tests.panels import Clock

OURS, THEIRS = "token-of-ours-01", "token-of-theirs2"


@dataclass(eq=False)
class Question:
    """One that is answered at the test's word."""

    answer: Any = "yes"
    comes: bool = False
    heard: list[float] = field(default_factory=list)
    is_abandoned: bool = False

    is_understood = True

    def has_come(self) -> bool:
        return self.comes

    def send(self) -> None:
        """It has been."""

    def receive(self, until: float) -> Any:
        self.heard.append(until)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def abandon(self) -> None:
        self.is_abandoned = True


@pytest.fixture(autouse=True)
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    time = Clock()
    monkeypatch.setattr(clock, "now", time.now)
    return time


@pytest.fixture
def late() -> Latecomers:
    return Latecomers()


def add(late: Latecomers, *questions: Question, number: int = 2, token: str = THEIRS, seconds: float = 1) -> None:
    for question in questions:
        late.add({number: question}, token=token, until=clock.now() + seconds)


def heard(late: Latecomers, token: str = OURS) -> list[tuple[int, str, Any]]:
    return [(one.number, one.token, answer) for one, answer in late.hear(token)]


def test_what_has_not_come_is_heard_by_the_token_that_asked_and_by_nobody_else(late):
    question = Question()
    add(late, question)
    assert heard(late, OURS) == []
    assert late.owing(OURS) == set()
    assert late.owing(THEIRS) == {2}
    assert heard(late, THEIRS) == [(2, THEIRS, "yes")]
    assert question.heard == [clock.now() + 1]


def test_each_is_heard_once(late):
    add(late, Question(), token=OURS)
    assert heard(late) == [(2, OURS, "yes")]
    assert heard(late) == []
    assert late.owing(OURS) == set()


def test_what_has_come_is_heard_by_whoever_asks_next(late):
    add(late, Question(), Question("no", comes=True))
    assert heard(late) == [(2, THEIRS, "no")]
    assert late.owing(THEIRS) == {2}


def test_what_has_not_come_in_time_is_heard_too(late, time):
    add(late, Question(StoreUnavailable("too late")))
    time.sleep(0.999)
    assert heard(late) == []
    time.sleep(0.001)
    ((_, _, answer),) = heard(late)
    assert isinstance(answer, StoreUnavailable)


def test_no_more_of_one_node_are_left_to_come_than_it_has_connections_to_spare(late):
    questions = [Question(number) for number in range(MOST + 2)]
    add(late, *questions)
    add(late, Question(), number=1)
    assert heard(late) == [(2, THEIRS, 0), (2, THEIRS, 1)]
    assert heard(late) == []


def test_one_that_is_interrupted_is_taken_back_and_the_others_are_still_to_be_heard(late):
    questions = [Question("first"), Question(KeyboardInterrupt()), Question("last")]
    add(late, *questions, token=OURS)
    with pytest.raises(KeyboardInterrupt):
        late.hear(OURS)
    assert [question.is_abandoned for question in questions] == [False, True, False]
    assert heard(late) == [(2, OURS, "last")]


def test_what_was_dropped_is_not_heard(late):
    first, second = Question("first"), Question("second")
    add(late, first, second, token=OURS)
    late.drop([first])
    assert heard(late) == [(2, OURS, "second")]


def test_all_are_heard_at_the_end(late):
    questions = [Question(), Question(StoreUnavailable("too late")), Question()]
    add(late, *questions)
    late.hear_all()
    assert [len(question.heard) for question in questions] == [1, 1, 1]
    assert late.owing(THEIRS) == set()


def test_they_are_heard_when_nobody_can_ask_any_more():
    late, question = Latecomers(), Question()
    add(late, question)
    del late
    gc.collect()
    assert len(question.heard) == 1


def forks(test: Any) -> Any:
    """Whatever threads earlier tests have left are not in the child."""
    test = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")(test)
    return pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")(test)


def in_a_child(function: Any) -> Any:
    """What it gives in a child of `fork`."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=lambda: results.put(function()))
    child.start()
    child.join()
    assert child.exitcode == 0
    return results.get()


@forks
def test_a_child_leaves_those_of_its_parent_alone(late):
    question = Question(comes=True)
    add(late, question, token=OURS)

    def ask_and_end() -> tuple[list[Any], int]:
        told = heard(late)
        add(late, Question("of the child"), token=OURS)
        return [*told, *heard(late)], len(question.heard)

    assert in_a_child(ask_and_end) == ([(2, OURS, "of the child")], 0)

    def end() -> int:
        late.hear_all()
        return len(question.heard)

    assert in_a_child(end) == 0
    assert heard(late) == [(2, OURS, "yes")]


@forks
def test_a_child_hears_its_own_also_where_its_parent_has_none(late):
    def ask() -> tuple[list[Any], list[Any]]:
        add(late, Question("first"))
        add(late, Question("second"), token=OURS)
        return heard(late, OURS), heard(late, THEIRS)

    assert in_a_child(ask) == ([(2, OURS, "second")], [(2, THEIRS, "first")])


@forks
def test_a_child_that_has_not_asked_yet_ends_without_hearing_those_of_its_parent():
    late, question = Latecomers(), Question()
    add(late, question)

    def end() -> int:
        nonlocal late
        del late
        gc.collect()
        return len(question.heard)

    assert in_a_child(end) == 0


@forks
def test_a_child_may_ask_that_was_forked_while_a_thread_was_at_it(late):
    add(late, Question())
    taken, done = threading.Event(), threading.Event()

    def look() -> None:
        with late._guard:
            taken.set()
            done.wait(10)

    thread = threading.Thread(target=look)
    thread.start()
    taken.wait(10)
    try:
        assert in_a_child(lambda: heard(late)) == []
    finally:
        done.set()
        thread.join()
