"""What the watchdog does at a look: through renewal, doubt, lateness and loss, on a clock that is moved by hand."""

from __future__ import annotations

import gc
import logging
import math
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from weakref import ref

import pytest

from django_redislock import StoreUnavailable, clock
from django_redislock.exceptions import LossReason
from django_redislock.holds import Flow, Hold, current_flow, leave_all
from django_redislock.keylock import KeyLock
from django_redislock.keys import Key
from django_redislock.lease import Lease, LeaseState
from django_redislock.renewing import share_of
from django_redislock.stores.base import Answer, Renewal
from django_redislock.watchdog import Rounds, apart
from tests.flows import elsewhere

START = 5_000.0
TTL = 30.0
THIRD = START + TTL / 3
DEADLINE = START + 29.698


class Hand:
    """Moves the clock."""

    def __init__(self) -> None:
        self.now = START


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Hand:
    hand = Hand()
    monkeypatch.setattr(clock, "now", lambda: hand.now)
    return hand


class Shelf:
    """A store that answers what it is told to, and notes what it was asked."""

    scope = "shelf"

    def __init__(self, server: object = None) -> None:
        self.server = server or self
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.released: list[str] = []
        self.within: list[float] = []
        self.away = False
        self.failure: Exception = StoreUnavailable("Nobody answers.")
        self.meanwhile: Callable[[], object] = lambda: None
        """What happens while a question is on its way."""

    def renew_many(self, renewals: Sequence[Renewal], *, within: float) -> list[Answer]:
        self.asked.append(" ".join(f"{renewal.key}:{renewal.ttl:g}" for renewal in renewals))
        self.within.append(within)
        self.meanwhile()
        if self.away:
            raise self.failure
        return [self.answers.get(renewal.key.name, Answer.DONE) for renewal in renewals]

    def release(self, key: Key, *, token: str, ttl: float) -> Answer:
        self.meanwhile()
        if self.away:
            raise self.failure
        self.released.append(f"{key} {token}")
        return Answer.DONE


class Guard:
    """What an owner has in hand."""

    def __init__(self) -> None:
        self.max_hold: float | None = None
        self.told: list[Lease] = []

    def max_hold_of(self, lease: Lease) -> float | None:
        return self.max_hold

    def hear_of_loss(self, lease: Lease) -> None:
        self.told.append(lease)


class House:
    """What is held, and who looks after it."""

    def __init__(self) -> None:
        self.holds: list[Hold] = []
        self.guard = Guard()
        self.shelf = Shelf()
        self.rung: list[float] = []
        self.is_patient = False
        """Whether what may take its time is still to be done."""
        self.errands: list[Callable[[], object]] = []
        self.lost: list[Lease] = []
        self.rounds = Rounds(lambda: self.holds, tell=self.lost.extend, ring=self.rung.append, apart=self.do)

    def hold(
        self, name: str = "a", *, ttl: float = TTL, since: float = START, max_hold: float | None = None, **more: Any
    ) -> Lease:
        lock = KeyLock(more.get("store", self.shelf), Key(name))
        lease = Lease(key=lock.key, token=f"token-{name}", ttl=ttl, extender=lock).begin(fence=1, asked_at=since)
        hold = Hold(current_flow(), lock, lease)
        self.guard.max_hold = max_hold
        lease.handle = ref(self.guard)
        self.holds.append(hold)
        return lease

    def do(self, errand: Callable[[], object]) -> None:
        if self.is_patient:
            self.errands.append(errand)
        else:
            errand()

    def work(self) -> None:
        """Do what is still to be done."""
        while self.errands:
            self.errands.pop()()

    def look(self, *, late: float = 0.0) -> float:
        """Look, and see that a loss is told of nothing."""
        at = self.rounds.look(late=late)
        assert self.lost == []
        return at

    def lose(self, *, late: float = 0.0) -> list[tuple[str, LossReason | None]]:
        """Look; gives what is lost by it."""
        self.rounds.look(late=late)
        lost, self.lost[:] = [*self.lost], []
        assert self.guard.told == []  # that is not for a thread that renews
        assert all(lease.state is LeaseState.LOST for lease in lost)
        return [(lease.key.name, lease.reason) for lease in lost]


@pytest.fixture
def house(time: Hand) -> House:
    return House()


# Renewal


