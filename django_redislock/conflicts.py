"""What is raised when a versioned row is not what it was when it was read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import DatabaseError, connections
from django.db.models import Field, Model

from . import signals
from .exceptions import RedisLockError
from .identity import name_of
from .rowkeeping import newest_of
from .transactions import pins_snapshot
from .versions import VersionField, version_field_of


class _Unknown(Enum):
    UNKNOWN = "unknown"

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = _Unknown.UNKNOWN
"""The base of a difference where nobody noted what the row was when it was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One field of which two writers have different values."""

    mine: Any
    """What the instance has that was refused."""
    theirs: Any
    """What the row has now."""
    base: Any = UNKNOWN
    """What the row had when the instance was read, or `UNKNOWN`."""


class VersionConflict(RedisLockError, DatabaseError):
    """The row was changed or deleted since the instance was read, so nothing was written: read again, try again.

    `instance` was refused. `expected` is the version that it was read with, `None` when it was not read at all;
    `current` is the version that the row has now, `None` when there is no row.
    """

    instance: Model | None = None
    expected: int | None = None
    current: int | None = None
    theirs: Model | None = None
    """The row as it is now."""

    def diff(self) -> dict[str, Difference]:
        """The fields in which the instance and the row differ, by name; none when there is no row any more.

        Asks no database: the row was read when the conflict was found.
        """
        if self.instance is None or self.theirs is None:
            return {}
        version = version_field_of(type(self.instance))
        base = base_of(self.instance, self.expected)
        found = {}
        for field in self.instance._meta.concrete_fields:
            mine = self.instance.__dict__.get(field.attname, UNKNOWN)
            theirs = getattr(self.theirs, field.attname)
            if field is not version and mine is not UNKNOWN and not _alike(field, mine, theirs):
                found[field.name] = Difference(mine=mine, theirs=theirs, base=base.get(field.attname, UNKNOWN))
        return found


def _alike(field: Field[Any, Any], mine: Any, theirs: Any) -> bool:
    """Whether two values are one to the field, however they are spelt."""
    try:
        return bool(field.to_python(mine) == theirs)
    except (TypeError, ValueError, ValidationError):  # what cannot be read, such as an expression
        return False


def find_conflict(instance: Model, field: VersionField, *, expected: int | None, using: str) -> VersionConflict:
    """The conflict of an instance that the database refused, with the row as it is now; tells the signal."""
    theirs = newest(instance, using)
    current = None if theirs is None else getattr(theirs, field.attname)
    key = name_of(type(instance), instance.pk)
    error = VersionConflict(f"{key} {describe(expected, current)}", key=key)
    error.instance, error.expected, error.current, error.theirs = instance, expected, current, theirs
    signals.version_conflict.send_robust(sender=type(instance), error=error)
    return error


def newest(instance: Model, using: str) -> Model | None:
    """The row of an instance as it is now, if there is one."""
    connection = connections[using]
    rows = type(instance)._base_manager.using(using).filter(pk=instance.pk)
    if connection.in_atomic_block and connection.features.has_select_for_update and pins_snapshot(connection):
        rows = newest_of(rows, using)
    return rows.first()


def describe(expected: int | None, current: int | None) -> str:
    """What happened, in words."""
    if current is None:
        return f"was deleted after it was read with version {expected}, so nothing was written."
    if expected is None:
        return (
            f"is in the database already, with version {current}, and this instance was not read from there: nothing "
            f"was written over it. Read the row, change it and save that."
        )
    return (
        f"was changed by another: it was read with version {expected} and has version {current} now. Nothing was "
        f"written. Read the row again and do the change again, or see diff()."
    )


def remember_base(instance: Model) -> None:
    """Note what the row is now, for the `base` of later differences."""
    field = version_field_of(type(instance))
    if field is not None:
        values = {
            column.attname: instance.__dict__.get(column.attname, UNKNOWN) for column in instance._meta.concrete_fields
        }
        instance._state.redislock_base = values  # type: ignore[attr-defined]


def base_of(instance: Model, expected: int | None) -> dict[str, Any]:
    """What was noted of the row at that version, by column."""
    field = version_field_of(type(instance))
    base: dict[str, Any] = getattr(instance._state, "redislock_base", {})
    return base if field is not None and base.get(field.attname) == expected else {}
