"""A child task that wants the lock of those who await it: refused where that would never end, and only there."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from django_redislock import Deadlock, LeaseLost, StoreUnavailable, WaitTimeout, lock, lock_many, lookout
from django_redislock import waiting as waiting_module
from django_redislock.forcing import force_release
from django_redislock.keys import Key
from django_redislock.stores.base import Edge
from django_redislock.stores.redis import RedisStore

pytestmark = pytest.mark.usefixtures("lock_alias")

FOR_LONG = 30
SHORT = 0.4


async def enter(name: str = "a", *, wait: float | None = FOR_LONG) -> str:
    async with lock(name, wait=wait):
        return "entered"


# Without a limit


async def by_itself(child: Any) -> None:
    await asyncio.create_task(child)


async def gathered(child: Any) -> None:
    await asyncio.gather(child)


async def gathered_twice(child: Any) -> None:
    await asyncio.gather(asyncio.gather(child))


async def gathered_with_what_has_succeeded(child: Any) -> None:
    await asyncio.gather(asyncio.sleep(0), child)


async def gathered_with_errors_told(child: Any) -> None:
    for answer in await asyncio.gather(child, asyncio.sleep(SHORT), return_exceptions=True):
        if isinstance(answer, BaseException):
            raise answer


async def in_a_group(child: Any) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(child)
            group.create_task(asyncio.sleep(FOR_LONG))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def by_a_grandchild(child: Any) -> None:
    await asyncio.create_task(in_a_group(child))


async def with_a_limit_of_nothing(child: Any) -> None:
    async with asyncio.timeout(None):
        await asyncio.create_task(child)


async def later(child: Any) -> None:
    task = asyncio.create_task(child)
    await asyncio.sleep(SHORT)
    await task


@pytest.mark.parametrize(
    "how",
    [
        by_itself,
        gathered,
        gathered_twice,
        gathered_with_what_has_succeeded,
        gathered_with_errors_told,
        in_a_group,
        by_a_grandchild,
        with_a_limit_of_nothing,
        later,
    ],
)
@pytest.mark.parametrize("wait", [FOR_LONG, None])
async def test_a_child_that_is_awaited_for_ever_is_refused(loop, how, wait):
    async with lock("a"):
        with pytest.raises(Deadlock, match=r"^Waiting for a would never end: it is held by .* awaits this") as refused:
            await how(enter(wait=wait))
        assert await loop.waiters_of("a") == 0
    assert refused.value.key == "a"
    assert [(edge.key, edge.holder) for edge in refused.value.edges] == [("a", refused.value.holder)]
    assert refused.value.holder.pid


async def test_of_several_locks_too(loop):
    async def enter_all() -> None:
        async with lock_many(["b", "a"], wait=FOR_LONG):
            raise AssertionError("one of them is its parent's")

    async with lock("b"):
        with pytest.raises(Deadlock, match="Waiting for b would never end: it is held by"):
            await asyncio.gather(enter_all())
        assert await loop.is_free("a")


async def test_the_lock_of_a_grandparent_counts(loop):
    async def child() -> None:
        async with lock("b"):
            await asyncio.gather(enter())

    async with lock("a"):
        with pytest.raises(Deadlock, match="Waiting for a"):
            await asyncio.gather(child())


async def test_of_children_that_all_want_it_the_last_one_is_refused_and_the_others_go_on(loop):
    async with lock("a"):
        children = [asyncio.create_task(enter()) for _ in range(4)]
        with pytest.raises(Deadlock):
            await asyncio.gather(*children)
    answers = await asyncio.gather(*children, return_exceptions=True)
    assert sorted(type(answer) is Deadlock for answer in answers) == [False, False, False, True]


# Around a corner: who has what the child wants waits for what its parent has


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of which flows it was asked who waits for them."""
    flows, follow = [], RedisStore.follow

    def note(*args: Any, **named: Any) -> Any:
        flows.append(named["flow"])
        return follow(*args, **named)

    monkeypatch.setattr(RedisStore, "follow", note)
    return flows