def test_nothing_is_asked_before_a_third_of_the_ttl(house, time):
    house.hold()
    assert house.look() == pytest.approx(THIRD)
    time.now = THIRD - 0.001
    assert house.look() == pytest.approx(THIRD)
    assert house.shelf.asked == []


def test_at_a_third_it_is_renewed(house, time):
    lease = house.hold()
    time.now = THIRD
    assert house.look() == pytest.approx(THIRD + TTL / 3)
    assert (house.shelf.asked, lease.state) == (["a:30"], LeaseState.HELD)
    assert lease.deadline == pytest.approx(THIRD + 29.698)


def test_all_that_are_half_as_far_go_along(house, time):
    for name, since in {"a": 0, "b": 4.9, "c": 5.1}.items():
        house.hold(name, since=START + since)
    time.now = THIRD
    assert house.look() == pytest.approx(START + 5.1 + TTL / 3)
    assert house.shelf.asked == ["a:30 b:30"]
    time.now = START + 5.1 + TTL / 3
    assert house.look() == pytest.approx(time.now + TTL / 3)
    assert house.shelf.asked == ["a:30 b:30", "a:30 b:30 c:30"]


def test_each_is_renewed_with_its_own_ttl(house, time):
    house.hold("short", ttl=6)
    house.hold("long", ttl=600)
    time.now = START + 2
    assert house.look() == pytest.approx(START + 4)
    assert house.shelf.asked == ["short:6"]


def test_a_store_is_asked_once_for_all(house, time):
    other = Shelf()
    for name in "abc":
        house.hold(name)
        house.hold(name, store=other)
    time.now = THIRD
    house.look()
    assert house.shelf.asked == other.asked == ["a:30 b:30 c:30"]


def test_after_an_extension_its_ttl_counts(house, time):
    lease = house.hold()
    lease.prolong(ttl=60, asked_at=START)
    assert house.look() == pytest.approx(START + 20)
    time.now = START + 20
    house.look()
    assert house.shelf.asked == ["a:60"]


def test_where_nothing_is_held_there_is_nothing_to_look_at(house):
    assert house.look() == math.inf


def test_a_thousand_leases_held_for_a_minute_take_few_questions(house, time):
    for number in range(1_000):
        house.hold(str(number), ttl=10, since=START + number / 1_000 * 3)
    while time.now < START + 60:
        time.now = house.look()
    assert len(house.shelf.asked) < 25


# Doubt


def test_a_store_that_could_not_be_asked_leaves_it_unknown(house, time):
    lease = house.hold()
    house.shelf.away, time.now = True, THIRD
    assert house.look() == pytest.approx(THIRD + 1)
    assert (lease.state, lease.trusted) == (LeaseState.UNKNOWN, True)


@pytest.mark.parametrize(("ttl", "pause"), [(0.2, 0.01), (10, 0.5), (20, 1), (600, 1)])
def test_it_is_asked_again_soon(house, time, ttl, pause):
    house.hold(ttl=ttl)
    house.shelf.away, time.now = True, START + ttl / 3
    assert house.look() == pytest.approx(time.now + pause)


def test_it_is_asked_again_until_the_deadline(house, time):
    lease = house.hold()
    house.shelf.away, time.now = True, THIRD
    while time.now < DEADLINE:
        time.now = house.look()
    assert len(house.shelf.asked) == 20
    assert house.lose() == [("a", LossReason.EXPIRED)]
    assert "Nobody answers." in str(lease.lost())
    assert len(house.shelf.asked) == 20


def test_an_answer_ends_the_doubt(house, time):
    lease = house.hold()
    house.shelf.away, time.now = True, THIRD
    time.now = house.look()
    house.shelf.away = False
    assert house.look() == pytest.approx(time.now + TTL / 3)
    assert lease.state is LeaseState.HELD


def test_a_lease_of_which_too_few_servers_could_say_is_in_doubt_and_the_others_are_renewed(house, time):
    doubted, renewed = house.hold("a"), house.hold("b")
    house.shelf.answers["a"] = Answer.UNKNOWN
    time.now = THIRD
    assert house.look() == pytest.approx(THIRD + 1)  # asked again soon, and not at once
    assert (doubted.state, renewed.state) == (LeaseState.UNKNOWN, LeaseState.HELD)
    assert renewed.deadline > doubted.deadline
    time.now = DEADLINE - 0.001
    house.look()
    time.now = DEADLINE
    assert house.lose() == [("a", LossReason.EXPIRED)]
    assert "too few servers could be asked" in str(doubted.lost())


