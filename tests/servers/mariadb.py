"""MariaDB on a Unix socket."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import quote

from .process import Server, find_program

DATABASE = "redislock"
SMALL = "--innodb-use-native-aio=0"
"""The kernel has few places for asynchronous I/O, for all servers of a machine together."""


class MariaDB(Server):
    """A MariaDB with its own defaults; root comes in without a password."""

    name = "MariaDB"
    variable = "TEST_MARIADB_URL"
    account = "mysql"

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.directory / "socket"

    @property
    def url(self) -> str:
        """The address for the environment variable."""
        return f"mysql://root@localhost/{DATABASE}?unix_socket={quote(str(self.socket), safe='')}&charset=utf8mb4"

    def prepare(self) -> None:
        """Make the system tables, and the statement that makes our database at the start."""
        program = find_program("mariadb-install-db", "mysql_install_db")
        where = [f"--datadir={self.directory / 'data'}", f"--tmpdir={self.directory}"]
        where += ["--auth-root-authentication-method=normal"]
        self.run(program, "--no-defaults", *where, "--skip-test-db", "--skip-name-resolve", SMALL)
        first = self.directory / "first.sql"
        first.write_text(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4;\n")
        first.chmod(0o644)  # whatever the umask, the server's account reads it

    def command(self) -> list[str]:
        """The server's command line, staying in the foreground."""
        # Debian's and Red Hat's places for it, which an ordinary user's path lacks.
        program = find_program("mariadbd", "mysqld", also=["/usr/sbin", "/usr/libexec"])
        files = {"datadir": "data", "pid-file": "pid", "socket": "socket", "init-file": "first.sql"}
        where = [f"--{option}={self.directory / name}" for option, name in files.items()]
        where += [f"--tmpdir={self.directory}"]  # one that starts removes the temporary tables that lie there
        return [program, "--no-defaults", *where, "--skip-networking", "--skip-name-resolve", SMALL]

    def answers(self) -> bool:
        """Whether the server takes requests by now: it greets whoever connects."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1)
                connection.connect(str(self.socket))
                return bool(connection.recv(1))
        except OSError:
            return False
