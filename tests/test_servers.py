"""The wrapper that starts servers for the suite."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.servers import KINDS, Missing, Redis, Server

WRAPPER = [sys.executable, "-m", "tests.servers", "--"]
NAMED = {kind.variable: f"named://{kind.name}" for kind in KINDS}

LISTENER = """
import signal, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda number, frame: sys.exit(40 + number))
print("ready", flush=True)
for _ in range(600):  # a signal that comes right before it sleeps is told when it wakes up
    time.sleep(0.1)
"""


def run(*command: str, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | NAMED | changes
    return subprocess.run([*WRAPPER, *command], env=environment, capture_output=True, text=True, check=False)


def test_the_exit_code_is_that_of_the_command():
    assert run(sys.executable, "-c", "raise SystemExit(7)").returncode == 7


def test_a_command_that_is_not_there_says_so():
    done = run("no-such-command")
    assert (done.returncode, "no-such-command" in done.stderr) == (127, True)


def test_servers_that_the_environment_names_are_kept():
    show = f"import os; print(*(os.environ[name] for name in {list(NAMED)}))"
    assert run(sys.executable, "-c", show).stdout.split() == list(NAMED.values())


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_the_command(number):
    command = [*WRAPPER, sys.executable, "-c", LISTENER]
    with subprocess.Popen(command, env=os.environ | NAMED, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as wrapper:
        wrapper.stdout.readline()
        wrapper.send_signal(number)
        assert wrapper.wait() == 40 + number


@pytest.fixture
def bare_machine(tmp_path, monkeypatch):
    """No Redis on the path, nor named in the environment."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delitem(NAMED, "TEST_REDIS_URL")
    monkeypatch.delenv("TEST_REDIS_URL", raising=False)


@pytest.mark.usefixtures("bare_machine")
def test_a_missing_server_is_told_at_the_end():
    done = run(sys.executable, "-c", "print('ran')", REDISLOCK_REQUIRE_SERVERS="0")
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert done.stderr.endswith("missing: Redis (no redis-server or valkey-server found).\n")


@pytest.mark.usefixtures("bare_machine")
def test_a_missing_server_is_an_error_where_servers_are_required():
    done = run(sys.executable, "-c", "print('ran')", REDISLOCK_REQUIRE_SERVERS="1")
    assert (done.returncode, done.stdout) == (2, "")


@pytest.fixture
def directory():
    """A place that the accounts of the servers can reach, unlike tmp_path."""
    with TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path) / "server"


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_a_server_answers_from_start_to_stop(kind: type[Server], directory):
    server = kind(directory)
    try:
        server.start()
        assert server.answers()
    except Missing as reason:
        pytest.skip(str(reason))
    finally:
        server.stop()
    assert not server.answers()


@pytest.mark.long
def test_a_server_that_does_not_start_is_missing_and_says_its_last_words(directory):
    class Broken(Redis):
        def command(self) -> list[str]:
            return ["sh", "-c", "echo out of luck; exit 3"]

    with pytest.raises(Missing, match="the server ended with 3; out of luck"):
        Broken(directory).start()
