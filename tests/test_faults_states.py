"""A real server in every state in which it does not serve: told as what it is, in time, and over when that is over."""

from __future__ import annotations

import builtins
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import ConnectionError, RedisError, ResponseError, TimeoutError

from django_redislock import StoreUnavailable, lock, lock_many
from django_redislock.handler import locks
from tests.faults import LOOPBACK
from tests.flows import is_free, until
from tests.servers import Missing, Redis
from tests.settings import cache

PATIENCE = 0.2
"""Seconds that the client waits for a connection, and for an answer."""
PASSWORD = "hunter2"


class OwnRedis(Redis):
    """A server of the test's own, which may be spoilt."""

    options: tuple[str, ...] = ()

    def prepare(self) -> None:
        """Choose the port, and make a directory that can be taken away."""
        super().prepare()
        self.data.mkdir()

    @property
    def data(self) -> Path:
        """Where it keeps its data."""
        return self.directory / "data"

    def command(self) -> list[str]:
        """As the other servers, with these options."""
        return [*super().command(), "--dir", str(self.data), *self.options]

    def answers(self) -> bool:
        """Whether it says anything."""
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(1) != b""
        except OSError:
            return False

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)
        if number == signal.SIGSTOP:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def client(self, **options: Any) -> redis.Redis:
        """A client that asks it directly."""
        return redis.Redis(host=LOOPBACK, port=self.port, **options)


@pytest.fixture
def server(tmp_path: Path, settings: Any) -> Iterator[OwnRedis]:
    """It keeps the locks of the alias "default"."""
    server = OwnRedis(tmp_path / "redis")
    try:
        server.start()
    except Missing as reason:
        refuse = pytest.fail if os.environ.get("REDISLOCK_REQUIRE_SERVERS") == "1" else pytest.skip
        refuse(str(reason))
    use(settings, server.url)
    yield server
    server.kill()


def use(settings: Any, url: str) -> None:
    """Keep the locks there."""
    limits = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE}
    settings.CACHES = {**settings.CACHES, "own": cache(url, **limits)}
    settings.REDISLOCK = {"default": {"CACHE": "own"}}


# The states


@contextmanager
def stopped(server: OwnRedis) -> Iterator[None]:
    """Nobody listens on the port."""
    server.stop()
    yield
    server.start_again()


@contextmanager
def crashed(server: OwnRedis) -> Iterator[None]:
    """As after the kernel ran out of memory."""
    server.kill()
    yield
    server.start_again()


@contextmanager
def hanging(server: OwnRedis) -> Iterator[None]:
    """It takes connections and questions, and answers nothing: swapped out, or the disk stands still."""
    server.send(signal.SIGSTOP)
    yield
    server.send(signal.SIGCONT)


@contextmanager
def loading(server: OwnRedis) -> Iterator[None]:
    """It has started, and reads its data, for 10 ms each key."""
    if not server.client().config_get("loading-process-events-interval-bytes"):
        pytest.skip("This Redis cannot be made to answer while it loads a little.")
    server.client().mset({f"key-{number}": os.urandom(2_000) for number in range(500)})
    server.client().save()
    server.stop()
    server.options = ("--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024")
    server.start_again()
    yield
    server.options = ()
    server.kill()
    server.start_again()


@contextmanager
def a_replica(server: OwnRedis) -> Iterator[None]:
    """Another has become the master."""
    server.client().replicaof(LOOPBACK, 1)
    yield
    server.client().replicaof("NO", "ONE")


@contextmanager
def a_replica_without_master(server: OwnRedis) -> Iterator[None]:
    """And it may not answer from data that may be old."""
    server.client().config_set("replica-serve-stale-data", "no")
    with a_replica(server):
        yield


@contextmanager
def full(server: OwnRedis) -> Iterator[None]:
    """It has no memory left, and may evict nothing."""
    server.client().config_set("maxmemory", 1)
    yield
    server.client().config_set("maxmemory", 0)


@contextmanager
def guarded(server: OwnRedis) -> Iterator[None]:
    """Somebody has set a password."""
    server.client().config_set("requirepass", PASSWORD)
    server.client(password=PASSWORD).client_kill_filter(_type="normal", skipme=True)
    yield
    server.client(password=PASSWORD).config_set("requirepass", "")


@contextmanager
def busy(server: OwnRedis) -> Iterator[None]:
    """Somebody's script does not end."""
    server.client().config_set("lua-time-limit", 1)
    script = threading.Thread(target=run_for_ever, args=[server.client()])
    script.start()
    until(lambda: says(server, "BUSY"))
    yield
    server.client().script_kill()
    script.join()


def run_for_ever(client: redis.Redis) -> None:
    with pytest.raises(ResponseError, match="killed by user"):
        client.eval("while true do end", 0)


def says(server: OwnRedis, word: str) -> bool:
    """Whether the server answers so."""
    try:
        server.client().get("a")
    except RedisError as error:
        return word in str(error)
    return False


