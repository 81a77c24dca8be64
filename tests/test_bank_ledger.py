"""The judge of the demo, fed with ledgers and balances that are right and wrong."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from testproject.bank.demo.ledger import Audit, Entry, Standing, audit

OPENING = {"A": Decimal(100), "B": Decimal(0), "C": Decimal(0)}


def entry(source: str, target: str, amount: Any, *, booked: bool = True, key: str = "k") -> Entry:
    return Entry(key=key, source=source, target=target, amount=Decimal(amount), booked=booked)


def judge(ledger: list[Entry], *, ordered: Any = None, **accounts: tuple[Any, int]) -> Audit:
    standings = {number: Standing(balance=balance, movements=0) for number, balance in OPENING.items()}
    standings |= {
        number: Standing(balance=Decimal(balance), movements=movements)
        for number, (balance, movements) in accounts.items()
    }
    keys = {line.key for line in ledger} if ordered is None else ordered
    return audit(opening=OPENING, ledger=ledger, standings=standings, ordered=keys)


def test_a_transfer_that_both_accounts_show_is_right():
    found = judge([entry("A", "B", 30)], A=(70, 1), B=(30, 1))
    assert found.right
    assert (found.booked, found.refused) == (1, 0)


def test_a_refused_order_moves_nothing():
    found = judge([entry("B", "A", 1, booked=False)])
    assert found.right
    assert found.refused == 1


def test_an_update_that_was_overwritten_is_counted_and_its_money_missed():
    found = judge([entry("A", "B", 30), entry("A", "B", 20, key="l")], A=(50, 2), B=(20, 1))
    assert not found.right
    assert (found.lost_updates, found.appeared, found.vanished) == (1, Decimal(0), Decimal(30))


def test_money_that_was_not_taken_from_its_source_appeared():
    found = judge([entry("A", "B", 30), entry("A", "C", 20, key="l")], A=(80, 1), B=(30, 1), C=(20, 1))
    assert (found.lost_updates, found.appeared, found.vanished) == (1, Decimal(30), Decimal(0))


def test_what_appears_on_one_account_does_not_hide_what_vanishes_from_another():
    found = judge([], A=(90, 0), B=(10, 0))
    assert (found.right, found.appeared, found.vanished) == (False, Decimal(10), Decimal(10))


def test_an_order_booked_without_the_money_is_misjudged():
    found = judge([entry("A", "B", 101)], A=(-1, 1), B=(101, 1))
    assert (found.right, found.misjudged) == (False, 1)


def test_an_order_refused_although_the_money_was_there_is_misjudged():
    assert judge([entry("A", "B", 100, booked=False)]).misjudged == 1


def test_money_received_before_can_be_spent():
    assert judge([entry("A", "B", 30), entry("B", "C", 30, key="l")], A=(70, 1), B=(0, 2), C=(30, 1)).right


def test_a_key_that_was_decided_twice_is_found():
    found = judge([entry("A", "B", 1), entry("A", "B", 1)], A=(98, 2), B=(2, 2))
    assert (found.right, found.booked_twice) == (False, 1)


def test_an_order_that_was_never_decided_is_found():
    found = judge([], ordered={"k"})
    assert (found.right, found.undecided) == (False, 1)


@given(st.lists(st.tuples(st.permutations("ABC"), st.integers(1, 60))))
def test_a_bank_that_does_one_order_after_the_other_is_always_right(orders):
    balances, movements, ledger = dict(OPENING), dict.fromkeys(OPENING, 0), []
    for number, ((source, target, _), amount) in enumerate(orders):
        booked = balances[source] >= amount
        for account, change in ((source, -amount), (target, amount)) if booked else ():
            balances[account] += change
            movements[account] += 1
        ledger.append(entry(source, target, amount, booked=booked, key=str(number)))
    assert judge(ledger, **{number: (balances[number], movements[number]) for number in OPENING}).right
