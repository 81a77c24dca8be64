"""`Account.objects.optimistic(pk)`: work on a row without a lock, decided by its version when it is saved."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Generic, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections
from django.db.models import Model, QuerySet
from django.db.transaction import TransactionManagementError

from .conflicts import remember_base
from .rows import Selected
from .transactions import users_blocks
from .versions import version_field_of

M = TypeVar("M", bound=Model)


class Optimistic(Generic[M]):
    """What `optimistic()` gives. `with` or `async with` gives the row, read from the database it is written to."""

    __slots__ = ("_source",)

    def __init__(self, queryset: QuerySet[M], pk: Any, lookup: dict[str, Any]) -> None:
        if version_field_of(queryset.model) is None:
            raise TypeError(
                f"optimistic() needs a version: {queryset.model._meta.label} has no VersionField, so nothing would "
                f"tell that another changed the row meanwhile. Add one, or use locked()."
            )
        self._source = Selected(queryset, pk, lookup)

    def __repr__(self) -> str:
        return f"<Optimistic {self._source!r}>"

    def __enter__(self) -> M:
        if users_blocks(connections[self._source.using]):
            raise TransactionManagementError(
                "optimistic() is for work without a transaction, which would be open, and would keep what it has "
                "written from others, for as long as the work takes. Leave atomic() first."
            )
        row = self._source.read(self._source.select(self._source.find()), newest=False)
        remember_base(row)
        return row

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing is held that could be given back."""

    async def __aenter__(self) -> M:
        return await sync_to_async(self.__enter__)()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing is held that could be given back."""
