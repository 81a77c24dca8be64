"""What a function takes, so that it can be given the row that was locked for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any


@dataclass(frozen=True, slots=True)
class Accepts:
    """The keywords that a function takes."""

    names: frozenset[str]
    """By name."""
    anything: bool
    """Whether it takes any other as well."""

    def __contains__(self, name: object) -> bool:
        return self.anything or name in self.names

    def adapt(self, given: Mapping[str, Any], *, used: Iterable[str], added: Mapping[str, Any]) -> dict[str, Any]:
        """The keywords to call it with: without what was used and it does not take, with what is added and it does."""
        adapted = dict(given)
        if self.anything:
            adapted.update(added)
            return adapted
        names = self.names
        for name in used:
            if name not in names:
                del adapted[name]
        for name in added:
            if name in names:
                adapted[name] = added[name]
        return adapted


def accepted_by(function: Callable[..., Any]) -> Accepts:
    """What a function, a method or a `partial` takes."""
    return _accepted(getattr(bare(function), "__func__", bare(function)))


def bare(function: Any) -> Any:
    """The function in a `partial`: `method_decorator` makes a new one for every call."""
    while isinstance(function, partial):
        function = function.func
    return function


KEYWORDS = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


@lru_cache(maxsize=1024)
def _accepted(function: Callable[..., Any]) -> Accepts:
    parameters = inspect.signature(function).parameters.values()
    return Accepts(
        frozenset(parameter.name for parameter in parameters if parameter.kind in KEYWORDS),
        any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters),
    )


def require(function: Callable[..., Any], name: str, *, decorator: str) -> Accepts:
    """What the function takes, which has to include `name`. Raises `TypeError` when it does not."""
    accepts = accepted_by(function)
    if name not in accepts:
        called = getattr(function, "__qualname__", repr(function))
        raise TypeError(
            f"{called}() takes no argument {name!r}: that is where {decorator}() passes the locked row in. "
            f"Add it, or tell another name with name=."
        )
    return accepts
