"""Plain connections that read answers past redis-py's layers, and leave to it what is not a plain answer."""

from __future__ import annotations

import gc
import os
import random
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Timer
from typing import Any
from unittest.mock import Mock
from weakref import ref

import pytest
import redis
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import NoScriptError
from redis.sentinel import SentinelManagedConnection

from django_redislock import lock
from django_redislock.handler import locks
from django_redislock.stores import straight
from django_redislock.stores.straight import Straight, straightened

pytest.importorskip("hiredis")


class Wire:
    """A connection, and the other end of it."""

    def __init__(self, **options: Any) -> None:
        ours, self.server = socket.socketpair()
        self.connection = straightened(Connection)(**options)
        ours.settimeout(self.connection.socket_timeout)
        self.connection._sock = ours
        self.connection._parser.on_connect(self.connection)

    def answer(self, said: bytes) -> Any:
        """What is read when the server says this."""
        self.server.sendall(said)
        return self.connection.read_answer()

    def close(self) -> None:
        self.connection.disconnect()
        self.server.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire(socket_timeout=0.05)
    yield made
    made.close()


@pytest.fixture
def redis_pys_own(monkeypatch) -> list[str]:
    """Notes what is left to redis-py."""
    read, noted = Connection.read_response, []

    def note(connection: Connection, **how: Any) -> Any:
        noted.append("read")
        return read(connection, **how)

    monkeypatch.setattr(Connection, "read_response", note)
    return noted


def test_what_the_system_takes_at_once_is_sent_at_once(wire, monkeypatch):
    monkeypatch.setattr(Connection, "send_packed_command", pytest.fail)
    wire.connection.send_packed_command([b"*1\r\n$4\r\nPING\r\n"])
    assert wire.server.recv(100) == b"*1\r\n$4\r\nPING\r\n"


@pytest.mark.parametrize(("error", "told"), [(TimeoutError, redis.TimeoutError), (OSError, redis.ConnectionError)])
def test_sockets_that_are_written_in_python_fail_as_the_systems(wire, error, told):
    gevents: dict[str, Any] = {"__name__": "gevent._socket3", "error": error}
    exec("def recv(size): raise error('from the hub')", gevents)
    wire.connection._sock.close()
    wire.connection._sock = Mock(recv=gevents["recv"])
    with pytest.raises(told):
        wire.connection.read_answer()


def test_the_rest_of_what_it_does_not_take_is_sent_by_redis_py():
    wire = Wire(socket_timeout=20)
    told = random.randbytes(3_000_000)
    with ThreadPoolExecutor(1) as elsewhere, wire.server.makefile("rb") as heard:
        said = elsewhere.submit(heard.read, len(told) + 3)
        wire.connection.send_packed_command([told])
        wire.connection.send_packed_command([b"a", b"bc"])
        assert said.result() == told + b"abc"
    wire.close()


def test_nobody_at_the_other_end_is_a_lost_connection(wire):
    wire.server.close()
    with pytest.raises(redis.ConnectionError):
        wire.connection.send_packed_command([b"*1\r\n$4\r\nPING\r\n"])
    assert wire.connection._sock is None


def test_what_was_sent_when_a_signals_handler_raises_is_not_sent_again(wire, monkeypatch):
    """Its answer would be taken for that to the next question."""

    def write_and_ring(*args: Any) -> int:
        write(*args)
        raise TimeoutError("the work has taken too long")

    write = os.write
    monkeypatch.setattr(os, "write", write_and_ring)
    with pytest.raises(TimeoutError, match="too long"):
        wire.connection.send_packed_command([b"*1\r\n$4\r\nPING\r\n"])
    assert wire.connection._sock is None
    assert wire.server.recv(100) == b"*1\r\n$4\r\nPING\r\n"


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b":-1\r\n", -1),
        (b"*2\r\n:1\r\n:1700000000000000\r\n", [1, 1_700_000_000_000_000]),
        (b"$3\r\n132\r\n", b"132"),
        (b"$-1\r\n", None),
        (b"*-1\r\n", None),
    ],
)
def test_an_answer_is_read_at_once(wire, redis_pys_own, said, answer):
    assert wire.answer(said) == answer
    assert redis_pys_own == []


def test_an_answer_is_decoded_where_the_cache_says_so():
    wire = Wire(decode_responses=True)
    assert wire.answer(b"$3\r\n132\r\n") == "132"
    wire.close()


