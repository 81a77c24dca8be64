"""`@lock_instance`: a view that has its rows locked, and gets them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial, wraps
from http import HTTPStatus
from typing import Any, Literal, TypeVar, Unpack

from django.db.models import Manager, Model, QuerySet
from django.utils.decorators import method_decorator

from ..bridging import blocking, in_a_thread, is_async
from ..functions import get_lease
from ..handler import DEFAULT_ALIAS
from ..holder import is_described, working_on
from ..rowsets import Wanted, locked_rows
from ..signatures import accepted_by, require
from ..targets import RowIn, Target, read_target
from ..terms import LockTerms, check_terms
from . import framework
from .answers import answer
from .atomic import opted_out, request_transactions, take_over
from .holding import request_of, work_of
from .refusals import ANSWERED, SAFE, Manner, refusal_of
from .streams import STREAMING, Streaming, leave_to, refuse_stream

V = TypeVar("V", bound=Callable[..., Any])
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

    def locks(self, method: str, given: Mapping[str, Any]) -> bool:
        """Whether a request is one to lock for."""
        if self.methods is None:
            return True
        return method not in SAFE if self.methods == "unsafe" else method in self.methods

    def call(self, args: tuple[Any, ...], given: Mapping[str, Any]) -> Any:
        """Call the view with its rows, or answer why not."""
        request = request_of(args)
        if self.has_rows(given) or self.is_not_concerned(given):
            with request_transactions(self.without, nothing):
                return self.invoke(*args, **self.passed(given, given))
        try:
            with self.described(request):
                return self.call_with_rows(request, args, given)
        except ANSWERED as error:
            refusal = refusal_of(error, self.manner)
            if refusal is None:
                raise
            framework.raise_refusal(request, refusal, error)
            return answer(request, refusal, error)

    def has_rows(self, given: Mapping[str, Any]) -> bool:
        """Whether the rows are there already: one handler has called another."""
        return all(isinstance(given.get(target.name), target.model) for target in self.targets)

    def is_not_concerned(self, given: Mapping[str, Any]) -> bool:
        """Whether this is a handler among all of a class to which the URL names no row."""
        return self.whole_class and any(
            not callable(target.row) and target.named_in(given) is None for target in self.targets
        )

    def call_with_rows(self, request: Any, args: tuple[Any, ...], given: Mapping[str, Any]) -> Any:
        """Lock, begin, read, call, commit, release."""
        seen = args if args[0] is request else args[1:]
        wanted = [Wanted(target, target.find(seen, given)) for target in self.targets]
        if not self.locks(request.method, given):
            with request_transactions(self.without, nothing):
                rows = {target.name: target.read(found) for target, found in wanted}
                return self.invoke(*args, **self.passed(given, rows))
        holds = self.streaming == "hold"
        with ExitStack() as beyond:
            outside = beyond if holds else None
            with locked_rows(wanted, self.terms, atomic=self.atomic, beyond=outside) as rows:
                with request_transactions(self.without, partial(self.ensure_held, rows.values())):
                    response = self.invoke(*args, **self.passed(given, rows))
                    if not holds:
                        refuse_stream(response, self.view)
            leave_to(response, beyond)
        return response

    def passed(self, given: Mapping[str, Any], rows: Mapping[str, Any]) -> dict[str, Any]:
        """The view's keywords: what named the rows only if it takes that, and the rows."""
        accepts = accepted_by(self.view)
        used = [name for target in self.targets for name in (target.named_in(given) or {}).values()]
        kept = accepts.only(given, dropping=used)
        return kept | {name: rows[name] for name in self.names if name in accepts and name in rows}

    def ensure_held(self, rows: Iterable[Model]) -> None:
        """Raise `LeaseLost` when a lease has ended: nobody commits after the deadline."""
        for row in rows:
            get_lease(row, alias=self.terms.get("alias", DEFAULT_ALIAS)).ensure_held()

    @cached_property
    def names(self) -> list[str]:
        """The parameters in which the view gets its rows."""
        return [target.name for target in self.targets]

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

    @staticmethod
    def described(request: Any) -> AbstractContextManager[None]:
        """Name the request as what the holder is doing, unless the middleware or somebody else has done that."""
        return nullcontext() if is_described() else working_on(partial(work_of, request))

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


