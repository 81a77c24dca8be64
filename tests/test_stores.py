"""The contract of a store, in this process' memory and on a real server, and what it does when that server fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from django.conf import settings
from django.core.cache import caches
from django_redis import get_redis_connection
from redis import ConnectionPool, Redis
from redis.cluster import RedisCluster
from redis.exceptions import ConnectionError, RedisError, TimeoutError

from django_redislock import StoreUnavailable
from django_redislock.holder import Holder
from django_redislock.keys import Key, bucket_of
from django_redislock.seconds import LONGEST_TTL, SHORTEST_TTL
from django_redislock.stores.base import Answer, Held, Taken
from django_redislock.stores.cluster import ClusterStore
from django_redislock.stores.clusternodes import cluster_client
from django_redislock.stores.redis import RedisStore
from django_redislock.stores.scripts import Script
from django_redislock.stores.straight import Straight
from django_redislock.stores.verbs import ACQUIRE, INSPECT, RELEASE, RENEW, Call
from tests.faults import Fault, Proxy, proxy_to
from tests.flows import client_of

KEY = Key("shelf")
OURS, THEIRS = "token-of-ours", "token-of-theirs"
US = Holder(host="web-1", pid=42, thread="MainThread", doing="manage.py migrate")
US_AS_TEXT = '["web-1",42,"MainThread","manage.py migrate"]'
SECRET = "hunter2"

PROTOCOLS = (2, 3) if redis.VERSION >= (5,) else ()  # before, clients knew only one
MANNERS: list[dict[str, Any]] = [{"decode_responses": True}, *({"protocol": number} for number in PROTOCOLS)]


def connect(alias: str, **options: Any) -> Redis:
    """A client of the cache's server, with a pool of its own."""
    cache = settings.CACHES[alias]
    pool = cache["OPTIONS"]["CONNECTION_POOL_KWARGS"] | options
    return Redis(connection_pool=ConnectionPool.from_url(cache["LOCATION"], **pool))


AnyStore = RedisStore | ClusterStore


def store_of(alias: str, *, prefix: str = "", **options: Any) -> AnyStore:
    if alias == "cluster":
        url = settings.CACHES["cluster"]["LOCATION"]
        return ClusterStore(
            lambda: cluster_client(url, startup=(), options={"socket_timeout": 5, **options}),
            scope=alias,
            prefix=prefix,
        )
    if alias == "watched":
        return RedisStore(lambda: get_redis_connection(alias), scope=alias, prefix=prefix)
    return RedisStore(lambda: connect(alias, **options), scope=alias, prefix=prefix)


@pytest.fixture(params=["fake", "real", "socket", "tls", "cluster", "watched"])
def place(request: pytest.FixtureRequest) -> str:
    """A cache on each kind of Redis, empty at the start."""
    alias: str = request.param
    if alias in MADE_BY:
        request.getfixturevalue(MADE_BY[alias])
    elif alias == "real":
        request.getfixturevalue("real_redis")
    else:
        caches[alias].clear()
    return alias


MADE_BY = {"socket": "doors", "tls": "doors", "cluster": "cluster", "watched": "sentinels"}


@pytest.fixture
def store(place: str) -> AnyStore:
    return store_of(place)


@pytest.fixture
def server(place: str) -> Any:
    """What is in Redis, without our code."""
    return get_redis_connection(place)


def keys_of(server: Any, pattern: str = "*") -> list[bytes]:
    """All keys there are, on whatever node."""
    everywhere = {"target_nodes": RedisCluster.PRIMARIES} if isinstance(server, RedisCluster) else {}
    keys: list[bytes] = server.keys(pattern, **everywhere)
    return keys


def take(store: AnyStore, token: str = OURS, *, key: Key = KEY, ttl: float = 30) -> Taken | Held:
    answer = store.acquire(key, token=token, ttl=ttl, holder=US_AS_TEXT)
    assert isinstance(answer, Taken | Held)
    return answer


def fence_of(answer: Taken | Held | None) -> int:
    assert answer is not None
    return answer.fence


