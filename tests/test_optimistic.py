"""Work without a lock: a fresh row, a checked save, and doing it again when another was faster."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.db.transaction import TransactionManagementError, atomic
from redis.connection import Connection

from django_redislock import VersionConflict, clock, lock, retry_on_conflict
from django_redislock.retry import add_note, pauses
from django_redislock.stores.straight import Straight
from tests.flows import peer
from tests.test_versions import again, overtake
from tests.testapp.models import Account, Page

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def using(db_alias: str) -> str:
    return db_alias


@pytest.fixture
def page(using: str) -> Page:
    return Page.objects.using(using).create(number=1, text="a")


@pytest.fixture(autouse=True)
def paused(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were taken; no time passes."""
    taken: list[float] = []
    monkeypatch.setattr(clock, "sleep", taken.append)
    return taken


class TestOptimistic:
    def test_it_gives_a_fresh_row_outside_a_transaction_and_without_redis(self, page, using, monkeypatch):
        for kind in (Connection, Straight):
            monkeypatch.setattr(kind, "send_packed_command", pytest.fail)
        overtake(page, text="b")
        with Page.objects.using(using).optimistic(page.pk) as row:
            assert (row.text, row.version) == ("b", 2)
            assert not connections[using].in_atomic_block
            row.save()
        assert again(page).version == 3

    def test_a_save_that_comes_too_late_is_refused_and_knows_the_base(self, page, using):
        with Page.objects.using(using).optimistic(number=1) as row:
            overtake(page, text="theirs")
            row.text = "mine"
            with pytest.raises(VersionConflict) as caught:
                row.save()
        difference = caught.value.diff()["text"]
        assert (difference.base, difference.theirs, difference.mine) == ("a", "theirs", "mine")

    def test_it_works_in_a_coroutine(self, page, using):
        async def work() -> None:
            async with Page.objects.using(using).optimistic(page.pk) as row:
                row.text = "b"
                await row.asave()

        async_to_sync(work)()
        assert again(page).text == "b"

    def test_it_keeps_nobody_out(self, page, using, lock_alias):
        with Page.objects.using(using).optimistic(page.pk), lock(f"testapp.Page:{page.pk}", nowait=True):
            pass

    def test_a_transaction_around_it_is_refused(self, page, using):
        with (
            atomic(using=using),
            pytest.raises(TransactionManagementError, match=r"Leave atomic\(\)"),
            Page.objects.using(using).optimistic(page.pk),
        ):
            pytest.fail("The body must not run.")

    def test_a_missing_row_is_told(self, using):
        with pytest.raises(Page.DoesNotExist), Page.objects.using(using).optimistic(4711):
            pytest.fail("The body must not run.")

    def test_a_model_without_a_version_is_refused_at_the_call(self):
        with pytest.raises(TypeError, match=r"testapp\.Account has no VersionField"):
            Account.objects.optimistic(1)

    def test_it_says_what_it_is_for(self, page):
        assert repr(Page.objects.optimistic(7)) == "<Optimistic testapp.Page 7>"