@contextmanager
def unable_to_save(server: OwnRedis) -> Iterator[None]:
    """Its disk is gone."""
    client = server.client()
    server.data.rmdir()
    client.config_set("save", "3600 1")
    client.bgsave()
    until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
    yield
    client.config_set("stop-writes-on-bgsave-error", "no")


@contextmanager
def crowded(server: OwnRedis) -> Iterator[None]:
    """All connections that it allows are taken."""
    client = server.client()
    client.config_set("maxclients", 1)
    locks["default"].close()
    yield
    client.config_set("maxclients", 1_000)


State = Callable[[OwnRedis], AbstractContextManager[None]]

STATES: dict[str, tuple[State, type[Exception], str]] = {
    "stopped": (stopped, ConnectionError, "refused"),
    "crashed": (crashed, ConnectionError, "refused"),
    "hanging": (hanging, TimeoutError, "Timeout"),
    "loading": (loading, ConnectionError, "loading the dataset"),
    "a replica": (a_replica, ResponseError, "read only replica"),
    "a replica without master": (a_replica_without_master, ResponseError, "Link with MASTER is down"),
    "guarded": (guarded, RedisError, "[Aa]uthenticat"),
    "busy": (busy, ResponseError, "busy running a script"),
    "unable to save": (unable_to_save, ResponseError, "MISCONF|unable to persist"),
    "crowded": (crowded, ConnectionError, "max number of clients"),
}
"""What each is, the client's error, and words of it."""

every_state = pytest.mark.parametrize("name", STATES)

QUESTIONS: dict[str, Callable[[], Any]] = {
    "acquire": lambda: lock("a", nowait=True).acquire(),
    "wait": lambda: lock("a", wait=20).acquire(),
    "acquire several": lambda: lock_many(["a", "b"], wait=20).__enter__(),
    "inspect": lambda: lock("a").info(),
}
READABLE = {"a replica", "unable to save"}
"""Where questions are answered that change nothing."""


def refused(question: Callable[[], Any], cause: type[Exception], text: str) -> None:
    """It is told what kept us from asking, in time."""
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=text) as caught:
        question()
    assert time.monotonic() - began < 2 * PATIENCE + 1
    assert isinstance(caught.value.__cause__, cause)
    assert PASSWORD not in f"{caught.value}"


@every_state
def test_every_question_is_told_and_over_when_that_is_over(server, name):
    state, cause, text = STATES[name]
    with lock("before"):
        pass
    with state(server):
        for verb, question in QUESTIONS.items():
            if verb == "inspect" and name in READABLE:
                assert question() is None
            else:
                refused(question, cause, text)
    until(lambda: server.client().keys("*:lock:*") == [])
    with lock("a", nowait=True), lock_many(["b", "c"], wait=1):
        assert not is_free("a")
    assert is_free("a")


@every_state
def test_a_block_in_which_it_begins_ends_as_it_would_have(server, name):
    meanwhile = ExitStack()
    with pytest.raises(ZeroDivisionError), lock("a", ttl=0.3):
        meanwhile.enter_context(STATES[name][0](server))
        raise ZeroDivisionError
    meanwhile.close()
    until(lambda: is_free("a"))


def test_a_hanging_server_that_goes_on_takes_nothing_for_one_that_has_left(server):
    with lock("before"):
        pass
    with hanging(server):
        refused(lock("a", nowait=True, ttl=600).acquire, TimeoutError, "Timeout")
        refused(lock_many(["b", "c"], wait=5, ttl=600).__enter__, TimeoutError, "Timeout")
    until(lambda: all(is_free(name) for name in "abc"))
    calls = server.client().info("commandstats")
    assert calls["cmdstat_eval"]["calls"] >= 2


def test_a_full_server_is_told_and_still_frees(server):
    guard = lock("a")
    guard.acquire()
    with full(server):
        refused(lock_many(["b", "c"], nowait=True).__enter__, ResponseError, "maxmemory")
        guard.release()
        assert lock("a").info() is None


def test_a_host_that_does_not_answer_is_waited_for_once(settings):
    with socket.create_server((LOOPBACK, 0), backlog=0) as deaf, crowd(deaf):
        use(settings, f"redis://{LOOPBACK}:{deaf.getsockname()[1]}/0")
        took = []
        for _ in range(3):
            began = time.monotonic()
            refused(lock("a", wait=20).acquire, TimeoutError, "Timeout connecting")
            took.append(time.monotonic() - began)
        assert PATIENCE <= min(took) < 2 * PATIENCE


@contextmanager
def crowd(deaf: socket.socket) -> Iterator[None]:
    """Fill its queue of connections, so that the kernel answers no more."""
    callers = []
    try:
        while True:
            callers.append(socket.create_connection(deaf.getsockname(), timeout=0.1))
    except builtins.TimeoutError:
        yield
    for caller in callers:
        caller.close()
