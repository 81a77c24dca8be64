"""Who holds a lock, as people read it."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_redislock import holder
from django_redislock.holder import Holder, Work, decode, encode_current, working_on
from tests.flows import elsewhere


@pytest.fixture
def run_as(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[list[str]], None]]:
    """Gives the process another command line."""

    def forget() -> None:
        holder._program.cache_clear()
        holder._encoded.cache_clear()

    def run(command_line: list[str]) -> None:
        monkeypatch.setattr(sys, "argv", command_line)
        forget()

    yield run
    forget()


def test_the_running_thread_describes_itself():
    current = decode(encode_current())
    assert (current.host, current.pid) == (socket.gethostname(), os.getpid())
    assert current.thread == threading.current_thread().name


def test_each_thread_is_told_apart():
    assert decode(elsewhere(encode_current)).thread != decode(encode_current()).thread


@pytest.mark.parametrize(
    "name", ["", "a b", 'say "hi"', "back\\slash", "größe 日本 🔒", "two\nlines", "nul\0", "[1, 2]"]
)
def test_odd_names_come_back_as_they_were(monkeypatch, name):
    monkeypatch.setattr(threading.current_thread(), "name", name)
    assert decode(encode_current()).thread == name


@settings(deadline=None)
@given(st.text())
def test_any_name_comes_back_as_it_was(name):
    thread = threading.current_thread()
    before, thread.name = thread.name, name
    try:
        assert decode(encode_current()).thread == name
    finally:
        thread.name = before


@pytest.mark.parametrize(
    ("command_line", "doing"),
    [
        (["manage.py", "import_prices", "--token=hunter2", "hunter2"], "manage.py import_prices"),
        (["/srv/shop/manage.py", "migrate"], "manage.py migrate"),
        (["/usr/bin/django-admin", "check", "hunter2"], "django-admin check"),
        (["manage.py", "--settings=hunter2", "migrate"], "manage.py"),
        (["manage.py"], "manage.py"),
        (["/usr/bin/gunicorn", "hunter2", "--bind=hunter2"], "gunicorn"),
        (["worker.py", "hunter2"], "worker.py"),
        (["-c", "hunter2"], "-c"),
        ([""], ""),
        ([], ""),
    ],
)
def test_what_the_process_is_doing_leaves_arguments_out(run_as, command_line, doing):
    run_as(command_line)
    assert decode(encode_current()).doing == doing
    assert "hunter2" not in encode_current()


@pytest.mark.parametrize(
    ("doing", "text"),
    [("manage.py migrate", "web-1 pid 42 MainThread (manage.py migrate)"), ("", "web-1 pid 42 MainThread")],
)
def test_a_holder_reads_as_a_line(doing, text):
    assert str(Holder(host="web-1", pid=42, thread="MainThread", doing=doing)) == text


def test_within_a_block_the_holder_says_what_it_works_on():
    with working_on(lambda: Work("POST /accounts/7/", "42")):
        current = decode(encode_current())
    assert (current.doing, current.user) == ("POST /accounts/7/", "42")
    assert str(current).endswith("(POST /accounts/7/, user 42)")


def test_after_the_block_it_says_what_it_said_before():
    before = encode_current()
    with working_on(lambda: Work("a task")):
        with working_on(lambda: Work("a command inside it")):
            pass
        assert decode(encode_current()).doing == "a task"
    assert encode_current() == before


def test_what_it_works_on_is_asked_when_a_lock_is_acquired_and_not_before():
    with working_on(lambda: pytest.fail("Nobody acquires anything.")):
        pass


def test_other_threads_work_on_something_else():
    with working_on(lambda: Work("a task")):
        assert decode(elsewhere(encode_current)).doing != "a task"


def test_a_long_description_is_cut():
    with working_on(lambda: Work("x" * 1000)):
        assert len(decode(encode_current()).doing) == holder.LONGEST_WORK
