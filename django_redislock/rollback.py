"""Taking back in memory what a rollback took back in the database."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from .transactions import users_blocks
from .versions import VersionField


class _Hook:
    """Called after the commit. Django drops it uncalled when its transaction, or its savepoint, is rolled back.

    With `__del__` and not with `weakref.finalize()`, which costs more than all the rest of a checked save.
    """

    __slots__ = ("_before", "_connection", "_outermost", "_undos")

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._outermost = weakref.ref(connection.atomic_blocks[0])
        self._undos: list[Callable[[], None]] = []
        self._before: dict[int, tuple[weakref.ref[Model], str, int | None]] = {}
        """By the identity of instances: the field and the version that each had first."""

    def add(self, undo: Callable[[], None]) -> None:
        """Call this, too, when the hook is dropped."""
        self._undos.append(undo)

    def remember(self, instance: Model, attname: str, before: int | None) -> None:
        """Let the instance go back to this version, unless it goes back to an earlier one already."""
        known = self._before.get(id(instance))
        if known is None or known[0]() is not instance:
            self._before[id(instance)] = (weakref.ref(instance), attname, before)

    def __call__(self) -> None:
        self._undos.clear()
        self._before.clear()

    def __del__(self) -> None:
        # An earlier hook that fails after the commit makes Django drop the others, too. Autocommit is on then, or
        # another transaction has begun.
        open_blocks = self._connection.atomic_blocks
        if not self._connection.autocommit and (not open_blocks or open_blocks[0] is self._outermost()):
            for undo_more in self._undos:
                undo_more()
            for reference, attname, before in self._before.values():
                undo(reference, attname, before)


def at_rollback(connection: BaseDatabaseWrapper, undo: Callable[[], None]) -> None:
    """Call `undo` when the open transaction is rolled back, or the savepoint that the code stands in.

    Without a transaction of the user nothing can be rolled back, so nothing is called.
    """
    if users_blocks(connection):
        hook_of(connection).add(undo)


def hook_of(connection: BaseDatabaseWrapper) -> _Hook:
    """The hook that Django keeps for as long as all that is written here stands; one for saves in a row."""
    hooks: list[Any] = connection.run_on_commit  # triples, of which the stubs know the first two
    if hooks:
        savepoints, last, _ = hooks[-1]
        if type(last) is _Hook and savepoints == set(connection.savepoint_ids):
            return last
    hook = _Hook(connection)
    connection.on_commit(hook, robust=True)
    return hook


def set_version(instance: Model, field: VersionField, version: int | None, using: str) -> None:
    """Note that the row has this version now; a rollback takes it back."""
    undo_at_rollback(instance, field, instance.__dict__.get(field.attname), using)
    instance.__dict__[field.attname] = version


def undo_at_rollback(instance: Model, field: VersionField, before: int | None, using: str) -> None:
    """Let the instance have this version again when the open transaction or savepoint is rolled back."""
    connection = connections[using]
    if users_blocks(connection):
        hook_of(connection).remember(instance, field.attname, before)


def undo(reference: weakref.ref[Model], attname: str, before: int | None) -> None:
    """Go back to a version. Several undone at once come in any order: the lowest is that of before all."""
    instance = reference()
    now = instance.__dict__.get(attname) if instance is not None else None
    if instance is not None and now is not None and (before is None or before < now):
        instance.__dict__[attname] = before
