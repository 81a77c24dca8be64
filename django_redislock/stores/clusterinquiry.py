"""Questions that change nothing, to a cluster: each node is asked of what it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..keys import BUCKETS
from .asking import FAULTS
from .inquiry import Inquiry, ask_at_once, first_of_its_script, spell
from .route import Route
from .verbs import root_of

if TYPE_CHECKING:
    from .clusternodes import Node, Nodes
    from .verbs import Call

T = TypeVar("T")


class ClusterInquiry(Inquiry):
    """Asks the nodes of a cluster. Raises `StoreUnavailable` when one of them cannot be asked."""

    in_slots = True

    def __init__(self, nodes: Nodes, *, scope: str, prefix: str) -> None:
        super().__init__(lambda: nodes.client, scope=scope, prefix=prefix)
        self._nodes = nodes
        self._root = root_of(prefix)

    def close(self) -> None:
        """There are no connections but those of the nodes."""

    def servers(self) -> list[Inquiry]:
        """An inquiry for each node that takes locks."""
        buckets = [f"{self._root}:{{{number}}}" for number in range(BUCKETS)]
        try:
            nodes = self._nodes.owners(buckets)
        except FAULTS as error:
            raise self._unavailable(error, "its nodes") from error
        return [self._of(node) for node in nodes]

    def settings(self) -> dict[str, Any]:
        """As `Inquiry.settings()`."""
        return self._nodes.settings

    def _of(self, node: Node) -> Inquiry:
        host, port = node.address
        return Inquiry(lambda: node.client, scope=self._scope, prefix=self.prefix, where=f"{host}:{port}")

    def _ask_all(self, calls: Sequence[Call[T]], about: str) -> list[T]:
        """One round trip for each node; where a slot has been moved or its node failed, its own one."""
        answers: dict[int, T] = {}
        try:
            for node, places in self._by_node(calls).items():
                asked = [calls[place] for place in places]
                try:
                    commands = list(map(spell, asked, first_of_its_script(asked)))
                    found = ask_at_once(node.connections, commands, [call.read for call in asked])
                except FAULTS:
                    found = [self._ask_one(call) for call in asked]
                answers.update(zip(places, found, strict=True))
        except FAULTS as error:
            raise self._unavailable(error, about) from error
        return [answers[place] for place in range(len(calls))]

    def _by_node(self, calls: Sequence[Call[Any]]) -> dict[Node, list[int]]:
        by_node: dict[Node, list[int]] = {}
        for place, call in enumerate(calls):
            by_node.setdefault(self._nodes.owner(self._bucket_of(call)), []).append(place)
        return by_node

    def _bucket_of(self, call: Call[Any]) -> str:
        key = call.keys[0]
        return key[: key.index("}", len(self._root)) + 1]

    def _ask_one(self, call: Call[T]) -> T:
        route = Route(self._nodes, self._bucket_of(call))
        while True:
            connections = route.connections()
            try:
                return ask_at_once(connections, [spell(call, True)], [call.read])[0]
            except FAULTS as error:
                if not route.again(error):
                    raise
