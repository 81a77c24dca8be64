"""One round of questions to all nodes of a quorum: in what order, and what becomes of it when it is interrupted."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from django_redislock.stores import election
from django_redislock.stores.base import Taken
from django_redislock.stores.connections import Connections
from django_redislock.stores.election import Lot
from django_redislock.stores.late import Latecomers
from django_redislock.stores.quorum import QuorumStore
from django_redislock.stores.redisnode import RedisNode
from tests.panels import GUARD, KEY, OURS, SECONDS, THEIRS, Panel, State

WHO = '["web-1",42,"MainThread",""]'
COUNT = 3

Note = Callable[[str, int], None]


class Noted:
    """A node that notes each step of a question before it is done."""

    def __init__(self, number: int, node: Any, note: Note) -> None:
        self._number, self._node, self._note = number, node, note

    def __getattr__(self, name: str) -> Any:
        ask = getattr(self._node, name)
        if name not in {"vote", "give_back", "withdraw", "keep"}:
            return ask

        def noted(*args: Any, **named: Any) -> NotedQuestion:
            self._note("ready", self._number)
            return NotedQuestion(self._number, ask(*args, **named), self._note)

        return noted


class NotedQuestion:
    """A question to it."""

    def __init__(self, number: int, question: Any, note: Note) -> None:
        self._number, self._question, self._note = number, question, note

    def send(self) -> None:
        self._note("sent", self._number)
        self._question.send()

    @property
    def is_understood(self) -> bool:
        return bool(self._question.is_understood)

    def has_come(self) -> bool:
        return bool(self._question.has_come())

    def receive(self, until: float) -> Any:
        self._note("answered", self._number)
        return self._question.receive(until)

    def abandon(self) -> None:
        self._question.abandon()


def noting(quorum: Panel, note: Note) -> QuorumStore:
    nodes: Sequence[Any] = [Noted(number, node, note) for number, node in enumerate(quorum.nodes)]
    return QuorumStore(nodes, scope="noted", guard=GUARD)


@pytest.fixture(autouse=True)
def agreement(monkeypatch: pytest.MonkeyPatch) -> None:
    """All nodes vote with one fence, however long that takes."""
    monkeypatch.setattr(election, "MARGIN", 60_000_000)


def take(store: QuorumStore, token: str = OURS) -> Any:
    return store.acquire(KEY, token=token, ttl=30, holder=WHO)


@pytest.fixture
def in_use(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The connections that were taken and not given back; each can be once."""
    gc.collect()  # the stores of earlier tests give back what they have not yet
    found: list[Any] = []
    take_one, give_one = Connections.take, Connections.give

    def note_take(connections: Connections) -> Any:
        found.append(take_one(connections))
        return found[-1]

    def note_give(connections: Connections, connection: Any) -> None:
        found.remove(connection)
        give_one(connections, connection)

    monkeypatch.setattr(Connections, "take", note_take)
    monkeypatch.setattr(Connections, "give", note_give)
    return found


def test_all_are_ready_before_the_first_is_sent_and_sent_before_the_first_is_answered():
    steps: list[tuple[str, int]] = []
    store = noting(Panel(COUNT), lambda step, number: steps.append((step, number)))
    take(store)
    store.release(KEY, token=OURS, ttl=60)
    one_round = [(step, number) for step in ("ready", "sent", "answered") for number in range(COUNT)]
    assert steps == one_round * 2


def test_the_last_is_not_waited_for_before_the_same_token_asks_it_again_or_somebody_asks_when_it_has_come():
    steps: list[tuple[str, int]] = []
    store = noting(Panel(COUNT), lambda step, number: steps.append((step, number)))
    warm_up(store)
    del steps[:]
    take(store, THEIRS)
    begun = [("ready", 0), ("ready", 1), ("ready", 2), ("sent", 0), ("sent", 1), ("sent", 2)]
    assert steps == [*begun, ("answered", 0), ("answered", 1)]
    del steps[:]
    store.release(KEY, token=THEIRS, ttl=60)
    begun_of_others = [("ready", 0), ("ready", 1), ("sent", 0), ("sent", 1)]
    begun_of_last = [("answered", 2), ("ready", 2), ("sent", 2)]
    assert steps == [*begun_of_others, *begun_of_last, ("answered", 0), ("answered", 1)]
    del steps[:]
    store.inspect(KEY)
    assert steps == [("answered", 2)]


