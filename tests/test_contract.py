"""What a lock promises to those who use it: the same for threads, for tasks, and for tasks on uvloop."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any
from weakref import ref

import pytest
import redis
from django.core.cache import caches

from django_redislock import (
    Deadlock,
    LeaseLost,
    LockBusy,
    LockNotHeld,
    StoreUnavailable,
    WaitTimeout,
    get_lease,
    lock,
    lock_many,
    locked,
    locked_many,
)
from django_redislock.exceptions import LossReason
from django_redislock.forcing import force_release
from tests.faces import Face
from tests.testapp.models import Account, Document

pytestmark = pytest.mark.usefixtures("lock_alias")

NAMES = ["c", "a", "b"]
ROWS = pytest.mark.django_db(transaction=True)
FOR_LONG = 0.05
"""Seconds after which a lock is let go."""


def forbidden() -> None:
    raise AssertionError("The body must not run.")


def no_connection(*args: Any, **kwargs: Any) -> None:
    raise redis.ConnectionError("No server here.")


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Takes the server away."""
    name = "django_redislock.stores.redis.RedisStore._evaluating"
    return lambda: monkeypatch.setattr(name, staticmethod(no_connection))


class TestUse:
    async def test_a_lock_that_was_given_back_is_gone_before_the_next_collection(self, face):
        """What a test case does at the end of a transaction hangs on that."""
        guards = [lock("a"), lock("a")]
        for guard in guards:
            async with face.within(guard):
                pass
        kept = ref(guards.pop())  # the first one has told the server the scripts
        del guard
        assert kept() is None

    async def test_the_block_gives_the_lease_and_gives_it_back(self, face):
        async with face.within(lock("a")) as lease:
            assert lease.state == "held"
            assert 0 < lease.remaining <= 30
            assert not await face.is_free("a")
        assert lease.state == "released"
        assert lease.remaining == 0
        assert await face.is_free("a")

    async def test_a_lease_that_was_given_back_says_so(self, face):
        async with face.within(lock("a")) as lease:
            pass
        with pytest.raises(LeaseLost, match="has been given back"):
            lease.ensure_held()

    async def test_an_exception_passes_through_and_releases(self, face):
        with pytest.raises(ValueError, match="body"):
            async with face.within(lock("a")):
                raise ValueError("body")
        assert await face.is_free("a")

    async def test_by_hand(self, face):
        guard = lock("a")
        lease = await face.call(guard, "acquire", wait=0)
        assert lease.key.name == "a"
        await face.call(guard, "release")
        assert await face.is_free("a")

    async def test_what_is_not_held_cannot_be_given_back(self, face):
        with pytest.raises(LockNotHeld, match="not held by this thread or task"):
            await face.call(lock("a"), "release")

    async def test_the_lease_is_extended(self, face):
        async with face.within(lock("a", ttl=5)) as lease:
            await face.call(lease, "extend", 60)
            assert lease.remaining > 50
            assert (await face.call(lock("a"), "info")).remaining > 50

    async def test_who_holds_it_is_known_to_everyone(self, face):
        async with face.within(lock("a")) as lease:
            info = await face.elsewhere(face.call, lock("a"), "info")
        assert (info.key, info.fence, info.holder.thread) == ("a", lease.fence, "MainThread")
        assert abs(info.since - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=1)
        assert await face.call(lock("a"), "info") is None

    async def test_fences_grow(self, face):
        fences = []
        for _ in range(3):
            async with face.within(lock("a")) as lease:
                fences.append(lease.fence)
        assert 0 < fences[0] < fences[1] < fences[2]


