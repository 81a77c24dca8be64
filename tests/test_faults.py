"""Every verb with every fault between us and a real server: the right answer, or the right error, and nothing left."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from redis.exceptions import ConnectionError, RedisError, ResponseError, TimeoutError

from django_redislock import (
    LeaseLost,
    LockBusy,
    LockNotHeld,
    StoreUnavailable,
    WaitTimeout,
    clock,
    lock,
    lock_many,
)
from django_redislock.guards import NamedLock
from django_redislock.handler import locks
from django_redislock.holder import encode_current
from django_redislock.keylock import operator_token
from django_redislock.keys import Key, bucket_of
from django_redislock.lease import Lease, LeaseState
from django_redislock.many import NamedLocks
from django_redislock.steps import Steps, run
from django_redislock.stores import many
from django_redislock.stores.base import Answer, Renewal
from django_redislock.stores.debts import Debts, NotNow
from django_redislock.stores.many import ACQUIRE_MANY, LEAVE_MANY, RELEASE_MANY, RENEW_MANY
from django_redislock.stores.verbs import ACQUIRE, FORCE, INSPECT, LEAVE, RELEASE, RENEW
from tests.faults import LOADING, OOM, Fault, Proxy, proxy_to
from tests.flows import client_of, elsewhere, hearers_of, until
from tests.settings import cache

PATIENCE = 0.2
"""Seconds that the client waits for an answer."""
TRIES = 2
"""So often a question is asked at most, when connections break; one more may take it back."""

SCRIPTS = (ACQUIRE, RELEASE, LEAVE, RENEW, INSPECT, FORCE, ACQUIRE_MANY, RELEASE_MANY, LEAVE_MANY, RENEW_MANY)

Faults = list[Fault | bytes]

MENDED: dict[str, Faults] = {
    "slow": [Fault.SLOW],
    "question lost": [Fault.LOSE_QUESTION],
    "reply lost": [Fault.LOSE_REPLY],
    "loading for a moment": [LOADING],
}
FATAL: dict[str, tuple[Faults, type[RedisError]]] = {
    "hangs": ([Fault.HANG], TimeoutError),
    "question swallowed": ([Fault.SWALLOW], TimeoutError),
    "reply late": ([Fault.LATE], TimeoutError),
    "questions lost": ([Fault.LOSE_QUESTION] * TRIES, ConnectionError),
    "replies lost": ([Fault.LOSE_REPLY] * TRIES, ConnectionError),
    "reply lost, then refused": ([Fault.LOSE_REPLY, OOM], ResponseError),
    "refused": ([OOM], ResponseError),
}
mended = pytest.mark.parametrize("faults", MENDED.values(), ids=MENDED)
fatal = pytest.mark.parametrize(("faults", "cause"), FATAL.values(), ids=FATAL)
patient = pytest.mark.parametrize("wait", [0, 20])


@pytest.fixture
def proxy(real_redis: str, settings: Any) -> Iterator[Proxy]:
    """The locks of the alias "default" are asked for through it; those of "direct" are the same, on the server."""
    with proxy_to(settings.CACHES[real_redis]["LOCATION"]) as proxy:
        limits = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE}
        settings.CACHES = {**settings.CACHES, "faulty": cache(f"redis://{proxy.address}/0", **limits)}
        settings.REDISLOCK = {"default": {"CACHE": "faulty"}, "direct": {"CACHE": real_redis}}
        for script in SCRIPTS:
            client_of(real_redis).script_load(script.source)
        yield proxy


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def theirs(name: str = "a", **terms: Any) -> NamedLock:
    """The same lock, asked for without faults: by others, for they do not share a flow's leases."""
    return lock(name, alias="direct", **terms)


def owner(name: str = "a") -> int | None:
    """The fence of whoever holds it."""
    info = theirs(name).info()
    return info.fence if info else None


def waiters(name: str = "a") -> int:
    info = theirs(name).info()
    return info.waiters if info else 0


def is_free(*names: str) -> bool:
    return all(owner(name) is None for name in names or ("a",))


def left() -> set[str]:
    """What is in Redis beside the fences and the notes of releases."""
    names = {name.decode() for name in client_of("real").keys("*")}
    return {name for name in names if not name.endswith(":fence") and ":released:" not in name}