def lock_instance(
    rows: type[Model] | Manager[Any] | QuerySet[Any],
    /,
    *,
    row: RowIn = None,
    name: str | None = None,
    methods: Methods = None,
    busy_status: int = HTTPStatus.LOCKED,
    retry_after: float = 1,
    streaming: Streaming = "refuse",
    atomic: bool = True,
    **terms: Unpack[LockTerms],
) -> Callable[[V], V]:
    """Lock the row that a request is about for as long as the view works on it, and pass it in.

    `rows`: the model, a manager or a queryset, to which the row must belong. `row` says how the URL names it: the
    parameter with its primary key; a dict of fields and their parameters; a function that is called as the view is
    and gives the primary key or a dict. Without it `<model>_id`, `<model>_pk`, `pk`, `id` and `slug` are tried.
    `name`: the parameter in which the view gets the row, else the model's name in small letters. A parameter of the
    URL that named the row is passed on only to a view that takes it.

    `methods`: those to lock for, `"unsafe"` for all that may change something; to others the row is passed without
    its lock. `busy_status`: 423 or 409. `retry_after`: seconds, told to those who are refused. `streaming`: what to do
    with a response whose body is still to be made, `"refuse"` or `"hold"` the lock until it is closed. `atomic=False`
    opens no transaction but what `ATOMIC_REQUESTS` asks for. `wait`, `nowait`, `ttl` and `alias` as for `locked()`.

    Decorators that stand directly on one another lock their rows together, in one order for all.

    Answers 423 (or 409), 503, 404 instead of calling the view or, when the lease has ended, after a rollback. Raises
    `TypeError` or `ValueError` for what cannot be right.
    """
    target = read_target(rows, row=row, name=name)
    check_terms(terms, call="lock_instance()")
    manner = Manner(busy_status=busy_status, retry_after=retry_after)
    if streaming not in STREAMING:
        raise ValueError(f"streaming is one of {', '.join(STREAMING)}, not {streaming!r}.")
    plan = Plan(
        view=nothing,
        targets=(target,),
        terms=terms,
        manner=manner,
        methods=read_methods(methods),
        streaming=streaming,
        atomic=atomic,
    )
    return lambda view: decorate(view, plan)


def read_methods(methods: Any) -> Methods:
    """Check the methods, which are read in any case. Raises `TypeError`."""
    if methods is None or methods == "unsafe":
        return methods  # type: ignore[no-any-return]  # it was looked at
    if isinstance(methods, str) or not all(isinstance(method, str) for method in methods):
        raise TypeError(f"methods is a list of methods, or 'unsafe', not {methods!r}.")
    return frozenset(method.upper() for method in methods)


def decorate(view: Any, plan: Plan) -> Any:
    """The view, or the class of views, under its plan."""
    if isinstance(view, type):
        if framework.is_view(view):
            return framework.decorate_handlers(
                view, lambda handler: replace(plan, view=handler, whole_class=True).wrapper()
            )
        return method_decorator(lambda dispatch: decorate(dispatch, plan), name="dispatch")(view)
    inner = plan_of(view)
    if inner is not None:
        plan, view = together(plan, inner), inner.view
    for target in plan.targets:
        require(view, target.name, decorator="lock_instance")
    return replace(plan, view=view).wrapper()


def together(outer: Plan, inner: Plan) -> Plan:
    """One plan for decorators that stand on one another. Raises `TypeError` when they disagree."""
    if replace(outer, view=inner.view, targets=inner.targets) != inner:
        raise TypeError("lock_instance() on lock_instance() locks both rows at once: give both the same arguments.")
    names = [target.name for target in (*outer.targets, *inner.targets)]
    if len(set(names)) < len(names):
        raise TypeError(f"Two rows are to be passed in as {names[0]!r}: tell them apart with name=.")
    return replace(outer, targets=(*outer.targets, *inner.targets))
