"""What a queryset writes moves the version too, and what it reads has it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeVar

from django.db import NotSupportedError, connections, transaction
from django.db.models import BigIntegerField, Case, F, Model, QuerySet, Value, When

from .conflicts import find_conflict
from .rollback import at_rollback, set_version, undo
from .versions import VersionField, version_field_of

M = TypeVar("M", bound=Model)

UPSERTS = ("DO UPDATE SET ", "ON DUPLICATE KEY UPDATE ")
"""What stands before the assignments of an upsert."""


class _Stale(Exception):
    """A batch did not find all its rows as they were read."""


class VersionQuerySet(QuerySet[M]):
    """A queryset of a model that may have a version; without one it is Django's."""

    @property
    def _version(self) -> VersionField | None:
        return version_field_of(self.model)

    def only(self, *fields: str) -> Any:
        """As Django's, and the version with it: without it a row could not be saved."""
        version = self._version
        return super().only(*fields, *([version.name] if version is not None and fields else []))

    def defer(self, *fields: Any) -> Any:
        """As Django's, but never the version: without it a row could not be saved."""
        version = self._version
        return super().defer(*(field for field in fields if version is None or field != version.name))

    def update(self, **changes: Any) -> int:
        """As Django's, and moves the version of each row."""
        version = self._version
        if version is not None and changes:
            changes.setdefault(version.name, F(version.name) + 1)
        return super().update(**changes)

    def bulk_update(self, objs: Iterable[M], fields: Iterable[str], batch_size: int | None = None) -> int:
        """As Django's, and checks and moves the version of each.

        Raises `VersionConflict` for the first whose row is not what was read, and the model's `DoesNotExist` where
        a row is none of this queryset; then no row was written.
        """
        version = self._version
        objs = tuple(objs)
        if version is None or not objs:
            return super().bulk_update(objs, fields, batch_size)
        written = [name for name in fields if name != version.name]
        self._for_write = True
        most = connections[self.db].ops.bulk_batch_size([*written, *["pk"] * 4], objs)
        size = min(batch_size, most) if batch_size is not None and batch_size > 0 else most
        try:
            with transaction.atomic(using=self.db):
                for start in range(0, len(objs), size):
                    self._update_as_read(version, objs[start : start + size], written, batch_size)
        except _Stale as stale:
            raise self._stale_one(version, objs) from stale
        for obj in objs:
            set_version(obj, version, obj.__dict__[version.attname] + 1, self.db)
        return len(objs)

    def _update_as_read(
        self, version: VersionField, objs: Sequence[M], fields: Collection[str], batch_size: int | None
    ) -> None:
        read = [When(pk=obj.pk, then=Value(version.read_version_of(obj), BigIntegerField())) for obj in objs]
        rows = self.filter(**{version.name: Case(*read, output_field=BigIntegerField())})
        if QuerySet.bulk_update(rows, objs, fields, batch_size) != len(objs):
            raise _Stale

    def _stale_one(self, version: VersionField, objs: Collection[M]) -> Exception:
        """Why not all of them could be written."""
        rows = self.model._base_manager.using(self.db).filter(pk__in=[obj.pk for obj in objs])
        current = dict(rows.values_list("pk", version.name))
        for obj in objs:
            expected = version.read_version_of(obj)
            if current.get(obj.pk) != expected:
                return find_conflict(obj, version, expected=expected, using=self.db)
        message = "Not all objects are rows of this queryset, each of them once; no row was written."
        return self.model.DoesNotExist(message)  # type: ignore[attr-defined,no-any-return]  # each model has its own

    def bulk_create(  # noqa: PLR0917 - as Django has it
        self,
        objs: Iterable[M],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        update_fields: Collection[str] | None = None,
        unique_fields: Collection[str] | None = None,
    ) -> list[M]:
        """As Django's; a row that is there already and is updated has its version moved.

        With either kind of conflicts allowed for, the instances are not what was read: their version is `None` then,
        and they are to be read before they are saved.
        """
        version = self._version
        named = {"update_fields": update_fields, "unique_fields": unique_fields}
        if version is None:
            return super().bulk_create(objs, batch_size, ignore_conflicts, update_conflicts, **named)
        self._for_write = True
        connection = connections[self.db]
        moving = connection.execute_wrapper(partial(move_in_upsert, version)) if update_conflicts else nullcontext()
        with moving:
            created = super().bulk_create(objs, batch_size, ignore_conflicts, update_conflicts, **named)
        if ignore_conflicts or update_conflicts:
            for obj in created:
                obj.__dict__[version.attname] = None
        else:
            at_rollback(connection, partial(_undo_all, [weakref.ref(obj) for obj in created], version.attname))
        return created


def move_in_upsert(  # noqa: PLR0917 - as Django calls it
    version: VersionField, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    """Add the version to what an upsert assigns: Django can only assign what was to be inserted."""
    if sql.startswith("INSERT"):
        quote = context["connection"].ops.quote_name
        table, column = quote(version.model._meta.db_table), quote(version.column)
        start = next((start for start in UPSERTS if start in sql), None)
        if start is None:
            raise NotSupportedError(f"No version can be moved in an upsert on {context['connection'].display_name}.")
        sql = sql.replace(start, f"{start}{column} = {table}.{column} + 1, ", 1)
    return execute(sql, params, many, context)


def _undo_all(references: Iterable[weakref.ref[Model]], attname: str) -> None:
    """The rows of these are not there any more."""
    for reference in references:
        undo(reference, attname, None)
