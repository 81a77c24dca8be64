"""Filters of the list: what there is to choose comes from the same look as the list."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable
from operator import attrgetter
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

    part_of: Callable[[Listed], Any]
    """The part of a lock that has the value in it: there are few that differ among thousands of locks."""

    @staticmethod
    @abstractmethod
    def value_in(part: Any) -> str:
        """The value."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Each value once, with how many have it."""
        locks: HeldLocks = model_admin.get_queryset(request)
        counts = Counter[str]()
        for part, count in Counter(map(self.part_of, locks.look.overview.locks)).items():
            counts[self.value_in(part)] += count
        return [(value or "-", f"{value or self.nothing} ({count})") for value, count in sorted(counts.items())]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        """Those that have the chosen value."""
        chosen = self.value()
        if chosen is None or not isinstance(queryset, HeldLocks):
            return None
        return queryset.that(lambda lock: (self.value_in(self.part_of(lock)) or "-") == chosen)


class ModelFilter(_ValueFilter):
    """By model; plain names have none."""

    title = _("model")
    parameter_name = "model"
    nothing = _("plain names")

    part_of = staticmethod(lambda lock: lock.name.partition(":")[:2])

    @staticmethod
    def value_in(part: tuple[str, str]) -> str:
        """The label."""
        return label_of("".join(part))


class HostFilter(_ValueFilter):
    """By the host of the holder."""

    title = _("host")
    parameter_name = "host"

    part_of = attrgetter("who")

    @staticmethod
    def value_in(part: str) -> str:
        """The host."""
        return holder_of(part).host


class AliasFilter(_ValueFilter):
    """By the alias of `REDISLOCK`."""

    title = _("alias")
    parameter_name = "alias"

    part_of = attrgetter("alias")

    @staticmethod
    def value_in(part: str) -> str:
        """The alias."""
        return part
