"""The rows that locks are on: what they say of themselves, and their own admin pages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.utils import quote
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from ..models import HeldLock
from ..naming import row_of


def attach_objects(locks: Iterable[HeldLock], site: AdminSite, request: HttpRequest) -> None:
    """Tell each lock about its row, as far as this user may see it: one query for each model."""
    wanted: dict[Any, dict[Any, HeldLock]] = defaultdict(dict)
    for lock in locks:
        row = row_of(lock.key)
        if row is not None:
            wanted[row.model][row.pk] = lock
    for model, by_pk in wanted.items():
        own: ModelAdmin[Any] | None = site._registry.get(model)
        if own is None or not own.has_view_or_change_permission(request):
            continue
        for instance in own.get_queryset(request).filter(pk__in=list(by_pk)):
            lock = by_pk[instance.pk]
            lock.object_text = str(instance)
            lock.object_url = page_of(instance, site)


def page_of(instance: Any, site: AdminSite) -> str:
    """The admin page of an instance; nothing where its admin has none."""
    options = instance._meta
    try:
        name = f"{site.name}:{options.app_label}_{options.model_name}_change"
        return reverse(name, args=[quote(instance.pk)])
    except NoReverseMatch:
        return ""
