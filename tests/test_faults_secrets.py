"""No error and no log line tells the password, although servers repeat what they do not understand."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock

import pytest
import redis
from django.conf import settings
from redis import ConnectionPool, Redis

from django_redislock import QuorumNotReached, StoreUnavailable
from django_redislock.keylock import KeyLock
from django_redislock.keys import Key
from django_redislock.steps import run
from django_redislock.stores.asking import settling
from django_redislock.stores.cluster import ClusterStore
from django_redislock.stores.clusterinquiry import ClusterInquiry
from django_redislock.stores.clusternodes import cluster_client
from django_redislock.stores.debts import NotNow
from django_redislock.stores.discretion import hush
from django_redislock.stores.inquiry import Inquiry
from django_redislock.stores.quorum import QuorumStore
from django_redislock.stores.quoruminquiry import QuorumInquiry
from django_redislock.stores.redis import RedisStore
from django_redislock.stores.redisnode import RedisNode
from django_redislock.stores.verbs import Verbs
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


def acquire(store: Any, inquiry: Any) -> None:
    store.acquire(Key("shelf"), token="t" * 16, ttl=30, holder="{}")


def list_held(store: Any, inquiry: Any) -> None:
    inquiry.list_held()


def list_servers(store: Any, inquiry: Any) -> None:
    inquiry.servers()


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


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("ask", [acquire, list_held, list_servers])
def test_a_cluster_does_not_tell_it_either(proxy, caplog, echo, ask):
    proxy.faults.extend([ECHOES[echo].encode()] * 20)
    url = f"redis://locker:{SECRET}@{proxy.address}/0"
    store = ClusterStore(lambda: cluster_client(url, startup=(), options={"socket_timeout": 1}), scope="c", prefix="")
    with caplog.at_level(logging.DEBUG), pytest.raises(StoreUnavailable) as caught:
        ask(store, ClusterInquiry(store.nodes, scope="c", prefix=""))
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + repr(caught.value.__cause__) + caplog.text


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("ask", [acquire, list_held])
def test_a_quorum_does_not_tell_it_either(proxy, caplog, echo, ask):
    proxy.faults.extend([ECHOES[echo].encode()] * 60)
    client = Redis(connection_pool=by_url(proxy))
    nodes = [RedisNode(lambda: client, scope=f"node {number}", prefix="", guard=60) for number in range(3)]
    store = QuorumStore(nodes, scope="q", guard=60)
    inquiries = [Inquiry(lambda: client, scope=node.scope, prefix="") for node in nodes]
    with caplog.at_level(logging.DEBUG), pytest.raises(QuorumNotReached) as caught:
        ask(store, QuorumInquiry(store, inquiries))
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + repr(caught.value.__cause__) + caplog.text


def test_a_refusal_of_what_is_owed_does_not_repeat_the_token():
    refusal = redis.ResponseError("unknown command 'EVALSHA', with args beginning with: 'a-token'")
    connection = Mock(**{"read_answer.side_effect": refusal})
    with pytest.raises(NotNow) as caught:
        run(settling(connection, Verbs("").leave(Key("a"), token="a-token")))
    assert str(caught.value) == "unknown command 'EVALSHA'"


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
