"""Which row a primary key means: one name for all its spellings, and for all models that share the row."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Field, Model

from .keys import row_key


def root_of(model: type[Model]) -> type[Model]:
    """The model whose table holds the primary key: proxies and children of multi-table inheritance share it."""
    root = model._meta.concrete_model
    if root is None:
        raise TypeError(f"{model.__name__} is abstract: it has no rows to lock.")
    pk = root._meta.pk
    while pk.remote_field is not None and pk.remote_field.parent_link:
        root = pk.remote_field.model
        pk = root._meta.pk
    return root


def name_of(model: type[Model], pk: Any) -> str:
    """The name of a row's lock.

    Raises the model's `DoesNotExist` for a value that no row can have as its primary key.
    """
    root = root_of(model)
    fields = getattr(root._meta.pk, "fields", None)  # a composite primary key has them
    try:
        if fields is None:
            parts: tuple[Any, ...] = (clean(root._meta.pk, pk),)
        else:
            parts = tuple(clean(field, part) for field, part in zip(fields, pk, strict=True))
    except (TypeError, ValueError, OverflowError, ValidationError) as error:
        reason = " ".join(error.messages) if isinstance(error, ValidationError) else error
        message = f"No {model._meta.label} has the primary key {pk!r}: {reason}"
        raise model.DoesNotExist(message) from error  # type: ignore[attr-defined]  # each model has its own
    return row_key(root._meta.label, parts)


def clean(field: Field[Any, Any], value: Any) -> Any:
    """The value as the field gives it to the database.

    Raises what the field raises for a value that it cannot be.
    """
    if value is None:
        raise ValueError("it is None")
    return field.get_prep_value(field.to_python(value))
