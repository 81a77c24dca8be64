"""No error and no log line tells the password, although servers repeat what they do not understand."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator

import pytest
import redis
from django.conf import settings
from redis import ConnectionPool, Redis

from django_redislock import StoreUnavailable
from django_redislock.keylock import KeyLock
from django_redislock.keys import Key
from django_redislock.stores.discretion import hush
from django_redislock.stores.redis import RedisStore
from tests.faults import Proxy, proxy_to
from tests.flows import until

SECRET = "hunter2"
ECHOES = {
    "6": f"-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `locker`, `{SECRET}`, \r\n",
    "7": f"-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'locker' '{SECRET}' \r\n",
    "a proxy": f"-ERR bad request: HELLO 3 AUTH locker {SECRET}\r\n",
    "the old AUTH": f"-ERR unknown command 'AUTH', with args beginning with: 'locker' '{SECRET}' \r\n",
}


@pytest.fixture
def proxy(real_redis: str) -> Iterator[Proxy]:
    """Says what old servers say when a client greets them."""
    with proxy_to(settings.CACHES[real_redis]["LOCATION"]) as proxy:
        proxy.counted = frozenset({"HELLO", "AUTH"})
        yield proxy


def by_url(proxy: Proxy) -> ConnectionPool:
    return ConnectionPool.from_url(f"redis://locker:{SECRET}@{proxy.address}/0", socket_timeout=1)


def by_provider(proxy: Proxy) -> ConnectionPool:
    provider = redis.UsernamePasswordCredentialProvider("locker", SECRET)
    return ConnectionPool.from_url(f"redis://{proxy.address}/0", credential_provider=provider, socket_timeout=1)


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("pool", [by_url, by_provider])
@pytest.mark.parametrize("wait", [0, 1])
def test_what_the_server_repeats_is_not_told(proxy, caplog, echo, pool: Callable[[Proxy], ConnectionPool], wait):
    proxy.faults.extend([ECHOES[echo].encode()] * 20)
    store = RedisStore(lambda: Redis(connection_pool=pool(proxy)), scope="faulty", prefix="")
    with caplog.at_level(logging.DEBUG), pytest.raises(StoreUnavailable) as caught:
        KeyLock(store, Key("shelf")).acquire(flow="f" * 16, ttl=30, wait=wait)
    assert "Redis could not be asked about shelf" in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + repr(caught.value.__cause__) + caplog.text


@pytest.mark.parametrize("echo", ECHOES)
def test_the_wake_up_connection_does_not_tell_it_either(proxy, caplog, echo):
    store = RedisStore(lambda: Redis(connection_pool=by_url(proxy)), scope="faulty", prefix="")
    proxy.faults.extend([ECHOES[echo].encode()] * 20)
    with caplog.at_level(logging.DEBUG):
        store.ear("t", within=0).close()
        until(lambda: "The wake-up connection broke" in caplog.text)
    assert SECRET not in caplog.text


def error_of(text: str) -> Exception:
    """An error that another one led to."""
    inner = OSError(111, text)
    try:
        try:
            raise inner
        except OSError:
            raise redis.ConnectionError(text)  # noqa: B904 - the client does so, too
    except redis.ConnectionError as error:
        return error


def test_those_that_led_to_it_are_quiet_as_well():
    error = hush(error_of(f"refused for {SECRET}"), [SECRET])
    assert (str(error), error.__context__.args) == ("refused for ***", (111, "refused for ***"))


def test_an_error_that_tells_nothing_stays_as_it_is():
    error = error_of("refused")
    args = error.args
    assert hush(error, [SECRET]).args is args


def test_a_question_that_is_repeated_is_cut_off():
    text = "unknown command 'FOO', with args beginning with: 'a' 'b'\nand so on"
    assert str(hush(ValueError(text), [])) == "unknown command 'FOO'"
