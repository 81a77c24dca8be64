"""Re-entrancy: who enters a held lock again, and who never does."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.cache import caches
from django.core.exceptions import SynchronousOnlyOperation
from redis.connection import Connection

from django_redislock import LeaseLost, LockBusy, LockNotHeld, clock, lock, lock_many
from django_redislock.holds import current_flow
from django_redislock.stores.straight import Straight
from tests.flows import attempt, elsewhere, is_free

pytestmark = pytest.mark.usefixtures("lock_alias")


def trips(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collects what is sent to Redis from now on."""
    sent: list[Any] = []
    for kind in (Connection, Straight):

        def note(self: Any, *args: Any, send: Any = kind.send_packed_command, **kwargs: Any) -> Any:
            sent.append(args)
            return send(self, *args, **kwargs)

        monkeypatch.setattr(kind, "send_packed_command", note)
    return sent


class TestCounting:
    def test_it_is_free_only_after_as_many_releases_as_acquisitions(self):
        guard = lock("a")
        guard.acquire()
        guard.acquire()
        guard.release()
        assert not is_free("a")
        guard.release()
        assert is_free("a")

    def test_one_release_too_many_is_an_error(self):
        guard = lock("a")
        guard.acquire()
        guard.release()
        with pytest.raises(LockNotHeld, match="not held by this thread or task"):
            guard.release()

    def test_entering_again_keeps_lease_and_fence(self):
        with lock("a") as outer, lock("a") as inner:
            assert inner is outer

    def test_entering_again_costs_no_round_trip(self, monkeypatch):
        with lock("a"):
            sent = trips(monkeypatch)
            with lock("a"), lock("a", nowait=True):
                pass
            assert sent == []

    def test_two_names_are_two_locks(self):
        with lock("a") as a, lock("b") as b:
            assert a is not b
            assert not is_free("b")

    def test_an_inner_block_that_fails_leaves_the_outer_one_alone(self):
        with lock("a"):
            with pytest.raises(ValueError, match="inner"), lock("a"):
                raise ValueError("inner")
            assert not is_free("a")

    def test_each_acquisition_has_a_token_of_its_own_and_a_higher_fence(self):
        with lock("a") as first:
            pass
        with lock("a") as second:
            assert second.token != first.token
            assert second.fence > first.fence

    def test_two_aliases_of_one_cache_share_their_locks(self, lock_alias):
        with lock("a", alias="default") as outer, lock("a", alias=lock_alias) as inner:
            assert inner is outer


class TestAfterALoss:
    @pytest.fixture
    def lapse(self, monkeypatch: pytest.MonkeyPatch, lock_alias: str) -> Callable[[], None]:
        """Lets the lease end, here and on the server."""

        def lapse() -> None:
            caches[lock_alias].clear()
            monkeypatch.setattr(clock, "now", lambda now=clock.now: now() + 60)

        return lapse

    def test_the_lock_is_acquired_anew_inside_and_the_loss_told_outside(self, lapse):
        with pytest.raises(LeaseLost), lock("a") as outer:
            lapse()
            with lock("a") as inner:
                assert inner.fence > outer.fence

    def test_the_loser_leaves_the_new_owner_alone(self, lapse):
        new_owner = lock("a")
        with pytest.raises(LeaseLost), lock("a"):
            lapse()
            elsewhere(new_owner.acquire)
        assert not is_free("a")


class TestThreads:
    def test_another_thread_is_another_owner(self):
        with lock("a"):
            assert elsewhere(attempt) == "busy"

    def test_a_thread_with_a_copy_of_the_context_is_another_owner(self):
        with lock("a"), ThreadPoolExecutor(1) as pool:
            assert pool.submit(contextvars.copy_context().run, attempt).result() == "busy"

    def test_threads_may_share_the_object(self):
        shared = lock("a", nowait=True)

        def use() -> str:
            try:
                with shared:
                    return "entered"
            except LockBusy:
                return "busy"

        with shared:
            assert elsewhere(use) == "busy"
        assert elsewhere(use) == "entered"

    def test_a_thread_cannot_release_what_another_acquired(self):
        shared = lock("a")
        shared.acquire()
        with pytest.raises(LockNotHeld):
            elsewhere(shared.release)
        shared.release()
        assert is_free("a")

    def test_a_new_thread_does_not_inherit_from_a_dead_one(self):
        guard = lock("a")
        thread = threading.Thread(target=guard.acquire)
        thread.start()
        thread.join()
        assert elsewhere(attempt) == "busy"

    def test_one_thread_in_many_gets_it(self):
        barrier = threading.Barrier(8)

        def race(_: int) -> str:
            barrier.wait()
            try:
                lock("a", nowait=True).acquire()
            except LockBusy:
                return "busy"
            return "entered"

        with ThreadPoolExecutor(8) as pool:
            assert sorted(pool.map(race, range(8))) == ["busy"] * 7 + ["entered"]


class TestAsyncio:
    def test_an_event_loop_is_not_blocked(self):
        async def main() -> None:
            with pytest.raises(SynchronousOnlyOperation, match="async with"):
                lock("a").acquire()

        asyncio.run(main())
        assert is_free("a")

    def test_code_behind_sync_to_async_holds_and_enters_again(self):
        def work() -> str:
            with lock("a"):
                return attempt()

        assert asyncio.run(sync_to_async(work)()) == "entered"

    def test_tasks_that_share_a_thread_do_not_share_a_lock(self):
        async def main() -> str:
            acquired = await sync_to_async(lock("a").acquire)()
            assert acquired.state == "held"
            other = asyncio.create_task(sync_to_async(attempt)(), context=contextvars.Context())
            return await other

        assert asyncio.run(main()) == "busy"

    @pytest.mark.parametrize("guard", [lambda: lock("a"), lambda: lock_many(["a"])], ids=["one", "several"])
    def test_what_the_second_task_in_a_context_holds_is_known(self, guard):
        async def hold() -> list[str]:
            async with guard():
                return [held.lock.key.name for held in current_flow().living_holds()]

        async def main() -> list[list[str]]:
            context = contextvars.Context()
            return [await asyncio.create_task(hold(), context=context) for _ in range(2)]

        assert asyncio.run(main()) == [["a"], ["a"]]

    def test_child_tasks_do_not_share_their_parents_lock(self):
        async def main() -> list[str]:
            await sync_to_async(lock("a").acquire)()
            return list(await asyncio.gather(sync_to_async(attempt)(), asyncio.to_thread(attempt)))

        assert asyncio.run(main()) == ["busy", "busy"]

    def test_tasks_below_a_thread_that_holds_do_not_share_its_lock(self):
        async def main() -> list[str]:
            return list(await asyncio.gather(sync_to_async(attempt)(), sync_to_async(attempt)()))

        with lock("a"):
            assert async_to_sync(main)() == ["busy", "busy"]

    def test_a_thread_is_still_the_owner_after_async_code_ran_in_between(self):
        async def main() -> None:
            await sync_to_async(lock("b").acquire)()

        with lock("a"):
            async_to_sync(main)()
            assert attempt() == "entered"

    def test_a_block_that_is_left_in_another_context_releases(self):
        guard = lock("a")

        async def main() -> None:
            await sync_to_async(guard.__enter__)()
            await sync_to_async(guard.__exit__)(None, None, None)

        asyncio.run(main())
        assert is_free("a")