class TestReentry:
    async def test_who_holds_it_enters_again_and_has_the_same_lease(self, face):
        async with face.within(lock("a")) as outer:
            async with face.within(lock("a", nowait=True)) as inner:
                assert inner is outer
            assert not await face.is_free("a")
        assert await face.is_free("a")

    async def test_it_costs_no_question(self, face, away):
        async with face.within(lock("a")):
            away()
            async with face.within(lock("a")):
                pass

    async def test_what_one_flow_holds_the_others_do_not(self, face):
        async with face.within(lock("a")):
            assert await face.elsewhere(face.attempt, lock("a", nowait=True)) == "busy"

    async def test_what_outlives_the_block_is_released_with_its_own_end(self, face):
        guard = lock("a")
        async with face.within(lock("a")):
            await face.call(guard, "acquire")
        assert not await face.is_free("a")
        await face.call(guard, "release")
        assert await face.is_free("a")


class TestRefusals:
    async def test_not_waiting_says_who_holds_it(self, face):
        async with face.held_by_another(lock("a")):
            with pytest.raises(
                LockBusy, match=r"^a is held by \S+ pid \d+ .* for \d+\.\d s; not waited for"
            ) as refused:
                await face.call(lock("a", nowait=True), "acquire")
        assert type(refused.value) is LockBusy
        assert refused.value.key == "a"
        assert refused.value.holder.pid

    async def test_waiting_in_vain_says_for_how_long(self, face):
        async with face.held_by_another(lock("a")):
            with pytest.raises(WaitTimeout, match=r"waited 0\.05 s"):
                await face.call(lock("a", wait=datetime.timedelta(milliseconds=50)), "acquire")
            assert await face.waiters_of("a") == 0

    async def test_the_wait_of_acquire_overrides_that_of_the_lock(self, face):
        async with face.held_by_another(lock("a")):
            with pytest.raises(LockBusy, match="not waited for"):
                await face.call(lock("a", wait=60), "acquire", wait=0)

    async def test_the_wait_of_the_setting_counts_otherwise(self, face, settings):
        settings.REDISLOCK = {"default": settings.REDISLOCK["default"] | {"WAIT": 0}}
        async with face.held_by_another(lock("a")):
            with pytest.raises(LockBusy, match="not waited for"):
                await face.call(lock("a"), "acquire")

    async def test_the_token_is_in_no_text(self, face):
        async with face.within(lock("a")) as lease:
            with pytest.raises(LockBusy) as refused:
                await face.elsewhere(face.call, lock("a", nowait=True), "acquire")
        assert lease.token not in f"{lease!r} {refused.value} {vars(refused.value)}"


class TestWaiting:
    async def test_first_come_first_served(self, face):
        order: list[int] = []

        async def take(number: int) -> None:
            async with face.within(lock("a", wait=30)):
                order.append(number)

        async with face.held_by_another(lock("a")):
            people = []
            for number in range(5):
                people.append(face.begin(take, number))
                await face.until_waiting("a", number + 1)
        for person in people:
            await person
        assert order == [0, 1, 2, 3, 4]

    async def test_nobody_is_inside_with_another(self, face):
        inside: list[int] = []

        async def take(number: int) -> None:
            for _ in range(5):
                async with face.within(lock("a", wait=30)):
                    inside.append(number)
                    await face.pause()
                    assert inside == [number]
                    inside.clear()

        for person in [face.begin(take, number) for number in range(6)]:
            await person

    async def test_for_ever_is_until_it_is_free(self, face):
        async with face.held_by_another(lock("a")):
            waiter = face.begin(face.attempt, lock("a", wait=None))
            await face.until_waiting("a")
        assert await waiter == "entered"

    async def test_what_a_holder_that_vanished_has_left_goes_to_the_first_in_line(self, face, lock_alias):
        guard = lock("a", ttl=0.3)
        await face.elsewhere(face.call, guard, "acquire")
        guard._entries.clear()  # nobody has it in hand any more, so it is not renewed
        assert await face.attempt(lock("a", wait=30)) == "entered"

    async def test_waiting_in_a_circle_is_refused_and_names_it(self, face):
        async def hold_b_and_want_a() -> None:
            async with face.within(lock("b")), face.within(lock("a", wait=30)):
                pass

        async with face.within(lock("a")):
            other = face.begin(hold_b_and_want_a)
            await face.until_waiting("a")
            with pytest.raises(Deadlock, match="Waiting for b would never end") as refused:
                await face.call(lock("b", wait=30), "acquire")
        await other
        assert [edge.key for edge in refused.value.edges] == ["b", "a"]
        assert await face.is_free("b")


