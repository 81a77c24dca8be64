"""`Account.objects.locked(pk)`: row locks on querysets and managers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import models

from .guards import LockInfo
from .handler import DEFAULT_ALIAS
from .manyrows import RowLocks, select_many
from .optimistic import Optimistic
from .rows import RowLock, select
from .terms import UNSET, MaybeBool, MaybeOnOutage, MaybeSeconds
from .versionquery import VersionQuerySet

M = TypeVar("M", bound=models.Model)


class LockQuerySet(VersionQuerySet[M]):
    """A queryset whose rows can be locked; `LockQuerySet.as_manager()` works too."""

    def locked(
        self,
        pk: Any = None,
        /,
        *,
        wait: MaybeSeconds | None = UNSET,
        nowait: bool = False,
        ttl: MaybeSeconds = UNSET,
        max_hold: MaybeSeconds | None = UNSET,
        atomic: MaybeBool = UNSET,
        on_outage: MaybeOnOutage = UNSET,
        alias: str = DEFAULT_ALIAS,
        **lookup: Any,
    ) -> RowLock[M]:
        """The lock on one row of this queryset: `with Account.objects.locked(pk) as account:`.

        Acquires, opens `atomic()` on the database that the row is written to, reads the row, runs the body,
        checks the lease, commits, releases. Within an open transaction the release waits for its end. The row is
        named by its primary key or by a lookup (`number="12-34"`) and must belong to the queryset; for fields
        that are called like an argument use `filter()`.

        `wait`: seconds or a `timedelta` that acquiring may take; `None`: for ever; `nowait=True`: one try.
        `ttl`: seconds that the server keeps the lease unless it is renewed. `max_hold`: seconds for which it is
        renewed, before it goes to the next in line; `None`: for ever. `atomic=False` opens no transaction. `alias` is
        one of `REDISLOCK`. `on_outage="optimistic"`: when Redis is away, rows with a `VersionField` are given
        without lock; their saves are checked by version.

        Raises on entering `DoesNotExist`, `LockBusy` (`WaitTimeout` after waiting), `StoreUnavailable`; on
        leaving `LeaseLost`, after a rollback, when the lease has ended. Then nothing stays locked.
        """
        return select(
            self,
            pk,
            wait=wait,
            nowait=nowait,
            ttl=ttl,
            max_hold=max_hold,
            atomic=atomic,
            on_outage=on_outage,
            alias=alias,
            **lookup,
        )

    def locked_many(
        self,
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
        """The locks on several rows at once: `with Account.objects.locked_many([a, b]) as (one, other):`.

        All of them or none, in whatever order they are named, without deadlock among those who lock several rows
        like this. Gives the rows in the order asked for; one that is asked for twice comes twice, as the same
        instance. The arguments mean what they mean for `locked()`; the block ends as its block does, and with
        `LeaseLost` when any of the leases has ended.

        `skip_locked=True` never waits: it gives those rows that are free and exist, and no more than `limit`, the
        first of them in the order asked for. (A primary key without a row counts towards the limit.)

        Raises on entering what `locked()` raises; `DoesNotExist` names all primary keys without a row. Then nothing
        stays locked. There is no `acquire()` by hand.
        """
        return select_many(
            self,
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

    def optimistic(self, pk: Any = None, /, **lookup: Any) -> Optimistic[M]:
        """A fresh row to work on without a lock: `with Account.objects.optimistic(pk) as account:`, or `async with`.

        Asks no Redis and opens no transaction, so the work may take minutes; `account.save()` writes if nobody has
        changed the row meanwhile, and raises `VersionConflict` otherwise. The row is named as for `locked()`.

        Raises `TypeError` for a model without a `VersionField`; on entering `DoesNotExist`, and
        `TransactionManagementError` inside a transaction.
        """
        return Optimistic(self, pk, lookup)

    def lock_info(self, pk: Any, /, *, alias: str = DEFAULT_ALIAS) -> LockInfo | None:
        """Who holds the lock on the row with this primary key, or `None`; whether the row exists is not asked.

        Raises `StoreUnavailable` when Redis cannot be asked.
        """
        return self.locked(pk, alias=alias).info()

    def is_locked(self, pk: Any, /, *, alias: str = DEFAULT_ALIAS) -> bool:
        """Whether somebody, perhaps the caller, holds the lock on the row with this primary key now.

        Raises `StoreUnavailable` when Redis cannot be asked.
        """
        return self.lock_info(pk, alias=alias) is not None

    async def alock_info(self, pk: Any, /, *, alias: str = DEFAULT_ALIAS) -> LockInfo | None:
        """As `lock_info()`, on an event loop."""
        return await self.locked(pk, alias=alias).ainfo()

    async def ais_locked(self, pk: Any, /, *, alias: str = DEFAULT_ALIAS) -> bool:
        """As `is_locked()`, on an event loop."""
        return await self.alock_info(pk, alias=alias) is not None


MYPY = False  # mypy takes it for true: it knows by its plugin what from_queryset() makes, other checkers do not
if TYPE_CHECKING and not MYPY:

    class _FromQuerySet(LockQuerySet[M], models.Manager[M]):
        """For the eye of a type checker only."""
else:
    _FromQuerySet = models.Manager.from_queryset(LockQuerySet)


class LockManager(_FromQuerySet[M]):
    """A manager whose rows can be locked: `objects = LockManager()`."""

    @classmethod
    def from_queryset(cls, queryset_class: type[models.QuerySet[Any]], class_name: str | None = None) -> Any:
        """As Django's, for any queryset class: one that cannot lock yet learns it."""
        if not issubclass(queryset_class, LockQuerySet):
            queryset_class = type(f"Lock{queryset_class.__name__}", (queryset_class, LockQuerySet), {})
        return super().from_queryset(queryset_class, class_name)
