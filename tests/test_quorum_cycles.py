"""Deadlocks in a quorum: what a majority sees is one, and what single nodes have not been told of is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from django_redislock.holder import Holder
from django_redislock.keys import Key
from django_redislock.stores import election, verdicts
from django_redislock.stores.base import Answer, Edge, Held, Taken
from django_redislock.stores.nodes import Candidacy, Cycle, SitsOut, Vote
from django_redislock.stores.quorumear import QuorumEar
from tests.panels import OURS, THEIRS, Panel, State, told

A, B = Key("a"), Key("b")
WHO = '["web-1",42,"MainThread",""]'


@pytest.fixture(params=[3, 5], ids=lambda count: f"{count} fakes")
def panel(request: pytest.FixtureRequest) -> Panel:
    return Panel(request.param)


def take(panel: Panel, key: Key, token: str, *, channel: str = "") -> Any:
    return panel.store.acquire(key, token=token, ttl=20, holder=WHO, channel=channel)


def vote(node: Any, key: Key, token: str, *, channel: str = "") -> Any:
    candidacy = Candidacy(token, 20, WHO, 0)
    return told(node.node.vote([key], candidacy=candidacy, channel=channel))[0]


@pytest.fixture
def waiter(panel: Panel) -> Iterator[QuorumEar]:
    """One who stands in all lines for a lock that another holds."""
    take(panel, A, THEIRS)
    ear = panel.store.ear(OURS, within=5)
    assert isinstance(take(panel, A, OURS, channel=ear.channel), Held)
    yield ear
    ear.close()


def give_back(nodes: list[Any]) -> None:
    """The other gives its votes back, at these nodes alone."""
    for node in nodes:
        told(node.node.give_back([A], token=THEIRS, ttl=60))


def lines(client: Any) -> list[bytes]:
    """What tells that somebody waits."""
    return [name for kind in ("flow", "queue") for name in client.keys(f"*:{kind}:*")]


@pytest.mark.parametrize("other", [0, -1], ids=["first", "last"])
@pytest.mark.parametrize("listens", [True, False])
def test_who_is_elected_waits_at_none_of_the_others(panel, waiter, other, listens, monkeypatch):
    monkeypatch.setattr(election, "MARGIN", 60_000_000)  # the rest agree, so that the last is not needed
    give_back([node for node in panel.nodes if node is not panel.nodes[other]])
    assert lines(panel.clients[other])
    assert isinstance(take(panel, A, OURS, channel=waiter.channel if listens else ""), Taken)
    assert [lines(client) for client in panel.clients] == [[]] * len(panel.clients)
    assert panel.nodes[other].node.inspect(A) is not None  # that vote is the other's as before


@pytest.mark.parametrize("listens", [True, False])
def test_nor_at_the_last_when_its_places_at_the_rest_are_over(panel, waiter, listens, monkeypatch):
    """Then the rest agree, and the last is not needed."""
    monkeypatch.setattr(election, "MARGIN", 60_000_000)
    for client in panel.clients[:-1]:
        client.delete(*client.keys("*:lock:*"), *lines(client))
    assert isinstance(take(panel, A, OURS, channel=waiter.channel if listens else ""), Taken)
    assert lines(panel.clients[-1]) == []


@pytest.mark.parametrize("state", [State.DEAD, State.HANGS, State.SWALLOWS, State.READ_ONLY])
def test_nor_at_one_that_could_not_be_told_as_soon_as_it_answers(panel, waiter, state):
    give_back(panel.nodes[1:])
    panel.fail([True] + [False] * (len(panel.nodes) - 1), state)
    assert isinstance(take(panel, A, OURS, channel=waiter.channel), Taken)
    panel.fail([False] * len(panel.nodes), State.UP)
    told(panel.nodes[0].node.look([B]))
    assert lines(panel.clients[0]) == []


def test_a_cycle_that_every_node_sees_is_refused(panel, waiter):
    take(panel, B, OURS)
    ear = panel.store.ear(THEIRS, within=5)
    found = take(panel, B, THEIRS, channel=ear.channel)
    ear.close()
    assert [edge.key for edge in found] == ["b", "a"]


def test_one_that_a_minority_sees_is_waited_out(panel, waiter):
    """The waiter has gone, but this was not told to all nodes yet."""
    take(panel, B, OURS)
    for node in panel.nodes[(len(panel.nodes) - 1) // 2 :]:
        told(node.node.withdraw([A], token=OURS))
    ear = panel.store.ear(THEIRS, within=5)
    assert isinstance(vote(panel.nodes[0], B, THEIRS, channel=ear.channel), Cycle)
    found = take(panel, B, THEIRS, channel=ear.channel)
    ear.close()
    assert isinstance(found, Held)


def cycle(*names: str) -> Cycle:
    holder = Holder(host="web-1", pid=42, thread="MainThread", doing="", user="")
    held = Held(holder=holder, fence=7, since=0, held_for=5, remaining=5, asked=5)
    return Cycle(edges=tuple(Edge(key=name, holder=holder) for name in names), held=held)


def test_cycles_that_differ_are_no_majority_for_either():
    """Each node sees one that there was, or will not be."""
    one, other = cycle("b", "a"), cycle("b", "c")
    assert verdicts.refusal([one, one, other]) == one.edges
    assert verdicts.refusal([one, other, None]) == one.held
    assert verdicts.refusal([one, other, Vote(fence=7, asked=0)]) == one.held
    assert verdicts.refusal([one, one, other, other, one]) == one.edges
    assert verdicts.refusal([one, one, other, other, None]) == one.held


# What decides


def test_votes_decide_that_are_from_a_majority_and_have_one_fence():
    yes, higher, no = [Vote(7, 0)], [Vote(8, 0)], [SitsOut(left=1.0, ends=1_000)]
    assert verdicts.agreed([yes, yes, None])
    assert verdicts.agreed([yes, no, yes])
    assert not verdicts.agreed([yes, None, None])
    assert not verdicts.agreed([yes, no, None])
    assert not verdicts.agreed([yes, higher, None])
    assert not verdicts.agreed([yes, yes, higher])
    assert not verdicts.agreed([yes, yes, None, None, None])


def test_each_key_has_to_be_decided():
    yes, no = Vote(7, 0), SitsOut(left=1.0, ends=1_000)
    assert verdicts.agreed([[yes, yes], [yes, yes], None])
    assert not verdicts.agreed([[yes, yes], [yes, no], None])
    assert verdicts.done([[Answer.DONE, Answer.DONE], None, [Answer.DONE, Answer.DONE]])
    assert not verdicts.done([[Answer.DONE, Answer.DONE], None, [Answer.GONE, Answer.DONE]])
    assert not verdicts.done([None, None, None])
