"""`VersionField`: the column that each save compares and moves on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from django.db.models import BigIntegerField, Field, Model
from django.db.models.query_utils import DeferredAttribute

from .versionforms import Opened, VersionFormField

if TYPE_CHECKING:
    VersionBase = BigIntegerField[int | None, int | None]
else:
    VersionBase = BigIntegerField

FIRST = 1
"""The version of a row that was inserted and not written since."""

FIXED = ("default", "db_default", "null", "blank", "unique", "primary_key", "choices", "editable")


class NextVersion(int):
    """The version that a save is about to write."""

    expected: int | None
    """The version that the row must still have; `None` where there must be no row."""


class VersionAttribute(DeferredAttribute):
    """A version that was not read with its row is never taken for the one that belongs to the other fields."""

    def __get__(self, instance: Any, cls: Any = None) -> Any:
        """As Django's, but what is read late is not kept: a save has to see that it was not there."""
        value = super().__get__(instance, cls)
        if instance is not None:
            del instance.__dict__[self.field.attname]
        return value


class VersionField(VersionBase):
    """A row's version: `version = VersionField()` on any model, one on each.

    `save()` writes with the version in its WHERE and counts it up, `delete()` compares it too: who comes with a row
    that another has changed since gets `VersionConflict`. An insert starts it at 1. It is `None` on an instance that
    is not in the database. It takes the arguments of a field that name and describe it, no others.
    """

    descriptor_class = VersionAttribute

    def __init__(self, verbose_name: Any = None, name: str | None = None, **options: Any) -> None:
        for option in FIXED:
            if option in options:
                raise TypeError(f"VersionField() takes no {option}=: it decides that itself.")
        # The database fills it in for rows that were there before, and for code that does not know it yet.
        super().__init__(verbose_name, name, db_default=FIRST, blank=True, **options)

    def contribute_to_class(self, cls: type[Model], *rest: Any, **named: Any) -> None:
        """As Django's; what was known of the model before is known no more."""
        super().contribute_to_class(cls, *rest, **named)
        version_field_of.cache_clear()

    def deconstruct(self) -> Any:
        """For migrations."""
        name, _, args, options = super().deconstruct()
        return name, "django_redislock.VersionField", args, {k: v for k, v in options.items() if k not in FIXED}

    def get_default(self) -> None:
        """What is not in the database has no version."""
        return

    def pre_save(self, model_instance: Model, add: bool) -> Any:
        """The version to write. Raises `ValueError` when the instance was read without its version."""
        if add:
            setattr(model_instance, self.attname, FIRST)
            return FIRST
        expected = self.read_version_of(model_instance)
        version = NextVersion(FIRST if expected is None else expected + 1)
        version.expected = expected
        return version

    def read_version_of(self, instance: Model) -> int | None:
        """The version that the instance was read with, `None` when it was not read.

        Raises `ValueError` when it was read without its version.
        """
        if instance._state.adding:
            return None
        version = instance.__dict__.get(self.attname, self)
        if version is self:
            raise ValueError(
                f"{instance!r} was read without its {self.attname!r}, so a save cannot tell whether another has "
                f"changed the row since. Add {self.attname!r} to only(), or take it out of defer()."
            )
        if version is not None and not isinstance(version, int):
            raise TypeError(f"The version of {instance!r} is an int that was read with it, not {version!r}.")
        return version

    def formfield(self, *args: Any, **named: Any) -> Any:
        """A hidden input that carries the version, signed; widgets that are asked for are for numbers."""
        return VersionFormField()

    def save_form_data(self, instance: Model, data: Opened | None) -> None:
        """Save with the version that the form was opened with; `full_clean()` tells what is wrong with it."""
        instance._state.redislock_opened = (data, instance.__dict__.get(self.attname))  # type: ignore[attr-defined]

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        """As Django's; a fixture from before the field was there starts it."""
        return super().get_db_prep_save(FIRST if value is None else value, connection)


@cache
def version_field_of(model: type[Any]) -> VersionField | None:
    """The field that keeps the version of a model's rows, perhaps a parent's, if there is one."""
    return next(version_fields_of(model), None)


def version_fields_of(model: type[Model]) -> Iterator[VersionField]:
    """All such fields; more than one is a mistake that the system checks report."""
    fields: tuple[Field[Any, Any], ...] = model._meta.concrete_fields
    return (field for field in fields if isinstance(field, VersionField))
