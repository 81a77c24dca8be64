"""Which row a primary key means, for every kind of model that the suite has."""

from __future__ import annotations

import enum
import uuid
from contextlib import ExitStack
from decimal import Decimal

import pytest
from django.apps import apps
from django.db import models
from django.db.models import IntegerChoices, TextChoices
from django_redis import get_redis_connection
from hypothesis import given, settings
from hypothesis import strategies as st

from django_redislock.identity import name_of, root_of
from tests.testapp.models import (
    Account,
    AccountProxy,
    Book,
    Country,
    Parcel,
    Pizzeria,
    Place,
    Plan,
    Restaurant,
    Seat,
    Weight,
)

HEX = "12345678123456781234567812345678"
DASHED = "12345678-1234-5678-1234-567812345678"
MODELS = list(apps.get_app_config("testapp").get_models())


class Nation(TextChoices):
    GERMANY = "de", "Germany"


class Language(enum.StrEnum):
    GERMAN = "de"


class First(IntegerChoices):
    ACCOUNT = 7, "Seventh"


@pytest.mark.parametrize(
    ("model", "pk", "name"),
    [
        *((Account, pk, "testapp.Account:7") for pk in (7, "7", "007", " 7 ", 7.0, Decimal(7), First.ACCOUNT)),
        *((Account, pk, "testapp.Account:-1") for pk in (-1, "-1", "-01")),
        (Account, 10**30, f"testapp.Account:{10**30}"),
        *((Country, pk, "testapp.Country:de") for pk in ("de", Nation.GERMANY, Language.GERMAN)),
        *((Country, pk, "testapp.Country:7") for pk in (7, "7")),
        (Country, "DE", "testapp.Country:DE"),
        (Country, "a,b%c:d", "testapp.Country:a,b%c:d"),
        *(
            (Parcel, pk, f"testapp.Parcel:{DASHED}")
            for pk in (HEX, DASHED, DASHED.upper(), f"{{{DASHED}}}", f"urn:uuid:{DASHED}", uuid.UUID(HEX), int(HEX, 16))
        ),
        *((Weight, pk, "testapp.Weight:1") for pk in (1, 1.0, "1", "1.0", "1.000", "01", Decimal("1.00"))),
        *((Weight, pk, "testapp.Weight:0") for pk in (0, "-0", "0.00")),
        *((Weight, pk, "testapp.Weight:100") for pk in (100, "1e2", Decimal("1E+2"))),
        *((Book, pk, "testapp.Book:0306406152") for pk in ("0306406152", "0-306-40615-2", "0 306 40615 2")),
        *((Seat, pk, "testapp.Seat:A,1") for pk in (("A", 1), ["A", "01"], ("A", "1"))),
        (Seat, ("A,1", 1), "testapp.Seat:A%2C1,1"),
        (Seat, ("A%2C1", 1), "testapp.Seat:A%252C1,1"),
        *((Plan, pk, "testapp.Plan:1") for pk in (1, "01")),
    ],
)
def test_all_spellings_of_a_primary_key_have_one_name(model, pk, name):
    assert name_of(model, pk) == name


@pytest.mark.parametrize("model", MODELS)
def test_a_row_read_back_is_named_as_it_was_asked_for(model):
    pk = {Country: "de", Parcel: DASHED, Book: "0306406152", Seat: ("A", 1)}.get(model, "7")
    row = model(pk=model._meta.pk.to_python(pk))
    assert name_of(model, row.pk) == name_of(model, pk)


@pytest.mark.parametrize(
    ("model", "root"),
    [(Account, Account), (AccountProxy, Account), (Place, Place), (Restaurant, Place), (Pizzeria, Place), (Plan, Plan)],
)
def test_models_that_share_a_row_share_its_name(model, root):
    assert root_of(model) is root
    assert name_of(model, "01") == f"testapp.{root.__name__}:1"


