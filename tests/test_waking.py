"""Whom a release wakes hears of it before the one who releases is answered."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from redis import ConnectionPool, Redis
from redis.connection import Connection

from django_redislock import lock
from django_redislock.keys import Key
from django_redislock.steps import run
from django_redislock.stores.asking import evaluate, evaluating_new
from django_redislock.stores.base import Answer
from django_redislock.stores.options import options_for_listening
from django_redislock.stores.redis import RedisStore
from django_redislock.stores.straight import Straight, straightened
from django_redislock.stores.verbs import Verbs
from tests.faces import Face
from tests.flows import PATIENCE, client_of

KEY = Key("shelf")
CHANNEL = "redislock:wake:radio"
ENOUGH = 50
"""Times that it was seen who was written to first. On a busy machine one comes too late for that again and again."""
TOKENS = {who: who * 32 for who in "ab"}


@pytest.fixture
def server(real_redis: str) -> Redis:
    return client_of(real_redis)


@pytest.fixture
def connections(server: Redis) -> Iterator[list[Any]]:
    """Of one who releases, and of one who listens."""
    made = [straightened(Connection)(**options_for_listening(server.connection_pool)) for _ in range(2)]
    for connection in made:
        connection.connect()
    made[1].send_command("SUBSCRIBE", CHANNEL)
    made[1].read_response()
    yield made
    for connection in made:
        connection.disconnect()


def test_who_is_woken_is_written_to_first(server, connections, monkeypatch):
    """Else the server goes on to the waiter only when it has woken the other one, and may have to wait for it."""
    releasing, listening = connections
    poll, first = select.poll(), []
    for connection in connections:
        poll.register(connection._sock, select.POLLIN)
    verbs = Verbs("")

    read_answer = Straight.read_answer

    def look_first(connection: Straight) -> Any:
        while not (ready := poll.poll(0)):
            pass
        if len(ready) == 1:  # else we have come too late to tell
            first.append(ready[0][0])
        monkeypatch.setattr(Straight, "read_answer", read_answer)
        return read_answer(connection)

    run(evaluating_new(releasing, verbs.release(KEY, token=TOKENS["a"], ttl=60)))  # the server knows it from now on
    end = time.monotonic() + PATIENCE
    while len(first) < ENOUGH and time.monotonic() < end:
        for token, channel in (TOKENS["a"], ""), (TOKENS["b"], CHANNEL):
            evaluate(releasing, verbs.acquire(KEY, token=token, ttl=60, holder="[]", channel=channel), None)
        monkeypatch.setattr(Straight, "read_answer", look_first)
        for token, wakes in (TOKENS["a"], True), (TOKENS["b"], False):
            assert evaluate(releasing, verbs.release(KEY, token=token, ttl=60, wakes=wakes), None) == 1
        assert listening.read_response()[0] == "message"
    assert set(first) == {listening._sock.fileno()}


def pings(server: Redis) -> int:
    """How often one was asked for."""
    counted: int = server.info("commandstats").get("cmdstat_ping", {"calls": 0})["calls"]
    return counted


async def test_a_release_goes_behind_a_ping_where_somebody_has_waited(real_redis, face: Face, settings):
    settings.REDISLOCK = {"default": {"CACHE": "real"}}
    server = client_of("real")
    async with face.within(lock("a")):
        pass
    quiet = pings(server)
    async with face.within(lock("a")):
        pass
    assert pings(server) == quiet

    async with face.within(lock("a")):
        waiter = face.begin(pass_through, face)
        await face.until_waiting("a")
    await waiter
    assert pings(server) == quiet + 2
    assert server.keys("*lock:a") == []


async def pass_through(face: Face) -> None:
    async with face.within(lock("a")):
        pass


@pytest.mark.parametrize("rules", [["+@all"], ["+@all", "-ping"]], ids=["allowed", "refused"])
@pytest.mark.parametrize("decodes", [False, True])
def test_the_answer_is_that_to_the_release(server, rules, decodes):
    server.acl_setuser("dumb", enabled=True, nopass=True, keys=["*"], channels=["*"], commands=rules)
    options = server.connection_pool.connection_kwargs | {
        "username": "dumb",
        "password": "",
        "decode_responses": decodes,
    }
    pool = ConnectionPool(**options)
    store = RedisStore(lambda: Redis(connection_pool=pool), scope="waking", prefix="")
    with closing(store):
        ear = store.ear(TOKENS["b"])
        assert store.listens
        for _ in range(2):
            store.acquire(KEY, token=TOKENS["a"], ttl=60, holder="[]")
            assert store.release(KEY, token=TOKENS["a"], ttl=60) is Answer.DONE
        assert store.release(KEY, token=TOKENS["b"], ttl=60) is Answer.GONE
        ear.close()
    server.acl_deluser("dumb")
