"""Pay interest to every account, once a night, on whichever host begins first."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from django_redislock import lock_command
from testproject.bank.models import PENNY, Account


@lock_command(hold_at_least=60)
class Command(BaseCommand):
    help = "Pay interest to every account. Runs once at a time, on all hosts."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--rate", type=Decimal, default=Decimal("0.0001"), help="of one night (0.0001)")

    def handle(self, *args: Any, rate: Decimal, **options: Any) -> str:
        paid = Decimal(0)
        for pk in Account.objects.values_list("pk", flat=True):
            with Account.objects.locked(pk) as account:
                interest = (account.balance * rate).quantize(PENNY, rounding=ROUND_DOWN)
                account.balance += interest
                account.save()
            paid += interest
        return f"Paid {paid}."
