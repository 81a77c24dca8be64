"""Is all the money where it should be? A model of the bank for one process, fed with what the ledger says.

The model knows nothing of databases and locks: it goes through the ledger line by line, decides each order itself
and keeps its own balances.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the ledger: an order and how it was decided. Accounts by number."""

    key: str
    source: str
    target: str
    amount: Decimal
    booked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An account as the bank has it."""

    balance: Decimal
    movements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What a run did to the money."""

    booked: int
    refused: int
    lost_updates: int
    """Changes of an account that were overwritten by somebody who had not seen them."""
    appeared: Decimal
    """Money on accounts that should have less."""
    vanished: Decimal
    """Money missing on accounts that should have more."""
    misjudged: int
    """Orders booked without the money being there, or refused although it was."""
    booked_twice: int
    """Keys that were decided more than once."""
    undecided: int
    """Keys that were ordered and are not in the ledger."""

    @property
    def right(self) -> bool:
        """Whether every balance is what the ledger makes it, and the ledger what was ordered."""
        faults = (self.lost_updates, self.misjudged, self.booked_twice, self.undecided, self.appeared, self.vanished)
        return not any(faults)


def audit(
    *,
    opening: Mapping[str, Decimal],
    ledger: Collection[Entry],
    standings: Mapping[str, Standing],
    ordered: Collection[str],
) -> Audit:
    """Compare the accounts with what the ledger, read in the order of writing, makes of the opening balances."""
    expected = dict(opening)
    misjudged = sum(not step(expected, entry) for entry in ledger)
    movements = Counter(touched(ledger))
    drift = [standings[number].balance - balance for number, balance in expected.items()]
    keys = Counter(entry.key for entry in ledger)
    return Audit(
        booked=sum(entry.booked for entry in ledger),
        refused=sum(not entry.booked for entry in ledger),
        lost_updates=sum(movements[number] - standing.movements for number, standing in standings.items()),
        appeared=sum((each for each in drift if each > 0), ZERO),
        vanished=-sum((each for each in drift if each < 0), ZERO),
        misjudged=misjudged,
        booked_twice=sum(count > 1 for count in keys.values()),
        undecided=len(set(ordered) - keys.keys()),
    )


def step(balances: dict[str, Decimal], entry: Entry) -> bool:
    """Do what the ledger says was done, and tell whether it was the right decision at that point."""
    enough = balances[entry.source] >= entry.amount
    if entry.booked:
        balances[entry.source] -= entry.amount
        balances[entry.target] += entry.amount
    return enough == entry.booked


def touched(ledger: Iterable[Entry]) -> Iterable[str]:
    """The accounts that booked orders changed, once per change."""
    for entry in ledger:
        if entry.booked:
            yield entry.source
            yield entry.target
