"""Whom the tasks of an event loop ask instead of a store: its twin on that loop, which lives and ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from ..steps import shielded

if TYPE_CHECKING:
    from .base import Store


class InThreads:
    """The twin of a store that only threads can ask: each question, and each wait, is a thread's."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.scope = store.scope

    @property
    def listens(self) -> bool:
        """As `Store.listens`."""
        return self._store.listens

    def __getattr__(self, verb: str) -> Any:
        return partial(in_a_thread, getattr(self._store, verb))

    async def aclose(self) -> None:
        """There is nothing that belongs to the loop."""

    async def ear(self, token: str, *, within: float | None = None) -> Any:
        """As `Store.ear()`."""
        return EarInThread(await in_a_thread(self._store.ear, token, within=within))


def in_a_thread(function: Callable[..., Any], *args: Any, **named: Any) -> Coroutine[Any, Any, Any]:
    """Call it in a thread; that is awaited also when the task is cancelled, so that nothing overtakes the question."""
    return shielded(asyncio.to_thread(function, *args, **named))


class EarInThread:
    """An `Ear` at which a thread listens."""

    kept = False

    def __init__(self, ear: Any) -> None:
        self._ear = ear
        self.close = ear.close

    @property
    def channel(self) -> str:
        """As `Ear.channel`."""
        return self._ear.channel  # type: ignore[no-any-return]

    async def listen(self, seconds: float) -> Any:
        """As `Ear.listen()`."""
        return await asyncio.to_thread(self._ear.listen, seconds)  # what it hears when nobody waits any more is void


class Twins:
    """The twins that one loop has."""

    def __init__(self) -> None:
        self._made: dict[Store, Any] = {}
        # Whoever runs a loop closes its asynchronous generators at the end (`asyncio.run()` and servers do).
        self._closer = self._until_the_loop_ends()
        try:
            self._closer.asend(None).send(None)
        except StopIteration:
            return  # it stands at its `yield`

    async def _until_the_loop_ends(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            for twin in self._made.values():
                await twin.aclose()

    def of(self, store: Store, make: Callable[[Any], Any]) -> Any:
        """The twin of the store."""
        twin = self._made.get(store)
        if twin is None:
            twin = self._made[store] = make(store)
        return twin


_twins: WeakKeyDictionary[asyncio.AbstractEventLoop, Twins] = WeakKeyDictionary()
_latest: Any = (lambda: None, None)
"""The loop, by a weak reference, that asked last, and its twins."""


def twin_of(store: Store, make: Callable[[Any], Any]) -> Any:
    """The store's twin on the running loop, made once."""
    global _latest  # noqa: PLW0603 - mostly there is one loop, which is found here at once
    loop = asyncio.get_running_loop()
    latest, twins = _latest
    if latest() is not loop:
        twins = _twins.get(loop)
        if twins is None:
            twins = _twins[loop] = Twins()
        _latest = ref(loop), twins
    return twins.of(store, make)
