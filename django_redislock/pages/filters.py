"""Filters of the list: what there is to choose comes from the same look as the list."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ..naming import label_of
from .rows import Found, HeldLocks


class _ValueFilter(SimpleListFilter):
    """The locks that have a value in common."""

    nothing: Any = "-"
    """What is shown in the place of no value."""

    @staticmethod
    @abstractmethod
    def value_of(found: Found) -> str:
        """The value."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Each value once, with how many have it."""
        locks: HeldLocks = model_admin.get_queryset(request)
        counts = Counter(map(self.value_of, locks.look.overview.locks))
        return [(value or "-", f"{value or self.nothing} ({count})") for value, count in sorted(counts.items())]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        """Those that have the chosen value."""
        chosen = self.value()
        if chosen is None or not isinstance(queryset, HeldLocks):
            return None
        return queryset.that(lambda found: (self.value_of(found) or "-") == chosen)


class ModelFilter(_ValueFilter):
    """By model; plain names have none."""

    title = _("model")
    parameter_name = "model"
    nothing = _("plain names")

    @staticmethod
    def value_of(found: Found) -> str:
        """The value."""
        return label_of(found[1].name)


class HostFilter(_ValueFilter):
    """By the host of the holder."""

    title = _("host")
    parameter_name = "host"

    @staticmethod
    def value_of(found: Found) -> str:
        """The value."""
        return found[1].holder.host


class AliasFilter(_ValueFilter):
    """By the alias of `REDISLOCK`."""

    title = _("alias")
    parameter_name = "alias"

    @staticmethod
    def value_of(found: Found) -> str:
        """The value."""
        return found[0]
