"""`@lock_task`: one run of a task at a time, or one at a time on a row. For Celery and `django.tasks`."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Literal, TypeVar, Unpack, overload
from urllib.parse import urlencode

from django.db.models import Manager, Model, QuerySet

from .bridging import blocking, in_a_thread, is_async
from .exceptions import LockBusy
from .functions import lock
from .holder import Work, working_on
from .queues import describe, is_given_by_queue, name_of, put_back
from .seconds import Seconds, read_seconds
from .signatures import require
from .targets import RowIn, Target, read_target
from .terms import LockTerms, check_terms

logger = logging.getLogger("django_redislock")

F = TypeVar("F", bound=Callable[..., Any])
WhenBusy = Literal["retry", "skip", "fail"]
WHEN_BUSY = ("retry", "skip", "fail")


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """A task's function, and how it is locked."""

    function: Callable[..., Any]
    target: Target | None
    by: tuple[str, ...] | None
    when_busy: WhenBusy
    retry_in: float
    atomic: bool
    terms: LockTerms
    signature: inspect.Signature
    """Of the call, which does not give the row."""

    def call(self, wrapper: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the function under its lock, or do with the task what is told for one that is busy."""
        given = self.signature.bind(*args, **kwargs)
        given.apply_defaults()
        entered = False
        with working_on(lambda: Work(describe(wrapper))):
            try:
                with self.entered(given.arguments, args) as rows:
                    entered = True
                    return self.run({**given.arguments, **rows})
            except LockBusy as error:
                if entered:  # it is another lock, inside the function
                    raise
                return self.busy(wrapper, args, kwargs, error=error)

    def run(self, arguments: dict[str, Any]) -> Any:
        """Call the function; of a coroutine function, await what it gives."""
        bound = inspect.BoundArguments(inspect.signature(self.function), arguments)
        function = blocking(self.function) if is_async(self.function) else self.function
        return function(*bound.args, **bound.kwargs)

    def busy(
        self, wrapper: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], *, error: LockBusy
    ) -> None:
        """Put the task back, skip it, or raise the error."""
        if self.when_busy == "fail":
            raise error
        logger.info(
            "%s: %s: %s", "Tried again later" if self.when_busy == "retry" else "Skipped", name_of(wrapper), error
        )
        if self.when_busy == "retry":
            put_back(wrapper, args, kwargs, error=error, after=self.retry_in)

    @contextmanager
    def entered(self, given: Mapping[str, Any], args: tuple[Any, ...]) -> Iterator[Mapping[str, Model]]:
        """Hold the lock; gives the row by its name, if it is that of a row."""
        if self.target is None:
            with lock(self.key(given, args), **self.terms):
                yield {}
        else:
            found = self.target.find(args[1:] if is_given_by_queue(args) else args, given)
            with self.target.lock(found, self.terms, atomic=self.atomic) as row:
                yield {self.target.name: row}

    def key(self, given: Mapping[str, Any], args: tuple[Any, ...]) -> str:
        """The name of the lock: the task's with the arguments that were told, else with a digest of all."""
        name = f"task:{name_of(self.function)}"
        if self.by is not None:
            return f"{name}?{urlencode([(each, given[each]) for each in self.by], doseq=True)}" if self.by else name
        own = {
            each: value for each, value in given.items() if not (args and value is args[0] and is_given_by_queue(args))
        }
        if not own:
            return name
        text = json.dumps(own, sort_keys=True, default=str)
        return f"{name}#{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def wrapper(self) -> Any:
        """The function to be made a task of."""
        if is_async(self.function):

            @wraps(self.function)
            async def wrapped(*args: Any, **kwargs: Any) -> Any:
                return await in_a_thread(self.call, wrapped, args, kwargs)
        else:

            @wraps(self.function)
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                return self.call(wrapped, args, kwargs)

        wrapped.__signature__ = self.signature  # type: ignore[attr-defined]  # what inspect looks for
        return wrapped


@overload
def lock_task(
    rows: type[Model] | Manager[Any] | QuerySet[Any] | None = None,
    /,
    *,
    by: Sequence[str] | None = None,
    row: RowIn = None,
    name: str | None = None,
    when_busy: WhenBusy = "retry",
    retry_in: Seconds = 5,
    atomic: bool = True,
    **terms: Unpack[LockTerms],
) -> Callable[[F], F]: ...


@overload
def lock_task(function: F, /) -> F: ...


def lock_task(
    rows: Any = None,
    /,
    *,
    by: Sequence[str] | None = None,
    row: RowIn = None,
    name: str | None = None,
    when_busy: WhenBusy = "retry",
    retry_in: Seconds = 5,
    atomic: bool = True,
    **terms: Unpack[LockTerms],
) -> Any:
    """Let one run of a task take place at a time: below `@shared_task` of Celery, `@task` of Django.

    Without arguments a run excludes those with the same arguments; `by=["country"]` has only these count, `by=[]` none.
    `@lock_task(Account)` locks the row that the arguments name, as `lock_instance()` does, and passes it in as
    `name`, which the caller of the task does not give.

    `when_busy`: `"retry"` runs the task again after `retry_in` seconds, `"skip"` leaves it, `"fail"` raises
    `LockBusy`. `wait`, `nowait`, `ttl`, `max_hold`, `alias` and `atomic` as for `locked()`, but that without `wait` it
    is not waited for. Raises `TypeError` or `ValueError` for what cannot be right.
    """
    if inspect.isroutine(rows):
        return lock_task()(rows)
    check_terms(terms, call="lock_task()")
    if when_busy not in WHEN_BUSY:
        raise ValueError(f"when_busy is one of {', '.join(WHEN_BUSY)}, not {when_busy!r}.")
    if rows is None and (row is not None or name is not None):
        raise TypeError("row= and name= are for the lock on a row: lock_task(Account, row=...).")
    if by is not None and (rows is not None or isinstance(by, str)):
        raise TypeError(f"by= is a list of arguments, and not for the lock on a row: not {by!r}.")
    guarded = Guarded(
        function=lock_task,
        target=None if rows is None else read_target(rows, row=row, name=name),
        by=None if by is None else tuple(by),
        when_busy=when_busy,
        retry_in=read_retry(retry_in),
        atomic=atomic,
        terms=terms if "nowait" in terms else {"wait": 0, **terms},
        signature=inspect.Signature(),
    )
    return lambda function: guard(function, guarded)


def read_retry(value: Seconds) -> float:
    """Seconds after which to try again. Raises `TypeError` or `ValueError`."""
    seconds = read_seconds(value)
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"retry_in is 0 or more seconds, not {value!r}.")
    return seconds


def guard(function: Any, guarded: Guarded) -> Any:
    """The function under its lock. Raises `TypeError` for arguments that it does not take."""
    if not inspect.isroutine(function):
        raise TypeError(f"lock_task() stands below the decorator that makes a task: {function!r} is one already.")
    signature = inspect.signature(function)
    if guarded.target is not None:
        require(function, guarded.target.name, decorator="lock_task")
        others = [each for each in signature.parameters.values() if each.name != guarded.target.name]
        signature = signature.replace(parameters=others)
        if not callable(guarded.target.row) and guarded.target.named_in(signature.parameters) is None:
            raise TypeError(f"{name_of(function)}() takes no argument that names the row: say which with row=.")
    unknown = [each for each in guarded.by or () if each not in signature.parameters]
    if unknown:
        raise TypeError(f"{name_of(function)}() takes no argument {unknown[0]!r} to be a part of its lock.")
    return replace(guarded, function=function, signature=signature).wrapper()
