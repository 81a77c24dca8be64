"""A quorum under every mask of failing nodes: it is met exactly when it should be, and fences grow over all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest

from django_redislock import QuorumNotReached, clock, majority
from django_redislock.keys import Key
from django_redislock.majority import needed
from django_redislock.stores import election, panel
from django_redislock.stores.base import Answer, Held, Renewal, Taken
from django_redislock.stores.quorum import QuorumStore
from tests.panels import KEY, OURS, SECONDS, THEIRS, Clock, Model, Panel, State, masks

pytestmark = pytest.mark.long

WHO = '["web-1",42,"MainThread",""]'
FAILURES = [state for state in State if state is not State.UP]

every_failure = pytest.mark.parametrize("state", FAILURES, ids=lambda state: state.name.lower())
every_size = pytest.mark.parametrize("count", [3, 5])


@pytest.fixture(autouse=True)
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time is what is waited for, and who was slow is asked again all the same."""
    monkeypatch.setattr(panel, "AWAY", 0.0)
    time = Clock()
    monkeypatch.setattr(clock, "now", time.now)
    monkeypatch.setattr(clock, "sleep", time.sleep)
    return time


def take(store: QuorumStore, token: str = OURS) -> Any:
    return store.acquire(KEY, token=token, ttl=30, holder=WHO)


def is_met(mask: tuple[bool, ...], state: State = State.DEAD) -> bool:
    """Whether a majority answers in time while those of the mask are in that state."""
    return state.counts or mask.count(False) >= needed(len(mask))


def outcome(ask: Callable[[], Any]) -> Any:
    """The answer, or the kind of error."""
    try:
        return ask()
    except QuorumNotReached:
        return QuorumNotReached


@every_size
@every_failure
def test_a_free_key_is_taken_exactly_when_a_majority_answers(count, state):
    for mask in masks(count):
        quorum = Panel(count)
        quorum.fail(mask, state)
        assert isinstance(outcome(lambda: take(quorum.store)), Taken) is is_met(mask, state), mask  # noqa: B023 - called at once


@every_size
@every_failure
def test_what_was_not_taken_is_left_on_no_node(count, state):
    for mask in masks(count):
        quorum = Panel(count)
        quorum.fail(mask, state)
        if not is_met(mask, state):
            with pytest.raises(QuorumNotReached):
                take(quorum.store)
            quorum.fail(mask, State.UP)
            assert isinstance(take(quorum.store, THEIRS), Taken), mask
            assert None not in quorum.fences()


@every_size
@every_failure
def test_a_lease_is_renewed_exactly_when_a_majority_answers_and_else_in_doubt(count, state):
    quorum = Panel(count)
    take(quorum.store)
    for mask in masks(count):
        quorum.fail(mask, state)
        answer = outcome(lambda: quorum.store.renew(KEY, token=OURS, ttl=30))
        assert answer is (Answer.DONE if is_met(mask, state) else QuorumNotReached), mask


@every_size
@every_failure
def test_several_leases_are_renewed_exactly_when_a_majority_answers(count, state):
    quorum = Panel(count)
    take(quorum.store)
    renewals = [Renewal(key=KEY, token=OURS, ttl=30), Renewal(key=KEY, token=THEIRS, ttl=30)]
    for mask in masks(count):
        quorum.fail(mask, state)
        answers = outcome(lambda: quorum.store.renew_many(renewals, within=1))
        assert answers == ([Answer.DONE, Answer.ANOTHERS] if is_met(mask, state) else QuorumNotReached), mask


@every_size
@every_failure
def test_a_lease_is_given_back_exactly_when_a_majority_answers(count, state):
    for mask in masks(count):
        quorum = Panel(count)
        take(quorum.store)
        quorum.fail(mask, state)
        answer = outcome(lambda: quorum.store.release(KEY, token=OURS, ttl=60))  # noqa: B023 - called at once
        assert answer is (Answer.DONE if is_met(mask, state) else QuorumNotReached), mask


@every_size
@every_failure
def test_what_was_given_back_to_a_part_is_free_as_soon_as_the_rest_is_back(count, state):
    for mask in masks(count):
        quorum = Panel(count)
        take(quorum.store)
        quorum.fail(mask, state)
        outcome(lambda: quorum.store.release(KEY, token=OURS, ttl=60))  # noqa: B023 - called at once
        quorum.fail(mask, State.UP)
        took = outcome(lambda: take(quorum.store, THEIRS))  # noqa: B023 - called at once
        assert isinstance(took, Taken) is (is_met(mask, state) or state in {State.HANGS, State.LATE, State.DEAD}), mask


@every_size
@every_failure
def test_a_key_that_is_held_is_told_by_whom_or_not_at_all(count, state):
    quorum = Panel(count)
    take(quorum.store, THEIRS)
    for number, mask in enumerate(masks(count)):
        quorum.fail(mask, state)
        answer = outcome(lambda: take(quorum.store, f"token-{number:010}"))  # noqa: B023 - called at once
        assert isinstance(answer, Held) if is_met(mask, state) else answer is QuorumNotReached, mask


@every_size
@every_failure
def test_who_holds_a_key_is_known_exactly_when_a_majority_answers(count, state):
    quorum = Panel(count)
    fence = take(quorum.store).fence
    for mask in masks(count):
        quorum.fail(mask, state)
        held = outcome(lambda: quorum.store.inspect(KEY))
        known = is_met(mask, state) or state is State.READ_ONLY
        assert held.fence == fence if known else held is QuorumNotReached, mask


