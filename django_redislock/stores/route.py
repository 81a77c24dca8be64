"""How a question finds the node of a Redis Cluster that has a bucket, also while that changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.exceptions import AskError, ClusterDownError, ConnectionError, MovedError, TryAgainError

from .. import clock

if TYPE_CHECKING:
    from .clusternodes import Address, Node, Nodes
    from .connections import Connections

PATIENCE = 5.0
"""Seconds for which a bucket that nobody has right now is asked for: as long as redis-py's default `socket_timeout`."""
FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.1
"""Seconds between two such questions."""
HOPS = 5
"""So often in a row a question is sent on to another node."""
ACROSS = "non local key"
"""What a server says of a script that came upon a key which had been moved while the rest had not."""


class Route:
    """As `Tries`: the node that has a bucket, and the next one where it has been moved or was failed over.

    While a bucket is on its way from one node to another, or nobody has it, that is waited for a while.
    """

    def __init__(self, nodes: Nodes, bucket: str, *, within: float | None = None) -> None:
        self._nodes = nodes
        self._bucket = bucket
        self._end = clock.now() + (PATIENCE if within is None else within)
        self._pause = 0.0
        self._hops = 0
        self._broken: set[Address] = set()
        self.node: Node | None = None

    def connections(self) -> Connections:
        """Those to the node that has the bucket now."""
        if self._pause:
            clock.sleep(self._pause)
        self.node = self._nodes.owner(self._bucket)
        return self.node.connections

    def again(self, error: Exception) -> bool:
        """Whether that is a reason to ask once more."""
        if isinstance(error, MovedError):
            self._hops += 1
            self._pause = 0.0
            if (error.host, error.port) in self._broken:  # who said that has not heard of the fail-over
                self._nodes.refresh(self._bucket, broken=self._broken)
            else:
                self._nodes.learn(self._bucket, error)
            return self._hops <= HOPS or self._wait()
        if isinstance(error, AskError | TryAgainError) or ACROSS in str(error):
            return self._wait()
        if isinstance(error, ClusterDownError):
            # The node may be cut off from all others, and still take itself for the one that has the bucket.
            self._nodes.refresh(self._bucket, broken={self.node.address} if self.node else ())
            return self._wait()
        return isinstance(error, ConnectionError) and self._look_elsewhere()

    def _look_elsewhere(self) -> bool:
        """The connection broke: once more at the same node, and at any other that has the bucket by now."""
        assert self.node is not None  # it was asked
        address = self.node.address
        is_new = address not in self._broken
        self._broken.add(address)
        self._nodes.refresh(self._bucket, broken=self._broken)
        return is_new or self._nodes.owner(self._bucket).address not in self._broken

    def _wait(self) -> bool:
        self._pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, self._pause * 2))
        return clock.now() + self._pause < self._end
