"""The call of an asynchronous view under its plan, on its event loop: lock, read, call, release; or an answer.

There is no transaction, as tasks can hold none. Where one was asked for, the call goes through a thread.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async

from ..bridging import in_a_thread
from ..holder import WorkingOn, is_described
from ..rowsets import Wanted, alocked_rows
from ..targets import Found, Target
from .answers import answer
from .calls import call, refused
from .holding import request_of, work_of
from .plan import Plan
from .refusals import ANSWERED
from .streams import refuse_stream


async def acall(plan: Plan, args: tuple[Any, ...], given: Mapping[str, Any]) -> Any:
    """Call the view with its rows, or answer why not."""
    request = request_of(args)
    if plan.lets_be(given):
        return await invoke(plan, args, plan.as_it_came(given))
    if plan.needs_a_thread(request.method):
        return await in_a_thread(call, plan, args, given)
    try:
        if is_described():
            return await call_with_rows(plan, request, args, given)
        with WorkingOn(partial(work_of, request)):
            return await call_with_rows(plan, request, args, given)
    except ANSWERED as error:
        refusal = refused(plan, request, error, undone=False)
        return await sync_to_async(answer)(request, refusal, error)  # a template may ask the database


async def call_with_rows(plan: Plan, request: Any, args: tuple[Any, ...], given: Mapping[str, Any]) -> Any:
    """Lock, read, call, release; or read and call, for a method that is not locked for."""
    seen = args if args[0] is request else args[1:]
    found = [await find(target, seen, given) for target in plan.targets]
    if not plan.locks(request.method):
        read = zip(plan.targets, found, strict=True)
        rows = {target.name: await sync_to_async(target.read)(each) for target, each in read}
        return await invoke(plan, args, plan.with_rows(given, found, rows))
    if len(found) == 1:
        (target,) = plan.targets
        async with target.lock(found[0], plan.terms, atomic=plan.atomic) as row:
            return await respond(plan, args, plan.with_rows(given, found, {target.name: row}))
    async with alocked_rows(list(map(Wanted, plan.targets, found)), plan.terms) as several:
        return await respond(plan, args, plan.with_rows(given, found, several))


async def find(target: Target, args: tuple[Any, ...], given: Mapping[str, Any]) -> Found:
    """The row that a call names. A function that says so may ask the database."""
    if callable(target.row):
        return await sync_to_async(target.find)(args, given)
    return target.find(args, given)


async def invoke(plan: Plan, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
    """The view's response; `dispatch()` of a class with asynchronous handlers may give one that is ready."""
    response = plan.view(*args, **keywords)
    return await response if inspect.isawaitable(response) else response


async def respond(plan: Plan, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
    """The view's response. Raises `ImproperlyConfigured` for a stream: it would be made without the lock."""
    response = await invoke(plan, args, keywords)
    if getattr(response, "streaming", False):
        refuse_stream(response, plan.view)
    return response
