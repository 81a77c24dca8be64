"""The protocol against a model of it: whatever people do in whatever order, the store and the model agree.

Everybody is a flow of a process of its own. The model knows who owns what and who waits behind whom; after each step
the invariants of docs/protocol.md are looked for in the store itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from django.core.cache import caches
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from django_redislock.keylock import operator_token
from django_redislock.keys import Key
from django_redislock.stores.base import Answer, Held, Taken
from tests.line import Line, channel_of, holder_of, token_of, wait_key_of

T = TypeVar("T")

KEYS = [Key("bank.Account:1"), Key("bank.Account:2")]
TTLS = [10, 30]
TICK = 1.37
"""Seconds, of which no number makes a ttl: nothing expires at the very instant of a question."""
MOST = 12
"""People in a run, the dead ones included."""

keys = st.sampled_from(KEYS)
ttls = st.sampled_from(TTLS)
numbers = st.integers(0, 99)
twice = st.booleans()


@dataclass
class Person:
    """A flow of a process of its own."""

    name: str
    attempt: int = 0
    listens: bool = False
    lives: bool = True
    asks_for: Key | None = None
    ttl: float = 0
    believes: dict[Key, str] = field(default_factory=dict)
    """The tokens of what it takes to be its own, rightly or not."""

    @property
    def token(self) -> str:
        return token_of(self.name, self.attempt)

    @property
    def flow(self) -> str:
        """Who it is when it waits."""
        return self.name


@dataclass
class Operator(Person):
    """Has taken a key away; until that is handed over, the store goes on naming who held it."""

    secret: str = field(default_factory=operator_token)

    @property
    def token(self) -> str:
        return self.secret

    @property
    def flow(self) -> str:
        return ""


@dataclass
class Row:
    """What the model knows of one key."""

    owner: Person | None = None
    token: str = ""
    fence: int = 0
    owners: int = 0
    """How many there were; a token that asks again after its grant has expired is another one."""
    seen: int = 0
    """How many there were when the fence was looked at."""
    ends: float = 0
    forced: dict[str, float] = field(default_factory=dict)
    """The tokens that it was taken from by force, and how long the store knows that."""
    queue: list[Person] = field(default_factory=list)
    queue_ends: float = 0


class Protocol(RuleBasedStateMachine):
    """The rules are what can happen; each says what has to come of it."""

    alias: str
    slack: float
    """Seconds by which two looks at the same instant may differ."""

    def __init__(self) -> None:
        super().__init__()
        caches[self.alias].clear()
        self.line = Line(self.alias)
        self.store = self.line.store
        self.people = [Person(f"p{number}") for number in range(3)]
        self.rows = {key: Row() for key in KEYS}
        self.waits: dict[str, tuple[Key, float]] = {}
        """For what each flow waits, and how long the store knows it."""

    @property
    def now(self) -> float:
        return time.time()

    # What the model says

    def hand_over(self, key: Key, *, asker: Person | None = None) -> None:
        """The first who lives gets it; who asks lives."""
        row = self.rows[key]
        row.owner = None
        while row.queue and row.owner is None:
            person = row.queue.pop(0)
            self.waits.pop(person.name, None)
            if person.listens or person is asker:
                self.own(key, person)

    def own(self, key: Key, person: Person) -> None:
        row = self.rows[key]
        row.owners += row.owner is None
        row.owner, row.token, row.ends = person, person.token, self.now + person.ttl

    def is_cycle(self, person: Person, key: Key) -> bool:
        between: list[Person] = []
        for _ in range(20):
            owner = self.rows[key].owner
            if owner is None:
                return False
            if owner is person:
                return bool(between) and all(other.listens for other in between)
            if owner.flow not in self.waits:
                return False
            between.append(owner)
            key = self.waits[owner.flow][0]
        return False

    def join(self, person: Person, key: Key) -> bool:
        """Whether the person waits now; not where that closes a cycle."""
        row = self.rows[key]
        if person not in row.queue:
            if self.is_cycle(person, key):
                return False
            row.queue.append(person)
            row.queue_ends = row.queue_ends if len(row.queue) > 1 else 0
        row.queue_ends = max(row.queue_ends, self.now + person.ttl)
        self.waits[person.name] = key, row.queue_ends
        return True

    # Who can do what

    def anybody(self, can: Callable[[Person], Any]) -> bool:
        return self.some(0, can) is not None

    def some(self, number: int, can: Callable[[Person], Any]) -> Person | None:
        """One of those who live and can."""
        people = [person for person in self.people if person.lives and can(person)]
        return people[number % len(people)] if people else None

    def send(self, question: Callable[[], T], *, again: bool) -> T:
        """Send it, perhaps once more, because the answer was lost: it is the same."""
        answer = question()
        if again:
            repeated = question()
            assert type(repeated) is type(answer)
            if not isinstance(answer, Held):  # that tells the time, too
                assert repeated == answer
        return answer

    # What can happen

    @rule(number=numbers, key=keys, ttl=ttls, wait=st.booleans(), again=twice)
    def acquire(self, number: int, key: Key, ttl: float, wait: bool, again: bool) -> None:
        person = self.some(number, lambda person: person.asks_for is None and key not in person.believes)
        if person is None:
            return
        person.attempt += 1
        person.ttl = ttl
        self.ask(person, key, wait=wait, again=again)

    @precondition(lambda self: self.anybody(lambda person: person.asks_for))
    @rule(number=numbers, again=twice)
    def ask_again(self, number: int, again: bool) -> None:
        person = self.some(number, lambda person: person.asks_for)
        if person is not None and person.asks_for is not None:
            self.ask(person, person.asks_for, wait=True, again=again)

    def ask(self, person: Person, key: Key, *, wait: bool, again: bool) -> None:
        person.listens = person.listens or wait
        ask = lambda: self.line.ask(person.name, key, ttl=person.ttl, wait=wait, attempt=person.attempt)
        answer = self.send(ask, again=again)
        row = self.rows[key]
        if row.owner is None:
            self.hand_over(key, asker=person)
        if row.owner is None or (row.owner is person and row.token == person.token):
            self.own(key, person)
            assert isinstance(answer, Taken)
            self.holds(person, key, answer.fence)
        elif wait and not self.join(person, key):
            person.asks_for = None
            assert isinstance(answer, tuple)
            assert answer[0].key == key.name
        else:
            person.asks_for = key if wait else None
            assert isinstance(answer, Held)
            assert answer.holder.doing == row.owner.name

    def holds(self, person: Person, key: Key, fence: int) -> None:
        person.asks_for = None
        person.believes[key] = person.token
        assert fence == self.store.inspect(key).fence

    @precondition(lambda self: self.anybody(lambda person: person.asks_for and person.listens))
    @rule(number=numbers)
    def hear(self, number: int) -> None:
        """A waiter reads its messages; those that it should have had before are about what it had since."""
        person = self.some(number, lambda person: person.asks_for and person.listens)
        if person is None:
            return
        grants = self.line.heard(person.name)
        key = person.asks_for
        if grants and key is not None and self.expected(key, person.token) is Answer.DONE:
            self.holds(person, key, grants[-1].fence)

    @precondition(lambda self: self.anybody(lambda person: person.asks_for))
    @rule(number=numbers, again=twice)
    def leave(self, number: int, again: bool) -> None:
        person = self.some(number, lambda person: person.asks_for)
        if person is None or person.asks_for is None:
            return
        key, person.asks_for = person.asks_for, None
        self.send(lambda: self.store.leave(key, token=person.token), again=again)
        row = self.rows[key]
        row.queue = [other for other in row.queue if other is not person]
        self.waits.pop(person.name, None)
        if row.owner is person and row.token == person.token:
            self.hand_over(key)

    def expected(self, key: Key, token: str) -> Answer:
        row = self.rows[key]
        if row.owner is not None and row.token == token:
            return Answer.DONE
        if row.forced.get(token, 0) > self.now:
            return Answer.FORCED
        return Answer.GONE if row.owner is None else Answer.ANOTHERS

    @precondition(lambda self: self.anybody(lambda person: person.believes))
    @rule(number=numbers, key=keys, again=twice)
    def release(self, number: int, key: Key, again: bool) -> None:
        person = self.some(number, lambda person: key in person.believes)
        if person is None:
            return
        token = person.believes.pop(key)
        expected = self.expected(key, token)
        assert self.send(lambda: self.store.release(key, token=token, ttl=60), again=again) is expected
        if expected is Answer.DONE:
            self.hand_over(key)

    @precondition(lambda self: self.anybody(lambda person: person.believes))
    @rule(number=numbers, key=keys, ttl=ttls, again=twice)
    def renew(self, number: int, key: Key, ttl: float, again: bool) -> None:
        person = self.some(number, lambda person: key in person.believes)
        if person is None:
            return
        token = person.believes[key]
        expected = self.expected(key, token)
        assert self.send(lambda: self.store.renew(key, token=token, ttl=ttl), again=again) is expected
        if expected is Answer.DONE:
            self.rows[key].ends = self.now + ttl
        else:
            del person.believes[key]

    @precondition(lambda self: any(row.owner for row in self.rows.values()))
    @rule(key=keys, again=twice)
    def force(self, key: Key, again: bool) -> None:
        row = self.rows[key]
        owner = None if isinstance(row.owner, Operator) else row.owner
        operator = Operator(owner.name if owner else "", ttl=min(TTLS))
        force = lambda: self.store.force(key, token=operator.token, ttl=operator.ttl)
        held = self.send(force, again=again)
        assert (held.holder.doing if held else None) == (owner.name if owner else None)
        if owner:
            row.forced[row.token] = row.ends
            self.own(key, operator)

    @precondition(lambda self: any(isinstance(row.owner, Operator) for row in self.rows.values()))
    @rule(key=keys, again=twice)
    def hand_over_what_was_forced(self, key: Key, again: bool) -> None:
        row = self.rows[key]
        if isinstance(row.owner, Operator):
            release = lambda: self.store.release(key, token=row.token, ttl=60)
            assert self.send(release, again=again) is Answer.DONE
            self.hand_over(key)

    @precondition(lambda self: any(row.owner for row in self.rows.values()))
    @rule(key=keys)
    def expire(self, key: Key) -> None:
        if self.rows[key].owner is not None:
            self.line.expire(key)
            self.line.server.zadd(self.line.name("held"), {self.line.name("lock", key): 1})
            self.rows[key].owner = None

    @precondition(lambda self: self.anybody(lambda person: person.listens))
    @rule(number=numbers)
    def lose_connection(self, number: int) -> None:
        """A process does not listen until its waiter asks again; what is said to it meanwhile is lost."""
        person = self.some(number, lambda person: person.listens)
        if person is not None:
            self.line.die(person.name)
            person.listens = False

    @precondition(lambda self: self.anybody(lambda person: person.asks_for or person.believes))
    @rule(number=numbers)
    def crash(self, number: int) -> None:
        """Whoever it is, holding or waiting; somebody new comes."""
        person = self.some(number, lambda person: person.asks_for or person.believes)
        if person is not None and len(self.people) < MOST:
            if person.listens:
                self.line.die(person.name)
            person.listens = person.lives = False
            self.people.append(Person(f"p{len(self.people)}"))

    # What always holds

    @invariant()
    def one_owner_whose_ttl_ends(self) -> None:
        for key, row in self.rows.items():
            held = self.store.inspect(key)
            assert (held.holder.doing if held else None) == (row.owner.name if row.owner else None)
            if held:
                value = self.line.server.get(self.line.name("lock", key)).decode()
                assert row.owner is not None
                assert value.startswith(f"{row.token} {held.fence} ")
                assert value.endswith(holder_of(row.owner.name))
                assert 0 < held.remaining <= max(TTLS)

    @invariant()
    def fences_grow_with_every_owner(self) -> None:
        for key, row in self.rows.items():
            held = self.store.inspect(key)
            if held and row.owner:
                is_new = row.owners != row.seen
                assert held.fence > row.fence if is_new else held.fence == row.fence
                row.fence, row.seen = held.fence, row.owners

    @invariant()
    def the_line_is_in_order(self) -> None:
        for key, row in self.rows.items():
            tokens = [token.decode() for token in self.line.server.lrange(self.line.name("queue", key), 0, -1)]
            assert tokens == [person.token for person in row.queue]
            # Who does not ask again is forgotten before its queue is, where others ask for longer.
            known = [person for person in row.queue if person.name in self.waits]
            waits = [self.line.server.get(wait_key_of(person.name)).decode().split(" ") for person in known]
            assert [(token, channel) for token, channel, *_ in waits] == [
                (person.token, channel_of(person.name)) for person in known
            ]

    @invariant()
    def the_index_names_what_is_held(self) -> None:
        for key, row in self.rows.items():
            score = self.line.server.zscore(self.line.name("held"), self.line.name("lock", key))
            if row.owner:
                held = self.store.inspect(key)
                assert score / 1e3 == pytest.approx(held.asked + held.remaining, abs=self.slack)
            elif score is not None:
                assert score / 1e3 <= self.servers_time

    @property
    def servers_time(self) -> float:
        seconds, microseconds = self.line.server.time()
        return float(seconds + microseconds / 1e6)

    @invariant()
    def nothing_else_is_kept_and_all_of_it_expires(self) -> None:
        expected = set()
        for key, row in self.rows.items():
            expected |= {self.line.name("held")}
            expected |= {self.line.name("lock", key)} if row.owner else set()
            expected |= {self.line.name("queue", key)} if row.queue else set()
        flows = {wait_key_of(name) for name in self.waits}
        left = self.line.left()
        assert left - expected == flows
        assert {name for name in expected if ":held" not in name} <= left
        names = [name.decode() for name in self.line.server.keys("*") if not name.endswith(b":fence")]
        lives = [self.line.server.pttl(name) for name in names]
        assert all(life == -2 or 0 <= life <= max(TTLS) * 1_000 for life in lives)

    def teardown(self) -> None:
        self.line.close()


class OnRealServer(Protocol):
    alias = "real"
    slack = 0.1  # between its two looks at the clock, the one of the expiry and `TIME`, it may have to wait for a CPU


class InMemory(Protocol):
    """Its clock stands still but for the ticks."""

    alias = "fake"
    slack = 0.003

    def __init__(self) -> None:
        self._patch = pytest.MonkeyPatch()
        self._time = 1_700_000_000.0
        self._patch.setattr(time, "time", lambda: self._time)
        super().__init__()

    @rule(ticks=st.integers(1, 25))
    def tick(self, ticks: int) -> None:
        self._time += ticks * TICK
        for row in self.rows.values():
            if row.ends <= self._time:
                row.owner = None
            if row.queue_ends <= self._time:
                row.queue = []
        self.waits = {name: wait for name, wait in self.waits.items() if wait[1] > self._time}

    def teardown(self) -> None:
        """Everybody dies: nothing but fences is left after the longest ttl."""
        self._time += max(TTLS) + TICK
        assert all(name.endswith(b":fence") for name in self.line.server.keys("*"))
        self._patch.undo()
        super().teardown()


RUN = settings(max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

TestInMemory = pytest.mark.long(pytest.mark.timeout(300)(InMemory.TestCase))  # making a failure short takes a while
TestInMemory.settings = RUN

TestOnRealServer = pytest.mark.usefixtures("real_redis")(OnRealServer.TestCase)
TestOnRealServer = pytest.mark.long(pytest.mark.timeout(300)(TestOnRealServer))
TestOnRealServer.settings = RUN
