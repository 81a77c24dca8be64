"""The system checks of models with a version."""

from __future__ import annotations

from io import StringIO

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import models
from django.test import override_settings
from django.test.utils import isolate_apps

from django_redislock import LockManager, VersionedModel, VersionField
from django_redislock.versionchecks import check_admins, check_models, faults_of
from tests.testapp import models as testapp


@pytest.fixture(autouse=True)
def isolated():
    with isolate_apps("tests.testapp"):
        yield


def ids(model: type[models.Model]) -> list[str]:
    return [str(message.id).removeprefix("django_redislock.") for message in faults_of(model)]


class Meta:
    app_label = "testapp"


def test_right_models_have_no_fault():
    right = (testapp.Page, testapp.Shelf, testapp.Cabinet, testapp.Account, testapp.Coupon)
    assert [ids(model) for model in right] == [[]] * 5


def test_two_versions_on_one_model():
    two = type("Two", (VersionedModel,), {"other": VersionField(), "Meta": Meta, "__module__": __name__})
    assert ids(two) == ["E031"]


def test_one_on_a_parent_and_one_on_its_child():
    base = type("Parent", (VersionedModel,), {"Meta": Meta, "__module__": __name__})
    child = type("Child", (base,), {"other": VersionField(), "Meta": Meta, "__module__": __name__})
    assert (ids(base), ids(child)) == ([], ["E032"])


def test_one_on_the_child_of_a_model_without():
    base = type("Bare", (models.Model,), {"objects": LockManager(), "Meta": Meta, "__module__": __name__})
    child = type(
        "Child", (base,), {"own": VersionField(), "objects": LockManager(), "Meta": Meta, "__module__": __name__}
    )
    assert ids(child) == ["E032"]


def test_a_default_manager_that_does_not_move_it():
    assert ids(testapp.Document) == ["W033"]


@override_settings(REDISLOCK={"default": {}, "other": {"ON_OUTAGE": "optimistic"}})
def test_a_lock_that_is_to_fall_back_to_a_version_that_is_not_there():
    assert [ids(model) for model in (testapp.Account, testapp.Page, testapp.Ticket)] == [["W034"], [], ["W034"]]


@pytest.mark.parametrize("configured", [None, "default", {"default": None}])
def test_a_wrong_setting_is_another_checks_matter(configured):
    with override_settings(REDISLOCK=configured):
        assert ids(testapp.Account) == []


@pytest.mark.django_db(databases="__all__")
def test_the_check_command_runs_it():
    output = StringIO()
    call_command("check", "testapp", "--tag", "models", stderr=output)
    assert "testapp.Document has a VersionField, but its default manager" in output.getvalue()


def test_it_looks_at_the_apps_that_it_is_asked_about():
    assert [message.obj for message in check_models([apps.get_app_config("testapp")])] == [testapp.Document]
    assert check_models([apps.get_app_config("bank")]) == []


def test_an_admin_that_does_not_look_after_the_version():
    found = {message.obj.__name__: message.id for message in check_admins([apps.get_app_config("testapp")])}
    assert found == {"ModelAdmin": "django_redislock.W035", "PurseAdmin": "django_redislock.W035"}
    assert check_admins([apps.get_app_config("bank")]) == []


def test_without_the_admin_there_is_nothing_to_look_after(monkeypatch):
    monkeypatch.setattr(apps, "is_installed", lambda name: name != "django.contrib.admin")
    assert check_admins() == []


def test_the_check_command_looks_at_the_admins():
    output = StringIO()
    call_command("check", "testapp", "--tag", "admin", stderr=output)
    assert "PurseAdmin of testapp.Purse, which has a VersionField, is not a VersionedAdmin" in output.getvalue()
