"""Back from the name of a lock to the row that it means, for people who want to look at it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from django.apps import apps
from django.core.exceptions import ValidationError
from django.core.signals import setting_changed
from django.db.models import Field, Model

from .identity import root_of


class Row(NamedTuple):
    """The row that a name means."""

    model: type[Model]
    """The model whose table holds the primary key."""
    pk: Any
    """Its primary key; a tuple where that is composite."""


@lru_cache(maxsize=1024)
def model_of(label: str) -> type[Model] | None:
    """The model whose rows are named like this (`bank.Account`), if there is one."""
    app_label, _, name = label.partition(".")
    found = apps.all_models.get(app_label, {}).get(name.lower())
    return found if found is not None and found._meta.label == label and root_of(found) is found else None


def forget_models(*, setting: str, **named: object) -> None:
    """Other apps have other models."""
    if setting == "INSTALLED_APPS":
        model_of.cache_clear()


setting_changed.connect(forget_models)


def label_of(name: str) -> str:
    """The label of the model whose row a name means; empty for a plain name."""
    label, colon, _ = name.partition(":")
    return label if colon and model_of(label) is not None else ""


def row_of(name: str) -> Row | None:
    """The row that a name means, unless it is a plain name. Whether there is such a row is not asked."""
    label, colon, spelt = name.partition(":")
    model = model_of(label) if colon else None
    if model is None or "\0" in spelt:
        return None
    try:
        return Row(model, read_pk(model, spelt))
    except (ValidationError, ValueError, TypeError, ArithmeticError):
        return None


def read_pk(model: type[Model], spelt: str) -> Any:
    """The primary key that is spelt in a name. Raises what its fields raise for what it cannot be."""
    fields = getattr(model._meta.pk, "fields", None)  # a composite primary key has them
    if fields is None:
        return clean(model._meta.pk, spelt)
    return tuple(clean(field, part) for field, part in zip(fields, parts_of(spelt), strict=True))


def parts_of(spelt: str) -> list[str]:
    """The parts of a composite primary key."""
    return [part.replace("%2C", ",").replace("%25", "%") for part in spelt.split(",")]


def clean(field: Field[Any, Any], part: str) -> Any:
    """A value that the field can ask the database for; raises `ValidationError` for one out of its range."""
    while field.remote_field is not None:
        field = field.target_field  # type: ignore[attr-defined]  # only fields with a remote one get here
    value = field.to_python(part)
    field.run_validators(value)
    return value
