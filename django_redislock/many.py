"""Several locks at once: all of them or none, or those that are free."""

from __future__ import annotations

import logging
from asyncio import _get_running_loop
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from . import signals
from .conf import Options
from .entries import Entry
from .exceptions import LockBusy
from .guards import NamedLock, ensure_may_block
from .handler import DEFAULT_ALIAS, locks
from .holds import Charge, Hold, aenter_all, aenter_free, enter_all, enter_all_again, enter_free
from .keeping import Keeper
from .keylock import KeyLock
from .lease import Lease
from .steps import Steps, arun, run
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


class Acquire(NamedTuple):
    """How several locks are acquired."""

    all: Callable[..., Any]
    free: Callable[..., Any]


BLOCKING, AWAITED = Acquire(enter_all, enter_free), Acquire(aenter_all, aenter_free)


def leases_of(holds: Iterable[Hold | None]) -> list[Lease]:
    """Theirs."""
    return [hold.lease for hold in holds if hold is not None]


class ManyGuard(Keeper):
    """Several locks that are acquired together. They are for `with` only: there is no `acquire()` by hand."""

    __slots__ = ("_choice",)

    def __init__(self, terms: Terms, choice: Choice) -> None:
        super().__init__(terms)
        self._choice = choice

    def _enter(self, names: Sequence[str], entry: Entry) -> list[Hold | None]:
        """Acquire what is not held yet, and enter the rest again. What fails leaves to be undone what it has entered.

        Gives a hold for each name, in their order; with `skip_locked` none for what is somebody's.
        """
        return run(self._entering(names, entry, BLOCKING))

    async def _aenter(self, names: Sequence[str], entry: Entry) -> list[Hold | None]:
        """As `_enter()`."""
        return await arun(self._entering(names, entry, AWAITED))

    def _entering(self, names: Sequence[str], entry: Entry, acquire: Acquire) -> Steps[list[Hold | None]]:
        place = locks[self._terms.alias]
        wanted = place.locks(names, model=self._model)
        by_key = {lock.key.name: lock for lock in wanted}
        keys = list(by_key) if len(by_key) == len(wanted) else [lock.key.name for lock in wanted]
        enter_all_again(entry.flow, by_key.values(), entry.holds, limit=self._choice.limit)
        found = {hold.lock.key.name: hold for hold in entry.holds}
        had = len(found)
        left = [key for key in by_key if key not in found] if had else by_key
        rest = [*map(by_key.__getitem__, left if self._choice.skips_locked else sorted(left))]
        asked_for: list[Hold | None] = []

        def charge(holds: Iterable[Hold]) -> None:
            self._take_charge(holds, place.options)
            found.update({hold.lock.key.name: hold for hold in holds})
            asked_for[:] = map(found.get, keys)

        yield from self._acquiring(entry, rest, acquire, charge, options=place.options)
        self._entries.append(entry)
        if had:
            self._ensure_all_held(entry)
        return asked_for or [*map(found.get, keys)]

    def _acquiring(
        self, entry: Entry, rest: list[KeyLock], acquire: Acquire, charge: Charge, *, options: Options
    ) -> Steps[None]:
        had = len(entry.holds)
        limit = len(rest) if self._choice.limit is None else min(len(rest), self._choice.limit - had)
        if not limit:
            return
        ttl = options.ttl if self._terms.ttl is UNSET else self._terms.ttl
        wait = options.wait if self._terms.wait is UNSET else self._terms.wait
        if acquire is BLOCKING and _get_running_loop() is not None:
            ensure_may_block()
        try:
            if self._choice.skips_locked:
                yield acquire.free(entry.flow, rest, entry.holds, ttl=ttl, limit=limit, charge=charge)
            else:
                yield acquire.all(entry.flow, rest, entry.holds, ttl=ttl, wait=wait, charge=charge)
        except LockBusy as error:
            self._send(signals.lock_contended, error=error)
            raise
        self._announce(entry.holds[had:])

    def _ensure_all_held(self, entry: Entry) -> None:
        """Raise `LeaseLost` when one that was entered again ended while the others were waited for."""
        lost = self._check(entry.holds)
        if lost is not None:
            raise lost


class NamedLocks(ManyGuard):
    """The locks on several plain names. `with` gives their leases, in the order asked for.

    They are for `with` only: there is no `acquire()` by hand.
    """

    __slots__ = ("_plain_names",)

    def __init__(self, names: Sequence[str], terms: Terms, choice: Choice) -> None:
        if {*map(type, names)} != {str} or "" in names:  # else there is no need to look at each
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
        entry = Entry([])
        try:
            return leases_of(self._enter(self._plain_names, entry))
        except BaseException as error:
            self._undo(entry, error)
            raise

    async def __aenter__(self) -> list[Lease]:
        entry = Entry([])
        try:
            return leases_of(await self._aenter(self._plain_names, entry))
        except BaseException as error:
            await self._aundo(entry, error)
            raise
