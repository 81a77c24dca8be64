"""`@lock_task` around functions that are called as such; what queues do with it is tested beside their worker."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from django_redislock import LockBusy, WaitTimeout, lock, lock_task
from tests.flows import elsewhere, is_free
from tests.testapp.models import Account

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("lock_alias")]

NAME = f"task:{__name__}"
SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    SEEN.clear()


@lock_task
def by_all(country: str, year: int = 2026) -> str:
    SEEN.append(country)
    return "ran"


@lock_task(by=["country"])
def by_one(country: str, year: int = 2026) -> str:
    SEEN.append(is_free(f"{NAME}.by_one?country=no"))
    return "ran"


@lock_task(by=[])
def by_name(country: str) -> str:
    SEEN.append(lock(f"{NAME}.by_name").info())
    return "ran"


@lock_task(Account)
def withdraw(account_id: int, account: Account, amount: int = 10) -> str:
    account.balance -= amount
    account.save()
    if amount > 100:
        raise ValueError("That is too much.")
    return "free" if is_free(f"testapp.Account:{account.pk}") else "held"


@lock_task(Account, row={"name": "owner"})
async def withdraw_async(owner: str, *, account: Account) -> str:
    account.balance -= 10
    await account.asave()
    return "ran"


@lock_task(by=["country"])
def nested(country: str) -> str:
    with lock("another", nowait=True):
        return "ran"


withdraw_by_id: Any = withdraw
withdraw_of: Any = withdraw_async


class TestByArguments:
    def test_it_is_held_while_the_task_runs(self):
        assert by_one("no") == "ran"
        assert SEEN == [False]
        assert is_free(f"{NAME}.by_one?country=no")

    def test_the_holder_names_the_task(self):
        by_name("no")
        assert SEEN[0].holder.doing == f"task {NAME.removeprefix('task:')}.by_name"

    def test_runs_with_other_arguments_do_not_exclude_each_other(self):
        with lock(f"{NAME}.by_one?country=no"):
            assert elsewhere(by_one, "se") == "ran"

    def test_arguments_count_however_they_are_passed(self):
        def inner() -> None:
            for call in (lambda: by_all("no"), lambda: by_all(country="no", year=2026), lambda: by_all("no", 2026)):
                with pytest.raises(LockBusy):
                    elsewhere(call)

        @lock_task
        def by_all(country: str, year: int = 2026) -> None:
            if not SEEN:
                SEEN.append(country)
                inner()

        by_all("no")
        assert SEEN == ["no"]

    def test_without_being_told_all_arguments_count_and_none_is_shown(self, caplog):
        caplog.set_level("INFO", "django_redislock")
        assert by_all("no") == "ran"
        assert "no" not in caplog.text


class TestByRow:
    @pytest.fixture
    def account(self) -> Account:
        return Account.objects.create(name="rent", balance=100)

    def test_the_row_is_passed_in_and_held(self, account):
        assert withdraw_by_id(account.pk) == "held"
        assert Account.objects.get().balance == 90

    def test_arguments_may_be_passed_by_position_past_it(self, account):
        assert withdraw_by_id(account.pk, 20) == "held"
        assert Account.objects.get().balance == 80

    def test_a_task_that_fails_is_rolled_back(self, account):
        with pytest.raises(ValueError, match="too much"):
            withdraw_by_id(account.pk, amount=101)
        assert Account.objects.get().balance == 100

    def test_a_row_that_there_is_not_is_told(self, account):
        with pytest.raises(Account.DoesNotExist):
            withdraw_by_id(account.pk + 1)

    def test_busy_is_told_when_it_is_called_as_such(self, account):
        with lock(f"testapp.Account:{account.pk}"), pytest.raises(LockBusy):
            elsewhere(withdraw_by_id, account.pk)

    def test_a_coroutine_function_works_on_a_row_too(self, account):
        assert async_to_sync(withdraw_of)("rent") == "ran"
        assert Account.objects.get().balance == 90

    def test_the_caller_does_not_give_the_row(self):
        assert str(inspect.signature(withdraw)) == "(account_id: 'int', amount: 'int' = 10) -> 'str'"


class TestBusy:
    def test_it_is_not_waited_for(self):
        with lock(f"{NAME}.by_name"), pytest.raises(LockBusy, match="not waited for"):
            elsewhere(by_name, "no")

    def test_unless_that_is_told(self):
        patient = lock_task(by=[], wait=0.01)(lambda: None)
        with lock(f"task:{patient.__module__}.{patient.__qualname__}"), pytest.raises(WaitTimeout):
            elsewhere(patient)

    def test_it_is_skipped_where_that_is_told(self, caplog):
        caplog.set_level("INFO", "django_redislock")
        skipping = lock_task(by=[], when_busy="skip")(lambda: "ran")
        with lock(f"task:{skipping.__module__}.{skipping.__qualname__}"):
            assert elsewhere(skipping) is None
        assert "Skipped: tests.test_tasks" in caplog.text

    def test_another_lock_inside_the_task_is_its_own_affair(self):
        with lock("another"), pytest.raises(LockBusy, match=r"^another is held"):
            elsewhere(lock_task(when_busy="skip")(nested), "no")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"when_busy": "maybe"}, "when_busy is one of retry, skip, fail"),
        ({"by": "country"}, "by= is a list of arguments"),
        ({"retry_in": -1}, "retry_in is 0 or more"),
        ({"row": "pk"}, "are for the lock on a row"),
        ({"timeout": 5}, "Did you mean ttl="),
    ],
)
def test_a_mistake_is_told_where_the_task_is_decorated(arguments, complaint):
    with pytest.raises((TypeError, ValueError), match=complaint):
        lock_task(**arguments)


@pytest.mark.parametrize(
    ("decorator", "complaint"),
    [
        (lock_task(by=["day"]), "takes no argument 'day'"),
        (lock_task(Account), "takes no argument 'account'"),
        (lock_task(Account, name="country"), "takes no argument that names the row"),
    ],
)
def test_a_function_that_does_not_take_what_is_told_is_refused(decorator, complaint):
    with pytest.raises(TypeError, match=complaint):
        decorator(lambda country: None)


def test_what_is_a_task_already_is_refused():
    with pytest.raises(TypeError, match="is one already"):
        lock_task()(object())  # type: ignore[type-var]  # the mistake under test
