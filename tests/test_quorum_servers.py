"""A quorum of real servers that are killed, restarted, stopped, cut off and flushed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from redis import Redis

from django_redislock import QuorumNotReached, majority
from django_redislock.keys import Key
from django_redislock.stores import election
from django_redislock.stores.ballots import kept_for
from django_redislock.stores.base import Answer, Held, Taken, TakenMany, Way
from django_redislock.stores.nodes import Candidacy, SitsOut
from django_redislock.stores.quorum import QuorumStore
from tests.faults import Fault, Proxy, proxy_to
from tests.flows import until
from tests.panels import KEY, OURS, THEIRS, empty, real_node, seat, told
from tests.servers import Redis as Server

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("real_redis")]

WHO = '["web-1",42,"MainThread",""]'
GUARD = 20.0


@pytest.fixture(params=[3, 5], ids=lambda count: f"{count} servers")
def servers(request: pytest.FixtureRequest, servers_of_quorum: list[Server]) -> list[Server]:
    """Servers that are empty, and vote."""
    chosen = servers_of_quorum[: request.param]
    empty(chosen)
    return chosen


def client_of(server: Server) -> Any:
    return Redis.from_url(server.url)


def quorum(urls: list[str], *, guard: float = GUARD) -> QuorumStore:
    nodes = [real_node(url, scope=f"node {number}", guard=guard) for number, url in enumerate(urls)]
    return QuorumStore(nodes, scope="quorum", guard=guard)


@pytest.fixture
def store(servers: list[Server]) -> QuorumStore:
    return quorum([server.url for server in servers])


def take(store: QuorumStore, token: str = OURS, *, ttl: float = 20) -> Any:
    return store.acquire(KEY, token=token, ttl=ttl, holder=WHO)


def minority(servers: list[Any]) -> int:
    return (len(servers) - 1) // 2


@contextmanager
def stopped(servers: list[Server]) -> Iterator[None]:
    """They hang: what is sent to them is taken, and not answered before they go on."""
    for server in servers:
        assert server._process is not None
        os.kill(server._process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for server in servers:
            assert server._process is not None
            os.kill(server._process.pid, signal.SIGCONT)


def owners(store: QuorumStore) -> list[bool]:
    """Which of the nodes has given its vote to somebody, when all that was asked of them is answered."""
    store.panel.hear_all()
    return [node.inspect(KEY) is not None for node in store.nodes]  # type: ignore[attr-defined]  # a store itself


# Servers that hang


def test_a_minority_that_hangs_keeps_nobody_waiting_for_long(servers, store):
    with stopped(servers[: minority(servers)]):
        began = time.monotonic()
        for number in range(20):
            token = f"token-of-{number:07}"
            assert isinstance(take(store, token), Taken)
            assert store.renew(KEY, token=token, ttl=20) is Answer.DONE
            assert store.release(KEY, token=token, ttl=60) is Answer.DONE
        assert time.monotonic() - began < 10
    assert isinstance(take(store), Taken)


def test_a_majority_that_hangs_is_an_outage(servers, store):
    with stopped(servers[: minority(servers) + 1]), pytest.raises(QuorumNotReached, match="TimeoutError"):
        take(store)


def test_what_was_asked_of_servers_that_hung_is_taken_back_when_they_go_on(servers, store):
    with stopped(servers[: minority(servers) + 1]), pytest.raises(QuorumNotReached):
        take(store)
    assert isinstance(take(store, THEIRS), Taken)
    assert store.release(KEY, token=THEIRS, ttl=60) is Answer.DONE
    assert owners(store) == [False] * len(servers)


def test_a_lease_whose_renewal_hangs_is_in_doubt_and_good_again(servers, store):
    take(store)
    with stopped(servers[: minority(servers) + 1]), pytest.raises(QuorumNotReached):
        store.renew(KEY, token=OURS, ttl=20)
    assert store.renew(KEY, token=OURS, ttl=20) is Answer.DONE


# Servers that are not waited for


@pytest.fixture
def warm(store: QuorumStore, monkeypatch: pytest.MonkeyPatch) -> QuorumStore:
    """All nodes know the scripts, and vote with one fence."""
    monkeypatch.setattr(election, "MARGIN", 60_000_000)
    take(store)
    store.release(KEY, token=OURS, ttl=60)
    return store


def test_those_that_were_not_needed_give_their_votes_when_they_go_on(servers, warm):
    with stopped(servers[-minority(servers) :]):
        assert isinstance(take(warm), Taken)
    other = quorum([server.url for server in servers])
    until(lambda: owners(other) == [True] * len(servers))
    assert warm.release(KEY, token=OURS, ttl=60) is Answer.DONE
    assert owners(warm) == [False] * len(servers)


def test_a_vote_that_was_not_waited_for_is_given_back_behind_it(servers, warm):
    with stopped(servers[-minority(servers) :]):
        assert isinstance(take(warm), Taken)
        assert warm.release(KEY, token=OURS, ttl=60) is Answer.DONE
    until(lambda: owners(warm) == [False] * len(servers))
    time.sleep(0.1)
    assert owners(warm) == [False] * len(servers)


def test_a_vote_and_a_release_that_were_not_waited_for_survive_a_script_flush(servers, warm):
    client_of(servers[-1]).script_flush()
    assert isinstance(take(warm), Taken)
    assert owners(warm) == [True] * len(servers)
    client_of(servers[-1]).script_flush()
    assert warm.release(KEY, token=OURS, ttl=60) is Answer.DONE
    assert owners(warm) == [False] * len(servers)


ENDING = """
import sys
import redis
from django_redislock.stores import election
from tests.test_quorum_servers import KEY, OURS, quorum, take

