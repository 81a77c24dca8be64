"""What a client is told when a lock is refused: by the decorator, and by the middleware for `locked()` in a view."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from django_redislock import Deadlock, VersionConflict, get_lease, lock, lock_instance, locked
from django_redislock.holder import Work, working_on
from tests.flows import elsewhere, is_free
from tests.testapp.models import Account, Ticket

pytestmark = pytest.mark.django_db(transaction=True)

HTML, JSON, PROBLEM = "text/html", "application/json", "application/problem+json"


def work(request: HttpRequest, account: Account) -> HttpResponse:
    match request.GET.get("then"):
        case "late":
            Account.objects.update(name="changed")
            get_lease(account).deadline = 0
        case "deadlock":
            raise Deadlock("Round and round, as web-1 pid 7 does.")
        case "conflict":
            Account.objects.update(name="changed")
            raise VersionConflict("The row was changed by another.", key="bank.Account:7")
        case "missing":
            Ticket.objects.get(pk=account.pk)
        case "inner":
            with locked(Ticket, 12345):
                pass
    return HttpResponse("done")


def by_hand(request: HttpRequest, pk: int) -> HttpResponse:
    with Account.objects.locked(pk, nowait=True) as account:
        return work(request, account)


urlpatterns = [
    path("decorated/<pk>/", lock_instance(Account, nowait=True)(work)),
    path("conflict/<pk>/", lock_instance(Account, nowait=True, busy_status=409, retry_after=2.5)(work)),
    path("by-hand/<pk>/", by_hand),
]

each_way = pytest.mark.parametrize("way", ["decorated", "by-hand"])


@pytest.fixture
def account(lock_alias: str, settings: Any) -> Account:
    settings.ROOT_URLCONF = __name__
    return Account.objects.create(name="rent")


@pytest.fixture
def key(account: Account) -> str:
    return f"testapp.Account:{account.pk}"


@pytest.fixture
def post(account: Account) -> Callable[..., Any]:
    """Sends a request about the account, or whatever `pk` names, from another thread."""

    def send(way: str, *, pk: Any = account.pk, then: str = "", accept: str | None = JSON) -> Any:
        headers = {} if accept is None else {"Accept": accept}
        return elsewhere(partial(Client().post, f"/{way}/{pk}/?then={then}", headers=headers))

    return send


@pytest.fixture
def away(settings: Any, lock_alias: str) -> None:
    """No Redis."""
    settings.CACHES = {
        **settings.CACHES,
        "away": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"},
    }
    settings.REDISLOCK = {"default": {"CACHE": "away"}}


class TestStatus:
    @each_way
    def test_busy_is_423(self, post, key, way):
        with lock(key):
            response = post(way)
        assert (response.status_code, response["Retry-After"]) == (423, "1")
        # What the view has done before it used locked() by hand, nobody knows.
        undone = "Nothing was changed. " if way == "decorated" else ""
        assert response.json() == {
            "status": 423,
            "title": "Locked",
            "code": "lock_busy",
            "retry_after": 1,
            "detail": f"Somebody else is working on this at the moment. {undone}Please try again in a moment.",
        }

    def test_busy_is_409_where_that_is_told(self, post, key):
        with lock(key):
            response = post("conflict")
        assert (response.status_code, response["Retry-After"]) == (409, "3")

    @each_way
    def test_a_store_that_is_away_is_503(self, post, away, way):
        response = post(way)
        assert (response.status_code, response["Retry-After"]) == (503, "1")
        assert response.json()["code"] == "store_unavailable"

    @each_way
    def test_a_lost_lease_is_503_and_rolled_back(self, post, key, way):
        response = post(way, then="late")
        assert (response.status_code, response.json()["code"]) == (503, "lease_lost")
        assert Account.objects.get().name == "rent"

    @each_way
    def test_a_version_conflict_is_409_and_rolled_back(self, post, key, way):
        response = post(way, then="conflict")
        assert (response.status_code, response.json()["code"]) == (409, "version_conflict")
        assert "Retry-After" not in response
        assert Account.objects.get().name == "rent"

    @each_way
    def test_a_deadlock_is_as_busy(self, post, way):
        response = post(way, then="deadlock")
        assert (response.status_code, response.json()["code"], response["Retry-After"]) == (423, "deadlock", "1")

    @each_way
    @pytest.mark.parametrize("pk", ["12345", "no-number", "9" * 30, "9" * 5000])
    def test_a_row_that_there_is_not_is_404(self, post, way, pk):
        response = post(way, pk=pk)
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
        assert "Retry-After" not in response

    @each_way
    def test_a_row_that_a_block_inside_locks_is_404_too(self, post, way):
        assert post(way, then="inner").status_code == 404

    @each_way
    def test_a_row_that_the_view_itself_misses_is_its_own_affair(self, post, way):
        with pytest.raises(Ticket.DoesNotExist):
            post(way, then="missing")

    @each_way
    @pytest.mark.parametrize("then", ["", "late", "conflict", "deadlock", "inner"])
    def test_nothing_stays_locked(self, post, key, way, then):
        post(way, then=then)
        assert is_free(key)


class TestForm:
    @each_way
    @pytest.mark.parametrize(
        ("accept", "form"),
        [
            (JSON, JSON),
            (PROBLEM, PROBLEM),
            ("*/*", PROBLEM),
            (None, PROBLEM),
            ("image/png", "text/html; charset=utf-8"),
            ("application/xml;q=0.5, application/json;q=0.2", JSON),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html; charset=utf-8"),
            ("text/html;q=0.1, application/json", JSON),
        ],
    )
    def test_it_is_what_the_client_likes_best(self, post, key, way, accept, form):
        with lock(key):
            response = post(way, accept=accept)
        assert (response.status_code, response["Content-Type"], response["Vary"]) == (423, form, "Accept")

    @each_way
    def test_a_page_says_it_in_words(self, post, key, way):
        with lock(key):
            text = post(way, accept=HTML).text
        assert "<h1>Locked</h1>" in text
        assert "Somebody else is working on this" in text

    @each_way
    def test_a_page_that_is_not_there_is_the_sites_own(self, post, way):
        response = post(way, pk=12345, accept=HTML)
        assert response.status_code == 404
        assert "The requested resource was not found" in response.text

    @pytest.mark.parametrize("template", ["refused.html", "423.html"])
    def test_a_template_of_the_site_comes_first(self, post, account, key, settings, tmp_path, template):
        (tmp_path / "django_redislock").mkdir()
        (tmp_path / "django_redislock" / template).write_text("{{ request.path }}: {{ refusal.retry_after }}")
        settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
        with lock(key):
            assert post("decorated", accept=HTML).text == f"/decorated/{account.pk}/: 1"

    def test_without_any_template_it_is_plain_text(self, post, key, settings):
        settings.TEMPLATES = [{**settings.TEMPLATES[0], "APP_DIRS": False}]
        with lock(key):
            response = post("decorated", accept=HTML)
        assert (response.status_code, response["Content-Type"]) == (423, "text/plain; charset=utf-8")


class TestSecrecy:
    @pytest.mark.parametrize("debug", [False, True])
    @pytest.mark.parametrize("accept", [HTML, JSON])
    @each_way
    def test_nobody_is_told_who_holds_it(self, post, key, way, accept, debug, settings):
        settings.DEBUG = debug
        with working_on(lambda: Work("POST /salaries/", "kari")), lock(key):
            body = post(way, accept=accept).text
        assert not [word for word in ("salaries", "kari", "pid", "testapp", "Traceback") if word in body]

    def test_the_log_tells_the_operator(self, post, account, key, caplog):
        caplog.set_level("INFO", "django_redislock")
        with working_on(lambda: Work("POST /salaries/", "kari")), lock(key):
            post("decorated")
        assert f"A request was refused, POST /decorated/{account.pk}/: {key} is held by" in caplog.text
        assert "POST /salaries/, user kari" in caplog.text

    def test_what_is_away_is_a_warning(self, post, away, caplog):
        post("decorated")
        assert [record.levelname for record in caplog.records if record.name == "django_redislock"] == ["WARNING"]