def test_a_lease_of_which_too_few_can_say_does_not_keep_others_from_being_renewed():
    quorum, other = Panel(3), Key("other")
    for key in (KEY, other):
        quorum.store.acquire(key, token=OURS, ttl=30, holder=WHO)
    quorum.nodes[0].node.release(KEY, token=OURS, ttl=60)
    quorum.fail((False, False, True), State.DEAD)
    renewals = [Renewal(key=key, token=OURS, ttl=30) for key in (KEY, other)]
    assert quorum.store.renew_many(renewals, within=1) == [Answer.UNKNOWN, Answer.DONE]


@every_size
@pytest.mark.parametrize("state", [State.SLOW, State.LATE], ids=lambda state: state.name.lower())
def test_however_many_are_slow_they_are_waited_for_as_one(count, state, time):
    quorum = Panel(count)
    for mask in masks(count):
        quorum.fail(mask, state)
        began = time.now()
        outcome(lambda: quorum.store.renew(KEY, token=OURS, ttl=30))
        assert time.now() - began == pytest.approx(SECONDS[state] if any(mask) else 0.0), mask


# Fences


@every_failure
def test_fences_grow_over_every_pair_of_masks_whatever_is_the_matter(state):
    for first, second in pairs(3):
        quorum, fences = Panel(3), []
        for mask, token in ((first, OURS), (second, THEIRS)):
            quorum.fail(mask, state)
            took = outcome(lambda: take(quorum.store, token))  # noqa: B023 - called at once
            assert isinstance(took, Taken) is is_met(mask, state), (first, second)
            fences += [took.fence] if took is not QuorumNotReached else []
            quorum.fail((False,) * 3, State.UP)
            quorum.store.release(KEY, token=token, ttl=60)
        assert fences == sorted(set(fences)), (first, second)


def models(counters: tuple[int, ...]) -> list[Model]:
    return [Model(counter) for counter in counters]


def acquire(nodes: list[Model], mask: tuple[bool, ...], token: str, *, late: bool = False) -> int | None:
    """The fence that is got while those of the mask are away, or answer too late; given back to all."""
    for node, fails in zip(nodes, mask, strict=True):
        node.reachable, node.is_late = late or not fails, late and fails
    store = QuorumStore(nodes, scope="models", guard=60)  # type: ignore[arg-type]  # as much of a node as is asked
    try:
        return int(take(store, token).fence)
    except QuorumNotReached:
        return None
    finally:
        for node in nodes:
            node.settle([KEY], token=token)


@pytest.fixture
def no_hope(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock makes fences grow: the one that is hoped for is always too low."""
    monkeypatch.setattr(election, "MARGIN", -(10**18))


def pairs(count: int) -> Iterator[tuple[tuple[bool, ...], ...]]:
    return product(masks(count), repeat=2)


@pytest.mark.usefixtures("no_hope")
@pytest.mark.parametrize("late", [False, True], ids=["away", "late"])
@pytest.mark.parametrize("counters", [(10, 5, 5), (5, 10, 5), (0, 0, 0), (9, 8, 7), (50, 3, 4, 2, 1), (1, 1, 1, 1, 99)])
def test_fences_grow_over_every_pair_of_masks(counters, late):
    for first, second in pairs(len(counters)):
        nodes = models(counters)
        before, after = acquire(nodes, first, OURS, late=late), acquire(nodes, second, THEIRS, late=late)
        assert (before is None, after is None) == (not is_met(first), not is_met(second))
        assert before is None or after is None or before < after, (first, second)


@pytest.mark.parametrize("counters", [(10, 5, 5), (50, 3, 4, 2, 1)])
def test_fences_grow_over_every_pair_of_masks_with_the_help_of_clocks_too(counters):
    for first, second in pairs(len(counters)):
        nodes = models(counters)
        before, after = acquire(nodes, first, OURS), acquire(nodes, second, THEIRS)
        assert before is None or after is None or before < after, (first, second)


@pytest.mark.usefixtures("no_hope")
def test_without_the_second_round_they_would_not_grow(monkeypatch):
    """The example of the protocol: nodes at 10, 5 and 5, the first owner through 1 and 2, the next through 2 and 3."""
    monkeypatch.setattr(majority, "highest", lambda fences: (max(fences), False))
    nodes = models((10, 5, 5))
    before = acquire(nodes, (False, False, True), OURS)
    assert (before, acquire(nodes, (True, False, False), THEIRS)) == (11, 7)


@pytest.mark.usefixtures("no_hope")
@every_size
def test_a_lease_of_which_no_majority_has_heard_the_fence_is_none(count):
    for deaf in masks(count):
        nodes = models((10, *[5] * (count - 1)))
        for node, is_deaf in zip(nodes, deaf, strict=True):
            node.deaf_to = "raise" if is_deaf else ""
        assert (acquire(nodes, (False,) * count, OURS) is not None) is is_met(deaf)
        assert {node.owner for node in nodes} == {""}


def test_one_round_is_enough_where_all_nodes_agree():
    nodes = models((5, 6, 7))
    acquire(nodes, (False,) * 3, OURS)
    assert [node.sees for node in nodes] == [["vote"]] * 3
