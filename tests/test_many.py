"""Several rows and names at once: all or nothing, in one question, without deadlock."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, ClassVar, assert_type

import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from django_redislock import (
    Deadlock,
    LeaseLost,
    LockBusy,
    WaitTimeout,
    clock,
    confirming,
    get_lease,
    lock,
    lock_many,
    locked,
    locked_many,
    signals,
)
from django_redislock.exceptions import LossReason
from django_redislock.handler import locks
from django_redislock.keys import Key, bucket_of
from django_redislock.lease import Lease
from django_redislock.manyrows import RowLocks
from django_redislock.stores.base import Answer, Renewal, Way
from django_redislock.stores.redis import RedisStore
from django_redislock.stores.straight import Straight, Usual
from tests.flows import PATIENCE, client_of, elsewhere, is_free, peer
from tests.testapp.models import Account, Country, Parcel, Seat, Ticket

NAMES = ["c", "a", "b"]
ROWS = pytest.mark.django_db


@pytest.fixture(autouse=True)
def empty_redis() -> None:
    caches["default"].clear()


@pytest.fixture
def accounts() -> list[Account]:
    return Account.objects.bulk_create(Account(name=name, balance=100) for name in "abcde")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The scripts that are sent."""
    sent: list[str] = []
    ask = RedisStore._run

    def note(store: RedisStore, call: Any, *keys: Any, **how: Any) -> Any:
        sent.append(call.script.source.rpartition("\n-- KEYS")[0].rpartition("\n-- ")[0])
        return ask(store, call, *keys, **how)

    monkeypatch.setattr(RedisStore, "_run", note)
    return sent


def forbidden() -> None:
    raise AssertionError("The body must not run.")


def all_free(*names: str) -> bool:
    return all(map(is_free, names))


def left_in(alias: str) -> set[str]:
    """What is in Redis but for fences and notes of releases."""
    keys = {key.decode() for key in client_of(alias).keys("*")}
    return {key for key in keys if not key.endswith(":fence") and ":released:" not in key}


@pytest.fixture
def held_elsewhere() -> Iterator[Any]:
    """Holds a name in another thread until the test ends, or `let_go()` is called."""
    stop, held = threading.Event(), threading.Event()

    def hold(names: tuple[str, ...]) -> None:
        with lock_many(names):
            held.set()
            assert stop.wait(30)

    with ThreadPoolExecutor(1) as pool:

        def start(*names: str) -> None:
            pool.submit(hold, names)
            assert held.wait(10)

        start.let_go = stop.set  # type: ignore[attr-defined]
        yield start
        stop.set()


