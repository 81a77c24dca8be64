"""Money moves under locks of a quorum while its servers are killed, come back empty, and hang: none is lost."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import settings
from django.test import override_settings

from django_redislock import LeaseLost, QuorumNotReached, WaitTimeout, lock_many
from django_redislock.lease import Lease
from tests.panels import seat
from tests.servers import Redis as Server
from tests.settings import cache
from tests.test_quorum_servers import client_of

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("real_redis")]

WORKERS, TROUBLES, ACCOUNTS, MONEY = 6, 4, 4, 1_000
TTL = 2.0


@pytest.fixture
def servers(servers_of_quorum: list[Server]) -> Iterator[list[Server]]:
    """Five servers that vote, and the alias that they are."""
    caches = {f"node{number}": cache(server.url) for number, server in enumerate(servers_of_quorum)}
    entry = {"CACHE": list(caches), "TTL": TTL, "GUARD": TTL, "WAIT": 10}
    with override_settings(CACHES=settings.CACHES | caches, REDISLOCK={"default": entry}):
        for server in servers_of_quorum:
            client = client_of(server)
            client.flushall()
            seat(client, run=client.info("server")["run_id"])
        yield servers_of_quorum


class Bank:
    """Accounts that know nothing of each other: only a lock keeps two from being written at the same time."""

    def __init__(self) -> None:
        self.balances = [MONEY] * ACCOUNTS
        self.fences: dict[int, list[int]] = defaultdict(list)
        self.refused = 0

    def move(self) -> None:
        source, target = random.sample(range(ACCOUNTS), 2)
        with lock_many([f"account-{source}", f"account-{target}"]) as leases:
            before = self.balances[source], self.balances[target]
            for number, lease in zip((source, target), leases, strict=True):
                self.note(number, lease)
            amount = random.randint(1, 50)
            time.sleep(0.002)  # somebody else would come in between
            for lease in leases:
                lease.ensure_held()
            self.balances[source], self.balances[target] = before[0] - amount, before[1] + amount

    def note(self, number: int, lease: Lease) -> None:
        """What the fence would guard."""
        self.fences[number].append(lease.fence)

    def work(self, stop: threading.Event) -> int:
        """How often money was moved until it was time to stop."""
        done = 0
        while not stop.is_set():
            try:
                self.move()
            except (LeaseLost, QuorumNotReached, WaitTimeout):
                self.refused += 1
            else:
                done += 1
        return done


def trouble(servers: list[Server], stop: threading.Event) -> None:
    """One of five servers is killed and comes back empty while another one hangs; again and again."""
    try:
        for _ in range(TROUBLES):
            killed, hung = random.sample(servers, 2)
            assert hung._process is not None
            os.kill(hung._process.pid, signal.SIGSTOP)
            killed.kill()
            time.sleep(0.2)
            os.kill(hung._process.pid, signal.SIGCONT)
            killed.start_again()
            time.sleep(TTL + 0.5)  # until it votes again, for else the next would be the third to be missing
    finally:
        stop.set()


def test_no_money_is_lost_while_servers_are_killed_and_come_back_empty(servers):
    bank, stop = Bank(), threading.Event()
    with ThreadPoolExecutor(WORKERS) as pool:
        moved = [pool.submit(bank.work, stop) for _ in range(WORKERS)]
        trouble(servers, stop)
    assert min(worker.result() for worker in moved) > 0
    assert sum(bank.balances) == ACCOUNTS * MONEY
    for fences in bank.fences.values():
        assert fences == sorted(set(fences))
