"""A task that holds its lock for too long: the next in line has it then, and nothing that either writes is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from queue import Queue
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db.transaction import atomic

from django_redislock import LeaseLost, VersionConflict, get_lease, lock, locked, locked_many, signals
from django_redislock.exceptions import LossReason
from django_redislock.lease import Lease
from tests.flows import elsewhere, is_free, peer, until
from tests.testapp.models import Account, Document

pytestmark = [pytest.mark.usefixtures("real_redis"), pytest.mark.django_db(transaction=True)]

SHORT = 0.05
"""Seconds that a lock is held at most."""


@pytest.fixture
def document(db_alias: str) -> Document:
    """It has a version."""
    return Document.objects.using(db_alias).create()


@pytest.fixture
def account(db_alias: str) -> Account:
    """It has none."""
    return Account.objects.using(db_alias).create(balance=100)


@pytest.fixture
def losses() -> Iterator[Queue[tuple[str, LossReason]]]:
    """The losses that are told."""
    told: Queue[tuple[str, LossReason]] = Queue()

    def hear(lease: Lease, reason: LossReason, **named: Any) -> None:
        told.put((lease.key.name, reason))

    signals.lock_lost.connect(hear)
    yield told
    signals.lock_lost.disconnect(hear)


def rows(instance: Any) -> Any:
    return type(instance).objects.using(instance._state.db)


def be_late(row: Any) -> None:
    """Hold the lock until it is let go."""
    wait_for(get_lease(row).key.name)


def wait_for(key: str) -> None:
    """Until nobody holds it."""
    until(lambda: is_free(key))


class TestWithVersion:
    """The task goes on by the version alone."""

    def test_it_commits_when_nobody_else_has_written(self, document, losses):
        with locked(rows(document), document.pk, max_hold=SHORT) as row:
            be_late(row)
            row.copies += 1
            row.save()
        document.refresh_from_db()
        assert (document.copies, document.version) == (1, 2)

    def test_that_is_said_once(self, document, losses, caplog):
        key = f"testapp.Document:{document.pk}"
        with locked(rows(document), document.pk, max_hold=SHORT) as row:
            be_late(row)
            assert losses.get(timeout=10) == (key, LossReason.MAX_HOLD)
        (record,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
        assert record.getMessage().startswith(f"Let go after max_hold: {key}, held for 0.")
        assert "the version of its row decides" in record.getMessage()
        assert losses.empty()

    @pytest.mark.parametrize("db_alias", ["postgres", "mariadb"], indirect=True)  # SQLite lets nobody write meanwhile
    def test_who_came_meanwhile_wins_and_the_late_one_is_told(self, document):
        with pytest.raises(VersionConflict), locked(rows(document), document.pk, max_hold=SHORT) as row:
            elsewhere(increment, document)
            row.copies += 10
            row.save()
        document.refresh_from_db()
        assert document.copies == 1

    def test_in_somebody_elses_transaction_it_commits_too(self, document):
        with atomic(using=document._state.db):
            with locked(rows(document), document.pk, max_hold=SHORT) as row:
                be_late(row)
                row.copies += 1
                row.save()
        document.refresh_from_db()
        assert document.copies == 1

    def test_of_several_rows_too(self, document):
        with locked_many(rows(document), [document.pk], max_hold=SHORT) as (row,):
            be_late(row)
            row.copies += 1
            row.save()
        document.refresh_from_db()
        assert document.copies == 1

    def test_who_asks_whether_the_lease_holds_is_told_that_it_does_not(self, document):
        with pytest.raises(LeaseLost, match="longer than max_hold"):
            with locked(rows(document), document.pk, max_hold=SHORT) as row:
                be_late(row)
                get_lease(row).ensure_held()

    def test_what_is_lost_for_another_reason_is_rolled_back_all_the_same(self, document):
        with pytest.raises(LeaseLost, match="not renewed in time"), locked(rows(document), document.pk) as row:
            row.copies += 1
            row.save()
            get_lease(row).deadline = 0
        document.refresh_from_db()
        assert document.copies == 0


def increment(document: Document) -> None:
    with locked(rows(document), document.pk, wait=30) as row:
        row.copies += 1
        row.save()


class TestWithoutVersion:
    """The task ends in LeaseLost."""

    def test_it_is_rolled_back(self, account, losses, caplog):
        with pytest.raises(LeaseLost, match="longer than max_hold") as caught:
            with locked(rows(account), account.pk, max_hold=SHORT) as row:
                be_late(row)
                row.balance -= 10
                row.save()
                assert losses.get(timeout=10) == (f"testapp.Account:{account.pk}", LossReason.MAX_HOLD)
        assert caught.value.reason is LossReason.MAX_HOLD
        account.refresh_from_db()
        assert account.balance == 100
        assert "will end in LeaseLost" in caplog.text

    def test_somebody_elses_transaction_is_rolled_back_too(self, account):
        with pytest.raises(LeaseLost, match="longer than max_hold"), atomic(using=account._state.db):
            with locked(rows(account), account.pk, max_hold=0.3) as row:
                row.balance -= 10
                row.save()
            until(lambda: is_free(f"testapp.Account:{account.pk}"))
        account.refresh_from_db()
        assert account.balance == 100

    def test_the_bodys_own_exception_wins_and_is_given_a_note(self, account):
        with pytest.raises(ZeroDivisionError) as caught, locked(rows(account), account.pk, max_hold=SHORT) as row:
            be_late(row)
            raise ZeroDivisionError
        assert "longer than max_hold" in caught.value.__notes__[0]

    def test_a_name_has_none(self):
        with pytest.raises(LeaseLost, match="longer than max_hold"), lock("a", max_hold=SHORT):
            until(lambda: is_free("a"))

    def test_what_it_holds_by_the_setting_is_let_go_as_well(self, settings):
        settings.REDISLOCK = {"default": {"CACHE": "real", "TTL": 2, "MAX_HOLD": 2.5}}
        with pytest.raises(LeaseLost, match="longer than max_hold"), lock("a"):
            until(lambda: is_free("a"))


class TestOnALoop:
    """The same with `async with`, where no transaction is open in the block."""

    def test_with_a_version_it_goes_on(self, document, losses):
        async def work() -> None:
            async with locked(rows(document), document.pk, max_hold=SHORT) as row:
                await in_a_thread(wait_for, get_lease(row).key.name)
                row.copies += 1
                await row.asave()

        async_to_sync(work)()
        document.refresh_from_db()
        assert document.copies == 1
        assert losses.get(timeout=10) == (f"testapp.Document:{document.pk}", LossReason.MAX_HOLD)

    def test_who_came_meanwhile_wins_and_the_late_one_is_told(self, document):
        async def work() -> None:
            async with locked(rows(document), document.pk, max_hold=SHORT) as row:
                await in_a_thread(increment, document)
                row.copies += 10
                await row.asave()

        with pytest.raises(VersionConflict):
            async_to_sync(work)()
        document.refresh_from_db()
        assert document.copies == 1

    def test_without_a_version_nothing_is_saved_and_the_block_ends_in_the_loss(self, account):
        async def work() -> None:
            async with locked(rows(account), account.pk, max_hold=SHORT) as row:
                await in_a_thread(wait_for, get_lease(row).key.name)
                row.balance = 0
                with pytest.raises(LeaseLost, match="longer than max_hold"):
                    await row.asave()

        with pytest.raises(LeaseLost, match="longer than max_hold"):
            async_to_sync(work)()
        account.refresh_from_db()
        assert account.balance == 100


async def in_a_thread(function: Callable[..., Any], *args: Any) -> None:
    """Run it as another flow, whose locks are not this one's."""
    await asyncio.get_running_loop().run_in_executor(None, elsewhere, function, *args)