def fails(work: Callable[[], Any], cause: type[Exception]) -> StoreUnavailable:
    """The error, which says what it was that kept us from asking; it comes in time."""
    began = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        work()
    assert time.monotonic() - began < (TRIES + 1) * PATIENCE + 1
    assert (type(caught.value), caught.value.key) == (StoreUnavailable, "a")
    assert isinstance(caught.value.__cause__, cause)
    return caught.value


def enter(guard: NamedLock | NamedLocks) -> None:
    """Enter a block that must not be entered."""
    with guard:
        pytest.fail("The body ran without lock.")


class TestAcquire:
    @patient
    @mended
    def test_a_free_key_is_ours(self, proxy, faults, wait):
        proxy.faults.extend(faults)
        with lock("a", wait=wait) as lease:
            assert owner() == lease.fence
        assert left() == set()

    @patient
    @fatal
    def test_a_free_key_stays_free(self, proxy, faults, cause, wait):
        proxy.faults.extend(faults)
        fails(partial(enter, lock("a", wait=wait)), cause)
        until(lambda: left() == set())

    @mended
    def test_a_key_of_others_is_refused(self, proxy, faults):
        with theirs() as lease:
            proxy.faults.extend(faults)
            with pytest.raises(LockBusy) as refused:
                enter(lock("a", nowait=True))
            assert refused.value.holder == theirs().info().holder
            assert owner() == lease.fence

    @patient
    @fatal
    def test_nobody_is_told_busy_who_could_not_ask(self, proxy, faults, cause, wait):
        with theirs() as lease:
            proxy.faults.extend(faults)
            fails(partial(enter, lock("a", wait=wait)), cause)
            assert owner() == lease.fence

    @fatal
    def test_the_next_answer_is_the_right_one(self, proxy, faults, cause):
        proxy.faults.extend(faults)
        fails(lock("a", nowait=True).acquire, cause)
        with theirs("b"), lock("c") as lease:
            assert owner("c") == lease.fence
            assert lock("b").info() is not None
            assert lock("d").info() is None

    def test_what_cannot_be_taken_back_ends_with_its_ttl(self, proxy):
        proxy.faults.extend([Fault.LOSE_REPLY, Fault.HANG])
        fails(lock("a", nowait=True, ttl=1).acquire, TimeoutError)
        assert owner() is not None
        until(lambda: left() == set())

    def test_a_hanging_server_is_waited_for_once(self, proxy):
        proxy.faults.extend([Fault.HANG] * 5)
        began = time.monotonic()
        fails(partial(enter, lock("a", wait=20)), TimeoutError)
        assert PATIENCE <= time.monotonic() - began < 2 * PATIENCE
        assert proxy.seen == ["EVALSHA"]