class TestLoss:
    async def test_a_lease_that_is_gone_is_told_at_the_end_of_the_block(self, face, lock_alias):
        with pytest.raises(LeaseLost, match="another may hold it now"):
            async with face.within(lock("a")):
                caches[lock_alias].clear()

    async def test_the_bodys_own_exception_wins(self, face, lock_alias):
        with pytest.raises(ValueError, match="body") as caught:
            async with face.within(lock("a")):
                caches[lock_alias].clear()
                raise ValueError("body")
        assert "was lost" in caught.value.__notes__[0]

    async def test_releasing_by_hand_what_is_gone_is_told(self, face, lock_alias):
        guard = lock("a")
        await face.call(guard, "acquire")
        caches[lock_alias].clear()
        with pytest.raises(LockNotHeld, match="nobody holds it now"):
            await face.call(guard, "release")

    async def test_extending_what_is_gone_is_told_and_brings_nothing_back(self, face, lock_alias):
        with pytest.raises(LeaseLost):
            async with face.within(lock("a")) as lease:
                caches[lock_alias].clear()
                with pytest.raises(LockNotHeld):
                    await face.call(lease, "extend")
                assert lease.state == "lost"
                assert await face.is_free("a")

    async def test_extending_what_another_holds_is_told(self, face, lock_alias):
        with pytest.raises(LeaseLost):
            async with face.within(lock("a")) as lease:
                caches[lock_alias].clear()
                async with face.held_by_another(lock("a")):
                    with pytest.raises(LockNotHeld, match="another holds it now"):
                        await face.call(lease, "extend")

    async def test_what_is_lost_is_not_entered_again(self, face, lock_alias):
        with pytest.raises(LeaseLost):
            async with face.within(lock("a")) as outer:
                caches[lock_alias].clear()
                outer.lose(LossReason.STORE_RESTARTED)
                async with face.within(lock("a")) as inner:
                    assert inner is not outer

    async def test_what_was_taken_away_by_force_is_told(self, face):
        with pytest.raises(LeaseLost, match="by force"):
            async with face.within(lock("a")) as lease:
                info = await face.blocking(force_release, "a")
                assert (info.key, info.fence) == ("a", lease.fence)
                assert await face.is_free("a")

    async def test_by_hand_as_well(self, face):
        guard = lock("a")
        lease = await face.call(guard, "acquire")
        await face.blocking(force_release, "a")
        with pytest.raises(LockNotHeld, match="released by force"):
            await face.call(lease, "extend")
        with pytest.raises(LockNotHeld, match="released by force"):
            await face.call(guard, "release")

    async def test_who_waits_first_gets_what_was_taken_away(self, face):
        with pytest.raises(LeaseLost):
            async with face.within(lock("a")):
                waiter = face.begin(face.attempt, lock("a", wait=30))
                await face.until_waiting("a")
                await face.blocking(force_release, "a")
                assert await waiter == "entered"

    async def test_what_is_held_for_too_long_is_let_go(self, face):
        with pytest.raises(LeaseLost, match="longer than max_hold") as caught:
            async with face.within(lock("a", max_hold=FOR_LONG)):
                await until_free(face, "a")
        assert caught.value.reason is LossReason.MAX_HOLD


async def until_free(face: Face, name: str) -> None:
    async def free() -> bool:
        return await face.is_free(name)

    await face.until(free)


