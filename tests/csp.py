"""The strictest content security policy that the admin of each Django version lives with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import django
from django.http import HttpRequest, HttpResponse

CONTEXT_PROCESSOR = "django.template.context_processors.csp"


def files_only(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Nothing inline at all: files of this site. Before 6.1 the admin knows no nonces."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["Content-Security-Policy"] = "default-src 'self'; object-src 'none'; base-uri 'none'"
        return response

    return middleware


def strict(settings: Any) -> None:
    """Switch it on: by nonces alone where the admin gives them out."""
    if django.VERSION < (6, 1):
        settings.MIDDLEWARE = ["tests.csp.files_only", *settings.MIDDLEWARE]
        return
    from django.utils.csp import CSP  # noqa: PLC0415 - from 6.0 on

    settings.MIDDLEWARE = ["django.middleware.csp.ContentSecurityPolicyMiddleware", *settings.MIDDLEWARE]
    settings.SECURE_CSP = {
        "default-src": [CSP.SELF],
        "script-src": [CSP.NONCE],
        "style-src": [CSP.NONCE],
        "object-src": [CSP.NONE],
        "base-uri": [CSP.NONE],
    }
    (templates,) = settings.TEMPLATES
    options = templates["OPTIONS"]
    processors = [*options["context_processors"], CONTEXT_PROCESSOR]
    settings.TEMPLATES = [templates | {"OPTIONS": options | {"context_processors": processors}}]
