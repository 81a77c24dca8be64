"""How a lock is to be acquired, as the caller says it: checked at the call, so that a mistake locks nothing."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypedDict

from .conf import OnOutage
from .handler import DEFAULT_ALIAS
from .seconds import Seconds, read_max_hold, read_ttl, read_wait


class Unset(Enum):
    """Tells "not given: the setting decides" from `None`, which is a value of `wait`."""

    UNSET = "the setting"


UNSET: Final = Unset.UNSET
MaybeSeconds = Seconds | Literal[Unset.UNSET]
MaybeBool = bool | Literal[Unset.UNSET]
MaybeOnOutage = OnOutage | Literal["raise", "optimistic", Unset.UNSET]

OTHER_WORDS = {
    "timeout": "ttl= (how long the server keeps the lock) or wait= (how long to wait for it)",
    "blocking_timeout": "wait=",
    "blocking": "nowait=",
    "expire": "ttl=",
}


class LockTerms(TypedDict, total=False):
    """What decorators hand on to `lock()`, `locked()` and `locked_many()`, and mean by it what these mean."""

    alias: str
    """Alias in `REDISLOCK`."""
    ttl: Seconds
    """How long the server keeps the lease."""
    wait: Seconds | None
    """How long acquiring may wait; `None`: for ever."""
    nowait: bool
    """One try."""
    max_hold: Seconds | None
    """How long the lease is renewed; `None`: for as long as it is held."""


class Terms(NamedTuple):
    """What the caller asked for; what was left open is `UNSET`."""

    alias: str
    """Alias in `REDISLOCK`."""
    ttl: float | Literal[Unset.UNSET]
    """Seconds that the server keeps the lease."""
    wait: float | Literal[Unset.UNSET] | None
    """Seconds that acquiring may wait; `None`: for ever."""
    max_hold: float | Literal[Unset.UNSET] | None = UNSET
    """Seconds for which a lease is renewed before it is let go; `None`: for ever."""


def read_terms(
    *,
    alias: str = DEFAULT_ALIAS,
    ttl: MaybeSeconds = UNSET,
    wait: MaybeSeconds | None = UNSET,
    nowait: bool = False,
    max_hold: MaybeSeconds | None = UNSET,
) -> Terms:
    """Check the arguments that every lock takes.

    Raises `TypeError` or `ValueError`.
    """
    if ttl is wait is max_hold is UNSET and not nowait:
        return usual(alias)
    if nowait and wait is not UNSET:
        raise TypeError("nowait=True is wait=0: pass one of the two.")
    if max_hold is not UNSET:
        max_hold = read_max_hold(max_hold)
    if wait is not UNSET:
        return Terms(alias, UNSET if ttl is UNSET else read_ttl(ttl), read_wait(wait), max_hold)
    return Terms(alias, UNSET if ttl is UNSET else read_ttl(ttl), 0.0 if nowait else UNSET, max_hold)


@lru_cache(maxsize=64)
def usual(alias: str) -> Terms:
    """The setting decides."""
    return Terms(alias, ttl=UNSET, wait=UNSET)


def check_terms(terms: LockTerms, *, call: str) -> None:
    """Raise `TypeError` or `ValueError` for what a decorator should not hand on."""
    refuse_words(sorted(terms.keys() - LockTerms.__annotations__.keys()), call=call)
    read_terms(**terms)


def refuse_words(names: Iterable[str], *, call: str) -> None:
    """Raise a `TypeError` for the first name, which tells our word for it if it is another library's."""
    for name in names:
        hint = f" Did you mean {OTHER_WORDS[name]}?" if name in OTHER_WORDS else ""
        raise TypeError(f"{call} got an unexpected keyword argument {name!r}.{hint}")