def test_other_stores_of_a_server_are_not_kept_waiting_by_one_that_fails(house, time):
    other = Shelf(house.shelf.server)
    house.hold("bad")
    house.hold("good", store=other)
    house.shelf.away, time.now = True, THIRD
    house.look()
    asked: list[str] = []
    house.shelf.meanwhile, other.meanwhile = (lambda: asked.append("bad")), (lambda: asked.append("good"))
    time.now = THIRD + TTL / 3
    house.look()
    assert asked == ["good", "bad"]


def test_a_question_may_take_a_third_of_the_shortest_ttl(house, time):
    house.hold("a", ttl=30)
    house.hold("b", ttl=31)
    time.now = THIRD
    house.look()
    assert house.shelf.within == [10]


def test_stores_of_a_server_that_hang_leave_time_to_ask_the_others(house, time):
    """Three are due at once, and the first two do not answer for as long as they are given."""
    second, third = Shelf(house.shelf.server), Shelf(house.shelf.server)

    def hang(shelf: Shelf) -> None:
        time.now += shelf.within[-1]

    for shelf in (house.shelf, second):
        shelf.away, shelf.meanwhile = True, partial(hang, shelf)
    leases = [house.hold("a", ttl=600), house.hold("b", ttl=300, store=second), house.hold("c", store=third)]
    time.now = START + 200
    leases[2].deadline = time.now + 8
    house.look()
    assert (house.shelf.within, second.within) == ([4], [2])
    assert leases[2].remaining == pytest.approx(29.698)


def test_what_has_ended_in_another_store_leaves_all_the_time(house, time):
    other = house.hold("b", store=Shelf(house.shelf.server))
    house.hold("a", ttl=600)
    time.now = START + 200
    assert house.lose() == [("b", LossReason.EXPIRED)]
    assert house.shelf.within == [200]
    assert other.ended


def test_a_store_that_fails_in_an_unforeseen_way_harms_no_other(house, time, caplog):
    other = Shelf()
    lease = house.hold("bad")
    house.hold("good", store=other)
    house.shelf.away, house.shelf.failure, time.now = True, ZeroDivisionError("oops"), THIRD
    house.look()
    assert (lease.state, other.asked) == (LeaseState.UNKNOWN, ["good:30"])
    assert "The watchdog goes on after an error" in caplog.text


# Servers that hang


def test_servers_are_asked_at_once(house, time):
    """Each is left alone until it has answered, and rings then."""
    other = Shelf()
    leases = [house.hold("a"), house.hold("b", store=other)]
    house.is_patient, time.now = True, THIRD
    assert house.look() == pytest.approx(DEADLINE)
    assert (len(house.errands), house.shelf.asked, other.asked) == (2, [], [])
    assert house.look() == pytest.approx(DEADLINE)
    assert len(house.errands) == 2
    house.errands[1]()
    assert house.rung == [pytest.approx(THIRD + TTL / 3)] == [house.look()]
    assert [round(lease.remaining, 3) for lease in leases] == [19.698, 29.698]


def test_one_that_hangs_keeps_the_others_from_nothing(house, time):
    """Nor from being asked again and again."""
    other = Shelf()
    lost, kept = house.hold("a"), house.hold("b", store=other)
    house.is_patient, time.now = True, THIRD
    house.look()
    hanging = house.errands.pop(0)
    while time.now < DEADLINE:
        house.work()
        time.now = house.look()
    house.work()
    assert len(other.asked) == 2
    assert house.lose() == [("a", LossReason.EXPIRED)]
    assert (lost.reason, kept.state) == (LossReason.EXPIRED, LeaseState.HELD)
    hanging()
    assert house.lost == []


def test_what_becomes_due_on_a_server_that_hangs_is_asked_for_when_it_has_answered(house, time):
    second = Shelf(house.shelf.server)
    house.hold("a")
    house.hold("b", store=second, since=START + 1)
    house.is_patient, time.now = True, THIRD
    house.look()
    time.now = THIRD + 1
    assert house.look() == pytest.approx(DEADLINE)
    house.errands.pop()()
    assert (second.asked, house.rung) == ([], [pytest.approx(THIRD + 1)])
    house.look()
    house.errands.pop()()
    assert second.asked == ["b:30"]


