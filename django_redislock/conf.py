"""The `REDISLOCK` setting: its names and their meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from .exceptions import RedisLockError
from .seconds import read_max_hold, read_ttl, read_wait


class InvalidLockSettings(RedisLockError, ImproperlyConfigured):
    """The `REDISLOCK` setting, or the cache that it names, cannot be used."""


class OnOutage(StrEnum):
    """What becomes of a block on rows when acquiring their locks finds Redis away."""

    RAISE = "raise"
    """`StoreUnavailable` is raised, and the body does not run."""
    OPTIMISTIC = "optimistic"
    """Where the rows have versions it runs without lock, and their saves are checked by version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One alias of `REDISLOCK`."""

    cache: str | tuple[str, ...]
    """Alias in `CACHES` of the django-redis cache whose server keeps the locks; or those of a quorum."""
    ttl: float
    """Seconds that the server keeps a lease without renewal."""
    wait: float | None
    """Seconds that acquiring may wait; `None`: for ever."""
    max_hold: float | None
    """Seconds for which a lease is renewed before it is let go to the next in line; `None`: for ever."""
    on_outage: OnOutage
    """What becomes of a block on rows when acquiring their locks finds Redis away."""
    min_replicas: int
    """So many replicas have to know of a lock before it counts; 0: none."""
    guard: float
    """Seconds that a server of a quorum sits out which has come back without its data."""
    key_function: Callable[..., str] | None
    """Called as `function(name, model=...)`, gives the name under which the lock is kept."""


def read_options(alias: str, entry: Any) -> Options:
    """Read one alias of the setting.

    Raises `InvalidLockSettings` for the first thing that is wrong with it.
    """
    for fault in faults_of(alias, entry):
        raise InvalidLockSettings(fault.message)
    return Options(**{name.lower(): read(entry.get(name, DEFAULTS[name])) for name, read in READERS.items()})


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong with the setting."""

    about: str
    """The option, or what else is wrong: `shape` or `name`."""
    message: str
    """What is wrong."""


def faults_of(alias: str, entry: Any) -> Iterator[Fault]:
    """All that is wrong with one alias of the setting."""
    where = f"REDISLOCK[{alias!r}]"
    if not isinstance(entry, Mapping):
        yield Fault("shape", f"{where} must be a dict, not {type(entry).__name__}.")
        return
    for name in entry:
        if name not in READERS:
            yield Fault("name", f"{where} has no option {name!r}; there are {', '.join(READERS)}.")
    for name, read in READERS.items():
        try:
            read(entry.get(name, DEFAULTS[name]))
        except (TypeError, ValueError, ImportError) as error:
            yield Fault(name, f"{where}[{name!r}]: {error}")
    if isinstance(entry.get("CACHE"), list | tuple):
        yield from guard_faults(where, {**DEFAULTS, **entry})
        yield from replica_faults(where, {**DEFAULTS, **entry})


def guard_faults(where: str, entry: Mapping[str, Any]) -> Iterator[Fault]:
    """A server of a quorum that sits out for less than a ttl could give a vote twice."""
    try:
        ttl, guard = read_ttl(entry["TTL"]), read_ttl(entry["GUARD"])
    except (TypeError, ValueError):  # which is told of the option itself
        return
    if guard < ttl:
        yield Fault("GUARD", f"{where}['GUARD']: it must not be shorter than TTL, {guard:g} s than {ttl:g} s.")


def replica_faults(where: str, entry: Mapping[str, Any]) -> Iterator[Fault]:
    """A vote is that of one server, whatever its replicas know."""
    try:
        count = read_min_replicas(entry["MIN_REPLICAS"])
    except (TypeError, ValueError):  # which is told of the option itself
        return
    if count:
        yield Fault("MIN_REPLICAS", f"{where}['MIN_REPLICAS']: a quorum waits for no replicas: 0, not {count}.")


def read_cache(value: Any) -> str | tuple[str, ...]:
    """An alias, or a list of three or more."""
    if not isinstance(value, list | tuple):
        return read_alias(value)
    aliases = tuple(read_alias(alias) for alias in value)
    if len(aliases) < FEWEST:
        raise ValueError(f"a quorum has {FEWEST} servers or more, so that one may fail; here are {len(aliases)}.")
    for alias in aliases:
        if aliases.count(alias) > 1:
            raise ValueError(f"each server of a quorum has one vote; {alias!r} is named more than once.")
    return aliases


def read_alias(value: Any) -> str:
    """An alias."""
    if not isinstance(value, str) or not value:
        raise TypeError(f"a cache alias is expected, or a list of some, not {value!r}.")
    if "://" in value:  # and it may hold a password, so it is not repeated
        raise ValueError("a cache alias is expected, not a URL.")
    return value


def read_on_outage(value: Any) -> OnOutage:
    """A word."""
    try:
        return OnOutage(value)
    except ValueError:
        words = " or ".join(repr(word.value) for word in OnOutage)
        raise ValueError(f"on_outage is {words}, not {value!r}.") from None


def read_min_replicas(value: Any) -> int:
    """A number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"a whole number is expected, not {value!r}.")
    if value < 0:
        raise ValueError(f"it must be 0 or more, not {value}.")
    return value


def read_key_function(value: Any) -> Callable[..., str] | None:
    """A function or its dotted path."""
    function = import_string(value) if isinstance(value, str) else value
    if function is not None and not callable(function):
        raise TypeError(f"a function or its dotted path is expected, not {value!r}.")
    return function  # type: ignore[no-any-return]  # what it returns is checked at every call


FEWEST = 3
"""Servers of a quorum: of two, none may fail."""

DEFAULTS: Mapping[str, Any] = {
    "CACHE": "default",
    "TTL": 30,
    "WAIT": 10,
    "MAX_HOLD": 300,
    "ON_OUTAGE": "raise",
    "MIN_REPLICAS": 0,
    "GUARD": 60,
    "KEY_FUNCTION": None,
}
READERS: Mapping[str, Callable[[Any], Any]] = {
    "CACHE": read_cache,
    "TTL": read_ttl,
    "WAIT": read_wait,
    "MAX_HOLD": read_max_hold,
    "ON_OUTAGE": read_on_outage,
    "MIN_REPLICAS": read_min_replicas,
    "GUARD": read_ttl,
    "KEY_FUNCTION": read_key_function,
}
