"""When to release: not before the transaction has ended in which the lock was used.

Django runs hooks after a commit but has none for a rollback. It keeps the hooks of a transaction, and of each
savepoint in it, until that ends one way or the other, and then drops them: so a finalizer on the hook tells the
rollback, at the savepoint or of the whole.
"""

from __future__ import annotations

import threading
import weakref
from asyncio import _get_running_loop
from collections.abc import Callable, Sequence

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import Atomic, TransactionManagementError


def users_blocks(connection: BaseDatabaseWrapper) -> list[Atomic]:
    """The `atomic()` blocks that are open, without those that a `TestCase` wraps around each test."""
    if not connection.in_atomic_block:
        return []
    return [block for block in connection.atomic_blocks if not block._from_testcase]  # type: ignore[attr-defined]  # not in the stubs


def ensure_visible_end(connection: BaseDatabaseWrapper) -> None:
    """Refuse a connection on which the end of a transaction cannot be seen.

    Raises `TransactionManagementError` when autocommit was switched off by hand.
    """
    if not connection.in_atomic_block and not connection.get_autocommit():
        raise TransactionManagementError(
            f"Autocommit is off on the database {connection.alias!r}, so the lock could not tell when the "
            f"transaction ends and would be released before the commit. Use transaction.atomic()."
        )


def open_connections() -> list[BaseDatabaseWrapper]:
    """This thread's database connections that are inside a transaction of the user."""
    return [connection for connection in connections_here() if users_blocks(connection)]


def connections_here() -> Sequence[BaseDatabaseWrapper]:
    """This thread's database connections; on an event loop those of the task."""
    kept = getattr(connections._connections, "_storage", None)  # type: ignore[attr-defined]  # not in the stubs
    if not isinstance(kept, threading.local) or _get_running_loop() is not None:
        return connections.all(initialized_only=True)
    # The same. But what is not there costs no exceptions, which takes most of the time of a lock that is given back.
    of_thread = vars(kept)
    return [of_thread[alias] for alias in connections.settings if alias in of_thread]


def pins_snapshot(connection: BaseDatabaseWrapper) -> bool:
    """Whether a transaction goes on reading what its first query saw, as REPEATABLE READ and up do.

    There a plain read after the lock can be old; a locking one reads the newest row or fails.
    """
    level = getattr(connection, "isolation_level", "read committed")  # a name on MySQL, an enum on PostgreSQL
    return str(getattr(level, "name", level)).replace("_", " ").lower() not in {"read committed", "read uncommitted"}


Savepoints = frozenset[str]


def savepoints_of(connection: BaseDatabaseWrapper) -> Savepoints:
    """The savepoints that the code stands in now."""
    return frozenset(connection.savepoint_ids)


def leave_transaction(block: Atomic, failure: BaseException | None) -> None:
    """Leave an `atomic()` block, with the failure if there is one."""
    block.__exit__(type(failure) if failure else None, failure, failure.__traceback__ if failure else None)


def ensure_ended(connection: BaseDatabaseWrapper) -> None:
    """End the transaction that Django has left open, having been torn away from its COMMIT."""
    if not connection.in_atomic_block and not connection.get_autocommit():
        roll_back(connection)
        connection.set_autocommit(True)


def roll_back(connection: BaseDatabaseWrapper) -> None:
    """As Django does when a commit fails."""
    try:
        connection.rollback()
    except Error:
        connection.close()


class _Hook:
    """Calls `ended` after the commit, or when Django drops the hook because of a rollback.

    If a signal's handler has raised in the former, it is called again: what is torn there is dropped as well.
    """

    __slots__ = ("__weakref__", "_ended", "finalizer")

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended
        self.finalizer = weakref.finalize(self, ended)
        self.finalizer.atexit = False  # where clients are being torn down already, the ttl does it

    def __call__(self) -> None:
        self._ended()
        self.finalizer.detach()


Check = Callable[[], Exception | None]


class _CheckedCommit:
    """Stands in for the `commit()` of a connection as long as leases wait for it, and refuses what they forbid.

    Django calls it at the end of the outermost `atomic()`, whoever opened that, and has no hook there: those of
    `on_commit()` run when everything is committed.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._commit = connection.commit
        self._replaced = vars(connection).get("commit")
        self.checks: list[Check] = []

    def __call__(self) -> None:
        try:
            for check in self.checks:
                refusal = check()
                if refusal is not None:
                    raise refusal
            self._commit()
        except BaseException:  # of most of which Django knows nothing, and commits on
            roll_back(self._connection)
            raise

    def forget(self, check: Check) -> None:
        """Do not ask this one any more."""
        if check in self.checks:
            self.checks.remove(check)
        if not self.checks and vars(self._connection).get("commit") is self:
            del vars(self._connection)["commit"]
            if self._replaced is not None:
                vars(self._connection)["commit"] = self._replaced


def checked_commit(connection: BaseDatabaseWrapper) -> _CheckedCommit:
    """What checks may refuse the COMMIT of the open transaction: what they give is raised after a rollback."""
    commit = vars(connection).get("commit")
    if not isinstance(commit, _CheckedCommit):
        commit = vars(connection)["commit"] = _CheckedCommit(connection)
    return commit


def at_end_of_transaction(
    connection: BaseDatabaseWrapper, since: Savepoints, release: Callable[[], None], *, check: Check
) -> None:
    """Call `release` when the open transaction ends, or when a savepoint of `since` is rolled back.

    `since` are the savepoints in which the lock was acquired. The rollback of another one, in which it merely
    was given back, frees nothing: what was written before that savepoint is still uncommitted. `check` may refuse the
    COMMIT. A signal's handler may raise meanwhile: then this may be called again, and so may `release` be.
    """
    commit = checked_commit(connection)

    def end() -> None:
        commit.forget(check)
        if connection.in_atomic_block and since <= savepoints_of(connection):
            at_end_of_transaction(connection, since, release, check=check)
        else:
            release()

    def ended() -> None:
        try:
            end()
        except BaseException:
            end()
            raise

    hook = _Hook(ended)
    commit.checks.append(check)
    connection.on_commit(hook, robust=True)
    blocks = users_blocks(connection)
    if len(blocks) < len(connection.atomic_blocks):
        # A test case never commits. Django drops a block object at the block's end, but for those that a
        # decorator keeps: then it is the end of the test.
        weakref.finalize(blocks[0], hook.finalizer)
