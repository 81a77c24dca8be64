"""How what is locked is named: one name for equal keys, and no name for two."""

from __future__ import annotations

import datetime
import enum
import uuid
from dataclasses import FrozenInstanceError
from decimal import Decimal, localcontext

import pytest
from django.db.models import IntegerChoices, TextChoices
from hypothesis import given, settings
from hypothesis import strategies as st

from django_redislock.keys import BUCKETS, Key, bucket_of, row_key, spell


class Size(enum.StrEnum):
    SMALL = "s"


class Colour(TextChoices):
    RED = "r", "Red"


class Grade(IntegerChoices):
    GOOD = 7, "Good"


class Rank(enum.IntEnum):
    FIRST = 7


EAST = datetime.timezone(datetime.timedelta(hours=9))
WEST = datetime.timezone(datetime.timedelta(hours=-4, minutes=-30))
MOMENT = datetime.datetime(2026, 3, 1, 12, 30, tzinfo=datetime.UTC)

whole_numbers = st.integers()
decimals = st.builds("{}e-{}".format, st.integers(-200, 200) | whole_numbers, st.integers(0, 4)).map(Decimal)
moments = st.datetimes(
    min_value=datetime.datetime(1900, 1, 1),  # noqa: DTZ001 - the strategy adds the zone
    max_value=datetime.datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([datetime.UTC, EAST, WEST]),
)
pairs = st.one_of(
    *(st.tuples(values, values) for values in (st.text(), whole_numbers, decimals, moments, st.uuids(), st.binary()))
)
composites = st.integers(2, 3).flatmap(
    lambda size: st.tuples(*[st.tuples(*[st.text(alphabet="ab,%2C5", max_size=6)] * size)] * 2)
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (42, "42"),
        (-1, "-1"),
        ("de", "de"),
        ("", ""),
        (Size.SMALL, "s"),
        (Colour.RED, "r"),
        (Grade.GOOD, "7"),
        (Rank.FIRST, "7"),
        (Decimal("1.50"), "1.5"),
        (Decimal("1e3"), "1000"),
        (Decimal("-0.00"), "0"),
        (MOMENT, "2026-03-01T12:30:00+00:00"),
        (datetime.date(2026, 3, 1), "2026-03-01"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (b"\x00\xff", "00ff"),
    ],
)
def test_a_value_is_spelt(value, text):
    assert (spell(value), type(spell(value))) == (text, str)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Decimal("1.0"), Decimal("1.00")),
        (Decimal(100), Decimal("1e2")),
        (Decimal(0), Decimal("-0.0")),
        (MOMENT, MOMENT.astimezone(EAST)),
        (b"key", bytearray(b"key")),
        (b"key", memoryview(b"key")),
        ("s", Size.SMALL),
        ("r", Colour.RED),
        (7, Grade.GOOD),
        (0.0, -0.0),
    ],
)
def test_equal_values_have_one_spelling(one, other):
    assert one == other
    assert spell(one) == spell(other)


def test_the_threads_decimal_context_does_not_change_a_spelling():
    value = Decimal("1234567.89")
    with localcontext(prec=3):
        spelt_elsewhere = spell(value)
    assert spelt_elsewhere == spell(value)


def test_decimals_of_many_digits_are_told_apart():
    assert spell(Decimal(10**30 + 1)) != spell(Decimal(10**30 + 2))


@settings(deadline=None)
@given(pairs)
def test_values_are_spelt_alike_only_when_they_are_equal(pair):
    one, other = pair
    assert (spell(one) == spell(other)) == (one == other)


@settings(deadline=None)
@given(composites)
def test_composite_keys_share_a_name_only_when_they_are_equal(pair):
    one, other = pair
    assert (row_key("app.Row", one) == row_key("app.Row", other)) == (one == other)


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ((42,), "bank.Account:42"),
        (("a,b%c",), "bank.Account:a,b%c"),
        (("A", 1), "bank.Account:A,1"),
        (("a,b", "c%"), "bank.Account:a%2Cb,c%25"),
        (("", ""), "bank.Account:,"),
    ],
)
def test_a_row_is_named_by_its_model_and_primary_key(parts, name):
    assert row_key("bank.Account", parts) == name


def test_a_key_reads_as_its_name():
    assert str(Key("bank.Account:42")) == "bank.Account:42"


def test_keys_are_values():
    assert Key("a") == Key("a") != Key("b")
    with pytest.raises(FrozenInstanceError):
        Key("a").name = "b"  # type: ignore[misc]


@pytest.mark.parametrize(("name", "bucket"), [("bank.Account:42", 60), ("nightly-import", 41), ("größe", 9)])
def test_the_bucket_of_a_name_never_changes(name, bucket):
    """Two releases that disagree about it would not exclude each other."""
    assert (bucket_of(name), BUCKETS) == (bucket, 64)


def test_names_spread_over_all_buckets():
    assert {bucket_of(f"bank.Account:{number}") for number in range(2_000)} == set(range(BUCKETS))
