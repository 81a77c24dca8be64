"""`fork`: a child has a copy of everything that its parent holds, but not the right."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from django_redislock import LockNotHeld, forks, lease, lock
from django_redislock.handler import locks
from django_redislock.stores.late import Latecomers
from django_redislock.stores.redis import RedisStore
from tests.flows import attempt, is_free

pytestmark = [
    pytest.mark.usefixtures("real_redis"),
    # Earlier tests have started threads; the child of a test does nothing but what is tested.
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


c_library = ctypes.PyDLL(None)


def fork_unseen() -> int:
    """As servers do that are written in C: Python's hooks are not called, which is how uWSGI makes its workers.

    https://github.com/unbit/uwsgi/issues/1978
    """
    pid: int = c_library.fork()
    return pid


every_fork = pytest.mark.parametrize("fork", [os.fork, fork_unseen])


def in_child(work: Callable[[], str], fork: Callable[[], int] = os.fork) -> str:
    reader, writer = os.pipe()
    pid = fork()
    if pid == 0:
        try:
            os.write(writer, work().encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        return answer.read()


@every_fork
def test_a_child_does_not_enter_its_parents_lock(fork):
    with lock("a"):
        assert in_child(attempt, fork) == "busy"


@every_fork
def test_a_child_does_not_release_its_parents_lock(fork):
    guard = lock("a")

    def leave() -> str:
        try:
            guard.__exit__(None, None, None)
        except LockNotHeld as refused:
            return str(refused)
        return "released"

    with guard:
        assert "forked" in in_child(leave, fork)
        assert not is_free("a")


@every_fork
def test_a_child_acquires_for_itself(fork):
    with lock("a"):
        pass
    assert in_child(attempt, fork) == "entered"


def test_a_child_acquires_although_a_thread_of_its_parent_was_noting_what_became_of_a_lease():
    noting, forked = threading.Event(), threading.Event()

    def note() -> None:
        with lease._notes:
            noting.set()
            forked.wait(30)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(note)
        noting.wait(30)
        try:
            assert in_child(alarmed(attempt)) == "entered"
        finally:
            forked.set()


def alarmed(work: Callable[[], str]) -> Callable[[], str]:
    """The same, but a child that stands still is ended."""

    def work_in_time() -> str:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
        return work()

    return work_in_time


@every_fork
def test_a_child_does_not_talk_over_its_parents_connection(fork):
    def connection_id() -> str:
        store = locks["default"].lock("a", model=None).store
        assert isinstance(store, RedisStore)
        assert store._connections is not None
        connection = store._connections.take()
        connection.send_command("CLIENT", "ID")
        number = str(connection.read_response())
        store._connections.give(connection)
        return number

    locks["default"].store.close()  # the connections that others have left
    with lock("a"):
        mine = connection_id()
        assert connection_id() == mine
        assert in_child(connection_id, fork) not in {"", mine}


def test_a_fork_that_python_was_not_told_of_is_noticed_by_the_first_lock(monkeypatch):
    pid, started_over = os.getpid(), []
    monkeypatch.setattr(forks, "pid", pid)  # put back at the end
    monkeypatch.setattr(forks, "_in_child", [lambda: started_over.append(os.getpid())])
    with lock("a"):
        pass
    assert started_over == []
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    with lock("a"):
        pass
    with lock("b"):
        pass
    assert started_over == [pid + 1]


def test_a_child_starts_over_with_leases_flows_and_watchdog():
    starting_over = {work.__qualname__ for work in forks._in_child}
    assert starting_over == {"start_over", "set.clear", "list.clear", "Watchdog.start_over"}


def test_a_child_starts_over_before_two_of_its_threads_can_do_so_at_once():
    """Else one of them might wait where nobody listens for it."""
    with lock("a"):
        store = locks["default"].store
        assert isinstance(store, RedisStore)
        things, channel = [store._connections, Latecomers()], store._wakeups._channel

        def of_this_process() -> str:
            names = [type(thing).__name__ for thing in things if thing._pid == os.getpid()]
            return " ".join(names + ["another channel"] * (store._wakeups._channel != channel))

        assert in_child(of_this_process) == "Connections Latecomers another channel"
