"""What is sent to Redis and how the answers are read, without a server."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.connection import Connection
from redis.crc import key_slot

from django_redislock.holder import Holder
from django_redislock.keys import Key, bucket_of
from django_redislock.seconds import LONGEST_TTL, SHORTEST_TTL
from django_redislock.stores.base import Answer, Edge, Grant, Held, Taken
from django_redislock.stores.verbs import RELEASE_NOTE_MS, Call, Verbs, read_grant, to_ms

KEY = Key("bank.Account:42")
SOMEBODY = Holder(host="web-1", pid=42, thread="MainThread", doing="")
WHO = '["web-1",42,"MainThread",""]'
TAKEN_AT = 1_700_000_000_000_000


def calls(prefix: str = "", key: Key = KEY, root: str | None = None) -> dict[str, Call[Any]]:
    """One call of each verb; `root`: as for `Verbs`."""
    verbs = Verbs(prefix, root)
    return {
        "acquire": verbs.acquire(key, token="t", ttl=30, holder=WHO, channel="c"),
        "release": verbs.release(key, token="t", ttl=60),
        "leave": verbs.leave(key, token="t"),
        "force": verbs.force(key, token="t", ttl=5, fence=None),
        "renew": verbs.renew(key, token="t", ttl=60),
        "inspect": verbs.inspect(key),
        "follow": verbs.follow(key, flow="f"),
        "keep": verbs.keep(key, channel="c"),
    }


ROOT = "the root of all names"
SHARED = ("{60}:lock:bank.Account:42", "held", "fence", "{60}:queue:bank.Account:42")
"""What each verb needs that may hand the lock over."""

every_verb = pytest.mark.parametrize("verb", list(calls()))


@pytest.mark.parametrize(
    ("verb", "keys", "args"),
    [
        ("acquire", SHARED, ("t", ROOT, 30_000, WHO, "c")),
        ("release", SHARED, ("t", ROOT, RELEASE_NOTE_MS)),
        ("leave", SHARED, ("t", ROOT)),
        ("force", (*SHARED, "{60}:forced:t:bank.Account:42"), ("t", ROOT, RELEASE_NOTE_MS, 5_000, "")),
        ("renew", ("{60}:lock:bank.Account:42", "held", "{60}:released:t:bank.Account:42"), ("t", 60_000)),
        ("inspect", ("{60}:lock:bank.Account:42", "{60}:queue:bank.Account:42"), (ROOT,)),
        ("follow", SHARED, ("f", ROOT)),
        ("keep", ("{60}:lock:bank.Account:42", "{60}:queue:bank.Account:42"), ("c", ROOT)),
    ],
)
@pytest.mark.parametrize(("prefix", "root"), [("", "redislock"), ("shop", "shop:redislock"), ("a:b", "a:b:redislock")])
def test_a_verb_sends_its_keys_and_arguments(verb, keys, args, prefix, root):
    call = calls(prefix)[verb]
    assert call.keys == tuple(f"{root}:{key}" for key in keys)
    assert call.args == tuple(root if value is ROOT else value for value in args)


@every_verb
@settings(deadline=None)
@given(st.text(), st.text(alphabet=st.characters(codec="utf-8", exclude_characters="{}")))
def test_all_keys_of_a_verb_lie_in_one_slot_of_a_cluster(verb, name, prefix):
    keys = calls(prefix, Key(name), root="that of the bucket")[verb].keys
    assert len({key_slot(key.encode()) for key in keys}) == 1


@every_verb
def test_a_script_is_known_by_its_digest(verb):
    script = calls()[verb].script
    assert hashlib.sha1(script.source.encode()).hexdigest() == script.sha


@every_verb
@pytest.mark.parametrize("key", [KEY, Key("Käse:1")])
def test_a_call_is_sent_as_the_client_would_send_it_also_the_second_time(verb, key):
    call = calls(key=key)[verb]
    words, pack = (len(call.keys), *call.keys, *call.args), Connection().pack_command
    assert [call.packed] * 2 == [pack("EVALSHA", call.script.sha, *words), calls(key=key)[verb].packed]
    assert call.packed_new == pack("EVAL", call.script.source, *words)


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [
        (SHORTEST_TTL, 10),
        (0.0105, 10),
        (0.29, 290),
        (1.001, 1_001),
        (1, 1_000),
        (30.0004, 30_000),
        (LONGEST_TTL, 10**15),
    ],
)
def test_seconds_are_sent_as_whole_milliseconds(seconds, milliseconds):
    assert (to_ms(seconds), type(to_ms(seconds))) == (milliseconds, int)


@settings(deadline=None)
@given(st.floats(SHORTEST_TTL, LONGEST_TTL))
def test_every_ttl_is_sent_as_a_number_that_lua_counts_exactly(seconds):
    assert 10 <= to_ms(seconds) <= 10**15 < 2**53


def test_a_taken_key_is_read():
    assert calls()["acquire"].read([1, TAKEN_AT]) == Taken(TAKEN_AT)


def test_a_held_key_is_read():
    reply = [TAKEN_AT, TAKEN_AT, TAKEN_AT + 2_500_000, 27_500, WHO]
    held = Held(
        holder=SOMEBODY, fence=TAKEN_AT, since=1_700_000_000, held_for=2.5, remaining=27.5, asked=1_700_000_002.5
    )
    assert calls()["acquire"].read([0, *reply]) == held
    waited_for = calls()["inspect"].read([*reply, 3, TAKEN_AT + 1_000_000])
    assert waited_for == replace(held, waiters=3, first_waits_for=1.5)


def test_a_cycle_is_read():
    edge = Edge(key=KEY.name, holder=SOMEBODY)
    assert calls()["acquire"].read([2, KEY.name, WHO, KEY.name, WHO]) == (edge, edge)


def test_a_grant_is_read():
    assert read_grant(f"t 8 {TAKEN_AT}") == ("t", Grant(fence=8, granted=1_700_000_000))


def test_there_is_nothing_to_be_read_when_one_leaves():
    assert calls()["leave"].read(1) is None


def test_who_was_forced_out_is_read():
    held = calls()["force"].read([7, TAKEN_AT, TAKEN_AT, 5_000, WHO])
    assert isinstance(held, Held)
    assert (held.holder, held.fence, held.remaining) == (SOMEBODY, 7, 5)


def test_that_nobody_was_forced_out_is_read():
    assert calls()["force"].read(None) is None


@pytest.mark.parametrize("left", [0, -1, -2])
def test_what_remains_is_never_negative(left):
    held = calls()["inspect"].read([7, TAKEN_AT, TAKEN_AT, left, WHO, 0, TAKEN_AT])
    assert isinstance(held, Held)
    assert held.remaining == 0


def test_a_free_key_is_read():
    assert calls()["inspect"].read(None) is None


@pytest.mark.parametrize("verb", ["release", "renew"])
@pytest.mark.parametrize(("reply", "answer"), [(1, Answer.DONE), (0, Answer.GONE), (-1, Answer.ANOTHERS)])
def test_the_answer_to_an_owner_is_read(verb, reply, answer):
    assert calls()[verb].read(reply) is answer


def test_a_lock_lies_in_the_bucket_of_its_name():
    assert f"{{{bucket_of(KEY.name)}}}" in calls()["inspect"].keys[0]
