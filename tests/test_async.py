"""The same locks on asyncio: what holds for threads holds for tasks, and both stand in one line."""

from __future__ import annotations

import asyncio
import contextvars
import pickle
import random
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import uvloop
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection, transaction
from redis.exceptions import NoScriptError

from django_redislock import (
    LeaseLost,
    LockBusy,
    StoreUnavailable,
    get_lease,
    lock,
)
from django_redislock.exceptions import LossReason
from django_redislock.handler import locks
from django_redislock.keylock import KeyLock
from django_redislock.keys import Key
from django_redislock.steps import Reply, Steps, arun, shielded
from django_redislock.stores.base import Answer, Taken
from django_redislock.stores.loopconnections import LoopConnection
from django_redislock.stores.redis import RedisStore
from django_redislock.stores.twins import InThreads
from testproject.bank.models import Account
from tests.faults import Fault, Proxy, proxy_to
from tests.flows import client_of
from tests.settings import cache

pytestmark = pytest.mark.django_db(transaction=True)

NAME = "shelf"
"""A lock."""


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
loop_in_use = "asyncio"


@pytest.fixture(autouse=True, params=list(LOOPS))
def kind_of_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything here is done on the standard loop, and on that of uvloop."""
    monkeypatch.setattr(sys.modules[__name__], "loop_in_use", request.param)


def going_through(coroutine: Coroutine[Any, Any, Any], *, debug: bool = True) -> Any:
    """Run it on a loop of its own, which says when it was kept waiting or something was forgotten."""
    with asyncio.Runner(debug=debug, loop_factory=LOOPS[loop_in_use]) as runner:
        return runner.run(coroutine)


@contextmanager
def held_by_another(name: str, alias: str) -> Iterator[None]:
    """A thread holds the lock."""
    with ThreadPoolExecutor(1) as thread:
        other = lock(name, alias=alias)
        thread.submit(other.acquire).result()
        try:
            yield
        finally:
            thread.submit(other.release).result()


@pytest.fixture
def account() -> Account:
    return Account.objects.create(number="12-34", owner="Ada", balance=100)


def test_blocking_on_a_loop_is_refused(lock_alias):
    async def work() -> None:
        lock(NAME, alias=lock_alias).acquire()

    with pytest.raises(SynchronousOnlyOperation, match="async with"):
        going_through(work())


@pytest.mark.parametrize("way", ["gather", "task", "group"])
def test_child_tasks_are_others(lock_alias, way):
    async def child() -> str:
        try:
            async with lock(NAME, alias=lock_alias, nowait=True):
                return "entered"
        except LockBusy:
            return "busy"

    async def work() -> str:
        async with lock(NAME, alias=lock_alias):
            if way == "gather":
                return (await asyncio.gather(child()))[0]
            if way == "task":
                return await asyncio.create_task(child())
            async with asyncio.TaskGroup() as group:
                task = group.create_task(child())
            return task.result()

    assert going_through(work()) == "busy"


def test_threads_and_tasks_wait_for_each_other(lock_alias):
    order: list[str] = []

    def thread() -> None:
        with lock(NAME, alias=lock_alias):
            order.append("thread")

    async def work() -> None:
        async with lock(NAME, alias=lock_alias):
            worker = threading.Thread(target=thread)
            worker.start()
            while not (await lock(NAME, alias=lock_alias).ainfo()).waiters:
                await asyncio.sleep(0.01)
            order.append("task")
        await asyncio.to_thread(worker.join)
        async with lock(NAME, alias=lock_alias):
            order.append("task")

    going_through(work())
    assert order == ["task", "thread", "task"]


# Rows


# Transactions


def test_a_transaction_that_cannot_be_had_is_refused(account):
    async def work() -> None:
        async with Account.objects.locked(account.pk, atomic=True):
            raise AssertionError("there is no transaction")

    with pytest.raises(TypeError, match=r"arun\(function\)"):
        going_through(work())


def test_a_blocking_function_runs_in_lock_and_transaction(account):
    def pay(row: Account, amount: int) -> bool:
        row.balance -= amount
        row.save()
        return connection.in_atomic_block

    async def work() -> bool:
        return await Account.objects.locked(account.pk).arun(pay, 10)

    assert going_through(work()) is True
    account.refresh_from_db()
    assert account.balance == 90


def test_its_exception_rolls_back_and_frees(account):
    def fail(row: Account) -> None:
        row.balance = 0
        row.save()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        going_through(Account.objects.locked(account.pk).arun(fail))
    account.refresh_from_db()
    assert (account.balance, Account.objects.is_locked(account.pk)) == (100, False)


def test_the_transaction_of_the_thread_that_waits_keeps_the_lock(account):
    """Else another would read what is not committed yet."""

    @async_to_sync
    async def pay() -> None:
        async with Account.objects.locked(account.pk) as row:
            row.balance -= 10
            await row.asave()

    with transaction.atomic():
        pay()
        assert Account.objects.is_locked(account.pk)
    assert not Account.objects.is_locked(account.pk)


# Losses


def test_a_save_after_the_loss_is_refused(account):
    """There is no transaction that could be rolled back."""

    async def work() -> None:
        async with Account.objects.locked(account.pk) as row:
            row.balance = 0
            get_lease(row).lose(LossReason.FORCED)
            with pytest.raises(LeaseLost):
                await row.asave()

    with pytest.raises(LeaseLost):
        going_through(work())
    account.refresh_from_db()
    assert account.balance == 100


def test_a_row_can_be_pickled_without_its_lease(account):
    async def work() -> Account:
        async with Account.objects.locked(account.pk) as row:
            copy: Account = pickle.loads(pickle.dumps(row))
            return copy

    going_through(work()).save()


# Flows


def enters(alias: str) -> bool:
    """Whether a thread enters the lock at once."""
    try:
        with lock(NAME, alias=alias, nowait=True):
            return True
    except LockBusy:
        return False


async def aenters(alias: str) -> bool:
    """Whether a task enters the lock at once."""
    try:
        async with lock(NAME, alias=alias, nowait=True):
            return True
    except LockBusy:
        return False


@pytest.mark.parametrize("thread_sensitive", [True, False])
def test_sync_code_that_the_task_awaits_is_the_same_flow(lock_alias, thread_sensitive):
    async def work() -> list[bool]:
        async with lock(NAME, alias=lock_alias):
            return [await sync_to_async(enters, thread_sensitive=thread_sensitive)(lock_alias) for _ in range(2)]

    assert going_through(work()) == [True, True]


def test_async_code_that_a_thread_awaits_is_the_same_flow(lock_alias):
    with lock(NAME, alias=lock_alias):
        assert [async_to_sync(aenters)(lock_alias) for _ in range(2)] == [True, True]
        assert enters(lock_alias)


def in_a_plain_thread(function: Callable[[], bool]) -> bool:
    """In a thread with a copy of this context."""
    found: list[bool] = []
    context = contextvars.copy_context()
    thread = threading.Thread(target=lambda: context.run(lambda: found.append(function())))
    thread.start()
    thread.join()
    return found[0]


def test_a_plain_thread_with_a_copy_of_the_context_is_another(lock_alias):
    async def work() -> list[bool]:
        async with lock(NAME, alias=lock_alias):
            direct = await asyncio.to_thread(enters, lock_alias)
            return [direct, await sync_to_async(in_a_plain_thread)(lambda: enters(lock_alias))]

    assert going_through(work()) == [False, False]


def test_the_sync_code_of_a_child_task_is_another(lock_alias):
    async def work() -> list[bool]:
        async with lock(NAME, alias=lock_alias):
            return list(await asyncio.gather(*(sync_to_async(enters)(lock_alias) for _ in range(2))))

    assert going_through(work()) == [False, False]


def test_the_child_tasks_of_async_code_that_a_thread_awaits_are_others(lock_alias):
    @async_to_sync
    async def work() -> list[bool]:
        return list(await asyncio.gather(aenters(lock_alias), aenters(lock_alias)))

    with lock(NAME, alias=lock_alias):
        assert work() == [False, False]


def test_a_loop_that_sync_code_runs_by_itself_is_another(lock_alias):
    async def work() -> bool:
        async with lock(NAME, alias=lock_alias):
            return await sync_to_async(lambda: asyncio.run(aenters(lock_alias)))()

    assert going_through(work()) is False


# Loops


def test_one_loop_after_the_other(lock_alias):
    assert [going_through(aenters(lock_alias)) for _ in range(3)] == [True] * 3


def test_several_loops_in_several_threads(lock_alias):
    inside: list[int] = []

    async def one(number: int) -> None:
        async with lock(NAME, alias=lock_alias, wait=30):
            inside.append(number)
            await asyncio.sleep(0)
            assert inside == [number]
            inside.clear()

    async def some(number: int) -> None:
        await asyncio.gather(*(one(number * 10 + place) for place in range(5)))

    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            going_through(some(number))
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# Cancellation


@pytest.fixture
def tidy(real_redis: str) -> Iterator[Any]:
    """A server on which nothing but the fences is left."""
    server = client_of(real_redis)
    yield server
    names = [key.decode() for key in server.keys("*redislock*")]
    left = [name for name in names if not name.endswith(":fence") and ":released:" not in name]
    assert left == []


def test_who_is_cancelled_while_waiting_leaves_the_line(tidy):
    async def work() -> int:
        async with lock(NAME, alias="real"):
            waiter = asyncio.create_task(lock(NAME, alias="real").aacquire())
            while not (await lock(NAME, alias="real").ainfo()).waiters:
                await asyncio.sleep(0.01)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            return (await lock(NAME, alias="real").ainfo()).waiters

    assert going_through(work()) == 0


def test_a_cancellation_that_a_question_keeps_to_itself_is_raised():
    async def ask() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "done at that very moment"
        raise AssertionError("it is cancelled")

    def steps() -> Steps[None]:
        yield ask()
        yield asyncio.sleep(60)

    async def work() -> bool:
        task = asyncio.create_task(arun(steps()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=10)
        return task.cancelled()

    assert going_through(work())


def test_a_time_limit_around_it_behaves(tidy):
    async def work() -> None:
        async with asyncio.timeout(0.05):
            async with lock(NAME, alias="real", wait=None):
                raise AssertionError("it is held by another")

    with held_by_another(NAME, "real"), pytest.raises(TimeoutError):
        going_through(work())


def test_the_release_is_carried_out_although_the_task_is_cancelled(tidy):
    async def work() -> None:
        entered = asyncio.Event()

        async def hold() -> None:
            async with lock(NAME, alias="real"):
                entered.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(hold())
        await entered.wait()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await lock(NAME, alias="real").ainfo() is None

    going_through(work())


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_shielded_is_done_however_often_its_task_is_cancelled(fails):
    done: list[str] = []

    async def give_back() -> None:
        for step in ("asked", "answered"):
            await asyncio.sleep(0.02)
            done.append(step)
        if fails:
            raise ZeroDivisionError("nobody answers")

    async def work() -> list[str]:
        task = asyncio.create_task(shielded(give_back()))
        for _ in range(3):
            await asyncio.sleep(0.005)
            task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        return getattr(caught.value, "__notes__", [])

    assert going_through(work()) == (["ZeroDivisionError: nobody answers"] if fails else [])
    assert done == ["asked", "answered"]


def test_all_questions_of_what_is_shielded_are_asked_although_the_first_is_interrupted():
    asked: list[int] = []

    async def question(number: int) -> int:
        asked.append(number)
        await asyncio.sleep(0.01)
        return number

    def steps() -> Steps[None]:
        yield question(1)
        yield question(2)

    async def work() -> bool:
        task = asyncio.create_task(shielded(shielded(arun(steps()))))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert going_through(work())
    assert asked == [1, 2]


@pytest.mark.parametrize("is_shielded", [True, False])
def test_a_reply_can_be_cancelled_but_by_who_is_shielded(is_shielded):
    async def work() -> tuple[bool, bool, list[str]]:
        reply: Reply[str] = Reply(loop=asyncio.get_running_loop())
        heard: list[str] = []

        async def ask() -> None:
            heard.append(await reply)

        task = asyncio.create_task(shielded(ask()) if is_shielded else ask())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        was_cancelled = reply.cancelled()
        if not was_cancelled:
            asyncio.get_running_loop().call_soon(reply.come, "it came")
        await asyncio.wait([task], timeout=5)
        return was_cancelled, task.cancelled(), heard

    assert going_through(work()) == ((False, True, ["it came"]) if is_shielded else (True, True, []))


async def waiting_for(
    reply: Reply[str], seen: list[str], context: contextvars.Context | None = None
) -> asyncio.Task[None]:
    """A task that waits already, and notes what it sees."""

    async def wait() -> None:
        seen.append(await reply)

    task = asyncio.create_task(wait(), context=context)
    await asyncio.sleep(0)
    return task


@pytest.mark.parametrize("waiters", [1, 2])
def test_one_who_waits_for_a_reply_goes_on_when_that_comes(waiters):
    """Not a round of the loop later. Where several wait, each has its turn."""

    async def work() -> list[str]:
        loop = asyncio.get_running_loop()
        reply: Reply[str] = Reply(loop=loop)
        seen: list[str] = []
        tasks = [await waiting_for(reply, seen) for _ in range(waiters)]
        loop.call_soon(reply.come, "it came")
        loop.call_soon(seen.append, "the same round")
        await asyncio.wait(tasks)
        return seen

    ends = {1: ["it came", "the same round"], 2: ["the same round", "it came", "it came"]}
    assert going_through(work()) == ends[waiters]


def test_nobody_goes_on_within_another_task():
    async def work() -> list[str]:
        reply: Reply[str] = Reply(loop=asyncio.get_running_loop())
        seen: list[str] = []
        task = await waiting_for(reply, seen)
        reply.come("it came")
        seen.append("told")
        await task
        return seen

    assert going_through(work()) == ["told", "it came"]


def test_who_cannot_go_on_where_its_context_is_in_use_does_so_a_round_later():
    async def work() -> tuple[bool, list[str]]:
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        reply: Reply[str] = Reply(loop=loop)
        seen: list[str] = []
        task = await waiting_for(reply, seen, context)
        callbacks: Any = reply._callbacks
        ((wake, _),) = callbacks
        loop.call_soon(reply.come, "it came", context=context)
        loop.call_soon(seen.append, "the same round")
        done, _ = await asyncio.wait([task], timeout=1)
        if not done:  # nothing else would ever end it
            loop.call_soon(wake, reply, context=context)
            await task
        return bool(done), seen

    assert going_through(work()) == (True, ["the same round", "it came"])


def test_a_reply_that_comes_for_nobody_is_kept():
    async def work() -> str:
        reply: Reply[str] = Reply(loop=asyncio.get_running_loop())
        asyncio.get_running_loop().call_soon(reply.come, "it came")
        await asyncio.sleep(0.01)
        return await reply

    assert going_through(work()) == "it came"


def test_what_fails_while_it_is_shielded_is_raised_where_it_waits():
    async def fail() -> str:
        failing = asyncio.get_running_loop().create_future()
        failing.set_exception(ZeroDivisionError())
        try:
            await failing
        except ZeroDivisionError:
            return "caught"
        raise AssertionError("it has failed")

    assert going_through(shielded(fail())) == "caught"


def test_who_cancels_itself_before_hears_of_it_afterwards():
    done: list[str] = []

    async def give_back() -> None:
        await asyncio.sleep(0.01)
        done.append("answered")

    async def end() -> None:
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
        await shielded(give_back())
        done.append("went on")

    async def work() -> bool:
        task = asyncio.create_task(end())
        await asyncio.wait([task])
        return task.cancelled()

    assert going_through(work())
    assert done == ["answered"]


# Connections


@pytest.fixture
def proxy(settings: Any) -> Iterator[Proxy]:
    """Between this process and the server, for the alias "faulty"."""
    with proxy_to(settings.CACHES["real"]["LOCATION"]) as proxy:
        settings.CACHES = {**settings.CACHES, "faulty": cache(f"redis://{proxy.address}/0", socket_timeout=5)}
        settings.REDISLOCK = {**settings.REDISLOCK, "faulty": {"CACHE": "faulty"}}
        yield proxy


async def connection_of(alias: str = "real") -> LoopConnection:
    """The one of the loop, opened."""
    await lock(NAME, alias=alias).ainfo()
    connection: LoopConnection = locks[alias].store.twin._connections
    return connection


def test_tasks_share_one_connection(tidy):
    async def one(number: int) -> None:
        async with lock(f"{NAME} {number}", alias="real"):
            await asyncio.sleep(0)

    async def work() -> int:
        server = client_of("real")
        await connection_of()
        before = {client["id"] for client in server.client_list()}
        await asyncio.gather(*map(one, range(200)))
        return len({client["id"] for client in server.client_list()} - before)

    assert going_through(work()) == 0


def test_a_loop_that_ends_gives_back_what_its_tasks_hold(tidy):
    """Whoever runs it cancels all tasks at once: those that hold, and the one that reads the answers."""
    tasks = []

    async def hold(number: int, held: asyncio.Event) -> None:
        async with lock(f"{NAME} {number}", alias="real"):
            held.set()
            await asyncio.sleep(60)

    async def work() -> None:
        for number in range(3):
            held = asyncio.Event()
            tasks.append(asyncio.create_task(hold(number, held)))
            await held.wait()

    going_through(work())
    assert all(task.cancelled() for task in tasks)
    assert all(lock(f"{NAME} {number}", alias="real").info() is None for number in range(3))


def test_each_has_its_own_answer(tidy):
    async def one(number: int) -> bool:
        name = f"{NAME} {number}"
        async with lock(name, alias="real") as lease:
            info = await lock(name, alias="real").ainfo()
            return info is not None and (info.key, info.fence) == (name, lease.fence)

    async def work() -> list[bool]:
        return await asyncio.gather(*map(one, range(100)))

    assert all(going_through(work()))


def test_who_opens_it_may_be_cancelled_while_others_wait_for_that(tidy):
    async def work() -> bool:
        first = asyncio.create_task(lock(NAME, alias="real").ainfo())
        second = asyncio.create_task(aenters("real"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert going_through(work())


def test_that_it_cannot_be_opened_is_told_to_all(tidy, proxy):
    proxy.go_away()

    async def work() -> list[Any]:
        questions = [lock(NAME, alias="faulty").ainfo() for _ in range(10)]
        return await asyncio.gather(*questions, return_exceptions=True)

    assert {type(answer) for answer in going_through(work())} == {StoreUnavailable}


def test_one_that_breaks_is_opened_anew_for_all_who_wait(tidy, proxy):
    async def one(number: int) -> bool:
        async with lock(f"{NAME} {number}", alias="faulty"):
            return True

    async def work() -> list[bool]:
        await connection_of("faulty")
        tasks = [asyncio.create_task(one(number)) for number in range(50)]
        await asyncio.sleep(0)
        proxy.cut()
        return await asyncio.gather(*tasks)

    assert all(going_through(work()))


def test_one_that_the_server_closes_while_nobody_asks_is_opened_anew(tidy):
    async def work() -> bool:
        connection = await connection_of()
        client_of("real").client_kill_filter(_type="normal", skipme=True)
        while connection.is_open:
            await asyncio.sleep(0.01)
        return await aenters("real")

    assert going_through(work())


def test_a_server_that_hangs_is_told_to_who_has_waited_and_asked_anew_by_the_others(tidy, proxy, settings):
    settings.CACHES = {**settings.CACHES, "faulty": cache(f"redis://{proxy.address}/1", socket_timeout=1)}

    async def work() -> tuple[Any, bool]:
        await connection_of("faulty")
        proxy.faults.append(Fault.HANG)
        first = asyncio.create_task(lock(NAME, alias="faulty").ainfo())
        await asyncio.sleep(0.5)
        second = asyncio.create_task(aenters("faulty"))
        (told,) = await asyncio.gather(first, return_exceptions=True)
        return told, await second

    told, entered = going_through(work())
    assert isinstance(told, StoreUnavailable)
    assert "Timeout reading" in str(told)
    assert entered


def test_one_who_is_cancelled_leaves_the_connection_to_the_others(tidy):
    async def work() -> tuple[bool, bool]:
        connection = await connection_of()
        opened = connection.opened
        cancelled = [asyncio.create_task(lock(NAME, alias="real").ainfo()) for _ in range(20)]
        kept = [asyncio.create_task(lock(NAME, alias="real").ainfo()) for _ in range(20)]
        await asyncio.sleep(0)
        for task in cancelled:
            task.cancel()
        answers = await asyncio.gather(*kept)
        await asyncio.wait(cancelled)
        return answers == [None] * 20, connection.opened is opened

    assert going_through(work()) == (True, True)


def test_a_store_that_only_threads_can_ask_is_asked_in_threads(tidy):
    shelf = KeyLock(RedisStore(lambda: client_of("real"), scope="plain", prefix="plain"), Key(NAME))

    async def work() -> list[Answer]:
        lease = await shelf.aacquire(flow="one".ljust(16, "_"), ttl=30, wait=0)
        waiter = asyncio.create_task(shelf.aacquire(flow="other".ljust(16, "_"), ttl=30, wait=20))
        while not (await shelf.store.twin.inspect(shelf.key)).waiters:
            await asyncio.sleep(0.01)
        first = await shelf.arelease(lease)
        return [first, await shelf.arelease(await waiter)]

    assert going_through(work()) == [Answer.DONE] * 2


class Wire:
    """A connection of a loop, and the pool that has no other."""

    _sock = None

    def __init__(self) -> None:
        self.said: list[str] = []

    def __getattr__(self, verb: str) -> Any:
        def note(*args: Any, **named: Any) -> str:
            self.said.append(verb)
            return verb

        return note

    def take(self) -> Wire:
        return self

    def give(self, connection: Wire) -> None:
        self.said.append("given back")


def test_a_second_cancel_leaves_no_answer_unread_on_a_connection():
    """It would be read as that to the next question."""
    store = RedisStore(lambda: None, scope="wire", prefix="")
    wire: Any = Wire()
    store._connections = wire

    def asking(connection: Any, call: Any, meanwhile: Any) -> Steps[Any]:
        yield "asked"

    call = store._verbs.acquire(Key(NAME), token="t" * 32, ttl=30, holder="", channel="")
    steps = store._sending(call, ask=asking)
    question = next(steps)
    while question != "asked":
        question = steps.send(question)
    assert steps.throw(asyncio.CancelledError()) == "send_packed_command"
    assert steps.throw(asyncio.CancelledError()) == "disconnect"
    with pytest.raises(asyncio.CancelledError):
        next(steps)
    assert wire.said == ["connect", "send_packed_command", "disconnect", "given back"]


def test_what_is_given_up_in_a_thread_is_given_back_after_it_was_taken(real_redis):
    """Threads cannot be cancelled: what comes after the question must not overtake it."""
    begun, may_go_on = threading.Event(), threading.Event()
    told: list[str] = []

    class Slow:
        scope = "slow"
        listens = False

        def acquire(self, key: Key, **how: Any) -> Taken:
            begun.set()
            may_go_on.wait(10)
            told.append("taken")
            return Taken(1)

        def leave(self, key: Key, *, token: str) -> None:
            told.append("left")

    async def work() -> None:
        slow: Any = Slow()
        slow.twin = InThreads(slow)
        task = asyncio.create_task(KeyLock(slow, Key(NAME)).aacquire(flow="f" * 16, ttl=30, wait=0))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        await asyncio.sleep(0.01)
        may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    going_through(work())
    assert told == ["taken", "left"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("cancels", [300, pytest.param(10_000, marks=pytest.mark.long)])
def test_cancelling_at_random_leaves_nothing(tidy, cancels):
    inside: dict[str, int] = {}
    chance = random.Random(cancels)

    async def one(name: str) -> None:
        async with lock(name, alias="real", wait=30) as lease:
            assert inside.setdefault(name, lease.fence) == lease.fence  # nobody else is in there
            try:
                await asyncio.sleep(0)
            finally:
                del inside[name]

    async def work() -> int:
        done = 0
        while done < cancels:
            tasks = [asyncio.create_task(one(chance.choice("abc"))) for _ in range(20)]
            for task in tasks:
                for _ in range(chance.randrange(12)):
                    await asyncio.sleep(0)
                if chance.random() < 0.8:
                    task.cancel()
                    done += 1
            for failure in await asyncio.gather(*tasks, return_exceptions=True):
                assert failure is None or isinstance(failure, asyncio.CancelledError)
            assert not any([await lock(name, alias="real").ainfo() for name in "abc"])
        others = asyncio.all_tasks() - {asyncio.current_task()}
        ours = {"redislock-answers", "redislock-wakeups"}
        return len([task for task in others if task.get_name() not in ours])

    assert going_through(work(), debug=cancels < 1_000) == 0


def test_who_is_cancelled_while_a_script_is_brought_leaves_the_others_their_connection(tidy):
    async def work() -> bool:
        await lock(NAME, alias="real").ainfo()
        connections = locks["real"].store.twin._connections
        turn = connections.take()
        turn.send_packed_command([b"*3\r\n$7\r\nEVALSHA\r\n$40\r\n" + b"0" * 40 + b"\r\n$1\r\n0\r\n"])
        with pytest.raises(NoScriptError):
            await turn.read_answer()
        await turn.disconnect()
        return bool(connections.is_open)

    assert going_through(work())


def test_a_question_is_answered_although_the_connection_was_closed(tidy):
    """As after a restart of the server."""

    async def work() -> list[bool]:
        await lock(NAME, alias="real").ainfo()
        connections = locks["real"].store.twin._connections
        assert connections.is_open
        await asyncio.to_thread(tidy.client_kill_filter, _type="normal", skipme=True)
        return [await aenters("real") for _ in range(4)]

    assert going_through(work()) == [True] * 4
