"""In the admin nobody saves or deletes what another has changed since the page was opened, and is told so."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin import ModelAdmin, site
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ValidationError
from django.test import Client

from django_redislock import VersionConflict
from django_redislock.versionadmin import VersionedAdmin
from django_redislock.versionforms import opened_with
from tests.test_versions import again, overtake
from tests.testapp.models import Account, Document, Page, Purse

pytestmark = pytest.mark.django_db

YES = {"post": "yes"}
NOTHING_DELETED = "Nothing was deleted. This is what it is now"


@pytest.fixture
def page() -> Page:
    return Page.objects.create(number=1, text="a")


def hidden_version(html: str) -> str:
    return re.search(r'name="version" value="([^"]+)"', html)[1]  # type: ignore[index]


class TestChange:
    @pytest.fixture
    def url(self, page: Page) -> str:
        return f"/admin/testapp/page/{page.pk}/change/"

    def test_the_change_form_carries_it_whatever_fields_it_has(self, admin_client, url, page):
        version = hidden_version(admin_client.get(url).text)
        assert admin_client.post(url, {"number": 1, "text": "b", "version": version}).status_code == 302
        assert (again(page).text, again(page).version) == ("b", 2)

    def test_a_conflict_is_shown(self, admin_client, url, page):
        version = hidden_version(admin_client.get(url).text)
        overtake(page, text="theirs")
        response = admin_client.post(url, {"number": 1, "text": "mine", "version": version})
        assert "Text: it is “theirs” now, and “mine” in this form." in response.text
        assert again(page).text == "theirs"

    def test_a_conflict_that_is_found_by_the_save_is_shown_too(self, admin_client, url, page, monkeypatch):
        def late(*args: Any, **named: Any) -> None:
            monkeypatch.undo()
            overtake(page, text="theirs")
            raise VersionConflict("The save found it.")

        version = hidden_version(admin_client.get(url).text)
        monkeypatch.setattr(ModelAdmin, "changeform_view", late)
        response = admin_client.post(url, {"number": 1, "text": "mine", "version": version})
        assert "Text: it is “theirs” now, and “mine” in this form." in response.text

    def test_a_new_row_is_added(self, admin_client):
        admin_client.post("/admin/testapp/page/add/", {"number": 1, "text": "new", "version": ""})
        admin_client.post("/admin/testapp/document/add/", {"title": "new", "copies": 1, "price": 1, "version": ""})
        assert Document.objects.get().version == Page.objects.get().version == 1

    def test_an_admin_of_all_fields_needs_nothing(self, admin_client):
        document = Document.objects.create()
        url = f"/admin/testapp/document/{document.pk}/change/"
        data = {"title": "mine", "copies": 1, "price": 1, "version": hidden_version(admin_client.get(url).text)}
        overtake(document, title="theirs")
        assert "it is “theirs” now" in admin_client.post(url, data).text

    def test_it_needs_nothing_either_when_another_is_faster_by_a_moment(self, admin_client, monkeypatch):
        document = Document.objects.create()
        get_object = ModelAdmin.get_object

        def overtaken(*args: Any, **named: Any) -> Any:
            row = get_object(*args, **named)
            overtake(document, title="theirs")
            return row

        url = f"/admin/testapp/document/{document.pk}/change/"
        data = {"title": "mine", "copies": 1, "price": 1, "version": hidden_version(admin_client.get(url).text)}
        monkeypatch.setattr(ModelAdmin, "get_object", overtaken)
        assert "it is “theirs” now" in admin_client.post(url, data).text
        assert again(document).title == "theirs"

    def test_whose_form_does_not_carry_it_is_told_of_who_is_faster_by_a_moment(self, admin_client, monkeypatch):
        purse = Purse.objects.create()
        overtake_when_read(purse, monkeypatch, coins=5)
        html = admin_client.post(f"/admin/testapp/purse/{purse.pk}/change/", {"coins": 7}).text
        assert "Coins: it is “5” now, and “7” in this form." in html
        assert again(purse).coins == 5

    def test_it_comes_once_and_not_where_there_is_none(self, admin_client, url, rf):
        account = Account.objects.create()
        assert admin_client.get(f"/admin/testapp/account/{account.pk}/change/").status_code == 200
        request = rf.get("/")
        request.user = User(is_superuser=True, is_active=True)
        of_all_fields = type("All", (VersionedAdmin,), {})(Page, site)
        (_, options), *more = of_all_fields.get_fieldsets(request, Page())
        assert (options["fields"].count("version"), more) == (1, [])

    def test_who_may_only_look_does_not_see_it(self, client, url):
        user = User.objects.create_user("viewer", is_staff=True)
        user.user_permissions.add(Permission.objects.get(codename="view_page"))
        client.force_login(user)
        assert "ersion" not in client.get(url).text.partition("<form")[2]


def overtake_when_read(row: Any, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Somebody else changes it after the admin has read it, and before it has saved or deleted it."""
    get_object = ModelAdmin.get_object

    def overtaken(*args: Any, **named: Any) -> Any:
        read = get_object(*args, **named)
        monkeypatch.setattr(ModelAdmin, "get_object", get_object)
        overtake(row, **changes)
        return read

    monkeypatch.setattr(ModelAdmin, "get_object", overtaken)


