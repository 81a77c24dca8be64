"""Nodes of a quorum for tests: fakes, real ones that fail at the test's word, and a model without any server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import product
from typing import Any, Generic, TypeVar

import fakeredis
from redis import ConnectionPool, Redis

from django_redislock import StoreUnavailable, clock
from django_redislock.keys import Key
from django_redislock.majority import LONGEST_PATIENCE
from django_redislock.stores.base import Answer
from django_redislock.stores.nodes import Asked, Ballot, Candidacy, Vote
from django_redislock.stores.quorum import QuorumStore
from django_redislock.stores.redisnode import RedisNode
from tests.servers import Redis as Server

T = TypeVar("T")

GUARD = 60.0
KEY = Key("shelf")
OURS, THEIRS = "token-of-ours-01", "token-of-theirs2"


class State(Enum):
    """What a node does."""

    UP = "answers"
    DEAD = "refuses connections"
    SWALLOWS = "never sees the question"
    HANGS = "carries it out, and never answers"
    SLOW = "answers when half of the time is over that it has"
    LATE = "answers when the time is over that it has"
    READ_ONLY = "answers that it may not write"

    @property
    def counts(self) -> bool:
        """Whether what it answers counts."""
        return self in {State.UP, State.SLOW}


class Clock:
    """Stands still but for what is waited for."""

    def __init__(self) -> None:
        self.time = 1_000.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


def told(question: Asked[T]) -> T:
    """What it answers, however long that takes."""
    question.send()
    return question.receive(1e9)


WRITES = {"vote", "raise_fences", "give_back", "withdraw", "prolong", "keep", "take_away"}


class Broken(Generic[T]):
    """A question that is not answered."""

    def __init__(self, asked: Any = None) -> None:
        self._asked = asked

    def send(self) -> None:
        if self._asked is not None:
            self._asked.send()

    @property
    def is_understood(self) -> bool:
        return True

    def has_come(self) -> bool:
        return False

    def receive(self, until: float) -> T:
        self.abandon()
        raise StoreUnavailable("it hangs")

    def abandon(self) -> None:
        if self._asked is not None:
            self._asked.abandon()


class Slow(Generic[T]):
    """A question whose answer comes so many seconds after it was sent, on a `Clock`."""

    def __init__(self, asked: Any, seconds: float) -> None:
        self._asked = asked
        self._seconds = seconds

    def send(self) -> None:
        self._asked.send()
        self._comes = clock.now() + self._seconds

    @property
    def is_understood(self) -> bool:
        return bool(self._asked.is_understood)

    def has_come(self) -> bool:
        return clock.now() >= self._comes

    def receive(self, until: float) -> T:
        clock.sleep(max(0.0, min(self._comes, until) - clock.now()))
        if self._comes >= until:
            self.abandon()
            raise StoreUnavailable("it is slow")
        answer: T = self._asked.receive(until)
        return answer

    def abandon(self) -> None:
        self._asked.abandon()


SECONDS = {State.SLOW: LONGEST_PATIENCE / 2, State.LATE: LONGEST_PATIENCE}
"""After which they answer: all questions here may take as long as any may."""


class Faulty:
    """A node in some state."""

    def __init__(self, node: RedisNode) -> None:
        self.node = node
        self.state = State.UP

    def __getattr__(self, name: str) -> Any:
        ask = getattr(self.node, name)
        if name not in WRITES | {"look"} or self.state is State.UP:
            return ask
        return lambda *args, **named: self._fail(name, ask, args, named)

    def _fail(self, name: str, ask: Any, args: Any, named: Any) -> Any:
        if self.state is State.READ_ONLY and name in WRITES:
            raise StoreUnavailable(f"it {self.state.value}")
        if self.state is State.SWALLOWS:
            return Broken()
        asked = ask(*args, **named)
        if self.state in SECONDS:
            return Slow(asked, SECONDS[self.state])
        return Broken(asked) if self.state is State.HANGS else asked


class Panel:
    """A quorum of fakes."""

    def __init__(self, count: int, *, guard: float = GUARD) -> None:
        self.servers = [fakeredis.FakeServer() for _ in range(count)]
        self.clients: list[Any] = [fakeredis.FakeRedis(server=server) for server in self.servers]
        self.nodes = [
            Faulty(RedisNode(self._connect(client), scope=f"node {number}", prefix="", guard=guard))
            for number, client in enumerate(self.clients)
        ]
        self.store = QuorumStore(self.nodes, scope="quorum", guard=guard)
        self.admit()

    @staticmethod
    def _connect(client: Any) -> Any:
        return lambda: client

    def admit(self) -> None:
        """All nodes have sat out."""
        for client in self.clients:
            seat(client)

    def fail(self, mask: Sequence[bool], state: State) -> None:
        """Those of the mask are in that state."""
        for node, server, fails in zip(self.nodes, self.servers, mask, strict=True):
            server.connected = not (fails and state is State.DEAD)
            node.state = state if fails else State.UP

    def fences(self) -> list[int | None]:
        """The fence that each node keeps for the key."""
        held = [node.node.inspect(KEY) for node in self.nodes]
        return [one.fence if one else None for one in held]


def seat(client: Any, *, run: str = "-") -> None:
    """Let a server vote that has just been emptied."""
    client.set("redislock:node", f"{run} 0")


def empty(servers: Sequence[Server]) -> None:
    """Real servers have nothing any more, and vote."""
    for server in servers:
        client = Redis.from_url(server.url)
        client.flushall()
        seat(client, run=client.info("server")["run_id"])
        client.close()


def masks(count: int) -> Iterator[tuple[bool, ...]]:
    """All ways in which some of so many fail."""
    return product([False, True], repeat=count)


def real_node(url: str, *, scope: str, guard: float = GUARD, seconds: float = 0.25) -> RedisNode:
    """A node on a real server."""
    pool = ConnectionPool.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds)
    return RedisNode(lambda: Redis(connection_pool=pool), scope=scope, prefix="", guard=guard)


@dataclass
class Given(Generic[T]):
    """An answer that is there, or comes too late."""

    answer: T
    is_late: bool = False

    def send(self) -> None:
        """It has been carried out."""

    @property
    def is_understood(self) -> bool:
        return True

    def has_come(self) -> bool:
        return True

    def receive(self, until: float) -> T:
        if self.is_late:
            raise StoreUnavailable("it is late")
        return self.answer

    def abandon(self) -> None:
        """There is nothing to give back."""


@dataclass
class Model:
    """A node that is nothing but a counter and an owner: the least that the algorithm asks for. No clock helps it."""

    counter: int
    reachable: bool = True
    owner: str = ""
    fence: int = 0
    scope: str = "model"
    sees: list[str] = field(default_factory=list)
    deaf_to: str = ""
    """A verb whose questions do not arrive."""
    is_late: bool = False
    """Whether it answers when nobody listens any more."""

    def _hear(self, verb: str) -> None:
        if not self.reachable or verb == self.deaf_to:
            raise StoreUnavailable("it is away")
        self.sees.append(verb)

    def vote(self, keys: Sequence[Key], *, candidacy: Candidacy, channel: str) -> Given[list[Ballot]]:
        self._hear("vote")
        assert self.owner in {"", candidacy.token}
        if not self.owner:
            self.counter = max(self.counter + 1, candidacy.least)
            self.owner, self.fence = candidacy.token, self.counter
        return Given([Vote(fence=self.fence, asked=0)], is_late=self.is_late)

    def raise_fences(self, fences: Sequence[tuple[Key, int]], *, token: str) -> Given[list[bool]]:
        self._hear("raise")
        if self.owner == token:
            self.fence = max(self.fence, fences[0][1])
            self.counter = max(self.counter, self.fence)
        return Given([self.owner == token], is_late=self.is_late)

    def withdraw(self, keys: Sequence[Key], *, token: str) -> Given[list[None]]:
        self.give_back(keys, token=token, ttl=60)
        return Given([None])

    def settle(self, keys: Sequence[Key], *, token: str) -> None:
        self.owner = "" if self.owner == token else self.owner

    def give_back(self, keys: Sequence[Key], *, token: str, ttl: float) -> Given[list[Answer]]:
        was = self.owner == token
        self.settle(keys, token=token)
        return Given([Answer.DONE if was else Answer.GONE])
