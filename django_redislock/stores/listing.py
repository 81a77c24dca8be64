"""What to send to learn of all locks at once, and how to read the answer: as `verbs`, without I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, overload

from ..holder import Holder, decode
from ..keys import BUCKETS
from . import scripts
from .packing import Keys
from .verbs import Call, name_in, root_of

LIST = scripts.load("list")

holder_of = lru_cache(maxsize=4096)(decode)
"""A process that holds many locks describes itself alike for each."""


class Waiter(NamedTuple):
    """Somebody in the queue of a lock."""

    holder: Holder
    """Who waits."""
    waits_for: float
    """For how many seconds."""
    flow: str
    """What all that the same thread or task holds and waits for has in common."""


class Listed(NamedTuple):
    """A lock that is held."""

    name: str
    """The name under which it is kept."""
    who: str
    """Who holds it, as it is stored."""
    acquired: int
    """When it was acquired, us since the epoch by the server's clock."""
    fence: int
    """The fence of the owner."""
    expires: int
    """When the server drops it unless it is renewed, ms since the epoch by the server's clock."""
    asked: int
    """When this was said, us since the epoch by the server's clock."""
    alias: str
    """What the place is called where it is kept."""
    waiters: int = 0
    """How many wait for it."""
    flow: str = ""
    """As in `Waiter`; only with `queues`."""
    queue: tuple[Waiter, ...] = ()
    """Those who wait, in order; only with `queues`."""

    @property
    def holder(self) -> Holder:
        """Who holds it."""
        return holder_of(self.who)

    @property
    def since(self) -> float:
        """When it was acquired, seconds since the epoch by the server's clock."""
        return self.acquired / 1e6

    @property
    def held_for(self) -> float:
        """Seconds since it was acquired."""
        return (self.asked - self.acquired) / 1e6

    @property
    def remaining(self) -> float:
        """Seconds until the server drops it unless it is renewed."""
        return max(0.0, self.expires / 1e3 - self.asked / 1e6)


class Listing(Sequence[Listed]):
    """What is held, by columns. There may be thousands of locks, of which few are looked at: those are made then.

    A tuple for each of them would have the garbage collector go through all that there is several times a page.
    """

    def __init__(self, columns: Iterable[list[Any]] | None = None) -> None:
        self._columns = [list[Any]() for _ in Listed._fields] if columns is None else list(columns)

    @classmethod
    def of(cls, locks: Iterable[Listed]) -> Listing:
        """These."""
        return cls([list(column) for column in zip(*locks, strict=True)] or None)

    def extend(self, other: Listing) -> None:
        """With those of another one after them."""
        for mine, theirs in zip(self._columns, other._columns, strict=True):
            mine.extend(theirs)

    def latest(self) -> Listing:
        """Each name once, as it was told last."""
        places = dict(zip(self.column("name"), range(len(self)), strict=True)).values()
        return Listing([[column[place] for place in places] for column in self._columns])

    def column(self, name: str) -> list[Any]:
        """What all of them have in one field of `Listed`."""
        return self._columns[Listed._fields.index(name)]

    def __len__(self) -> int:
        return len(self._columns[0])

    def __iter__(self) -> Iterator[Listed]:
        return map(Listed, *self._columns)

    @overload
    def __getitem__(self, index: int) -> Listed: ...

    @overload
    def __getitem__(self, index: slice) -> Listing: ...

    def __getitem__(self, index: int | slice) -> Listed | Listing:
        if isinstance(index, slice):
            return Listing([column[index] for column in self._columns])
        return Listed(*[column[index] for column in self._columns])


class Page(NamedTuple):
    """Some of all that is held."""

    locks: Listing
    more: Call[Page] | None
    """Asks for those that expire later."""


class Index(NamedTuple):
    """One of the sorted sets that name what is held."""

    root: str
    """What its own name begins with."""
    alias: str
    queues: bool

    def call(self, start: str = "") -> Call[Page]:
        """Asks for what it names, from an expiry on."""
        return Call(
            LIST, Keys((f"{self.root}:held",)), ("queues" if self.queues else "numbers", self.root, start), self.read
        )

    def read(self, reply: Any) -> Page:
        """As `list.lua` gives it."""
        asked, start, *parts = reply
        return Page(self._locks(asked, parts), self.call(start) if start else None)

    def _locks(self, asked: int, parts: Sequence[str]) -> Listing:
        entries, values, waiters, flows = parts
        if not values:
            return Listing()
        lines, named = values.split("\n"), json.loads(entries)
        waiting, whose = json.loads(waiters) or [0] * len(lines), flows.split(" ") if flows else [""] * len(lines)
        columns: Iterable[list[Any]] = (lines, named[::2], named[1::2], waiting, whose)
        if "" in lines:  # the index names what was taken away by hand
            columns = ([cell for cell, line in zip(column, lines, strict=True) if line] for column in columns)
        lines, keys, expiries, waiting, whose = columns
        fences, instants, holders = zip(*[line.split(" ", 2) for line in lines], strict=True) if lines else ((), (), ())
        return Listing(
            (
                [name_in(key, self.root) for key in keys],
                list(holders),
                list(map(int, instants)),
                list(map(int, fences)),
                list(map(int, expiries)),
                [asked] * len(keys),
                [self.alias] * len(keys),
                [queue if isinstance(queue, int) else len(queue) for queue in waiting],
                whose,
                [read_queue(queue, asked=asked) for queue in waiting],
            )
        )


def list_held(prefix: str, *, alias: str, queues: bool, in_slots: bool) -> list[Call[Page]]:
    """Calls that give all that is held below a prefix, with what is to be asked then.

    `in_slots`: whether each bucket has an index of its own.
    """
    root = root_of(prefix)
    roots = [f"{root}:{{{number}}}" for number in range(BUCKETS)] if in_slots else [root]
    return [Index(each, alias, queues).call() for each in roots]


def read_queue(waiters: Any, *, asked: int) -> tuple[Waiter, ...]:
    """Those who wait, where they are told one by one, and not only how many there are."""
    if not isinstance(waiters, list):
        return ()
    return tuple(
        Waiter(holder=holder_of(who), waits_for=(asked - int(began)) / 1e6, flow=flow) for flow, began, who in waiters
    )
