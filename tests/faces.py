"""The faces of the locks: what threads call, and what tasks await. A test that is written once drives any of them.

Its body is a coroutine. Where threads are meant it runs without a loop, since all that it awaits is there at once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar

import uvloop
from django.db import connections

from django_redislock import LockBusy, lock
from tests.flows import GLIMPSE, PATIENCE

T = TypeVar("T")


class Flag(Protocol):
    """What one flow waits for, and another one sets."""

    def set(self) -> None:
        """It is so now."""

    async def wait(self) -> object:
        """Until it is so."""


class Face(ABC):
    """How a flow uses a lock, and how others are begun beside it."""

    @abstractmethod
    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it to its end; gives what it gives, or raises what it raises."""

    @abstractmethod
    def within(self, guard: Any) -> AbstractAsyncContextManager[Any]:
        """The block of a lock."""

    @abstractmethod
    async def call(self, owner: Any, verb: str, *args: Any, **named: Any) -> Any:
        """Call a method which has a twin, whose name begins with an a."""

    @abstractmethod
    def begin(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> Awaitable[T]:
        """Begin another flow; gives what it gives."""

    @abstractmethod
    async def blocking(self, function: Callable[..., T], *args: Any, **named: Any) -> T:
        """Call, as another flow, what only threads can call."""

    @abstractmethod
    def flag(self) -> Flag:
        """A new one."""

    @abstractmethod
    async def pause(self) -> None:
        """Let the others have their turn."""

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Ask again and again until something is so."""
        end = time.monotonic() + PATIENCE
        while not await condition():
            assert time.monotonic() < end, f"not so after {PATIENCE:g} s"
            await self.pause()

    async def elsewhere(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """What it gives, or raises, in another flow."""
        return await self.begin(function, *args)

    async def attempt(self, guard: Any) -> str:
        """What somebody gets who tries, and gives it back."""
        try:
            async with self.within(guard):
                return "entered"
        except LockBusy:
            return "busy"

    async def is_free(self, name: str) -> bool:
        """Whether another flow gets the lock at once; it gives it back."""
        return await self.elsewhere(self.attempt, lock(name, nowait=True)) == "entered"

    async def waiters_of(self, name: str) -> int:
        """How many wait for a lock."""
        info = await self.call(lock(name), "info")
        return info.waiters if info else 0

    async def until_waiting(self, name: str, number: int = 1) -> None:
        """Until so many wait for a lock."""

        async def so_many() -> bool:
            return await self.waiters_of(name) == number

        await self.until(so_many)

    @asynccontextmanager
    async def held_by_another(self, guard: Any) -> AsyncIterator[None]:
        """Another flow is in the block of the lock until this one ends."""
        held, over = self.flag(), self.flag()

        async def hold() -> None:
            async with self.within(guard):
                held.set()
                await over.wait()

        holder = self.begin(hold)
        await held.wait()
        try:
            yield
        finally:
            over.set()
            await holder


class Threads(Face):
    """`with`, and calls that block."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """As `Face.run()`."""
        try:
            work.send(None)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # what the coroutine returns
        raise AssertionError("There is no loop that what is awaited could wait for.")

    def within(self, guard: Any) -> AbstractAsyncContextManager[Any]:
        """As `Face.within()`."""
        return Blocking(guard)

    async def call(self, owner: Any, verb: str, *args: Any, **named: Any) -> Any:
        """As `Face.call()`."""
        return getattr(owner, verb)(*args, **named)

    def begin(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> Awaitable[T]:
        """As `Face.begin()`."""

        def run() -> T:
            try:
                return self.run(function(*args))
            finally:
                connections.close_all()

        pool = ThreadPoolExecutor(1)
        future = pool.submit(run)
        pool.shutdown(wait=False)
        return result_of(future)

    async def blocking(self, function: Callable[..., T], *args: Any, **named: Any) -> T:
        """As `Face.blocking()`."""
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(function, *args, **named).result()

    def flag(self) -> Flag:
        """As `Face.flag()`."""
        return BlockingFlag()

    async def pause(self) -> None:
        """As `Face.pause()`."""
        time.sleep(GLIMPSE)


class Blocking:
    """The block of a lock, entered with `with`."""

    def __init__(self, guard: Any) -> None:
        self._guard = guard

    async def __aenter__(self) -> Any:
        return self._guard.__enter__()

    async def __aexit__(self, *error: Any) -> Any:
        return self._guard.__exit__(*error)


class BlockingFlag:
    """A `Flag` of threads."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.set = self._event.set

    async def wait(self) -> None:
        """As `Flag.wait()`."""
        assert self._event.wait(PATIENCE)


async def result_of(future: Future[T]) -> T:
    """What a thread gives."""
    return future.result(PATIENCE)


class Loop(Face):
    """`async with`, and calls that are awaited."""

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._new_loop = new_loop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """As `Face.run()`. The loop says when it was kept waiting or something was forgotten."""
        with asyncio.Runner(debug=True, loop_factory=self._new_loop) as runner:
            return runner.run(work)

    def within(self, guard: Any) -> AbstractAsyncContextManager[Any]:
        """As `Face.within()`."""
        return guard  # type: ignore[no-any-return]  # any lock

    async def call(self, owner: Any, verb: str, *args: Any, **named: Any) -> Any:
        """As `Face.call()`."""
        return await getattr(owner, f"a{verb}")(*args, **named)

    def begin(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> Awaitable[T]:
        """As `Face.begin()`."""
        return asyncio.get_running_loop().create_task(function(*args))

    async def blocking(self, function: Callable[..., T], *args: Any, **named: Any) -> T:
        """As `Face.blocking()`."""
        return await asyncio.to_thread(function, *args, **named)

    def flag(self) -> Flag:
        """As `Face.flag()`."""
        return asyncio.Event()

    async def pause(self) -> None:
        """As `Face.pause()`."""
        await asyncio.sleep(GLIMPSE)


FACES: dict[str, Face] = {
    "threads": Threads(),
    "asyncio": Loop(asyncio.new_event_loop),
    "uvloop": Loop(uvloop.new_event_loop),
}
