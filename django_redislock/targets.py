"""Which row a request is about: what is to be locked, how the URL names it, how the view is given it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from asgiref.sync import iscoroutinefunction
from django.db.models import Manager, Model, QuerySet

from .functions import locked, queryset_of
from .identity import name_of
from .rows import RowLock
from .terms import OTHER_WORDS, LockTerms, MaybeBool

RowIn = str | Mapping[str, str] | Callable[..., Any] | None
"""How a call names the row: the parameter with its primary key; fields and the parameters with their values; a
function of the call's arguments that gives the primary key or a lookup; `None`: the usual names are tried."""


NO_LOOKUP: Mapping[str, Any] = {}


class Found(NamedTuple):
    """What a call says about the row."""

    pk: Any
    """Its primary key, or `None`."""
    lookup: Mapping[str, Any]
    """Or what finds it."""
    used: Collection[str]
    """The parameters that say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One row that a function works on."""

    rows: Any
    """The model, manager or queryset that it is taken from."""
    model: type[Model]
    """Its model."""
    name: str
    """The parameter in which the function gets it."""
    row: RowIn
    """How a call names it."""
    usual_names: tuple[str, ...]
    """Parameters that may hold the primary key where that is not told, the most telling first."""

    def named_in(self, given: Mapping[str, Any]) -> Mapping[str, str] | None:
        """Which parameters of a call name the row, by the field that each is for; `None` when it names none."""
        if isinstance(self.row, str):
            return {"pk": self.row} if self.row in given else None
        if isinstance(self.row, Mapping):
            return self.row if given.keys() >= set(self.row.values()) else None
        name = self._usual_name(given)
        if name is not None:
            return {"pk": name}
        return {"slug": "slug"} if "slug" in given else None

    def _usual_name(self, given: Mapping[str, Any]) -> str | None:
        for name in self.usual_names:
            if name in given:
                return name
        return None

    def find(self, args: tuple[Any, ...], given: Mapping[str, Any]) -> Found:
        """The row that a call names.

        Raises `TypeError` when it has no such parameter, the model's `DoesNotExist` when there is nothing in it.
        """
        used: Collection[str] = ()
        if self.row is None and (name := self._usual_name(given)) is not None and given[name] is not None:
            return Found(given[name], NO_LOOKUP, (name,))  # as below, in fewer steps: most calls are like that
        if callable(self.row):
            lookup = self.row(*args, **given)
        else:
            names = self._ensure_named(given)
            used, lookup = names.values(), {field: given[name] for field, name in names.items()}
        if not isinstance(lookup, Mapping):
            lookup = {"pk": lookup}
        if not lookup or lookup == {"pk": None}:
            message = f"The call names no {self.model._meta.label}."
            raise self.model.DoesNotExist(message)  # type: ignore[attr-defined]  # each model has its own
        if len(lookup) == 1 and "pk" in lookup:
            return Found(lookup["pk"], NO_LOOKUP, used)
        return Found(None, lookup, used)

    def _ensure_named(self, given: Mapping[str, Any]) -> Mapping[str, str]:
        names = self.named_in(given)
        if names is None:
            raise TypeError(
                f"Which {self.model._meta.label} is to be locked? Among {', '.join(given) or 'no parameters at all'} "
                f"is none of {', '.join(self._wanted())}. Say with row= how the call names it."
            )
        return names

    def _wanted(self) -> list[str]:
        if isinstance(self.row, str):
            return [self.row]
        return list(self.row.values()) if isinstance(self.row, Mapping) else [*self.usual_names, "slug"]

    def lock(self, found: Found, terms: LockTerms, *, atomic: MaybeBool) -> RowLock[Model]:
        """The lock on the row."""
        return locked(self.rows, found.pk, atomic=atomic, **terms, **found.lookup)

    def pk_of(self, found: Found) -> Any:
        """The primary key, which a lookup is asked for. Raises `DoesNotExist`, `MultipleObjectsReturned`."""
        if found.pk is not None:
            return found.pk
        rows = queryset_of(self.rows)
        rows._for_write = True  # type: ignore[attr-defined]  # as select_for_update() does
        return rows.values_list("pk", flat=True).get(**found.lookup)

    def read(self, found: Found) -> Model:
        """The row without its lock. Raises `DoesNotExist`, `MultipleObjectsReturned`."""
        if found.pk is not None:
            name_of(self.model, found.pk)  # what cannot be a primary key is no row
        row: Model = queryset_of(self.rows).get(**(found.lookup or {"pk": found.pk}))
        return row


def read_target(rows: Any, *, row: RowIn, name: str | None) -> Target:
    """Check what is to be locked. Raises `TypeError` or `ValueError`."""
    if isinstance(rows, QuerySet | Manager):
        model = rows.model
    elif isinstance(rows, type) and issubclass(rows, Model):
        model = rows
    else:
        raise TypeError(f"A model, a manager or a queryset is to be locked, not {rows!r}.")
    if isinstance(row, Mapping):
        words = LockTerms.__annotations__.keys() | OTHER_WORDS.keys()
        if taken := sorted(words & row.keys()) or ([""] if not row else []):
            raise ValueError(f"row= cannot look for {taken[0]!r}: pass a function that gives the primary key.")
    elif iscoroutinefunction(row):
        raise TypeError(f"row= is a function that gives the primary key or a dict at once, which {row!r} does not.")
    elif row is not None and not isinstance(row, str) and not callable(row):
        raise TypeError(f"row= is the name of a parameter, names by field, or a function, not {row!r}.")
    label = str(model._meta.model_name)
    name = name or label
    if not name.isidentifier():
        raise ValueError(f"name= is the name of a parameter, not {name!r}.")
    usual = (f"{label}_id", f"{label}_pk", "pk", "id")
    return Target(rows=rows, model=model, name=name, row=row, usual_names=usual)
