"""Each Lua script by itself: its header, its replies on a real server, its one round trip."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

import pytest
from django.conf import settings
from django_redis import get_redis_connection
from redis import ConnectionPool, Redis

from django_redislock.keys import Key
from django_redislock.stores.base import Answer, Held, Taken
from django_redislock.stores.redis import RedisStore
from django_redislock.stores.scripts import load
from tests.faults import Proxy, proxy_to

KEY = Key("shelf")
WHO = '["web-1",42,"MainThread",""]'
TTL = 30_000

FILES = resources.files("django_redislock.stores").joinpath("scripts")
NAMES = sorted(file.name.removesuffix(".lua") for file in FILES.iterdir())

every_script = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def server(real_redis: str) -> Any:
    """A real server, without our code."""
    return get_redis_connection(real_redis)


def split(name: str) -> tuple[str, str]:
    """The comment at the top of a script, and the rest."""
    header, _, body = load(name).source.partition("\nlocal ")
    return header, f"local {body}"


def run(server: Any, name: str, keys: str, *args: Any) -> Any:
    """Run a script on keys that share a slot."""
    names = keys.split()
    return server.eval(load(name).source, len(names), *names, *args)


def acquire(server: Any, token: str = "ours", ttl: int = TTL) -> Any:
    return run(server, "acquire", "lock held fence", token, ttl, WHO, "shelf")


def release(server: Any, token: str = "ours") -> Any:
    return run(server, "release", f"lock held note-{token}", token, "shelf", 10_000)


def renew(server: Any, token: str = "ours", ttl: int = 2 * TTL) -> Any:
    return run(server, "renew", "lock held", token, ttl, "shelf")


# Files


def test_there_is_one_file_for_each_verb():
    assert NAMES == ["acquire", "inspect", "release", "renew"]


@every_script
def test_the_header_says_what_the_script_is_for(name):
    header, _ = split(name)
    lines = header.splitlines()
    assert all(line.startswith("--") for line in lines)
    assert lines[0].startswith(f"-- {name}: ")
    assert any(line.startswith("-- returns ") for line in lines)


@every_script
@pytest.mark.parametrize("table", ["KEYS", "ARGV"])
def test_the_header_describes_every_parameter(name, table):
    header, body = split(name)
    used = sorted({int(index) for index in re.findall(rf"{table}\[(\d+)\]", body)})
    line = next((line for line in header.splitlines() if line.startswith(f"-- {table} ")), "")
    described = [int(index) for index in re.findall(r" (\d+) \w", line)]
    assert described == used == list(range(1, len(used) + 1))


@every_script
def test_every_parameter_is_bound_to_a_name_once(name):
    _, body = split(name)
    uses = re.findall(r"^.*\b(?:KEYS|ARGV)\b.*$", body, re.MULTILINE)
    assert len(uses) == len({use.split(" = ")[0] for use in uses}) <= 2
    assert all(re.match(r"local \w+(, \w+)* = ", use) for use in uses)
    assert len(re.findall(r"(?:KEYS|ARGV)\[", body)) == len(set(re.findall(r"(?:KEYS|ARGV)\[\d\]", body)))


@every_script
def test_only_keys_that_were_passed_are_touched(name):
    """A cluster refuses a script that reaches for others."""
    _, body = split(name)
    passed = re.findall(r"\w+", body.partition(" = ")[0].removeprefix("local"))
    touched = re.findall(r"redis\.call\('(?!TIME)\w+', ([^,)]+)", body)
    assert touched
    assert set(touched) <= set(passed)


@every_script
def test_the_digest_is_the_servers_own(server, name):
    assert server.script_load(load(name).source) == load(name).sha


# Replies


def test_acquire_takes_a_free_key(server):
    taken, fence = acquire(server)
    assert (taken, fence) == (1, int(server.get("fence")))
    assert server.get("lock").split(b" ", 3) == [b"ours", b"%d" % fence, b"%d" % fence, WHO.encode()]
    assert 0 < server.pttl("lock") <= TTL
    assert server.zrange("held", 0, -1) == [b"shelf"]


def test_acquire_tells_its_own_token_so_again(server):
    first = acquire(server)
    before = server.get("lock")
    assert acquire(server) == first
    assert server.get("lock") == before


def test_acquire_refuses_another_token(server):
    fence = acquire(server)[1]
    taken, held_fence, since, now, left, who = acquire(server, "theirs")
    assert (taken, held_fence, who) == (0, fence, WHO.encode())
    assert since <= now
    assert 0 < left <= TTL


def test_acquire_goes_on_from_the_last_fence(server):
    ahead = acquire(server)[1] + 10**12
    release(server)
    server.set("fence", ahead)
    assert acquire(server) == [1, ahead + 1]
    assert server.get("fence") == b"%d" % (ahead + 1)


def test_release_frees_and_leaves_a_note(server):
    acquire(server)
    assert release(server) == 1
    assert server.exists("lock", "held") == 0
    assert 0 < server.pttl("note-ours") <= 10_000


def test_release_is_answered_twice_alike(server):
    acquire(server)
    assert [release(server), release(server)] == [1, 1]


@pytest.mark.parametrize(("owner", "reply"), [(None, 0), ("theirs", -1)])
@pytest.mark.parametrize("ask", [release, renew])
def test_who_does_not_own_is_told_who_does(server, ask, owner, reply):
    if owner:
        acquire(server, owner)
    before = server.get("lock")
    assert ask(server) == reply
    assert (server.get("lock"), server.exists("note-ours")) == (before, 0)


def test_renew_keeps_the_lock_and_its_entry(server):
    acquire(server)
    value, score = server.get("lock"), server.zscore("held", "shelf")
    assert renew(server) == 1
    assert TTL < server.pttl("lock") <= 2 * TTL
    assert server.get("lock") == value
    assert server.zscore("held", "shelf") >= score + TTL


def test_inspect_tells_who_holds_the_key_but_not_the_token(server):
    fence = acquire(server)[1]
    reply = run(server, "inspect", "lock")
    assert (reply[0], reply[4]) == (fence, WHO.encode())
    assert reply[1] <= reply[2]
    assert 0 < reply[3] <= TTL
    assert b"ours" not in reply


def test_inspect_tells_of_a_free_key_nothing(server):
    assert run(server, "inspect", "lock") is None


# Round trips


ASKED: list[Callable[[RedisStore], Any]] = [
    lambda store: store.acquire(KEY, token="ours", ttl=30, holder=WHO),
    lambda store: store.acquire(KEY, token="theirs", ttl=30, holder=WHO),
    lambda store: store.inspect(KEY),
    lambda store: store.renew(KEY, token="ours", ttl=60),
    lambda store: store.release(KEY, token="ours"),
]
"""Every verb, in an order in which each has an effect."""


def ask_all(store: RedisStore) -> None:
    for ask in ASKED:
        ask(store)


@pytest.fixture
def wire(server: Any) -> Iterator[Proxy]:
    """Sees every command on its way to the server."""
    with proxy_to(settings.CACHES["real"]["LOCATION"]) as proxy:
        proxy.counted = frozenset()
        yield proxy


def behind(proxy: Proxy) -> RedisStore:
    pool = ConnectionPool.from_url(f"redis://{proxy.address}/0")
    return RedisStore(lambda: Redis(connection_pool=pool), scope="wire", prefix="")


def test_every_verb_is_one_round_trip(wire):
    store = behind(wire)
    ask_all(store)
    wire.seen.clear()
    ask_all(store)
    assert wire.seen == ["EVALSHA"] * 5


def test_a_script_that_the_server_does_not_know_is_sent_once(server, wire):
    store = behind(wire)
    ask_all(store)
    server.script_flush()
    wire.seen.clear()
    ask_all(store)
    unknown = ["EVALSHA", "EVAL"]
    assert wire.seen == [*unknown, "EVALSHA", *unknown * 3]


def test_scripts_that_the_server_forgets_are_sent_again(lock_alias):
    server = get_redis_connection(lock_alias)
    store = RedisStore(lambda: server, scope=lock_alias, prefix="")
    answers = []
    for ask in ASKED:
        server.script_flush()
        answers.append(ask(store))
    assert [type(answer) for answer in answers] == [Taken, Held, Held, Answer, Answer]
    assert answers[3:] == [Answer.DONE, Answer.DONE]
