"""Write accounts.csv and transfers.csv anew: `python -m testproject.bank.data.generate`. Always the same files."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
SEED = 20260131
ORDERS = 5000

# Everybody pays these: they are the hot rows. The weights say how often.
SHOPS = {"Supermarket": 22, "Card payments": 18, "Power and water": 8, "Landlord": 6, "Railway": 5, "Pharmacy": 4}
EMPLOYERS = {"Payroll: city council": 3, "Payroll: hospital": 3, "Payroll: shipyard": 2}
HOUSEHOLDS = 240
SMALL_SHOPS = 40

Row = tuple[str, str, str, str, str]


def main() -> None:
    chance = random.Random(SEED)
    accounts = list(make_accounts(chance))
    write(HERE / "accounts.csv", ["number", "owner", "opening"], [",".join(row) for row in accounts])
    orders = with_duplicates(chance, list(make_orders(chance, [row[0] for row in accounts])))
    write(HERE / "transfers.csv", ["key", "source", "target", "amount", "purpose"], with_faults(chance, orders))


def make_accounts(chance: random.Random) -> Iterator[tuple[str, str, str]]:
    owners = [*SHOPS, *EMPLOYERS]
    owners += [f"Shop {n:02}" for n in range(1, SMALL_SHOPS + 1)]
    owners += [f"Household {n:03}" for n in range(1, HOUSEHOLDS + 1)]
    for n, owner in enumerate(owners, start=1):
        opening = 900_000 if owner in EMPLOYERS else 5_000 if n <= len(SHOPS) else chance.triangular(20, 1800, 260)
        yield f"{1000 + n * 7}-{n % 10}{n % 7}", owner, f"{opening:.2f}"


def make_orders(chance: random.Random, numbers: list[str]) -> Iterator[Row]:
    """A month of a small town: wages come in, everything else goes out."""
    hot, rest = numbers[: len(SHOPS)], numbers[len(SHOPS) :]
    employers, rest = rest[: len(EMPLOYERS)], rest[len(EMPLOYERS) :]
    small, homes = rest[:SMALL_SHOPS], rest[SMALL_SHOPS:]

    def pick(numbers: list[str], weights: dict[str, int]) -> str:
        return chance.choices(numbers, weights=list(weights.values()))[0]

    for _ in range(ORDERS):
        home, kind = chance.choice(homes), chance.random()
        if kind < 0.62:
            row = home, pick(hot, SHOPS), price(chance, 6, 240, 28), "purchase"
        elif kind < 0.74:
            row = pick(employers, EMPLOYERS), home, price(chance, 300, 2900, 900), "wages"
        elif kind < 0.86:
            row = home, chance.choice(small), price(chance, 2, 80, 12), "purchase"
        elif kind < 0.93:
            row = home, chance.choice([other for other in homes if other != home]), price(chance, 5, 400, 40), "private"
        elif kind < 0.97:
            row = pick(hot, SHOPS), home, price(chance, 3, 90, 20), "refund"
        else:
            row = pick(hot, SHOPS), pick(employers, EMPLOYERS), price(chance, 100, 2500, 600), "settlement"
        source, target, amount, what = row
        yield f"{chance.getrandbits(48):012x}", source, target, amount, what


def price(chance: random.Random, low: float, high: float, usual: float) -> str:
    return f"{chance.triangular(low, high, usual):.2f}"


def with_duplicates(chance: random.Random, orders: list[Row]) -> list[Row]:
    """Some are sent again: at once by an impatient client, or much later by a repeated import."""
    for _ in range(180):
        at = chance.randrange(len(orders) - 60)
        orders.insert(at + (chance.randint(1, 4) if chance.random() < 0.7 else chance.randint(20, 60)), orders[at])
    return orders


def with_faults(chance: random.Random, orders: list[Row]) -> list[str]:
    """The lines of the file, with those in between that no bank can read."""
    lines = [as_csv(row) for row in orders]
    key, source, target, amount, purpose = orders[0]
    key = f"x{key[1:]}"
    faults = [
        [key, source, target, amount],
        [key, source, target, amount, purpose, "again"],
        [key, source, target, f"{amount[:-3]},50", purpose],
        [key, source, target, "a lot", purpose],
        [key, source, target, f"-{amount}", purpose],
        [key, source, target, "0.00", purpose],
        [key, source, target, "12.345", purpose],
        [key, source, target, "NaN", purpose],
        [key, source, target, "", purpose],
        [key, source, target, "9" * 14, purpose],
        [key, source, "9999-99", amount, purpose],
        [key, "", target, amount, purpose],
        [key, source, source, amount, purpose],
        ["", source, target, amount, purpose],
        ["k" * 80, source, target, amount, purpose],
        [key, source, target, amount, "caf\udce9"],
    ]
    broken = [as_csv(fault) for fault in faults]
    broken += [f'{key},{source},{target},{amount},"purchase', "", f"{key};{source};{target};{amount};{purpose}"]
    for line in broken:
        lines.insert(chance.randrange(len(lines)), line)
    return lines


def as_csv(row: tuple[str, ...] | list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(row)
    return text.getvalue()


def write(path: Path, columns: list[str], lines: list[str]) -> None:
    text = "\n".join([",".join(columns), *lines, ""])
    path.write_bytes(text.encode(errors="surrogateescape"))


if __name__ == "__main__":
    main()
