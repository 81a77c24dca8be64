"""A request as what the holder of a lock is doing."""

from __future__ import annotations

import re
from typing import Any

from django.http import HttpRequest
from django.utils.encoding import escape_uri_path
from django.utils.functional import empty

from ..holder import Work


def work_of(request: HttpRequest) -> Work:
    """The request's method and path, and its user where that is known already.

    The query is left out, and so is a user whom nobody has asked for: finding out who it is would ask the database
    while the lock is being acquired.
    """
    path = request.path if is_plain(request.path) else escape_uri_path(request.path)
    return Work(f"{request.method} {path}", user_of(request))


is_plain = re.compile(r"[\w/.~-]*", re.ASCII).fullmatch
"""Whether a path has nothing in it that would have to be escaped; most have not."""


def user_of(request: Any) -> str:
    """The primary key of the request's user, or nothing."""
    plain = vars(getattr(request, "_request", request))  # Django REST framework's wraps Django's, and tells it the user
    user = plain.get("user")
    if getattr(user, "_wrapped", None) is empty:
        user = plain.get("_acached_user")  # where request.auser() leaves it, for itself
    pk = getattr(user, "pk", None)
    return "" if pk is None else str(pk)


def request_of(args: tuple[Any, ...]) -> Any:
    """The request that a view was called with: a function's first argument, a method's second.

    Django REST framework's is taken as well. Raises `TypeError` when there is none.
    """
    for value in args[:2]:
        if hasattr(value, "META") and hasattr(value, "method"):
            return value
    raise TypeError(f"lock_instance() is for views: among {args!r} is no request.")
