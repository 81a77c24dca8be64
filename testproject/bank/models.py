"""Accounts, and the transfers between them that make up the ledger."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

from django.core.validators import MinValueValidator
from django.db import models

from django_redislock import LockManager, VersionField

PENNY = Decimal("0.01")
KEY_LENGTH = 64


class Account(models.Model):
    """Money of one owner.

    `balance` and `movements` are read, changed in Python and saved: what a lock has to protect.
    """

    number = models.CharField(max_length=20, unique=True)
    owner = models.CharField(max_length=80)
    balance = models.DecimalField(max_digits=14, decimal_places=2, default=Decimal(0))
    movements = models.PositiveIntegerField(default=0, help_text="How many booked transfers touched this account.")

    objects = LockManager()

    class Meta:
        ordering: ClassVar = ["number"]

    def __str__(self) -> str:
        return f"{self.number} {self.owner}"


class Transfer(models.Model):
    """An order that was decided: booked, or refused for want of money. The key allows for one decision only."""

    class Status(models.TextChoices):
        BOOKED = "booked", "booked"
        REFUSED = "refused", "refused: not enough money"

    key = models.CharField("idempotency key", max_length=KEY_LENGTH, unique=True)
    if TYPE_CHECKING:  # for checkers without a plugin for Django
        source_id: int
        target_id: int
    source = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="sent")
    target = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="received")
    amount = models.DecimalField(max_digits=12, decimal_places=2, validators=[MinValueValidator(PENNY)])
    status = models.CharField(max_length=8, choices=Status)
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["-pk"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(amount__gt=0), name="bank_transfer_amount_positive"),
            models.CheckConstraint(condition=~models.Q(source=models.F("target")), name="bank_transfer_two_accounts"),
        ]

    def __str__(self) -> str:
        return f"{self.key}: {self.amount} from {self.source_id} to {self.target_id}, {self.status}"


class RateTable(models.Model):
    """Exchange rates, imported from a file that takes its time, and edited by people meanwhile."""

    name = models.CharField(max_length=40, unique=True)
    rates = models.JSONField(default=dict)
    version = VersionField()

    objects = LockManager()

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name
