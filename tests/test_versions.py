"""`VersionField`: no save and no deletion of a row that another has changed since it was read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core import serializers
from django.db import DatabaseError, IntegrityError, connections, models, transaction
from django.db.migrations.state import ModelState
from django.db.models import F
from django.db.models.signals import post_save
from django.db.transaction import atomic
from django.template import Context, Template
from django.test.utils import CaptureQueriesContext, isolate_apps

from django_redislock import VersionConflict, VersionField, signals
from django_redislock.conflicts import UNKNOWN, Difference, remember_base
from django_redislock.versions import version_field_of
from tests.testapp.models import Account, Cabinet, Document, Page, Shelf

pytestmark = pytest.mark.django_db(transaction=True)


class Oops(Exception):
    """What a body raises."""


@pytest.fixture
def using(db_alias: str) -> str:
    return db_alias


@pytest.fixture
def document(using: str) -> Document:
    return Document.objects.using(using).create(title="a")


def again(row: Any) -> Any:
    """The row, read by somebody else."""
    return type(row)._base_manager.using(row._state.db).get(pk=row.pk)


def overtake(row: Any, **changes: Any) -> None:
    """Somebody else changes the row."""
    other = again(row)
    for name, value in changes.items():
        setattr(other, name, value)
    other.save()


def queries_of(using: str, act: Callable[[], Any]) -> list[str]:
    """What is sent to the database."""
    with CaptureQueriesContext(connections[using]) as captured:
        act()
    return [query["sql"] for query in captured]


class TestSave:
    def test_an_insert_starts_it_and_each_save_moves_it(self, document):
        assert (document.version, again(document).version) == (1, 1)
        document.save()
        document.save()
        assert (document.version, again(document).version) == (3, 3)

    def test_what_is_not_in_the_database_has_none_and_needs_none(self):
        document = Document(title="a")
        document.full_clean()
        assert document.version is None

    def test_a_stale_save_is_refused_and_writes_nothing(self, document):
        overtake(document, title="theirs")
        document.title = "mine"
        with pytest.raises(VersionConflict, match=f"testapp.Document:{document.pk} was changed by another"):
            document.save()
        assert (again(document).title, again(document).version, document.version) == ("theirs", 2, 1)

    def test_it_is_one_update_with_the_version_in_its_where(self, document, using):
        (sql,) = queries_of(using, document.save)
        assert sql.startswith("UPDATE")
        assert "version" in sql.partition("WHERE")[2]

    def test_update_fields_always_carry_it(self, document):
        stale = again(document)
        document.title = "b"
        document.save(update_fields=["title"])
        assert again(document).version == document.version == 2
        with pytest.raises(VersionConflict):
            stale.save(update_fields=["copies"])

    def test_a_row_that_was_deleted_is_not_inserted_again(self, document):
        again(document).delete()
        with pytest.raises(VersionConflict, match="was deleted") as caught:
            document.save()
        assert caught.value.current is None
        assert not Document.objects.using(document._state.db).exists()

    def test_an_instance_that_was_not_read_does_not_overwrite_a_row(self, document, using):
        with pytest.raises(VersionConflict, match="is in the database already") as caught:
            Document(pk=document.pk, title="blind", version=1).save(using=using)
        assert (caught.value.expected, caught.value.current) == (None, 1)

    def test_an_instance_with_a_key_of_its_own_is_inserted(self, using):
        shelf = Shelf(code="a")
        shelf.save(using=using)
        assert again(shelf).version == 1

    def test_a_copy_starts_again(self, document, using):
        document.save()
        document.pk, document._state.adding = None, True
        document.save()
        assert (document.version, Document.objects.using(using).count()) == (1, 2)

    def test_an_insert_that_failed_leaves_nothing_to_overwrite_with(self, document, using):
        twin = Document(pk=document.pk)
        with pytest.raises(IntegrityError):
            twin.save(using=using, force_insert=True)
        with pytest.raises(VersionConflict):
            twin.save(using=using)

    def test_expressions_in_other_fields_go_with_it(self, document):
        document.copies = F("copies") + 2
        document.save()
        assert (again(document).copies, again(document).version) == (2, 2)

    def test_an_expression_in_its_place_is_refused(self, document):
        document.version = F("version") + 1
        with pytest.raises(TypeError, match="is an int that was read with it"):
            document.save()

    def test_a_raw_save_writes_what_it_is_given(self, document, using):
        (old,) = serializers.deserialize("json", serializers.serialize("json", [document]))
        overtake(document)
        old.save(using=using)
        assert again(document).version == 1

    def test_a_fixture_from_before_the_field_starts_it(self, using):
        (old,) = serializers.deserialize("python", [{"model": "testapp.document", "pk": 7, "fields": {"title": "old"}}])
        old.save(using=using)
        assert Document.objects.using(using).get(pk=7).version == 1

    def test_refreshing_takes_the_new_version(self, document):
        overtake(document, title="theirs")
        document.refresh_from_db()
        document.save()
        assert again(document).version == 3

    def test_refreshing_other_fields_does_not(self, document):
        overtake(document, title="theirs")
        document.refresh_from_db(fields=["title"])
        with pytest.raises(VersionConflict):
            document.save()

    def test_the_applications_own_save_and_delete_reach_it(self, using):
        with isolate_apps("tests.testapp"):

            class Noted(models.Model):
                version = VersionField()

                class Meta:
                    abstract = True

                def save(self, *args: Any, **named: Any) -> None:
                    calls.append("save")
                    super().save(*args, **named)

                def delete(self, *args: Any, **named: Any) -> Any:
                    calls.append("delete")
                    return super().delete(*args, **named)

            class Note(Noted):  # noqa: DJ008 - nobody shows it
                class Meta:
                    app_label = "testapp"

        calls: list[str] = []
        with connections[using].schema_editor() as editor:
            editor.create_model(Note)
        try:
            note = Note(pk=1)
            note.save(using=using, force_insert=True)
            overtake(note)
            for refused in (note.save, note.delete):
                with pytest.raises(VersionConflict):
                    refused()
        finally:
            with connections[using].schema_editor() as editor:
                editor.delete_model(Note)
        assert calls == ["save", "save", "save", "delete"]

    def test_select_on_save_is_checked_too(self, document, monkeypatch):
        monkeypatch.setattr(Document._meta, "select_on_save", True)
        document.save()
        stale = again(document)
        overtake(document)
        with pytest.raises(VersionConflict):
            stale.save()


class TestDeferred:
    @pytest.mark.parametrize("save", [lambda row: row.save(), lambda row: row.save(update_fields=["title"])])
    def test_a_row_read_without_its_version_is_not_saved(self, document, using, save):
        row = Document.objects.using(using).only("title").get()
        assert row.version == 1
        row.title = "b"
        with pytest.raises(ValueError, match="was read without its 'version'"):
            save(row)
        assert again(document).title == "a"

    def test_it_is_not_deleted_either(self, document, using):
        with pytest.raises(ValueError, match="was read without its 'version'"):
            Document.objects.using(using).defer("version").get().delete()

    def test_a_row_read_without_other_fields_is_saved(self, document, using):
        row = Document.objects.using(using).only("title", "version").get()
        row.title = "b"
        row.save()
        assert (again(document).title, again(document).version) == ("b", 2)


class TestDelete:
    def test_what_was_read_is_deleted(self, document, using):
        assert document.delete() == (1, {"testapp.Document": 1})
        assert not Document.objects.using(using).exists()

    def test_a_stale_deletion_is_refused(self, document):
        overtake(document, title="theirs")
        with pytest.raises(VersionConflict):
            document.delete()
        assert again(document).title == "theirs"

    def test_what_was_never_saved_is_djangos_matter(self):
        with pytest.raises(ValueError, match="can't be deleted because its"):
            Document().delete()

    def test_what_is_gone_already_stays_gone(self, document):
        again(document).delete()
        assert document.delete()[0] == 0


class TestInheritance:
    """The version is in the parent's table and counts for the whole row."""

    @pytest.fixture
    def cabinet(self, using: str) -> Cabinet:
        return Cabinet.objects.using(using).create(code="a")

    def test_a_child_is_checked(self, cabinet):
        overtake(cabinet, doors=2)
        with pytest.raises(VersionConflict) as caught:
            cabinet.save()
        assert caught.value.diff() == {"doors": Difference(mine=0, theirs=2)}
        assert (again(cabinet).doors, again(cabinet).version) == (2, 2)

    def test_a_field_of_the_child_alone_moves_it(self, cabinet):
        cabinet.save(update_fields=["doors"])
        assert again(cabinet).version == cabinet.version == 2

    def test_the_parent_and_the_child_are_one_row(self, cabinet, using):
        shelf = Shelf.objects.using(using).get()
        cabinet.save()
        for refused in (shelf.save, shelf.delete):
            with pytest.raises(VersionConflict):
                refused()

    def test_a_stale_child_is_not_deleted(self, cabinet, using):
        overtake(Shelf.objects.using(using).get(), books=1)
        with pytest.raises(VersionConflict):
            cabinet.delete()

    def test_a_child_that_fails_takes_its_parents_version_back(self, cabinet):
        cabinet.doors = "many"
        with pytest.raises(ValueError, match="many"):
            cabinet.save()
        assert again(cabinet).version == cabinet.version == 1


