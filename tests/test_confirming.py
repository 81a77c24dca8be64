"""A holder whose lock is taken away does not commit, and the next in line does not begin before that is sure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction

from django_redislock import LeaseLost, StoreUnavailable, clock, confirming, get_lease, lock, locked_many
from django_redislock.forcing import Seized, force_release, hand_over, seize
from django_redislock.lease import CONFIDENCE, LeaseState
from django_redislock.stores.base import Answer, Renewal
from django_redislock.stores.redis import RedisStore
from tests.conftest import PAUSE
from tests.flows import attempt, elsewhere, is_free, until
from tests.testapp.models import Account

pytestmark = [pytest.mark.usefixtures("lock_alias"), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def account() -> Account:
    return Account.objects.create(balance=100)


@pytest.fixture
def name(account: Account) -> str:
    return f"testapp.Account:{account.pk}"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many leases each of the questions was about."""
    found: list[int] = []
    renew_many = RedisStore.renew_many

    def note(store: RedisStore, renewals: Sequence[Renewal], *, within: float) -> list[Answer]:
        found.append(len(renewals))
        return renew_many(store, renewals, within=within)

    monkeypatch.setattr(RedisStore, "renew_many", note)
    return found


@pytest.fixture
def doubting(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short it is, no confirmation counts."""
    monkeypatch.setattr(confirming, "CONFIDENCE", 0.0)


@pytest.fixture
def confident(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is, the confirmation still counts."""
    monkeypatch.setattr(confirming, "CONFIDENCE", 60.0)


def unavailable(*args: Any, **named: Any) -> None:
    raise StoreUnavailable("away")


def balance_of(account: Account) -> Decimal:
    account.refresh_from_db()
    return account.balance


def spend(row: Account) -> None:
    row.balance -= 10
    row.save()


@pytest.mark.usefixtures("patient_operators")
def test_an_operator_waits_for_longer_than_a_confirmation_counts(name):
    elsewhere(lock(name).acquire)
    began = clock.now()
    force_release(name)
    assert clock.now() - began >= PAUSE


def test_a_confirmation_counts_for_less_time_than_an_operator_waits():
    assert CONFIDENCE * 2 < PAUSE


class TestCommits:
    @pytest.mark.usefixtures("patient_operators")
    def test_who_was_forced_out_rolls_back(self, account, name):
        with pytest.raises(LeaseLost, match="released by force"), Account.objects.locked(account.pk) as row:
            spend(row)
            force_release(name)
            assert attempt(name) == "entered"
        assert balance_of(account) == 100

    def test_in_the_transaction_of_somebody_else_too(self, account, name, doubting):
        with pytest.raises(LeaseLost, match="released by force"), transaction.atomic():
            with Account.objects.locked(account.pk) as row:
                spend(row)
            force_release(name)
        assert balance_of(account) == 100

    def test_of_several_rows_one_is_enough(self, account, doubting):
        other = Account.objects.create(balance=100)
        with (
            pytest.raises(LeaseLost, match=f"Account:{other.pk} "),
            locked_many(Account, [account.pk, other.pk]) as rows,
        ):
            for row in rows:
                spend(row)
            force_release(f"testapp.Account:{other.pk}")
        assert [balance_of(account), balance_of(other)] == [100, 100]

    def test_without_a_transaction_the_save_is_refused(self, account, name, doubting):
        with pytest.raises(LeaseLost), Account.objects.locked(account.pk, atomic=False) as row:
            spend(row)
            force_release(name)
            with pytest.raises(LeaseLost, match="released by force"):
                spend(row)
        assert balance_of(account) == 90

    def test_what_was_confirmed_a_moment_ago_is_committed_before_the_next_one_begins(self, account, name, confident):
        with Account.objects.locked(account.pk) as row:
            spend(row)
            seized = seize(name)
        assert isinstance(seized, Seized)
        assert balance_of(account) == 90
        assert not is_free(name)
        hand_over([seized])
        assert is_free(name)

    def test_the_bodys_own_exception_wins(self, account, name):
        with pytest.raises(ZeroDivisionError), Account.objects.locked(account.pk):
            force_release(name)
            raise ZeroDivisionError


class TestOperators:
    def test_what_one_takes_away_another_one_leaves_alone(self, name):
        elsewhere(lock(name).acquire)
        seized = seize(name)
        assert seized is not None
        assert force_release(name) is None
        hand_over([seized])
        assert is_free(name)

    def test_one_who_cannot_hand_over_says_when_it_is_free(self, name, monkeypatch, caplog):
        elsewhere(lock(name).acquire)
        seized = seize(name)
        assert seized is not None
        monkeypatch.setattr(RedisStore, "release", unavailable)
        hand_over([seized])
        assert f"Not handed over, and free in 10 s: {name}. away" in caplog.text

    def test_what_is_not_handed_over_is_free_after_a_while(self, name, monkeypatch):
        elsewhere(lock(name).acquire)
        monkeypatch.setattr("django_redislock.forcing.TTL", 0.2)
        assert seize(name) is not None
        until(lambda: is_free(name))


class TestQuestions:
    def test_what_was_confirmed_a_moment_ago_is_not_asked_about(self, account, asked, confident):
        with Account.objects.locked(account.pk) as row:
            spend(row)
        assert asked == []

    def test_what_is_rolled_back_is_not_asked_about(self, account, asked, doubting):
        with pytest.raises(ZeroDivisionError), Account.objects.locked(account.pk):
            raise ZeroDivisionError
        assert asked == []

    def test_a_savepoint_is_not_asked_about(self, account, asked, doubting):
        with transaction.atomic():
            with Account.objects.locked(account.pk) as row:
                spend(row)
            assert asked == []
        assert asked == [1]

    def test_several_leases_are_asked_about_at_once(self, account, asked, doubting):
        other = Account.objects.create()
        with locked_many(Account, [account.pk, other.pk]):
            pass
        assert asked == [2]

    def test_an_answer_counts_as_a_renewal(self, account, doubting):
        with transaction.atomic(), Account.objects.locked(account.pk, atomic=False) as row:
            lease = get_lease(row)
            assert lease is not None
            before = lease.deadline
            spend(row)
            assert lease.deadline > before
            assert lease.confirmed_at > lease.acquired_at

    def test_a_forked_child_does_not_ask(self, account, asked, doubting, monkeypatch):
        with Account.objects.locked(account.pk) as row:
            lease = get_lease(row)
            assert lease is not None
            with monkeypatch.context() as patch:
                patch.setattr(os, "getpid", lambda: lease.pid + 1)
                confirming.confirm([lease])
        assert asked == [1]

    def test_where_the_store_cannot_be_asked_the_deadline_decides(self, account, doubting, monkeypatch):
        with Account.objects.locked(account.pk) as row:
            spend(row)
            monkeypatch.setattr(RedisStore, "renew_many", unavailable)
        assert balance_of(account) == 90

    def test_it_is_in_doubt_meanwhile(self, account, doubting, monkeypatch):
        with Account.objects.locked(account.pk, atomic=False) as row:
            lease = get_lease(row)
            assert lease is not None
            states = []
            for renew_many in (unavailable, RedisStore.renew_many):
                monkeypatch.setattr(RedisStore, "renew_many", renew_many)
                spend(row)
                states.append(lease.state)
            assert states == [LeaseState.UNKNOWN, LeaseState.HELD]
