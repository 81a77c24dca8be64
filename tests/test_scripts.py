"""Each Lua script by itself: its header, its replies on a real server, its one round trip."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

import pytest
from django.conf import settings
from django_redis import get_redis_connection
from redis import ConnectionPool, Redis

from django_redislock.keys import Key
from django_redislock.stores import ballots, listing, many, verbs
from django_redislock.stores.base import Answer, Held, Taken
from django_redislock.stores.redis import RedisStore
from django_redislock.stores.scripts import Script
from tests.faults import Proxy, proxy_to

KEY = Key("shelf")
WHO = '["web-1",42,"MainThread",""]'
TTL = 30_000
SHARED = "root:{7}:lock:shelf held fence queue"
LOCK = SHARED.partition(" ")[0]

FILES = resources.files("django_redislock.stores").joinpath("scripts")
NAMES = sorted(file.name.removesuffix(".lua") for file in FILES.iterdir() if file.name.endswith(".lua"))
ONE = ["acquire", "admit", "follow", "force", "inspect", "keep", "leave", "raise", "release", "renew", "vote"]
SEVERAL = ["acquire_many", "leave_many", "release_many", "renew_many"]
"""Get the keys of as many locks as there are."""
OF_A_BUCKET = ["list"]
"""Find the keys by the index."""

every_script = pytest.mark.parametrize("name", NAMES)
every_script_for_one = pytest.mark.parametrize("name", ONE)
every_file = pytest.mark.parametrize("path", [*NAMES, "parts/lock"])
every_file_for_one = pytest.mark.parametrize("path", [*ONE, "parts/lock"])


@pytest.fixture
def server(real_redis: str) -> Any:
    """A real server, without our code."""
    return get_redis_connection(real_redis)


def split(path: str) -> tuple[str, str]:
    """The comment at the top of a file, and the rest."""
    lines = FILES.joinpath(f"{path}.lua").read_text(encoding="utf-8").splitlines(keepends=True)
    end = next(number for number, line in enumerate(lines) if not line.startswith("--"))
    return "".join(lines[:end]), "".join(lines[end:])


def source_of(name: str) -> str:
    """A script as it is sent."""
    return script_of(name).source


def script_of(name: str) -> Script:
    """A script as it is sent, with the parts that it shares."""
    script = (vars(verbs) | vars(many) | vars(listing) | vars(ballots))[name.upper()]
    assert isinstance(script, Script)
    return script


def numbers_of(table: str, header: str) -> list[int]:
    """The numbers of the parameters that a header describes, those of the part that it refers to included."""
    found = re.search(rf"^-- {table} (.*(?:\n--      .*)*)", header, re.MULTILINE)
    text = found[1] if found else ""
    shared = re.search(r"1 to (\d) as in parts/(?:lock|several).lua", text)
    own = [int(number) for number in re.findall(r"  +(\d) (?!to \d)\w", f"  {text}")]
    return [*range(1, int(shared[1]) + 1 if shared else 1), *own]


def run(server: Any, name: str, keys: str, *args: Any) -> Any:
    """Run a script on keys that share a slot."""
    names = keys.split()
    return server.eval(source_of(name), len(names), *names, *args)


def acquire(server: Any, token: str = "ours", ttl: int = TTL) -> Any:
    return run(server, "acquire", SHARED, token, "root", ttl, WHO, "")


def note_of(token: str) -> str:
    return f"root:{{7}}:released:{token}:shelf"


def release(server: Any, token: str = "ours") -> Any:
    return run(server, "release", SHARED, token, "root", 10_000)


def renew(server: Any, token: str = "ours", ttl: int = 2 * TTL) -> Any:
    return run(server, "renew", f"{LOCK} held {note_of(token)}", token, ttl)


# Files


def test_there_is_one_file_for_each_verb():
    assert sorted([*ONE, *SEVERAL, *OF_A_BUCKET]) == NAMES


@every_file
def test_the_header_says_what_the_script_is_for(path):
    header, _ = split(path)
    assert header.startswith(f"-- {path.rpartition('/')[2]}: ")
    assert path.startswith("parts/") or re.search("^-- returns ", header, re.MULTILINE)


@every_file
@pytest.mark.parametrize("table", ["KEYS", "ARGV"])
def test_the_header_describes_every_parameter(path, table):
    header, body = split(path)
    used = sorted({int(index) for index in re.findall(rf"{table}\[(\d+)\]", body)})
    described = numbers_of(table, header)
    assert described == list(range(1, len(described) + 1))
    assert [number for number in described if number in used] == used
    shared = len(described) - len(used)
    assert described[shared:] == used
    assert shared == 0 or shared == len(numbers_of(table, split("parts/lock")[0]))


@every_file_for_one
def test_every_parameter_is_bound_to_a_name_once(path):
    _, body = split(path)
    uses = re.findall(r"^.*\b(?:KEYS|ARGV)\b.*$", body, re.MULTILINE)
    assert len(uses) == len({use.split(" = ")[0] for use in uses}) <= 2
    assert all(re.match(r"local \w+(, \w+)* = ", use) for use in uses)
    assert len(re.findall(r"(?:KEYS|ARGV)\[", body)) == len(set(re.findall(r"(?:KEYS|ARGV)\[\d\]", body)))


@every_script_for_one
def test_only_keys_that_were_passed_are_touched_and_those_of_whoever_holds_the_lock(name):
    source = source_of(name)
    bound = re.findall(r"^local ([\w, ]+) = KEYS", source, re.MULTILINE)
    passed = {key for names in bound for key in names.split(", ")}
    touched = set(re.findall(r"\bcall\('(?!TIME|PUBLISH)\w+', ([^,)]+)", source))
    found_in_the_store = {"edge_key", "note_key", "wait_key", "other_queue", "unpack(flows", "flows[index]"}
    flows = {key for key in touched if key.startswith(("root .. ':flow:' .. ", "wait_of(", "note_of("))}
    assert touched & passed
    assert touched - passed - flows <= found_in_the_store


@every_script
def test_the_digest_is_the_servers_own(server, name):
    script = script_of(name)
    assert server.script_load(script.source) == script.sha


# Replies


def test_acquire_takes_a_free_key(server):
    taken, fence = acquire(server)
    assert (taken, fence) == (1, int(server.get("fence")))
    assert server.get(LOCK).split(b" ", 3) == [b"ours", b"%d" % fence, b"%d" % fence, WHO.encode()]
    assert 0 < server.pttl(LOCK) <= TTL
    assert server.zrange("held", 0, -1) == [LOCK.encode()]


def test_acquire_takes_entries_of_holders_that_vanished_out_of_the_index(server):
    server.zadd("held", {"vanished": 1, "kept": 10**14})
    acquire(server)
    assert server.zrange("held", 0, -1) == [LOCK.encode(), b"kept"]
    assert server.pttl("held") == -1 or server.pttl("held") > TTL - 1_000


def test_acquire_tells_its_own_token_so_again(server):
    first = acquire(server)
    before = server.get(LOCK)
    assert acquire(server) == first
    assert server.get(LOCK) == before


def test_acquire_refuses_another_token(server):
    fence = acquire(server)[1]
    taken, held_fence, since, now, left, who = acquire(server, "theirs")
    assert (taken, held_fence, who) == (0, fence, WHO.encode())
    assert since <= now
    assert 0 < left <= TTL


def test_acquire_refuses_another_token_also_where_the_index_was_lost(server):
    acquire(server)
    server.delete("held")
    assert acquire(server, "theirs")[0] == 0


def test_acquire_passes_over_a_queue_of_the_dead_where_nothing_is_held(server):
    server.rpush("queue", "dead")
    assert acquire(server)[0] == 1
    assert server.exists("queue") == 0


def test_acquire_goes_on_from_the_last_fence(server):
    ahead = acquire(server)[1] + 10**12
    release(server)
    server.set("fence", ahead)
    assert acquire(server) == [1, ahead + 1]
    assert server.get("fence") == b"%d" % (ahead + 1)


def test_release_frees_and_leaves_a_note(server):
    acquire(server)
    assert release(server) == 1
    assert server.exists(LOCK, "held") == 0
    assert 0 < server.pttl(note_of("ours")) <= 10_000


def test_release_is_answered_twice_alike(server):
    acquire(server)
    assert [release(server), release(server)] == [1, 1]
    assert release(server, "theirs") == 0


@pytest.mark.parametrize(("owner", "reply"), [(None, 0), ("theirs", -1), ("ourselves", -1), ("our", -1)])
@pytest.mark.parametrize("ask", [release, renew])
def test_who_does_not_own_is_told_who_does(server, ask, owner, reply):
    if owner:
        acquire(server, owner)
    before = server.get(LOCK)
    assert ask(server) == reply
    assert (server.get(LOCK), server.exists(note_of("ours"))) == (before, 0)


def test_renew_keeps_the_lock_and_its_entry(server):
    acquire(server)
    value, score = server.get(LOCK), server.zscore("held", LOCK)
    assert renew(server) == 1
    assert TTL < server.pttl(LOCK) <= 2 * TTL
    assert server.get(LOCK) == value
    assert server.zscore("held", LOCK) >= score + TTL


def test_inspect_tells_who_holds_the_key_but_not_the_token(server):
    fence = acquire(server)[1]
    reply = run(server, "inspect", f"{LOCK} queue")
    assert (reply[0], reply[4]) == (fence, WHO.encode())
    assert reply[1] <= reply[2]
    assert 0 < reply[3] <= TTL
    assert b"ours" not in reply


def test_inspect_tells_of_a_free_key_nothing(server):
    assert run(server, "inspect", f"{LOCK} queue") is None


def test_keep_keeps_the_places_of_one_channel_and_says_who_has_them(server):
    acquire(server)
    for token, channel in [("first-flow-of-all1", "here"), ("second-flow-of-al2", "there")]:
        run(server, "acquire", SHARED, token, "root", TTL, WHO, channel)
    names = ["queue", "root:flow:first-flow-of-al", "root:flow:second-flow-of-a"]
    for name in names:
        assert server.pexpire(name, TTL // 2)
    left, *tokens = run(server, "keep", f"{LOCK} queue", "here", "root")
    assert 0 < left <= TTL
    assert tokens == [b"first-flow-of-all1"]
    assert [server.pttl(name) > TTL // 2 for name in names] == [True, True, False]


def test_keep_tells_nobody_who_waits_for_something_else_by_now(server):
    acquire(server)
    other = SHARED.replace("shelf", "other").replace("queue", "queue:other")
    run(server, "acquire", other, "theirs", "root", TTL, WHO, "")
    run(server, "acquire", SHARED, "first-flow-of-all1", "root", TTL, WHO, "here")
    run(server, "acquire", other, "first-flow-of-all2", "root", TTL, WHO, "here")
    assert run(server, "keep", f"{LOCK} queue", "here", "root")[1:] == []


def test_keep_shortens_nobodys_place(server):
    acquire(server)
    for token, ttl in [("a", 4 * TTL), ("b", TTL)]:
        run(server, "acquire", SHARED, token, "root", ttl, WHO, token)
    run(server, "keep", f"{LOCK} queue", "b", "root")
    assert server.pttl("queue") > 3 * TTL


def test_keep_brings_nothing_back(server):
    assert run(server, "keep", f"{LOCK} queue", "here", "root") == [-2]
    assert server.exists("queue") == 0


# Round trips


ASKED: list[Callable[[RedisStore], Any]] = [
    lambda store: store.acquire(KEY, token="ours", ttl=30, holder=WHO),
    lambda store: store.acquire(KEY, token="theirs", ttl=30, holder=WHO),
    lambda store: store.inspect(KEY),
    lambda store: store.renew(KEY, token="ours", ttl=60),
    lambda store: store.release(KEY, token="ours", ttl=60),
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


def test_what_never_exists_is_named_only_in_a_cluster(server):
    with server.monitor() as monitor:
        ask_all(RedisStore(lambda: server, scope="watched", prefix=""))
        server.echo("the last one")
        asked = list(itertools.takewhile(lambda told: "the last one" not in told["command"], commands_of(monitor)))
    assert len([told for told in asked if "EVALSHA" in told["command"]]) == 5
    assert not any(":absent" in told["command"] for told in asked)


def commands_of(monitor: Any) -> Iterator[dict[str, Any]]:
    while True:
        yield monitor.next_command()


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
