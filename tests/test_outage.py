"""Redis away: rows with versions go on by these where that is asked for; all others are told, and no body runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.apps import apps
from django.contrib.auth.models import User
from django.db import transaction

from django_redislock import (
    LockBusy,
    LockNotHeld,
    StoreUnavailable,
    VersionConflict,
    get_lease,
    lock,
    lock_many,
    locked,
    locked_many,
)
from django_redislock.checks import check_outages
from django_redislock.signals import store_unavailable
from tests.faults import Proxy, proxy_to
from tests.flows import elsewhere, peer
from tests.pages import text_of
from tests.servers import Redis
from tests.settings import cache
from tests.testapp.models import Account, AccountProxy, Purse, Ticket

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def redis(real_redis: str, settings: Any) -> Iterator[Proxy]:
    """A Redis that can go away; the alias "bold" goes on without."""
    with proxy_to(settings.CACHES[real_redis]["LOCATION"]) as proxy:
        settings.CACHES = {**settings.CACHES, "locks": cache(f"redis://{proxy.address}/0", socket_timeout=5)}
        settings.REDISLOCK = {"default": {"CACHE": "locks"}, "bold": {"CACHE": "locks", "ON_OUTAGE": "optimistic"}}
        yield proxy


@pytest.fixture
def away(redis: Proxy) -> Proxy:
    """It has gone away."""
    redis.vanish()
    return redis


@pytest.fixture
def told() -> Iterator[list[tuple[type, StoreUnavailable]]]:
    """What the signal said."""
    heard = []

    def hear(sender: type, error: StoreUnavailable, **named: Any) -> None:
        heard.append((sender, error))

    store_unavailable.connect(hear)
    yield heard
    store_unavailable.disconnect(hear)


@pytest.fixture
def purse() -> Purse:
    return Purse.objects.create(coins=5)


def coins_of(purse: Purse) -> int:
    return Purse.objects.get(pk=purse.pk).coins


def change_meanwhile(purse: Purse) -> None:
    """Another writer, who has no lock either, comes in between."""
    other = Purse.objects.get(pk=purse.pk)
    other.coins = 100
    other.save()


def enter(guard: Any) -> None:
    """Enter a block that must not be entered."""
    with guard:
        pytest.fail("The body ran without lock.")


WAYS = {
    "primary key": lambda purse: Purse.objects.locked(purse.pk, on_outage="optimistic"),
    "lookup": lambda purse: Purse.objects.locked(coins=5, on_outage="optimistic"),
    "setting": lambda purse: Purse.objects.locked(purse.pk, alias="bold"),
    "function": lambda purse: locked(Purse, purse.pk, on_outage="optimistic"),
    "instance": lambda purse: locked(purse, on_outage="optimistic"),
}


class TestVersionedRows:
    @pytest.mark.parametrize("way", WAYS)
    def test_the_block_runs_and_saves(self, away, purse, way):
        with WAYS[way](purse) as row:
            row.coins += 1
            row.save()
        assert coins_of(purse) == 6

    def test_the_row_is_read_anew(self, away, purse):
        change_meanwhile(purse)
        with locked(purse, alias="bold"):
            assert purse.coins == 100

    def test_a_save_that_was_overtaken_is_refused(self, away, purse):
        with pytest.raises(VersionConflict), Purse.objects.locked(purse.pk, alias="bold", atomic=False) as row:
            change_meanwhile(purse)
            row.coins += 1
            row.save()
        assert coins_of(purse) == 100

    def test_a_body_that_fails_is_rolled_back(self, away, purse):
        with pytest.raises(ZeroDivisionError), Purse.objects.locked(purse.pk, alias="bold") as row:
            row.coins += 1
            row.save()
            raise ZeroDivisionError
        assert coins_of(purse) == 5

    def test_within_a_transaction_the_block_is_a_part_of_it(self, away, purse):
        with transaction.atomic():
            with Purse.objects.locked(purse.pk, alias="bold") as row:
                row.coins += 1
                row.save()
            transaction.set_rollback(True)
        assert coins_of(purse) == 5

    def test_it_is_logged_and_signalled(self, away, purse, told, caplog):
        with caplog.at_level(logging.WARNING), Purse.objects.locked(purse.pk, alias="bold"):
            pass
        (message,) = caplog.messages
        assert message.startswith(
            f"Without lock and by version alone: <RowLock testapp.Purse {purse.pk}>. Redis could not"
        )
        ((sender, error),) = told
        assert (sender, error.key) == (Purse, f"testapp.Purse:{purse.pk}")
        assert error.__cause__ is not None

    def test_a_row_that_is_not_there_is_told(self, away):
        with pytest.raises(Purse.DoesNotExist):
            enter(Purse.objects.locked(0, alias="bold"))

    def test_a_lock_of_others_is_no_outage(self, redis, purse):
        with Purse.objects.locked(purse.pk), pytest.raises(LockBusy):
            elsewhere(enter, Purse.objects.locked(purse.pk, alias="bold", nowait=True))

    def test_a_server_that_goes_away_while_the_lock_is_held_changes_nothing(self, redis, purse, told):
        with Purse.objects.locked(purse.pk, alias="bold") as row:
            redis.vanish()
            row.coins += 1
            row.save()
        assert (coins_of(purse), told) == (6, [])

    def test_once_the_server_is_back_there_are_locks_again(self, away, purse, told):
        with Purse.objects.locked(purse.pk, alias="bold"):
            pass
        away.is_away = False
        with Purse.objects.locked(purse.pk, alias="bold") as row:
            assert get_lease(row).fence > 0
        assert len(told) == 1


class TestWhatIsNotVersioned:
    @pytest.mark.parametrize("options", [{"alias": "bold"}, {"on_outage": "optimistic"}])
    def test_rows_without_version_are_told(self, away, told, options):
        account = Account.objects.create(balance=5)
        with pytest.raises(StoreUnavailable):
            enter(Account.objects.locked(account.pk, **options))
        with pytest.raises(StoreUnavailable):
            enter(Account.objects.locked_many([account.pk], **options))
        assert told == []

    @pytest.mark.parametrize("guard", [lock("a", alias="bold"), lock_many(["a", "b"], alias="bold")], ids=repr)
    def test_names_are_told(self, away, guard):
        with pytest.raises(StoreUnavailable):
            enter(guard)

    @pytest.mark.parametrize("call", [lock, lambda name, **terms: lock_many([name], **terms)], ids=["one", "many"])
    def test_names_take_no_such_argument(self, call):
        with pytest.raises(TypeError, match="on_outage"):
            call("a", on_outage="optimistic")


class TestRaising:
    def test_it_is_the_default(self, away, purse, told):
        with pytest.raises(StoreUnavailable):
            enter(Purse.objects.locked(purse.pk))
        with pytest.raises(StoreUnavailable):
            enter(Purse.objects.locked_many([purse.pk]))
        assert told == []

    def test_the_argument_overrides_the_setting(self, away, purse):
        with pytest.raises(StoreUnavailable):
            enter(Purse.objects.locked(purse.pk, alias="bold", on_outage="raise"))

    @pytest.mark.parametrize("value", ["hope", "", None, True, 5, []])
    def test_another_word_is_refused_at_the_call(self, value):
        with pytest.raises(ValueError, match=r"^on_outage is 'raise' or 'optimistic', not "):
            Purse.objects.locked(1, on_outage=value)
        with pytest.raises(ValueError, match=r"^on_outage is 'raise' or 'optimistic', not "):
            Purse.objects.locked_many([1], on_outage=value)


class TestWithoutLease:
    """What asks for the lease of a block that has none."""

    def test_get_lease_finds_none(self, away, purse):
        with Purse.objects.locked(purse.pk, alias="bold") as row, pytest.raises(LockNotHeld):
            get_lease(row)

    def test_there_is_nothing_to_release(self, away, purse):
        guard = Purse.objects.locked(purse.pk, alias="bold")
        with guard as row:
            with pytest.raises(LockNotHeld, match="Redis was away, so the block goes on by version"):
                guard.release()
            row.coins += 1
            row.save()
        assert coins_of(purse) == 6

    def test_acquire_by_hand_gives_a_lease_or_raises(self, away, purse):
        guard = Purse.objects.locked(purse.pk, alias="bold")
        with pytest.raises(StoreUnavailable):
            guard.acquire()
        with pytest.raises(LockNotHeld):
            guard.release()

    def test_who_holds_it_cannot_be_asked(self, away, purse):
        with Purse.objects.locked(purse.pk, alias="bold"), pytest.raises(StoreUnavailable):
            Purse.objects.is_locked(purse.pk)


class TestReentry:
    def test_a_block_within_asks_anew(self, away, purse, told):
        with Purse.objects.locked(purse.pk, alias="bold"), Purse.objects.locked(purse.pk, alias="bold"):
            assert len(told) == 2

    def test_a_block_within_has_the_lock_when_the_server_is_back(self, away, purse):
        with Purse.objects.locked(purse.pk, alias="bold"):
            away.is_away = False
            with Purse.objects.locked(purse.pk, alias="bold") as row:
                row.coins += 1
                row.save()
                assert Purse.objects.is_locked(purse.pk)
        assert not Purse.objects.is_locked(purse.pk)

    def test_what_a_block_within_wrote_is_not_overwritten(self, away, purse):
        with pytest.raises(VersionConflict), Purse.objects.locked(purse.pk, alias="bold", atomic=False) as outer:
            with Purse.objects.locked(purse.pk, alias="bold", atomic=False) as row:
                row.coins = 7
                row.save()
            outer.save()
        assert coins_of(purse) == 7

    def test_a_held_lock_is_entered_again_without_asking(self, redis, purse, told):
        with Purse.objects.locked(purse.pk, alias="bold") as row:
            redis.vanish()
            with Purse.objects.locked(purse.pk, alias="bold") as again:
                assert get_lease(again) is get_lease(row)
        assert told == []

    def test_the_same_guard_twice(self, away, purse):
        guard = Purse.objects.locked(purse.pk, alias="bold")
        with guard, guard as row:
            row.coins += 1
            row.save()
        assert coins_of(purse) == 6


class TestOnALoop:
    """The same with `async with`."""

    def test_the_block_runs_and_saves(self, away, purse, told):
        async def work() -> None:
            async with Purse.objects.locked(purse.pk, alias="bold") as row:
                row.coins += 1
                await row.asave()

        asyncio.run(work())
        assert (coins_of(purse), len(told)) == (6, 1)

    def test_a_save_that_was_overtaken_is_refused(self, away, purse):
        async def work() -> None:
            async with Purse.objects.locked(purse.pk, alias="bold") as row:
                await sync_to_async(change_meanwhile)(purse)
                await row.asave()

        with pytest.raises(VersionConflict):
            asyncio.run(work())
        assert coins_of(purse) == 100

    def test_several_rows_go_on_too(self, away, purse):
        async def work() -> None:
            async with Purse.objects.locked_many([purse.pk], alias="bold") as (row,):
                row.coins += 1
                await row.asave()

        asyncio.run(work())
        assert coins_of(purse) == 6

    @pytest.mark.parametrize(
        "guard",
        [
            lambda: Account.objects.locked(Account.objects.create().pk, alias="bold"),
            lambda: Purse.objects.locked(Purse.objects.create().pk),
            lambda: lock("a"),
        ],
        ids=["without version", "by default", "a name"],
    )
    def test_all_others_are_told(self, away, guard):
        async def work(guard: Any) -> None:
            async with guard:
                pytest.fail("The body ran without lock.")

        with pytest.raises(StoreUnavailable):
            asyncio.run(work(guard()))


class TestSeveral:
    @pytest.fixture
    def others(self) -> list[Purse]:
        return [Purse.objects.create(coins=coins) for coins in (1, 2, 3)]

    @pytest.mark.parametrize("call", [Purse.objects.locked_many, lambda pks, **terms: locked_many(Purse, pks, **terms)])
    def test_the_block_runs_with_all_rows_in_order(self, away, others, call, told):
        one, two, three = (purse.pk for purse in others)
        with call([three, one, two, one], on_outage="optimistic") as rows:
            assert [row.coins for row in rows] == [3, 1, 2, 1]
            rows[0].coins += 10
            rows[0].save()
        assert coins_of(others[2]) == 13
        assert [sender for sender, _ in told] == [Purse]

    def test_each_save_is_checked(self, away, others):
        with pytest.raises(VersionConflict), Purse.objects.locked_many([p.pk for p in others], alias="bold") as rows:
            rows[0].save()
            Purse.objects.filter(pk=others[1].pk).update(coins=50)
            rows[1].save()
        assert [coins_of(purse) for purse in others] == [1, 2, 3]

    def test_a_row_that_is_missing_is_told(self, away, others):
        with pytest.raises(Purse.DoesNotExist, match="primary key 0"):
            enter(Purse.objects.locked_many([others[0].pk, 0], alias="bold"))

    def test_what_is_held_already_stays_held_by_the_outer_block(self, redis, others):
        one, two, _ = (purse.pk for purse in others)
        with Purse.objects.locked(one, alias="bold") as row:
            redis.vanish()
            with Purse.objects.locked_many([one, two], alias="bold") as rows:
                assert [found.pk for found in rows] == [one, two]
            redis.is_away = False
            assert get_lease(row).state == "held"
        assert not Purse.objects.is_locked(one)

    def test_those_that_are_free_only_redis_knows(self, away, others):
        with pytest.raises(StoreUnavailable):
            enter(Purse.objects.locked_many([others[0].pk], skip_locked=True, alias="bold"))
        with pytest.raises(TypeError, match="only Redis knows"):
            Purse.objects.locked_many([1], skip_locked=True, on_outage="optimistic")


class TestTheCheck:
    def test_models_that_lock_and_have_no_version_are_named(self, settings):
        settings.REDISLOCK = {"default": {}, "bold": {"ON_OUTAGE": "optimistic"}}
        messages = {message.obj: message for message in check_outages(None)}
        assert Account in messages
        assert Purse not in messages
        assert messages[Account].id == "django_redislock.W001"
        assert f"\n{messages[Account].msg.replace('testapp.Account', 'shop.Order')}\n" in text_of("checks.md")

    def test_where_nobody_goes_on_none_is(self, settings):
        settings.REDISLOCK = {"default": {"ON_OUTAGE": "raise"}}
        assert check_outages(None) == []

    @pytest.mark.parametrize("redislock", [None, {}, [], {"default": 5}, {"default": {"ON_OUTAGE": "hope"}}])
    def test_settings_that_others_complain_about_are_none_of_its_business(self, settings, redislock):
        settings.REDISLOCK = redislock
        assert check_outages(None) == []

    def test_each_model_is_named_once_where_it_locks(self, settings):
        settings.REDISLOCK = {"default": {"ON_OUTAGE": "optimistic"}}
        named = [
            message.obj for message in check_outages([apps.get_app_config("testapp"), apps.get_app_config("auth")])
        ]
        assert named.count(Ticket) == 1
        assert not {AccountProxy, User} & set(named)


WORKER = """
from django.db import OperationalError
from django_redislock import Deadlock, LeaseLost, LockBusy, StoreUnavailable, VersionConflict
from tests.testapp.models import Purse

