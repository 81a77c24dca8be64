"""The row that a save may write is found as `filter(pk=...)` finds it, and by its version."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db import connections
from django.db.models import Model, Q, QuerySet

from django_redislock.asread import narrow
from django_redislock.versions import VersionField
from tests.testapp.models import Account, Book, Country, Parcel, Plan, Purse, Restaurant, Seat, Shelf, Weight

KEYS: dict[type[Model], Any] = {
    Account: 7,
    Book: "3-540-1",  # its field reads that as 35401
    Country: "ch",
    Parcel: uuid.uuid4(),
    Plan: 7,  # a relation
    Restaurant: 7,  # a relation to the parent's table
    Seat: ("a", 1),
    Weight: "1.500",
}


class Narrowed(QuerySet[Any]):
    """A queryset of the application's own, whose `filter()` does more."""

    def filter(self, *args: Any, **named: Any) -> Any:
        return super().filter(*args, coins__gte=0, **named)


@pytest.fixture
def field() -> VersionField:
    field = VersionField()
    field.set_attributes_from_name("version")
    return field


def where(rows: Any, using: str) -> tuple[str, tuple[Any, ...]]:
    """What stands behind the WHERE, and all parameters."""
    sql, params = rows.query.get_compiler(using).as_sql()
    return sql.partition(" WHERE ")[2], params


@pytest.mark.parametrize("model", KEYS)
def test_a_primary_key_of_any_kind_is_found_as_django_finds_it(field, db_alias, model):
    rows = model._base_manager.using(db_alias)
    expected, params = where(rows.filter(pk=KEYS[model]), db_alias)
    quote = connections[db_alias].ops.quote_name
    narrow(rows, field, 3)
    version = f"{quote(model._meta.db_table)}.{quote('version')} = %s"
    assert where(rows.filter(pk=KEYS[model]), db_alias) == (f"({version} AND {expected})", (3, *params))


def test_the_filter_of_a_queryset_of_the_applications_own_is_called(field):
    rows = Narrowed(Purse, using="default")
    narrow(rows, field, 3)
    assert where(rows.filter(pk=7), "default")[1] == (3, 0, 7)


def test_any_other_question_is_djangos_matter(field):
    with_more, of_another = lambda rows: rows.filter(pk=7, coins=1), lambda rows: rows.filter(coins=1)
    for ask in (with_more, of_another, lambda rows: rows.filter(Q(coins=1), pk=7)):
        rows = Purse._base_manager.using("default")
        narrow(rows, field, 3)
        assert where(ask(rows), "default")[1] == where(ask(Purse._base_manager.filter(version=3)), "default")[1]


def test_without_a_filter_the_version_is_asked_for_all_the_same(field):
    rows = Shelf._base_manager.using("default")
    narrow(rows, field, 3)
    assert where(rows, "default") == ('"testapp_shelf"."version" = %s', (3,))


def test_it_stands_in_once(field):
    rows = Purse._base_manager.using("default")
    narrow(rows, field, 3)
    found = rows.filter(pk=7)
    assert found is rows
    assert where(found.filter(pk=8), "default")[1] == (3, 7, 8)
    assert where(found, "default")[1] == (3, 7)
