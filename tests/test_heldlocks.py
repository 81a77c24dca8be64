"""The admin pages of held locks, without a browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from html import unescape
from io import StringIO
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.utils import translation

from django_redislock import LeaseLost, LockNotHeld, get_lease, lock, lock_many
from django_redislock.admin import HeldLockAdmin
from django_redislock.holder import Work, working_on
from django_redislock.models import HeldLock, identified, identify
from django_redislock.stores.inquiry import Inquiry
from testproject.bank.models import Account
from tests.flows import is_free
from tests.urls import urlpatterns as site_urls

LIST = "/admin/django_redislock/heldlock/"
RELEASE = f"{LIST}release/"
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("lock_alias")]


def page_of(key: str, *, alias: str = "default", view: str = "change") -> str:
    return f"{LIST}{admin.utils.quote(identify(alias, key))}/{view}/"


def keys_on(response: Any) -> list[str]:
    """The keys that a list shows, in order."""
    found = re.findall(r'data-redislock-lock="[^"]*">([^<]*)<', response.text)
    return [unescape(key) for key in found]


def said(response: Any) -> list[str]:
    """The messages on the page that a request leads to."""
    return [str(message) for message in response.context["messages"]]


@pytest.fixture
def clerk() -> Callable[..., Client]:
    """A member of the staff with some permissions."""

    def make(*codenames: str) -> Client:
        user = User.objects.create_user("clerk", password="", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client = Client()
        client.force_login(user)
        return client

    return make


@pytest.fixture
def held(lock_alias: str) -> Iterator[str]:
    """A lock that another thread holds, or has lost, until the test ends."""
    guard = lock("nightly")

    def give_back() -> None:
        with suppress(LockNotHeld):
            guard.release()

    with ThreadPoolExecutor(1) as other:
        other.submit(guard.acquire).result()
        yield "nightly"
        other.submit(give_back).result()


def meant(key: str) -> dict[str, str]:
    """What the form of the confirmation says of the owner of a lock."""
    info = lock(key).info()
    return {"meant": f"{info.fence} {identify('default', key)}", "reason": "It hangs."}


# The list


def test_it_shows_who_holds_what(admin_client):
    with working_on(lambda: Work("POST /accounts/1/", "7")), lock("nightly") as lease:
        page = admin_client.get(LIST)
    assert keys_on(page) == ["nightly"]
    assert "POST /accounts/1/" in page.text
    assert "for user 7" in page.text
    assert str(lease.fence) in page.text
    assert "29 s" in page.text


def test_no_lock_is_said_in_words(admin_client):
    assert "No lock is held." in admin_client.get(LIST).text


def test_no_token_is_on_a_page(admin_client):
    with lock("nightly") as lease:
        pages = [admin_client.get(url).text for url in (LIST, page_of("nightly"), f"{RELEASE}?lock=default:nightly")]
    assert not any(lease.token in text or lease.token[16:] in text for text in pages)


def test_a_row_is_shown_with_a_link_to_its_page(admin_client):
    account = Account.objects.create(number="NO-1", owner="Kari")
    with Account.objects.locked(account.pk):
        text = admin_client.get(LIST).text
    assert f'<a href="/admin/bank/account/{account.pk}/change/">NO-1 Kari</a>' in text


def test_a_row_that_is_gone_is_shown_by_its_key(admin_client):
    with lock("bank.Account:404"), lock("bank.Account:x"), lock("bank.Account:99999999999999999999999"):
        assert len(keys_on(admin_client.get(LIST))) == 3


def test_the_rows_of_a_model_are_fetched_at_once(admin_client):
    accounts = [Account.objects.create(number=str(number), owner="Kari") for number in range(20)]
    with Account.objects.locked_many([account.pk for account in accounts]):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            admin_client.get(LIST)
    assert len([query for query in queries if 'FROM "bank_account"' in query["sql"]]) == 1


def test_what_a_user_may_not_see_of_a_row_is_not_shown(clerk):
    account = Account.objects.create(number="NO-1", owner="Kari")
    with Account.objects.locked(account.pk):
        text = clerk("view_heldlock").get(LIST).text
    assert "bank.Account:" in text
    assert "Kari" not in text


@pytest.mark.parametrize(
    ("order", "keys"), [("1", ["a", "b", "c"]), ("-1", ["c", "b", "a"]), ("4", ["a", "c", "b"]), ("", ["b", "c", "a"])]
)
def test_it_is_sorted(admin_client, order, keys):
    with lock("b"), lock("c"), lock("a"):
        assert keys_on(admin_client.get(LIST, {"o": order} if order else {})) == keys


def test_it_is_filtered_by_model(admin_client):
    with lock("bank.Account:1"), lock("auth.User:1"), lock("nightly"):
        assert keys_on(admin_client.get(LIST, {"model": "bank.Account"})) == ["bank.Account:1"]
        assert keys_on(admin_client.get(LIST, {"model": "-"})) == ["nightly"]


def test_the_filters_count_without_being_asked(admin_client, held):
    text = admin_client.get(LIST).text
    assert "default (1)" in text
    assert "_facets" not in text


def test_it_is_filtered_by_host_and_alias(admin_client):
    with lock("nightly") as lease:
        host = lock("nightly").info().holder.host
        assert keys_on(admin_client.get(LIST, {"host": host, "alias": "default"})) == [lease.key.name]
        assert keys_on(admin_client.get(LIST, {"host": "web-9"})) == []


@pytest.mark.parametrize(("words", "keys"), [("NIGHT", ["nightly"]), ("mainthread hourly", ["hourly"]), ("x", [])])
def test_it_is_searched_by_key_and_holder(admin_client, words, keys):
    with lock("nightly"), lock("hourly"):
        assert keys_on(admin_client.get(LIST, {"q": words})) == keys


def test_it_has_pages(admin_client):
    with lock_many([f"n{number:03}" for number in range(150)]):
        pages = [keys_on(admin_client.get(LIST, {"o": "1", "p": number})) for number in (1, 2)]
    assert list(map(len, pages)) == [100, 50]
    assert pages[1][0] == "n100"


@pytest.mark.parametrize(
    "query", [{"nonsense": "1"}, {"alias__exact": "x"}, {"o": "99"}, {"p": "99"}, {"_facets": "True"}]
)
def test_a_query_that_makes_no_sense_breaks_nothing(admin_client, query):
    assert admin_client.get(LIST, query, follow=True).status_code == 200


def test_several_aliases_are_on_one_page(admin_client, settings):
    settings.CACHES = settings.CACHES | {"other": settings.CACHES["fake"] | {"LOCATION": "redis://elsewhere:6379/0"}}
    settings.REDISLOCK = settings.REDISLOCK | {"stock": {"CACHE": "other"}}
    with lock("a"), lock("b", alias="stock"):
        assert keys_on(admin_client.get(LIST)) == ["a", "b"]
        assert keys_on(admin_client.get(LIST, {"alias": "stock"})) == ["b"]
        assert admin_client.get(page_of("b", alias="stock")).status_code == 200


@pytest.mark.parametrize("query", ["", "?q=n&o=2&model=-&p=2"])
def test_a_page_asks_once(admin_client, monkeypatch, query):
    looks, ask = list[bool](), Inquiry.list_held

    def count(self: Inquiry, *, alias: str, queues: bool) -> Any:
        looks.append(queues)
        return ask(self, alias=alias, queues=queues)

    monkeypatch.setattr(Inquiry, "list_held", count)
    with lock("nightly"):
        admin_client.get(LIST + query)
        admin_client.get(page_of("nightly"))
    assert looks == [False, True]


# The store away


@pytest.fixture
def away(lock_alias: str, settings: Any) -> None:
    settings.CACHES = settings.CACHES | {
        "away": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://:open-sesame@127.0.0.1:1/0"}
    }
    settings.REDISLOCK = {"default": {"CACHE": "away"}}


@pytest.mark.usefixtures("away")
def test_a_server_that_is_away_is_said_with_the_reason(admin_client):
    page = admin_client.get(LIST)
    assert page.status_code == 200
    assert "The locks of the alias default could not be read" in page.text
    assert "Connection refused" in page.text
    assert "open-sesame" not in page.text


@pytest.mark.usefixtures("away")
def test_a_lock_cannot_be_shown_then_but_the_list_says_why(admin_client):
    page = admin_client.get(page_of("nightly"), follow=True)
    assert "could not be read" in page.text
    assert said(page) == []


@pytest.mark.usefixtures("away")
def test_nothing_is_written_down_that_could_not_be_done(admin_client):
    data = {"meant": "1 default:nightly", "reason": "It hangs."}
    assert "Not released: nightly" in said(admin_client.post(RELEASE, data, follow=True))[0]
    assert not LogEntry.objects.exists()


def test_wrong_settings_are_said(admin_client, settings):
    settings.REDISLOCK = {"default": {"TTL": "long"}}
    assert "could not be read" in admin_client.get(LIST).text


# One lock


def test_its_page_tells_all(admin_client, held):
    text = admin_client.get(page_of(held)).text
    holder = lock(held).info().holder
    assert all(str(value) in text for value in (holder.host, holder.pid, holder.thread))
    assert "Who waits" not in text


def test_its_name_may_hold_anything(admin_client):
    name = "a/b?c=d#e:f_g \"h\" <i> 'j' %k"
    with lock(name):
        (link,) = re.findall(r'<a href="([^"]*change/)"><span class="redislock-key"', admin_client.get(LIST).text)
        assert admin_client.get(unescape(link)).status_code == 200


def test_one_that_has_ended_leads_back_to_the_list(admin_client):
    page = admin_client.get(page_of("nightly"), follow=True)
    assert said(page) == ["Nobody holds nightly any more."]
    assert page.redirect_chain == [(LIST, 302)]


def test_its_history_outlives_it(admin_client, held):
    admin_client.post(RELEASE, meant(held))
    assert "It hangs." in admin_client.get(page_of(held, view="history")).text


def test_an_identifier_is_read_back():
    assert identified(identify("a:b", "c:d")) == ("a:b", "c:d")


# Force release


def test_the_confirmation_names_the_holder_and_what_will_happen(admin_client, held):
    text = admin_client.get(RELEASE, {"lock": identify("default", held)}).text
    assert str(lock(held).info().holder) in unescape(text)
    assert "The lease of the holder is lost" in text


def test_get_frees_nothing(admin_client, held):
    for query in (
        {"lock": identify("default", held)},
        meant(held),
        {**meant(held), "action": "force_release_selected"},
    ):
        admin_client.get(RELEASE, query)
        admin_client.get(LIST, query)
    assert not is_free(held)


def test_a_request_without_the_forms_secret_frees_nothing(held):
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("root"))
    assert client.post(RELEASE, meant(held)).status_code == 403
    assert not is_free(held)


def test_it_is_freed_and_written_down(admin_client, held):
    holder = lock(held).info().holder
    page = admin_client.post(RELEASE, meant(held), follow=True)
    assert said(page)[0].startswith(f"Released {held}, which {holder} held.")
    entry = LogEntry.objects.get()
    assert (entry.object_repr, entry.user.username) == (held, "admin")
    assert entry.change_message == f"Released by force from {holder}. Reason: It hangs."
    assert is_free(held)


def test_the_holder_is_told_and_its_work_is_rolled_back(admin_client):
    account = Account.objects.create(number="NO-1", owner="Kari", balance=100)
    with pytest.raises(LeaseLost), Account.objects.locked(account.pk) as row:
        row.balance = 0
        row.save()
        admin_client.post(RELEASE, meant(f"bank.Account:{account.pk}"))
        with pytest.raises(LockNotHeld, match="released by force"):
            get_lease(row).extend()
    account.refresh_from_db()
    assert account.balance == 100


def test_without_a_reason_nothing_is_done(admin_client, held):
    page = admin_client.post(RELEASE, {**meant(held), "reason": "  "})
    assert "This field is required." in page.text
    assert not is_free(held)


def test_one_who_got_it_meanwhile_is_left_alone(admin_client):
    with lock("nightly"):
        before = meant("nightly")
    with lock("nightly"):
        page = admin_client.post(RELEASE, before, follow=True)
        assert said(page) == ["Left nightly alone: who held it does not hold it any more."]
        assert not is_free("nightly")
    assert not LogEntry.objects.exists()


def test_several_are_freed_from_the_list(admin_client):
    with pytest.raises(LeaseLost), lock_many(["a", "b", "c"]):
        chosen = [identify("default", name) for name in "ab"]
        page = admin_client.post(LIST, {"action": "force_release_selected", "_selected_action": chosen})
        assert set(keys_in_confirmation(page)) == set(chosen)
        fields = re.findall(r'name="meant" value="([^"]*)"', page.text)
        assert not is_free("a")
        admin_client.post(RELEASE, {"meant": fields, "reason": "Both hang."})
        assert [is_free(name) for name in "abc"] == [True, True, False]
    assert LogEntry.objects.count() == 2


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_each_row_has_the_box_of_the_admin(rf, language):
    """Also where the name of a lock is what stands for names in the box that is rendered once."""
    options = HeldLockAdmin(HeldLock, admin.site)
    with translation.override(language), lock_many(["a<b>&\"'", "redislock-pk", "redislock-name"]):
        held = list(options.get_queryset(rf.get(LIST)))
        assert len(held) == 3
        for each in held:
            assert options.action_checkbox(each) == admin.ModelAdmin.action_checkbox(options, each)


def keys_in_confirmation(page: Any) -> list[str]:
    return [unescape(found) for found in re.findall(r'name="meant" value="\d+ ([^"]*)"', page.text)]


def test_more_than_anybody_reads_are_not_freed_at_once(admin_client):
    with lock_many([f"n{number}" for number in range(201)]):
        data = {"action": "force_release_selected", "_selected_action": ["default:n1"], "select_across": "1"}
        assert said(admin_client.post(LIST, data, follow=True)) == ["No more than 200 locks can be released at once."]


@pytest.mark.parametrize(
    ("wanted", "target"), [("/admin/", "/admin/"), ("https://evil.example/", LIST), ("//evil.example", LIST)]
)
def test_it_leads_back_to_this_site_only(admin_client, held, wanted, target):
    assert admin_client.post(RELEASE, {**meant(held), "next": wanted}).url == target


def test_a_form_that_was_tampered_with_is_refused(admin_client):
    assert admin_client.post(RELEASE, {"meant": "no number", "reason": "x"}).status_code == 403


# Permissions


def test_staff_with_neither_permission_sees_nothing(clerk, held):
    client = clerk()
    assert "heldlock" not in client.get("/admin/").text
    assert [client.get(url).status_code for url in (LIST, page_of(held), RELEASE)] == [403] * 3
    assert client.post(RELEASE, meant(held)).status_code == 403


def test_who_may_view_may_not_free(clerk, held):
    client = clerk("view_heldlock")
    assert keys_on(client.get(LIST)) == [held]
    assert "force_release_selected" not in client.get(LIST).text
    assert "release/" not in client.get(page_of(held)).text
    assert client.post(RELEASE, meant(held)).status_code == 403
    client.post(LIST, {"action": "force_release_selected", "_selected_action": [identify("default", held)]})
    assert not is_free(held)


def test_who_may_free_may_view(clerk, held):
    client = clerk("force_release")
    assert "release/" in client.get(page_of(held)).text
    client.post(RELEASE, meant(held))
    assert is_free(held)


@pytest.mark.parametrize("view", ["add/", "default_3Anightly/delete/"])
def test_nobody_adds_or_deletes(admin_client, held, view):
    assert admin_client.get(LIST + view).status_code == 403


def test_a_visitor_is_asked_who_it_is(client, held):
    assert client.get(LIST).url.startswith("/admin/login/")
    assert client.post(RELEASE, meant(held)).url.startswith("/admin/login/")


# Markup


NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7|add:7 }}"


def test_what_others_chose_is_shown_as_text(admin_client):
    account = Account.objects.create(number="NO-1", owner=NASTY)
    nasty = working_on(lambda: Work(NASTY, NASTY))
    with nasty, lock(NASTY), lock(f"bank.Account:{account.pk}"):
        urls = (LIST, page_of(NASTY), f"{LIST}?q=%3Cscript%3E", page_of(f"bank.Account:{account.pk}"))
        pages = [admin_client.get(url) for url in urls]
        pages.append(admin_client.get(RELEASE, {"lock": identify("default", NASTY)}))
        pages.append(admin_client.post(RELEASE, {"meant": meant(NASTY)["meant"], "reason": ""}))
        account_list = admin_client.get("/admin/bank/account/")
    for page in [*pages, account_list]:
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text


def test_a_reason_is_shown_as_text(admin_client, held):
    page = admin_client.post(RELEASE, {**meant(held), "reason": NASTY}, follow=True)
    history = admin_client.get(page_of(held, view="history"))
    index = admin_client.get("/admin/")
    assert not any("<script>alert" in each.text for each in (page, history, index))
    assert "&lt;script&gt;alert" in history.text


# Sites of one's own, and commands that go over all models


class OtherSite(admin.AdminSite):
    """An admin site of an application's own."""


