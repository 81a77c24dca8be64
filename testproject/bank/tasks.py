"""Tasks of Celery: `celery --app testproject.celery worker`."""

from __future__ import annotations

from decimal import Decimal

from celery import shared_task

from django_redislock import lock_task

from .models import Account


@shared_task(max_retries=20)
@lock_task(Account, retry_in=2)
def pay_out(account_id: int, amount: str, account: Account) -> str:
    """Work on one account; a second task for it is tried again 2 seconds later."""
    account.balance -= Decimal(amount)
    account.save()
    return str(account.balance)


@shared_task
@lock_task(by=["year"], when_busy="skip")
def yearly_report(year: int, recipient: str) -> int:
    """One report for a year at a time, whoever asks for it."""
    return Account.objects.count()