@asynccontextmanager
async def another_wants(name: str, *, has: str, after: float = 0) -> AsyncIterator[threading.Event]:
    """A thread has a lock, and waits for one more so many seconds after it is told to."""
    begun, told = threading.Event(), threading.Event()

    def work() -> str:
        with lock(has, wait=FOR_LONG):
            begun.set()
            told.wait()
            time.sleep(after)
            with lock(name, wait=FOR_LONG):
                return "had both"

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(work)
        await asyncio.to_thread(begun.wait)
        try:
            yield told
        finally:
            told.set()
            assert await asyncio.wrap_future(answer) == "had both"


@pytest.mark.parametrize(
    ("how", "wait", "at_once"), [(by_itself, FOR_LONG, True), (gathered, None, False), (in_a_group, None, True)]
)
async def test_a_child_is_refused_what_another_has_who_waits_for_its_parent(loop, how, wait, at_once):
    async with another_wants("a", has="b", after=0 if at_once else SHORT) as told:
        async with lock("a"):
            told.set()
            if at_once:
                await loop.until_waiting("a")
            with pytest.raises(
                Deadlock, match=r"^Waiting for b would never end: b, held by .*, who waits for a"
            ) as refused:
                await how(enter("b", wait=wait))
            assert await loop.waiters_of("b") == 0
    assert str(refused.value).partition(". ")[0].endswith(", who awaits this very task")
    assert [edge.key for edge in refused.value.edges] == ["b", "a"]
    assert refused.value.holder.thread.startswith("ThreadPoolExecutor")


async def test_of_two_children_around_a_corner_one_is_refused_and_the_other_goes_on(loop):
    async with another_wants("a", has="b") as told:
        async with lock("a"):
            told.set()
            await loop.until_waiting("a")
            children = [asyncio.create_task(enter("b")) for _ in range(2)]
            with pytest.raises(Deadlock):
                await asyncio.gather(*children)
        answers = await asyncio.gather(*children, return_exceptions=True)
    assert sorted(type(answer) is Deadlock for answer in answers) == [False, True]


async def test_a_child_waits_for_another_who_waits_for_nobody(loop):
    async with loop.held_by_another(lock("b")), lock("a"):
        with pytest.raises(WaitTimeout):
            await asyncio.gather(enter("b", wait=SHORT))


async def test_what_the_parent_has_given_back_since_closes_no_circle(loop, monkeypatch):
    """The answer of the store may be older."""

    async def late(store: Any, key: Key, *, flow: str) -> tuple[Edge, ...]:
        info = await lock("b").ainfo()
        return Edge(key="b", holder=info.holder), Edge(key="a", holder=info.holder)

    monkeypatch.setattr(RedisStore, "follow", late)
    async with loop.held_by_another(lock("b")), lock("c"):
        with pytest.raises(WaitTimeout):
            await asyncio.gather(enter("b", wait=SHORT))
    async with loop.held_by_another(lock("b")), lock("a"):
        with pytest.raises(Deadlock):
            await asyncio.gather(enter("b", wait=SHORT))


async def test_a_child_that_is_not_awaited_waits_around_a_corner(loop, asked):
    async with another_wants("a", has="b") as told:
        async with lock("a"):
            told.set()
            await loop.until_waiting("a")
            child = asyncio.create_task(enter("b"))
            await asyncio.sleep(SHORT)
            assert not child.done()
            assert not asked
        assert await child == "entered"


@pytest.mark.long
async def test_thousands_of_children_ask_once_in_a_while(loop, asked):
    async with loop.held_by_another(lock("b")), lock("a"):
        with suppress(WaitTimeout):
            await asyncio.gather(*(enter("b", wait=1) for _ in range(200)))
    assert 1 <= len(asked) <= 20


@pytest.mark.parametrize("is_silent", [False, True])
async def test_who_cannot_ask_waits(loop, monkeypatch, is_silent):
    async def unavailable(*args: Any, **named: Any) -> None:
        if is_silent:
            await asyncio.sleep(FOR_LONG)
        raise StoreUnavailable("not now")

    async def wait_with_a_child() -> None:
        async with lock("a"):
            await asyncio.gather(enter("b", wait=SHORT))

    monkeypatch.setattr(RedisStore, "follow", unavailable)
    async with loop.held_by_another(lock("b")):
        parent = asyncio.create_task(wait_with_a_child())
        await asyncio.wait([parent], timeout=FOR_LONG / 2)  # not of the parent's own: such a one it would respect
        assert type(parent.exception()) is WaitTimeout
    for asking in lookout._asking.copy().values():
        asking.cancel()