def lock_key(key: Key = KEY) -> str:
    return f"redislock:{{{bucket_of(key.name)}}}:lock:{key.name}"


def beside(server: Any, key: Key, what: str) -> str:
    """A key in Redis that locks share: those of a bucket in a cluster, else all."""
    return f"redislock:{{{bucket_of(key.name)}}}:{what}" if isinstance(server, RedisCluster) else f"redislock:{what}"


def neighbours(count: int) -> list[Key]:
    """Keys of one bucket."""
    names = (f"shelf-{number}" for number in range(10_000))
    return [Key(name) for name in names if bucket_of(name) == 0][:count]


def expire(server: Any, key: Key = KEY) -> None:
    """The time of the lock is over."""
    server.pexpireat(lock_key(key), 1)
    server.zadd(beside(server, key, "held"), {lock_key(key): 1})


def held_names(server: Any, key: Key) -> set[str]:
    keys = {name.decode() for name in server.zrange(beside(server, key, "held"), 0, -1)}
    return {name.partition(":lock:")[2] for name in keys}


# Taking and giving back


def test_a_free_key_is_taken(store):
    answer = take(store)
    assert isinstance(answer, Taken)
    assert answer.fence > 0


def test_a_held_key_tells_who_holds_it(store):
    fence = fence_of(take(store))
    answer = take(store, THEIRS)
    assert isinstance(answer, Held)
    assert (answer.holder, answer.fence) == (US, fence)


@pytest.mark.parametrize("ask", [lambda store: take(store, THEIRS), lambda store: store.inspect(KEY)])
def test_a_held_key_tells_since_when_and_for_how_long(store, server, ask):
    before = seconds_of(server)
    take(store, ttl=30)
    answer = ask(store)
    after = seconds_of(server)
    assert before <= answer.since <= after
    assert 0 <= answer.held_for <= after - before
    assert 30 - (after - before) - 0.002 <= answer.remaining <= 30


def seconds_of(server: Any) -> float:
    """The server's clock."""
    answer = server.time()
    seconds, microseconds = next(iter(answer.values())) if isinstance(answer, dict) else answer
    return float((seconds * 1_000_000 + microseconds) / 1e6)


def test_a_free_key_is_nobodys(store):
    assert store.inspect(KEY) is None


def test_a_released_key_is_free(store):
    take(store)
    assert store.release(KEY, token=OURS, ttl=60) is Answer.DONE
    assert store.inspect(KEY) is None
    assert isinstance(take(store, THEIRS), Taken)


@pytest.mark.parametrize(
    "ask", [lambda store: store.release(KEY, token=OURS, ttl=60), lambda store: store.renew(KEY, token=OURS, ttl=60)]
)
def test_gone_and_anothers_are_told_apart(store, ask):
    assert ask(store) is Answer.GONE
    fence = fence_of(take(store, THEIRS))
    assert ask(store) is Answer.ANOTHERS
    assert fence_of(store.inspect(KEY)) == fence


@pytest.mark.parametrize("part", [OURS[:-1], f"{OURS}x", "token-of", OURS.upper(), "*", ".*", "%S+"])
def test_only_the_whole_token_owns(store, part):
    take(store)
    assert store.release(KEY, token=part, ttl=60) is Answer.ANOTHERS
    assert store.renew(KEY, token=part, ttl=60) is Answer.ANOTHERS
    assert isinstance(take(store, part), Held)


def test_renewing_keeps_it(store):
    take(store, ttl=5)
    assert store.renew(KEY, token=OURS, ttl=60) is Answer.DONE
    assert 30 < store.inspect(KEY).remaining <= 60


def test_renewing_may_shorten(store):
    take(store, ttl=60)
    store.renew(KEY, token=OURS, ttl=5)
    assert store.inspect(KEY).remaining <= 5


def test_renewing_keeps_the_fence_and_the_holder(store):
    take(store)
    before = store.inspect(KEY)
    store.renew(KEY, token=OURS, ttl=60)
    after = store.inspect(KEY)
    assert (after.holder, after.fence, after.since) == (before.holder, before.fence, before.since)