def test_what_is_let_go_is_handed_over_although_its_server_hangs(house, time):
    house.hold(max_hold=15)
    house.is_patient, time.now = True, THIRD
    house.look()
    time.now = START + 15
    assert house.lose() == [("a", LossReason.MAX_HOLD)]
    house.errands.pop()()
    house.work()
    assert (house.shelf.released, house.lost) == (["a token-a"], [])


def test_where_no_thread_can_be_started_it_asks_by_itself(monkeypatch):
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done = list[str]()
    apart(lambda: done.append(threading.current_thread().name))
    assert done == ["MainThread"]


# Loss


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer.GONE, LossReason.STORE_RESTARTED),
        (Answer.ANOTHERS, LossReason.TAKEN_OVER),
        (Answer.FORCED, LossReason.FORCED),
    ],
)
def test_a_definite_no_is_a_loss_of_that_one(house, time, answer, reason):
    house.hold("lost")
    kept = house.hold("kept")
    house.shelf.answers["lost"], time.now = answer, THIRD
    assert house.lose() == [("lost", reason)]
    assert kept.state is LeaseState.HELD
    assert house.look() == pytest.approx(THIRD + TTL / 3)


def test_what_is_over_is_lost_and_not_renewed(house, time):
    house.hold()
    time.now = DEADLINE
    assert house.lose() == [("a", LossReason.EXPIRED)]
    assert (house.shelf.asked, house.look()) == ([], math.inf)


def test_a_late_answer_resurrects_nothing(house, time):
    house.hold()
    time.now = THIRD
    house.shelf.meanwhile = lambda: setattr(time, "now", DEADLINE)
    assert house.lose() == [("a", LossReason.EXPIRED)]


def test_a_loss_that_its_owner_has_found_is_not_told_again(house, time):
    lease = house.hold()
    time.now = DEADLINE
    assert (lease.state, house.guard.told) == (LeaseState.LOST, [lease])
    assert house.look() == math.inf


def test_it_says_when_it_was_starved(house, time, caplog):
    house.hold()
    time.now = THIRD + 15
    house.look(late=15)
    assert "came 15.0 s late to renew 1 leases" in caplog.text


@pytest.mark.parametrize(("ttl", "late"), [(30, 4.9), (600, 15)])
def test_it_says_nothing_of_a_lateness_that_does_no_harm(house, caplog, ttl, late):
    house.hold(ttl=ttl)
    house.look(late=late)
    assert caplog.text == ""


def test_a_sixth_of_the_shortest_ttl_is_not_yet_too_late(house, caplog):
    house.hold()
    house.look(late=TTL / 6)
    assert caplog.text == ""


def test_no_time_is_given_where_the_leases_of_others_have_none_left(house, time):
    other = house.hold("b", store=Shelf())
    house.hold("a", ttl=600)
    time.now = other.deadline + 1
    assert share_of(house.holds[:1], now=time.now) == 0


def test_what_the_owner_gave_back_while_the_answer_came_is_not_lost(house, time):
    """Its hold still counts, but its lease has ended: the answer finds nothing to prolong, and nothing to tell."""
    lease = house.hold()
    house.shelf.meanwhile = lambda: lease.end(None)
    time.now = THIRD
    house.look()
    assert lease.state is LeaseState.RELEASED


def test_what_it_does_else_is_for_those_who_look_closely(house, time, caplog):
    caplog.set_level(logging.DEBUG, "django_redislock")
    house.hold()
    time.now = THIRD
    house.look()
    house.shelf.away, time.now = True, THIRD + TTL / 3
    house.look()
    assert {record.levelname for record in caplog.records} == {"DEBUG"}
    assert len(caplog.records) == 2


# What is not renewed


def test_what_nobody_has_in_hand_is_not_renewed(house, time):
    house.hold()
    house.guard = Guard()
    house.hold("b")
    time.now = THIRD
    house.look()
    assert house.shelf.asked == ["b:30"]


def test_what_is_being_acquired_is_not_looked_after_yet(house, time):
    house.hold()
    house.holds[0].lease.handle = None
    time.now = THIRD
    assert house.look() == math.inf


def test_what_is_given_back_in_the_meantime_is_no_loss(house, time):
    house.hold()
    house.shelf.answers["a"], time.now = Answer.GONE, THIRD
    house.shelf.meanwhile = lambda: leave_all(house.holds[:1])
    assert house.look() != math.inf  # it does not know yet that the release was carried out
    assert house.holds[0].lease.state is LeaseState.HELD


