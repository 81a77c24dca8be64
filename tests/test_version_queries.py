"""What a queryset writes moves the version of each row, and what it reads can be saved."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import NotSupportedError, connections
from django.db.models import F
from django.db.transaction import atomic

from django_redislock import VersionConflict
from django_redislock.versionquery import move_in_upsert
from django_redislock.versions import version_field_of
from tests.test_versions import Oops, again, overtake
from tests.testapp.models import Account, Cabinet, Page

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def using(db_alias: str) -> str:
    return db_alias


@pytest.fixture
def pages(using: str) -> list[Page]:
    return [Page.objects.using(using).create(number=number) for number in range(3)]


def versions(using: str) -> list[int | None]:
    return list(Page.objects.using(using).order_by("number").values_list("version", flat=True))


def upsert(using: str, *numbers: int, **changes: Any) -> list[Page]:
    unique = ["number"] if connections[using].features.supports_update_conflicts_with_target else None
    rows = [Page(number=number, **changes) for number in numbers]
    return Page.objects.using(using).bulk_create(
        rows, update_conflicts=True, update_fields=["text"], unique_fields=unique
    )


class TestUpdate:
    def test_it_moves_each_row(self, pages, using):
        assert Page.objects.using(using).filter(number__lt=2).update(words=F("words") + 1) == 2
        assert versions(using) == [2, 2, 1]

    def test_who_has_read_before_is_refused(self, pages, using):
        Page.objects.using(using).update(words=1)
        with pytest.raises(VersionConflict):
            pages[0].save()

    def test_who_changes_nothing_moves_nothing(self, pages, using):
        Page.objects.using(using).update()
        assert versions(using) == [1, 1, 1]

    def test_a_version_that_is_given_is_taken(self, pages, using):
        Page.objects.using(using).update(version=7)
        assert versions(using) == [7, 7, 7]

    def test_a_child_moves_its_parents_version(self, using):
        cabinet = Cabinet.objects.using(using).create(code="a")
        Cabinet.objects.using(using).update(doors=2)
        assert again(cabinet).version == 2

    def test_aupdate_moves_too(self, pages, using):
        async_to_sync(Page.objects.using(using).aupdate)(words=1)
        assert versions(using) == [2, 2, 2]

    def test_a_model_without_a_version_is_updated_as_ever(self, using):
        Account.objects.using(using).create()
        assert Account.objects.using(using).update(name="b") == 1


class TestUpdateOrCreate:
    def test_it_moves_a_row_that_is_there(self, pages, using):
        Page.objects.using(using).update_or_create(number=0, defaults={"text": "b"})
        assert versions(using) == [2, 1, 1]

    def test_it_starts_a_new_one(self, using):
        row, made = Page.objects.using(using).update_or_create(number=0)
        assert (made, row.version, versions(using)) == (True, 1, [1])


class TestBulkUpdate:
    def test_it_moves_each_row_and_its_instance(self, pages, using):
        for page in pages:
            page.text = f"text {page.number}"
        assert Page.objects.using(using).bulk_update(pages, ["text"], batch_size=2) == 3
        assert versions(using) == [page.version for page in pages] == [2, 2, 2]
        assert again(pages[2]).text == "text 2"
        pages[0].save()

    def test_one_that_is_stale_stops_all(self, pages, using):
        overtake(pages[1], text="theirs")
        for page in pages:
            page.text = "mine"
        with pytest.raises(VersionConflict) as caught:
            Page.objects.using(using).bulk_update(pages, ["text"], batch_size=1)
        assert caught.value.instance is pages[1]
        assert [again(page).text for page in pages] == ["", "theirs", ""]
        assert [page.version for page in pages] == [1, 1, 1]

    def test_one_that_is_gone_stops_all(self, pages, using):
        again(pages[1]).delete()
        with pytest.raises(VersionConflict, match="was deleted"):
            Page.objects.using(using).bulk_update(pages, ["text"])

    def test_one_that_is_not_in_the_queryset_is_told(self, pages, using):
        with pytest.raises(Page.DoesNotExist, match="rows of this queryset"):
            Page.objects.using(using).filter(number=0).bulk_update(pages, ["text"])
        assert versions(using) == [1, 1, 1]

    def test_a_rollback_takes_it_back(self, pages, using):
        with pytest.raises(Oops), atomic(using=using):
            Page.objects.using(using).bulk_update(pages, ["text"])
            raise Oops
        assert [page.version for page in pages] == [1, 1, 1]

    def test_a_model_without_a_version_is_updated_as_ever(self, using):
        account = Account.objects.using(using).create()
        account.name = "b"
        assert Account.objects.using(using).bulk_update([account], ["name"]) == 1

    def test_nothing_is_nothing(self, using):
        assert Page.objects.using(using).bulk_update([], ["text"]) == 0

    def test_wrong_arguments_are_djangos_matter(self, pages, using):
        with pytest.raises(ValueError, match="positive"):
            Page.objects.using(using).bulk_update(pages, ["text"], batch_size=-1)


class TestBulkCreate:
    def test_it_starts_each_row(self, using):
        pages = Page.objects.using(using).bulk_create([Page(number=1), Page(number=2)])
        assert [page.version for page in pages] == versions(using) == [1, 1]

    def test_a_rollback_takes_it_back(self, using):
        with pytest.raises(Oops), atomic(using=using):
            (page,) = Page.objects.using(using).bulk_create([Page(number=1)])
            raise Oops
        assert page.version is None

    def test_a_model_without_a_version_is_inserted_as_ever(self, using):
        (account,) = Account.objects.using(using).bulk_create([Account(name="b")])
        assert account.name == "b"

    def test_an_upsert_moves_what_is_there_and_starts_what_is_new(self, pages, using):
        overtake(pages[1])
        upsert(using, 1, 2, 3, text="new")
        assert versions(using) == [1, 3, 2, 1]
        assert again(pages[2]).text == "new"

    def test_what_was_upserted_is_not_saved_before_it_is_read(self, pages, using):
        (page,) = upsert(using, 1)
        page.pk = pages[1].pk
        with pytest.raises(VersionConflict, match="not read from there"):
            page.save()

    def test_what_was_perhaps_inserted_is_not_saved_before_it_is_read(self, pages, using):
        twin = Page(pk=pages[0].pk, number=0)
        Page.objects.using(using).bulk_create([twin], ignore_conflicts=True)
        with pytest.raises(VersionConflict, match="not read from there"):
            twin.save()

    def test_a_database_whose_upserts_are_not_known_is_told(self):
        version = version_field_of(Page)
        assert version is not None
        with pytest.raises(NotSupportedError, match="SQLite"):
            move_in_upsert(version, print, "INSERT INTO x", (), False, {"connection": connections["default"]})


class TestReading:
    @pytest.mark.parametrize("read", [lambda rows: rows.only("text"), lambda rows: rows.defer("words", "version")])
    def test_what_is_read_in_part_has_its_version(self, pages, using, read):
        page = read(Page.objects.using(using)).get(number=0)
        page.text = "b"
        page.save()
        assert again(page).version == 2

    def test_what_is_deferred_beside_it_is(self, pages, using):
        page = Page.objects.using(using).defer("words", "version").get(number=0)
        assert page.get_deferred_fields() == {"words"}

    @pytest.mark.parametrize("read", [lambda rows: rows.only("name"), lambda rows: rows.defer("balance")])
    def test_a_model_without_a_version_is_read_as_ever(self, using, read):
        Account.objects.using(using).create()
        assert read(Account.objects.using(using)).get().get_deferred_fields() == {"balance"}

    def test_no_field_at_all_means_all_of_them(self, pages, using):
        assert not Page.objects.using(using).only().first().get_deferred_fields()


@pytest.mark.parametrize("name", ["update", "bulk_update", "bulk_create"])
def test_templates_do_not_call_what_writes(name):
    assert getattr(Page.objects.all(), name).alters_data is True


class Replicated:
    """Reads go to another database than writes."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "postgres"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"


@pytest.mark.django_db(transaction=True, databases=["default"])  # the other is refused
def test_what_is_written_goes_where_writes_go(settings):
    settings.DATABASE_ROUTERS = [Replicated()]
    pages = Page.objects.bulk_create([Page(number=1)])
    assert Page.objects.bulk_update(pages, ["text"]) == 1
    assert pages[0].version == 2