def test_an_expired_lock_is_gone(store, server):
    take(store)
    expire(server)
    assert store.inspect(KEY) is None
    assert store.release(KEY, token=OURS, ttl=60) is Answer.GONE


def test_renewing_brings_nothing_back(store, server):
    take(store)
    expire(server)
    assert store.renew(KEY, token=OURS, ttl=60) is Answer.GONE
    assert store.inspect(KEY) is None
    assert server.exists(lock_key()) == 0


def test_a_late_owner_leaves_the_new_one_alone(store, server):
    take(store)
    expire(server)
    fence = fence_of(take(store, THEIRS))
    assert store.renew(KEY, token=OURS, ttl=600) is Answer.ANOTHERS
    assert store.release(KEY, token=OURS, ttl=60) is Answer.ANOTHERS
    assert fence_of(store.inspect(KEY)) == fence


def test_keys_do_not_touch_each_other(store):
    one, other = neighbours(2)
    take(store, key=one)
    assert isinstance(take(store, THEIRS, key=other), Taken)
    assert store.release(one, token=THEIRS, ttl=60) is Answer.ANOTHERS


# The same answer when sent twice


def test_acquiring_twice_with_one_token_is_one_acquisition(store):
    assert take(store) == take(store)
    store.release(KEY, token=OURS, ttl=60)
    assert store.inspect(KEY) is None


def test_being_refused_twice_is_the_same_refusal(store):
    take(store)
    first, second = take(store, THEIRS), take(store, THEIRS)
    assert isinstance(first, Held)
    assert isinstance(second, Held)
    assert (first.fence, first.holder, first.since) == (second.fence, second.holder, second.since)


def test_releasing_twice_is_answered_alike(store):
    take(store)
    assert [store.release(KEY, token=OURS, ttl=60) for _ in range(3)] == [Answer.DONE] * 3


def test_a_release_sent_again_after_another_took_the_key_frees_nothing(store):
    take(store)
    store.release(KEY, token=OURS, ttl=60)
    fence = fence_of(take(store, THEIRS))
    assert store.release(KEY, token=OURS, ttl=60) is Answer.DONE
    assert fence_of(store.inspect(KEY)) == fence


def test_a_refused_release_is_refused_again(store):
    take(store, THEIRS)
    assert [store.release(KEY, token=OURS, ttl=60) for _ in range(2)] == [Answer.ANOTHERS] * 2


@pytest.mark.parametrize(("owner", "answer"), [(OURS, Answer.DONE), (THEIRS, Answer.ANOTHERS), (None, Answer.GONE)])
def test_renewing_twice_is_answered_alike(store, owner, answer):
    if owner:
        take(store, owner)
    assert [store.renew(KEY, token=OURS, ttl=60) for _ in range(2)] == [answer] * 2


# Fences


def fences(store: AnyStore, count: int = 5) -> Iterator[int]:
    """The fences of successive owners."""
    for number in range(count):
        yield fence_of(take(store, f"token-{number}"))
        store.release(KEY, token=f"token-{number}", ttl=60)


def assert_growing(numbers: list[int]) -> None:
    assert numbers == sorted(set(numbers))


def test_fences_grow_with_every_owner(store):
    assert_growing(list(fences(store)))


def test_fences_grow_after_expiry(store, server):
    first = fence_of(take(store))
    expire(server)
    assert fence_of(take(store, THEIRS)) > first


def test_fences_grow_although_everything_was_flushed(store, server):
    before = list(fences(store))
    server.flushall()
    assert_growing(before + list(fences(store)))


def test_fences_grow_although_the_servers_clock_was_set_back(store, server):
    last = 2 * fence_of(take(store))
    store.release(KEY, token=OURS, ttl=60)
    server.set(beside(server, KEY, "fence"), last)
    assert list(fences(store, 3)) == [last + 1, last + 2, last + 3]


def test_a_refusal_uses_no_fence_up(store, server):
    take(store)
    before = server.get(beside(server, KEY, "fence"))
    take(store, THEIRS)
    take(store)
    assert server.get(beside(server, KEY, "fence")) == before