election.MARGIN = 60_000_000
store = quorum(sys.argv[1:])
take(store)
store.release(KEY, token=OURS, ttl=60)
take(store)
store.panel.hear_all()
redis.Redis.from_url(sys.argv[-1]).script_flush()
print(store.release(KEY, token=OURS, ttl=60).name, len(store.panel._late._late))
"""


def test_a_process_that_ends_hears_the_answer_to_its_last_release(servers, store):
    ended = subprocess.run(
        [sys.executable, "-c", ENDING, *[server.url for server in servers]], capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == ["DONE", str(minority(servers))]
    assert owners(store) == [False] * len(servers)


# Servers that come back


def test_a_server_that_came_back_empty_does_not_vote_within_its_guard_time(servers, store):
    take(store)
    for server in servers[: minority(servers)]:
        server.kill()
        server.start_again()
    for server in servers[-minority(servers) :]:
        client_of(server).delete(*client_of(server).keys("*:lock:*"))  # the owner had no vote of these
    assert isinstance(take(store, THEIRS), Held)
    for server in servers[: minority(servers)]:
        client = client_of(server)
        seat(client, run=client.info("server")["run_id"])  # as if it had not been restarted
    assert isinstance(take(store, THEIRS), Taken)


def test_it_votes_when_its_guard_time_is_over(servers, store):
    take(store)
    for server in servers:
        server.kill()
        server.start_again()
    until(lambda: isinstance(ask(store, THEIRS), QuorumNotReached) and all(map(sits, servers)))
    ends = [sit_until(server, ms_of(server) + 300) for server in servers]
    until(lambda: isinstance(ask(store, THEIRS), Taken))
    over = [end <= ms_of(server) for server, end in zip(servers, ends, strict=True)]
    assert majority.is_met(sum(over), nodes=len(servers))


def ms_of(server: Server) -> int:
    """The time by its clock, in ms."""
    seconds, microseconds = client_of(server).time()
    return int(seconds * 1000 + microseconds // 1000)


def sits(server: Server) -> bool:
    """Whether it sits out."""
    _, ends = (client_of(server).get("redislock:node") or b"- 0").split()
    return int(ends) > ms_of(server)


def sit_until(server: Server, end: int) -> int:
    """Let it sit out until then, as if it had come back so much earlier; gives that."""
    run, _ = client_of(server).get("redislock:node").split()
    client_of(server).set("redislock:node", f"{run.decode()} {end}")
    return end


def ask(store: QuorumStore, token: str) -> Any:
    """The answer, or why there was none."""
    try:
        return take(store, token)
    except QuorumNotReached as error:
        return error


def test_a_server_that_kept_its_data_over_a_restart_sits_out_too(servers, store):
    """It may have lost what it wrote last. That it has restarted is told by its run id."""
    take(store)
    store.release(KEY, token=OURS, ttl=60)
    client = client_of(servers[0])
    client.set("redislock:node", f"{'0' * 40} 0")
    store.close()
    vote = quorum([server.url for server in servers]).nodes[0]
    assert isinstance(ballot(vote), SitsOut)


def ballot(node: Any) -> Any:
    candidacy = Candidacy(OURS, 5, WHO, 0)
    return told(node.vote([KEY], candidacy=candidacy, channel=""))[0]


def test_a_restart_is_noticed_however_the_connection_came_back(servers, store):
    """The verbs of one server connect by themselves."""
    node: Any = store.nodes[0]
    ballot(node)
    before = client_of(servers[0]).info("server")["run_id"]
    servers[0].kill()
    servers[0].start_again()
    node.inspect(KEY)
    seat(client_of(servers[0]), run=before)  # as if the data were kept
    assert isinstance(ballot(node), SitsOut)


def test_a_server_that_was_flushed_sits_out_from_then_on(servers, store):
    take(store)
    client_of(servers[0]).flushall()
    node: Any = store.nodes[0]
    seat = ballot(node)
    assert GUARD - 1 < seat.left <= GUARD
    assert node.plead(seat) is False
    assert ballot(node).left > GUARD - 5


def test_a_new_server_that_has_run_for_long_votes_at_once(servers, tmp_path):
    """It has lost nothing since its start, for nobody has told it to forget."""
    fresh = Server(tmp_path / "fresh")
    fresh.start()
    try:
        node = real_node(fresh.url, scope="fresh", guard=1.0)
        assert isinstance(ballot(node), SitsOut)
        time.sleep(2.1)  # `INFO` tells whole seconds
        client_of(fresh).delete("redislock:node")
        fresh_again = real_node(fresh.url, scope="fresh", guard=1.0)
        seat = ballot(fresh_again)
        assert fresh_again.plead(seat) is True
        assert not isinstance(ballot(fresh_again), SitsOut)
    finally:
        fresh.stop()


@pytest.mark.parametrize(
    "lost", [{"cmdstat_flushall": "calls=1"}, {"cmdstat_config|resetstat": "calls=1"}, {"evicted_keys": "3"}]
)
def test_what_may_have_lost_data_is_no_evidence(lost):
    info = {"uptime_in_seconds": "600", "evicted_keys": "0", "cmdstat_get": "calls=5"}
    assert kept_for(info) == 600
    assert kept_for(info | lost) == 0
    assert kept_for({"uptime_in_seconds": "600", "evicted_keys": "0"}) == 0  # it does not tell of commands


# A partition


@pytest.fixture
def proxies(servers: list[Server]) -> Iterator[list[Proxy]]:
    with ExitStack() as stack:
        yield [stack.enter_context(proxy_to(server.url)) for server in servers]


@pytest.fixture
def cut_off(proxies: list[Proxy]) -> QuorumStore:
    """The store of somebody who reaches all servers by way of the proxies."""
    return quorum([f"redis://{proxy.address}/0" for proxy in proxies])


def test_the_side_of_the_minority_gets_no_lock_and_leaves_no_ghost(servers, store, proxies, cut_off):
    for proxy in proxies[minority(servers) :]:
        proxy.vanish()
    with pytest.raises(QuorumNotReached):
        take(cut_off)
    assert owners(store) == [False] * len(servers)
    assert isinstance(take(store, THEIRS), Taken)
    for proxy in proxies:
        proxy.is_away = False
    answer = take(cut_off, "token-number-003")
    assert isinstance(answer, Held)
    store.release(KEY, token=THEIRS, ttl=60)
    assert owners(store) == [False] * len(servers)
    assert isinstance(take(cut_off, "token-number-004"), Taken)


def test_a_holder_on_the_side_of_the_minority_cannot_renew_and_does_not_come_back(servers, store, proxies, cut_off):
    take(cut_off, ttl=2)
    for proxy in proxies[minority(servers) :]:
        proxy.vanish()
    with pytest.raises(QuorumNotReached):
        cut_off.renew(KEY, token=OURS, ttl=2)
    for _ in range(1000):
        if isinstance(take(store, THEIRS), Taken):
            break
        time.sleep(0.01)
    for proxy in proxies:
        proxy.is_away = False
    # The answers may take a share of the ttl.
    assert cut_off.renew(KEY, token=OURS, ttl=20) is Answer.ANOTHERS
    assert cut_off.release(KEY, token=OURS, ttl=60) is Answer.ANOTHERS
    assert store.inspect(KEY) is not None


def test_a_cut_connection_changes_no_answer(servers, proxies, cut_off):
    for fault in (Fault.LOSE_QUESTION, Fault.LOSE_REPLY):
        for proxy in proxies:
            proxy.faults.append(fault)
        assert isinstance(take(cut_off), Taken)
        for proxy in proxies:
            proxy.faults.append(fault)
        assert cut_off.release(KEY, token=OURS, ttl=60) is Answer.DONE


def test_scripts_that_are_not_known_are_sent(servers, store):
    for server in servers:
        client_of(server).script_flush()
    keys = [Key(f"shelf-{number}") for number in range(20)]
    taken = store.acquire_many(keys, token=OURS, ttl=20, holder=WHO, way=Way.ALL, limit=20)
    assert isinstance(taken, TakenMany)
    for server in servers:
        client_of(server).script_flush()
    assert store.release_many(keys, token=OURS, ttl=60) == [Answer.DONE] * 20


def test_replicas_that_may_not_write_have_no_vote(servers, store):
    replicas = [client_of(server) for server in servers[1 : 1 + minority(servers)]]
    master = servers[0]
    try:
        for replica in replicas:
            replica.replicaof("127.0.0.1", master.port)
        assert isinstance(take(store), Taken)
        assert store.release(KEY, token=OURS, ttl=60) is Answer.DONE
    finally:
        for replica in replicas:
            replica.replicaof("NO", "ONE")
