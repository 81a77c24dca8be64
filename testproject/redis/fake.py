"""Serve fakeredis on a loopback port, for as long as this process lives: `python fake.py PORT`."""

from __future__ import annotations

import sys
from functools import partialmethod
from typing import Any
from unittest import mock

from fakeredis import FakeRedisConnection, TcpFakeServer
from redis.exceptions import ResponseError


def error_as_answer(connection: FakeRedisConnection, *, read: Any, **options: Any) -> Any:
    """Give an error to be sent like any other answer.

    When it is raised, the server sends it and hangs up, which no real one does: after NOSCRIPT the client could not
    send the script. See https://github.com/cunla/fakeredis-py/issues/432
    """
    try:
        return read(connection, **options)
    except ResponseError as error:
        return error


def main() -> None:
    answering = partialmethod(error_as_answer, read=FakeRedisConnection.read_response)
    with (
        mock.patch.object(FakeRedisConnection, "read_response", answering),
        TcpFakeServer(("127.0.0.1", int(sys.argv[1]))) as server,
    ):
        server.serve_forever()


if __name__ == "__main__":
    main()