class TestDelete:
    @pytest.fixture
    def url(self, page: Page) -> str:
        return f"/admin/testapp/page/{page.pk}/delete/"

    @pytest.fixture
    def confirmed(self, admin_client: Client, url: str) -> Callable[[], Any]:
        """Opens the page, and gives what answers it: the form posts to the address that it is at."""
        request = admin_client.get(url, follow=True).request
        address = f"{request['PATH_INFO']}?{request['QUERY_STRING']}"
        return lambda: admin_client.post(address, YES, follow=True)

    def test_what_was_shown_is_deleted(self, confirmed):
        assert "was deleted successfully" in confirmed().text
        assert not Page.objects.exists()

    def test_the_form_posts_to_its_own_address(self, admin_client, url):
        assert re.search(r'<form method="post">', admin_client.get(url, follow=True).text)

    def test_a_row_that_was_changed_since_the_page_was_opened_is_not(self, confirmed, page):
        overtake(page, text="theirs")
        response = confirmed()
        assert "Another has changed it since the page was opened" in response.text
        assert NOTHING_DELETED in response.text
        assert again(page).text == "theirs"

    def test_asked_again_and_confirmed_it_is_deleted(self, confirmed, admin_client, page):
        overtake(page, text="theirs")
        request = confirmed().request
        admin_client.post(f"{request['PATH_INFO']}?{request['QUERY_STRING']}", YES)
        assert not Page.objects.exists()

    def test_nor_is_one_that_is_changed_by_a_moment_before(self, confirmed, page, monkeypatch):
        overtake_when_read(page, monkeypatch, text="theirs")
        assert NOTHING_DELETED in confirmed().text
        assert again(page)

    def test_one_that_is_gone_is_djangos_matter(self, confirmed, page):
        Page.objects.all().delete()
        assert "Perhaps it was deleted?" in confirmed().text

    def test_reloaded_the_page_is_that_of_the_row_as_it_is_now(self, admin_client, url, page):
        before = admin_client.get(url, follow=True).request["QUERY_STRING"]
        overtake(page, text="theirs")
        after = admin_client.get(f"{url}?{before}&_popup=1", follow=True).request["QUERY_STRING"]
        assert opened_with(page, 2).signed().replace(":", "%3A") in after
        assert "_popup=1" in after

    def test_an_answer_that_does_not_say_what_was_shown_deletes_nothing(self, admin_client, url, page):
        response = admin_client.post(url, YES, follow=True)
        assert "does not say which version" in response.text
        assert again(page)

    def test_nor_does_one_that_was_shown_another_row(self, admin_client, url, page):
        other = Page.objects.create(number=2)
        response = admin_client.post(f"{url}?_version={opened_with(other, 1).signed()}", YES, follow=True)
        assert "does not say which version" in response.text
        assert Page.objects.count() == 2

    def test_the_log_does_not_say_that_it_was_deleted(self, confirmed, page):
        overtake(page, text="theirs")
        confirmed()
        assert not LogEntry.objects.exists()

    def test_an_error_of_the_applications_own_is_not_taken_for_a_conflict(self, confirmed, monkeypatch):
        def fail(*args: Any, **named: Any) -> None:
            raise ValidationError("It is still read.")

        monkeypatch.setattr(Page, "delete", fail)
        with pytest.raises(ValidationError, match="still read"):
            confirmed()

    @pytest.mark.django_db(transaction=True)
    def test_who_deletes_without_that_page_is_compared_with_what_was_read(self, page, rf):
        page_admin = site.get_model_admin(Page)
        stale = again(page)
        overtake(page)
        with pytest.raises(VersionConflict):
            page_admin.delete_model(rf.post("/"), stale)
        page_admin.delete_model(rf.post("/"), again(page))
        assert not Page.objects.exists()

    def test_a_model_without_a_version_is_deleted_as_ever(self, admin_client):
        account = Account.objects.create()
        opened = opened_with(account, 1).signed()
        admin_client.post(f"/admin/testapp/account/{account.pk}/delete/?_version={opened}", YES)
        assert not Account.objects.exists()
        other = Account.objects.create()
        admin_client.post(f"/admin/testapp/account/{other.pk}/delete/", YES)
        assert not Account.objects.exists()
        other = Account.objects.create()
        assert admin_client.get(f"/admin/testapp/account/{other.pk}/delete/").status_code == 200
