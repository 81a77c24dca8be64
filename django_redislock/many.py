"""Several locks at once: all of them or none, or those that are free."""

from __future__ import annotations

import logging
from asyncio import _get_running_loop
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from . import signals
from .conf import Options
from .entries import Entry
from .exceptions import LockBusy, RedisLockError
from .guards import NamedLock, ensure_may_block
from .handler import DEFAULT_ALIAS, locks
from .holds import Flow, Hold, aenter_all, aenter_free, current_flow, enter_all, enter_all_again, enter_free
from .keeping import Keeper
from .keylock import KeyLock
from .lease import Lease
from .steps import Steps, arun, run, shielded
from .terms import UNSET, MaybeSeconds, Terms, read_terms, refuse_words

logger = logging.getLogger("django_redislock")


class Choice(NamedTuple):
    """Which of the locks are wanted."""

    skips_locked: bool
    """Only those that are free."""
    limit: int | None
    """So many of them at most."""


def read_many_terms(
    call: str,
    /,
    *,
    wait: MaybeSeconds | None = UNSET,
    nowait: bool = False,
    ttl: MaybeSeconds = UNSET,
    max_hold: MaybeSeconds | None = UNSET,
    alias: str = DEFAULT_ALIAS,
    skip_locked: bool = False,
    limit: int | None = None,
    **unknown: Any,
) -> tuple[Terms, Choice]:
    """Check the arguments that every form takes. Raises `TypeError` or `ValueError`."""
    refuse_words(unknown, call=call)
    if skip_locked and (nowait or wait is not UNSET):
        raise TypeError("skip_locked=True takes what is free and never waits: it goes without wait= and nowait=.")
    if limit is not None:
        if not skip_locked:
            raise TypeError("limit= goes with skip_locked=True: without, all are locked.")
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise TypeError(f"limit is a whole number, not {limit!r}.")
        if limit < 1:
            raise ValueError(f"limit must be 1 or more, not {limit}.")
    terms = read_terms(wait=wait, nowait=nowait, ttl=ttl, max_hold=max_hold, alias=alias)
    return terms, Choice(skips_locked=skip_locked, limit=limit)