def test_an_answer_that_comes_in_parts_is_waited_for(wire, redis_pys_own):
    Timer(0.01, wire.server.sendall, [b"2\r\n:3\r\n"]).start()
    assert wire.answer(b"*2\r\n:1") == [12, 3]
    assert wire.answer(b":4\r\n") == 4
    assert redis_pys_own == ["read"]


def test_a_long_answer_is_read_to_its_end(wire):
    assert wire.answer(b"$9000\r\n" + b"x" * 9000 + b"\r\n") == b"x" * 9000
    assert wire.answer(b":4\r\n") == 4


def test_a_connection_that_was_reset_is_a_lost_one(wire):
    with socket.create_server(("127.0.0.1", 0)) as server:
        wire.connection._sock.close()
        wire.connection._sock = socket.create_connection(server.getsockname())
        there, _ = server.accept()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        there.close()
        with pytest.raises(redis.ConnectionError, match="reading"):
            wire.connection.read_answer()


@pytest.mark.parametrize("error", [TimeoutError, ConnectionResetError, OSError])
def test_what_a_signals_handler_raises_while_an_answer_is_waited_for_is_its_own(wire, error):
    wire.connection._sock.close()
    wire.connection._sock = Mock(recv=Mock(side_effect=error("the work has taken too long")))
    with pytest.raises(error, match="too long"):
        wire.connection.read_answer()


def test_a_refusal_is_raised_and_the_connection_goes_on(wire):
    with pytest.raises(NoScriptError):
        wire.answer(b"-NOSCRIPT No matching script.\r\n")
    assert wire.answer(b":4\r\n") == 4


def test_a_refusal_keeps_nobody_who_has_asked(wire):
    """Not even until the next collection: among them may be the block of a transaction."""

    class Asker:
        pass

    def ask(asker: Asker) -> None:
        with suppress(NoScriptError):
            wire.answer(b"-NOSCRIPT No matching script.\r\n")

    asker = Asker()
    kept = ref(asker)
    gc.disable()
    try:
        ask(asker)
        del asker
        assert kept() is None
    finally:
        gc.enable()


def test_silence_is_a_timeout_of_redis_py(wire):
    with pytest.raises(redis.TimeoutError):
        wire.answer(b"")
    assert wire.answer(b":4\r\n") == 4


@pytest.mark.parametrize("said", [b"", b"*2\r\n:1"])
def test_the_end_is_a_lost_connection_of_redis_py(wire, said):
    wire.server.sendall(said)
    wire.server.shutdown(socket.SHUT_RDWR)
    with pytest.raises(redis.ConnectionError):
        wire.connection.read_answer()


def test_one_that_was_closed_is_a_lost_connection(wire):
    wire.connection.disconnect()
    with pytest.raises(redis.ConnectionError):
        wire.connection.read_answer()


@pytest.mark.parametrize("pushes", [b">2\r\n+invalidate\r\n*1\r\n$1\r\na\r\n", b">2\r\n+invalidate\r\n*-1\r\n"])
def test_what_the_server_tells_unasked_goes_to_redis_py(wire, pushes):
    if not hasattr(wire.connection._parser, "handle_push_response"):
        pytest.skip("this redis-py knows no pushes")
    told: list[Any] = []
    wire.connection._parser.invalidation_push_handler_func = told.append
    assert wire.answer(pushes + b":4\r\n") == 4
    assert wire.answer(b":5\r\n" + pushes[:9]) == 5
    assert wire.answer(pushes[9:] + b":6\r\n") == 6
    assert [message[0] for message in told] == [b"invalidate"] * 2


def test_what_is_told_is_waited_for_so_long_and_read_in_its_order(wire):
    assert wire.connection.read_within(0.01) is None
    wire.server.sendall(b":1\r\n:2\r\n*2\r\n:3")
    assert [wire.connection.read_within(0.01) for _ in range(3)] == [1, 2, None]
    wire.server.sendall(b"\r\n:4\r\n")
    assert wire.connection.read_within(0.02) == [3, 4]


def test_the_end_is_told_to_whoever_waits_to_be_told(wire):
    wire.server.shutdown(socket.SHUT_RDWR)
    with pytest.raises(redis.ConnectionError):
        wire.connection.read_within(0.01)
    wire.connection.disconnect()
    with pytest.raises(redis.ConnectionError):
        wire.connection.read_within(0.01)


@pytest.mark.parametrize("polls", [True, False])
def test_whether_more_was_said_is_told_without_waiting(wire, monkeypatch, polls):
    if not polls:
        monkeypatch.setattr(straight, "poll", None)
    assert not wire.connection.has_more()
    wire.server.sendall(b":1\r\n:2\r\n")
    assert wire.connection.has_more()
    assert wire.connection.read_answer() == 1
    assert wire.connection.has_more()
    assert wire.connection.read_answer() == 2
    assert not wire.connection.has_more()


