"""Who may not use a view cannot hold its locks when the order is right, and a check warns when it is not."""

from __future__ import annotations

from typing import Any, cast

import pytest
from django.contrib.auth.decorators import login_required, permission_required
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View
from rest_framework.decorators import api_view, permission_classes
from rest_framework.permissions import IsAuthenticated
from rest_framework.views import APIView

from django_redislock import lock, lock_instance
from django_redislock.views.checks import check_views
from tests.flows import elsewhere
from tests.testapp.models import Account

locked = lock_instance(Account, nowait=True)


def work(request: Any, account: Account, **kwargs: Any) -> HttpResponse:
    return HttpResponse("done")


class Work(View):
    def post(self, request: HttpRequest, account: Account, **kwargs: Any) -> HttpResponse:
        return HttpResponse("done")


class Api(APIView):
    permission_classes = (IsAuthenticated,)

    def post(self, request: HttpRequest, pk: int, account: Account) -> HttpResponse:
        return HttpResponse("done")


def made(name: str, bases: tuple[Any, ...]) -> Any:
    """A class of its own, which a decorator may change."""
    return type(name, bases, {})


RIGHT: dict[str, Any] = {
    "function": login_required(locked(work)),
    "permission": permission_required("bank.change")(locked(work)),
    "mixin-first": made("MixinFirst", (LoginRequiredMixin, locked(made("Whole", (Work,))))).as_view(),
    "two-decorators": method_decorator([login_required, locked], name="dispatch")(made("Two", (Work,))).as_view(),
    "api-class": locked(made("ApiClass", (Api,))).as_view(),
    "api-view": api_view(["POST"])(permission_classes([IsAuthenticated])(locked(work))),
    "no-permission": locked(work),
}
WRONG: dict[str, Any] = {
    "function": locked(login_required(work)),
    "permission": locked(permission_required("bank.change")(work)),
    "mixin-inside": locked(made("MixinInside", (LoginRequiredMixin, Work))).as_view(),
    "api-dispatch": method_decorator(locked, name="dispatch")(made("ApiDispatch", (Api,))).as_view(),
    "api-view": locked(api_view(["POST"])(permission_classes([IsAuthenticated])(cast("Any", work)))),
}
urlpatterns: list[Any] = []


@pytest.fixture
def serve(settings: Any) -> Any:
    """Puts views behind URLs."""
    settings.ROOT_URLCONF = __name__

    def put(views: dict[str, Any]) -> None:
        inner = [path(f"{name}/<int:pk>/", view) for name, view in views.items()]
        urlpatterns[:] = [path("", include(inner))]

    yield put
    urlpatterns.clear()


def as_anonymous(name: str, pk: int) -> int:
    return elsewhere(lambda: Client().post(f"/{name}/{pk}/")).status_code


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("lock_alias")
class TestAnonymous:
    @pytest.mark.parametrize("name", [name for name in RIGHT if name != "no-permission"])
    def test_in_the_right_order_the_lock_is_not_even_tried(self, serve, name):
        serve({name: RIGHT[name]})
        account = Account.objects.create()
        with lock(f"testapp.Account:{account.pk}"):
            assert as_anonymous(name, account.pk) in {302, 403}

    @pytest.mark.parametrize("name", WRONG)
    def test_in_the_wrong_order_it_is(self, serve, name):
        serve({name: WRONG[name]})
        account = Account.objects.create()
        with lock(f"testapp.Account:{account.pk}"):
            assert as_anonymous(name, account.pk) == 423


class TestCheck:
    @pytest.mark.parametrize("name", RIGHT)
    def test_the_right_order_is_let_be(self, serve, name):
        serve({name: RIGHT[name]})
        assert check_views() == []

    @pytest.mark.parametrize("name", WRONG)
    def test_the_wrong_order_is_told(self, serve, name):
        serve({name: WRONG[name]})
        (warning,) = check_views()
        assert (warning.id, "Put @lock_instance below" in str(warning.hint)) == ("django_redislock.W002", True)

    def test_a_view_behind_several_urls_is_told_once(self, serve):
        serve({"one": WRONG["function"], "other": WRONG["function"]})
        (warning,) = check_views()
        assert (
            warning.msg == f"The view {__name__}.work is locked before anybody has asked whether the client may use it."
        )

    def test_it_is_among_the_checks_of_the_site(self, serve):
        serve(WRONG)
        with pytest.raises(SystemCheckError, match="W002"):
            call_command("check", fail_level="WARNING", tags=["urls"])

    def test_a_project_without_urls_has_none_to_check(self, settings):
        settings.ROOT_URLCONF = None
        assert check_views() == []
