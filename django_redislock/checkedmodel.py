"""How a model with a `VersionField` is saved and deleted: with the version in the WHERE."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db import connections, router, transaction
from django.db.models import Model

from .asread import narrow
from .conflicts import find_conflict, newest
from .rollback import set_version, undo_at_rollback
from .versionforms import compare_opened, conflict_errors
from .versions import NextVersion, VersionField, version_field_of

MISSING = object()


class CheckedModel(Model):
    """Compares the version of what is saved and deleted.

    An abstract model, for Django leaves those out of the bases that a migration notes.
    """

    class Meta:  # noqa: D106 - as everywhere in Django
        abstract = True

    def _do_update(self, base_qs: Any, using: Any, pk_val: Any, values: Any, *rest: Any) -> Any:
        # Django adds arguments at the end now and then, and what it gives back was a bool before it was a list.
        field = version_field_of(base_qs.model)
        if field is None or field.model is not base_qs.model:  # a child's table; its parent has the version
            return super()._do_update(base_qs, using, pk_val, values, *rest)
        version = written_to(field, values)
        if version is MISSING:  # update_fields does not name it
            version = field.pre_save(self, False)
            values = [*values, (field, None, version)]
        if not isinstance(version, NextVersion):  # a raw save, such as loaddata's
            return super()._do_update(base_qs, using, pk_val, values, *rest)
        if version.expected is None:
            return _ensure_absent(self, field, using)
        narrow(base_qs, field, version.expected)
        updated = super()._do_update(base_qs, using, pk_val, values, *rest)
        if not updated:
            raise find_conflict(self, field, expected=version.expected, using=using)
        set_version(self, field, int(version), using)
        return updated

    def _do_insert(self, manager: Any, using: str, *rest: Any) -> Any:
        returned = super()._do_insert(manager, using, *rest)  # type: ignore[misc]
        field = version_field_of(manager.model)
        if field is not None and field.model is manager.model:
            undo_at_rollback(self, field, None, using)
        return returned

    def full_clean(self, exclude: Any = None, *rest: Any, **named: Any) -> None:
        """As Django's; after a form, also compare the version that it was opened with.

        In a transaction the row is kept so until its end: nothing can come between the check and the save. Of a form
        that does not carry the version, what was read is kept.
        """
        opened, read = self._state.__dict__.pop("redislock_opened", (None, None))
        super().full_clean(exclude, *rest, **named)
        field = version_field_of(type(self))
        if field is None or self._state.adding:
            return
        if read is not None:
            setattr(self, field.attname, compare_opened(self, opened))
        elif field.name in (exclude or ()):
            read = self.__dict__.get(field.attname)
        if read is not None:
            _ensure_saveable(self, field, read, exclude or ())

    def delete(self, using: str | None = None, *rest: Any, **named: Any) -> tuple[int, dict[str, int]]:
        """Delete the row if it has the version that was read; nothing when it is gone already."""
        field = version_field_of(type(self))
        using = using or router.db_for_write(type(self), instance=self)
        if field is not None and self._is_pk_set():  # type: ignore[attr-defined]
            with transaction.atomic(using=using, savepoint=False):
                _ensure_as_read(self, field, using)
                return super().delete(using, *rest, **named)
        return super().delete(using, *rest, **named)


def written_to(field: VersionField, values: Any) -> Any:
    """What a save writes to the field, if it writes it."""
    for written, _, value in values:
        if written is field:
            return value
    return MISSING


def _ensure_absent(instance: Model, field: VersionField, using: str) -> bool:
    """Leave a row that the instance was not read from alone; where there is none, the save goes on to insert one."""
    if newest(instance, using) is not None:
        raise find_conflict(instance, field, expected=None, using=using)
    return False


def _keep_row(instance: Model, field: VersionField, using: str) -> bool:
    """Keep the row as it was read until the end of the transaction; says whether it is so."""
    as_read = {field.attname: field.read_version_of(instance)}
    rows = field.model._base_manager.using(using).filter(pk=instance.pk, **as_read)
    return rows.update(**as_read) > 0


def _ensure_saveable(instance: Model, field: VersionField, read: int, hidden: Collection[str]) -> None:
    """Raise `ValidationError` when the row is not what the form was opened with. In a transaction, keep it so."""
    expected = field.read_version_of(instance)
    using = router.db_for_write(type(instance), instance=instance)
    if expected != read or (connections[using].in_atomic_block and not _keep_row(instance, field, using)):
        conflict = find_conflict(instance, field, expected=expected, using=using)
        instance._state.redislock_shown = conflict.current  # type: ignore[attr-defined]
        raise conflict_errors(conflict, hidden)


def _ensure_as_read(instance: Model, field: VersionField, using: str) -> None:
    """Keep the row as it was read until the end of the transaction, unless it is gone."""
    if not _keep_row(instance, field, using) and newest(instance, using) is not None:
        raise find_conflict(instance, field, expected=field.read_version_of(instance), using=using)
