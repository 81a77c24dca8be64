"""What is locked for a view, and how. How its call goes, is told in `calls` and `asynccalls`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from django.db.models import Model

from ..bridging import blocking, is_async
from ..signatures import Accepts, accepted_by
from ..targets import Found, Target
from ..terms import LockTerms, MaybeBool
from .atomic import is_wanted, opted_out
from .refusals import SAFE, Manner
from .streams import Streaming

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
    atomic: MaybeBool
    whole_class: bool = False
    """Whether all handlers of a class are wrapped: those that get no row, or take none, are let be."""

    def locks(self, method: str) -> bool:
        """Whether a request is one to lock for."""
        if self.methods is None:
            return True
        return method not in SAFE if self.methods == "unsafe" else method in self.methods

    def lets_be(self, given: Mapping[str, Any]) -> bool:
        """Whether nothing is to be locked: the rows are there already, or this is not about any."""
        if not self.whole_class and self.names.isdisjoint(given):
            return False  # as it is with most calls
        if all(isinstance(given.get(target.name), target.model) for target in self.targets):
            return True  # one handler has called another
        return self.whole_class and any(
            not callable(target.row) and target.named_in(given) is None for target in self.targets
        )

    def as_it_came(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The view's keywords where it is let be."""
        used = [name for target in self.targets for name in (target.named_in(given) or {}).values()]
        return self.accepts.adapt(given, used=used, added={})

    def with_rows(self, given: Mapping[str, Any], found: Sequence[Found], rows: Mapping[str, Model]) -> dict[str, Any]:
        """The view's keywords: what named the rows only if it takes that, and the rows."""
        used = found[0].used if len(found) == 1 else [name for each in found for name in each.used]
        return self.accepts.adapt(given, used=used, added=rows)

    @cached_property
    def names(self) -> frozenset[str]:
        """The parameters in which the view gets its rows."""
        return frozenset(target.name for target in self.targets)

    @cached_property
    def accepts(self) -> Accepts:
        """The keywords that the view takes."""
        return accepted_by(self.view)

    @cached_property
    def is_async(self) -> bool:
        """Whether the view is to be awaited."""
        return is_async(self.view)

    @cached_property
    def without(self) -> frozenset[str]:
        """The databases for which the view wants no `ATOMIC_REQUESTS`."""
        return opted_out(self.view)

    @cached_property
    def invoke(self) -> Callable[..., Any]:
        """The view; of an asynchronous one what awaiting it gives."""
        return blocking(self.view) if self.is_async else self.view

    def needs_a_thread(self, method: str) -> bool:
        """Whether an asynchronous view goes through a thread: what tasks cannot hold was asked for.

        That is a transaction, and a stream may be made by another task than the view's.
        """
        if self.atomic is True or self.streaming == "hold":
            return self.locks(method)
        return is_wanted(self.without)


@dataclass(frozen=True, slots=True)
class Mark:
    """Tells the plan's own wrapper from the functions around it, which copy its attributes."""

    plan: Plan
    wrapper: Any


def plan_of(view: Any) -> Plan | None:
    """The plan of a view that is itself the wrapper of one."""
    mark = getattr(view, "_redislock", None)
    return mark.plan if mark is not None and mark.wrapper is view else None
