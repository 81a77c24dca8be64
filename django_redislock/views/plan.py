"""What is locked for a view, and how its call goes: lock, begin, read, call, commit, release; or an answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial, wraps
from typing import Any, Literal

from django.db.models import Model

from ..bridging import blocking, in_a_thread, is_async
from ..functions import get_lease
from ..handler import DEFAULT_ALIAS
from ..holder import WorkingOn, is_described
from ..rowsets import Wanted, locked_rows
from ..signatures import Accepts, accepted_by
from ..targets import Target
from ..terms import LockTerms
from . import framework
from .answers import answer
from .atomic import NONE, opted_out, take_over, transactions, wanted_by_settings
from .holding import request_of, work_of
from .refusals import ANSWERED, SAFE, Manner, refusal_of
from .streams import Streaming, leave_to, refuse_stream

Methods = Collection[str] | Literal["unsafe"] | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is locked for a view, and how."""

    view: Callable[..., Any]
    targets: tuple[Target, ...]
    terms: LockTerms
    manner: Manner
    methods: Methods
    streaming: Streaming
    atomic: bool
    whole_class: bool = False
    """Whether all handlers of a class are wrapped: those that get no row, or take none, are let be."""

    def locks(self, method: str) -> bool:
        """Whether a request is one to lock for."""
        if self.methods is None:
            return True
        return method not in SAFE if self.methods == "unsafe" else method in self.methods

    def call(self, args: tuple[Any, ...], given: Mapping[str, Any]) -> Any:
        """Call the view with its rows, or answer why not."""
        request = request_of(args)
        if self.has_rows(given) or (self.whole_class and self.is_not_concerned(given)):
            used = [name for target in self.targets for name in (target.named_in(given) or {}).values()]
            return self.invoke(*args, **self.accepts.adapt(given, used=used, added={}))
        try:
            if is_described():
                return self.call_with_rows(request, args, given)
            with WorkingOn(partial(work_of, request)):
                return self.call_with_rows(request, args, given)
        except ANSWERED as error:
            refusal = refusal_of(error, self.manner)
            if refusal is None:
                raise
            framework.raise_refusal(request, refusal, error)
            return answer(request, refusal, error)

    def has_rows(self, given: Mapping[str, Any]) -> bool:
        """Whether the rows are there already: one handler has called another."""
        if self.names.isdisjoint(given):
            return False
        return all(isinstance(given.get(target.name), target.model) for target in self.targets)

    @cached_property
    def names(self) -> frozenset[str]:
        """The parameters in which the view gets its rows."""
        return frozenset(target.name for target in self.targets)

    def is_not_concerned(self, given: Mapping[str, Any]) -> bool:
        """Whether this is a handler among all of a class to which the URL names no row."""
        return any(not callable(target.row) and target.named_in(given) is None for target in self.targets)

    def call_with_rows(self, request: Any, args: tuple[Any, ...], given: Mapping[str, Any]) -> Any:
        """Lock, begin, read, call, commit, release; or read and call, for a method that is not locked for."""
        seen = args if args[0] is request else args[1:]
        wanted = [Wanted(target, target.find(seen, given)) for target in self.targets]
        if not self.locks(request.method):
            return self.call_without_lock(args, given, wanted)
        if self.streaming == "refuse":
            return self.call_locked(args, given, wanted, beyond=None)
        with ExitStack() as beyond:
            response = self.call_locked(args, given, wanted, beyond=beyond)
            leave_to(response, beyond)
        return response

    def call_locked(
        self, args: tuple[Any, ...], given: Mapping[str, Any], wanted: Sequence[Wanted], *, beyond: ExitStack | None
    ) -> Any:
        """Call the view with the rows, locked."""
        with locked_rows(wanted, self.terms, atomic=self.atomic, beyond=beyond) as rows:
            aliases = wanted_by_settings(self.without)
            with transactions(aliases, partial(self.ensure_held, rows)) if aliases else NONE:
                response = self.invoke(*args, **self.adapted(given, wanted, rows))
                if beyond is None and getattr(response, "streaming", False):
                    refuse_stream(response, self.view)
                return response

    def call_without_lock(self, args: tuple[Any, ...], given: Mapping[str, Any], wanted: Sequence[Wanted]) -> Any:
        """Call the view with the rows as they are."""
        aliases = wanted_by_settings(self.without)
        with transactions(aliases, nothing) if aliases else NONE:
            rows = {target.name: target.read(found) for target, found in wanted}
            return self.invoke(*args, **self.adapted(given, wanted, rows))

    def adapted(self, given: Mapping[str, Any], wanted: Sequence[Wanted], rows: Mapping[str, Model]) -> dict[str, Any]:
        """The view's keywords: what named the rows only if it takes that, and the rows."""
        if len(wanted) == 1:
            return self.accepts.adapt(given, used=wanted[0].found.used, added=rows)
        used = [name for _, found in wanted for name in found.used]
        return self.accepts.adapt(given, used=used, added=rows)

    def ensure_held(self, rows: Mapping[str, Model]) -> None:
        """Raise `LeaseLost` when a lease has ended: nobody commits after the deadline."""
        for row in rows.values():
            get_lease(row, alias=self.terms.get("alias", DEFAULT_ALIAS)).ensure_held()

    @cached_property
    def accepts(self) -> Accepts:
        """The keywords that the view takes."""
        return accepted_by(self.view)

    @cached_property
    def invoke(self) -> Callable[..., Any]:
        """The view; of an asynchronous one what awaiting it gives."""
        return blocking(self.view) if self.is_async else self.view

    @cached_property
    def is_async(self) -> bool:
        """Whether the view is to be awaited."""
        return is_async(self.view)

    @cached_property
    def without(self) -> frozenset[str]:
        """The databases for which the view wants no `ATOMIC_REQUESTS`."""
        return opted_out(self.view)

    def wrapper(self) -> Any:
        """The view to be called in its place."""
        if self.is_async:

            @wraps(self.view)
            async def wrapped(*args: Any, **given: Any) -> Any:
                return await in_a_thread(self.call, args, given)
        else:

            @wraps(self.view)
            def wrapped(*args: Any, **given: Any) -> Any:
                return self.call(args, given)

        take_over(wrapped)
        wrapped._redislock = Mark(self, wrapped)  # type: ignore[attr-defined]  # functions take any attribute
        return wrapped


@dataclass(frozen=True, slots=True)
class Mark:
    """Tells the plan's own wrapper from the functions around it, which copy its attributes."""

    plan: Plan
    wrapper: Any


def plan_of(view: Any) -> Plan | None:
    """The plan of a view that is itself the wrapper of one."""
    mark = getattr(view, "_redislock", None)
    return mark.plan if mark is not None and mark.wrapper is view else None


def nothing() -> None:
    """There is no lease to be checked."""