other_site = OtherSite(name="backstage")
other_site.register(HeldLock, HeldLockAdmin)
urlpatterns = [*site_urls, path("backstage/", other_site.urls)]


@pytest.mark.urls(__name__)
def test_a_site_of_ones_own_keeps_its_links(admin_client, held):
    page = admin_client.get("/backstage/django_redislock/heldlock/")
    assert "/backstage/django_redislock/heldlock/default_3Anightly/change/" in page.text
    detail = admin_client.get("/backstage/django_redislock/heldlock/default_3Anightly/change/")
    assert "/backstage/django_redislock/heldlock/release/?lock=default%3Anightly" in detail.text
    confirmation = admin_client.get("/backstage/django_redislock/heldlock/release/?lock=default:nightly")
    assert '<a href="/backstage/">Home</a>' in confirmation.text
    done = admin_client.post("/backstage/django_redislock/heldlock/release/", meant(held))
    assert done.url == "/backstage/django_redislock/heldlock/"


def test_models_and_migrations_agree():
    call_command("makemigrations", check=True, dry_run=True, stdout=StringIO())


def test_commands_that_go_over_all_models_pass_it_by():
    out = StringIO()
    call_command("dumpdata", stdout=out)
    call_command("sqlflush", stdout=out)
    call_command("check", databases=["default"], stdout=out)
    call_command("inspectdb", "django_redislock_heldlock", stdout=out, stderr=out)
    assert '"django_redislock.heldlock"' not in out.getvalue()


@pytest.mark.django_db(transaction=True)
def test_flush_passes_it_by():
    call_command("flush", interactive=False, verbosity=0)
    assert not User.objects.exists()


def test_the_database_has_no_rows_of_it():
    assert list(HeldLock.objects.all()) == []
    assert HeldLock._base_manager.count() == 0
