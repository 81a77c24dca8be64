"""Run a command with a Redis: `python -m testproject.redis -- COMMAND...`.

The command finds the server in `REDIS_URL`. Its exit code becomes ours, SIGINT and SIGTERM are passed on to it,
and a server that was started for it is stopped afterwards.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import FrameType
from typing import NoReturn

from . import NoRedisFound, serving

USAGE = "usage: python -m testproject.redis -- COMMAND [ARGUMENT...]"


def main(arguments: list[str]) -> int:
    if len(arguments) < 2 or arguments[0] != "--":
        print(USAGE, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, leave)
    try:
        with serving() as server:
            print(f"Redis: {server.what}", flush=True)
            return run(arguments[1:], {**os.environ, "REDIS_URL": server.url})
    except NoRedisFound as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def leave(number: int, _frame: FrameType | None) -> NoReturn:
    """Leave by way of all `finally` blocks, which the default for SIGTERM skips."""
    sys.exit(128 + number)


def run(command: list[str], environ: dict[str, str]) -> int:
    """Run the command to its end, whatever signals come."""
    try:
        child = subprocess.Popen(command, env=environ)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGINT or not in_foreground():
            child.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    code = child.wait()
    return 128 - code if code < 0 else code


def in_foreground() -> bool:
    """Whether Ctrl-C in a terminal reaches our child too, as one of the same process group."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):  # no terminal, or no standard input at all
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
