"""Read accounts and transfer orders from CSV files. A line that is no order is reported and skipped."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from django import forms
from django.core.exceptions import ValidationError

from testproject.bank.models import KEY_LENGTH, PENNY

ACCOUNT_COLUMNS = ["number", "owner", "opening"]
ORDER_COLUMNS = ["key", "source", "target", "amount", "purpose"]

amount_field = forms.DecimalField(min_value=PENNY, max_digits=12, decimal_places=2)
opening_field = forms.DecimalField(min_value=0, max_digits=12, decimal_places=2)


class BadFile(Exception):
    """A file as a whole that cannot be used."""


class BadLine(ValueError):
    """One line that cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningBalance:
    """An account as it stands before any transfer."""

    number: str
    owner: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLine:
    """A transfer order as the file has it, accounts by number."""

    line: int
    key: str
    source: str
    target: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A line that is no order, and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a file of orders holds."""

    orders: tuple[OrderLine, ...]
    skipped: tuple[Skipped, ...]


def read_accounts(path: Path) -> tuple[OpeningBalance, ...]:
    """The accounts of a file; every line has to be right.

    Raises `BadFile` with the number of the line that is not.
    """
    found: dict[str, OpeningBalance] = {}
    for line, text in lines(path, ACCOUNT_COLUMNS):
        try:
            number, owner, opening = fields(text, ACCOUNT_COLUMNS)
            if number in found:
                raise BadLine(f"account {number} is there twice")
            found[number] = OpeningBalance(number=number, owner=owner, amount=money(opening, opening_field))
        except BadLine as error:
            raise BadFile(f"{path.name}, line {line}: {error}.") from error
    return tuple(found.values())


def read_orders(path: Path, *, accounts: Collection[str]) -> Batch:
    """The orders of a file, with the lines that are none set apart.

    Raises `BadFile` when the file cannot be read or has other columns.
    """
    orders: list[OrderLine] = []
    skipped: list[Skipped] = []
    for line, text in lines(path, ORDER_COLUMNS):
        try:
            orders.append(order(line, text, accounts))
        except BadLine as error:
            skipped.append(Skipped(line=line, reason=str(error)))
    return Batch(orders=tuple(orders), skipped=tuple(skipped))


def order(line: int, text: str, accounts: Collection[str]) -> OrderLine:
    """One line of a file of orders.

    Raises `BadLine` when it is none.
    """
    key, source, target, wanted, _purpose = fields(text, ORDER_COLUMNS)
    if not key or len(key) > KEY_LENGTH:
        raise BadLine(f"a key has 1 to {KEY_LENGTH} characters, this one {len(key)}")
    for number in (source, target):
        if number not in accounts:
            raise BadLine(f"unknown account {number!r}")
    if source == target:
        raise BadLine(f"source and target are both {source}")
    return OrderLine(line=line, key=key, source=source, target=target, amount=money(wanted, amount_field))


def lines(path: Path, columns: list[str]) -> Iterator[tuple[int, str]]:
    """The lines below the heading with their numbers, empty ones left out. Bytes that are not UTF-8 stay marked."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror}.") from error
    numbered = enumerate(text.split("\n"), start=1)
    _, heading = next(numbered)
    if heading.strip().split(",") != columns:
        raise BadFile(f"{path.name}: the first line has to be {','.join(columns)}.")
    yield from ((number, line.rstrip("\r")) for number, line in numbered if line.strip())


def fields(text: str, columns: list[str]) -> list[str]:
    """The columns of one line.

    Each line is parsed by itself, so that a quotation mark without its partner spoils no other line.
    """
    if not text.isprintable():
        raise BadLine("not UTF-8 text")
    try:
        found = next(csv.reader([text], strict=True))
    except csv.Error as error:
        raise BadLine(f"not CSV ({error})") from error
    if len(found) != len(columns):
        raise BadLine(f"{len(found)} columns instead of {len(columns)}")
    return [field.strip() for field in found]


def money(text: str, field: forms.DecimalField) -> Decimal:
    """A sum of money that is right for the field."""
    try:
        value: Decimal = field.clean(text)
    except ValidationError as error:
        raise BadLine(f"amount {text!r}: {' '.join(error.messages).rstrip('.')}") from error
    return value
