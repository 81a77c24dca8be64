"""`LockMiddleware`: the same answers for views that use `locked()` themselves, and the request as the holder's work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import ClassVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from .holder import working_on
from .views.answers import answer
from .views.holding import work_of
from .views.refusals import Manner, refusal_of

Answer = HttpResponseBase | Awaitable[HttpResponseBase]


class LockMiddleware:
    """Answers requests that a lock refused, and names the request as what the holder of its locks is doing.

    Put it behind the authentication middleware. `manner` may be replaced in a subclass.
    """

    sync_capable = True
    async_capable = True

    manner: ClassVar[Manner] = Manner()
    """The status when another is at work, and when to come back."""

    def __init__(self, get_response: Callable[[HttpRequest], Answer]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Answer:
        """The response, or what awaiting it gives."""
        if self.is_async:
            return self.respond_async(request)
        with working_on(partial(work_of, request)):
            return self.get_response(request)

    async def respond_async(self, request: HttpRequest) -> HttpResponseBase:
        """The response of an asynchronous application."""
        with working_on(partial(work_of, request)):
            response = self.get_response(request)
            assert not isinstance(response, HttpResponseBase)
            return await response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """The answer to an error that came out of a view, if it is one of ours."""
        refusal = refusal_of(error, self.manner)
        return None if refusal is None else answer(request, refusal, error)