def test_fences_are_microseconds_of_the_servers_clock(store, server):
    before, fence, after = seconds_of(server), fence_of(take(store)), seconds_of(server)
    assert before <= fence / 1e6 <= after


# What is left in Redis


def test_the_index_names_what_is_held(store, server):
    one, two, three = neighbours(3)
    for key in (one, two, three):
        take(store, key=key)
    store.release(two, token=OURS, ttl=60)
    store.renew(three, token=OURS, ttl=60)
    assert held_names(server, one) == {one.name, three.name}


def test_the_index_forgets_what_has_expired(store, server):
    one, two = neighbours(2)
    take(store, key=one)
    expire(server, one)
    take(store, key=two)
    assert held_names(server, one) == {two.name}


def test_the_index_knows_when_a_lock_ends(store, server):
    before = seconds_of(server)
    take(store, ttl=30)
    after = seconds_of(server)
    end = server.zscore(beside(server, KEY, "held"), lock_key()) / 1e3 - 30
    assert before - 0.001 <= end <= after
    store.renew(KEY, token=OURS, ttl=60)
    assert server.zscore(beside(server, KEY, "held"), lock_key()) / 1e3 - 60 >= after - 0.001


def test_the_index_goes_with_the_last_lock(store, server):
    take(store)
    store.release(KEY, token=OURS, ttl=60)
    assert server.exists(beside(server, KEY, "held"), lock_key()) == 0


@pytest.mark.parametrize("order", [(5, 600), (600, 5)])
def test_the_index_lives_as_long_as_its_longest_lock(store, server, order):
    keys = neighbours(2)
    for key, ttl in zip(keys, order, strict=True):
        take(store, key=key, ttl=ttl)
    assert server.pttl(beside(server, keys[0], "held")) > 300_000


def test_an_index_of_what_has_expired_does_not_make_the_next_lock_immortal_in_it(store, server):
    long, short, next_one = neighbours(3)
    take(store, key=long, ttl=600)
    take(store, key=short, ttl=5)
    store.release(long, token=OURS, ttl=60)
    expire(server, short)
    take(store, key=next_one, ttl=30)
    assert held_names(server, short) == {next_one.name}
    assert server.pttl(beside(server, short, "held")) > 0


@pytest.mark.parametrize(("ttl", "longest"), [(5, 5_000), (600, 10_000)])
@pytest.mark.parametrize("several", [False, True])
def test_the_note_of_a_release_lives_for_10_s_or_for_a_ttl_that_is_shorter(store, server, ttl, longest, several):
    take(store, ttl=ttl)
    if several:
        store.release_many([KEY], token=OURS, ttl=ttl)
    else:
        store.release(KEY, token=OURS, ttl=ttl)
    (note,) = server.scan_iter("*:released:*")
    assert longest / 2 < server.pttl(note) <= longest


def test_the_index_lives_as_long_as_a_lock_that_was_renewed(store, server):
    take(store, ttl=5)
    store.renew(KEY, token=OURS, ttl=600)
    assert server.pttl(beside(server, KEY, "held")) > 300_000


def test_every_key_expires_but_the_fences(store, server):
    for number in range(20):
        take(store, key=Key(f"shelf-{number}"))
        store.renew(Key(f"shelf-{number}"), token=OURS, ttl=60)
    store.release(Key("shelf-3"), token=OURS, ttl=60)
    kept = {key for key in keys_of(server) if server.pttl(key) < 0}
    assert {key.rpartition(b":")[2] for key in kept} == {b"fence"}
    assert all(server.pttl(key) <= 60_000 for key in keys_of(server))


def test_the_fences_are_bounded(store, server):
    for number in range(500):
        take(store, key=Key(f"shelf-{number}"))
        store.release(Key(f"shelf-{number}"), token=OURS, ttl=60)
    assert len(keys_of(server, "*:fence")) <= 64


def test_nothing_is_written_by_looking(store, server):
    store.inspect(KEY)
    store.release(KEY, token=OURS, ttl=60)
    store.renew(KEY, token=OURS, ttl=60)
    assert keys_of(server) == []


