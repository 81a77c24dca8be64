"""What all servers have in common: a directory, an account, a process that gets ready and is stopped."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

READY_WITHIN = 60.0
STOPPED_WITHIN = 15.0


class Missing(Exception):
    """This machine cannot provide the server; the text says why."""


class Server(ABC):
    """One private server that keeps everything in `directory`."""

    name: ClassVar[str]
    variable: ClassVar[str]
    account: ClassVar[str | None] = None
    """Whom to run as when we are root, for servers that refuse to be root."""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The address for the environment variable."""

    @abstractmethod
    def command(self) -> list[str]:
        """The server's command line, staying in the foreground."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server takes requests by now."""

    def prepare(self) -> None:  # noqa: B027 - most servers need none
        """Make what has to be there before the start."""

    def start(self) -> str:
        """Start it, wait until it answers, return its address; raises `Missing`."""
        self.directory.mkdir(mode=0o700)
        if self.demoted:
            shutil.chown(self.directory, self.demoted["user"], self.demoted["group"])
        self.prepare()
        return self.start_again()

    def start_again(self) -> str:
        """Start it where it was before; raises `Missing`."""
        with self._log.open("ab") as log:
            # In a session of its own, so that Ctrl-C does not take it away below the tests.
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, **self.demoted
            )
        self._wait_until_ready(self._process)
        return self.url

    def stop(self) -> None:
        """Stop it, whatever state it is in."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def kill(self) -> None:
        """Take it away without a word, as a crash does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def run(self, *command: str) -> None:
        """Run a tool of the server to its end, as the server's account; raises `Missing` when it fails."""
        with self._log.open("ab") as log:
            done = subprocess.run(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                check=False,
                cwd=self.directory,
                **self.demoted,
            )
        if done.returncode:
            raise Missing(self._failure(f"{Path(command[0]).name} ended with {done.returncode}"))

    @property
    def demoted(self) -> dict[str, Any]:
        """The arguments that let a process give up root, where that is needed."""
        if self.account is None or os.geteuid() != 0:
            return {}
        try:
            entry = pwd.getpwnam(self.account)
        except KeyError:
            entry = pwd.getpwnam("nobody")
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        patience = time.monotonic() + READY_WITHIN
        while not self.answers():
            if process.poll() is not None:
                raise Missing(self._failure(f"the server ended with {process.returncode}"))
            if time.monotonic() > patience:
                raise Missing(self._failure(f"the server did not answer within {READY_WITHIN:.0f} s"))
            time.sleep(0.02)

    def _failure(self, what: str) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-5:]
        return "; ".join([what, *lines])


def find_program(*names: str, also: Iterable[str | Path] = ()) -> str:
    """The first of these programs that is on the path or in one of the directories; raises `Missing`."""
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, also)])
    for name in names:
        if found := shutil.which(name, path=places):
            return found
    raise Missing(f"no {' or '.join(names)} found")
