"""The response to a refusal, in the form that the client asked for."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template import TemplateDoesNotExist
from django.template.loader import select_template
from django.utils.cache import patch_vary_headers

from .holding import work_of
from .refusals import Refusal

logger = logging.getLogger("django_redislock")

PROBLEM, JSON, HTML = "application/problem+json", "application/json", "text/html"
# A client that takes anything gets the first: browsers name HTML, programs often name nothing.
OFFERED = [PROBLEM, JSON, HTML]


def answer(request: HttpRequest, refusal: Refusal, error: BaseException) -> HttpResponse:
    """The response. Raises `Http404` for a page that is not there, so that the site's own page for it is shown."""
    note(request, refusal, error)
    form = request.get_preferred_type(OFFERED)
    if refusal.status == HTTPStatus.NOT_FOUND and form not in {PROBLEM, JSON}:
        raise Http404(str(refusal.detail)) from error
    response = problem(refusal, form) if form in {PROBLEM, JSON} else page(request, refusal, error)
    if refusal.retry_after is not None:
        response["Retry-After"] = str(refusal.retry_after)
    patch_vary_headers(response, ["Accept"])
    return response


def problem(refusal: Refusal, form: str) -> HttpResponse:
    """Problem details, RFC 9457. The type is left out, so the title has to be that of the status."""
    content = {
        "status": refusal.status.value,
        "title": refusal.status.phrase,
        "detail": str(refusal.detail),
        "code": refusal.code,
    }
    if refusal.retry_after is not None:
        content["retry_after"] = refusal.retry_after
    return JsonResponse(content, status=refusal.status, content_type=form)


def page(request: HttpRequest, refusal: Refusal, error: BaseException) -> HttpResponse:
    """A page for people: the template of the status or the one for all, else plain text."""
    names = [f"django_redislock/{refusal.status.value}.html", "django_redislock/refused.html"]
    context: dict[str, Any] = {"refusal": refusal, "error": error}
    try:
        text = select_template(names).render(context, request)
    except TemplateDoesNotExist:  # the app is not in INSTALLED_APPS: no reason for a status 500
        return HttpResponse(str(refusal.detail), status=refusal.status, content_type="text/plain; charset=utf-8")
    return HttpResponse(text, status=refusal.status)


def note(request: HttpRequest, refusal: Refusal, error: BaseException) -> None:
    """Tell the operator what the client is not told."""
    if refusal.status >= 500:
        logger.warning("A request was refused, %s: %s", work_of(request).doing, error)
    else:
        logger.info("A request was refused, %s: %s", work_of(request).doing, error)
