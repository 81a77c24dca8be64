"""`LockedObjectMixin` in Django's views of one object."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, ClassVar

import pytest
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db import connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import RequestFactory
from django.urls import path
from django.views.generic import DetailView, UpdateView, View
from django.views.generic.detail import SingleObjectMixin

from django_redislock import get_lease, lock
from django_redislock.views import LockedObjectMixin
from tests.flows import elsewhere, is_free
from tests.testapp.models import Account

pytestmark = pytest.mark.django_db(transaction=True)


class Rename(LockedObjectMixin, UpdateView):
    model = Account
    fields = ("name",)
    success_url = "/done/"
    lock_terms: ClassVar = {"nowait": True}

    def form_valid(self, form: Any) -> HttpResponse:
        assert self.get_object() is self.object
        if "late" in self.request.GET:
            form.save()
            get_lease(self.object).deadline = 0
        if "fail" in self.request.GET:
            form.save()
            raise ValueError("the view failed")
        if "stream" in self.request.GET:
            form.save()
            return StreamingHttpResponse()  # type: ignore[return-value]  # the mistake under test
        response = super().form_valid(form)
        response["Row"] = "free" if is_free(f"testapp.Account:{self.object.pk}") else "held"
        return response


class OnlyMembers(LockedObjectMixin, LoginRequiredMixin, SingleObjectMixin, View):
    model = Account
    raise_exception = True

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        return HttpResponse(self.get_object().name)


class NotLocked(LockedObjectMixin, DetailView):
    model = Account
    lock_terms: ClassVar = {"nowait": True}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return HttpResponse(self.get_object().name)


urlpatterns = [path("<int:pk>/", Rename.as_view())]


@pytest.fixture(params=[False, True], ids=["autocommit", "ATOMIC_REQUESTS"])
def account(request: Any, lock_alias: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Account:
    settings.ROOT_URLCONF = __name__
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", request.param)
    return Account.objects.create(name="rent")


@pytest.fixture
def key(account: Account) -> str:
    return f"testapp.Account:{account.pk}"


@pytest.fixture
def rename(account: Account, client: Any) -> Any:
    def send(then: str = "", pk: int = account.pk) -> Any:
        return elsewhere(lambda: client.post(f"/{pk}/?{then}", {"name": "shop"}))

    return send


def name() -> str:
    return Account.objects.get().name


def test_the_object_is_held_while_the_view_works_on_it(rename, key):
    response = rename()
    assert (response.status_code, response["Row"], name()) == (302, "held", "shop")
    assert is_free(key)


def test_busy_is_423(rename, key):
    with lock(key):
        assert rename().status_code == 423
    assert name() == "rent"


def test_a_row_that_there_is_not_is_404(rename):
    assert rename(pk=12345).status_code == 404


def test_a_lost_lease_is_503_and_rolled_back(rename, key):
    assert rename("late").status_code == 503
    assert name() == "rent"
    assert is_free(key)


@pytest.mark.parametrize(("then", "error"), [("fail", ValueError), ("stream", ImproperlyConfigured)])
def test_a_view_that_fails_is_rolled_back(rename, key, then, error):
    with pytest.raises(error):
        rename(then)
    assert name() == "rent"
    assert is_free(key)


def test_reading_is_not_locked(account, key):
    with lock(key):
        view: Any = NotLocked.as_view()
        assert elsewhere(lambda: view(RequestFactory().get("/"), pk=account.pk)).content == b"rent"


@pytest.mark.parametrize(("user", "answer"), [(AnonymousUser(), "forbidden"), (User(pk=1), "busy")])
def test_who_may_not_work_on_it_does_not_lock_it(account, key, user, answer, settings):
    settings.REDISLOCK = {"default": {**settings.REDISLOCK["default"], "WAIT": 0}}
    request = RequestFactory().post("/")
    request.user = user
    forbidden = pytest.raises(PermissionDenied) if answer == "forbidden" else nullcontext()
    with lock(key), forbidden:  # 423 says that it was tried
        assert elsewhere(lambda: OnlyMembers.as_view()(request, pk=account.pk)).status_code == 423


def test_an_asynchronous_view_is_refused(account):
    class Asynchronous(LockedObjectMixin, SingleObjectMixin, View):
        async def post(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse()

    with pytest.raises(ImproperlyConfigured, match="use @lock_instance"):
        Asynchronous.as_view()(RequestFactory().post("/"))
