"""The Redis that the test project finds or starts for itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from redis import Redis
from redis.exceptions import NoScriptError

from testproject.redis import NoRedisFound, programs, serving
from testproject.redis.programs import FINDERS, Program, find_program
from testproject.redis.servers import address, free_port, reachable, started

NOT_THERE = "redis://user:secret@127.0.0.1:1/0?password=secret"
STUB = Program(what="a stub", argv=(sys.executable, "-c", ""))


@contextmanager
def wrapper(*command: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m testproject.redis -- command`, without a REDIS_URL unless one is given."""
    inherited = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    with subprocess.Popen(
        [sys.executable, "-m", "testproject.redis", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=inherited | environ,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def run(*command: str, **environ: str) -> tuple[int, list[str], str]:
    """Exit code, lines and errors."""
    with wrapper(*command, **environ) as process:
        output, errors = process.communicate(timeout=30)
    return process.returncode, output.splitlines(), errors


@pytest.mark.parametrize("finder", FINDERS.values(), ids=FINDERS)
def test_whatever_is_found_answers_and_runs_scripts_and_is_stopped(finder):
    program = finder()
    if program is None:
        pytest.skip("not on this machine")
    with started(program) as server, Redis.from_url(server.url) as client:
        assert client.eval("return redis.call('INCR', KEYS[1])", 1, "key") == 1
        assert server.what.startswith(program.what)
    assert reachable(server.url) == "ConnectionError"


@pytest.mark.parametrize("finder", FINDERS.values(), ids=FINDERS)
def test_it_does_not_hang_up_after_an_error(finder):
    program = finder()
    if program is None:
        pytest.skip("not on this machine")
    with started(program) as server, Redis.from_url(server.url, single_connection_client=True) as client:
        connection = client.connection
        assert connection is not None
        connection.send_command("EVALSHA", "0" * 40, 0)
        with pytest.raises(NoScriptError):
            connection.read_response()
        connection.send_command("PING")
        assert connection.read_response() in {b"PONG", "PONG"}


def test_the_first_that_there_is_is_taken(monkeypatch):
    monkeypatch.setattr(programs, "FINDERS", {"no": lambda: None, "yes": lambda: STUB, "never": pytest.fail})
    assert find_program() is STUB


def test_without_any_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(programs, "FINDERS", {"no": lambda: None})
    with pytest.raises(NoRedisFound, match="pip install"):
        find_program()


def test_a_binary_that_does_not_run_is_passed_over(tmp_path, monkeypatch):
    for name, code in {"redis-server": "1", "valkey-server": "0"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho 'Valkey server v=8.1.0 x'\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    program = programs.on_the_path()
    assert program is not None
    assert program.what == "valkey-server 8.1.0 from the path"


def test_one_that_does_not_come_up_is_given_up():
    with pytest.raises(NoRedisFound, match="a stub does not come up"), started(STUB):
        pass


def test_the_server_of_the_url_is_used(real_redis, settings):
    url = settings.CACHES[real_redis]["LOCATION"]
    with serving({"REDIS_URL": url}) as server:
        assert server.url == url
        assert server.what == f"the server of REDIS_URL, {address(url)}"


def test_a_url_that_does_not_answer_is_told_and_replaced_without_its_password():
    with serving({"REDIS_URL": NOT_THERE}) as server:
        assert server.what.startswith("REDIS_URL (127.0.0.1:1) does not answer (ConnectionError); instead ")
        assert "secret" not in server.what
        assert reachable(server.url) is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (NOT_THERE, "127.0.0.1:1"),
        ("rediss://cache.example", "cache.example:6379"),
        ("unix:///run/redis.sock?password=secret", "/run/redis.sock"),
        ("secret", "not a Redis URL"),
    ],
)
def test_of_a_url_only_the_address_is_shown(url, shown):
    assert address(url) == shown


def test_a_url_that_is_none_does_not_answer():
    assert reachable("secret") == "ValueError"


def test_the_command_finds_the_server_in_its_environment_and_its_exit_code_is_passed_on():
    ask = "import os, redis; print(redis.Redis.from_url(os.environ['REDIS_URL']).ping()); raise SystemExit(7)"
    code, lines, _ = run("--", sys.executable, "-c", ask)
    assert code == 7
    assert lines[0].startswith("Redis: ")
    assert lines[1:] == ["True"]


LISTENER = """
import os, signal, sys, time
signal.signal(int(sys.argv[1]), lambda *_: os._exit(5))
print(os.environ["REDIS_URL"], flush=True)
for _ in range(600):  # a signal that comes right before it sleeps is told when it wakes up
    time.sleep(0.1)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_the_server_is_stopped(number):
    with wrapper("--", sys.executable, "-c", LISTENER, str(int(number))) as process:
        assert process.stdout is not None
        _, url = process.stdout.readline(), process.stdout.readline().strip()
        process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode == 5
    assert reachable(url) == "ConnectionError"


def test_a_command_that_a_signal_ended_reads_as_in_a_shell():
    assert run("--", sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")[0] == 128 + signal.SIGKILL


def test_a_command_that_is_not_there_is_told():
    code, _, errors = run("--", "no-such-command")
    assert (code, errors) == (127, "no-such-command: No such file or directory\n")


@pytest.mark.parametrize("arguments", [[], ["--"], ["true"]])
def test_without_a_command_it_tells_how_to_use_it(arguments):
    code, _, errors = run(*arguments)
    assert code == 2
    assert errors.startswith("usage: python -m testproject.redis -- COMMAND")


def test_a_free_port_is_one_that_nobody_listens_on():
    assert reachable(f"redis://127.0.0.1:{free_port()}/0") == "ConnectionError"
