"""The lock outlives the transaction that was worked in under it, however that ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from decimal import Decimal
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from django.core.cache import caches
from django.db import IntegrityError, OperationalError, connections, transaction
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.db.transaction import TransactionManagementError, atomic
from redis.connection import Connection

from django_redislock import LeaseLost, LockNotHeld, clock, lock, locked, signals
from django_redislock.exceptions import LossReason
from django_redislock.rows import RowLock
from django_redislock.stores.straight import Straight
from django_redislock.transactions import connections_here, open_connections
from tests.flows import elsewhere, is_free
from tests.testapp.models import Account, Plan

pytestmark = pytest.mark.django_db(transaction=True)


def forbidden() -> None:
    raise AssertionError("The body must not run.")


class Oops(Exception):
    """What a body raises."""


@pytest.fixture(autouse=True)
def empty_redis() -> None:
    caches["default"].clear()


@pytest.fixture
def using(db_alias: str) -> str:
    return db_alias


@pytest.fixture
def account(using: str) -> Account:
    return Account.objects.using(using).create(name="a", balance=100)


@pytest.fixture
def key(account: Account) -> str:
    return f"testapp.Account:{account.pk}"


@pytest.fixture
def row(account: Account, using: str) -> Callable[[], Any]:
    """The lock on the account."""
    return partial(Account.objects.using(using).locked, account.pk)


def committed(account: Account) -> Decimal:
    """The balance that other connections see."""
    return elsewhere(lambda: Account.objects.using(account._state.db).get(pk=account.pk).balance)


def withdraw(account: Account) -> None:
    account.balance -= 10
    account.save()


class TestAlone:
    """`locked()` that is not inside another transaction."""

    def test_what_was_written_is_committed_when_the_lock_is_released(self, row, account):
        seen = []

        def look(**kwargs: Any) -> None:
            seen.append(committed(account))

        signals.lock_released.connect(look)
        try:
            with row() as fresh:
                withdraw(fresh)
        finally:
            signals.lock_released.disconnect(look)
        assert seen == [90]

    def test_the_row_is_read_after_the_lock_was_acquired(self, row, account):
        def overtake(**kwargs: Any) -> None:
            elsewhere(withdraw, account)

        signals.lock_acquired.connect(overtake)
        try:
            with row() as fresh:
                assert fresh.balance == 90
        finally:
            signals.lock_acquired.disconnect(overtake)

    def test_the_body_runs_in_a_transaction_inside_the_lock(self, row, key, using):
        with row():
            assert connections[using].in_atomic_block
            assert not is_free(key)
        assert not connections[using].in_atomic_block
        assert is_free(key)

    def test_an_exception_rolls_back_and_releases(self, row, key, account):
        with pytest.raises(Oops), row() as fresh:
            withdraw(fresh)
            raise Oops
        assert committed(account) == 100
        assert is_free(key)

    def test_set_rollback_rolls_back_and_releases(self, row, key, account, using):
        with row() as fresh:
            withdraw(fresh)
            transaction.set_rollback(True, using=using)
        assert committed(account) == 100
        assert is_free(key)

    def test_a_commit_that_fails_releases(self, row, key, using):
        if not connections[using].features.can_defer_constraint_checks:
            pytest.skip("This database checks constraints at once, so that COMMIT cannot fail.")
        with pytest.raises(IntegrityError), row():
            Plan.objects.using(using).create(account_id=4711)
        assert is_free(key)

    def test_without_atomic_no_transaction_is_opened(self, row, key, account, using):
        with pytest.raises(Oops), row(atomic=False) as fresh:
            assert not connections[using].in_atomic_block
            withdraw(fresh)
            raise Oops
        assert committed(account) == 90
        assert is_free(key)

    def test_a_missing_row_leaves_nothing_locked(self, using):
        with pytest.raises(Account.DoesNotExist), Account.objects.using(using).locked(4711):
            raise AssertionError("The body must not run.")
        assert not connections[using].in_atomic_block
        assert is_free("testapp.Account:4711")

    def test_a_lock_that_is_gone_where_no_row_is_found_is_logged(self, using, monkeypatch, caplog):
        def lose(*args: Any) -> None:
            caches["default"].clear()
            forbidden()

        monkeypatch.setattr(RowLock, "_begin", lose)
        with pytest.raises(AssertionError, match="must not run"):
            Account.objects.using(using).locked(4711).__enter__()
        assert "Known only when it was given back" in caplog.text

    def test_autocommit_switched_off_by_hand_is_refused(self, row, key, using):
        transaction.set_autocommit(False, using=using)
        try:
            for enter in (row().__enter__, row().acquire):
                with pytest.raises(TransactionManagementError, match="released before the commit"):
                    enter()
        finally:
            transaction.set_autocommit(True, using=using)
        assert is_free(key)


class TestLostLease:
    """A lease that ends before COMMIT."""

    @pytest.fixture
    def late(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
        """Lets a minute pass."""
        return lambda: monkeypatch.setattr(clock, "now", lambda now=clock.now: now() + 60)

    def test_it_is_told_after_a_rollback(self, row, key, account, late):
        with pytest.raises(LeaseLost, match=key) as caught, row() as fresh:
            withdraw(fresh)
            late()
        assert caught.value.key == key
        assert committed(account) == 100

    def test_the_bodys_own_exception_wins_and_is_given_a_note(self, row, late):
        with pytest.raises(Oops) as caught, row():
            late()
            raise Oops
        assert "was lost" in caught.value.__notes__[0]

    def test_the_signal_is_sent_once(self, row, late):
        told = []
        receiver = lambda lease, **kwargs: told.append(lease.state)
        signals.lock_lost.connect(receiver)
        try:
            with pytest.raises(LeaseLost), row(), row():
                late()
        finally:
            signals.lock_lost.disconnect(receiver)
        assert told == ["lost"]

    def test_another_owner_that_came_meanwhile_keeps_the_lock(self, row, key, late):
        with pytest.raises(LeaseLost), row():
            late()
            caches["default"].clear()
            successor = lock(key)
            elsewhere(successor.acquire)
        assert not is_free(key)

    def test_a_loss_that_is_known_only_after_the_commit_does_not_read_as_a_rollback(self, row, account, caplog):
        with row() as fresh:
            withdraw(fresh)
            caches["default"].clear()
        assert committed(account) == 90
        assert "Known only after the commit" in caplog.text


class TestInsideATransaction:
    """`locked()` in an `atomic()` of the caller: ATOMIC_REQUESTS, or a service function around it."""

    def test_the_release_waits_for_the_commit(self, row, key, using):
        with atomic(using=using):
            with row() as fresh:
                withdraw(fresh)
            assert not is_free(key)
        assert is_free(key)

    def test_the_release_waits_for_the_rollback(self, row, key, using):
        with pytest.raises(Oops), atomic(using=using):
            with row() as fresh:
                withdraw(fresh)
            assert not is_free(key)
            raise Oops
        assert is_free(key)

    def test_the_release_waits_for_set_rollback(self, row, key, using):
        with atomic(using=using):
            with row():
                transaction.set_rollback(True, using=using)
            assert not is_free(key)
            transaction.set_rollback(True, using=using)
        assert is_free(key)

    def test_a_durable_transaction_is_waited_for_too(self, row, key, using):
        with atomic(using=using, durable=True):
            with row():
                pass
            assert not is_free(key)
        assert is_free(key)

    def test_a_durable_block_inside_is_refused_by_django_and_nothing_stays_locked(self, row, key, using):
        with pytest.raises(RuntimeError, match="durable"), row(), atomic(using=using, durable=True):
            raise AssertionError("The body must not run.")
        assert is_free(key)

    def test_it_is_entered_again_after_it_was_left(self, row, key, using):
        with atomic(using=using):
            with row():
                pass
            with row(nowait=True) as fresh:
                withdraw(fresh)
            assert not is_free(key)
        assert is_free(key)

    def test_a_body_that_failed_was_rolled_back_so_it_releases_at_once(self, row, key, account, using):
        with atomic(using=using):
            with pytest.raises(Oops), row() as fresh:
                withdraw(fresh)
                raise Oops
            assert is_free(key)
        assert committed(account) == 100

    def test_a_body_that_failed_without_a_savepoint_of_its_own_waits(self, row, key, using):
        with atomic(using=using):
            with pytest.raises(Oops), row(atomic=False) as fresh:
                withdraw(fresh)
                raise Oops
            assert not is_free(key)
        assert is_free(key)

    def test_the_rollback_of_a_savepoint_frees_what_was_acquired_in_it(self, row, key, using):
        with atomic(using=using):
            with pytest.raises(Oops), atomic(using=using):
                with row():
                    pass
                assert not is_free(key)
                raise Oops
            assert is_free(key)

    def test_the_end_of_a_savepoint_frees_nothing(self, row, key, using):
        with atomic(using=using):
            with atomic(using=using), row():
                pass
            assert not is_free(key)
        assert is_free(key)

    def test_the_rollback_of_a_savepoint_keeps_what_was_acquired_before_it(self, row, key, using):
        with atomic(using=using):
            with row():
                pass
            with pytest.raises(Oops), atomic(using=using):
                with row():
                    pass
                raise Oops
            assert not is_free(key)
        assert is_free(key)

    def test_a_hook_that_fails_before_does_not_keep_the_lock(self, row, key, using):
        def fail() -> None:
            raise Oops

        with pytest.raises(Oops), atomic(using=using):
            transaction.on_commit(fail, using=using)
            with row():
                pass
        assert is_free(key)

    def test_redis_away_at_the_end_is_logged_and_the_commit_stands(self, row, account, using, monkeypatch, caplog):
        with atomic(using=using):
            with row() as fresh:
                withdraw(fresh)
                for kind in (Connection, Straight):
                    monkeypatch.setattr(kind, "send_packed_command", refuse)
        assert "stays taken until its ttl" in caplog.text
        assert committed(account) == 90


class TestALossInsideATransaction:
    """A lease that is lost between the end of its block and the COMMIT of the transaction around it."""

    @pytest.fixture
    def late(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
        """Lets a minute pass."""
        return lambda: monkeypatch.setattr(clock, "now", lambda now=clock.now: now() + 60)

    def test_the_commit_is_refused_and_all_of_it_rolled_back(self, row, key, account, using, late, caplog):
        with pytest.raises(LeaseLost, match=key) as caught, atomic(using=using):
            with row() as fresh:
                withdraw(fresh)
            late()
        assert caught.value.reason is LossReason.EXPIRED
        assert committed(account) == 100
        assert is_free(key)
        assert caplog.text == ""

    def test_the_connection_is_as_it_was(self, row, using, late):
        with pytest.raises(LeaseLost), atomic(using=using):
            with row():
                pass
            late()
        wrapper = connections[using]
        assert (wrapper.in_atomic_block, wrapper.get_autocommit(), wrapper.run_on_commit) == (False, True, [])
        assert "commit" not in vars(wrapper)

    def test_functions_that_wait_for_the_commit_are_not_called(self, row, using, late):
        called: list[int] = []
        with pytest.raises(LeaseLost), atomic(using=using):
            transaction.on_commit(lambda: called.append(1), using=using)
            with row():
                pass
            late()
        assert called == []

    def test_the_exception_of_the_outer_body_wins(self, row, using, late):
        with pytest.raises(Oops), atomic(using=using):
            with row():
                pass
            late()
            raise Oops

    def test_the_commit_of_an_outer_lock_is_refused_too(self, row, account, using, late):
        other = Account.objects.using(using).create(balance=100)
        with pytest.raises(LeaseLost, match=f"testapp.Account:{account.pk} "):
            with Account.objects.using(using).locked(other.pk, ttl=300) as outer:
                withdraw(outer)
                with row(ttl=30) as fresh:
                    withdraw(fresh)
                late()
        assert [committed(account), committed(other)] == [100, 100]
        assert is_free(f"testapp.Account:{other.pk}")

    def test_what_was_released_by_hand_is_looked_at_as_well(self, row, using, late):
        by_hand = row()
        with pytest.raises(LeaseLost), atomic(using=using):
            by_hand.acquire()
            by_hand.release()
            late()

    def test_a_loss_in_a_savepoint_that_was_rolled_back_does_not_count(self, row, account, using, late):
        with atomic(using=using):
            Account.objects.using(using).filter(pk=account.pk).update(balance=90)
            with pytest.raises(Oops), atomic(using=using):
                with row():
                    pass
                late()
                raise Oops
        assert committed(account) == 90
        assert "commit" not in vars(connections[using])

    def test_the_rollback_of_an_inner_savepoint_forgets_nothing(self, row, account, using, late):
        with pytest.raises(LeaseLost), atomic(using=using):
            with row() as fresh:
                withdraw(fresh)
            with pytest.raises(Oops), atomic(using=using), row():
                raise Oops
            late()
        assert committed(account) == 100

    def test_what_stood_in_for_the_commit_before_is_there_again(self, row, account, using, monkeypatch):
        wrapper, called = connections[using], []
        commit = wrapper.commit

        def note() -> None:
            called.append(1)
            commit()

        monkeypatch.setitem(vars(wrapper), "commit", note)
        with atomic(using=using), row() as fresh:
            withdraw(fresh)
        assert (called, vars(wrapper)["commit"]) == ([1], note)
        assert committed(account) == 90

    def test_a_connection_that_cannot_roll_back_is_closed(self, row, account, using, late, monkeypatch):
        wrapper = connections[using]

        def fail() -> None:
            raise OperationalError("The server has gone away.")

        with pytest.raises(LeaseLost), atomic(using=using):
            with row() as fresh:
                withdraw(fresh)
            late()
            monkeypatch.setattr(wrapper, "_rollback", fail)
        monkeypatch.undo()
        assert committed(account) == 100

    def test_a_loss_that_nobody_knows_of_before_the_commit_is_logged(self, row, account, using, caplog):
        with atomic(using=using):
            with row() as fresh:
                withdraw(fresh)
            caches["default"].clear()
        assert "Known only after the transaction had ended" in caplog.text
        assert committed(account) == 90


def refuse(*args: Any, **kwargs: Any) -> None:
    raise redis.ConnectionError("No server here.")


class TestByHand:
    """`acquire()` and `release()` across the bounds of transactions."""

    def test_acquired_before_and_released_inside_waits_for_the_commit(self, row, key, using):
        by_hand = row()
        by_hand.acquire()
        with atomic(using=using):
            by_hand.release()
            assert not is_free(key)
        assert is_free(key)

    def test_released_in_a_savepoint_that_is_rolled_back_still_waits_for_the_whole(self, row, key, using):
        by_hand = row()
        by_hand.acquire()
        with atomic(using=using):
            with pytest.raises(Oops), atomic(using=using):
                by_hand.release()
                raise Oops
            assert not is_free(key)
        assert is_free(key)

    def test_what_was_released_inside_is_not_released_again(self, row, using):
        by_hand = row()
        by_hand.acquire()
        with atomic(using=using):
            by_hand.release()
            with pytest.raises(LockNotHeld):
                by_hand.release()


class TestNames:
    """`lock("name")` belongs to no database, so it waits for all transactions that are open."""

    def test_the_release_waits_for_the_commit(self, using):
        with atomic(using=using):
            with lock("import"):
                pass
            assert not is_free("import")
        assert is_free("import")

    def test_outside_a_transaction_it_is_released_at_the_end_of_the_block(self, using):
        with lock("import"), atomic(using=using):
            pass
        assert is_free("import")


@pytest.mark.django_db(transaction=True, databases=["default", "postgres"])
@pytest.mark.parametrize("db_alias", ["postgres"], indirect=True)
class TestTwoDatabases:
    def test_a_name_waits_for_both(self, db_alias):
        with atomic():
            with atomic(using=db_alias):
                with lock("import"):
                    pass
                assert not is_free("import")
            assert not is_free("import")
        assert is_free("import")

    def test_a_row_waits_for_its_own_database_only(self, db_alias):
        account = Account.objects.using(db_alias).create()
        with atomic():
            with locked(account):
                pass
            assert is_free(f"testapp.Account:{account.pk}")


class TestPinnedSnapshot:
    """A transaction that goes on reading what it saw first."""

    @pytest.fixture
    def pinned(self, using: str) -> Iterator[None]:
        """A connection in REPEATABLE READ."""
        wrapper = connections[using]
        if wrapper.vendor == "sqlite":
            pytest.skip("SQLite refuses the write instead.")
        level = IsolationLevel.REPEATABLE_READ if wrapper.vendor == "postgresql" else "repeatable read"
        wrapper.close()
        wrapper.settings_dict["OPTIONS"]["isolation_level"] = level
        yield
        wrapper.close()
        del wrapper.settings_dict["OPTIONS"]["isolation_level"]

    def test_an_old_row_is_never_given(self, row, account, using, pinned):
        refused = pytest.raises(OperationalError, match="concurrent update")
        with atomic(using=using):
            assert Account.objects.using(using).get(pk=account.pk).balance == 100
            elsewhere(withdraw, account)
            with refused if using == "postgres" else nullcontext(), row() as fresh:
                assert fresh.balance == 90


class TestWhereOneLooks:
    """For transactions: at the connections of the thread, and on a loop at those of the task, as Django has them."""

    def test_in_a_thread(self):
        seen = elsewhere(self.look)
        assert seen == ([], ["default"])

    def test_on_a_loop(self, monkeypatch):
        monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        seen = elsewhere(lambda: [asyncio.run(self.look_on_a_loop()), self.look()])
        assert seen == [([], ["default"])] * 2

    @pytest.mark.parametrize("storage", [None, object()])
    def test_where_they_are_kept_otherwise(self, monkeypatch, storage):
        keeper = SimpleNamespace(_storage=storage)
        monkeypatch.setattr(connections, "_connections", keeper)
        assert self.look() == ([], ["default"])

    def look(self) -> tuple[list[str], list[str]]:
        """What is there before the first query, and after it."""
        before = connections_here()
        with atomic():
            after = open_connections()
            assert connections_here() == connections.all(initialized_only=True)
        assert open_connections() == []
        connections["default"].close()
        return [one.alias for one in before], [one.alias for one in after]

    async def look_on_a_loop(self) -> tuple[list[str], list[str]]:
        return self.look()