class TestRetry:
    def test_it_runs_again_until_it_is_fast_enough(self, page, using, paused):
        @retry_on_conflict()
        def add(words: int) -> int:
            row = Page.objects.using(using).get()
            if len(paused) < 2:
                overtake(row)
            row.words += words
            row.save()
            return row.words

        assert add(5) == again(page).words == 5
        assert len(paused) == 2

    def test_the_last_conflict_is_raised(self, page, paused):
        @retry_on_conflict(attempts=3)
        def late() -> None:
            row = again(page)
            overtake(row)
            row.save()

        with pytest.raises(VersionConflict) as caught:
            late()
        assert caught.value.__notes__ == ["Tried 3 times."]
        assert len(paused) == 2

    def test_other_errors_are_not_tried_again(self, paused):
        @retry_on_conflict()
        def wrong() -> None:
            raise KeyError

        with pytest.raises(KeyError):
            wrong()
        assert not paused

    def test_an_instance_that_is_handed_in_is_fresh_again(self, page):
        @retry_on_conflict()
        def rename(row: Page, text: str) -> None:
            row.text = text
            row.save()

        overtake(page, words=7)
        rename(page, text="b")
        assert (again(page).text, again(page).words) == ("b", 7)

    def test_around_atomic_each_attempt_is_a_transaction_of_its_own(self, page, using, paused):
        @retry_on_conflict()
        def add() -> None:
            with atomic(using=using, durable=True):
                row = again(page)
                if not paused:
                    row.version = 7
                row.words += 1
                row.save()

        add()
        assert again(page).words == 1

    def test_inside_a_transaction_each_attempt_has_a_savepoint(self, page, using, paused):
        @retry_on_conflict()
        def add() -> None:
            Page.objects.using(using).create(number=2)
            row = again(page)
            if not paused:
                row.version = 7
            row.words += 1
            row.save()

        with atomic(using=using):
            add()
        assert again(page).words == 1
        assert Page.objects.using(using).count() == 2

    def test_a_transaction_that_goes_on_reading_old_rows_is_left_alone(self, page, using, paused):
        wrapper = connections[using]
        if wrapper.vendor == "sqlite":
            pytest.skip("SQLite has no other level.")
        level = IsolationLevel.REPEATABLE_READ if wrapper.vendor == "postgresql" else "repeatable read"
        wrapper.close()
        wrapper.settings_dict["OPTIONS"]["isolation_level"] = level
        page.version = 7
        try:
            with pytest.raises(VersionConflict) as caught, atomic(using=using):
                retry_on_conflict()(page.save)()
        finally:
            wrapper.close()
            del wrapper.settings_dict["OPTIONS"]["isolation_level"]
        assert "Put retry_on_conflict() around atomic()" in caught.value.__notes__[0]
        assert not paused

    @pytest.mark.parametrize("attempts", [0, -1, 1.5, True, None])
    def test_a_number_of_attempts_that_cannot_be_is_refused(self, attempts):
        with pytest.raises(ValueError, match="1 at least"):
            retry_on_conflict(attempts)

    def test_one_attempt_is_one(self, page):
        @retry_on_conflict(attempts=1)
        def late() -> None:
            page.version = 7
            page.save()

        with pytest.raises(VersionConflict) as caught:
            late()
        assert caught.value.__notes__ == ["Tried 1 times."]

    def test_where_one_was_asked_for_a_transaction_is_not_blamed(self):
        error = VersionConflict("late")
        add_note(error, 1, in_transaction=True)
        assert error.__notes__ == ["Tried 1 times."]

    def test_it_is_five_where_nothing_is_said(self, page, paused):
        @retry_on_conflict()
        def late() -> None:
            row = again(page)
            overtake(row)
            row.save()

        with pytest.raises(VersionConflict):
            late()
        assert len(paused) == 4

    def test_pauses_grow_twofold_from_ten_milliseconds_to_a_second(self, monkeypatch):
        monkeypatch.setattr("random.uniform", lambda low, high: (low, high))
        bounds = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1, 1]
        expected: list[Any] = [*((0, bound) for bound in bounds), None]
        assert list(pauses(10)) == expected

    def test_pauses_are_random_and_bounded(self):
        *between, last = pauses(20)
        assert last is None
        assert len(set(between)) == 19
        assert all(0 <= pause <= 1 for pause in between if pause is not None)


class TestRetryInACoroutine:
    @pytest.fixture(autouse=True)
    def no_pause(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("random.uniform", lambda low, high: 0)

    def test_it_runs_again(self, page):
        runs = []

        @retry_on_conflict()
        async def rename(row: Page) -> str:
            runs.append(row.version)
            row.text = "b"
            await row.asave()
            return row.text

        overtake(page, words=7)
        assert async_to_sync(rename)(page) == "b"
        assert (runs, again(page).words) == ([1, 2], 7)

    def test_inside_a_transaction_it_does_not(self, page, using):
        @retry_on_conflict()
        async def save() -> None:
            await page.asave()

        page.version = 7
        with pytest.raises(VersionConflict) as caught, atomic(using=using):
            async_to_sync(save)()
        assert "Not tried again" in caught.value.__notes__[0]

    def test_the_last_conflict_is_raised(self, page):
        @retry_on_conflict(attempts=2)
        async def late() -> None:
            row = await sync_to_async(again)(page)
            await sync_to_async(overtake)(row)
            await row.asave()

        with pytest.raises(VersionConflict):
            async_to_sync(late)()


PROCESSES = 8
INCREMENTS = {"postgres": 500}
"""How often each counts. The others show that it is so on them, too."""
FEW = 100
COUNT = """
from django_redislock import retry_on_conflict
from tests.testapp.models import Page

@retry_on_conflict(attempts=10_000)
def count(pk):
    page = Page.objects.using(using).get(pk=pk)
    page.words += 1
    page.save()

using, pk, times = sys.stdin.readline().split()
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(times)):
    count(int(pk))
print("done", flush=True)
"""


@pytest.mark.long
@pytest.mark.timeout(180)
def test_no_increment_is_lost_without_any_lock(page, using, real_redis):
    increments = INCREMENTS.get(using, FEW)
    with ExitStack() as stack:
        people = [stack.enter_context(peer(COUNT)) for _ in range(PROCESSES)]
        for person in people:
            person.tell(f"{using} {page.pk} {increments}")
        assert [person.hear() for person in people] == ["ready"] * PROCESSES
        for person in people:
            person.tell()
        assert [person.hear() for person in people] == ["done"] * PROCESSES
    counted: Any = again(page)
    assert (counted.words, counted.version) == (PROCESSES * increments, PROCESSES * increments + 1)