def warm_up(store: QuorumStore) -> None:
    """The nodes know the scripts, and we their clocks."""
    take(store)
    store.release(KEY, token=OURS, ttl=60)
    store.panel.hear_all()


@pytest.fixture
def warm() -> Panel:
    quorum = Panel(COUNT)
    warm_up(quorum.store)
    return quorum


LAST = COUNT - 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.release(KEY, token=OURS, ttl=60),
        lambda store: store.renew(KEY, token=OURS, ttl=30),
        lambda store: store.leave(KEY, token=OURS),
        lambda store: store._elections.withdraw([KEY], Lot(OURS, 30, WHO, ())),
        take,
    ],
    ids=["release", "renew", "leave", "withdraw", "acquire"],
)
def test_what_a_token_asks_of_a_node_does_not_overtake_what_it_has_asked_there_before(warm, ask):
    steps: list[tuple[str, int]] = []
    store = noting(warm, lambda step, number: steps.append((step, number)))
    warm_up(store)
    del steps[:]
    take(store)
    assert ("answered", LAST) not in steps
    del steps[:]
    ask(store)
    assert steps.index(("answered", LAST)) < steps.index(("ready", LAST))


def test_what_was_forgotten_is_waited_for_again(warm):
    warm.clients[LAST].script_flush()
    assert isinstance(take(warm.store), Taken)
    warm.store.release(KEY, token=OURS, ttl=60)
    assert warm.fences() == [None] * COUNT


def test_one_that_sits_out_is_heard_of_although_it_is_not_waited_for(warm, monkeypatch):
    pleaded: list[str] = []
    monkeypatch.setattr(RedisNode, "plead", lambda node, seat: pleaded.append(node.scope) or False)  # type: ignore[func-returns-value]
    warm.clients[LAST].flushall()
    take(warm.store)
    assert pleaded == []
    warm.store.inspect(KEY)
    assert pleaded == [warm.nodes[LAST].scope]


def test_one_that_is_not_waited_for_and_hangs_is_left_alone_from_then_on(warm, monkeypatch):
    monkeypatch.setitem(SECONDS, State.LATE, 60.0)
    warm.fail([False] * LAST + [True], State.LATE)
    take(warm.store)
    warm.store.release(KEY, token=OURS, ttl=60)
    steps: list[tuple[str, int]] = []
    warm.nodes[LAST] = Noted(LAST, warm.nodes[LAST], lambda step, number: steps.append((step, number)))
    take(warm.store, THEIRS)
    assert steps == []


@pytest.mark.parametrize("number", range(COUNT))
@pytest.mark.parametrize("step", ["ready", "sent", "answered"])
def test_an_interrupted_release_gives_each_connection_back_once_and_can_be_repeated(step, number, in_use):
    quorum = Panel(COUNT)
    is_on = [False]

    def interrupt(*now: Any) -> None:
        if is_on[0] and now == (step, number):
            raise KeyboardInterrupt

    store = noting(quorum, interrupt)
    warm_up(store)
    take(store)
    is_on[0] = True
    with pytest.raises(KeyboardInterrupt):
        store.release(KEY, token=OURS, ttl=60)
    is_on[0] = False
    store.release(KEY, token=OURS, ttl=60)
    store.close()
    assert in_use == []
    assert quorum.fences() == [None] * COUNT


def test_what_is_interrupted_when_it_is_no_more_waited_for_is_taken_back(warm, in_use, monkeypatch):
    add = Latecomers.add

    def add_and_interrupt(late: Latecomers, *args: Any, **named: Any) -> None:
        add(late, *args, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Latecomers, "add", add_and_interrupt)
        warm.store.release(KEY, token=OURS, ttl=60)
    warm.store.close()
    assert in_use == []
    assert warm.fences() == [None] * COUNT


@pytest.mark.parametrize("number", range(COUNT))
@pytest.mark.parametrize("step", ["ready", "sent", "answered"])
def test_what_is_interrupted_leaves_nothing_taken_and_gives_each_connection_back_once(step, number, in_use):
    quorum = Panel(COUNT)

    def interrupt(*now: Any) -> None:
        if now == (step, number):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take(noting(quorum, interrupt))
    assert in_use == []
    assert quorum.fences() == [None] * COUNT
    assert isinstance(take(quorum.store, THEIRS), Taken)
