"""Which row a primary key means: one name for all its spellings, and for all models that share the row."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Field, Model

from .keys import row_key


def root_of(model: type[Model]) -> type[Model]:
    """The model whose table holds the primary key: proxies and children of multi-table inheritance share it."""
    root = model._meta.concrete_model
    if root is None or model._meta.abstract:
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
    try:
        name = row_key(root._meta.label, clean_parts(root, pk))
        name.encode()  # half a surrogate pair cannot be sent to Redis, nor to the database
    except (TypeError, ValueError, ArithmeticError, ValidationError) as error:
        reason = " ".join(error.messages) if isinstance(error, ValidationError) else error
        message = f"No {model._meta.label} has the primary key {shown(pk)}: {reason}"
        raise model.DoesNotExist(message) from error  # type: ignore[attr-defined]  # each model has its own
    return name


def shown(pk: Any) -> str:
    """What was given for a primary key, for a message."""
    try:
        return repr(pk)
    except ValueError:  # an integer with more digits than Python writes out
        return f"that is a very long {type(pk).__name__}"


def clean_parts(root: type[Model], pk: Any) -> tuple[Any, ...]:
    """The values of a primary key, one for each of its fields. Raises what `clean()` raises."""
    fields = getattr(root._meta.pk, "fields", None)  # a composite primary key has them
    if fields is None:
        return (clean(root._meta.pk, pk),)
    if not isinstance(pk, list | tuple) or len(pk) != len(fields):
        raise ValueError(f"it is a tuple of {', '.join(field.name for field in fields)}")
    return tuple(clean(field, part) for field, part in zip(fields, pk, strict=True))


def clean(field: Field[Any, Any], value: Any) -> Any:
    """The value as the field gives it to the database.

    Raises what the field raises for a value that it cannot be.
    """
    if value is None:
        raise ValueError("it is None")
    return field.get_prep_value(field.to_python(value))
