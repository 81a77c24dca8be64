"""`LockedObjectMixin`: Django's views of one object, whose `get_object()` is the locked row."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views.generic.detail import SingleObjectMixin

from ..functions import locked
from ..holder import is_described, working_on
from ..terms import LockTerms
from .answers import answer
from .holding import work_of
from .refusals import ANSWERED, SAFE, Manner, refusal_of
from .streams import refuse_stream

if TYPE_CHECKING:
    Base = SingleObjectMixin[Any]
else:
    Base = object


class LockedObjectMixin(Base):
    """Holds the row that `get_object()` gives until the view has returned: `UpdateView`, `DeleteView`, your own.

    To stand before the view in the list of bases; what asks for permission in its `dispatch()`, such as
    `LoginRequiredMixin`, stands wherever it likes, since the row is locked only when it is asked for. The response's
    template is rendered after the release, as it is after the end of `ATOMIC_REQUESTS`. Methods that change nothing
    get the row without its lock.

    Raises `ImproperlyConfigured` for a class with asynchronous handlers and for responses that stream.
    """

    lock_terms: ClassVar[LockTerms] = {}
    """`wait`, `nowait`, `ttl`, `alias`, as for `locked()`."""
    lock_manner: ClassVar[Manner] = Manner()
    """The status when another is at work, and when to come back."""

    request: HttpRequest
    _locks: ExitStack | None = None
    _object: Any = None

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """As the view's, then commit and release; answers why it could not be locked."""
        if getattr(self, "view_is_async", False):
            raise ImproperlyConfigured(
                f"{type(self).__qualname__} is asynchronous, and get_object() is not: use @lock_instance on it."
            )
        try:
            with ExitStack() as self._locks:
                response: HttpResponseBase = super().dispatch(request, *args, **kwargs)  # type: ignore[misc]  # the view's
                if self._object is not None:
                    refuse_stream(response, type(self))
                return response
        except ANSWERED as error:
            refusal = refusal_of(error, self.lock_manner, undone=True)
            if refusal is None:
                raise
            return answer(request, refusal, error)
        finally:
            self._locks = self._object = None

    def get_object(self, queryset: QuerySet[Any] | None = None) -> Any:
        """The row, locked, and the same each time. Raises `Http404`, and what `locked()` raises."""
        if self._object is not None:
            return self._object
        seen = super().get_object(queryset)
        if self._locks is None or self.request.method in SAFE:
            return seen
        if not is_described():
            self._locks.enter_context(working_on(partial(work_of, self.request)))
        rows = self.get_queryset() if queryset is None else queryset
        self._object = self._locks.enter_context(locked(rows, seen.pk, **self.lock_terms))
        return self._object
