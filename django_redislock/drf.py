"""Django REST framework: refusals as its exceptions, and `get_object()` that gives a locked row."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from rest_framework import exceptions, generics, views
from rest_framework.response import Response

from .exceptions import RedisLockError
from .functions import locked
from .holder import is_described, working_on
from .terms import LockTerms
from .views.answers import note
from .views.holding import work_of
from .views.refusals import SAFE, Manner, Refusal, refusal_of

if TYPE_CHECKING:
    GenericAPIView = generics.GenericAPIView[Any]
else:
    GenericAPIView = generics.GenericAPIView


class Refused(exceptions.APIException):
    """A refusal as the framework's own exception handler understands it: status, detail, `Retry-After`."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(detail=str(refusal.detail), code=refusal.code)
        self.status_code = refusal.status.value
        self.wait = refusal.retry_after


def error_for(refusal: Refusal) -> exceptions.APIException:
    """The framework's exception for a refusal."""
    return Refused(refusal)


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """As the framework's own, and for views that use `locked()` themselves: `REST_FRAMEWORK["EXCEPTION_HANDLER"]`."""
    refusal = refusal_of(error, Manner())
    if refusal is not None:
        note(context["request"], refusal, error)
        error = Refused(refusal)
    return views.exception_handler(error, context)


class LockedObjectMixin(GenericAPIView):
    """`get_object()` gives the locked row, which is held until the handler has returned: `generics`, `viewsets`.

    To stand before the view in the list of bases. Permissions are checked before the lock is acquired, those on the
    object once more on the row that was read under it. Methods that change nothing get the row without its lock.
    """

    lock_terms: ClassVar[LockTerms] = {}
    """`wait`, `nowait`, `ttl`, `alias`, as for `locked()`."""
    lock_manner: ClassVar[Manner] = Manner()
    """The status when another is at work, and when to come back."""

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        """As the view's; begins with nothing locked."""
        self.locks = ExitStack()
        super().initial(request, *args, **kwargs)

    def get_object(self) -> Any:
        """The row, locked. Raises what the view's own raises, and what `locked()` raises."""
        seen = super().get_object()
        if self.request.method in SAFE:
            return seen
        if not is_described():
            self.locks.enter_context(working_on(partial(work_of, self.request)))
        row = self.locks.enter_context(locked(self.filter_queryset(self.get_queryset()), seen.pk, **self.lock_terms))
        self.check_object_permissions(self.request, row)
        return row

    def handle_exception(self, exc: Exception) -> Response:
        """Roll back and release, then answer as the view does."""
        try:
            self.locks.__exit__(type(exc), exc, exc.__traceback__)
        except RedisLockError as lost:
            exc = lost
        refusal = refusal_of(exc, self.lock_manner, undone=True)
        if refusal is not None:
            note(self.request, refusal, exc)
            exc = Refused(refusal)
        return super().handle_exception(exc)

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Commit and release; a lease that was lost changes the answer."""
        try:
            self.locks.close()
        except RedisLockError as lost:
            response = self.handle_exception(lost)
        return super().finalize_response(request, response, *args, **kwargs)