class TestRedisAway:
    async def test_acquiring_never_reads_as_busy(self, face, away):
        away()
        with pytest.raises(StoreUnavailable, match="nobody knows who holds it") as caught:
            async with face.within(lock("a")):
                forbidden()
        assert isinstance(caught.value.__cause__, redis.ConnectionError)
        assert caught.value.key == "a"

    async def test_a_body_that_is_done_stays_done(self, face, away, caplog):
        async with face.within(lock("a")):
            away()
        assert "stays taken until its ttl of 30 s" in caplog.text

    async def test_releasing_by_hand_tells(self, face, away):
        guard = lock("a")
        await face.call(guard, "acquire")
        away()
        with pytest.raises(StoreUnavailable):
            await face.call(guard, "release")

    async def test_of_several_all_are_named(self, face, away):
        away()
        with pytest.raises(StoreUnavailable, match="about a and 2 more"):
            async with face.within(lock_many(NAMES, nowait=True)):
                forbidden()


class TestSeveral:
    async def test_the_leases_come_in_the_order_asked_for(self, face):
        async with face.within(lock_many([*NAMES, "a"])) as leases:
            assert [lease.key.name for lease in leases] == [*NAMES, "a"]
            assert leases[1] is leases[3]
            assert not any([await face.is_free(name) for name in NAMES])
        assert all([await face.is_free(name) for name in NAMES])

    async def test_none_of_none(self, face, away):
        away()
        async with face.within(lock_many([])) as leases:
            assert leases == []

    async def test_without_waiting_it_is_all_or_nothing(self, face):
        async with face.held_by_another(lock_many(["b", "c"])):
            with pytest.raises(LockBusy, match=r"b is held by .*; c by .*not waited for") as refusal:
                async with face.within(lock_many(NAMES, nowait=True)):
                    forbidden()
            assert refusal.value.key == "b"
            assert await face.is_free("a")

    async def test_a_wait_that_is_over_leaves_nothing(self, face):
        async with face.held_by_another(lock("b")):
            with pytest.raises(WaitTimeout, match="b is held"):
                async with face.within(lock_many(NAMES, wait=0.05)):
                    forbidden()
            assert await face.is_free("a")
            assert await face.waiters_of("b") == 0

    async def test_who_waits_is_let_on_by_the_release(self, face):
        async def take() -> list[str]:
            async with face.within(lock_many(NAMES, wait=30)) as leases:
                for lease in leases:
                    lease.ensure_held()
                return [lease.key.name for lease in leases]

        async with face.held_by_another(lock("b")):
            taken = face.begin(take)
            await face.until_waiting("b")
            assert not await face.is_free("a")
            assert await face.is_free("c")
        assert await taken == NAMES

    async def test_a_cycle_is_refused_and_gives_back(self, face):
        async def hold_b_and_want_z() -> None:
            async with face.within(lock("b")), face.within(lock("z", wait=30)):
                pass

        async with face.within(lock("z")):
            other = face.begin(hold_b_and_want_z)
            await face.until_waiting("z")
            with pytest.raises(Deadlock, match="Waiting for b would never end"):
                async with face.within(lock_many(NAMES, wait=30)):
                    forbidden()
            assert await face.is_free("a")
        await other

    async def test_what_is_held_is_entered_again(self, face):
        async with face.within(lock("a")) as outer:
            async with face.within(lock_many(["b", "a"])) as (_, again):
                assert again is outer
            assert not await face.is_free("a")
            assert await face.is_free("b")
        assert await face.is_free("a")

    async def test_what_many_hold_is_entered_again(self, face):
        async with face.within(lock_many(NAMES)) as leases:
            async with face.within(lock("a")) as lease:
                assert lease is leases[1]
            assert not await face.is_free("a")

    async def test_one_that_outlives_the_block_is_released_with_its_own_end(self, face):
        guard = lock("a")
        async with face.within(lock_many(NAMES)):
            await face.call(guard, "acquire")
        assert [await face.is_free(name) for name in NAMES] == [True, False, True]
        await face.call(guard, "release")
        assert await face.is_free("a")

    async def test_a_lease_that_is_lost_is_told_and_the_others_are_given_back(self, face):
        with pytest.raises(LeaseLost, match=r"lease on b was lost .* by force"):
            async with face.within(lock_many(NAMES)):
                await face.blocking(force_release, "b")
                assert not await face.is_free("a")
        assert all([await face.is_free(name) for name in NAMES])

    async def test_a_loss_is_noted_on_the_exception_of_the_body(self, face, lock_alias):
        with pytest.raises(ValueError, match="body") as raised:
            async with face.within(lock_many(NAMES)):
                caches[lock_alias].clear()
                raise ValueError("body")
        assert "was lost" in raised.value.__notes__[0]

    async def test_one_can_be_extended_alone(self, face):
        async with face.within(lock_many(NAMES, ttl=10)) as leases:
            await face.call(leases[0], "extend", 60)
            assert leases[0].remaining > 50 > leases[1].remaining

    async def test_those_that_are_free_come_in_the_order_asked_for(self, face):
        async with face.held_by_another(lock("a")):
            async with face.within(lock_many(NAMES, skip_locked=True)) as leases:
                assert [lease.key.name for lease in leases] == ["c", "b"]
            async with face.within(lock_many([*NAMES, "d"], skip_locked=True, limit=2)) as leases:
                assert [lease.key.name for lease in leases] == ["c", "b"]
                assert await face.is_free("d")

    async def test_what_is_held_counts(self, face):
        async with face.within(lock("b")) as outer:
            async with face.within(lock_many(NAMES, skip_locked=True, limit=2)) as leases:
                assert [lease.key.name for lease in leases] == ["c", "b"]
                assert outer in leases

    async def test_that_none_is_free_is_no_error(self, face):
        async with face.held_by_another(lock_many(NAMES)):
            async with face.within(lock_many(NAMES, skip_locked=True)) as leases:
                assert leases == []


