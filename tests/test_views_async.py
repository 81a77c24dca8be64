"""Asynchronous views: lock and transaction belong to one thread, which the view's database calls run on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View

from django_redislock import lock, lock_instance
from tests.flows import elsewhere, is_free
from tests.testapp.models import Account

pytestmark = pytest.mark.django_db(transaction=True)


async def work(request: HttpRequest, account: Account) -> HttpResponse:
    account.balance -= 10
    await account.asave()
    seen = await sync_to_async(elsewhere, thread_sensitive=False)(lambda: Account.objects.get(pk=account.pk).balance)
    if "fail" in request.GET:
        raise ValueError("the view failed")
    if "cancel" in request.GET:
        asyncio.current_task().cancel()
        await asyncio.sleep(0)
    held = not await sync_to_async(is_free, thread_sensitive=False)(f"testapp.Account:{account.pk}")
    return HttpResponse(f"committed {seen}, {'held' if held else 'free'}")


class Dispatched(View):
    async def post(self, request: HttpRequest, account: Account, **kwargs: Any) -> HttpResponse:
        return await work(request, account)


class OnOneMethod(View):
    @lock_instance(Account, nowait=True)
    async def post(self, request: HttpRequest, account: Account) -> HttpResponse:
        return await work(request, account)


class Decorated(View):
    @method_decorator(lock_instance(Account, nowait=True))
    async def post(self, request: HttpRequest, account: Account) -> HttpResponse:
        return await work(request, account)


@lock_instance(Account, streaming="hold")
async def stream(request: HttpRequest, account: Account) -> StreamingHttpResponse:
    async def lines() -> AsyncIterator[bytes]:
        for _ in range(2):
            free = await sync_to_async(is_free, thread_sensitive=False)(f"testapp.Account:{account.pk}")
            yield b"free " if free else b"held "

    return StreamingHttpResponse(lines())


async def by_hand(request: HttpRequest, pk: int) -> HttpResponse:
    def block() -> HttpResponse:
        with Account.objects.locked(pk, nowait=True):
            return HttpResponse("done")

    return await sync_to_async(block)()


urlpatterns = [
    path("function/<int:pk>/", lock_instance(Account, nowait=True)(work)),
    path("dispatch/<int:pk>/", lock_instance(Account, nowait=True)(Dispatched).as_view()),
    path("method/<int:pk>/", OnOneMethod.as_view()),
    path("method-decorator/<int:pk>/", Decorated.as_view()),
    path("stream/<int:pk>/", stream),
    path("by-hand/<int:pk>/", by_hand),
]

LOCKED = ["function", "dispatch", "method", "method-decorator"]
each_kind = pytest.mark.parametrize("kind", LOCKED)


@pytest.fixture
def account(lock_alias: str, settings: Any) -> Iterator[Account]:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = ["django_redislock.middleware.LockMiddleware"]
    yield Account.objects.create(balance=100)
    assert not connection.in_atomic_block


def post(kind: str, account: Account, then: str = "") -> Any:
    async def send() -> Any:
        response: Any = await AsyncClient(raise_request_exception=False).post(f"/{kind}/{account.pk}/?{then}")
        if response.streaming:
            response.text_of_stream = [line async for line in response.streaming_content]
        return response

    return asyncio.run(send())


def balance() -> Any:
    return Account.objects.get().balance


@each_kind
def test_the_view_works_on_a_held_row_in_a_transaction(account, kind):
    assert post(kind, account).text == "committed 100.00, held"
    assert balance() == 90
    assert is_free(f"testapp.Account:{account.pk}")


@pytest.mark.parametrize("kind", ["function", "dispatch"])
def test_atomic_requests_is_taken_over(account, kind, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    assert post(kind, account).text == "committed 100.00, held"
    assert balance() == 90


@each_kind
def test_a_view_that_fails_is_rolled_back(account, kind):
    assert post(kind, account, "fail").status_code == 500
    assert balance() == 100
    assert is_free(f"testapp.Account:{account.pk}")


@each_kind
def test_a_view_that_is_cancelled_is_rolled_back(account, kind):
    with pytest.raises(asyncio.CancelledError):
        post(kind, account, "cancel")
    assert balance() == 100
    assert is_free(f"testapp.Account:{account.pk}")


@pytest.mark.parametrize("kind", [*LOCKED, "by-hand"])
def test_busy_is_423(account, kind):
    with lock(f"testapp.Account:{account.pk}"):
        response = elsewhere(post, kind, account)
    assert (response.status_code, response.json()["code"]) == (423, "lock_busy")
    assert balance() == 100


@pytest.mark.parametrize("kind", [*LOCKED, "by-hand"])
def test_a_row_that_there_is_not_is_404(account, kind):
    missing = Account(pk=account.pk + 1)
    assert post(kind, missing).json()["code"] == "not_found"


def test_a_stream_holds_the_lock_until_it_is_closed(account):
    assert post("stream", account).text_of_stream == [b"held ", b"held "]
    assert is_free(f"testapp.Account:{account.pk}")


def test_requests_at_the_same_time_take_their_turn(account):
    async def send_all() -> list[int]:
        client = AsyncClient()
        url = f"/dispatch/{account.pk}/"
        return [answer.status_code for answer in await asyncio.gather(*(client.post(url) for _ in range(5)))]

    assert set(asyncio.run(send_all())) <= {200, 423}
    assert is_free(f"testapp.Account:{account.pk}")
