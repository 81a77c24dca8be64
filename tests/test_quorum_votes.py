"""Whom a node of a quorum gives its vote, and with what fence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from redis import ConnectionError

from django_redislock.keys import Key
from django_redislock.stores import election
from django_redislock.stores.base import Held, Taken
from django_redislock.stores.nodes import Candidacy, Vote
from django_redislock.stores.redisnode import RedisNode
from tests.panels import KEY, OURS, THEIRS, Panel, told

WHO = '["web-1",42,"MainThread",""]'
NEWCOMER = "token-of-others3"
MINUTE = 60_000_000
TURN_MS = 200
"""For which one is given the vote whose turn has come, and who has not asked yet."""


@pytest.fixture
def panel() -> Panel:
    return Panel(3)


@pytest.fixture
def node(panel: Panel) -> RedisNode:
    return panel.nodes[0].node


@pytest.fixture
def channel(node: RedisNode) -> Iterator[str]:
    """On which one who waits at the node hears of its turn."""
    ear = node.ear(OURS, within=5)
    yield ear.channel
    ear.close()


def vote(node: RedisNode, token: str, *, least: int = 0, channel: str = "", key: Key = KEY) -> Any:
    candidacy = Candidacy(token, 20, WHO, least)
    return told(node.vote([key], candidacy=candidacy, channel=channel))[0]


def expire(panel: Panel) -> None:
    """The ttl of whoever held the lock is over at the first node."""
    panel.clients[0].delete(*panel.clients[0].keys("*:lock:*"))


def test_an_answer_that_never_comes_need_not_be_waited_for(node, monkeypatch):
    question = node.look([KEY])
    question.send()
    assert question.has_come()

    def fail(timeout: float) -> bool:
        raise ConnectionError("it broke")

    monkeypatch.setattr(question._connection, "can_read", fail)
    assert question.has_come()
    question.abandon()


def test_of_a_lock_that_expired_whoever_waits_comes_first(panel, node, channel):
    vote(node, THEIRS)
    assert isinstance(vote(node, OURS, channel=channel), Held)
    expire(panel)
    assert isinstance(vote(node, NEWCOMER), Held)
    assert isinstance(vote(node, OURS, channel=channel), Vote)


def test_who_waits_and_asks_first_keeps_its_vote_for_the_whole_ttl(panel, node, channel):
    vote(node, THEIRS)
    vote(node, OURS, channel=channel)
    expire(panel)
    assert isinstance(vote(node, OURS, channel=channel), Vote)
    (name,) = panel.clients[0].keys("*:lock:*")
    assert panel.clients[0].pttl(name) > TURN_MS


def test_who_is_passed_over_keeps_its_other_place_for_the_whole_ttl(panel, node, channel):
    other = Key("other")
    vote(node, THEIRS)
    vote(node, THEIRS, key=other)
    vote(node, OURS, channel=channel)
    vote(node, f"{OURS}-again", channel=channel, key=other)
    node.release(KEY, token=THEIRS, ttl=20)
    (flow,) = panel.clients[0].keys("*:flow:*")
    assert panel.clients[0].pttl(flow) > TURN_MS


def test_the_same_vote_is_given_again(node):
    assert vote(node, OURS).fence == vote(node, OURS).fence


def test_the_fence_is_the_one_that_is_hoped_for_where_that_is_higher(node):
    clock = vote(node, OURS).asked
    node.release(KEY, token=OURS, ttl=60)
    hoped = clock + MINUTE
    assert vote(node, THEIRS, least=hoped).fence == hoped
    node.release(KEY, token=THEIRS, ttl=60)
    assert vote(node, OURS, least=clock).fence == hoped + 1


def test_one_round_is_enough_when_the_clocks_of_the_nodes_are_known(panel, monkeypatch):
    monkeypatch.setattr(election, "MARGIN", MINUTE)  # however slow this machine is
    panel.store.acquire(KEY, token=OURS, ttl=20, holder=WHO)
    panel.store.release(KEY, token=OURS, ttl=60)
    monkeypatch.setattr(RedisNode, "raise_fences", None)
    assert isinstance(panel.store.acquire(KEY, token=THEIRS, ttl=20, holder=WHO), Taken)
