"""A form is saved only over the row that it was opened with; the conflict is told in the form."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import OperationalError, transaction

from django_redislock import VersionConflict
from django_redislock.versionforms import VersionFormField, opened_with, read_signed
from tests.flows import elsewhere
from tests.test_versions import again, overtake, queries_of
from tests.testapp.models import Document, Shelf

pytestmark = pytest.mark.django_db


class DocumentForm(forms.ModelForm):
    class Meta:
        model = Document
        fields = ("title", "version")


@pytest.fixture
def document() -> Document:
    return Document.objects.create(title="a", price=3)


def sent(row: Any, form: Any = None, **data: Any) -> DocumentForm:
    """The form for the row as it is now, opened as `form` and sent with this data."""
    opened = (form or DocumentForm(instance=row))["version"].value()
    return DocumentForm({"title": "mine", "version": opened, **data}, instance=again(row))


class TestForm:
    def test_it_carries_the_version_hidden_and_signed(self, document):
        html = DocumentForm(instance=document).as_p()
        assert re.search(rf'type="hidden" name="version" value="testapp.Document:{document.pk}:1:[\w-]{{20,}}"', html)

    def test_it_is_saved_when_nobody_was_faster(self, document):
        form = sent(document)
        form.save()
        assert (again(document).title, again(document).version) == ("mine", 2)
        assert form.changed_data == ["title"]

    def test_a_row_that_was_changed_since_it_was_opened_is_told_field_by_field(self, document):
        overtake(document, title="theirs", price=4)
        form = sent(document)
        changed, title = form.errors[NON_FIELD_ERRORS]
        assert "version 1 then, 2 now" in changed
        assert title == "Title: it is “theirs” now, and “mine” in this form."
        assert form["title"].value() == "mine"

    def test_what_the_form_does_not_show_is_not_told(self, document):
        form = sent(document)
        overtake(document, title="theirs", price=4)
        assert len(form.errors[NON_FIELD_ERRORS]) == 2
        assert "price" not in str(form.errors).lower()

    def test_sent_again_it_is_written_over_what_was_shown(self, document):
        overtake(document, title="theirs")
        form = sent(document, form=sent(document))
        form.save()
        assert again(document).title == "mine"

    def test_sent_again_it_is_not_written_over_what_was_not_shown(self, document):
        overtake(document, title="theirs")
        shown = sent(document)
        assert not shown.is_valid()
        opened = shown["version"].value()
        overtake(document, title="theirs again")
        assert not DocumentForm({"title": "mine", "version": opened}, instance=again(document)).is_valid()

    def test_another_error_keeps_the_version_that_it_was_opened_with(self, document):
        overtake(document, title="theirs")
        opened = DocumentForm(instance=document)["version"].value()
        form = DocumentForm({"title": "x" * 99, "version": opened}, instance=again(document))
        form.errors.pop(NON_FIELD_ERRORS, None)
        assert form["version"].value() == opened

    @pytest.mark.parametrize("version", ["", "2", "testapp.Document:1:1:forged", None])
    def test_a_version_that_is_missing_or_forged_is_refused(self, document, version):
        form = sent(document, version=version)
        assert form.has_error(NON_FIELD_ERRORS, "version_missing")

    def test_the_version_of_another_row_is_refused(self, document):
        other = Document.objects.create()
        form = sent(document, version=opened_with(other, 1).signed())
        assert form.has_error(NON_FIELD_ERRORS, "version_missing")

    def test_a_row_that_was_deleted_is_told(self, document):
        opened = DocumentForm(instance=document)["version"].value()
        row = again(document)
        row.version = 7
        Document.objects.all().delete()
        form = DocumentForm({"title": "mine", "version": opened}, instance=row)
        assert "It was deleted" in form.errors[NON_FIELD_ERRORS][0]

    def test_a_primary_key_with_a_colon_is_carried(self):
        opened = opened_with(Shelf(code="a:b"), 3)
        assert read_signed(opened.signed()) == opened

    def test_before_there_is_a_row_it_is_empty(self):
        assert DocumentForm()["version"].value() == ""

    def test_in_a_form_of_no_model_it_is_empty(self):
        form = type("Plain", (forms.Form,), {"version": VersionFormField()})
        assert form(initial={"version": 1})["version"].value() == ""

    def test_a_new_row_needs_none(self):
        form = DocumentForm({"title": "new", "version": ""})
        assert form["version"].value() == ""
        assert form.save().version == 1

    @pytest.mark.django_db(transaction=True)
    def test_without_a_transaction_the_database_decides_between_the_check_and_the_save(self, document):
        form = sent(document)
        assert queries_of("default", form.is_valid) == []
        overtake(document)
        with pytest.raises(VersionConflict):
            form.save()

    @pytest.mark.django_db(transaction=True)
    def test_without_a_transaction_who_was_faster_before_is_told(self, document):
        opened = sent(document)
        overtake(document)
        stale = DocumentForm(opened.data, instance=again(document))
        assert stale.has_error(NON_FIELD_ERRORS, "version_conflict")

    @pytest.mark.parametrize("db_alias", ["postgres", "mariadb"], indirect=True)
    @pytest.mark.django_db(transaction=True)
    def test_in_a_transaction_nothing_comes_between_them(self, db_alias):
        document = Document.objects.using(db_alias).create(title="a")

        @transaction.atomic(using=db_alias)
        def touch() -> None:
            Document.objects.using(db_alias).select_for_update(nowait=True).get(pk=document.pk)

        with transaction.atomic(using=db_alias):
            form = sent(document)
            elsewhere(touch)
            assert form.is_valid()
            with pytest.raises(OperationalError):
                elsewhere(touch)
            form.save()
        assert (again(document).title, again(document).version) == ("mine", 2)

    def test_in_a_transaction_who_was_faster_until_then_is_told(self, document):
        form = sent(document)
        overtake(document, title="theirs")
        assert form.errors[NON_FIELD_ERRORS][1] == "Title: it is “theirs” now, and “mine” in this form."
        assert form["version"].value() == opened_with(document, 2).signed()

    def test_full_clean_outside_a_form_asks_nothing(self, document):
        overtake(document)
        document.full_clean()

    def test_full_clean_does_what_djangos_does(self, document):
        document.title = "x" * 99
        with pytest.raises(ValidationError, match="at most 40 characters"):
            document.full_clean()

    def test_a_copy_is_compared_with_nothing(self, document):
        overtake(document, title="theirs")
        document.pk, document._state.adding = None, True
        document.full_clean(exclude=["version"])