def read_list(call: str, values: Iterable[Any], *, of: str) -> list[Any]:
    """The list that was given. Raises `TypeError` for what is none."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{call} takes a list of {of}, not {values!r}.")
    return list(values)


class ManyGuard(Keeper):
    """Several locks that are acquired together. They are for `with` only: there is no `acquire()` by hand."""

    __slots__ = ("_choice",)

    def __init__(self, terms: Terms, choice: Choice) -> None:
        super().__init__(terms)
        self._choice = choice

    def _enter(self, names: Sequence[str]) -> tuple[Entry, list[Hold | None]]:
        """Acquire what is not held yet, and enter the rest again.

        Gives a hold for each name, in their order; with `skip_locked` none for what is somebody's.
        """
        return run(self._entering(names, self._acquire, self._let_go))

    async def _aenter(self, names: Sequence[str]) -> tuple[Entry, list[Hold | None]]:
        """As `_enter()`."""
        return await arun(self._entering(names, self._aacquire, self._alet_go))

    def _entering(
        self, names: Sequence[str], acquire: Callable[..., Any], let_go: Callable[[list[Hold]], Any]
    ) -> Steps[tuple[Entry, list[Hold | None]]]:
        place, flow = locks[self._terms.alias], current_flow()
        wanted = place.locks(names, model=self._model)
        kept = [lock.key.name for lock in wanted]
        by_key = dict(zip(kept, wanted, strict=True))
        again = enter_all_again(flow, by_key.values())
        entered = {hold.lock.key.name for hold in again}
        rest = [lock for key, lock in by_key.items() if key not in entered]
        try:
            again, spare = self._first(again)
            if spare:
                yield let_go(spare)
            coming = self._acquiring(flow, rest, acquire, options=place.options, had=len(again))
            holds = [*again, *(yield from coming)]
        except BaseException:
            yield let_go(again)
            raise
        entry = Entry(holds)
        self._entries.append(entry)
        found = {hold.lock.key.name: hold for hold in holds}
        return entry, list(map(found.get, kept))

    def _first(self, holds: list[Hold]) -> tuple[list[Hold], list[Hold]]:
        """So many as are wanted, and the others."""
        limit = self._choice.limit
        return (holds, []) if limit is None else (holds[:limit], holds[limit:])

    def _acquiring(
        self, flow: Flow, rest: list[KeyLock], acquire: Callable[..., Any], *, options: Options, had: int
    ) -> Steps[list[Hold]]:
        limit = len(rest) if self._choice.limit is None else min(len(rest), self._choice.limit - had)
        if not limit:
            return []
        ttl = options.ttl if self._terms.ttl is UNSET else self._terms.ttl
        wait = options.wait if self._terms.wait is UNSET else self._terms.wait
        try:
            holds: list[Hold] = yield acquire(flow, rest, ttl=ttl, wait=wait, limit=limit)
        except LockBusy as error:
            self._send(signals.lock_contended, error=error)
            raise
        self._take_charge(holds, options)
        self._announce(holds)
        return holds

    def _acquire(self, flow: Flow, rest: list[KeyLock], *, ttl: float, wait: float | None, limit: int) -> list[Hold]:
        if _get_running_loop() is not None:
            ensure_may_block()
        if self._choice.skips_locked:
            return enter_free(flow, rest, ttl=ttl, limit=limit)
        return enter_all(flow, sorted(rest, key=name_of_lock), ttl=ttl, wait=wait)

    async def _aacquire(
        self, flow: Flow, rest: list[KeyLock], *, ttl: float, wait: float | None, limit: int
    ) -> list[Hold]:
        if self._choice.skips_locked:
            return await aenter_free(flow, rest, ttl=ttl, limit=limit)
        return await aenter_all(flow, sorted(rest, key=name_of_lock), ttl=ttl, wait=wait)

    def _ensure_all_held(self, entry: Entry) -> None:
        """Raise `LeaseLost` when one that was entered again ended while the others were waited for."""
        lost = self._check(entry.holds)
        if lost is not None:
            raise lost

    def _let_go(self, holds: list[Hold]) -> None:
        """Take back an entering in which nothing was done yet."""
        self._tell_late(self._leave(holds))

    async def _alet_go(self, holds: list[Hold]) -> None:
        """As `_let_go()`."""
        self._tell_late(await shielded(self._aleave(holds)))

    def _tell_late(self, failure: RedisLockError | None) -> None:
        if failure is not None:
            logger.warning("Known only when it was given back: %s", failure)


name_of_lock: Callable[[KeyLock], str] = attrgetter("key.name")


class NamedLocks(ManyGuard):
    """The locks on several plain names. `with` gives their leases, in the order asked for.

    They are for `with` only: there is no `acquire()` by hand.
    """

    __slots__ = ("_plain_names",)

    def __init__(self, names: Sequence[str], terms: Terms, choice: Choice) -> None:
        for name in names:
            if not isinstance(name, str) or not name:
                raise TypeError(f"A lock's name is a string that is not empty, not {name!r}.")
        super().__init__(terms, choice)
        self._plain_names = names

    def __repr__(self) -> str:
        return f"<NamedLocks {', '.join(self._plain_names)}>"

    @property
    def _model(self) -> None:
        return None

    @property
    def _sender(self) -> type:
        return NamedLock

    def __enter__(self) -> list[Lease]:
        return run(self._giving_leases(self._enter, self._let_go))

    async def __aenter__(self) -> list[Lease]:
        return await arun(self._giving_leases(self._aenter, self._alet_go))

    def _giving_leases(self, enter: Callable[..., Any], let_go: Callable[..., Any]) -> Steps[list[Lease]]:
        entry, holds = yield enter(self._plain_names)
        try:
            self._ensure_all_held(entry)
        except BaseException:
            self._entries.remove(entry)
            yield let_go(entry.holds)
            raise
        return [hold.lease for hold in holds if hold is not None]