@pytest.fixture
def account() -> Account:
    return Account.objects.create(name="a", balance=100)


@pytest.fixture
def document() -> Document:
    """It has a version."""
    return Document.objects.create()


@ROWS
class TestRows:
    async def test_a_row_is_read_after_it_was_locked(self, face, account):
        async with face.within(Account.objects.locked(account.pk)) as row:
            assert row == account
            assert row is not account
            assert await face.call(Account.objects, "is_locked", account.pk)
            row.balance -= 10
            await face.call(row, "save")
        assert not await face.call(Account.objects, "is_locked", account.pk)
        await face.call(account, "refresh_from_db")
        assert account.balance == 90

    async def test_an_instance_is_refreshed_in_place(self, face, account):
        await face.call(Account.objects, "update", balance=50)
        async with face.within(locked(account)) as row:
            assert row is account
            assert account.balance == 50

    async def test_a_lookup_finds_the_row(self, face, account):
        async with face.within(Account.objects.locked(name="a")) as row:
            assert row == account
            assert not await face.is_free(f"testapp.Account:{account.pk}")

    async def test_what_is_not_there_is_not_locked(self, face, account):
        with pytest.raises(Account.DoesNotExist):
            async with face.within(Account.objects.locked(account.pk + 1)):
                forbidden()
        assert await face.is_free(f"testapp.Account:{account.pk + 1}")

    async def test_filters_are_honoured_and_leave_nothing_locked(self, face, account):
        with pytest.raises(Account.DoesNotExist):
            async with face.within(Account.objects.filter(balance__gt=100).locked(account.pk)):
                forbidden()
        assert await face.is_free(f"testapp.Account:{account.pk}")

    async def test_an_instance_whose_row_is_gone_does_not_exist(self, face, account):
        await face.call(Account.objects.all(), "delete")
        with pytest.raises(Account.DoesNotExist):
            async with face.within(locked(account)):
                forbidden()
        assert await face.is_free(f"testapp.Account:{account.pk}")

    async def test_who_holds_a_row_is_told(self, face, account):
        assert await face.call(Account.objects, "lock_info", account.pk) is None
        async with face.within(locked(account)):
            info = await face.call(Account.objects, "lock_info", account.pk)
            assert (info.key, info.fence) == (f"testapp.Account:{account.pk}", get_lease(account).fence)

    async def test_the_lease_of_a_row_is_its_flows(self, face, account):
        async with face.within(locked(account)):
            assert get_lease(account).fence > 0
            with pytest.raises(LockNotHeld):
                await face.elsewhere(lease_of, account)
        with pytest.raises(LockNotHeld):
            get_lease(account)

    async def test_by_hand_a_lookup_is_resolved_and_no_row_is_read(self, face, account):
        guard = Account.objects.locked(name="a")
        lease = await face.call(guard, "acquire")
        assert (await face.call(guard, "info")).fence == lease.fence
        await face.call(guard, "release")
        assert await face.call(guard, "info") is None

    async def test_several_rows_come_in_the_order_asked_for(self, face, account):
        other = await face.call(Account.objects, "create", name="b")
        async with face.within(Account.objects.locked_many([other.pk, account.pk, str(other.pk)])) as rows:
            assert rows == [other, account, other]
            assert rows[0] is rows[2]
            assert [get_lease(row).key.name for row in rows[:2]] == [f"testapp.Account:{row.pk}" for row in rows[:2]]
        assert not await face.call(Account.objects, "is_locked", other.pk)

    async def test_the_rows_that_are_missing_are_named_and_nothing_is_locked(self, face, account):
        with pytest.raises(Account.DoesNotExist, match="primary key 998, 999"):
            async with face.within(locked_many(Account, [998, account.pk, 999])):
                forbidden()
        assert not await face.call(Account.objects, "is_locked", account.pk)

    async def test_those_that_are_free(self, face, account):
        other = await face.call(Account.objects, "create", name="b")
        async with face.held_by_another(lock(f"testapp.Account:{account.pk}")):
            pks = [account.pk, other.pk, 999, "abc"]
            async with face.within(Account.objects.locked_many(pks, skip_locked=True)) as rows:
                assert rows == [other]

    async def test_nothing_is_saved_after_a_loss_that_is_known(self, face, account):
        with pytest.raises(LeaseLost):
            async with face.within(Account.objects.locked(account.pk)) as row:
                row.balance = 0
                get_lease(row).lose(LossReason.FORCED)
                await face.call(row, "save")
        await face.call(account, "refresh_from_db")
        assert account.balance == 100

    async def test_a_name_that_spells_a_row_is_that_rows_lock(self, face, account):
        async with face.within(lock(f"testapp.Account:{account.pk}")):
            assert await face.call(Account.objects, "is_locked", account.pk)


