"""`locked(pk)` in all its forms: which row is locked, which row is given."""

from __future__ import annotations

import uuid
from typing import Any, assert_type

import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from django.core.exceptions import FieldError, MultipleObjectsReturned
from django.db import connections
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext

from django_redislock import LockBusy, LockManager, LockNotHeld, get_lease, lock, locked, signals
from django_redislock.rows import RowLock, Selected
from django_redislock.stores.straight import Straight
from testproject.bank.models import Account as BankAccount
from tests.flows import client_of, elsewhere, is_free
from tests.testapp.models import (
    Account,
    AccountProxy,
    Book,
    Country,
    Coupon,
    Parcel,
    Pizzeria,
    Place,
    Plan,
    Restaurant,
    Seat,
    Ticket,
    Weight,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def empty_redis() -> None:
    caches["default"].clear()


@pytest.fixture
def account() -> Account:
    return Account.objects.create(name="a", balance=100)


def forbidden() -> None:
    raise AssertionError("The body must not run.")


class TestForms:
    def test_a_model_of_another_app(self):
        user = User.objects.create(username="ada")
        with locked(User, user.pk) as row:
            assert row == user
            assert not is_free(f"auth.User:{user.pk}")

    def test_a_queryset_and_a_manager_as_argument(self, account):
        with locked(Account.objects, account.pk) as row, locked(Account.objects.all(), name="a") as same:
            assert row == same

    def test_a_related_manager(self, account):
        ticket = account.tickets.create()
        with account.tickets.locked(ticket.pk) as row:
            assert row == ticket
        with pytest.raises(Ticket.DoesNotExist), Account.objects.create().tickets.locked(ticket.pk):
            forbidden()

    def test_a_manager_from_a_queryset_of_the_application(self, account):
        ticket = Ticket.objects.create(account=account)
        with Ticket.objects.open().locked(ticket.pk) as row:
            assert row == ticket

    def test_a_manager_from_a_queryset_that_knows_nothing_of_locks(self, account):
        class Plain(QuerySet[Any]):
            def rich(self) -> Any:
                return self.filter(balance__gt=10)

        manager = LockManager.from_queryset(Plain)()
        manager.model = Account
        with manager.rich().locked(account.pk) as row, manager.locked(account.pk) as same:
            assert row == same == account

    def test_the_types_are_kept(self, account: Account) -> None:
        assert_type(Account.objects.filter(name="a").locked(account.pk), RowLock[Account])
        with Account.objects.locked(account.pk) as row, locked(account) as same:
            assert_type(row, Account)
            assert_type(same, Account)

    def test_as_manager(self):
        coupon = Coupon.objects.create()
        with Coupon.objects.locked(coupon.pk) as row:
            assert row == coupon


class TestTheRow:
    def test_a_row_that_no_longer_matches_once_it_is_locked_does_not_exist(self, account):
        def overtake(**kwargs: Any) -> None:
            Account.objects.update(name="b")

        signals.lock_acquired.connect(overtake)
        try:
            with pytest.raises(Account.DoesNotExist), Account.objects.locked(name="a"):
                forbidden()
        finally:
            signals.lock_acquired.disconnect(overtake)
        assert is_free(f"testapp.Account:{account.pk}")

    def test_select_related_is_honoured(self, account, django_assert_num_queries):
        ticket = Ticket.objects.create(account=account)
        with Ticket.objects.select_related("account").locked(ticket.pk) as row, django_assert_num_queries(0):
            assert row.account == account

    def test_it_costs_one_query_beside_the_transaction(self, account):
        with CaptureQueriesContext(connections["default"]) as queries, Account.objects.locked(account.pk):
            pass
        assert [query["sql"].split()[0] for query in queries] == ["SAVEPOINT", "SELECT", "RELEASE"]

    def test_no_order_is_asked_for_where_there_is_one_row(self):
        account = BankAccount.objects.create(number="1", owner="a", balance=1)
        with CaptureQueriesContext(connections["default"]) as queries, BankAccount.objects.locked(account.pk):
            pass
        assert "ORDER BY" not in queries[1]["sql"]

    def test_a_lookup_that_finds_several_is_an_error(self, account):
        Account.objects.create(name="a")
        with pytest.raises(MultipleObjectsReturned), Account.objects.locked(name="a"):
            forbidden()


class TestTheSameRow:
    """Two ways to the same row are one lock."""

    def test_spellings_of_a_number(self, account):
        with Account.objects.locked(f"00{account.pk}"):
            assert Account.objects.is_locked(account.pk)

    def test_spellings_of_a_uuid(self):
        parcel = Parcel.objects.create(id=uuid.UUID("12345678123456781234567812345678"))
        with Parcel.objects.locked("12345678123456781234567812345678") as row:
            assert row == parcel
            assert Parcel.objects.is_locked("{12345678-1234-5678-1234-567812345678}")

    def test_a_proxy(self, account):
        with AccountProxy.objects.locked(account.pk) as row:
            assert type(row) is AccountProxy
            assert Account.objects.is_locked(account.pk)

    def test_parent_and_children(self):
        pizzeria = Pizzeria.objects.create(name="p")
        with Pizzeria.objects.locked(pizzeria.pk) as row:
            assert row == pizzeria
            assert Place.objects.is_locked(pizzeria.pk)
            assert Restaurant.objects.is_locked(pizzeria.pk)

    def test_a_relation_as_primary_key_is_another_row(self, account):
        plan = Plan.objects.create(account=account)
        with Plan.objects.locked(plan.pk):
            assert not Account.objects.is_locked(account.pk)

    def test_a_composite_key(self):
        seat = Seat.objects.create(row="A", number=7)
        with Seat.objects.locked(("A", "7")) as row:
            assert row == seat
            assert Seat.objects.is_locked(("A", 7))
            assert not Seat.objects.is_locked(("A", 8))

    def test_a_field_of_the_application(self):
        Book.objects.create(isbn="3-16-148410-X")
        with Book.objects.locked("316148410X") as row:
            assert row.isbn == "316148410X"
            assert Book.objects.is_locked("3 16 148410 X")

    def test_digits_after_the_point(self):
        Weight.objects.create(grams="1.5")
        with Weight.objects.locked("1.500"):
            assert Weight.objects.is_locked("1.50")


@pytest.mark.parametrize("db_alias", ["mariadb"], indirect=True)
class TestCollation:
    """MariaDB compares text without regard to case: what was asked for may not be what the row says."""

    def test_the_rows_own_spelling_counts(self, db_alias):
        countries = Country.objects.using(db_alias)
        countries.create(code="de")
        with countries.locked("DE") as row:
            assert row.code == "de"
            assert not is_free("testapp.Country:de")
            assert is_free("testapp.Country:DE")
        assert is_free("testapp.Country:de")

    def test_two_spellings_exclude_each_other(self, db_alias):
        countries = Country.objects.using(db_alias)
        countries.create(code="de")
        with lock("testapp.Country:de"):
            assert elsewhere(lambda: self.refused(lock("testapp.Country:de", nowait=True)))
            with countries.locked("DE") as row, countries.locked("de", nowait=True) as same:
                assert row == same

    @staticmethod
    def refused(guard: Any) -> bool:
        try:
            with guard:
                return False
        except LockBusy:
            return True


class TestMistakes:
    def test_an_instance_that_is_not_saved(self):
        with pytest.raises(ValueError, match="not saved yet"):
            locked(Account())
        with pytest.raises(ValueError, match="not saved yet"):
            locked(Parcel())  # has its primary key already

    @pytest.mark.parametrize("arguments", [(), (None,)])
    def test_no_primary_key(self, arguments):
        with pytest.raises(ValueError, match="primary key of a saved Account or a lookup"):
            Account.objects.locked(*arguments)

    def test_a_primary_key_and_a_lookup(self, account):
        with pytest.raises(ValueError, match="one of the two"):
            Account.objects.locked(account.pk, name="a")

    @pytest.mark.parametrize("pk", ["abc", 1.5j, object(), 2**80, float("nan")])
    def test_what_cannot_be_a_primary_key_does_not_exist(self, pk):
        with pytest.raises(Account.DoesNotExist), Account.objects.locked(pk):
            forbidden()
        assert client_of("default").keys("*lock*:lock:*") == []

    def test_an_instance_for_a_primary_key(self, account):
        with pytest.raises(TypeError, match="use the function locked"):
            Account.objects.locked(account)

    def test_a_primary_key_beside_an_instance(self, account):
        with pytest.raises(TypeError, match="no other primary key"):
            locked(account, 7)

    def test_something_else(self):
        with pytest.raises(TypeError, match="a model, a manager, a queryset or an instance"):
            locked("testapp.Account", 7)  # type: ignore[call-overload]

    def test_a_field_that_does_not_exist_is_told_at_the_call(self):
        with pytest.raises(FieldError, match="colour"):
            Account.objects.locked(colour="red")

    @pytest.mark.parametrize("call", [Account.objects.locked, lambda *a, **k: locked(Account, *a, **k)])
    def test_the_words_of_other_libraries(self, call):
        with pytest.raises(TypeError, match=r"ttl= .* or wait="):
            call(7, timeout=5)

    def test_the_words_of_other_libraries_beside_an_instance(self, account):
        with pytest.raises(TypeError, match="nowait="):
            locked(account, blocking=False)

    def test_values_have_no_row_to_save(self, account):
        with pytest.raises(TypeError, match="values"):
            Account.objects.values("name").locked(account.pk)  # type: ignore[attr-defined]

    def test_a_slice_is_not_looked_into(self, account):
        with pytest.raises(TypeError, match="before you take a slice"):
            Account.objects.all()[:3].locked(account.pk)

    def test_a_negative_ttl(self, account):
        with pytest.raises(ValueError, match="ttl must be between"):
            Account.objects.locked(account.pk, ttl=-1)


class TestLeases:
    def test_the_lease_of_a_row_is_found_by_its_instance(self, account):
        with locked(account):
            lease = get_lease(account)
            assert lease.key.name == f"testapp.Account:{account.pk}"
            assert lease.fence > 0
            lease.ensure_held()

    def test_without_a_lock_there_is_none(self, account):
        with pytest.raises(LockNotHeld, match="not held by this thread or task"):
            get_lease(account)

    def test_by_hand_no_row_is_read_and_no_transaction_opened(self, account, django_assert_num_queries):
        guard = Account.objects.locked(account.pk)
        with django_assert_num_queries(0):
            lease = guard.acquire()
        assert lease.key.name == f"testapp.Account:{account.pk}"
        guard.release()
        assert is_free(f"testapp.Account:{account.pk}")

    def test_a_row_that_is_not_held_is_named(self, account):
        with pytest.raises(LockNotHeld, match=r"<RowLock testapp\.Account 1> is not held by this thread or task"):
            Account.objects.locked(1).release()
        with pytest.raises(LockNotHeld, match=r"<RowLock testapp\.Account of a lookup>"):
            Account.objects.locked(name="a").release()

    def test_an_instance_that_is_not_held_is_named(self, account):
        with pytest.raises(LockNotHeld, match=f"<RowLock testapp.Account {account.pk}>"):
            locked(account).release()


class TestOverlap:
    """The queryset of the row is made while Redis answers."""

    def test_it_is_made_once_and_before_the_answer_is_there(self, account, monkeypatch):
        events = []
        select, read = Selected.select, Straight.read_answer

        def note_select(self: Selected[Any], pk: Any) -> Any:
            events.append("select")
            return select(self, pk)

        def note_read(self: Straight) -> Any:
            events.append("answer")
            return read(self)

        Account.objects.is_locked(account.pk)  # the connection is there, the scripts are known
        with locked(account):
            pass
        monkeypatch.setattr(Selected, "select", note_select)
        monkeypatch.setattr(Straight, "read_answer", note_read)
        with Account.objects.locked(account.pk):
            assert events == ["select", "answer"]

    def test_what_it_raises_leaves_nothing_locked(self, account, monkeypatch):
        monkeypatch.setattr(Selected, "select", lambda *args: forbidden())
        with pytest.raises(AssertionError, match="must not run"), Account.objects.locked(account.pk):
            forbidden()
        assert is_free(f"testapp.Account:{account.pk}")


class TestNesting:
    def test_entering_again_reads_afresh_in_a_savepoint(self, account):
        with locked(account) as outer:
            with pytest.raises(ValueError, match="inner"), Account.objects.locked(account.pk) as inner:
                inner.balance = 1
                inner.save()
                raise ValueError("inner")
            outer.refresh_from_db()
            assert outer.balance == 100
            assert not is_free(f"testapp.Account:{account.pk}")

    def test_two_rows(self, account):
        other = Account.objects.create(name="b")
        # Else fakeredis' refusal of a script that it does not know would keep the frames, and so the end of the
        # transaction in a test case, until the next collection.
        assert is_free(f"testapp.Account:{other.pk}")
        with locked(account), locked(other):
            assert not is_free(f"testapp.Account:{account.pk}")
            assert not is_free(f"testapp.Account:{other.pk}")
        assert is_free(f"testapp.Account:{other.pk}")
