"""`@lock_instance`: a view that has its rows locked, and gets them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from http import HTTPStatus
from typing import Any, TypeVar, Unpack

from django.db.models import Manager, Model, QuerySet
from django.utils.decorators import method_decorator

from ..signatures import require
from ..targets import RowIn, read_target
from ..terms import UNSET, LockTerms, MaybeBool, check_terms
from . import framework
from .asynccalls import acall
from .atomic import take_over
from .calls import call
from .plan import Mark, Methods, Plan, plan_of
from .refusals import Manner
from .streams import STREAMING, Streaming

V = TypeVar("V", bound=Callable[..., Any])


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
    atomic: MaybeBool = UNSET,
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
    opens no transaction but what `ATOMIC_REQUESTS` asks for. `wait`, `nowait`, `ttl`, `max_hold` and `alias` as for
    `locked()`.

    An asynchronous view is locked on its event loop, as by `async with`, without a transaction. `atomic=True`,
    `ATOMIC_REQUESTS` and `streaming="hold"` lock it in a thread, with one.

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
        view=lock_instance,  # until there is one
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
                view, lambda handler: wrap(replace(plan, view=handler, whole_class=True))
            )
        return method_decorator(lambda dispatch: decorate(dispatch, plan), name="dispatch")(view)
    inner = plan_of(view)
    if inner is not None:
        plan, view = together(plan, inner), inner.view
    for target in plan.targets:
        require(view, target.name, decorator="lock_instance")
    return wrap(replace(plan, view=view))


def wrap(plan: Plan) -> Any:
    """The view to be called in the place of the plan's."""
    if plan.is_async:

        @wraps(plan.view)
        async def wrapped(*args: Any, **given: Any) -> Any:
            return await acall(plan, args, given)
    else:

        @wraps(plan.view)
        def wrapped(*args: Any, **given: Any) -> Any:
            return call(plan, args, given)

    take_over(wrapped)
    wrapped._redislock = Mark(plan, wrapped)  # type: ignore[attr-defined]  # functions take any attribute
    return wrapped


def together(outer: Plan, inner: Plan) -> Plan:
    """One plan for decorators that stand on one another. Raises `TypeError` when they disagree."""
    if replace(outer, view=inner.view, targets=inner.targets) != inner:
        raise TypeError("lock_instance() on lock_instance() locks both rows at once: give both the same arguments.")
    names = [target.name for target in (*outer.targets, *inner.targets)]
    if len(set(names)) < len(names):
        raise TypeError(f"Two rows are to be passed in as {names[0]!r}: tell them apart with name=.")
    return replace(outer, targets=(*outer.targets, *inner.targets))
