"""Responses whose body is made after the view has returned."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any, cast

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import RequestFactory

from django_redislock import get_lease, lock_instance
from tests.flows import elsewhere, is_free
from tests.testapp.models import Account, Ticket

pytestmark = pytest.mark.django_db(transaction=True)

POST = RequestFactory().post("/")


@pytest.fixture
def account(lock_alias: str) -> Account:
    return Account.objects.create(balance=100)


@pytest.fixture
def key(account: Account) -> str:
    return f"testapp.Account:{account.pk}"


def lines(account: Account) -> Iterator[str]:
    for _ in range(2):
        yield "free " if is_free(f"testapp.Account:{account.pk}") else "held "


def statement(request: HttpRequest, account: Account) -> StreamingHttpResponse:
    account.balance -= 10
    account.save()
    return StreamingHttpResponse(lines(account))


hold: Any = lock_instance(Account, streaming="hold")


class TestHeld:
    def test_it_is_held_until_the_stream_is_closed(self, account, key):
        response = hold(statement)(POST, pk=account.pk)
        assert b"".join(response.streaming_content) == b"held held "
        assert not is_free(key)
        response.close()
        assert is_free(key)

    def test_the_transaction_is_committed_when_the_view_returns(self, account):
        response = hold(statement)(POST, pk=account.pk)
        assert elsewhere(lambda: Account.objects.get().balance) == 90
        assert not connection.in_atomic_block
        response.close()

    def test_a_client_that_goes_away_frees_it(self, account, key):
        response = hold(statement)(POST, pk=account.pk)
        next(iter(response.streaming_content))
        response.close()
        assert is_free(key)

    def test_another_thread_may_close_it(self, account, key):
        response = hold(statement)(POST, pk=account.pk)
        elsewhere(response.close)
        assert is_free(key)

    def test_a_stream_that_cannot_be_closed_well_frees_it(self, account, key):
        class Spoilt:
            def __iter__(self) -> Iterator[bytes]:
                return iter([b"line"])

            def close(self) -> None:
                raise OSError("No close.")

        response = hold(lambda request, account: StreamingHttpResponse(Spoilt()))(POST, pk=account.pk)
        response.close()
        assert is_free(key)

    def test_what_was_lost_meanwhile_is_logged(self, account, caplog):
        response = hold(statement)(POST, pk=account.pk)
        get_lease(account).deadline = 0
        response.close()
        assert "Known only after the commit" in caplog.text

    def test_a_view_that_fails_frees_it(self, account, key):
        with pytest.raises(ZeroDivisionError):
            hold(lambda request, account: 1 / 0)(POST, pk=account.pk)
        assert is_free(key)

    def test_a_response_that_is_no_stream_is_as_ever(self, account, key):
        hold(lambda request, account: HttpResponse())(POST, pk=account.pk)
        assert is_free(key)

    def test_several_rows_are_held(self, account, key):
        ticket = Ticket.objects.create(account=account)

        @lock_instance(Ticket, row="ticket", streaming="hold")
        @lock_instance(Account, row="account", streaming="hold")
        def view(request: HttpRequest, account: Account, ticket: Ticket) -> Any:
            return StreamingHttpResponse(lines(account))

        response = cast("Any", view)(POST, account=account.pk, ticket=ticket.pk)
        assert b"".join(response.streaming_content) == b"held held "
        response.close()
        assert is_free(key)
        assert is_free(f"testapp.Ticket:{ticket.pk}")


class TestRefused:
    @pytest.mark.parametrize("response", [StreamingHttpResponse, lambda text: FileResponse(BytesIO(b""))])
    def test_it_is_refused_unless_that_is_told(self, account, key, response):
        def view(request: HttpRequest, account: Account) -> Any:
            Account.objects.update(balance=0)
            return response("text")

        with pytest.raises(ImproperlyConfigured, match="streaming='hold'"):
            cast("Any", lock_instance(Account)(view))(POST, pk=account.pk)
        assert Account.objects.get().balance == 100
        assert is_free(key)
