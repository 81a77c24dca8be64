"""Run a command with private servers: `python -m tests.servers -- COMMAND...`.

Exports TEST_REDIS_URL, TEST_POSTGRES_URL and TEST_MARIADB_URL, each only if it is not set already, and says at the
end which servers were missing. With REDISLOCK_REQUIRE_SERVERS=1 a missing one is an error.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from types import FrameType

from . import Running, running

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Start, run, tear down; the exit code is the command's."""
    arguments = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    arguments.add_argument("command", nargs="+", metavar="COMMAND")
    command: list[str] = arguments.parse_args().command
    _on_signals(_leave)
    with running() as servers:
        if servers.missing and os.environ.get("REDISLOCK_REQUIRE_SERVERS") == "1":
            _say(f"Required, but {_missing(servers)}.")
            return 2
        code = _run(command, environment=os.environ | servers.urls)
        _say(f"At the end: {_missing(servers)}." if servers.missing else "All servers were there.")
        return code


def _run(command: list[str], *, environment: dict[str, str]) -> int:
    try:
        child = subprocess.Popen(command, env=environment)
    except OSError as error:
        _say(f"{command[0]}: {error.strerror}")
        return 127

    def forward(number: int, frame: FrameType | None) -> None:
        if not (number == signal.SIGINT and _terminal_is_ours()):
            child.send_signal(number)

    _on_signals(forward)
    code = child.wait()
    _on_signals(signal.SIG_IGN)  # nothing may stop the tearing down
    return code if code >= 0 else 128 - code


def _terminal_is_ours() -> bool:
    """Whether Ctrl-C went to our whole process group, the command included."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False


def _leave(number: int, frame: FrameType | None) -> None:
    _on_signals(signal.SIG_IGN)
    raise SystemExit(128 + number)


def _on_signals(handler: signal._HANDLER) -> None:
    for number in FORWARDED:
        signal.signal(number, handler)


def _missing(servers: Running) -> str:
    return "missing: " + ", ".join(f"{name} ({why})" for name, why in servers.missing.items())


def _say(text: str) -> None:
    print(f"tests.servers: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
