"""A line of waiters for tests that ask the store itself: people who hold, wait, leave and die at the test's word."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from redis.client import PubSub

from django_redislock.keylock import operator_token
from django_redislock.keys import Key, bucket_of
from django_redislock.stores.base import Answer, Edge, Grant, Held, Taken
from django_redislock.stores.redis import RedisStore
from django_redislock.stores.verbs import read_grant
from tests.flows import client_of

KEY = Key("shelf")
END = "that was all"


def token_of(who: str, attempt: int = 0) -> str:
    """The token of somebody, who is a flow of a process of its own."""
    return f"{who:_<16}{attempt}"


def wait_key_of(who: str) -> str:
    """Where it is kept what somebody waits for."""
    return f"redislock:flow:{token_of(who)[:16]}"


def channel_of(who: str) -> str:
    return f"wake:{who}"


def holder_of(who: str) -> str:
    return json.dumps(["web-1", 42, "MainThread", who])


class Line:
    """The store of an alias, and those who use it."""

    def __init__(self, alias: str, *, prefix: str = "") -> None:
        self.server: Any = client_of(alias)
        self.store = RedisStore(lambda: self.server, scope=alias, prefix=prefix)
        self._listening: dict[str, PubSub] = {}

    def close(self) -> None:
        for who in list(self._listening):
            self.die(who)
        self.store.close()

    def ask(
        self, who: str, key: Key = KEY, *, ttl: float = 30, wait: bool = True, attempt: int = 0
    ) -> Taken | Held | tuple[Edge, ...]:
        """Ask for the key, and wait in line for it unless told otherwise."""
        channel = channel_of(who) if wait else ""
        if wait:
            self.live(who)
        token = token_of(who, attempt)
        return self.store.acquire(key, token=token, ttl=ttl, holder=holder_of(who), channel=channel)

    def queue(self, *people: str, key: Key = KEY) -> None:
        """The first one holds the key, the others wait in this order."""
        for who in people:
            self.ask(who, key)

    def leave(self, who: str, key: Key = KEY) -> None:
        self.store.leave(key, token=token_of(who))

    def release(self, who: str, key: Key = KEY) -> Answer:
        return self.store.release(key, token=token_of(who), ttl=60)

    def force(self, key: Key = KEY) -> Held | None:
        """An operator takes the key away and hands it over; gives who held it."""
        token = operator_token()
        held = self.store.force(key, token=token, ttl=10)
        if held is not None:
            assert self.store.release(key, token=token, ttl=60) is Answer.DONE
        return held

    def owner(self, key: Key = KEY) -> str | None:
        """Who holds the key."""
        held = self.store.inspect(key)
        return held.holder.doing if held else None

    def live(self, who: str) -> None:
        """The process of somebody listens."""
        if who not in self._listening:
            pubsub = self._listening[who] = self.server.pubsub()
            pubsub.subscribe(channel_of(who))
            assert pubsub.get_message(timeout=5)["type"] == "subscribe"

    def die(self, who: str) -> None:
        """The process of somebody is gone, and the server has noticed."""
        self._listening.pop(who).close()
        while self.server.pubsub_numsub(channel_of(who))[0][1]:
            pass

    def heard(self, who: str) -> list[Grant]:
        """What somebody was told since the last time."""
        self.server.publish(channel_of(who), END)
        messages = iter(partial(self._next_message, who), END)
        grants = [read_grant(message) for message in messages if message]
        assert {token[:16] for token, _ in grants} <= {token_of(who)[:16]}
        return [grant for _, grant in grants if grant is not None]

    def _next_message(self, who: str) -> str:
        message = self._listening[who].get_message(timeout=5)
        return str(message["data"].decode())

    def expire(self, key: Key = KEY) -> None:
        """The ttl of the lock is over."""
        self.server.pexpireat(self.name("lock", key), 1)

    def name(self, what: str, key: Key = KEY) -> str:
        """A key in Redis."""
        return (
            f"redislock:{what}"
            if what in {"held", "fence"}
            else f"redislock:{{{bucket_of(key.name)}}}:{what}:{key.name}"
        )

    def left(self) -> set[str]:
        """What is in Redis beside the fences and the notes of releases and of force."""
        names = {name.decode() for name in self.server.keys("*")}
        notes = {name for name in names if ":released:" in name or ":forced:" in name}
        return {name for name in names - notes if not name.endswith(":fence")}
