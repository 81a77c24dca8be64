"""Tasks that wait for one key: one question keeps the places of all of them, and nobody is forgotten over that."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
import redis

from django_redislock import Deadlock, StoreUnavailable, lock
from django_redislock.stores import verbs
from django_redislock.stores.loopwakeups import LoopWakeups
from django_redislock.stores.redis import RedisStore
from tests.flows import client_of

pytestmark = pytest.mark.usefixtures("lock_alias")

TTL = 0.3
"""Seconds for which a waiter has its place without being kept."""
SCRIPTS = {verbs.ACQUIRE: "acquire", verbs.KEEP: "keep"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What was asked how often."""
    counts: Counter[str] = Counter()
    evaluating: Any = RedisStore._evaluating

    def counting(connection: Any, call: Any, meanwhile: Any) -> Any:
        counts[SCRIPTS.get(call.script, "")] += 1
        return evaluating(connection, call, meanwhile)

    monkeypatch.setattr(RedisStore, "_evaluating", staticmethod(counting))
    return counts


async def enter(name: str = "a", ttl: float = TTL) -> str:
    async with lock(name, ttl=ttl, wait=30):
        return "entered"


def lose_places(alias: str, name: str = "a") -> None:
    """As a server does that has lost its data."""
    client = client_of(alias)
    client.delete(*client.keys(f"*:queue:{name}"))


@pytest.mark.long
async def test_one_asks_for_all(loop, asked):
    # All ask where the machine stands still for half a ttl.
    async with loop.held_by_another(lock("a")):
        people = [loop.begin(enter, "a", 4 * TTL) for _ in range(50)]
        await loop.until_waiting("a", 50)
        before, kept = asked["acquire"], asked["keep"]

        async def kept_for_long() -> bool:
            return bool(asked["keep"] >= kept + 3)

        await loop.until(kept_for_long)
        assert await loop.waiters_of("a") == 50
        assert asked["acquire"] == before
    assert [await person for person in people] == ["entered"] * 50


async def test_what_a_task_waits_for_stays_known(loop, asked):
    """So that who would close a cycle is refused, however long the others have waited."""

    async def hold_b_and_want_a() -> None:
        async with lock("b"), lock("a", ttl=TTL, wait=30):
            pass

    async def kept_for_long() -> bool:
        return bool(asked["keep"] >= 8)

    async with lock("a"):
        other = loop.begin(hold_b_and_want_a)
        await loop.until_waiting("a")
        await loop.until(kept_for_long)
        with pytest.raises(Deadlock, match="Waiting for b would never end"):
            await lock("b", wait=30).aacquire()
    await other


async def test_who_has_no_place_any_more_lines_up_again(loop, lock_alias):
    async with loop.held_by_another(lock("a")):
        people = [loop.begin(enter) for _ in range(3)]
        await loop.until_waiting("a", 3)
        lose_places(lock_alias)
        await loop.until_waiting("a", 3)
    assert [await person for person in people] == ["entered"] * 3


async def test_who_cannot_be_told_asks_again_and_again(loop, lock_alias, monkeypatch):
    """Its place was lost, and the wake-up connection is away just then: so nobody would wake it."""
    async with loop.held_by_another(lock("a")):
        person = loop.begin(enter)
        await loop.until_waiting("a")
        monkeypatch.setattr(LoopWakeups, "channel", property(lambda _: "", lambda *_: None), raising=False)
        await asyncio.sleep(TTL / 5)  # what it has asked before, with a channel, has arrived
        lose_places(lock_alias)
        await asyncio.sleep(2 * TTL)
        assert await loop.waiters_of("a") == 0
    assert await asyncio.wait_for(asyncio.ensure_future(person), 10) == "entered"


@pytest.mark.long
@pytest.mark.parametrize("who", [0, 1])
async def test_that_one_leaves_does_not_keep_the_others_from_a_key_whose_holder_has_vanished(loop, who):
    guard = lock("a", ttl=5 * TTL)
    await loop.elsewhere(loop.call, guard, "acquire")
    people = []
    for number in range(2):
        people.append(asyncio.ensure_future(loop.begin(enter)))
        await loop.until_waiting("a", number + 1)
    guard._entries.clear()  # nobody has it in hand any more, so it is not renewed
    people[who].cancel()
    assert await asyncio.wait_for(people[1 - who], 10) == "entered"


async def test_that_the_store_cannot_be_asked_is_told_to_everybody(loop, monkeypatch):
    async with loop.held_by_another(lock("a")):
        people = [loop.begin(enter) for _ in range(3)]
        await loop.until_waiting("a", 3)
        with monkeypatch.context() as patched:
            patched.setattr(RedisStore, "_evaluating", staticmethod(no_connection))
            for person in people:
                with pytest.raises(StoreUnavailable):
                    await person


def no_connection(*args: Any, **kwargs: Any) -> None:
    raise redis.ConnectionError("No server here.")


async def test_what_fails_for_another_reason_leaves_nobody_waiting(loop, lock_alias, monkeypatch, caplog):
    """It is a mistake of ours; who waits asks by itself, and goes on."""

    def mistaken(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError

    async with loop.held_by_another(lock("a")):
        person = loop.begin(enter)
        await loop.until_waiting("a")
        monkeypatch.setattr(verbs.Verbs, "keep", mistaken)
        lose_places(lock_alias)
        await loop.until_waiting("a")
    assert await person == "entered"
