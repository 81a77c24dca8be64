"""`LockMiddleware` names the request as what a holder is doing; its answers are tested with the decorator's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.urls import path

from django_redislock import lock, lock_instance
from django_redislock.holder import Holder
from tests.testapp.models import Account

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("lock_alias")]


def holder_of(name: str) -> Holder:
    info = lock(name).info()
    assert info is not None
    return info.holder


def show(request: HttpRequest, rest: str = "") -> HttpResponse:
    if "who" in request.GET:
        assert request.user.is_authenticated
    with lock("a"):
        holder = holder_of("a")
    return HttpResponse(f"{holder.doing}|{holder.user}")


async def show_async(request: HttpRequest) -> HttpResponse:
    await request.auser()
    return await sync_to_async(show)(request)


@lock_instance(Account)
def decorated(request: HttpRequest, account: Account) -> HttpResponse:
    holder = holder_of(f"testapp.Account:{account.pk}")
    return HttpResponse(f"{holder.doing}|{holder.user}")


@login_required
@lock_instance(Account)
async def decorated_async(request: HttpRequest, account: Account) -> HttpResponse:
    info = await lock(f"testapp.Account:{account.pk}").ainfo()
    assert info is not None
    return HttpResponse(f"{info.holder.doing}|{info.holder.user}")


urlpatterns = [
    path("show/", show),
    path("show/<path:rest>/", show),
    path("async/", show_async),
    path("decorated/<int:pk>/", decorated),
    path("decorated-async/<int:pk>/", decorated_async),
]


@pytest.fixture(params=["sync", "async"])
def get(request: Any, settings: Any) -> Any:
    """Asks for a URL, through WSGI and through ASGI."""
    settings.ROOT_URLCONF = __name__
    user = User.objects.create(username="kari", pk=42)

    def ask(url: str, *, logged_in: bool = False) -> str:
        if request.param == "sync":
            client = Client()
            if logged_in:
                client.force_login(user)
            return client.get(url).text

        async def asking() -> str:
            client = AsyncClient()
            if logged_in:
                await client.aforce_login(user)
            return (await client.get(url)).content.decode()

        return asyncio.run(asking())

    return ask


def test_the_holder_is_doing_the_request(get):
    assert get("/show/") == "GET /show/|"


def test_the_user_is_named_where_the_view_has_asked_who_it_is(get):
    assert get("/show/?who", logged_in=True) == "GET /show/|42"


def test_the_user_is_named_where_the_view_has_awaited_who_it_is(get):
    assert get("/async/", logged_in=True) == "GET /async/|42"


def test_a_view_that_is_locked_on_its_loop_names_both(get):
    pk = Account.objects.create().pk
    assert get(f"/decorated-async/{pk}/", logged_in=True) == f"GET /decorated-async/{pk}/|42"


def test_naming_the_user_asks_nobody_again(settings):
    """One query for the session and one for the user, which the view has asked for, and none by the lock."""
    settings.ROOT_URLCONF = __name__
    client = Client()
    client.force_login(User.objects.create(username="kari", pk=42))
    with CaptureQueriesContext(connection) as queries:
        assert client.get("/show/?who").text == "GET /show/|42"
    assert len(queries) == 2
    with CaptureQueriesContext(connection) as queries:
        assert client.get("/show/").text == "GET /show/|"
    assert len(queries) == 0


def test_nobody_is_asked_for_the_user_only_to_name_it(get):
    assert get("/show/", logged_in=True) == "GET /show/|"


def test_the_query_is_left_out_and_odd_characters_are_escaped(get):
    assert get("/show/a%09b%22/?token=secret") == "GET /show/a%09b%22/|"


def test_an_asynchronous_view_is_named_too(get):
    assert get("/async/") == "GET /async/|"


def test_without_the_middleware_the_decorator_names_the_request(settings):
    settings.MIDDLEWARE = []
    settings.ROOT_URLCONF = __name__
    pk = Account.objects.create().pk
    assert Client().get(f"/decorated/{pk}/").text == f"GET /decorated/{pk}/|"
