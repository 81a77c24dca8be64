"""The order of events around a view with a lock: lock, BEGIN, view, COMMIT, release, `ATOMIC_REQUESTS` or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any
from unittest import mock

import pytest
from django.core.cache import caches
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View

from django_redislock import get_lease, lock_instance, signals
from django_redislock.forcing import force_release
from tests.flows import elsewhere, is_free, peer
from tests.testapp.models import Account

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "postgres"]),
    pytest.mark.parametrize("db_alias", ["postgres"], indirect=True),
]

ACCOUNTS = Account.objects.using("postgres")
EVENTS: list[str] = []


def work(request: HttpRequest, account: Account) -> HttpResponse:
    EVENTS.append("view")
    account.balance -= 10
    account.save()
    if "fail" in request.GET:
        raise ValueError("the view failed")
    if "late" in request.GET:
        get_lease(account).deadline = 0
    if "forced" in request.GET:
        force_release(f"testapp.Account:{account.pk}")
    return HttpResponse(status=int(request.GET.get("status", 200)))


def bare(request: HttpRequest, pk: int, account: Account) -> HttpResponse:
    return work(request, account)


class Dispatched(View):
    def post(self, request: HttpRequest, account: Account, **kwargs: Any) -> HttpResponse:
        return work(request, account)


class OnOneMethod(View):
    @method_decorator(lock_instance(ACCOUNTS))
    def post(self, request: HttpRequest, account: Account) -> HttpResponse:
        return work(request, account)


@lock_instance(ACCOUNTS, methods=["PUT"])
def not_locked(request: HttpRequest, account: Account) -> HttpResponse:
    return work(request, account)


@transaction.non_atomic_requests(using="postgres")
@lock_instance(ACCOUNTS, atomic=False)
@transaction.non_atomic_requests(using="postgres")
def no_transaction(request: HttpRequest, account: Account) -> HttpResponse:
    return work(request, account)


urlpatterns = [
    path("function/<int:pk>/", lock_instance(ACCOUNTS)(bare)),
    path("dispatch/<int:pk>/", lock_instance(ACCOUNTS)(Dispatched).as_view()),
    path("method/<int:pk>/", OnOneMethod.as_view()),
    path("unlocked/<int:pk>/", not_locked),
    path("requests-own/<int:pk>/", lock_instance(ACCOUNTS, atomic=False)(bare)),
    path("no-transaction/<int:pk>/", no_transaction),
]

RIGHT = ["lock", "BEGIN", "view", "COMMIT", "release"]
DEFERRED = ["BEGIN", "lock", "view", "COMMIT", "release"]


@pytest.fixture
def account(db_alias: str, settings: Any) -> Account:
    caches["default"].clear()
    settings.ROOT_URLCONF = __name__
    return ACCOUNTS.create(balance=100)


@pytest.fixture
def atomic_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections["postgres"].settings_dict, "ATOMIC_REQUESTS", True)


@contextmanager
def events_of(alias: str) -> Iterator[list[str]]:
    """What happens, in order, on the database and with locks."""
    connection = connections[alias]
    connection.ensure_connection()
    EVENTS.clear()

    def noted(name: str, original: Callable[..., Any], unless: Any = None) -> Callable[..., Any]:
        def note(*args: Any, **kwargs: Any) -> Any:
            if args[:1] != (unless,):
                EVENTS.append(name)
            return original(*args, **kwargs)

        return note

    def on_lock(**kwargs: Any) -> None:
        EVENTS.append("lock")

    def on_release(lease: Any, **kwargs: Any) -> None:
        EVENTS.append("release")

    signals.lock_acquired.connect(on_lock)
    signals.lock_released.connect(on_release)
    with (
        mock.patch.object(connection, "set_autocommit", noted("BEGIN", connection.set_autocommit, unless=True)),
        mock.patch.object(connection, "commit", noted("COMMIT", connection.commit)),
        mock.patch.object(connection, "rollback", noted("ROLLBACK", connection.rollback)),
    ):
        yield EVENTS
    signals.lock_acquired.disconnect(on_lock)
    signals.lock_released.disconnect(on_release)


def order_at(url: str, account: Account) -> list[str]:
    with events_of("postgres") as events:
        Client(raise_request_exception=False).post(url.replace("PK", str(account.pk)))
    return events


def balance() -> Decimal:
    """What other connections see."""
    return elsewhere(lambda: ACCOUNTS.get().balance)


class TestWithAtomicRequests:
    @pytest.fixture(autouse=True)
    def on(self, atomic_requests: None) -> None:
        """With the setting."""

    @pytest.mark.parametrize("kind", ["function", "dispatch", "requests-own"])
    def test_the_transaction_is_inside_the_lock(self, account, kind):
        assert order_at(f"/{kind}/PK/", account) == RIGHT

    def test_where_it_is_open_already_the_release_waits_for_its_end(self, account):
        assert order_at("/method/PK/", account) == DEFERRED

    def test_a_view_that_fails_is_rolled_back_inside_the_lock(self, account):
        assert order_at("/function/PK/?fail", account) == ["lock", "BEGIN", "view", "ROLLBACK", "release"]
        assert balance() == 100

    def test_a_method_that_fails_is_rolled_back_before_the_release(self, account):
        assert order_at("/method/PK/?fail", account)[:3] == ["BEGIN", "lock", "view"]
        assert balance() == 100
        assert is_free(f"testapp.Account:{account.pk}")

    def test_a_lost_lease_is_rolled_back(self, account):
        assert "COMMIT" not in order_at("/function/PK/?late", account)
        assert balance() == 100

    def test_a_lost_lease_rolls_back_what_only_the_setting_began(self, account):
        assert "COMMIT" not in order_at("/requests-own/PK/?late", account)
        assert balance() == 100

    @pytest.mark.usefixtures("patient_operators")
    @pytest.mark.parametrize("kind", ["function", "requests-own", "method"])
    def test_who_was_forced_out_is_rolled_back(self, account, kind):
        assert "COMMIT" not in order_at(f"/{kind}/PK/?forced", account)
        assert balance() == 100

    def test_an_answer_with_an_error_status_is_committed(self, account):
        assert order_at("/function/PK/?status=500", account) == RIGHT

    def test_a_view_without_a_lock_for_this_method_keeps_its_transaction(self, account):
        assert order_at("/unlocked/PK/", account) == ["BEGIN", "view", "COMMIT"]

    def test_a_view_that_wants_no_transaction_has_none(self, account):
        assert order_at("/no-transaction/PK/", account) == ["lock", "view", "release"]


@pytest.mark.parametrize("kind", ["function", "dispatch", "method"])
def test_without_atomic_requests_the_order_is_the_same(account, kind):
    assert order_at(f"/{kind}/PK/", account) == RIGHT


WORKER = """
from django.db import connections
from django.test import Client
connections["postgres"].settings_dict["ATOMIC_REQUESTS"] = True
from django.conf import settings
settings.ROOT_URLCONF = "tests.test_views_order"
settings.ALLOWED_HOSTS = ["*"]
client, url = Client(), sys.stdin.readline().strip()
print("ready", flush=True)
sys.stdin.readline()
print({client.post(url).status_code for _ in range(25)}, flush=True)
"""


@pytest.mark.parametrize("kind", ["function", "dispatch", "method"])
def test_another_process_never_reads_the_old_row(account, real_redis, kind):
    """Each of 50 requests takes 10 from what it has read; one that reads an old row leaves money."""
    ACCOUNTS.update(balance=500)
    with peer(WORKER) as one, peer(WORKER) as other:
        for process in (one, other):
            process.tell(f"/{kind}/{account.pk}/")
            assert process.hear() == "ready"
        one.tell()
        other.tell()
        assert {one.hear(), other.hear()} == {"{200}"}
    assert balance() == 0
