"""The function forms: locks on plain names, on rows of models without a `LockManager`, on instances."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar, overload

from django.db.models import Manager, Model, QuerySet

from .exceptions import LockNotHeld
from .guards import NamedLock
from .handler import DEFAULT_ALIAS, locks
from .holds import current_flow
from .identity import name_of
from .lease import Lease
from .many import NamedLocks, read_list, read_many_terms
from .manyrows import RowLocks, select_many
from .rows import RowLock, give, select
from .terms import UNSET, MaybeBool, MaybeOnOutage, MaybeSeconds, read_terms, refuse_words

M = TypeVar("M", bound=Model)


def lock(
    name: str,
    *,
    wait: MaybeSeconds | None = UNSET,
    nowait: bool = False,
    ttl: MaybeSeconds = UNSET,
    max_hold: MaybeSeconds | None = UNSET,
    alias: str = DEFAULT_ALIAS,
    **unknown: Any,
) -> NamedLock:
    """The lock on a plain name: `with lock("nightly-import") as lease:`.

    `wait`: seconds or a `timedelta` that acquiring may take; `None`: for ever; `nowait=True`: one try.
    `ttl`: seconds that the server keeps the lease unless it is renewed. `max_hold`: seconds for which it is renewed;
    `None`: for ever. `alias` is one of `REDISLOCK`. A name that spells a row's key (`bank.Account:42`) is that row's
    lock. Within an open transaction of any database the release waits for its end.

    Raises on entering `LockBusy` (`WaitTimeout` after waiting) and `StoreUnavailable`, on leaving `LeaseLost`
    when the lease has ended.
    """
    if unknown:
        refuse_words(unknown, call="lock()")
    return NamedLock(name, read_terms(alias=alias, ttl=ttl, wait=wait, nowait=nowait, max_hold=max_hold))


@overload
def locked(
    target: type[M] | QuerySet[M] | Manager[M],
    pk: Any = ...,
    /,
    *,
    wait: MaybeSeconds | None = ...,
    nowait: bool = ...,
    ttl: MaybeSeconds = ...,
    max_hold: MaybeSeconds | None = ...,
    atomic: MaybeBool = ...,
    on_outage: MaybeOnOutage = ...,
    alias: str = ...,
    **lookup: Any,
) -> RowLock[M]: ...


@overload
def locked(
    target: M,
    /,
    *,
    wait: MaybeSeconds | None = ...,
    nowait: bool = ...,
    ttl: MaybeSeconds = ...,
    max_hold: MaybeSeconds | None = ...,
    atomic: MaybeBool = ...,
    on_outage: MaybeOnOutage = ...,
    alias: str = ...,
) -> RowLock[M]: ...


def locked(target: Any, pk: Any = None, /, **named: Any) -> RowLock[Any]:
    """The lock on a row of any model: `locked(User, pk)`, `locked(queryset, slug="x")`, `locked(instance)`.

    As `LockQuerySet.locked()`; a model is searched through its default manager. An instance is refreshed in place
    after the lock was acquired, which drops what was changed on it and not saved. Raises `ValueError` for an
    instance that is not saved.
    """
    if isinstance(target, Model):
        return give(target, pk, **named)
    if isinstance(target, type) and issubclass(target, Model):
        return select(target._default_manager.all(), pk, **named)
    if isinstance(target, QuerySet | Manager):
        return select(target.all(), pk, **named)
    raise TypeError(f"locked() takes a model, a manager, a queryset or an instance, not {target!r}.")


def lock_many(
    names: Iterable[str],
    *,
    wait: MaybeSeconds | None = UNSET,
    nowait: bool = False,
    ttl: MaybeSeconds = UNSET,
    max_hold: MaybeSeconds | None = UNSET,
    alias: str = DEFAULT_ALIAS,
    skip_locked: bool = False,
    limit: int | None = None,
    **unknown: Any,
) -> NamedLocks:
    """The locks on several plain names at once: `with lock_many(["stock", "prices"]) as leases:`.

    All of them or none, as `LockQuerySet.locked_many()`; gives the leases in the order asked for, and with
    `skip_locked=True` those of the names that are free, no more than `limit`. There is no `acquire()` by hand.
    """
    terms, choice = read_many_terms(
        "lock_many()",
        wait=wait,
        nowait=nowait,
        ttl=ttl,
        max_hold=max_hold,
        alias=alias,
        skip_locked=skip_locked,
        limit=limit,
        **unknown,
    )
    return NamedLocks(read_list("lock_many()", names, of="names"), terms, choice)


def locked_many(
    target: type[M] | QuerySet[M] | Manager[M],
    pks: Iterable[Any],
    /,
    *,
    wait: MaybeSeconds | None = UNSET,
    nowait: bool = False,
    ttl: MaybeSeconds = UNSET,
    max_hold: MaybeSeconds | None = UNSET,
    atomic: MaybeBool = UNSET,
    on_outage: MaybeOnOutage = UNSET,
    alias: str = DEFAULT_ALIAS,
    skip_locked: bool = False,
    limit: int | None = None,
    **unknown: Any,
) -> RowLocks[M]:
    """The locks on several rows of any model: `locked_many(User, [a, b])`, `locked_many(queryset, pks)`.

    As `LockQuerySet.locked_many()`; a model is searched through its default manager.
    """
    return select_many(
        queryset_of(target),
        pks,
        wait=wait,
        nowait=nowait,
        ttl=ttl,
        max_hold=max_hold,
        atomic=atomic,
        on_outage=on_outage,
        alias=alias,
        skip_locked=skip_locked,
        limit=limit,
        **unknown,
    )


def queryset_of(target: Any) -> QuerySet[Any]:
    """The rows of a model, a manager or a queryset."""
    if isinstance(target, type) and issubclass(target, Model):
        return target._default_manager.all()
    if isinstance(target, QuerySet | Manager):
        return target.all()
    raise TypeError(f"locked_many() takes a model, a manager or a queryset, not {target!r}.")


def get_lease(instance: Model, *, alias: str = DEFAULT_ALIAS) -> Lease:
    """The lease on the row of this instance: its `fence`, `key`, `remaining`, `state`, `ensure_held()`, `extend()`.

    Raises `LockNotHeld` when this thread or task does not hold the lock.
    """
    key_lock = locks[alias].lock(name_of(type(instance), instance.pk), model=type(instance))
    hold = current_flow().find(key_lock)
    if hold is None:
        raise LockNotHeld(f"{key_lock.key} is not held by this thread or task.", key=key_lock.key.name)
    return hold.lease
