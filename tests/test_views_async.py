"""Asynchronous views: locked on their event loop, or where a transaction is asked for, in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View

from django_redislock import get_lease, lock, lock_instance
from tests.flows import elsewhere, is_free, waiters_of
from tests.testapp.models import Account, Ticket

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


class InATransaction(Dispatched):
    pass


class OnOneMethod(View):
    @lock_instance(Account, nowait=True, atomic=True)
    async def post(self, request: HttpRequest, account: Account) -> HttpResponse:
        return await work(request, account)


class Decorated(View):
    @method_decorator(lock_instance(Account, nowait=True, atomic=True))
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


class Loose(View):
    @lock_instance(Account, nowait=True)
    async def post(self, request: HttpRequest, account: Account) -> HttpResponse:
        return await work(request, account)


@lock_instance(Account, wait=20)
async def pausing(request: HttpRequest, account: Account) -> HttpResponse:
    """Goes on when it is told to, and says what it found."""
    begun, go_on = PAUSES[request.GET["then"]]
    begun.set()
    await go_on.wait()
    account.balance -= 10
    await account.asave()
    return HttpResponse(str(account.balance))


PAUSES: dict[str, tuple[asyncio.Event, asyncio.Event]] = {}


@lock_instance(Account)
async def again(request: HttpRequest, account: Account) -> HttpResponse:
    """Enters its lock once more, and asks for its lease."""
    async with Account.objects.locked(account.pk, nowait=True):
        return HttpResponse(f"{get_lease(account).state}")


@lock_instance(Account)
async def loses(request: HttpRequest, account: Account) -> HttpResponse:
    """Saves, loses its lease, and saves once more."""
    account.balance = 90
    await account.asave()
    get_lease(account).deadline = 0
    if "save" in request.GET:
        account.balance = 80
        await account.asave()
    return HttpResponse("done")


def richest(request: HttpRequest, pk: int) -> int:
    return Account.objects.order_by("-balance")[0].pk


@lock_instance(Account, row=richest)
async def by_function(request: HttpRequest, pk: int, account: Account) -> HttpResponse:
    return HttpResponse(str(account.pk == pk))


@lock_instance(Account, methods="unsafe")
async def only_unsafe(request: HttpRequest, account: Account) -> HttpResponse:
    free = await sync_to_async(is_free, thread_sensitive=False)(f"testapp.Account:{account.pk}")
    return HttpResponse("free" if free else "held")


@lock_instance(Account)
async def streams(request: HttpRequest, account: Account) -> StreamingHttpResponse:
    return StreamingHttpResponse([])


@lock_instance(Ticket, row=lambda request, pk: {"account__pk": pk}, name="ticket", wait=0)
@lock_instance(Account, name="account", wait=0)
async def both(request: HttpRequest, account: Account, ticket: Ticket) -> HttpResponse:
    names = [f"testapp.Account:{account.pk}", f"testapp.Ticket:{ticket.pk}"]
    free = [await sync_to_async(is_free, thread_sensitive=False)(name) for name in names]
    if "late" in request.GET:
        get_lease(ticket).deadline = 0
    return HttpResponse(f"{account.name} {free}")


urlpatterns = [
    path("function/<int:pk>/", lock_instance(Account, nowait=True, atomic=True)(work)),
    path("dispatch/<int:pk>/", lock_instance(Account, nowait=True, atomic=True)(InATransaction).as_view()),
    path("loose/<int:pk>/", lock_instance(Account, nowait=True)(work)),
    path("loose-dispatch/<int:pk>/", lock_instance(Account, nowait=True)(Dispatched).as_view()),
    path("loose-method/<int:pk>/", Loose.as_view()),
    path("pausing/<int:pk>/", pausing),
    path("again/<int:pk>/", again),
    path("loses/<int:pk>/", loses),
    path("only-unsafe/<int:pk>/", only_unsafe),
    path("streams/<int:pk>/", streams),
    path("by-function/<int:pk>/", by_function),
    path("both/<int:pk>/", both),
    path("method/<int:pk>/", OnOneMethod.as_view()),
    path("method-decorator/<int:pk>/", Decorated.as_view()),
    path("stream/<int:pk>/", stream),
    path("by-hand/<int:pk>/", by_hand),
]

ATOMIC = ["function", "dispatch", "method", "method-decorator"]
LOOSE = ["loose", "loose-dispatch", "loose-method"]
LOCKED = [*ATOMIC, *LOOSE]
each_atomic = pytest.mark.parametrize("kind", ATOMIC)
each_loose = pytest.mark.parametrize("kind", LOOSE)


@pytest.fixture
def account(lock_alias: str, settings: Any) -> Iterator[Account]:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = ["django_redislock.middleware.LockMiddleware"]
    yield Account.objects.create(balance=100)
    assert not connection.in_atomic_block


def post(kind: str, account: Account, then: str = "", *, method: str = "post") -> Any:
    async def send() -> Any:
        client = AsyncClient(raise_request_exception=False)
        response: Any = await getattr(client, method)(f"/{kind}/{account.pk}/?{then}")
        if response.streaming:
            response.text_of_stream = [line async for line in response.streaming_content]
        return response

    return asyncio.run(send())


def balance() -> Any:
    return Account.objects.get().balance


def key_of(account: Account) -> str:
    return f"testapp.Account:{account.pk}"


class TestInAThread:
    @each_atomic
    def test_the_view_works_on_a_held_row_in_a_transaction(self, account, kind):
        assert post(kind, account).text == "committed 100.00, held"
        assert balance() == 90
        assert is_free(key_of(account))

    @pytest.mark.parametrize("kind", ["function", "dispatch", "loose", "loose-dispatch"])
    def test_atomic_requests_is_taken_over(self, account, kind, monkeypatch):
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
        assert post(kind, account).text == "committed 100.00, held"
        assert balance() == 90

    @each_atomic
    def test_a_view_that_fails_is_rolled_back(self, account, kind):
        assert post(kind, account, "fail").status_code == 500
        assert balance() == 100
        assert is_free(key_of(account))

    @each_atomic
    def test_a_view_that_is_cancelled_is_rolled_back(self, account, kind):
        with pytest.raises(asyncio.CancelledError):
            post(kind, account, "cancel")
        assert balance() == 100
        assert is_free(key_of(account))

    def test_a_stream_holds_the_lock_until_it_is_closed(self, account):
        assert post("stream", account).text_of_stream == [b"held ", b"held "]
        assert is_free(key_of(account))

    def test_requests_at_the_same_time_take_their_turn(self, account):
        async def send_all() -> list[int]:
            client = AsyncClient()
            url = f"/dispatch/{account.pk}/"
            return [answer.status_code for answer in await asyncio.gather(*(client.post(url) for _ in range(5)))]

        assert set(asyncio.run(send_all())) <= {200, 423}
        assert is_free(key_of(account))


class TestOnTheLoop:
    @each_loose
    def test_the_view_works_on_a_held_row_and_saves_at_once(self, account, kind):
        assert post(kind, account).text == "committed 90.00, held"
        assert is_free(key_of(account))

    @each_loose
    def test_under_wsgi_too(self, account, kind):
        assert Client().post(f"/{kind}/{account.pk}/").text == "committed 90.00, held"
        assert is_free(key_of(account))

    @each_loose
    def test_what_a_view_that_fails_has_saved_stays(self, account, kind):
        assert post(kind, account, "fail").status_code == 500
        assert balance() == 90
        assert is_free(key_of(account))

    @each_loose
    def test_a_view_that_is_cancelled_frees_it(self, account, kind):
        with pytest.raises(asyncio.CancelledError):
            post(kind, account, "cancel")
        assert is_free(key_of(account))

    def test_waiting_for_it_stands_in_nobodys_way(self, account):
        """All requests of this client share one thread, which the holder needs to save."""

        async def send_both() -> list[Any]:
            PAUSES.update({name: (asyncio.Event(), asyncio.Event()) for name in ("one", "two")})
            url = f"/pausing/{account.pk}/?then="
            client = AsyncClient()
            one = asyncio.create_task(client.post(f"{url}one"))
            await PAUSES["one"][0].wait()
            two = asyncio.create_task(client.post(f"{url}two"))
            while not await sync_to_async(waiters_of, thread_sensitive=False)(key_of(account)):
                await asyncio.sleep(0)
            for _, go_on in PAUSES.values():
                go_on.set()
            return [response.content for response in await asyncio.gather(one, two)]

        assert asyncio.run(send_both()) == [b"90.00", b"80.00"]

    def test_the_view_is_the_flow_that_holds_it(self, account):
        assert post("again", account).text == "held"

    @pytest.mark.parametrize(("then", "left"), [("", 90), ("save", 90)])
    def test_a_lost_lease_is_told_and_nothing_is_said_to_be_undone(self, account, then, left):
        response = post("loses", account, then)
        assert (response.status_code, response.json()["code"]) == (503, "lease_lost")
        assert "look at what was done of it" in response.json()["detail"]
        assert balance() == left

    def test_a_method_that_is_not_locked_for_gets_the_row(self, account):
        assert post("only-unsafe", account).text == "held"
        assert post("only-unsafe", account, method="get").text == "free"

    def test_a_function_that_names_the_row_may_ask_the_database(self, account):
        assert post("by-function", account).text == "True"

    def test_a_stream_is_refused(self, account):
        assert post("streams", account).status_code == 500
        assert is_free(key_of(account))

    def test_rows_of_several_models_are_held_together(self, account):
        ticket = Ticket.objects.create(account=account)
        assert post("both", account).text == f"{account.name} [False, False]"
        assert is_free(f"testapp.Ticket:{ticket.pk}")

    def test_of_several_a_lost_lease_is_told(self, account):
        Ticket.objects.create(account=account)
        assert post("both", account, "late").json()["code"] == "lease_lost"

    @pytest.mark.parametrize("busy", ["Account", "Ticket"])
    def test_of_several_one_being_busy_locks_none(self, account, busy):
        keys = {"Account": key_of(account), "Ticket": f"testapp.Ticket:{Ticket.objects.create(account=account).pk}"}
        with lock(keys.pop(busy)):
            assert elsewhere(post, "both", account).status_code == 423
            assert all(map(is_free, keys.values()))

    def test_a_page_for_people_may_ask_the_database(self, account, settings, tmp_path):
        (tmp_path / "django_redislock").mkdir()
        (tmp_path / "django_redislock" / "423.html").write_text("{{ request.user.pk }}, sorry")
        settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
        settings.MIDDLEWARE = [
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ]

        async def ask() -> str:
            client = AsyncClient()
            await client.aforce_login(await User.objects.acreate(username="kari", pk=42))
            return (await client.post(f"/loose/{account.pk}/", headers={"Accept": "text/html"})).content.decode()

        with lock(key_of(account)):
            assert elsewhere(asyncio.run, ask()) == "42, sorry"


@pytest.mark.parametrize("kind", [*LOCKED, "by-hand"])
def test_busy_is_423(account, kind):
    with lock(key_of(account)):
        response = elsewhere(post, kind, account)
    assert (response.status_code, response.json()["code"]) == (423, "lock_busy")
    assert ("Nothing was changed" in response.json()["detail"]) == (kind in ATOMIC)
    assert balance() == 100


@pytest.mark.parametrize("kind", [*LOCKED, "by-hand"])
def test_a_row_that_there_is_not_is_404(account, kind):
    missing = Account(pk=account.pk + 1)
    assert post(kind, missing).json()["code"] == "not_found"