purses = Purse.objects.using("{db}")
done = 0
while done < {times}:
    try:
        with purses.locked({pk}, wait=5, ttl=1, on_outage="{on_outage}") as purse:
            purse.coins += 1
            purse.save()
    except (Deadlock, LeaseLost, LockBusy, StoreUnavailable, VersionConflict, OperationalError):
        continue
    done += 1
    print(done, flush=True)
"""
TIMES = 40


@pytest.mark.long
@pytest.mark.parametrize(
    ("db_alias", "on_outage"), [("postgres", "raise"), ("mariadb", "optimistic")], indirect=["db_alias"]
)
def test_a_server_that_crashes_and_forgets_all_locks_loses_no_update(db_alias, on_outage, tmp_path, monkeypatch):
    server = Redis(tmp_path / "redis")
    monkeypatch.setenv("TEST_REDIS_URL", server.start())
    purse = Purse.objects.using(db_alias).create()
    script = WORKER.format(db=db_alias, pk=purse.pk, times=TIMES, on_outage=on_outage)
    with ExitStack() as stack:
        stack.callback(server.kill)
        workers = [stack.enter_context(peer(script)) for _ in range(4)]
        assert [worker.hear() for worker in workers] == ["1"] * 4
        server.kill()
        server.start_again()
        assert [worker.end() for worker in workers] == [0] * 4
    purse.refresh_from_db()
    assert purse.coins == 4 * TIMES
