"""The bank's views, command and tasks that have their rows locked for them."""

from __future__ import annotations

import asyncio
import csv
from decimal import Decimal
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import AsyncClient, Client

from django_redislock import lock
from testproject.bank import tasks
from testproject.bank.management.commands import import_rates
from testproject.bank.models import Account, RateTable, Transfer
from tests.flows import elsewhere, is_free

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def rent(lock_alias: str) -> Account:
    return Account.objects.create(number="1", owner="Rent", balance=100)


@pytest.fixture
def shop(lock_alias: str) -> Account:
    return Account.objects.create(number="2", owner="Shop", balance=5)


@pytest.fixture
def member(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create(username="kari"))
    return client


def post(url: str, client: Client | None = None, **data: Any) -> Any:
    return elsewhere(lambda: (client or Client()).post(url, data))


def balances() -> list[Decimal]:
    return [account.balance for account in Account.objects.all()]


class TestMove:
    def test_it_moves_money(self, rent, shop):
        assert post(f"/accounts/{rent.pk}/move/", target=shop.pk, amount="10").status_code == 302
        assert balances() == [90, 15]
        assert Transfer.objects.get().status == Transfer.Status.BOOKED

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            ({"amount": "100.01"}, 409),
            ({"amount": "0"}, 400),
            ({"amount": "x"}, 400),
            ({"target": "12345"}, 404),
            ({"target": ""}, 404),
        ],
    )
    def test_what_cannot_be_moved_is_refused(self, rent, shop, data, status):
        sent = {"target": shop.pk, "amount": "1"} | data
        assert post(f"/accounts/{rent.pk}/move/", **sent).status_code == status
        assert balances() == [100, 5]

    def test_the_same_key_moves_it_once(self, rent, shop):
        sent = {"target": shop.pk, "amount": "10", "key": "k"}
        assert [post(f"/accounts/{rent.pk}/move/", **sent).status_code for _ in range(2)] == [302, 409]
        assert balances() == [90, 15]

    def test_nobody_moves_money_to_himself(self, rent):
        assert post(f"/accounts/{rent.pk}/move/", target=rent.pk, amount="1").status_code == 409


class TestOthers:
    def test_a_class_view(self, rent, member):
        assert post(f"/accounts/{rent.pk}/rename/", owner="Home").status_code == 302
        assert post(f"/accounts/{rent.pk}/rename/", member, owner="Home").json() == {"owner": "Home"}

    def test_a_generic_view(self, rent, member):
        assert "Rent" in member.get(f"/accounts/{rent.pk}/edit/").text
        assert post(f"/accounts/{rent.pk}/edit/", member, owner="Home").status_code == 302
        assert Account.objects.get().owner == "Home"

    @pytest.mark.parametrize(("amount", "status"), [("10", 200), ("-1", 400)])
    def test_an_asynchronous_view(self, rent, amount, status):
        async def send() -> int:
            return (await AsyncClient().post(f"/accounts/{rent.pk}/deposit/", {"amount": amount})).status_code

        assert asyncio.run(send()) == status
        assert balances() == [110 if status == 200 else 100]

    def test_a_stream(self, rent, shop):
        post(f"/accounts/{rent.pk}/move/", target=shop.pk, amount="10", key="k")
        response = Client().get(f"/accounts/{rent.pk}/statement/")
        assert response.getvalue() == b"k,10.00,booked\r\nbalance,90.00,\r\n"
        assert is_free(f"bank.Account:{rent.pk}")


class TestApi:
    def test_an_action(self, rent):
        assert post(f"/api/accounts/{rent.pk}/deposit/", amount="10").json()["balance"] == "110.00"

    def test_an_update(self, rent):
        with lock(f"bank.Account:{rent.pk}"):
            assert Client().get(f"/api/accounts/{rent.pk}/").json()["owner"] == "Rent"
        url = f"/api/accounts/{rent.pk}/"
        assert Client().patch(url, {"owner": "Home"}, content_type="application/json").json()["owner"] == "Home"

    def test_a_function(self, rent):
        assert post(f"/api/close/{rent.number}/").status_code == 409
        Account.objects.update(balance=0)
        assert post(f"/api/close/{rent.number}/").status_code == 204
        assert not Account.objects.exists()


class TestCommand:
    def test_interest_is_paid_once_a_night(self, rent, shop):
        out = StringIO()
        call_command("nightly_interest", "--rate=0.01", stdout=out)
        assert out.getvalue() == "Paid 1.05.\n"
        with pytest.raises(CommandError, match="command:nightly_interest is held by"):
            call_command("nightly_interest", "--rate=0.01")
        assert balances() == [101, Decimal("5.05")]


class TestImport:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "rates.csv"
        path.write_text("NOK,11.5\nSEK,11.2\n")
        return path

    def test_rates_are_imported(self, lock_alias, file):
        RateTable.objects.create(name="noon", rates={"DKK": "7.46"})
        out = StringIO()
        call_command("import_rates", "noon", str(file), stdout=out)
        assert out.getvalue() == "3 rates are in noon.\n"
        assert RateTable.objects.get().rates == {"DKK": "7.46", "NOK": "11.5", "SEK": "11.2"}

    def test_what_somebody_has_edited_meanwhile_is_not_written_over(self, lock_alias, file, monkeypatch):
        def edit(file: Any) -> Any:
            table = RateTable.objects.get()
            table.rates = {"NOK": "1"}
            table.save()
            return csv.reader(file)

        monkeypatch.setattr(import_rates, "csv", SimpleNamespace(reader=edit))
        with pytest.raises(CommandError, match="the table was edited meanwhile"):
            call_command("import_rates", "noon", str(file))
        assert RateTable.objects.get().rates == {"NOK": "1"}

    def test_a_line_that_makes_no_sense_imports_nothing(self, lock_alias, file):
        file.write_text("NOK,much\n")
        with pytest.raises(CommandError, match="has no rate"):
            call_command("import_rates", "noon", str(file))
        assert RateTable.objects.get().rates == {}

    def test_one_import_of_a_table_runs_at_a_time(self, lock_alias, file):
        with lock("command:import_rates?table=noon"), pytest.raises(CommandError, match="is held by"):
            elsewhere(lambda: call_command("import_rates", "noon", str(file)))


class TestTasks:
    def test_money_is_paid_out(self, rent):
        paid: Any = tasks.pay_out
        assert paid(rent.pk, "10") == "90.00"

    def test_a_report_that_is_being_made_is_not_made_twice(self, rent):
        with lock("task:testproject.bank.tasks.yearly_report?year=2026"):
            assert elsewhere(lambda: tasks.yearly_report(2026, "kari")) is None
            assert elsewhere(lambda: tasks.yearly_report(2025, "kari")) == 1