@pytest.mark.parametrize("ask", [lambda store: take(store, THEIRS), lambda store: store.inspect(KEY)])
def test_the_token_is_never_answered(store, ask):
    take(store)
    assert OURS not in repr(ask(store))


# Clients, names and bounds


@pytest.mark.parametrize("options", MANNERS, ids=str)
def test_every_manner_of_client_is_understood(place, options):
    store = store_of(place, **options)
    fence = fence_of(take(store))
    assert take(store, THEIRS).holder == US
    assert fence_of(store.inspect(KEY)) == fence
    assert store.renew(KEY, token=OURS, ttl=60) is Answer.DONE
    assert store.release(KEY, token=OURS, ttl=60) is Answer.DONE
    assert store.inspect(KEY) is None


def test_what_gives_a_key_back_is_made_while_the_answer_is_on_its_way(place, monkeypatch):
    store, make = store_of(place), Call.__init__
    made: list[Any] = []
    take(store, key=Key("another of " + KEY.name))  # so there is a connection

    def noting(call: Call[Any], script: Script, *what: Any, **how: Any) -> None:
        made.append(script)
        make(call, script, *what, **how)

    monkeypatch.setattr(Call, "__init__", noting)
    asked: dict[str, Any] = {"token": OURS, "ttl": 60, "holder": US_AS_TEXT}
    assert isinstance(store.acquire(KEY, **asked, meanwhile=lambda: made.append("meanwhile")), Taken)
    assert made == [ACQUIRE, RELEASE, "meanwhile"]
    assert store.release(KEY, token=OURS, ttl=60) is Answer.DONE
    assert made[3:] == []


def test_a_prefix_stands_in_front_of_every_key(place, server):
    store = store_of(place, prefix="shop")
    take(store)
    store.release(KEY, token=OURS, ttl=60)
    take(store)
    assert {key[: len("shop:redislock:")] for key in keys_of(server)} == {b"shop:redislock:"}


def test_prefixes_keep_locks_apart(place, store):
    take(store)
    assert isinstance(take(store_of(place, prefix="shop"), THEIRS), Taken)
    assert isinstance(take(store_of(place, prefix="shop"), OURS), Held)


@pytest.mark.parametrize(
    "name", ["a b", "größe 日本 🔒", "{tag}", "a}b{c", "two\nlines", "nul\0", "%s %d", "x" * 10_000]
)
def test_odd_names_are_names(store, server, name):
    key = Key(name)
    take(store, key=key)
    assert isinstance(take(store, THEIRS, key=key), Held)
    assert held_names(server, key) == {name}
    assert store.release(key, token=OURS, ttl=60) is Answer.DONE


@pytest.mark.parametrize("doing", ["", "a b", "x 1 2 y", "größe 🔒", 'say "hi" \\', "nul\0", "two\nlines", "%d(.*)$"])
def test_odd_holders_are_told_as_they_are(store, doing):
    holder = Holder(host="web-1", pid=42, thread="MainThread", doing=doing)
    store.acquire(KEY, token=OURS, ttl=30, holder=as_text(holder))
    assert store.inspect(KEY).holder == holder


def as_text(holder: Holder) -> str:
    return json.dumps([holder.host, holder.pid, holder.thread, holder.doing], ensure_ascii=False)


def test_the_shortest_ttl_is_taken(store, server):
    assert isinstance(take(store, ttl=SHORTEST_TTL), Taken)
    assert server.pttl(lock_key()) <= 10
    assert store.renew(KEY, token=OURS, ttl=SHORTEST_TTL) in {Answer.DONE, Answer.GONE}


def test_the_longest_ttl_is_taken(store, server):
    take(store, ttl=LONGEST_TTL)
    assert store.renew(KEY, token=OURS, ttl=LONGEST_TTL) is Answer.DONE
    assert LONGEST_TTL - 60 < store.inspect(KEY).remaining <= LONGEST_TTL
    assert server.pttl(beside(server, KEY, "held")) > 1e15 - 60_000