COUNT_UP = """
import random
from django.db import DatabaseError
from django_redislock import LeaseLost, get_lease, keeping, locked
from tests.flows import until
from tests.testapp.models import Document
{first}
done = late = 0
sys.stdin.readline()
while done < {times}:
    pause = random.uniform(0, 2 * {limit}) if random.random() < {share} else 0
    try:
        with locked(Document.objects.using("{using}"), {pk}, wait=60, **{terms}) as row:
            row.copies += 1
            lease = get_lease(row)
            until(lambda: lease.held_for > pause)
            row.save()
        done += 1
    except (LeaseLost, DatabaseError):
        late += 1
print(done, late, flush=True)
"""
LIMIT = 0.04
EXPIRING = {"ttl": LIMIT}
LET_GO = {"max_hold": LIMIT}
NOT_RENEWED = "keeping.watchdog.ring = lambda at: None"


def count_up(document: Any, *, processes: int, **details: Any) -> tuple[int, int]:
    """Let so many processes count; gives how often that was done and how often it was late."""
    script = COUNT_UP.format(limit=LIMIT, using=document._state.db, pk=document.pk, **details)
    with ExitStack() as stack:
        people = [stack.enter_context(peer(script)) for _ in range(processes)]
        for person in people:
            person.tell()
        outcomes = [tuple(map(int, person.hear().split())) for person in people]
    document.refresh_from_db()
    return sum(done for done, _ in outcomes), sum(late for _, late in outcomes)


@pytest.mark.long
@pytest.mark.parametrize("db_alias", ["postgres", "mariadb"], indirect=True)
@pytest.mark.parametrize(("first", "terms"), [(NOT_RENEWED, EXPIRING), ("", LET_GO)], ids=["expiring", "let go"])
def test_no_increment_is_lost_and_every_late_one_is_told(document, db_alias, first, terms):
    done, late = count_up(document, processes=4, times=6, share=1, first=first, terms=terms)
    assert document.copies == done == 24
    assert late > 0


@pytest.mark.long
@pytest.mark.timeout(180)
@pytest.mark.parametrize("db_alias", ["postgres"], indirect=True)
def test_of_four_thousand_increments_none_is_lost_where_locks_expire(document, db_alias):
    done, late = count_up(document, processes=8, times=500, share=0.02, first=NOT_RENEWED, terms=EXPIRING)
    assert document.copies == done == 4_000
    assert late > 0