class TestRollback:
    """After a rollback the instance has the version that the database has."""

    def test_of_the_whole(self, document, using):
        with pytest.raises(Oops), atomic(using=using):
            document.save()
            document.save()
            assert document.version == 3
            raise Oops
        assert document.version == 1
        document.save()

    def test_of_a_savepoint(self, document, using):
        with atomic(using=using):
            document.save()
            with pytest.raises(Oops), atomic(using=using):
                document.save()
                document.save()
                raise Oops
            assert document.version == 2
            document.save()
        assert again(document).version == document.version == 3

    def test_of_the_whole_after_a_savepoint(self, document, using):
        with pytest.raises(Oops), atomic(using=using):
            with atomic(using=using):
                document.save()
            document.save()
            raise Oops
        assert document.version == 1

    def test_by_set_rollback(self, document, using):
        with atomic(using=using):
            document.save()
            transaction.set_rollback(True, using=using)
        assert document.version == 1

    def test_of_an_insert(self, using):
        document = Document()
        with pytest.raises(Oops), atomic(using=using):
            document.save(using=using)
            document.save(using=using)
            raise Oops
        assert document.version is None
        document.save(using=using)
        assert again(document).version == 1

    def test_a_commit_keeps_it(self, document, using):
        with atomic(using=using):
            document.save()
        assert document.version == again(document).version == 2

    def test_a_hook_that_fails_after_the_commit_keeps_it(self, document, using):
        def fail() -> None:
            raise Oops

        with pytest.raises(Oops), atomic(using=using):
            transaction.on_commit(fail, using=using)
            document.save()
        assert document.version == again(document).version == 2

    def test_a_receiver_that_fails_outside_a_transaction_keeps_it(self, document):
        def fail(**named: Any) -> None:
            raise Oops

        post_save.connect(fail, sender=Document)
        try:
            with pytest.raises(Oops):
                document.save()
        finally:
            post_save.disconnect(fail, sender=Document)
        assert document.version == again(document).version == 2

    def test_an_instance_that_nobody_has_any_more_is_not_kept(self, document, using):
        with pytest.raises(Oops), atomic(using=using):
            again(document).save()
            raise Oops
        document.save()