@pytest.mark.parametrize("polls", [True, False])
def test_it_is_waited_for_so_long(wire, monkeypatch, polls):
    if not polls:
        monkeypatch.setattr(straight, "poll", None)
    assert not wire.connection.has_more(0.01)
    later = Timer(0.05, wire.server.sendall, [b":1\r\n"])
    later.start()
    assert wire.connection.has_more(20)
    later.join()
    assert wire.connection.read_answer() == 1


@pytest.mark.skipif(straight.poll is None, reason="redis-py tells of the end by an error")
def test_the_end_is_more_to_be_read(wire):
    wire.server.close()
    assert wire.connection.has_more()
    with pytest.raises(redis.ConnectionError):
        wire.connection.read_answer()


def message(said: bytes) -> bytes:
    return b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$%d\r\n%s\r\n" % (len(said), said)


def test_what_is_said_to_all_who_wait_is_read_at_once(wire):
    shared = wire.connection.shared()
    assert not shared.wait(0)
    wire.server.sendall(message(b"one") + message(b"two") + message(b"three")[:9])
    assert shared.wait(5)
    assert [said for _, _, said in shared.read()] == [b"one", b"two"]
    wire.server.sendall(message(b"three")[9:])
    assert shared.wait(5)
    assert [said for _, _, said in shared.read()] == [b"three"]


def test_what_another_has_read_is_nothing(wire):
    shared = wire.connection.shared()
    assert shared.read() == []


def test_two_can_wait_at_a_time(wire):
    shared = wire.connection.shared()
    with ThreadPoolExecutor(2) as elsewhere:
        waiting = [elsewhere.submit(shared.wait, 20) for _ in range(2)]
        wire.server.sendall(message(b"one"))
        assert [each.result(20) for each in waiting] == [True, True]


@pytest.mark.parametrize("whose", ["the server's", "another thread's"])
def test_the_end_wakes_all_who_wait(wire, whose):
    shared = wire.connection.shared()
    with ThreadPoolExecutor(1) as elsewhere:
        waiting = elsewhere.submit(shared.wait, 20)
        assert not waiting.done()
        (wire.server.close if whose == "the server's" else wire.connection.disconnect)()
        assert waiting.result(20)
    with pytest.raises(redis.ConnectionError):
        shared.read()


def test_a_refusal_is_raised_in_who_reads(wire):
    shared = wire.connection.shared()
    wire.server.sendall(b"-NOPERM this user\r\n")
    with pytest.raises(redis.ResponseError):
        shared.read()


def test_what_a_signals_handler_raises_is_not_the_servers(wire):
    shared = wire.connection.shared()
    shared._sock = Mock(recv=Mock(side_effect=TimeoutError("the work has taken too long")))
    with pytest.raises(TimeoutError):
        shared.read()


def test_health_checks_stay_redis_pys_affair(redis_pys_own):
    wire = Wire(health_check_interval=30)
    assert wire.answer(b":4\r\n") == 4
    assert redis_pys_own == ["read"]
    wire.close()


def test_only_plain_connections_are_straightened():
    class Own(Connection):
        """Somebody's own kind."""

    plain = [Connection, UnixDomainSocketConnection]
    assert [issubclass(straightened(kind), Straight) for kind in plain] == [True, True]
    others = [SSLConnection, SentinelManagedConnection, Own]
    assert [issubclass(straightened(kind), Straight) for kind in others] == [False] * 3
    assert [issubclass(straightened(kind), kind) for kind in others] == [True] * 3


def test_the_pure_python_parser_is_left_to_redis_py(redis_pys_own):
    parsers: Any = redis.connection
    kind = getattr(parsers, "PythonParser", None) or parsers._RESP2Parser
    connection = straightened(Connection)(parser_class=kind)
    ours, server = socket.socketpair()
    connection._sock = ours
    connection._parser.on_connect(connection)
    server.sendall(b":4\r\n")
    assert connection.read_answer() == 4
    assert redis_pys_own == ["read"]
    connection.disconnect()
    server.close()


@pytest.mark.usefixtures("real_redis")
def test_locks_ask_over_such_connections(redis_pys_own):
    with lock("a"):
        redis_pys_own.clear()
        with lock("b"):
            pass
    assert redis_pys_own == []
    store: Any = locks["default"].store
    used = store._connections.take()
    store._connections.give(used)
    assert isinstance(used, Straight)