class TestWait:
    """Behind another: the first question says who holds it, the second one joins the queue."""

    @mended
    def test_one_that_waits_is_served(self, proxy, faults, thread):
        with theirs():
            place = self.stand_in_line(proxy, faults, thread)
            until(lambda: waiters() == 1)
        assert place.result() == "served"
        until(lambda: left() == set())

    @fatal
    def test_who_could_not_join_is_told_and_is_not_in_the_queue(self, proxy, faults, cause, thread):
        with theirs():
            place = self.stand_in_line(proxy, faults, thread)
            fails(place.result, cause)
            until(lambda: waiters() == 0)
        assert is_free()

    def test_who_cannot_even_ask_again_is_not_left_in_the_queue(self, proxy):
        """It waited on a connection that has broken: a release would make it the owner while it is gone."""
        store, token = locks["default"].store, "t" * 16
        ask = partial(store.acquire, Key("a"), token=token, ttl=30, holder=encode_current())
        ear = store.ear(token, within=5)
        with theirs():
            ask(channel=ear.channel)
            assert waiters() == 1
            proxy.vanish()
            until(lambda: not ear.channel)
            store.close()  # so that it needs a new connection, and nothing is sent
            with pytest.raises(StoreUnavailable):
                ask(channel=ear.channel)
            ear.close()
            proxy.is_away = False
            store.inspect(Key("b"))
            assert waiters() == 0

    @pytest.mark.parametrize("fault", [Fault.SWALLOW, Fault.LOSE_REPLY])
    def test_a_grant_that_is_lost_is_found(self, proxy, fault, thread):
        with theirs(ttl=1):
            proxy.messages.append(fault)
            place = self.stand_in_line(proxy, [], thread)
            until(lambda: waiters() == hearers_of("a") == 1)
        assert place.result() == "served"
        assert not proxy.messages

    @mended
    def test_one_that_gives_up_is_told_who_has_it_and_has_left_the_queue(self, proxy, faults, thread):
        with theirs():
            with pytest.raises(WaitTimeout):
                self.give_up(proxy, faults)
            assert waiters() == 0

    @fatal
    def test_the_answer_stands_although_the_queue_could_not_be_left(self, proxy, faults, cause, caplog):
        with theirs():
            with pytest.raises(WaitTimeout):
                self.give_up(proxy, faults)
            assert "Given up while acquiring, and what was taken ends with its ttl" in caplog.text
            until(lambda: waiters() == (1 if faults == [Fault.HANG] else 0))

    def stand_in_line(self, proxy: Proxy, faults: Faults, thread: ThreadPoolExecutor) -> Future[str]:
        def wait() -> str:
            with lock("a", wait=20, ttl=1):
                return "served"

        proxy.faults.extend([Fault.NONE, *faults])
        return thread.submit(wait)

    def give_up(self, proxy: Proxy, faults: Faults) -> None:
        """The fault strikes when the queue is left."""
        proxy.script = LEAVE
        proxy.faults.extend(faults)
        enter(lock("a", wait=0.1))


class TestRelease:
    @mended
    def test_it_is_told_right(self, proxy, faults):
        guard = self.held()
        proxy.faults.extend(faults)
        guard.release()
        assert left() == set()

    @mended
    def test_a_lease_that_had_ended_is_told(self, proxy, faults):
        guard = self.held()
        client_of("real").flushdb()
        with theirs():
            proxy.faults.extend(faults)
            with pytest.raises(LockNotHeld, match="another holds it now"):
                guard.release()

    @fatal
    def test_that_it_could_not_be_asked_is_told(self, proxy, faults, cause):
        guard = self.held()
        proxy.faults.extend(faults)
        fails(guard.release, cause)
        self.assert_free_if_heard(faults)

    @fatal
    def test_a_block_has_ended_all_the_same(self, proxy, faults, cause, caplog):
        with caplog.at_level(logging.WARNING), lock("a"):
            proxy.faults.extend(faults)
        assert "The lock stays taken until its ttl of 30 s is over" in caplog.text
        self.assert_free_if_heard(faults)

    @fatal
    def test_what_the_body_raises_is_not_replaced(self, proxy, faults, cause):
        with pytest.raises(ZeroDivisionError), lock("a"):
            proxy.faults.extend(faults)
            raise ZeroDivisionError

    @mended
    def test_the_next_in_line_does_not_lose_it_again(self, proxy, faults, thread):
        guard = self.held()
        place = thread.submit(theirs(wait=20).acquire)
        until(lambda: waiters() == 1)
        proxy.faults.extend(faults)
        guard.release()
        assert owner() == place.result().fence

    def held(self) -> NamedLock:
        guard = lock("a", ttl=30)
        guard.acquire()
        return guard

    def assert_free_if_heard(self, faults: Faults) -> None:
        """It is free as soon as the server has heard of it in any form; else when the ttl is over."""
        until(lambda: is_free() or faults == [Fault.HANG])


def at_once(function: Callable[[Any], object]) -> Callable[[Any], Steps[None]]:
    """The function, as one whose answer is there at once."""

    def steps(call: Any) -> Steps[None]:
        yield function(call)

    return steps