def test_threads_get_their_own_answers(store):
    def use(number: int) -> bool:
        key, token = Key(f"shelf-{number}"), f"token-{number}"
        fence = fence_of(take(store, token, key=key))
        return fence == fence_of(store.inspect(key)) and store.release(key, token=token, ttl=60) is Answer.DONE

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(200)))


# A server that fails

Verb = Callable[[AnyStore], Any]

VERBS: dict[str, Verb] = {
    "acquire": take,
    "release": lambda store: store.release(KEY, token=OURS, ttl=60),
    "renew": lambda store: store.renew(KEY, token=OURS, ttl=60),
    "inspect": lambda store: store.inspect(KEY),
}

every_verb = pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)


@pytest.fixture
def real_server(real_redis: str) -> Any:
    """A real server that knows the scripts."""
    server = get_redis_connection(real_redis)
    for script in (ACQUIRE, RELEASE, RENEW, INSPECT):
        server.script_load(script.source)
    return server


@pytest.fixture
def proxy(real_server: Any) -> Iterator[Proxy]:
    """Fails on demand in front of the real server."""
    with proxy_to(settings.CACHES["real"]["LOCATION"]) as proxy:
        yield proxy


@pytest.fixture
def faulty(proxy: Proxy, real_server: Any) -> Iterator[RedisStore]:
    """A store behind the proxy, with a user and a password."""
    real_server.acl_setuser("locker", enabled=True, passwords=[f"+{SECRET}"], keys=["*"], commands=["+@all"])
    yield behind(proxy)
    real_server.acl_deluser("locker")


def behind(proxy: Proxy, *, password: str = SECRET) -> RedisStore:
    """The same pool as django-redis would make."""
    pool = ConnectionPool.from_url(f"redis://locker:{password}@{proxy.address}/0", socket_timeout=0.6)
    return RedisStore(lambda: Redis(connection_pool=pool), scope="faulty", prefix="")


def refused(verb: Verb, store: AnyStore) -> StoreUnavailable:
    """The error, which is what it should be and no other, and gives no password away."""
    with pytest.raises(StoreUnavailable) as caught:
        verb(store)
    error = caught.value
    assert (type(error), error.key) == (StoreUnavailable, "shelf")
    assert isinstance(error.__cause__, RedisError | OSError)
    assert SECRET not in f"{error} {error!r} {error.__cause__} {error.__cause__!r}"
    return error


def test_a_lost_reply_of_acquire_is_one_acquisition(proxy, faulty, real_server):
    proxy.faults.append(Fault.LOSE_REPLY)
    fence = fence_of(take(faulty))
    assert proxy.seen == ["EVALSHA"] * 2
    assert fence_of(faulty.inspect(KEY)) == fence == int(real_server.get(beside(real_server, KEY, "fence")))
    assert faulty.release(KEY, token=OURS, ttl=60) is Answer.DONE
    assert faulty.inspect(KEY) is None


def test_a_lost_reply_of_release_is_a_release(proxy, faulty):
    take(faulty)
    proxy.faults.append(Fault.LOSE_REPLY)
    assert faulty.release(KEY, token=OURS, ttl=60) is Answer.DONE
    assert faulty.inspect(KEY) is None


@pytest.mark.parametrize("fault", [Fault.LOSE_REPLY, Fault.LOSE_QUESTION])
@every_verb
def test_a_cut_connection_changes_no_answer(proxy, faulty, verb, fault):
    take(faulty)
    proxy.faults.append(fault)
    answer = verb(faulty)
    assert answer is Answer.DONE or fence_of(answer) == fence_of(take(faulty))


def test_a_lost_refusal_is_a_refusal(proxy, faulty):
    take(faulty, THEIRS)
    proxy.faults.append(Fault.LOSE_REPLY)
    assert isinstance(take(faulty), Held)


def test_a_reply_that_is_lost_while_the_script_is_sent_is_one_acquisition(proxy, faulty, real_server):
    real_server.script_flush()
    proxy.faults.extend([Fault.NONE, Fault.LOSE_REPLY])
    fence = fence_of(take(faulty))
    assert proxy.seen == ["EVALSHA", "EVAL", "EVALSHA"]
    assert fence_of(faulty.inspect(KEY)) == fence


