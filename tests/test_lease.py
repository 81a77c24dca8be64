"""What the owner of a lease has in hand: everything about it is known without asking the server."""

from __future__ import annotations

import asyncio
import datetime
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from types import SimpleNamespace
from typing import Any
from weakref import ref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_redislock import LeaseLost, clock
from django_redislock.exceptions import LossReason
from django_redislock.keys import Key
from django_redislock.lease import Lease, LeaseState, lost_of, note_released
from django_redislock.seconds import LONGEST_TTL, SHORTEST_TTL

START = 5_000.0
TOKEN = "a-secret-token"

ttls = st.floats(min_value=SHORTEST_TTL, max_value=LONGEST_TTL)


class Extender:
    """Notes what it is asked for."""

    store: Any = None

    def __init__(self) -> None:
        self.asked: list[tuple[Lease, float]] = []

    async def aextend(self, lease: Lease, ttl: float) -> None:
        self.extend(lease, ttl)

    def extend(self, lease: Lease, ttl: float) -> None:
        self.asked.append((lease, ttl))


class Listener:
    """Notes what it is told."""

    def __init__(self, told: list[Lease]) -> None:
        self.told = told

    def max_hold_of(self, lease: Lease) -> None:
        raise AssertionError("Nobody renews it here.")

    def hear_of_loss(self, lease: Lease) -> None:
        self.told.append(lease)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands still: `time.now` is moved by hand."""
    hand = SimpleNamespace(now=START)
    monkeypatch.setattr(clock, "now", lambda: hand.now)
    return hand


def a_lease(*, ttl: float = 30, asked_at: float = START, extender: Any = None) -> Lease:
    lease = Lease(key=Key("shelf"), token=TOKEN, ttl=ttl, extender=extender or Extender())
    return lease.begin(fence=7, asked_at=asked_at)


@pytest.mark.usefixtures("time")
def test_a_new_lease_is_held():
    lease = a_lease()
    lease.ensure_held()
    assert (lease.state, lease.fence, lease.key.name, lease.pid) == (LeaseState.HELD, 7, "shelf", os.getpid())


@pytest.mark.parametrize(
    ("ttl", "trusted"), [(SHORTEST_TTL, 0.0079), (1, 0.988), (30, 29.698), (LONGEST_TTL, 0.99 * LONGEST_TTL - 0.002)]
)
def test_the_deadline_leaves_room_for_clocks_that_drift(ttl, trusted):
    assert a_lease(ttl=ttl).deadline == pytest.approx(START + trusted, rel=1e-12)


@settings(deadline=None)
@given(ttls)
def test_the_deadline_lies_between_the_question_and_the_servers_expiry(ttl):
    assert START < a_lease(ttl=ttl).deadline < START + ttl


def test_a_slow_answer_shortens_what_remains(time):
    time.now = START + 3
    assert a_lease(ttl=10).remaining == pytest.approx(10 - 0.102 - 3)


def test_a_lease_is_lost_from_its_deadline_on(time):
    lease = a_lease()
    time.now = lease.deadline - 0.001
    lease.ensure_held()
    time.now = lease.deadline
    assert lease.state is LeaseState.LOST
    with pytest.raises(LeaseLost):
        lease.ensure_held()


def test_the_loss_tells_the_key_and_the_times(time):
    time.now = START + 31
    with pytest.raises(LeaseLost, match=r"The lease on shelf was lost 31\.0 s after .* with a ttl of 30 s") as caught:
        a_lease().ensure_held()
    assert caught.value.key == "shelf"


@pytest.mark.parametrize("later", [0, 10, 29.697, 29.698, 30, 1e9])
def test_what_remains_is_never_negative(time, later):
    lease = a_lease()
    time.now = START + later
    assert lease.remaining == pytest.approx(max(0, 29.698 - later))
    assert lease.remaining >= 0


def test_how_long_it_has_been_held(time):
    lease = a_lease()
    time.now = START + 12
    assert lease.held_for == 12


@pytest.mark.usefixtures("time")
@pytest.mark.parametrize(
    ("reason", "end"), [(None, LeaseState.RELEASED), *((reason, LeaseState.LOST) for reason in LossReason)]
)
def test_an_ended_lease_may_not_be_used(reason, end):
    lease = a_lease()
    lease.end(reason)
    assert (lease.state, lease.trusted, lease.remaining) == (end, False, 0)
    with pytest.raises(LeaseLost) as caught:
        lease.ensure_held()
    assert caught.value.reason is reason


@pytest.mark.usefixtures("time")
@pytest.mark.parametrize(("first", "second"), list(permutations([None, *LossReason], 2)))
def test_the_first_end_of_a_lease_is_its_end(first, second):
    lease = a_lease()
    lease.end(first)
    state = lease.state
    lease.end(second)
    assert (lease.state, lease.reason) == (state, first)


def test_a_loss_is_told_once(time):
    told: list[Lease] = []
    lease = a_lease()
    listener = Listener(told)
    lease.handle = ref(listener)
    time.now = lease.deadline
    assert [lease.state for _ in range(3)] == [LeaseState.LOST] * 3
    for reason in (LossReason.EXPIRED, LossReason.FORCED, None):
        lease.end(reason)
    assert told == [lease]


@pytest.mark.usefixtures("time")
def test_a_loss_that_the_store_knows_of_is_told_once():
    told: list[Lease] = []
    lease = a_lease()
    listener = Listener(told)
    lease.handle = ref(listener)
    for reason in (LossReason.STORE_RESTARTED, LossReason.FORCED):
        lease.end(reason)
    assert (told, lease.reason) == ([lease], LossReason.STORE_RESTARTED)


@pytest.mark.usefixtures("time")
def test_what_was_renewed_just_before_it_is_taken_for_lost_is_held():
    lease = a_lease()
    assert not lease.expire()
    assert lease.state is LeaseState.HELD


def test_many_threads_that_see_the_loss_tell_it_once(time):
    told: list[Lease] = []
    lease = a_lease()
    listener = Listener(told)
    lease.handle = ref(listener)
    time.now = lease.deadline
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: lease.state, range(100)))
    assert told == [lease]


def test_a_release_is_no_loss():
    told: list[Lease] = []
    lease = a_lease()
    listener = Listener(told)
    lease.handle = ref(listener)
    lease.end(None)
    lease.end(LossReason.FORCED)
    assert told == []


@pytest.mark.usefixtures("time")
@pytest.mark.parametrize(
    ("reason", "why"),
    [
        (LossReason.FORCED, "released by force"),
        (LossReason.STORE_RESTARTED, r"Redis has lost it \(restarted, flushed or out of memory\), and another may"),
        (LossReason.TAKEN_OVER, "and another holds it now"),
        (LossReason.MAX_HOLD, "longer than max_hold"),
    ],
)
def test_the_loss_tells_why(reason, why):
    lease = a_lease()
    lease.end(reason)
    with pytest.raises(LeaseLost, match=f"shelf was lost .* ttl of 30 s: .*{why}"):
        lease.ensure_held()


@pytest.mark.parametrize("reason", [reason for reason in LossReason if reason is not LossReason.FORCED])
def test_what_is_gone_after_the_deadline_has_expired(time, reason):
    lease = a_lease()
    time.now = lease.deadline
    lease.end(reason)
    assert lease.reason is LossReason.EXPIRED


def test_by_force_is_by_force_however_late_it_is_found(time):
    lease = a_lease()
    time.now = lease.deadline
    lease.end(LossReason.FORCED)
    assert lease.reason is LossReason.FORCED


# Renewals


def test_doubt_leaves_it_good_until_its_deadline(time):
    lease = a_lease()
    lease.doubt("Redis could not be asked.")
    lease.ensure_held()
    assert (lease.state, lease.trusted) == (LeaseState.UNKNOWN, True)
    assert lease.remaining == pytest.approx(29.698)
    time.now = lease.deadline
    assert lease.state is LeaseState.LOST
    with pytest.raises(LeaseLost, match=r"not renewed in time, and another may hold it now. Redis could not be asked"):
        lease.ensure_held()


@pytest.mark.usefixtures("time")
def test_a_doubt_is_not_blamed_for_what_was_done_by_force():
    lease = a_lease()
    lease.doubt("Redis could not be asked.")
    lease.end(LossReason.FORCED)
    with pytest.raises(LeaseLost, match="by force") as caught:
        lease.ensure_held()
    assert "could not be asked" not in str(caught.value)


def test_a_renewal_ends_the_doubt(time):
    lease = a_lease()
    lease.doubt("Redis could not be asked.")
    time.now = START + 20
    assert lease.prolong(ttl=30, asked_at=START + 19)
    assert lease.state is LeaseState.HELD
    assert lease.remaining == pytest.approx(28.698)
    time.now = lease.deadline
    with pytest.raises(LeaseLost, match=r"hold it now\. Nothing more"):
        lease.ensure_held()


@pytest.mark.parametrize("seen_by_its_owner", [True, False])
def test_a_late_renewal_resurrects_nothing(time, seen_by_its_owner):
    lease = a_lease()
    time.now = lease.deadline
    if seen_by_its_owner:
        assert lease.state is LeaseState.LOST
    assert not lease.prolong(ttl=30, asked_at=START + 29)
    assert (lease.state, lease.deadline) == (LeaseState.LOST, time.now)


@pytest.mark.usefixtures("time")
@pytest.mark.parametrize("reason", [None, *LossReason])
def test_what_has_ended_is_not_renewed_nor_doubted(reason):
    lease = a_lease()
    lease.end(reason)
    state = lease.state
    assert not lease.prolong(ttl=30, asked_at=START)
    lease.doubt("Redis could not be asked.")
    assert lease.state is state


@pytest.mark.usefixtures("time")
def test_a_renewal_that_an_extension_has_overtaken_does_not_count():
    lease = a_lease()
    seen = lease.deadline
    lease.prolong(ttl=60, asked_at=START)
    assert lease.prolong(ttl=30, asked_at=START, seen=seen)
    assert lease.ttl == 60
    assert lease.remaining == pytest.approx(59.398)


@pytest.mark.usefixtures("time")
@pytest.mark.parametrize(("ttl", "trusted_for"), [(5, 4.948), (60, 29.698)])
def test_who_asks_for_less_has_less_at_once(ttl, trusted_for):
    lease = a_lease()
    lease.shorten(ttl=ttl, asked_at=START)
    assert lease.remaining == pytest.approx(trusted_for)


@pytest.mark.parametrize(
    ("arguments", "asked_for"), [((), 30), ((5,), 5), ((None,), 30), ((datetime.timedelta(minutes=1),), 60)]
)
def test_extending_asks_whoever_acquired_it(arguments, asked_for):
    extender = Extender()
    lease = a_lease(extender=extender)
    lease.extend(*arguments)
    asyncio.run(lease.aextend(*arguments))
    assert extender.asked == [(lease, asked_for)] * 2


@pytest.mark.parametrize(
    ("ttl", "error"), [(0, ValueError), (-1, ValueError), (1e13, ValueError), ("30", TypeError), (True, TypeError)]
)
def test_a_wrong_extension_is_not_asked_for(ttl, error):
    extender = Extender()
    with pytest.raises(error):
        a_lease(extender=extender).extend(ttl)
    assert extender.asked == []


def test_what_the_server_granted_counts_from_the_question(time):
    lease = a_lease(ttl=10)
    time.now = START + 5
    lease.prolong(ttl=20, asked_at=START + 4)
    assert lease.ttl == 20
    assert lease.deadline == pytest.approx(START + 4 + 19.798)


@pytest.mark.usefixtures("time")
def test_the_token_is_never_shown():
    lease = a_lease()
    assert (repr(lease), str(lease)) == ("<Lease shelf fence=7 held>",) * 2
    assert TOKEN not in f"{lease.lost()!r} {lease.lost()} {lease.key!r}"


def test_states_read_as_words():
    assert [str(state) for state in LeaseState] == ["held", "unknown", "lost", "released"]


def test_those_that_are_lost_are_found_among_several_and_told(time):
    held, doubted, forced, over = (a_lease() for _ in range(4))
    told: list[Lease] = []
    over.handle = ref(listener := Listener(told))
    doubted.doubt("no answer")
    forced.lose(LossReason.FORCED)
    over.deadline = START
    assert lost_of([held, doubted, forced, over]) == [forced, over]
    assert listener.told == [over]


def test_several_are_given_back_but_what_is_lost_stays_lost(time):
    held, doubted, forced = (a_lease() for _ in range(3))
    doubted.doubt("no answer")
    forced.lose(LossReason.FORCED)
    note_released([held, doubted, forced])
    assert [lease.state for lease in (held, doubted)] == [LeaseState.RELEASED] * 2
    assert forced.reason is LossReason.FORCED
    assert forced.state is LeaseState.LOST
