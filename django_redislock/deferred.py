"""Holds whose release waits for the end of transactions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from django.db.backends.base.base import BaseDatabaseWrapper

from .exceptions import RedisLockError
from .holds import Hold

Rule = Callable[[list[Hold]], RedisLockError | None]
"""What is done with them, and gives what is to be told of it."""

logger = logging.getLogger("django_redislock")


class Deferred:
    """Holds whose release waits for the end of all transactions that are open."""

    __slots__ = ("_check", "_connections", "_holds", "_leave", "_refused")

    def __init__(
        self, holds: list[Hold], connections: Sequence[BaseDatabaseWrapper], *, check: Rule, leave: Rule
    ) -> None:
        self._check = check
        self._leave = leave
        self._holds = holds
        self._connections = list(connections)
        self._refused = False

    def check(self) -> RedisLockError | None:
        """What speaks against the COMMIT that is about to begin, if anything."""
        failure = self._check(self._holds)
        self._refused = failure is not None
        return failure

    def leave(self, connection: BaseDatabaseWrapper) -> None:
        """Leave after the end of the last one, where a loss cannot change anything any more."""
        if connection in self._connections:
            self._connections.remove(connection)
        failure = None if self._connections else self._leave(self._holds)
        if failure is not None and not self._refused:
            logger.warning("Known only after the transaction had ended: %s", failure)