@every_verb
def test_a_server_that_has_restarted_is_asked_again(proxy, faulty, verb):
    take(faulty)
    proxy.cut()
    verb(faulty)


@every_verb
def test_replies_that_keep_getting_lost_are_a_fault(proxy, faulty, verb):
    proxy.faults.extend([Fault.LOSE_REPLY] * 2)
    assert isinstance(refused(verb, faulty).__cause__, ConnectionError)
    assert proxy.seen.count("EVALSHA") == 2


@every_verb
def test_a_server_that_is_away_is_a_fault_and_never_busy(proxy, faulty, verb):
    take(faulty, THEIRS)
    proxy.go_away()
    assert isinstance(refused(verb, faulty).__cause__, ConnectionError)


@every_verb
def test_a_server_that_was_never_there_is_a_fault(proxy, faulty, verb):
    proxy.go_away()
    assert isinstance(refused(verb, faulty).__cause__, ConnectionError)


@every_verb
def test_a_server_that_hangs_is_waited_for_once(proxy, faulty, verb):
    proxy.faults.append(Fault.HANG)
    assert isinstance(refused(verb, faulty).__cause__, TimeoutError)
    assert proxy.seen == ["EVALSHA"]


def test_a_server_that_hangs_at_the_greeting_is_waited_for_once(proxy, faulty):
    proxy.counted = frozenset()
    proxy.faults.append(Fault.HANG)
    assert isinstance(refused(take, faulty).__cause__, TimeoutError)
    assert len(proxy.seen) == 1


def test_after_a_fault_the_next_answer_is_the_right_one(proxy, faulty):
    proxy.faults.append(Fault.HANG)
    refused(take, faulty)
    assert faulty.inspect(KEY) is None
    assert isinstance(take(faulty), Taken)


@every_verb
@pytest.mark.parametrize(
    "reply",
    [
        "NOAUTH Authentication required.",
        "NOPERM this user has no permissions to run the 'evalsha' command",
        "READONLY You can't write against a read only replica.",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "CLUSTERDOWN The cluster is down",
        "MOVED 3999 127.0.0.1:6381",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "MISCONF Errors writing to the AOF file: No space left on device",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "ERR unknown command 'EVALSHA'",
    ],
    ids=lambda reply: reply.partition(" ")[0],
)
def test_an_error_of_the_server_is_a_fault_and_never_busy(proxy, faulty, verb, reply):
    take(faulty, THEIRS)
    proxy.faults.extend([f"-{reply}\r\n".encode()] * 2)
    assert isinstance(refused(verb, faulty).__cause__, RedisError)


def test_what_is_no_redis_is_a_fault(proxy, faulty):
    proxy.faults.extend([b"HTTP/1.1 400 Bad Request\r\n\r\n"] * 2)
    refused(take, faulty)


@pytest.mark.parametrize("password", ["wrong-hunter2", "hunter2-wrong"])
def test_a_wrong_password_is_a_fault_and_is_not_told(proxy, faulty, password):
    refused(take, behind(proxy, password=password))


@every_verb
def test_a_question_that_was_interrupted_leaves_no_answer_behind(faulty, monkeypatch, verb):
    """A signal's exception may come between the question and the answer."""

    def interrupt(self: Straight) -> None:
        raise KeyboardInterrupt

    take(faulty)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Straight, "read_answer", interrupt)
        verb(faulty)
    assert isinstance(take(faulty, key=Key("other")), Taken)
    assert faulty.inspect(Key("another")) is None
    assert faulty.release(Key("other"), token=OURS, ttl=60) is Answer.DONE


def test_a_question_is_answered_although_every_idle_connection_was_closed(real_redis):
    """As after a restart of the server."""
    store = RedisStore(lambda: client_of(real_redis), scope="real", prefix="")
    store.inspect(KEY)
    connections: Any = store._connections
    idle = [connections.take() for _ in range(4)]
    for connection in idle:
        connection.connect()
        connections.give(connection)
    client_of(real_redis).client_kill_filter(_type="normal", skipme=True)
    for _ in idle:
        assert store.inspect(KEY) is None
