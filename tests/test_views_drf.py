"""Views of Django REST framework."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from django.db import connection
from django.urls import include, path
from django.utils.decorators import method_decorator
from rest_framework import generics, serializers, viewsets
from rest_framework.decorators import action, api_view, permission_classes
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient
from rest_framework.views import APIView

from django_redislock import get_lease, lock, lock_instance
from django_redislock.drf import LockedObjectMixin, exception_handler
from tests.flows import elsewhere, is_free
from tests.testapp.models import Account

pytestmark = pytest.mark.django_db(transaction=True)


def work(request: Request, account: Account) -> Response:
    account.balance -= 10
    account.save()
    if "late" in request.query_params:
        get_lease(account).deadline = 0
    if "fail" in request.query_params:
        raise serializers.ValidationError("the view failed")
    return Response("free" if is_free(f"testapp.Account:{account.pk}") else "held")


class Whole(APIView):
    def post(self, request: Request, pk: int, account: Account) -> Response:
        return work(request, account)


@method_decorator(lock_instance(Account, nowait=True), name="dispatch")
class Dispatched(Whole):
    pass


class OnOneMethod(APIView):
    @lock_instance(Account, nowait=True)
    def post(self, request: Request, account: Account) -> Response:
        return work(request, account)


class Decorated(APIView):
    @method_decorator(lock_instance(Account, nowait=True))
    def post(self, request: Request, account: Account) -> Response:
        return work(request, account)


@api_view(["POST"])
@lock_instance(Account, nowait=True)
def below(request: Request, account: Account) -> Response:
    return work(request, account)


@lock_instance(Account, nowait=True)
@api_view(["POST"])
def above(request: Request, pk: int, account: Account) -> Response:
    return work(request, account)


@api_view(["POST"])
@permission_classes([IsAuthenticated])
@lock_instance(Account, nowait=True)
def with_permission(request: Request, account: Account) -> Response:
    return work(request, account)


class AccountSerializer(serializers.ModelSerializer[Account]):
    class Meta:
        model = Account
        fields = ("name", "balance")


class OneAction(viewsets.GenericViewSet[Account]):
    queryset = Account.objects.all()

    @action(detail=True, methods=["post"])
    @lock_instance(Account, nowait=True)
    def withdraw(self, request: Request, account: Account) -> Response:
        return work(request, account)


@lock_instance(Account, nowait=True, methods="unsafe")
class WholeSet(viewsets.ModelViewSet[Account]):
    queryset = Account.objects.all()
    serializer_class = AccountSerializer

    @action(detail=True, methods=["post"])
    def withdraw(self, request: Request, account: Account, pk: str) -> Response:
        return work(request, account)

    @action(detail=True, methods=["post"])
    def held(self, request: Request, pk: str) -> Response:
        return work(request, self.get_object())


class NoDebtors(BasePermission):
    def has_object_permission(self, request: Request, view: Any, account: Account) -> bool:
        return account.balance >= 0


class Mixed(LockedObjectMixin, generics.RetrieveUpdateAPIView[Account]):
    queryset = Account.objects.all()
    serializer_class = AccountSerializer
    permission_classes = (NoDebtors,)
    lock_terms: ClassVar = {"nowait": True}

    def post(self, request: Request, pk: int) -> Response:
        return work(request, self.get_object())


def by_hand(request: Request, pk: int) -> Response:
    with Account.objects.locked(pk, nowait=True) as account:
        return work(request, account)


class ByHand(APIView):
    def post(self, request: Request, pk: int) -> Response:
        return by_hand(request, pk)

    def get_exception_handler(self) -> Any:
        return exception_handler


router = SimpleRouter()
router.register("one-action", OneAction, basename="one")
router.register("whole-set", WholeSet, basename="whole")
urlpatterns = [
    path("", include(router.urls)),
    path("class/<int:pk>/", lock_instance(Account, nowait=True)(Whole).as_view()),
    path("dispatch/<int:pk>/", Dispatched.as_view()),
    path("method/<int:pk>/", OnOneMethod.as_view()),
    path("method-decorator/<int:pk>/", Decorated.as_view()),
    path("below/<int:pk>/", below),
    path("above/<int:pk>/", above),
    path("with-permission/<int:pk>/", with_permission),
    path("mixin/<int:pk>/", Mixed.as_view()),
    path("by-hand/<int:pk>/", ByHand.as_view()),
]

URLS = {
    kind: f"/{kind}/PK/"
    for kind in ("class", "dispatch", "method", "method-decorator", "below", "above", "mixin", "by-hand")
} | {
    "one action": "/one-action/PK/withdraw/",
    "whole viewset": "/whole-set/PK/withdraw/",
    "whole viewset, its own object": "/whole-set/PK/held/",
}
BEFORE_DRF = {"dispatch", "above"}
each_kind = pytest.mark.parametrize("kind", URLS)


@pytest.fixture(params=[False, True], ids=["autocommit", "ATOMIC_REQUESTS"])
def account(request: Any, lock_alias: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Account:
    settings.ROOT_URLCONF = __name__
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", request.param)
    return Account.objects.create(name="rent", balance=100)


@pytest.fixture
def key(account: Account) -> str:
    return f"testapp.Account:{account.pk}"


def post(kind: str, account: Account, then: str = "") -> Any:
    url = URLS[kind].replace("PK", str(account.pk))
    return elsewhere(lambda: APIClient().post(f"{url}?{then}", format="json"))


def balance() -> Any:
    return Account.objects.get().balance


@each_kind
def test_the_view_works_on_a_held_row(account, key, kind):
    assert post(kind, account).json() == "held"
    assert balance() == 90
    assert is_free(key)


@each_kind
def test_busy_is_423(account, key, kind):
    with lock(key):
        response = post(kind, account)
    assert (response.status_code, response["Retry-After"]) == (423, "1")
    assert "Somebody else is working on this" in response.json()["detail"]
    assert balance() == 100


@each_kind
def test_a_row_that_there_is_not_is_404(account, kind):
    response = post(kind, Account(pk=account.pk + 1))
    assert response.status_code == 404
    assert "detail" in response.json()


@each_kind
def test_a_store_that_is_away_is_503(account, kind, settings):
    away = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
    settings.CACHES = {**settings.CACHES, "away": away}
    settings.REDISLOCK = {"default": {"CACHE": "away"}}
    response = post(kind, account)
    assert (response.status_code, response["Retry-After"]) == (503, "1")


@each_kind
def test_a_lost_lease_is_503_and_rolled_back(account, key, kind):
    assert post(kind, account, "late").status_code == 503
    assert balance() == 100
    assert is_free(key)


@pytest.mark.parametrize("kind", [kind for kind in URLS if kind not in BEFORE_DRF])
def test_a_view_that_fails_is_rolled_back(account, key, kind):
    assert post(kind, account, "fail").status_code == 400
    assert balance() == 100
    assert is_free(key)


class TestPermissions:
    def test_who_may_not_work_on_it_does_not_lock_it(self, account, key):
        with lock(key):  # 423 would say that it was tried
            response = elsewhere(lambda: APIClient().post(f"/with-permission/{account.pk}/"))
        assert response.status_code == 403

    def test_permissions_on_the_object_are_checked_before_it_is_locked(self, account, key):
        Account.objects.update(balance=-1)
        with lock(key):
            assert post("mixin", account).status_code == 403

    def test_permissions_on_the_object_are_checked_again_on_the_locked_row(self, account, key, monkeypatch):
        seen = []

        def check(self: Any, request: Any, view: Any, row: Account) -> bool:
            seen.append(is_free(key))
            return len(seen) == 1

        monkeypatch.setattr(NoDebtors, "has_object_permission", check)
        assert post("mixin", account).status_code == 403
        assert seen == [True, False]
        assert is_free(key)


class TestWholeViewset:
    def test_what_is_about_no_row_is_let_be(self, account):
        assert elsewhere(lambda: APIClient().post("/whole-set/", {"name": "shop", "balance": 1})).status_code == 201
        assert len(elsewhere(lambda: APIClient().get("/whole-set/")).json()) == 2

    def test_updates_are_locked(self, account, key):
        with lock(key):
            for method in ("put", "patch", "delete"):
                send = getattr(APIClient(), method)
                assert elsewhere(lambda send=send: send(f"/whole-set/{account.pk}/", {"name": "a"})).status_code == 423

    @pytest.mark.parametrize("method", ["put", "patch"])
    def test_updates_are_made(self, account, key, method):
        send = getattr(APIClient(), method)
        assert elsewhere(lambda: send(f"/whole-set/{account.pk}/", {"name": "shop"})).json()["name"] == "shop"
        assert is_free(key)

    def test_reading_is_not_locked(self, account, key):
        with lock(key):
            assert elsewhere(lambda: APIClient().get(f"/whole-set/{account.pk}/")).status_code == 200


class TestMixin:
    def test_reading_is_not_locked(self, account, key):
        with lock(key):
            assert elsewhere(lambda: APIClient().get(f"/mixin/{account.pk}/")).status_code == 200

    def test_an_update_is_made_under_the_lock(self, account, key):
        with lock(key):
            patch = lambda: APIClient().patch(f"/mixin/{account.pk}/", {"name": "shop"})
            assert elsewhere(patch).status_code == 423
        assert elsewhere(patch).json()["name"] == "shop"
        assert is_free(key)
