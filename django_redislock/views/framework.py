"""Views of Django REST framework, which is not imported here: a view of it is there only if somebody did that."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from .answers import note
from .refusals import Refusal

ACTIONS = ("list", "create", "retrieve", "update", "partial_update", "destroy")
"""What routers know of a viewset, beside the actions that are marked as such."""


def raise_refusal(request: Any, refusal: Refusal, error: BaseException) -> None:
    """Raise the refusal for a request of the framework, whose exception handler makes the response."""
    requests = sys.modules.get("rest_framework.request")
    if requests is not None and isinstance(request, requests.Request):
        from ..drf import error_for  # noqa: PLC0415  # imports the framework

        note(request, refusal, error)
        raise error_for(refusal) from error


def is_view(view: type) -> bool:
    """Whether it is a class of views of the framework."""
    views = sys.modules.get("rest_framework.views")
    return views is not None and issubclass(view, views.APIView)


def decorate_handlers(view: Any, decorate: Callable[[Any], Any]) -> Any:
    """Decorate each handler of the class, so that the lock comes after authentication and permissions."""
    if hasattr(view, "get_extra_actions"):
        names = [*ACTIONS, *(action.__name__ for action in view.get_extra_actions())]
    else:
        names = [name for name in view.http_method_names if name != "options"]
    for name in names:
        if hasattr(view, name):
            setattr(view, name, decorate(getattr(view, name)))
    return view
