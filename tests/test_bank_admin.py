"""The bank in Django's admin."""

from __future__ import annotations

from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from testproject.bank.models import Account, Transfer

pytestmark = pytest.mark.django_db


@pytest.fixture
def rent() -> Account:
    return Account.objects.create(number="1", owner="Rent", balance=Decimal(100))


@pytest.fixture
def transfer(rent: Account) -> Transfer:
    shop = Account.objects.create(number="2", owner="Shop 01")
    return Transfer.objects.create(key="k", source=rent, target=shop, amount=1, status=Transfer.Status.BOOKED)


def test_accounts_and_transfers_are_listed(admin_client, transfer):
    assert "Rent" in admin_client.get("/admin/bank/account/", {"q": "Rent"}).text
    assert "1 Rent" in admin_client.get("/admin/bank/transfer/", {"status": "booked"}).text


def test_an_account_is_opened_with_a_balance(admin_client):
    admin_client.post("/admin/bank/account/add/", {"number": "3", "owner": "Bakery", "balance": "7.50"})
    assert Account.objects.get(number="3").balance == Decimal("7.50")


def test_a_new_owner_is_saved_without_touching_the_balance(admin_client, rent, monkeypatch):
    def booked_meanwhile(account: Account, **fields: Any) -> None:
        Account.objects.update(balance=50)
        save(account, **fields)

    save = Account.save
    monkeypatch.setattr(Account, "save", booked_meanwhile)
    admin_client.post(f"/admin/bank/account/{rent.pk}/change/", {"number": "1", "owner": "New owner", "balance": "9"})
    rent.refresh_from_db()
    assert (rent.owner, rent.balance) == ("New owner", 50)


def test_the_ledger_cannot_be_changed(admin_client, transfer):
    assert admin_client.get("/admin/bank/transfer/add/").status_code == 403
    assert admin_client.post(f"/admin/bank/transfer/{transfer.pk}/delete/").status_code == 403
    assert "Save" not in admin_client.get(f"/admin/bank/transfer/{transfer.pk}/change/").text


def test_models_and_migrations_agree():
    call_command("makemigrations", "bank", check=True, dry_run=True, stdout=StringIO())