async def lease_of(row: Any) -> Any:
    return get_lease(row)


@ROWS
class TestHeldForTooLong:
    """The next in line has the row, and nothing that either writes is lost."""

    async def test_with_a_version_it_goes_on_by_that(self, face, document):
        async with face.within(locked(Document, document.pk, max_hold=FOR_LONG)) as row:
            await until_free(face, get_lease(row).key.name)
            row.copies += 1
            await face.call(row, "save")
        await face.call(document, "refresh_from_db")
        assert (document.copies, document.version) == (1, 2)

    async def test_of_several_rows_too(self, face, document):
        async with face.within(locked_many(Document, [document.pk], max_hold=FOR_LONG)) as (row,):
            await until_free(face, get_lease(row).key.name)
            row.copies += 1
            await face.call(row, "save")
        await face.call(document, "refresh_from_db")
        assert document.copies == 1

    async def test_without_a_version_nothing_is_saved_and_the_block_ends_in_the_loss(self, face, account):
        with pytest.raises(LeaseLost, match="longer than max_hold"):
            async with face.within(locked(Account, account.pk, max_hold=FOR_LONG)) as row:
                await until_free(face, get_lease(row).key.name)
                row.balance = 0
                await face.call(row, "save")
        await face.call(account, "refresh_from_db")
        assert account.balance == 100
