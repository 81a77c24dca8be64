"""What a guard knows of one entering."""

from __future__ import annotations

from django.db.transaction import Atomic

from .holds import Flow, Hold, current_flow
from .transactions import Savepoints

OUTSIDE: Savepoints = frozenset()


class Entry:
    """One entering of a guard."""

    __slots__ = ("atomic", "commits", "flow", "holds", "savepoints")

    def __init__(self, holds: list[Hold], flow: Flow | None = None) -> None:
        self.holds = holds
        """What was acquired, or entered again; nothing any more when it has ended."""
        self.flow = flow or (holds[0].flow if holds else current_flow())
        """Whose entry it is."""
        self.atomic: Atomic | None = None
        """The transaction that was opened inside the locks."""
        self.commits = False
        """Whether the end of that is the COMMIT, and not merely that of a savepoint."""
        self.savepoints = OUTSIDE
        """The savepoints in which the locks were acquired: the rollback of one of them frees them."""