class TestNames:
    def test_what_is_taken_together_has_one_fence(self, lock_alias):
        with lock_many(NAMES) as first:
            pass
        with lock(NAMES[1]) as outer, lock_many(NAMES) as second:
            assert outer.fence == second[1].fence
        fences = [{lease.fence for lease in leases if lease is not outer} for leases in (first, second)]
        assert [len(each) for each in fences] == [1, 1]
        assert max(fences[0]) < outer.fence < max(fences[1])

    def test_nothing_is_left(self, lock_alias):
        with lock_many(NAMES):
            assert left_in(lock_alias)
        assert left_in(lock_alias) == set()

    def test_one_question_each_way(self, lock_alias, asked):
        with lock_many([f"name-{number}" for number in range(1_000)]):
            assert len(asked) == 1
        assert len(asked) == 2
        assert all_free("name-0", "name-500", "name-999")

    def test_the_leases_are_made_while_the_answer_is_on_its_way(self, lock_alias, monkeypatch):
        made: list[int] = []
        make = Lease.__init__

        def counting(lease: Lease, *what: Any) -> None:
            made[-1] += 1
            make(lease, *what)

        def noting(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
            def read_answer(connection: Any) -> Any:
                made.append(0)
                return read(connection)

            return read_answer

        with lock_many(NAMES):  # opens the connection
            monkeypatch.setattr(Lease, "__init__", counting)
            for kind in (Usual, Straight):
                monkeypatch.setattr(kind, "read_answer", noting(kind.read_answer))
            made.append(0)
            with lock_many(["d", "e"]):
                assert made == [2, 0]

    def test_many_refusals_are_counted(self, lock_alias, held_elsewhere):
        names = [f"name-{number}" for number in range(10)]
        held_elsewhere(*names)
        with pytest.raises(LockBusy, match="and 7 more are held"), lock_many(names, nowait=True):
            forbidden()

    def test_a_wait_that_is_over_leaves_nothing(self, lock_alias, held_elsewhere):
        held_elsewhere("b")
        with pytest.raises(WaitTimeout, match="b is held"), lock_many(NAMES, wait=0.05):
            forbidden()
        assert all_free("a", "c")
        held_elsewhere.let_go()
        with lock("b", wait=10):
            pass
        assert left_in(lock_alias) == set()

    def test_an_interrupt_while_waiting_leaves_nothing(self, lock_alias, held_elsewhere, monkeypatch):
        def interrupt(*args: Any) -> None:
            monkeypatch.undo()
            raise KeyboardInterrupt

        held_elsewhere("b")
        monkeypatch.setattr(clock, "receive", interrupt)
        with pytest.raises(KeyboardInterrupt), lock_many(NAMES, wait=5):
            forbidden()
        assert all_free("a", "c")
        assert not any(":queue:" in key or ":flow:" in key for key in left_in(lock_alias))

    @staticmethod
    def take(names: list[str]) -> list[str]:
        with lock_many(names, wait=10) as leases:
            for lease in leases:
                lease.ensure_held()
            return [lease.key.name for lease in leases]

    def test_what_was_taken_is_kept_while_waiting(self, lock_alias, held_elsewhere):
        """The second waits longer than its ttl, and has all of it at the end."""
        held_elsewhere("b")
        with ThreadPoolExecutor(1) as pool:
            leases = pool.submit(self.remaining, NAMES)
            wait_until(lambda: waiters_of("b") == 1)
            fence = lock("a").info().fence
            began = clock.now()
            wait_until(lambda: clock.now() > began + 1.5)
            assert lock("a").info().fence == fence
            held_elsewhere.let_go()
            assert min(leases.result(10)) > 0.1

    @staticmethod
    def remaining(names: list[str]) -> list[float]:
        with lock_many(names, wait=10, ttl=1.2) as leases:
            return [lease.remaining for lease in leases]

    def test_first_come_first_served_among_one_and_many(self, lock_alias, held_elsewhere):
        order: list[str] = []

        def take(name: str, guard: Any) -> None:
            with guard:
                order.append(name)

        held_elsewhere("b")
        with ThreadPoolExecutor(3) as pool:
            for number, guard in enumerate([lock_many(["b", "c"]), lock("b"), lock_many(["b", "d"])], 1):
                pool.submit(take, str(number), guard)
                wait_until(partial(has_waiters, "b", number))
            held_elsewhere.let_go()
        assert order == ["1", "2", "3"]

    def test_a_free_key_that_somebody_waits_for_is_his(self, lock_alias, held_elsewhere):
        """The holder vanished; who has waited comes before those who have not."""
        held_elsewhere("b")
        with ThreadPoolExecutor(1) as pool:
            waiter = pool.submit(self.take, ["b"])
            wait_until(lambda: waiters_of("b") == 1)
            key = next(key for key in client_of(lock_alias).keys("*:lock:b"))
            client_of(lock_alias).delete(key)
            with pytest.raises(LockBusy), lock_many(["a", "b"], nowait=True):
                forbidden()
            assert waiter.result(10) == ["b"]
        assert is_free("a")

    def test_what_was_lost_while_the_others_were_waited_for_is_told(self, lock_alias, held_elsewhere):
        held_elsewhere("b")
        with ThreadPoolExecutor(1) as pool, pytest.raises(LeaseLost, match="a was lost"), lock("a") as lease:

            def lose() -> None:
                wait_until(lambda: waiters_of("b") == 1)
                lease.lose(LossReason.FORCED)
                held_elsewhere.let_go()

            losing = pool.submit(lose)
            with pytest.raises(LeaseLost, match="a was lost"), lock_many(["a", "b"], wait=PATIENCE):
                forbidden()
            losing.result(PATIENCE)
        assert is_free("b")

    def test_a_cycle_is_refused_and_gives_back(self, lock_alias):
        """One holds b and wants a, the other has a and wants b."""
        has_b, result = threading.Event(), list[Any]()

        def other() -> None:
            with lock("b"):
                has_b.set()
                wait_until(lambda: waiters_of("b") == 1)
                try:
                    with lock("a", wait=10):
                        result.append("taken")
                except Deadlock as error:
                    result.append(error)

        with ThreadPoolExecutor(1) as pool:
            pool.submit(other)
            assert has_b.wait(10)
            with lock_many(["a", "b"], wait=10):
                pass
        assert isinstance(result[0], Deadlock)
        assert {edge.key for edge in result[0].edges} == {"a", "b"}

    def test_what_is_held_is_entered_again(self, lock_alias, asked):
        with lock("a") as outer:
            asked.clear()
            with lock_many(["b", "a"]) as (_, again):
                assert again is outer
                assert len(asked) == 1
            with lock_many(["a"]) as (again,):
                assert again is outer
            assert not is_free("a")
            assert is_free("b")
        assert is_free("a")

    def test_a_lease_that_is_lost_is_told(self, lock_alias):
        with pytest.raises(LeaseLost, match="lease on b was lost"), lock_many(NAMES):
            for key in client_of(lock_alias).keys("*:lock:b"):
                client_of(lock_alias).delete(key)
        assert left_in(lock_alias) == set() or left_in(lock_alias) == {HELD_INDEX}
        assert all_free(*NAMES)

    def test_the_lost_reply_of_a_release_is_given_again(self, lock_alias):
        store = locks[lock_alias].lock("a", model=None).store
        with lock_many(NAMES) as leases:
            keys, token = [lease.key for lease in sorted(leases, key=lambda lease: lease.key.name)], leases[0].token
        again = store.release_many(keys, token=token, ttl=60)
        assert {answer.value for answer in again} == {"done"}
        assert {answer.value for answer in store.release_many(keys[:2], token=token, ttl=60)} == {"gone"}

    def test_signals_are_sent_for_each(self, lock_alias):
        seen: list[str] = []

        def note(lease: Any, **kwargs: Any) -> None:
            seen.append(lease.key.name)

        signals.lock_acquired.connect(note)
        signals.lock_released.connect(note)
        try:
            with lock_many(NAMES):
                assert sorted(seen) == sorted(NAMES)
        finally:
            signals.lock_acquired.disconnect(note)
            signals.lock_released.disconnect(note)
        assert sorted(seen) == sorted(NAMES * 2)

    def test_inside_a_transaction_the_release_waits_for_its_end(self, lock_alias, transactional_db):
        with transaction.atomic():
            with lock_many(NAMES):
                pass
            assert not any(map(is_free, NAMES))
        assert all_free(*NAMES)

    async def _enter(self) -> None:
        with lock_many(NAMES):
            forbidden()

    def test_in_a_coroutine_it_is_refused(self, lock_alias):
        with pytest.raises(SynchronousOnlyOperation):
            asyncio.run(self._enter())

    def test_in_a_coroutine_what_is_held_may_be_entered_again(self, lock_alias):
        async def enter() -> None:
            async with lock_many(NAMES):
                with lock_many(NAMES) as leases:
                    assert all(lease.trusted for lease in leases)
                assert all(lease.trusted for lease in leases)

        asyncio.run(enter())
        assert all_free(*NAMES)


def names_in(buckets: int, number: int) -> list[str]:
    """So many names that fall in so many buckets."""
    names = (f"name-{index}" for index in itertools.count())
    return list(itertools.islice((name for name in names if bucket_of(name) < buckets), number))


class TestInTheStore:
    TERMS: ClassVar[dict[str, Any]] = {"token": "t" * 32, "holder": '["h",1,"t",""]', "ttl": 30}

    @pytest.fixture
    def store(self, lock_alias: str) -> Any:
        return locks[lock_alias].lock("a", model=None).store

    def all(self, names: list[str]) -> dict[str, Any]:
        return {"keys": list(map(Key, names)), "limit": len(names), "way": Way.ALL, **self.TERMS}

    @staticmethod
    def index(alias: str) -> dict[str, float]:
        """Who is in the index, each with its end in milliseconds."""
        entries: Any = client_of(alias).zrange(HELD_INDEX, 0, -1, withscores=True)
        return {entry.decode().partition(":lock:")[2]: end for entry, end in entries}

    @pytest.mark.parametrize("number", [999, 1_000, 1_001, 2_500])
    def test_more_than_lua_can_pass_at_once(self, store, lock_alias, number):
        names = names_in(1, number)
        first = store.acquire_many(**self.all(names))
        assert len(first.fences) == number
        assert store.acquire_many(**self.all(names)) == first  # asked again
        assert set(self.index(lock_alias)) == set(names)
        renewals = [Renewal(Key(name), self.TERMS["token"], 60) for name in names]
        assert set(store.renew_many(renewals, within=10)) == {Answer.DONE}
        assert store.release_many(list(map(Key, names)), token=self.TERMS["token"], ttl=60) == [Answer.DONE] * number
        assert left_in(lock_alias) == set()

    def test_those_that_wait_are_found_among_more_than_lua_can_pass_at_once(self, lock_alias, held_elsewhere):
        names = names_in(1, 1_500)
        held_elsewhere(*names)
        with ThreadPoolExecutor(1) as pool:
            waiter = pool.submit(TestNames.take, names[1_400:])
            wait_until(lambda: waiters_of(min(names[1_400:])) == 1)
            held_elsewhere.let_go()
            assert waiter.result(10) == names[1_400:]
        assert left_in(lock_alias) == set()

    @pytest.mark.parametrize("number", [3, 1_001])
    def test_where_one_is_somebodys_nothing_is_written(self, store, lock_alias, held_elsewhere, number):
        names, server = names_in(1, number), client_of(lock_alias)
        held_elsewhere(names[-1])
        before = set(server.keys()), server.get("redislock:fence"), self.index(lock_alias)
        refusal = store.acquire_many(**self.all(names))
        assert [key.name for key, _ in refusal.by] == [names[-1]]
        assert (set(server.keys()), server.get("redislock:fence"), self.index(lock_alias)) == before

    def test_each_is_in_the_index(self, store, lock_alias):
        names = names_in(5, 23)
        store.acquire_many(**self.all(names))
        ends = [self.index(lock_alias).pop(name) / 1e3 for name in names]
        held = [store.inspect(Key(name)) for name in names]
        assert ends == pytest.approx([one.asked + one.remaining for one in held], abs=0.1)
        given, kept = names[::2], names[1::2]
        store.release_many(list(map(Key, given)), token=self.TERMS["token"], ttl=60)
        left = {name for name in names if name in self.index(lock_alias)}
        assert left == set(kept)

    @pytest.mark.parametrize(("number", "is_tree"), [(32, False), (33, True)])
    def test_many_are_noted_in_a_tree(self, real_redis, number, is_tree):
        """A list is gone through for each of them."""
        names, store = names_in(1, number), locks[real_redis].store
        store.acquire_many(**self.all(names))
        assert (client_of(real_redis).object("encoding", HELD_INDEX) == b"skiplist") is is_tree
        assert set(self.index(real_redis)) == set(names)

    def test_an_index_that_is_used_keeps_its_longest_end(self, store, lock_alias):
        one, *others = names_in(1, 4)
        server = client_of(lock_alias)
        server.zadd(HELD_INDEX, {"vanished": 1})
        with lock(one, ttl=300):
            store.acquire_many(**self.all(others))
            assert set(self.index(lock_alias)) == {one, *others}
            assert server.pttl(HELD_INDEX) > 200_000
        store.acquire_many(**self.all(others) | {"ttl": 400})
        assert server.pttl(HELD_INDEX) > 300_000

    def test_the_fence_is_above_all_that_were_given(self, store, lock_alias):
        names = names_in(5, 12)
        above = 2_000_000_000_000_000  # as if the clock had been set back
        client_of(lock_alias).set("redislock:fence", above)
        fences = store.acquire_many(**self.all(names)).fences
        assert set(fences) == {above + 1}
        store.release_many(list(map(Key, names)), token=self.TERMS["token"], ttl=60)
        for name in names:
            with lock(name) as lease:
                assert lease.fence > max(fences)


class TestThoseThatAreFree:
    def test_what_is_held_counts(self, lock_alias, asked):
        with lock("b") as outer, lock_many(NAMES, skip_locked=True, limit=2) as leases:
            assert [lease.key.name for lease in leases] == ["c", "b"]
            assert outer in leases
        with lock_many(["a", "b"]), lock_many(NAMES, skip_locked=True, limit=1) as leases:
            assert len(leases) == 1

    @pytest.mark.parametrize(("elsewhere", "left"), [(["a", "d"], ["c", "b"]), ([*NAMES, "d"], [])])
    def test_leases_are_made_of_those_alone(self, lock_alias, held_elsewhere, monkeypatch, elsewhere, left):
        held_elsewhere(*elsewhere)
        made: list[str] = []
        make = Lease.__init__

        def counting(lease: Lease, key: Key, *what: Any) -> None:
            made.append(key.name)
            make(lease, key, *what)

        monkeypatch.setattr(Lease, "__init__", counting)
        with lock_many([*NAMES, "d"], skip_locked=True, limit=3) as leases:
            assert [lease.key.name for lease in leases] == made == left

    def test_sent_twice_it_takes_no_more(self, lock_alias):
        store = locks[lock_alias].lock("a", model=None).store
        terms = {"token": "t" * 32, "ttl": 30, "holder": '["h",1,"t",""]'}
        question: dict[str, Any] = terms | {"way": Way.FREE, "limit": 1}
        first = store.acquire_many([Key("a"), Key("b")], **question)
        assert store.acquire_many([Key("a"), Key("b")], **question) == first
        assert store.acquire_many([Key("b"), Key("a")], **question).fences == (0, first.fences[0])


@ROWS
class TestRows:
    def test_they_come_in_the_order_asked_for(self, accounts):
        a, b, c = (row.pk for row in accounts[:3])
        with Account.objects.locked_many([c, a, str(b), a]) as rows:
            assert [row.name for row in rows] == ["c", "a", "b", "a"]
            assert rows[1] is rows[3]
            assert all(Account.objects.is_locked(pk) for pk in (a, b, c))
        assert not any(Account.objects.is_locked(pk) for pk in (a, b, c))

    def test_the_function_form(self, accounts):
        user = User.objects.create(username="ada")
        with locked_many(User, [user.pk]) as (row,), locked_many(Account.objects, [accounts[0].pk]) as (first,):
            assert (row, first) == (user, accounts[0])

    def test_the_types_are_kept(self, accounts: list[Account]) -> None:
        guard = Account.objects.filter(name="a").locked_many([accounts[0].pk])
        assert_type(guard, RowLocks[Account])
        with guard as rows:
            assert_type(rows, list[Account])

    def test_one_query_and_two_questions(self, accounts, asked, django_assert_num_queries):
        with CaptureQueriesContext(connections["default"]) as queries:
            with Account.objects.locked_many([row.pk for row in accounts]):
                pass
        assert len([query for query in queries if "testapp_account" in query["sql"]]) == 1
        assert len(asked) == 2

    def test_a_thousand(self, asked, monkeypatch):
        monkeypatch.setattr(confirming, "CONFIDENCE", 60)  # where it takes long, their leases are asked about once more
        rows = Account.objects.bulk_create(Account(name=str(number)) for number in range(1_000))
        with Account.objects.locked_many([row.pk for row in reversed(rows)]) as again:
            assert again == rows[::-1]
        assert len(asked) == 2

    def test_more_than_the_database_takes_values(self, accounts, monkeypatch):
        monkeypatch.setattr(type(connections["default"].features), "max_query_params", 2)
        with Account.objects.locked_many([row.pk for row in accounts]) as rows:
            assert rows == accounts

    def test_the_rows_that_are_missing_are_named(self, accounts):
        pk = accounts[0].pk
        with (
            pytest.raises(Account.DoesNotExist, match="primary key 998, 999"),
            Account.objects.locked_many([998, pk, 999]),
        ):
            forbidden()
        assert all_free(*(f"testapp.Account:{number}" for number in (pk, 998, 999)))

    def test_filters_are_honoured(self, accounts):
        pks = [row.pk for row in accounts[:2]]
        with pytest.raises(Account.DoesNotExist, match=rf"primary key {pks[1]}\."):
            with Account.objects.filter(name="a").locked_many(pks):
                forbidden()
        assert not Account.objects.is_locked(pks[0])

    def test_select_related_is_honoured(self, accounts, django_assert_num_queries):
        ticket = Ticket.objects.create(account=accounts[0])
        with Ticket.objects.select_related("account").locked_many([ticket.pk]) as (row,), django_assert_num_queries(0):
            assert row.account == accounts[0]

    def test_what_cannot_be_a_primary_key_does_not_exist(self, accounts):
        with pytest.raises(Account.DoesNotExist, match="abc"), Account.objects.locked_many([accounts[0].pk, "abc"]):
            forbidden()

    def test_none_of_none(self, asked):
        with Account.objects.locked_many([]) as rows:
            assert rows == []
        assert asked == []

    def test_composite_keys(self):
        seats = [Seat.objects.create(row="A", number=number) for number in (7, 8)]
        with Seat.objects.locked_many([("A", "8"), ("A", 7)]) as rows:
            assert rows == seats[::-1]

    def test_uuids_in_any_spelling(self):
        parcel = Parcel.objects.create()
        with Parcel.objects.locked_many([str(parcel.pk), parcel.pk.hex]) as (one, same):
            assert one is same
            assert one == parcel

    def test_the_lease_of_a_row_is_found_by_its_instance(self, accounts):
        with Account.objects.locked_many([row.pk for row in accounts]) as rows:
            assert [get_lease(row).key.name for row in rows] == [f"testapp.Account:{row.pk}" for row in rows]

    def test_a_row_of_many_is_entered_again(self, accounts, asked):
        with Account.objects.locked_many([row.pk for row in accounts]):
            with locked(accounts[0]):
                assert len(asked) == 1
            assert not is_free(f"testapp.Account:{accounts[0].pk}")

    def test_those_that_are_free(self, accounts, held_elsewhere):
        pks = [row.pk for row in accounts]
        held_elsewhere(f"testapp.Account:{pks[0]}")
        with Account.objects.locked_many([*pks[::-1], 999, "abc"], skip_locked=True) as rows:
            assert [row.pk for row in rows] == pks[:0:-1]
            assert is_free("testapp.Account:999")
        with Account.objects.locked_many(pks, skip_locked=True, limit=2) as rows:
            assert [row.pk for row in rows] == pks[1:3]


@pytest.mark.django_db(transaction=True)
class TestTransactions:
    @pytest.fixture
    def rows(self, db_alias: str) -> list[Account]:
        return Account.objects.using(db_alias).bulk_create(Account(name=name, balance=100) for name in "ab")

    @staticmethod
    def free(rows: list[Account]) -> list[bool]:
        return [is_free(f"testapp.Account:{row.pk}") for row in rows]

    def test_the_transaction_is_inside_the_locks(self, db_alias, rows):
        ends: list[list[bool]] = []
        with Account.objects.using(db_alias).locked_many([row.pk for row in rows]) as (one, other):
            transaction.on_commit(lambda: ends.append(self.free(rows)), using=db_alias)
            one.balance, other.balance = 90, 110
            one.save()
            other.save()
        assert ends == [[False, False]]
        assert self.free(rows) == [True, True]
        assert [row.balance for row in Account.objects.using(db_alias).order_by("pk")] == [90, 110]

    def test_an_exception_rolls_back_and_releases(self, db_alias, rows):
        with pytest.raises(ValueError, match="body"):
            with Account.objects.using(db_alias).locked_many([row.pk for row in rows]) as (one, _):
                one.balance = 0
                one.save()
                raise ValueError("body")
        assert self.free(rows) == [True, True]
        assert Account.objects.using(db_alias).get(pk=rows[0].pk).balance == 100

    @pytest.mark.parametrize("late", [0, 1])
    def test_a_lease_that_is_over_before_the_commit_rolls_back(self, db_alias, rows, late):
        with pytest.raises(LeaseLost):
            with Account.objects.using(db_alias).locked_many([row.pk for row in rows]) as got:
                got[0].balance = 0
                got[0].save()
                get_lease(got[late]).deadline = clock.now()
        assert Account.objects.using(db_alias).get(pk=rows[0].pk).balance == 100
        assert self.free(rows) == [True, True]

    def test_in_an_open_transaction_the_release_waits_for_its_end(self, db_alias, rows, asked):
        with transaction.atomic(using=db_alias):
            with Account.objects.using(db_alias).locked_many([row.pk for row in rows]):
                pass
            assert self.free(rows) == [False, False]
            asked.clear()
        assert len(asked) == 1
        assert self.free(rows) == [True, True]

    def test_the_rollback_of_a_savepoint_releases(self, db_alias, rows):
        with transaction.atomic(using=db_alias):
            with pytest.raises(ValueError, match="inner"), transaction.atomic(using=db_alias):
                with Account.objects.using(db_alias).locked_many([row.pk for row in rows]):
                    pass
                assert self.free(rows) == [False, False]
                raise ValueError("inner")
            assert self.free(rows) == [True, True]

    def test_what_is_new_is_read_in_an_open_transaction(self, db_alias, rows):
        """REPEATABLE READ, MariaDB's default, would show what the first query saw."""
        pks = [row.pk for row in rows]
        with ExitStack() as stack:
            if db_alias != "default":  # SQLite has no locking read
                stack.enter_context(transaction.atomic(using=db_alias))
                assert len(Account.objects.using(db_alias).filter(pk__in=pks)) == 2
            elsewhere(lambda: Account.objects.using(db_alias).update(balance=1))
            with Account.objects.using(db_alias).locked_many(pks) as got:
                assert [row.balance for row in got] == [1, 1]

    def test_without_a_transaction(self, db_alias, rows):
        with Account.objects.using(db_alias).locked_many([row.pk for row in rows], atomic=False):
            assert not connections[db_alias].in_atomic_block

    def test_a_thousand_rows(self, db_alias):
        many = Account.objects.using(db_alias).bulk_create(Account() for _ in range(1_000))
        with Account.objects.using(db_alias).locked_many([row.pk for row in many]) as rows:
            assert len(rows) == 1_000

    @pytest.mark.parametrize("db_alias", ["mariadb"], indirect=True)
    def test_a_spelling_that_is_not_the_rows_own_is_refused(self, db_alias):
        countries = Country.objects.using(db_alias)
        countries.create(code="de")
        with pytest.raises(Country.DoesNotExist, match=r"takes testapp\.Country:de for it"):
            with countries.locked_many(["DE"]):
                forbidden()
        assert all_free("testapp.Country:de", "testapp.Country:DE")


class TestMistakes:
    @pytest.mark.parametrize(
        "call", [Account.objects.locked_many, lambda *a, **k: locked_many(Account, *a, **k), lock_many]
    )
    @pytest.mark.parametrize("what", [None, 7, "abc", b"abc", Account(pk=1)])
    def test_no_list(self, call, what):
        with pytest.raises(TypeError, match="takes a list of"):
            call(what)

    def test_instances_in_the_list(self):
        with pytest.raises(TypeError, match="takes primary keys"):
            Account.objects.locked_many([Account(pk=1)])

    def test_no_primary_key_in_the_list(self):
        with pytest.raises(ValueError, match="not None"):
            Account.objects.locked_many([1, None])

    @pytest.mark.parametrize("name", ["", None, 7])
    def test_no_name_in_the_list(self, name):
        with pytest.raises(TypeError, match="a string that is not empty"):
            lock_many(["a", name])

    @pytest.mark.parametrize("call", [Account.objects.locked_many, lock_many])
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"timeout": 5}, "ttl= .* or wait="),
            ({"nowait": True, "wait": 5}, "pass one of the two"),
            ({"skip_locked": True, "wait": 5}, "never waits"),
            ({"skip_locked": True, "nowait": True}, "never waits"),
            ({"limit": 5}, "goes with skip_locked"),
            ({"limit": "5", "skip_locked": True}, "whole number"),
        ],
    )
    def test_arguments_that_do_not_go_together(self, call, arguments, message):
        with pytest.raises(TypeError, match=message):
            call(["1"], **arguments)

    def test_a_limit_of_nothing(self):
        with pytest.raises(ValueError, match="1 or more"):
            lock_many(["a"], skip_locked=True, limit=0)

    def test_something_else_than_a_model(self):
        with pytest.raises(TypeError, match="a model, a manager or a queryset"):
            locked_many(Account(pk=1), [1])  # type: ignore[arg-type]

    def test_values_and_slices(self):
        with pytest.raises(TypeError, match="values"):
            Account.objects.values("name").locked_many([1])  # type: ignore[attr-defined]
        with pytest.raises(TypeError, match="slice"):
            Account.objects.all()[:5].locked_many([1])

    def test_what_is_not_held_is_named(self):
        assert repr(lock_many(["a", "b"])) == "<NamedLocks a, b>"
        assert repr(Account.objects.locked_many([1])) == "<RowLocks testapp.Account [1]>"