class TestConflict:
    @pytest.fixture
    def conflict(self, document: Document) -> VersionConflict:
        remember_base(document)
        overtake(document, title="theirs", copies=5)
        document.title, document.price = "mine", "0.0"
        with pytest.raises(VersionConflict) as caught:
            document.save()
        return caught.value

    def test_it_says_what_was_expected_and_what_there_is(self, conflict, document):
        assert conflict.instance is document
        assert (conflict.expected, conflict.current, conflict.key) == (1, 2, f"testapp.Document:{document.pk}")

    def test_it_tells_field_by_field(self, conflict):
        assert conflict.diff() == {
            "title": Difference(mine="mine", theirs="theirs", base="a"),
            "copies": Difference(mine=0, theirs=5, base=0),
        }

    def test_a_base_of_another_version_is_not_told(self, document):
        remember_base(document)
        document.save()
        overtake(document, title="theirs")
        with pytest.raises(VersionConflict) as caught:
            document.save()
        assert caught.value.diff()["title"].base is UNKNOWN
        assert repr(UNKNOWN) == "UNKNOWN"

    def test_what_cannot_be_compared_differs(self, document):
        overtake(document, copies=5)
        document.copies = F("copies") + 1
        with pytest.raises(VersionConflict) as caught:
            document.save()
        assert set(caught.value.diff()) == {"copies"}

    def test_it_is_a_database_error(self, conflict):
        assert isinstance(conflict, DatabaseError)

    def test_a_row_that_is_gone_has_no_differences(self, document):
        again(document).delete()
        with pytest.raises(VersionConflict) as caught:
            document.save()
        assert caught.value.diff() == {}

    def test_a_signal_tells_it(self, document):
        errors = []
        receiver = lambda sender, error, **named: errors.append((sender, error))
        signals.version_conflict.connect(receiver)
        try:
            overtake(document)
            with pytest.raises(VersionConflict) as caught:
                document.save()
        finally:
            signals.version_conflict.disconnect(receiver)
        assert errors == [(Document, caught.value)]

    def test_inside_a_transaction_it_marks_the_block_as_broken(self, document, using):
        overtake(document)
        with atomic(using=using):
            with pytest.raises(VersionConflict):
                document.save()
            assert connections[using].needs_rollback

    def test_a_template_deletes_nothing(self, document):
        assert Document.delete.alters_data  # type: ignore[attr-defined]  # a mark for templates
        assert Template("{{ row.delete }}").render(Context({"row": document})) == ""
        assert again(document)