class TestDebts:
    """What could not be given back is given back before the next question to the server, whatever that is."""

    @pytest.mark.parametrize(
        "ask", [lambda: lock("b").info(), lambda: elsewhere(lock("d", wait=1).acquire)], ids=["look", "take"]
    )
    def test_a_release_is_made_up_for(self, proxy, ask):
        with lock("a"):
            proxy.faults.append(Fault.HANG)
        assert not is_free()
        ask()
        assert is_free()

    def test_so_is_an_acquisition(self, proxy):
        proxy.faults.extend([Fault.LOSE_REPLY, Fault.HANG])
        fails(lock("a", nowait=True).acquire, TimeoutError)
        assert not is_free()
        assert lock("b").info() is None
        assert is_free()

    def test_as_soon_as_the_server_answers(self, proxy):
        with lock_many(SEVERAL):
            proxy.vanish()
        fails(lock("a").info, ConnectionError)
        assert None not in map(owner, SEVERAL)
        proxy.is_away = False
        assert lock("d").info() is None
        assert is_free(*SEVERAL)

    def test_who_has_it_by_then_keeps_it(self, proxy):
        with lock("a", ttl=0.2):
            proxy.faults.append(Fault.HANG)
        until(is_free)
        with theirs() as lease:
            assert lock("b").info() is None
            assert owner() == lease.fence

    def test_one_that_the_server_refuses_stays_owed(self, proxy, caplog):
        with lock("a"):
            proxy.faults.append(Fault.HANG)
        proxy.script = LEAVE
        proxy.faults.append(OOM)
        with caplog.at_level(logging.DEBUG):
            assert lock("b").info() is None
        assert "Refused, so what may be taken stays so for now: command not allowed" in caplog.text
        assert not is_free()
        assert len(proxy.seen) == 3  # acquire, release, leave
        assert lock("b").info() is None
        assert is_free()

    def test_it_closes_no_cycle(self, proxy, thread):
        """We have left "a" as far as we know; another one waits for it who holds what we want."""
        with lock("a"):
            proxy.faults.append(Fault.HANG)

        def hold_and_wait() -> str:
            with theirs("b"), theirs("a", wait=20):
                return "served"

        place = thread.submit(hold_and_wait)
        until(lambda: waiters() == 1)
        with lock("b", wait=20):
            assert place.result() == "served"

    def test_a_child_of_fork_forgets_its_parents(self):
        debts: Any = Debts()
        sent: list[str] = []
        debts.add("its")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            run(debts.paying(at_once(sent.append)))
        assert (sent, len(debts)) == ([], 0)

    def test_what_fails_stays_owed(self):
        debts: Any = Debts()
        sent: list[int] = []
        for number in range(3):
            debts.add(number)
        with pytest.raises(ZeroDivisionError):
            run(debts.paying(at_once(lambda number: sent.append(number // (number - 1)))))
        run(debts.paying(at_once(sent.append)))
        assert sent == [0, 1, 2]

    def test_one_that_is_refused_keeps_no_other_from_being_paid(self):
        debts: Any = Debts()
        sent: list[str] = []

        def send(call: str) -> None:
            sent.append(call)
            if call == "refused":
                raise NotNow

        for call in ("refused", "other"):
            debts.add(call)
        for _ in range(2):
            run(debts.paying(at_once(send)))
        assert (sent, len(debts)) == (["refused", "other", "refused"], 1)

    @pytest.mark.parametrize(("after", "sent"), [(3_599, ["its"]), (3_600, [])])
    def test_after_an_hour_it_is_forgotten(self, monkeypatch, after, sent):
        debts: Any = Debts()
        monkeypatch.setattr(clock, "now", lambda: 5_000.0)
        debts.add("its")
        monkeypatch.setattr(clock, "now", lambda: 5_000.0 + after)
        paid: list[str] = []
        run(debts.paying(at_once(paid.append)))
        assert (paid, len(debts)) == (sent, 0)

    def test_there_are_not_too_many(self):
        debts: Any = Debts()
        for number in range(2_000):
            debts.add(number)
        assert len(debts) == 1_000


class TestExtend:
    @mended
    def test_it_is_told_right(self, proxy, faults):
        with lock("a", ttl=30) as lease:
            proxy.faults.extend(faults)
            lease.extend(90)
            assert lease.remaining > 60
            assert theirs().info().remaining > 60

    @mended
    def test_a_lease_that_has_ended_stays_so(self, proxy, faults):
        guard = lock("a")
        lease = guard.acquire()
        client_of("real").flushdb()
        proxy.faults.extend(faults)
        with pytest.raises(LockNotHeld):
            lease.extend()
        assert (lease.state, is_free()) == (LeaseState.LOST, True)

    @fatal
    def test_that_it_could_not_be_asked_takes_nothing_away(self, proxy, faults, cause):
        with lock("a", ttl=30) as lease:
            proxy.faults.extend(faults)
            fails(partial(lease.extend, 90), cause)
            assert lease.state is LeaseState.HELD
            assert 20 < lease.remaining <= 30
            assert owner() == lease.fence


class TestInspect:
    @mended
    def test_it_is_told_right(self, proxy, faults):
        proxy.faults.extend(faults)
        with theirs() as lease:
            assert lock("a").info().fence == lease.fence

    @mended
    def test_that_it_is_free_is_told_right(self, proxy, faults):
        proxy.faults.extend(faults)
        assert lock("a").info() is None

    @fatal
    def test_nobody_is_told_free_who_could_not_ask(self, proxy, faults, cause):
        with theirs():
            proxy.faults.extend(faults)
            fails(lock("a").info, cause)


class TestForce:
    @mended
    def test_the_key_is_taken_away(self, proxy, faults):
        with pytest.raises(LeaseLost), theirs():
            proxy.faults.extend(faults)
            assert force()
            assert is_free()

    @mended
    def test_of_the_holder_and_of_nobody_else(self, proxy, faults, thread):
        elsewhere(theirs().acquire)
        place = thread.submit(theirs(wait=20).acquire)
        until(lambda: waiters() == 1)
        proxy.faults.extend(faults)
        assert force()
        assert owner() == place.result().fence

    @mended
    def test_that_nobody_holds_it_is_told(self, proxy, faults):
        proxy.faults.extend(faults)
        assert not force()

    @fatal
    def test_that_it_could_not_be_asked_is_told(self, proxy, faults, cause):
        proxy.faults.extend(faults)
        fails(force, cause)


def force() -> object:
    """Take the key away from whoever has it."""
    found = locks["default"].lock("a", model=None)
    token = operator_token()
    held = found.store.force(found.key, token=token, ttl=10)
    if held is not None:
        assert found.store.release(found.key, token=token, ttl=60) is Answer.DONE
    return held


SEVERAL = ["a", "b", "c"]


def renew(leases: Sequence[Lease]) -> list[Answer]:
    """Renew leases as the watchdog does, for a minute."""
    renewals = [Renewal(key=lease.key, token=lease.token, ttl=60) for lease in leases]
    return locks["default"].kept("a").store.renew_many(renewals, within=PATIENCE)


class TestRenewMany:
    @mended
    def test_what_is_ours_is_kept(self, proxy, faults):
        with lock_many(SEVERAL) as leases:
            proxy.faults.extend(faults)
            assert renew(leases) == [Answer.DONE] * 3
            assert all(theirs(name).info().remaining > 59 for name in SEVERAL)

    @mended
    def test_what_is_not_ours_is_told_each_by_each(self, proxy, faults):
        successor = theirs("c")
        with pytest.raises(LeaseLost), lock_many(SEVERAL) as leases:
            force()
            client_of("real").delete(f"redislock:{{{bucket_of('c')}}}:lock:c")
            elsewhere(successor.acquire)
            proxy.faults.extend(faults)
            assert renew(leases) == [Answer.FORCED, Answer.DONE, Answer.ANOTHERS]

    @fatal
    def test_that_it_could_not_be_asked_is_told(self, proxy, faults, cause):
        with lock_many(SEVERAL) as leases:
            proxy.faults.extend(faults)
            fails(partial(renew, leases), cause)

    def test_more_than_a_script_takes_go_in_portions(self, proxy, monkeypatch):
        monkeypatch.setattr(many, "PORTION", 100)
        names = [f"name-{number}" for number in range(250)]
        with lock_many(names) as leases:
            proxy.seen.clear()
            assert renew(leases) == [Answer.DONE] * 250
            assert proxy.seen == ["EVALSHA"] * 3

    def test_a_server_that_does_not_know_the_script_gets_it(self, proxy):
        with lock_many(SEVERAL) as leases:
            client_of("real").script_flush()
            assert renew(leases) == [Answer.DONE] * 3

    def test_it_never_shortens_what_its_owner_has_extended(self, proxy):
        with lock("a") as lease:
            lease.extend(300)
            renew([lease])
            assert theirs().info().remaining > 290


class TestSeveral:
    @patient
    @mended
    def test_free_keys_are_ours(self, proxy, faults, wait):
        proxy.faults.extend(faults)
        with lock_many(SEVERAL, wait=wait) as leases:
            assert [lease.fence for lease in leases] == [owner(name) for name in SEVERAL]
        assert left() == set()

    @patient
    @fatal
    def test_free_keys_stay_free(self, proxy, faults, cause, wait):
        proxy.faults.extend(faults)
        fails(partial(enter, lock_many(SEVERAL, wait=wait)), cause)
        until(lambda: left() == set())

    @mended
    def test_one_of_others_is_refused_and_none_is_ours(self, proxy, faults):
        with theirs("b") as lease:
            proxy.faults.extend(faults)
            with pytest.raises(LockBusy, match=r"^b is held by"):
                enter(lock_many(SEVERAL, nowait=True))
            assert [owner(name) for name in SEVERAL] == [None, lease.fence, None]

    @patient
    @fatal
    def test_nobody_is_told_busy_who_could_not_ask(self, proxy, faults, cause, wait):
        with theirs("b") as lease:
            proxy.faults.extend(faults)
            fails(partial(enter, lock_many(SEVERAL, wait=wait)), cause)
            until(lambda: [owner(name) for name in SEVERAL] == [None, lease.fence, None])

    @mended
    def test_those_that_are_free_are_taken(self, proxy, faults):
        with theirs("b"):
            proxy.faults.extend(faults)
            with lock_many(SEVERAL, skip_locked=True) as leases:
                assert [lease.key.name for lease in leases] == ["a", "c"]

    @fatal
    def test_who_could_not_ask_takes_none_of_those_that_are_free(self, proxy, faults, cause):
        with theirs("b"):
            proxy.faults.extend(faults)
            fails(partial(enter, lock_many(SEVERAL, skip_locked=True)), cause)
            until(lambda: is_free("a", "c"))

    @mended
    def test_one_that_waits_is_served(self, proxy, faults, thread):
        with theirs("b"):
            place = self.stand_in_line(proxy, faults, thread)
            until(lambda: waiters("b") == 1)
        assert place.result() == SEVERAL
        until(lambda: left() == set())

    @fatal
    def test_who_could_not_join_is_told_and_is_not_in_the_queue(self, proxy, faults, cause, thread):
        with theirs("b"):
            place = self.stand_in_line(proxy, faults, thread)
            fails(place.result, cause)
            until(lambda: waiters("b") == 0 and is_free("a", "c"))

    @mended
    def test_one_that_gives_up_has_left_the_queue(self, proxy, faults):
        with theirs("b"):
            proxy.script = LEAVE_MANY
            proxy.faults.extend(faults)
            with pytest.raises(WaitTimeout):
                enter(lock_many(SEVERAL, wait=0.1))
            assert waiters("b") == 0
            assert is_free("a", "c")

    @fatal
    def test_the_answer_stands_although_the_queue_could_not_be_left(self, proxy, faults, cause):
        with theirs("b"):
            proxy.script = LEAVE_MANY
            proxy.faults.extend(faults)
            with pytest.raises(WaitTimeout):
                enter(lock_many(SEVERAL, wait=0.1))
            until(lambda: waiters("b") == (1 if faults == [Fault.HANG] else 0))

    @fatal
    def test_a_block_has_ended_all_the_same(self, proxy, faults, cause, caplog):
        with caplog.at_level(logging.WARNING), lock_many(SEVERAL):
            proxy.faults.extend(faults)
        assert "The lock stays taken until its ttl of 30 s is over" in caplog.text
        until(lambda: is_free(*SEVERAL) or faults == [Fault.HANG])

    def stand_in_line(self, proxy: Proxy, faults: Faults, thread: ThreadPoolExecutor) -> Future[list[str]]:
        def wait() -> list[str]:
            with lock_many(SEVERAL, wait=20, ttl=1) as leases:
                return [lease.key.name for lease in leases]

        proxy.faults.extend([Fault.NONE, *faults])
        return thread.submit(wait)
