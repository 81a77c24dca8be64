"""Clients of real web servers that go away while a row is locked for them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from django_redislock import lock
from tests.flows import elsewhere, until
from tests.testapp.models import Account

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("real_redis")]

GUNICORN = ["gunicorn", "testproject.wsgi:application", "--bind=127.0.0.1:{port}", "--log-level=error"]
UVICORN = ["uvicorn", "testproject.asgi:application", "--port={port}", "--lifespan=off", "--log-level=error"]

SETTINGS = {"DJANGO_SETTINGS_MODULE": "tests.settings_streaming"}


@contextmanager
def serving(command: list[str]) -> Iterator[int]:
    """A web server, until the end of the block; gives its port."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    arguments = [part.format(port=port) for part in command]
    with subprocess.Popen([sys.executable, "-m", *arguments], env=os.environ | SETTINGS) as process:
        try:
            until(lambda: answers(port))
            yield port
        finally:
            process.terminate()


def answers(port: int) -> bool:
    with closing(socket.socket()) as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def is_held(account: Account) -> bool:
    return elsewhere(lock(f"testapp.Account:{account.pk}", alias="real").info) is not None


@pytest.mark.parametrize(
    ("server", "view"), [(GUNICORN, "lines"), (UVICORN, "lines-async"), (UVICORN, "waiting")], ids=lambda each: each[0]
)
def test_a_client_that_goes_away_frees_it(server, view):
    account = Account.objects.create(balance=100)
    with serving(server) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"GET /{view}/{account.pk}/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        until(lambda: is_held(account))
        if view != "waiting":
            assert client.recv(12) == b"HTTP/1.1 200"
            assert is_held(account)
        client.close()
        until(lambda: not is_held(account))
