"""Locks in views, with and without `ATOMIC_REQUESTS`, and in test cases of Django."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.core.cache import caches
from django.db import connection
from django.db.transaction import atomic
from django.http import HttpRequest, HttpResponse
from django.test import Client, TestCase, TransactionTestCase
from django.urls import path

from django_redislock import LeaseLost, locked, signals
from django_redislock.forcing import force_release
from tests.flows import is_free
from tests.testapp.models import Account

lost = threading.Event()


def hear_of_loss(**named: Any) -> None:
    lost.set()


def withdraw(request: HttpRequest, pk: int) -> HttpResponse:
    """A view that says whether the lock was still held after its block."""
    with Account.objects.locked(pk, ttl=1) as account:
        account.balance -= 10
        account.save()
    answer = "free" if is_free(f"testapp.Account:{pk}") else "held"
    if "fail" in request.GET:
        raise ValueError("after the block")
    if "lose" in request.GET:
        force_release(f"testapp.Account:{pk}")
        assert lost.wait(10)
    return HttpResponse(answer)


urlpatterns = [path("withdraw/<int:pk>/", withdraw)]


@pytest.fixture
def url(settings: Any) -> str:
    caches["default"].clear()
    settings.ROOT_URLCONF = __name__
    return f"/withdraw/{Account.objects.create(balance=100).pk}/"


@pytest.fixture
def atomic_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)


def key_of(url: str) -> str:
    return f"testapp.Account:{url.split('/')[2]}"


@pytest.mark.django_db(transaction=True)
class TestViews:
    def test_without_atomic_requests_it_is_released_at_the_end_of_the_block(self, url):
        assert Client().post(url).content == b"free"

    def test_with_atomic_requests_it_is_held_until_the_commit(self, url, atomic_requests):
        assert Client().post(url).content == b"held"
        assert is_free(key_of(url))

    def test_with_atomic_requests_what_is_lost_by_the_commit_is_rolled_back(self, url, atomic_requests):
        lost.clear()
        signals.lock_lost.connect(hear_of_loss)
        try:
            with pytest.raises(LeaseLost, match="released by force"):
                Client().post(url + "?lose")
        finally:
            signals.lock_lost.disconnect(hear_of_loss)
        assert Account.objects.get().balance == 100

    def test_with_atomic_requests_it_is_held_until_the_rollback(self, url, atomic_requests):
        assert Client(raise_request_exception=False).post(url + "?fail").status_code == 500
        assert is_free(key_of(url))
        assert Account.objects.get().balance == 100


class Rules:
    """What holds in a test case that wraps each test in a transaction as in one that does not."""

    def setUp(self) -> None:
        caches["default"].clear()
        self.account = Account.objects.create(balance=100)
        self.key = f"testapp.Account:{self.account.pk}"

    def test_it_is_released_at_the_end_of_the_block(self):
        with locked(self.account):
            assert not is_free(self.key)
        assert is_free(self.key)

    def test_inside_a_transaction_it_is_released_at_its_end(self):
        with atomic():
            with locked(self.account):
                pass
            assert not is_free(self.key)
        assert is_free(self.key)

    def test_the_rollback_of_a_savepoint_frees_it(self):
        with atomic():
            with pytest.raises(ValueError, match="inner"), atomic():
                with locked(self.account):
                    pass
                raise ValueError("inner")
            assert is_free(self.key)

    def test_it_is_entered_again_inside_a_transaction(self):
        with atomic(), locked(self.account), locked(self.account, nowait=True):
            pass
        assert is_free(self.key)


class InATestCase(Rules, TestCase):
    """`django.test.TestCase`."""

    def test_a_transaction_of_a_decorator_holds_it_until_the_end_of_the_test(self):
        @atomic
        def work() -> None:
            with locked(self.account):
                pass

        work()
        with locked(self.account, nowait=True):
            assert not is_free(self.key)


class InATransactionTestCase(Rules, TransactionTestCase):
    """`django.test.TransactionTestCase`."""


class AfterwardsTest(TestCase):
    """Runs in the order of definition: the test before left nothing locked."""

    def test_the_end_of_the_test_released_what_a_decorator_held(self):
        key = None

        class Inner(InATestCase):
            def runTest(self) -> None:  # noqa: N802  # the name that unittest looks for
                nonlocal key
                self.test_a_transaction_of_a_decorator_holds_it_until_the_end_of_the_test()
                key = self.key

        result = Inner().run()
        assert result is not None
        assert result.wasSuccessful(), result.failures + result.errors
        assert is_free(str(key))
