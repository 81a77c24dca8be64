"""Where one question is asked, and how often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from redis.exceptions import ConnectionError

if TYPE_CHECKING:
    from .connections import Connections


class Tries(Protocol):
    """Where one question is asked, until it is answered or it makes no sense any more."""

    def connections(self) -> Connections:
        """Those to the server that is to be asked now. Raises what keeps it from being found."""

    def again(self, error: Exception) -> bool:
        """Whether to ask once more after such an error."""


class Twice:
    """One server, and once more when the connection broke."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._is_last = False

    def connections(self) -> Connections:
        """As `Tries.connections()`."""
        return self._connections

    def again(self, error: Exception) -> bool:
        """As `Tries.again()`."""
        was_last, self._is_last = self._is_last, True
        return isinstance(error, ConnectionError) and not was_last
