"""The pages of the bank."""

from __future__ import annotations

from decimal import Decimal
from html.parser import HTMLParser
from http import HTTPStatus
from typing import Any

import pytest
from django.test import Client

from django_redislock import get_lease, lock
from testproject.bank import transfers, views
from testproject.bank.models import Account, Transfer
from tests.flows import elsewhere, is_free

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def rent(lock_alias: str) -> Account:
    return Account.objects.create(number="1", owner="Rent", balance=Decimal(100))


@pytest.fixture
def shop(lock_alias: str) -> Account:
    return Account.objects.create(number="2", owner="Shop 01", balance=Decimal(5))


def send(source: Account, target: Account, amount: Any = "10.00", *, key: str = "k") -> Any:
    data = {"target": target.pk, "amount": amount, "key": key}
    return Client().post(f"/accounts/{source.pk}/transfer/", data, follow=True)


def balances(*accounts: Account) -> list[Decimal]:
    for account in accounts:
        account.refresh_from_db()
    return [account.balance for account in accounts]


def test_a_transfer_moves_money_and_says_so(rent, shop):
    response = send(rent, shop)
    assert response.redirect_chain == [(f"/?from={rent.pk}", HTTPStatus.FOUND)]
    assert "10.00 was sent to 2 Shop 01." in response.text
    assert balances(rent, shop) == [90, 15]


def test_both_accounts_are_free_afterwards(rent, shop):
    send(rent, shop)
    assert is_free(f"bank.Account:{rent.pk}")
    assert is_free(f"bank.Account:{shop.pk}")


def test_a_form_sent_twice_is_booked_once(rent, shop):
    send(rent, shop)
    response = send(rent, shop)
    assert "It was booked before, and only once." in response.text
    assert balances(rent, shop) == [90, 15]


def test_a_key_that_was_used_for_another_order_is_refused(rent, shop):
    send(rent, shop)
    response = send(rent, shop, "11.00")
    assert response.status_code == HTTPStatus.CONFLICT
    assert views.OTHER_ORDER in response.text
    assert balances(rent, shop) == [90, 15]


@pytest.mark.parametrize("target", ["rent", "shop"], ids=["the lower key", "the higher key"])
def test_an_account_that_somebody_works_on_is_busy(rent, shop, target, monkeypatch):
    monkeypatch.setattr(views, "WAIT", 0)
    with lock(f"bank.Account:{(rent if target == 'rent' else shop).pk}"):
        response = elsewhere(send, rent, shop)
    assert response.status_code == HTTPStatus.LOCKED
    assert response["Retry-After"] == "2"
    assert "One of the accounts is busy" in response.text
    assert 'value="k"' in response.text  # the form can be sent again as it is
    assert balances(rent, shop) == [100, 5]


def test_what_was_busy_can_be_sent_again(rent, shop, monkeypatch):
    monkeypatch.setattr(views, "WAIT", 0)
    with lock(f"bank.Account:{shop.pk}"):
        elsewhere(send, rent, shop)
    assert send(rent, shop).status_code == HTTPStatus.OK
    assert balances(rent, shop) == [90, 15]


def test_more_than_there_is_is_refused_and_stays_refused(rent, shop):
    for _ in range(2):
        response = send(rent, shop, "100.01")
        assert response.status_code == HTTPStatus.CONFLICT
        assert views.TOO_LITTLE in response.text
    assert balances(rent, shop) == [100, 5]
    assert Transfer.objects.get().status == Transfer.Status.REFUSED


def test_an_unknown_account_is_not_found(rent, shop):
    response = Client().post(f"/accounts/{shop.pk + 1}/transfer/", {"target": rent.pk, "amount": 1, "key": "k"})
    assert response.status_code == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"target": "12345"}, "Select a valid choice"),
        ({"amount": "-1"}, "greater than or equal to 0.01"),
        ({"amount": "1.234"}, "no more than 2 decimal places"),
        ({"key": ""}, "This field is required"),
    ],
)
def test_a_form_with_a_mistake_is_shown_again(rent, shop, fields, complaint):
    data = {"target": shop.pk, "amount": 1, "key": "k"} | fields
    response = Client().post(f"/accounts/{rent.pk}/transfer/", data)
    assert response.status_code == HTTPStatus.BAD_REQUEST
    assert complaint in response.text
    assert balances(rent, shop) == [100, 5]


def test_nobody_sends_money_to_himself(rent):
    assert send(rent, rent).status_code == HTTPStatus.BAD_REQUEST


def test_a_lock_that_was_lost_books_nothing(rent, shop, monkeypatch):
    book = transfers.book

    def book_late(order: transfers.Order, rows: transfers.Rows) -> transfers.Outcome:
        get_lease(rows[rent.pk]).deadline = 0
        return book(order, rows)

    monkeypatch.setattr(transfers, "book", book_late)
    response = send(rent, shop)
    assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert views.TRY_AGAIN in response.text
    assert balances(rent, shop) == [100, 5]


def test_without_a_redis_nothing_is_booked(rent, shop, settings):
    away = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
    settings.CACHES = {**settings.CACHES, "away": away}
    settings.REDISLOCK = {"default": {"CACHE": "away"}}
    assert send(rent, shop).status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert balances(rent, shop) == [100, 5]


def test_money_is_sent_by_post_only(rent):
    assert Client().get(f"/accounts/{rent.pk}/transfer/").status_code == HTTPStatus.METHOD_NOT_ALLOWED


def test_the_page_shows_the_accounts_and_a_form_for_one_of_them(rent, shop):
    text = Client().get("/", {"from": shop.pk}).text
    assert f'action="/accounts/{shop.pk}/transfer/"' in text
    assert "Rent" in text
    assert "105.00" in text


@pytest.mark.parametrize("wanted", ["999999", "9" * 30])
def test_a_form_for_an_unknown_account_is_not_found(rent, wanted):
    assert Client().get("/", {"from": wanted}).status_code == HTTPStatus.NOT_FOUND


def test_a_bank_without_accounts_says_how_to_get_some(lock_alias):
    assert "manage.py demo" in Client().get("/").text


class Labels(HTMLParser):
    """The ids of inputs, and those that a label names."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: set[str | None] = set()
        self.labelled: set[str | None] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "label":
            self.labelled.add(found["for"])
        elif tag in {"input", "select"} and found.get("type") != "hidden":
            self.inputs.add(found["id"])


def test_every_field_has_a_label_and_nothing_on_the_page_is_a_script(rent, shop):
    text = Client().get("/").text
    labels = Labels()
    labels.feed(text)
    assert labels.inputs == labels.labelled
    assert "<script" not in text
    assert "style=" not in text
