"""All that is held, read from the index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from django.conf import settings
from redis import ConnectionPool, Redis

from django_redislock import StoreUnavailable, lock, lock_many
from django_redislock.keys import Key
from django_redislock.overview import held, infos, look
from django_redislock.stores import inquiry as inquiries
from django_redislock.stores.base import Refusal
from django_redislock.stores.inquiry import Inquiry
from django_redislock.stores.redis import RedisStore
from tests.faults import Proxy, proxy_to
from tests.flows import client_of
from tests.line import KEY, Line, holder_of, token_of

# On each Redis


@pytest.fixture
def line(lock_alias: str) -> Iterator[Line]:
    people = Line(lock_alias)
    yield people
    people.close()


def inquiry_of(line: Line) -> Inquiry:
    return Inquiry(lambda: line.server, scope="here", prefix="")


def test_nothing_is_held_at_first(lock_alias):
    assert not held()


def test_it_tells_what_the_server_knows(line):
    line.queue("a", "b", "c")
    (found,) = inquiry_of(line).list_held()
    told = line.store.inspect(KEY)
    assert (found.name, found.holder, found.fence, found.since) == (KEY.name, told.holder, told.fence, told.since)
    assert (found.waiters, found.queue) == (2, ())
    assert told.remaining <= found.remaining + 0.002 <= 30.002
    assert found.held_for <= told.held_for


def test_it_tells_who_waits_in_order_when_asked(line):
    line.queue("a", "b", "c")
    (found,) = inquiry_of(line).list_held(queues=True)
    assert [waiter.holder.doing for waiter in found.queue] == ["b", "c"]
    assert found.queue[0].waits_for >= found.queue[1].waits_for >= 0
    assert found.waiters == 2


def test_a_flow_is_the_same_where_it_holds_and_where_it_waits(line):
    line.ask("a", Key("one"))
    line.ask("b", Key("two"))
    line.ask("b", Key("one"))
    by_name = {found.name: found for found in inquiry_of(line).list_held(queues=True)}
    assert by_name["one"].queue[0].flow == by_name["two"].flow != by_name["one"].flow


def test_a_flow_is_listed_where_it_waits_now(line):
    line.queue("a", "b", "c")
    line.ask("d", Key("other"))
    line.ask("b", Key("other"), attempt=1)
    by_name = {found.name: found for found in inquiry_of(line).list_held(queues=True)}
    assert [waiter.holder.doing for waiter in by_name[KEY.name].queue] == ["c"]
    assert [waiter.holder.doing for waiter in by_name["other"].queue] == ["b"]


def test_no_token_is_told(line):
    line.queue("a", "b")
    answers = inquiry_of(line).list_held(queues=True)
    assert token_of("a") not in repr(list(answers))
    assert token_of("b") not in repr(list(answers))


def test_what_has_ended_is_not_listed(line):
    line.ask("a")
    line.expire()
    assert not inquiry_of(line).list_held()


def test_what_was_taken_away_by_hand_is_not_listed(line):
    line.ask("a")
    line.server.delete(line.name("lock"))
    assert not inquiry_of(line).list_held()


def test_what_was_taken_away_by_hand_does_not_move_the_others(line):
    names = ["one", "two", "three"]
    for number, name in enumerate(names):
        line.queue(f"h{number}", f"w{number}", key=Key(name))
    line.server.delete(line.name("lock", Key(names[1])))
    found = {each.name: each for each in inquiry_of(line).list_held(queues=True)}
    assert set(found) == {names[0], names[2]}
    for number in (0, 2):
        each = found[names[number]]
        assert each.holder.doing == f"h{number}"
        assert [waiter.holder.doing for waiter in each.queue] == [f"w{number}"]
    assert len({each.flow for each in found.values()}) == 2
    assert {each.name: each.waiters for each in inquiry_of(line).list_held()} == dict.fromkeys(found, 1)


def test_names_of_any_characters_come_back_as_they_are(lock_alias):
    names = ['a "quoted" \\ name', "<b>", "两个", "tab\tnew\nline", "{1}:lock:x", "\x00"]
    with lock_many(names):
        assert {found.name for found in held()} == set(names)


def test_several_keys_are_asked_about_at_once(lock_alias):
    with lock("b") as lease:
        free, taken = infos(["a", "b"])
    assert free is None
    assert (taken.key, taken.fence) == ("b", lease.fence)


# Several places


def test_an_alias_that_shares_its_place_with_another_is_not_shown_twice(lock_alias):
    with lock("a"):
        assert [(found.alias, found.name) for found in look().locks] == [("default", "a")]


def test_a_place_that_is_away_keeps_the_others_from_nothing(settings, lock_alias):
    settings.CACHES = settings.CACHES | {"away": cache_at("redis://:open-sesame@127.0.0.1:1/0")}
    settings.REDISLOCK = settings.REDISLOCK | {"second": {"CACHE": "away"}, "third": {"CACHE": "none"}}
    with lock("a"):
        overview = look()
    assert [found.name for found in overview.locks] == ["a"]
    assert set(overview.faults) == {"second", "third"}
    assert "open-sesame" not in str(overview.faults["second"])


def cache_at(url: str) -> dict[str, str]:
    return {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url}


# On the wire


@pytest.fixture
def wire(real_redis: str) -> Iterator[Proxy]:
    with proxy_to(settings.CACHES["real"]["LOCATION"]) as proxy:
        yield proxy


def behind(proxy: Proxy) -> Inquiry:
    pool = ConnectionPool.from_url(f"redis://{proxy.address}/0")
    return Inquiry(lambda: Redis(connection_pool=pool), scope="wire", prefix="")


def test_only_the_first_of_several_commands_brings_the_text(wire):
    client_of("real").script_flush()
    behind(wire).inspect([Key("a"), Key("b"), Key("c")])
    assert wire.seen == ["EVAL", "EVALSHA", "EVALSHA"]


class TestInPortions:
    @pytest.fixture
    def store(self, real_redis: str) -> RedisStore:
        return RedisStore(lambda: client_of(real_redis), scope="real", prefix="")

    @staticmethod
    def take(store: RedisStore, number: int) -> None:
        for place in range(number):
            store.acquire(Key(f"n{place}"), token=token_of("a"), ttl=30 + place / 1e3, holder=holder_of("a"))

    def test_a_thousand_at_a_time(self, store, wire):
        self.take(store, 2_100)
        found = behind(wire).list_held()
        assert [each.name for each in found] == [f"n{place}" for place in range(2_100)]
        assert wire.seen == ["EVAL"] * 3

    def test_those_that_expire_together_come_together(self, wire):
        with lock_many(map(str, range(1_500)), alias="real"):
            assert len(behind(wire).list_held()) == 1_500
        assert wire.seen == ["EVAL"] * 2

    def test_what_is_renewed_in_between_is_told_once_and_as_it_is_then(self, store, wire, monkeypatch):
        self.take(store, 1_100)
        ask_all = Inquiry._ask_all

        def renewing(self: Inquiry, *args: Any) -> Any:
            pages = ask_all(self, *args)
            store.renew(Key("n0"), token=token_of("a"), ttl=600)
            return pages

        monkeypatch.setattr(Inquiry, "_ask_all", renewing)
        found = behind(wire).list_held()
        assert len(found) == len({each.name for each in found}) == 1_100
        assert max(found, key=lambda each: each.remaining).name == "n0"


def test_no_key_is_searched_for(wire):
    client_of("real").config_resetstat()
    with lock("a", alias="real"):
        behind(wire).list_held(queues=True)
    used = {name.partition("_")[2] for name in client_of("real").info("commandstats")}
    assert used.isdisjoint({"keys", "scan"})
    assert "zrangebyscore" in used


def test_the_next_portion_has_left_before_the_answers_to_one_are_read(wire):
    events = list[str]()

    class Noted:
        """A connection; notes what goes over it."""

        def connect(self) -> None:
            events.append("connected")

        def send_packed_command(self, together: Sequence[bytes]) -> None:
            events.extend(["sent"] * b"".join(together).count(b"PING"))

        def read_response(self) -> None:
            events.append("read")

    inquiries.exchange(Noted(), [[b"PING"]] * 20, [lambda reply: reply] * 20)
    assert events == ["connected"] + ["sent"] * 16 + ["read"] * 8 + ["sent"] * 4 + ["read"] * 12


def test_a_server_that_is_away_is_told(wire):
    inquiry = behind(wire)
    wire.go_away()
    with pytest.raises(StoreUnavailable, match="what is held"):
        inquiry.list_held()


def test_what_the_server_refuses_is_an_answer(wire):
    wire.counted = frozenset()
    refused = behind(wire).server("CONFIG SET", "no-such-setting", "1")
    assert isinstance(refused, Refusal)
