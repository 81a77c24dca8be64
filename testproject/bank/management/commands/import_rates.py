"""Import exchange rates: long work, so nobody is kept waiting for the row; who was first to save is right."""

from __future__ import annotations

import csv
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from django_redislock import VersionConflict, lock_command
from testproject.bank.models import RateTable


@lock_command(arguments=["table"])
class Command(BaseCommand):
    help = "Import the rates of one table from a CSV file of currency and rate. One import of a table at a time."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("table", help="name of the table")
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, table: str, file: Path, **options: Any) -> str:
        RateTable.objects.get_or_create(name=table)
        try:
            with RateTable.objects.optimistic(name=table) as rows, file.open() as lines:
                rows.rates |= {currency: str(Decimal(rate)) for currency, rate in csv.reader(lines)}
                rows.save()
        except InvalidOperation as error:
            raise CommandError(f"Nothing was imported: a line of {file.name} has no rate.") from error
        except VersionConflict as error:
            raise CommandError(f"Nothing was imported, the table was edited meanwhile: {error}") from error
        return f"{len(rows.rates)} rates are in {table}."