def test_a_one_to_one_primary_key_that_is_no_parent_link_is_another_row():
    assert name_of(Plan, 1) != name_of(Account, 1)


def test_an_abstract_model_has_no_rows():
    class Base(models.Model):
        class Meta:
            abstract = True
            app_label = "testapp"

    with pytest.raises(TypeError, match="Base is abstract"):
        name_of(Base, 1)


@pytest.mark.parametrize(
    ("model", "pk", "reason"),
    [
        *((model, None, "it is None") for model in (Account, Country, Parcel, Weight, Book, Plan)),
        *((Account, pk, "must be an integer") for pk in ("x", "", "7.5", float("nan"), [7], {"id": 7}, "9" * 5_000)),
        *((Account, pk, "infinity") for pk in (float("inf"), float("-inf"))),
        *((Plan, pk, "must be an integer") for pk in ("x", "")),
        *((Parcel, pk, "not a valid UUID") for pk in ("1", "", -1, 10**40, float("nan"), HEX[1:])),
        *((Weight, pk, "must be a decimal number") for pk in ("x", "NaN", "sNaN", float("nan"), float("inf"), "")),
        (Seat, ("A", "x"), "must be an integer"),
        (Seat, ("A", None), "it is None"),
        (Seat, (None, None), "it is None"),
        (AccountProxy, "x", "must be an integer"),
        (Pizzeria, "x", "must be an integer"),
    ],
)
def test_a_value_that_cannot_be_a_primary_key_is_no_row(model, pk, reason):
    with pytest.raises(model.DoesNotExist, match=reason) as caught:
        name_of(model, pk)
    assert str(caught.value).startswith(f"No {model._meta.label} has the primary key {pk!r}: ")


@pytest.mark.parametrize("pk", [("A",), ("A", 1, 2), (), None, 5, "A1", {"A": 1, "B": 2}], ids=repr)
def test_a_composite_primary_key_takes_as_many_values_as_it_has_fields(pk):
    with pytest.raises(Seat.DoesNotExist) as caught:
        name_of(Seat, pk)
    assert not {"zip()", "iterable"} & set(str(caught.value).split())


@pytest.mark.parametrize(
    ("model", "pk"),
    [(Account, 10**5_000), (Weight, "1e999999999"), (Country, "\ud800")],
    ids=["integer of 5,001 digits", "decimal out of range", "half a surrogate pair"],
)
@pytest.mark.usefixtures("lock_alias")
def test_a_value_out_of_all_bounds_is_no_row(model, pk):
    with pytest.raises(model.DoesNotExist):
        model.objects.is_locked(pk)


@pytest.mark.django_db
@pytest.mark.parametrize(("model", "pk"), [(Account, "x"), (Seat, ("A",)), (Restaurant, "x"), (Weight, "NaN")])
def test_nothing_is_locked_for_a_row_that_cannot_be(lock_alias, model, pk):
    with ExitStack() as stack, pytest.raises(model.DoesNotExist):
        stack.enter_context(model.objects.locked(pk))
    assert get_redis_connection(lock_alias).keys("*") == []


@settings(deadline=None)
@given(*[st.tuples(st.text(alphabet="ab,%2C", max_size=4), st.integers(0, 30))] * 2)
def test_two_composite_keys_are_two_names(one, other):
    assert (name_of(Seat, one) == name_of(Seat, other)) == (one == other)


@settings(deadline=None)
@given(*[st.decimals(-1000, 1000, places=3)] * 2)
def test_two_decimals_are_two_names(one, other):
    assert (name_of(Weight, one) == name_of(Weight, other)) == (one == other)


@settings(deadline=None)
@given(st.integers(), st.integers(0, 5))
def test_zeros_in_front_do_not_change_a_name(number, zeros):
    spelling = f"{'-' if number < 0 else ''}{'0' * zeros}{abs(number)}"
    assert name_of(Account, spelling) == name_of(Account, number)
