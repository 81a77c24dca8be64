"""A system check: who may not use a view must not be able to hold its locks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Warning
from django.urls import URLPattern, URLResolver, get_resolver

from .plan import Mark

HINT = (
    "Whoever may not use the view can hold its locks. Put @lock_instance below what asks for permission, next to the "
    "function; on the methods or on the class, instead of dispatch(), of a view of Django REST framework."
)


def check_views(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Warn of views that are locked before permission is asked for, where that can be seen."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    found = dict.fromkeys(view for view in views_of(get_resolver()) if locks_first(view))
    return [
        Warning(
            f"The view {name_of(view)} is locked before anybody has asked whether the client may use it.",
            hint=HINT,
            id="django_redislock.W002",
        )
        for view in found
    ]


def views_of(resolver: URLResolver) -> Iterator[Any]:
    """All views that the URLs lead to."""
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            yield from views_of(pattern)
        elif isinstance(pattern, URLPattern):
            yield pattern.callback


def locks_first(view: Any) -> bool:
    """Whether permission is asked for inside the lock, by what the decorators have noted on the view."""
    mark: Mark | None = getattr(view, "_redislock", None)
    if mark is None:
        return False
    owner = class_of(view)
    if owner is None:
        return hasattr(mark.plan.view, "login_url")  # login_required and its like note it
    return asks_in_dispatch(owner)


def class_of(view: Any) -> Any:
    """The class of a view that `as_view()` made, Django's or that of Django REST framework."""
    return getattr(view, "view_class", getattr(view, "cls", None))


def asks_in_dispatch(view: Any) -> bool:
    """Whether the class asks for permission in its `dispatch()`."""
    mixins = sys.modules.get("django.contrib.auth.mixins")  # imported, it would need the app
    if mixins is not None and issubclass(view, mixins.AccessMixin):
        return True
    return any(permission.__name__ != "AllowAny" for permission in getattr(view, "permission_classes", ()))


def name_of(view: Any) -> str:
    """What the view is called."""
    found = class_of(view) or view
    return f"{found.__module__}.{found.__qualname__}"
