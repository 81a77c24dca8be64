"""Filters of the list: what there is to choose comes from the same look as the list."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ..naming import label_of
from ..stores.listing import Listed, holder_of
from .rows import HeldLocks


class _ValueFilter(SimpleListFilter):
    """The locks that have a value in common."""

    nothing: Any = "-"
    """What is shown in the place of no value."""

    column: str
    """Where in `Listed` the value is."""

    @staticmethod
    def parts_of(cells: list[str]) -> Iterable[str]:
        """The part of each that has the value in it: few of these differ among thousands of locks."""
        return cells

    @staticmethod
    @abstractmethod
    def value_in(part: str) -> str:
        """The value."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Each value once, with how many have it."""
        locks: HeldLocks = model_admin.get_queryset(request)
        counts = Counter[str]()
        for part, count in Counter(self.parts_of(locks.look.overview.locks.column(self.column))).items():
            counts[self.value_in(part)] += count
        return [(value or "-", f"{value or self.nothing} ({count})") for value, count in sorted(counts.items())]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        """Those that have the chosen value."""
        chosen = self.value()
        if chosen is None or not isinstance(queryset, HeldLocks):
            return None
        return queryset.that(lambda lock: self._value_of(lock) == chosen)

    def _value_of(self, lock: Listed) -> str:
        (part,) = self.parts_of([getattr(lock, self.column)])
        return self.value_in(part) or "-"


class ModelFilter(_ValueFilter):
    """By model; plain names have none."""

    title = _("model")
    parameter_name = "model"
    nothing = _("plain names")

    column = "name"

    @staticmethod
    def parts_of(cells: list[str]) -> Iterable[str]:
        """What stands before the colon, and the colon; nothing of a name without one."""
        return [name[: name.find(":") + 1] for name in cells]

    @staticmethod
    def value_in(part: str) -> str:
        """The label."""
        return label_of(part)


class HostFilter(_ValueFilter):
    """By the host of the holder."""

    title = _("host")
    parameter_name = "host"

    column = "who"

    @staticmethod
    def value_in(part: str) -> str:
        """The host."""
        return holder_of(part).host


class AliasFilter(_ValueFilter):
    """By the alias of `REDISLOCK`."""

    title = _("alias")
    parameter_name = "alias"

    column = "alias"

    @staticmethod
    def value_in(part: str) -> str:
        """The alias."""
        return part
