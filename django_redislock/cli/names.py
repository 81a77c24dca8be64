"""What people type for a lock: `nightly-import`, or `bank.Account:42` in any spelling of the row."""

from __future__ import annotations

from collections.abc import Sequence

from django.apps import apps
from django.core.exceptions import ObjectDoesNotExist
from django.core.management.base import CommandError
from django.db.models import Model

from ..handler import locks
from ..identity import name_of, root_of
from ..naming import parts_of
from ..overview import held
from ..stores.listing import Listed


def find(typed: str, *, alias: str, queues: bool = False) -> tuple[Listed, Sequence[Listed]]:
    """The lock that is meant, and all that are held. Raises `CommandError` when nobody holds it."""
    if not typed:
        raise CommandError("A key is text that is not empty, such as nightly-import or bank.Account:42.")
    everything = held(alias, queues=queues)
    by_name = {lock.name: lock for lock in everything}
    found = by_name.get(typed) or by_name.get(kept_name(typed, alias=alias))
    if found is None:
        raise CommandError(f"Nobody holds {typed} (any more).{hint(typed)}")
    return found, everything


def kept_name(typed: str, *, alias: str) -> str:
    """The name under which what is meant is kept. Raises `CommandError` for what cannot be a primary key."""
    model = model_named(typed)
    if model is None:
        return locks[alias].lock(typed, model=None).key.name
    spelt = typed.partition(":")[2]
    try:
        name = name_of(model, parts_of(spelt) if is_composite(model) else spelt)
    except ObjectDoesNotExist as error:
        raise CommandError(str(error)) from error
    return locks[alias].lock(name, model=model).key.name


def model_named(typed: str) -> type[Model] | None:
    """The model before the colon, in small or capital letters, if there is one."""
    label, colon, _ = typed.partition(":")
    try:
        return apps.get_model(label) if colon else None
    except (LookupError, ValueError):
        return None


def is_composite(model: type[Model]) -> bool:
    """Whether the primary key has several fields."""
    return hasattr(root_of(model)._meta.pk, "fields")


def hint(typed: str) -> str:
    """Where a model seems to be meant that there is not."""
    label = typed.partition(":")[0]
    if ":" in typed and "." in label and model_named(typed) is None:
        return f" There is no model {label}, so this is taken for a plain name."
    return " `manage.py redislock list` shows what is held."