def test_a_thread_that_waits_for_the_loop_counts():
    @async_to_sync
    async def main() -> None:
        await asyncio.gather(enter())

    with lock("a"), pytest.raises(Deadlock):
        main()


# What could end


async def gathered_with_what_may_fail(child: Any) -> None:
    await asyncio.gather(child, asyncio.sleep(SHORT))


async def waited_for(child: Any) -> None:
    await asyncio.wait_for(asyncio.create_task(child), FOR_LONG)


async def within_a_limit(child: Any) -> None:
    async with asyncio.timeout(FOR_LONG):
        await asyncio.create_task(child)


async def within_a_limit_around_the_group(child: Any) -> None:
    async with asyncio.timeout(FOR_LONG), asyncio.TaskGroup() as group:
        group.create_task(child)


async def by_a_grandchild_with_a_limit(child: Any) -> None:
    await asyncio.create_task(within_a_limit(child))


async def within_somebodys_own_limit(child: Any) -> None:
    @asynccontextmanager
    async def limit() -> Any:
        async with asyncio.timeout(FOR_LONG):
            yield

    async with limit():
        await asyncio.create_task(child)


async def within_a_limit_on_a_stack(child: Any) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(FOR_LONG))
        await asyncio.create_task(child)


async def shielded(child: Any) -> None:
    await asyncio.shield(asyncio.create_task(child))


async def in_a_set(child: Any) -> None:
    await asyncio.wait([asyncio.create_task(child)])


async def told_by_an_event(child: Any) -> None:
    over = asyncio.Event()
    task = asyncio.create_task(child)
    task.add_done_callback(lambda task: over.set())
    await over.wait()


@pytest.mark.parametrize(
    "how",
    [
        gathered_with_what_may_fail,
        waited_for,
        within_a_limit,
        within_a_limit_around_the_group,
        by_a_grandchild_with_a_limit,
        within_somebodys_own_limit,
        within_a_limit_on_a_stack,
        shielded,
        in_a_set,
        told_by_an_event,
    ],
)
async def test_a_child_whose_parent_could_go_on_waits(loop, how):
    told: list[Any] = []

    async def child() -> None:
        try:
            told.append(await enter(wait=SHORT / 2))
        except BaseException as error:
            told.append(type(error))
            raise

    async with lock("a"):
        with suppress(WaitTimeout, asyncio.TimeoutError, ExceptionGroup):
            await how(child())
    assert told == [WaitTimeout]


async def test_a_parent_that_does_something_else_meanwhile_is_waited_for(loop):
    async with lock("a"):
        child = asyncio.create_task(enter())
        await loop.until_waiting("a")
        await asyncio.sleep(2 * waiting_module.GLANCE)
    assert await child == "entered"


async def test_who_fails_lets_the_others_of_a_gather_have_it(loop):
    async def fail() -> None:
        await loop.until_waiting("a")
        raise ZeroDivisionError

    children = []
    with pytest.raises(ZeroDivisionError):
        async with lock("a"):
            children.append(asyncio.create_task(enter()))
            await asyncio.gather(*children, fail())
    assert await children[0] == "entered"


async def test_what_was_taken_away_by_force_is_not_the_parents_any_more(loop):
    """The parent does not know it yet, and the child has it when the other one gives it back."""

    held = asyncio.Event()

    async def hold() -> None:
        async with lock("a"):
            held.set()
            await loop.until_waiting("a")
            await asyncio.sleep(2 * waiting_module.GLANCE)

    async def take() -> object:
        await asyncio.to_thread(force_release, "a")
        other = asyncio.create_task(hold())
        await held.wait()
        told, _ = await asyncio.gather(enter(), other, return_exceptions=True)
        return told

    with pytest.raises(LeaseLost):
        async with lock("a"):
            assert await asyncio.create_task(take()) == "entered"


async def test_a_child_that_does_not_wait_is_told_that_it_is_busy(loop):
    async with lock("a"):
        assert await loop.elsewhere(loop.attempt, lock("a", nowait=True)) == "busy"