def test_what_is_extended_in_the_meantime_keeps_that(house, time):
    lease = house.hold()
    time.now = THIRD
    house.shelf.meanwhile = lambda: lease.prolong(ttl=60, asked_at=THIRD)
    house.look()
    assert lease.deadline == pytest.approx(THIRD + 59.398)


def test_what_a_thread_has_left_behind_is_not_held():
    def leave_behind() -> tuple[Flow, list[Hold]]:
        flow = current_flow()
        flow.add(Hold(flow, KeyLock(Shelf(), Key("a")), House().hold()))  # type: ignore[arg-type]
        return flow, flow.living_holds()

    flow, while_it_lived = elsewhere(leave_behind)
    assert (len(while_it_lived), flow.living_holds()) == (1, [])


# Max hold


def test_after_max_hold_it_is_let_go(house, time):
    house.hold(max_hold=25)
    assert house.look() == pytest.approx(THIRD)
    time.now = THIRD
    assert house.look() == pytest.approx(THIRD + TTL / 3)
    time.now = THIRD + TTL / 3
    assert house.look() == pytest.approx(START + 25)
    time.now = START + 25
    assert house.lose() == [("a", LossReason.MAX_HOLD)]
    assert house.shelf.released == ["a token-a"]
    assert house.look() == math.inf


def test_max_hold_may_be_shorter_than_a_third_of_the_ttl(house, time):
    house.hold(max_hold=1)
    assert house.look() == pytest.approx(START + 1)
    time.now = START + 1
    assert house.lose() == [("a", LossReason.MAX_HOLD)]
    assert house.shelf.asked == []


def test_while_its_owner_commits_it_is_not_let_go_but_not_renewed_either(house, time):
    lease = house.hold(max_hold=15)
    house.holds[0].closing = True
    time.now = THIRD
    assert house.look() == pytest.approx(THIRD + 29.698)
    time.now = THIRD + TTL / 3
    house.look()
    assert (house.shelf.asked, house.shelf.released, lease.state) == (["a:30"], [], LeaseState.HELD)


def test_who_begins_to_commit_just_then_gives_it_back_itself(house, time, monkeypatch):
    house.hold(max_hold=15)
    lose = Lease.lose

    def commit_meanwhile(lease: Lease, reason: LossReason) -> bool:
        house.holds[0].closing = True
        return lose(lease, reason)

    monkeypatch.setattr(Lease, "lose", commit_meanwhile)
    time.now = START + 15
    assert house.lose() == [("a", LossReason.MAX_HOLD)]
    assert house.shelf.released == []


def test_what_is_given_back_before_its_turn_comes_is_not_let_go(house, time):
    house.hold("a", max_hold=15)
    lease = house.hold("b", max_hold=15)
    house.shelf.meanwhile = lambda: lease.end(None)
    time.now = START + 15
    assert house.lose() == [("a", LossReason.MAX_HOLD)]
    assert house.shelf.released == ["a token-a"]


@pytest.mark.parametrize(
    ("failure", "level", "text"),
    [
        (
            StoreUnavailable("Nobody answers."),
            "DEBUG",
            "a could not be handed over and ends with its ttl: Nobody answers.",
        ),
        (ZeroDivisionError("oops"), "ERROR", "The watchdog goes on after an error"),
    ],
)
def test_what_cannot_be_handed_over_is_lost_all_the_same(house, time, caplog, failure, level, text):
    caplog.set_level(logging.DEBUG, "django_redislock")
    house.hold(max_hold=15)
    house.shelf.away, house.shelf.failure, time.now = True, failure, START + 15
    assert house.lose() == [("a", LossReason.MAX_HOLD)]
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [(level, text)]


def test_a_store_that_failed_is_forgotten_with_the_last_lease_in_it(house, time):
    house.hold()
    house.shelf.away, time.now = True, THIRD
    house.look()
    shelf, house.shelf = ref(house.shelf), Shelf()
    house.holds.clear()
    house.look()
    gc.collect()
    assert shelf() is None


def test_leaving_an_inner_block_ends_that_it_commits(house):
    house.hold()
    (hold,) = house.holds
    hold.count, hold.closing = 2, True
    holds = [hold]
    leave_all(holds)
    assert (holds, hold.count, hold.closing) == ([], 1, False)
