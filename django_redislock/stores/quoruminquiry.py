"""What is held in several independent stores: what most of them name. As `Inquiry`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from .. import majority
from ..exceptions import StoreUnavailable
from .listing import Listing
from .panel import Panel, Replies
from .verdicts import answered

if TYPE_CHECKING:
    from ..keys import Key
    from .base import Held
    from .inquiry import Inquiry
    from .listing import Listed
    from .quorum import QuorumStore

T = TypeVar("T")


class QuorumInquiry:
    """Asks the nodes one after the other: a page may take that long. Raises `QuorumNotReached`."""

    def __init__(self, store: QuorumStore, inquiries: Sequence[Inquiry]) -> None:
        self.parts = inquiries
        """One for each node."""
        self._store = store

    def close(self) -> None:
        """Close the connections that are idle; what comes later opens new ones."""
        for inquiry in self.parts:
            inquiry.close()

    def list_held(self, *, alias: str = "", queues: bool = False) -> Listing:
        """All that most nodes say is held, as the node tells it that knows of most waiters."""
        replies = self._ask(lambda inquiry: inquiry.list_held(alias=alias, queues=queues))
        Panel.require(replies, "what is held")
        by_name: dict[str, list[Listed]] = {}
        for reply in replies:
            for lock in reply or ():
                by_name.setdefault(lock.name, []).append(lock)
        present, nodes = answered(replies), len(replies)
        return Listing.of(
            most_told(found) for found in by_name.values() if majority.can_be_met(present - len(found), nodes=nodes)
        )

    def inspect(self, keys: Sequence[Key]) -> list[Held | None]:
        """Who holds each of the keys."""
        return self._store.inspect_many(keys)

    def _ask(self, ask: Callable[[Inquiry], T]) -> Replies[T]:
        answers: list[T | None] = []
        faults: list[StoreUnavailable] = []
        for inquiry in self.parts:
            try:
                answers.append(ask(inquiry))
            except StoreUnavailable as error:
                answers.append(None)
                faults.append(error)
        return Replies(answers, faults)


def most_told(found: Sequence[Listed]) -> Listed:
    """The owner whom most nodes name, from the node that knows of most waiters."""
    fences = [lock.fence for lock in found]
    return max(found, key=lambda lock: (fences.count(lock.fence), lock.waiters, lock.fence))