MOVER = """
import random
from django.db import connection
from django_redislock import lock_many
from tests.testapp.models import Account

pks = sorted(Account.objects.values_list("pk", flat=True))
chance = random.Random(int(sys.stdin.readline()))
print("ready", flush=True)
sys.stdin.readline()
longest = 0
for _ in range(40):
    chosen = chance.sample(pks, chance.randint(2, 5))
    with Account.objects.locked_many(chosen, wait=30) as rows:
        assert [row.pk for row in rows] == chosen
        for row in rows:
            row.balance -= 1
        rows[-1].balance += len(rows)
        for row in rows:
            row.save()
print("moved", flush=True)
"""


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
class TestProcesses:
    @pytest.mark.parametrize("db_alias", ["default", "postgres"], indirect=True)
    def test_money_is_moved_between_overlapping_rows_in_any_order(self, db_alias, real_redis):
        Account.objects.using(db_alias).bulk_create(Account(balance=1000) for _ in range(8))
        script = MOVER.replace("Account.objects", f"Account.objects.using({db_alias!r})")
        with ExitStack() as stack:
            movers = [stack.enter_context(peer(script)) for _ in range(4)]
            for seed, mover in enumerate(movers):
                mover.tell(str(seed))
            assert [mover.hear() for mover in movers] == ["ready"] * 4
            for mover in movers:
                mover.tell()
            assert [mover.hear() for mover in movers] == ["moved"] * 4
        balances = Account.objects.using(db_alias).values_list("balance", flat=True)
        assert sum(balances) == 8000
        assert left_in(real_redis) == set()


def waiters_of(name: str) -> int:
    info = lock(name).info()
    return info.waiters if info else 0


def has_waiters(name: str, number: int) -> bool:
    return waiters_of(name) == number


HELD_INDEX = "redislock:held"


def wait_until(condition: Callable[[], bool]) -> None:
    """Ask again and again, for ten seconds at most."""
    end = clock.now() + 10
    pause = threading.Event()
    while not condition():
        assert clock.now() < end
        pause.wait(0.002)