class TestAsync:
    def test_asave_and_adelete_are_checked(self, document):
        overtake(document)
        for act in (document.asave, document.adelete):
            with pytest.raises(VersionConflict):
                async_to_sync(act)()
        document.refresh_from_db()
        async_to_sync(document.asave)()
        assert document.version == again(document).version == 3


class TestTheField:
    def test_it_is_found_wherever_it_is_declared(self):
        fields = [version_field_of(model) for model in (Account, Document, Page, Shelf, Cabinet)]
        assert [field and field.model for field in fields] == [None, Document, Page, Shelf, Shelf]

    def test_it_is_found_on_a_model_that_gets_it_later(self):
        with isolate_apps("tests.testapp"):

            class Late(models.Model):  # noqa: DJ008 - nobody shows it
                class Meta:
                    app_label = "testapp"

            assert version_field_of(Late) is None
            field = VersionField()
            field.contribute_to_class(Late, "version")
            assert version_field_of(Late) is field

    def test_of_the_class_it_is_djangos_descriptor(self):
        assert Document.version.field is version_field_of(Document)

    @pytest.mark.parametrize("option", ["default", "db_default", "null", "unique", "primary_key"])
    def test_what_it_decides_itself_is_refused(self, option):
        options: dict[str, Any] = {option: 1}
        with pytest.raises(TypeError, match=f"takes no {option}="):
            VersionField(**options)

    def test_a_migration_names_it_by_its_public_name_and_no_base(self):
        path, options = dict(ModelState.from_model(Document).fields)["version"].deconstruct()[1::2]
        assert (path, options) == ("django_redislock.VersionField", {})
        assert ModelState.from_model(Document).bases == (models.Model,)

    def test_it_can_be_added_to_a_table_that_has_rows(self, using):
        field = VersionField()
        field.set_attributes_from_name("added")
        account = Account.objects.using(using).create()
        with isolate_apps("tests.testapp"), connections[using].schema_editor() as editor:
            field.model = Account
            editor.add_field(Account, field)
        try:
            with connections[using].cursor() as cursor:
                cursor.execute("SELECT added FROM testapp_account")
                assert list(cursor.fetchall()) == [(1,)]
        finally:
            account.delete()
            with connections[using].schema_editor() as editor:
                editor.remove_field(Account, field)
