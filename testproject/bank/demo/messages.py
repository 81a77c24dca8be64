"""What the demo and its worker processes say to each other. Nothing here needs Django."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testproject.bank.transfers import Order, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How locks are to be acquired, in seconds."""

    wait: float
    ttl: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """An order, and the way in which it is to be carried out."""

    order: Order
    mode: str
    terms: Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of an order."""

    outcome: Outcome
    waited: float
    """Seconds from the start until both rows were there, failed attempts included."""
    retries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """An order that met an error for which trying again is no remedy."""

    traceback: str


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has started."""


Answer = Ready | Done | Failed
