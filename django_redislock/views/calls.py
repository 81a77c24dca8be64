"""The call of a view under its plan: lock, begin, read, call, commit, release; or an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from django.db.models import Model

from ..confirming import confirm
from ..functions import get_lease
from ..handler import DEFAULT_ALIAS
from ..holder import WorkingOn, is_described
from ..rowsets import Wanted, locked_rows
from ..targets import Found
from . import framework
from .answers import answer
from .atomic import transactions, wanted_by_settings
from .holding import request_of, work_of
from .plan import Plan
from .refusals import ANSWERED, Refusal, refusal_of
from .streams import leave_to, refuse_stream


def call(plan: Plan, args: tuple[Any, ...], given: Mapping[str, Any]) -> Any:
    """Call the view with its rows, or answer why not."""
    request = request_of(args)
    if plan.lets_be(given):
        return plan.invoke(*args, **plan.as_it_came(given))
    try:
        if is_described():
            return call_with_rows(plan, request, args, given)
        with WorkingOn(partial(work_of, request)):
            return call_with_rows(plan, request, args, given)
    except ANSWERED as error:
        undone = plan.atomic is not False and plan.locks(request.method)
        return answer(request, refused(plan, request, error, undone=undone), error)


def refused(plan: Plan, request: Any, error: BaseException, *, undone: bool) -> Refusal:
    """What is to be answered to the error. Raises the error when it is none of ours, and for the framework its own."""
    refusal = refusal_of(error, plan.manner, undone=undone)
    if refusal is None:
        raise error
    framework.raise_refusal(request, refusal, error)
    return refusal


def call_with_rows(plan: Plan, request: Any, args: tuple[Any, ...], given: Mapping[str, Any]) -> Any:
    """Lock, begin, read, call, commit, release; or read and call, for a method that is not locked for."""
    seen = args if args[0] is request else args[1:]
    found = [target.find(seen, given) for target in plan.targets]
    if plan.methods is not None and not plan.locks(request.method):
        return call_without_lock(plan, args, given, found)
    if len(found) > 1 or plan.streaming == "hold":
        return call_with_several(plan, args, given, found)
    (target,) = plan.targets
    # Most calls are like that, so they go the shortest way.
    with target.lock(found[0], plan.terms, atomic=plan.atomic) as row:
        rows = {target.name: row}
        return call_inside(plan, args, plan.with_rows(given, found, rows), rows)


def call_with_several(plan: Plan, args: tuple[Any, ...], given: Mapping[str, Any], found: Sequence[Found]) -> Any:
    """As `call_with_rows()`, with several rows, or one that a stream needs for longer."""
    wanted = list(map(Wanted, plan.targets, found))
    with ExitStack() as beyond:
        held = beyond if plan.streaming == "hold" else None
        with locked_rows(wanted, plan.terms, atomic=plan.atomic, beyond=held) as rows:
            response = call_inside(plan, args, plan.with_rows(given, found, rows), rows)
        leave_to(response, beyond)
    return response


def call_inside(plan: Plan, args: tuple[Any, ...], keywords: Mapping[str, Any], rows: Mapping[str, Model]) -> Any:
    """Call the view, inside the locks and in the transactions that the setting asks for."""
    aliases = wanted_by_settings(plan.without)
    if not aliases:
        return respond(plan, args, keywords)
    with transactions(aliases, partial(ensure_held, plan, rows)):
        return respond(plan, args, keywords)


def respond(plan: Plan, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
    """The view's response. Raises `ImproperlyConfigured` for a stream that is not to be held for."""
    response = plan.invoke(*args, **keywords)
    if plan.streaming == "refuse" and getattr(response, "streaming", False):
        refuse_stream(response, plan.view)
    return response


def call_without_lock(plan: Plan, args: tuple[Any, ...], given: Mapping[str, Any], found: Sequence[Found]) -> Any:
    """Call the view with the rows as they are."""
    with transactions(wanted_by_settings(plan.without)):
        rows = {target.name: target.read(each) for target, each in zip(plan.targets, found, strict=True)}
        return plan.invoke(*args, **plan.with_rows(given, found, rows))


def ensure_held(plan: Plan, rows: Mapping[str, Model]) -> None:
    """Raise `LeaseLost` when a lease has ended: nobody commits what is not locked any more."""
    leases = [get_lease(row, alias=plan.terms.get("alias", DEFAULT_ALIAS)) for row in rows.values()]
    confirm(leases)
    for lease in leases:
        lease.ensure_held()
