"""What our connections cost to open, and that they are such as the cache's pool makes otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis
from django.conf import settings
from redis import ConnectionPool, Redis

from django_redislock.keys import Key
from django_redislock.stores.loopmakers import connection_for_loop
from django_redislock.stores.loopstore import LoopStore
from django_redislock.stores.options import KNOWN, options_for_listening, options_for_questions
from django_redislock.stores.redis import RedisStore
from tests.faults import proxy_to
from tests.test_stores import PROTOCOLS, connect


def opening(**options: Any) -> list[str]:
    """What is said while one asks, and one listens, before they do: threads first, then tasks of a loop."""
    with proxy_to(settings.CACHES["real"]["LOCATION"]) as proxy:
        proxy.counted = frozenset()
        pool = ConnectionPool.from_url(f"redis://{proxy.address}", **options)
        store = RedisStore(lambda: Redis(connection_pool=pool), scope="options", prefix="", twin=LoopStore)

        async def ask() -> None:
            await store.twin.inspect(Key("a"))
            (await store.twin.ear("a" * 32)).close()

        store.inspect(Key("a"))
        store.ear("a" * 32).close()
        asyncio.run(ask())
        store.close()
        said = [word for word in proxy.seen if word not in {"EVALSHA", "EVAL"}]
    assert said.count("SUBSCRIBE") == 2
    return [word for word in said if word != "SUBSCRIBE"]


def test_a_connection_is_opened_without_a_question(real_redis):
    assert opening() == []


def test_what_the_cache_says_of_its_connections_is_said_of_ours(real_redis):
    assert opening(client_name="shop", db=1) == ["CLIENT", "SELECT"] * 4


@pytest.mark.skipif("maint_notifications_config" not in KNOWN, reason="this redis-py has none")
def test_notices_of_maintenance_are_not_asked_for(real_redis):
    assert opening(protocol=3) == ["HELLO"] * 2
    wanted = redis.maint_notifications.MaintNotificationsConfig(enabled=True)
    assert opening(protocol=3, maint_notifications_config=wanted) == ["HELLO"] * 2


@pytest.mark.skipif("driver_info" not in KNOWN, reason="this redis-py has none")
def test_who_tells_of_its_library_does_so(real_redis):
    assert opening(driver_info=redis.DriverInfo(name="shop")) == ["CLIENT", "CLIENT"] * 4


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("make", [lambda pool, options: pool.connection_class(**options), connection_for_loop])
def test_the_protocol_that_is_set_is_that_of_questions(make: Callable[..., Any], protocol):
    pool = connect("real", protocol=protocol).connection_pool
    assert make(pool, options_for_questions(pool)).protocol == protocol
    assert make(pool, options_for_listening(pool)).protocol == 2


@pytest.mark.parametrize(
    "options", [{}, {"encoding": "latin-1"}, {"encoding": "latin-1", "decode_responses": True}], ids=str
)
def test_what_scripts_say_is_text_whatever_the_cache_has(real_redis, options):
    client = connect("real", **options)
    store = RedisStore(lambda: client, scope="options", prefix="", twin=LoopStore)
    asked: dict[str, Any] = {"token": "a" * 32, "ttl": 60, "holder": '["Büro",1,"MainThread",""]'}

    async def holder() -> Any:
        return (await store.twin.inspect(Key("Schlüssel"))).holder

    store.acquire(Key("Schlüssel"), **asked)
    assert store.inspect(Key("Schlüssel")).holder.host == "Büro"
    assert asyncio.run(holder()).host == "Büro"
    store.close()
