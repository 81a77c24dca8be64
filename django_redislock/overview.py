"""All locks that are held: what the admin, the command and monitoring show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from .exceptions import RedisLockError
from .guards import LockInfo, info_of
from .handler import DEFAULT_ALIAS, Locks, locks
from .keys import Key
from .stores.listing import Listing


def held(alias: str = DEFAULT_ALIAS, *, queues: bool = False) -> Listing:
    """All locks of an alias that are held now, in no particular order: one round trip, and no look at other keys.

    With `queues` also who waits for each, in order. Raises `StoreUnavailable` when Redis cannot be asked.
    """
    return locks[alias].inquiry.list_held(alias=alias, queues=queues)


def infos(names: Sequence[str], *, alias: str = DEFAULT_ALIAS) -> list[LockInfo | None]:
    """Who holds the locks that are kept under these names, in one round trip.

    Raises `StoreUnavailable` when Redis cannot be asked.
    """
    keys = [Key(name) for name in names]
    found = locks[alias].inquiry.inspect(keys)
    return [None if held is None else info_of(key, held) for key, held in zip(keys, found, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What several aliases hold."""

    locks: Listing
    """In no particular order."""
    faults: dict[str, RedisLockError] = field(default_factory=dict)
    """Why an alias is missing."""


def look(aliases: Iterable[str] | None = None, *, queues: bool = False) -> Overview:
    """What is held, of all aliases unless some are named; one that cannot be asked keeps the others from nothing."""
    found = Listing()
    faults: dict[str, RedisLockError] = {}
    for alias in distinct(faults) if aliases is None else aliases:
        try:
            found.extend(held(alias, queues=queues))
        except RedisLockError as error:
            faults[alias] = error
    return Overview(locks=found, faults=faults)


def distinct(faults: dict[str, RedisLockError]) -> Iterator[str]:
    """The first alias of each place where locks are kept."""
    seen: set[tuple[tuple[str, str], ...]] = set()
    for alias in aliases_of(faults):
        try:
            place: Locks = locks[alias]
        except RedisLockError as error:
            faults[alias] = error
            continue
        if place.where not in seen:
            seen.add(place.where)
            yield alias


def aliases_of(faults: dict[str, RedisLockError]) -> list[str]:
    """The aliases of `REDISLOCK`."""
    try:
        return list(locks.settings)
    except RedisLockError as error:
        faults[DEFAULT_ALIAS] = error
        return []
