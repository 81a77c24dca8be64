"""Reading the files of the demo."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from testproject.bank.data import generate
from testproject.bank.demo.orders import BadFile, Batch, read_accounts, read_orders

HEADING = b"key,source,target,amount,purpose\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "orders.csv"


def read(file: Path, *lines: bytes) -> Batch:
    file.write_bytes(HEADING + b"\n".join(lines))
    return read_orders(file, accounts={"A", "B"})


def test_an_order_is_read_with_its_line_number(file):
    (order,) = read(file, b"k1,A,B,12.50,rent").orders
    assert (order.line, order.key, order.source, order.target, order.amount) == (2, "k1", "A", "B", Decimal("12.50"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"k,A,B,1", "4 columns instead of 5"),
        (b"k,A,B,1,x,y", "6 columns instead of 5"),
        (b"k;A;B;1;x", "1 columns instead of 5"),
        (b"k,A,B,much,x", "amount 'much': Enter a number"),
        (b"k,A,B,-1,x", "amount '-1': Ensure this value is greater than or equal to 0.01"),
        (b"k,A,B,0,x", "amount '0': Ensure this value is greater than or equal to 0.01"),
        (b"k,A,B,1.234,x", "amount '1.234': Ensure that there are no more than 2 decimal places"),
        (b"k,A,B,NaN,x", "amount 'NaN': Enter a number"),
        (b"k,A,B,,x", "amount '': This field is required"),
        (b"k,A,C,1,x", "unknown account 'C'"),
        (b"k,A,A,1,x", "source and target are both A"),
        (b",A,B,1,x", "a key has 1 to 64 characters, this one 0"),
        (b"k" * 65 + b",A,B,1,x", "a key has 1 to 64 characters, this one 65"),
        (b"k,A,B,1,caf\xe9", "not UTF-8 text"),
        (b"k,A,B,1,\x00", "not UTF-8 text"),
        (b'k,A,B,1,"x', "not CSV (unexpected end of data)"),
    ],
)
def test_a_line_that_is_no_order_is_skipped_with_its_number_and_the_reason(file, line, reason):
    batch = read(file, b"k1,A,B,1,x", line, b"k2,B,A,1,x")
    assert [order.key for order in batch.orders] == ["k1", "k2"]
    assert [(skipped.line, skipped.reason) for skipped in batch.skipped] == [(3, reason)]


def test_an_empty_line_is_nothing_but_counts(file):
    batch = read(file, b"", b"k1,A,B,1,x\r", b"  ")
    assert [order.line for order in batch.orders] == [3]
    assert batch.skipped == ()


def test_the_same_key_twice_is_two_orders(file):
    assert len(read(file, b"k1,A,B,1,x", b"k1,A,B,1,x").orders) == 2


def test_a_file_with_other_columns_is_refused(file):
    file.write_text("from,to\n")
    with pytest.raises(BadFile, match="the first line has to be key,source,target,amount,purpose"):
        read_orders(file, accounts=set())


def test_a_file_that_is_not_there_is_refused(file):
    with pytest.raises(BadFile, match="No such file"):
        read_orders(file, accounts=set())


@pytest.mark.parametrize(
    ("line", "reason"),
    [("A,Rent", "line 3: 2 columns"), ("A,Rent,x", "line 3: amount 'x'"), ("B,Rent,1", "line 3: account B is there")],
)
def test_accounts_have_to_be_right_in_every_line(file, line, reason):
    file.write_text(f"number,owner,opening\nB,Bakery,5.00\n{line}\n")
    with pytest.raises(BadFile, match=reason):
        read_accounts(file)


def test_the_files_that_are_shipped_are_what_the_script_makes(tmp_path, monkeypatch):
    shipped = generate.HERE
    monkeypatch.setattr(generate, "HERE", tmp_path)
    generate.main()
    for name in ("accounts.csv", "transfers.csv"):
        assert (tmp_path / name).read_bytes() == (shipped / name).read_bytes()


def test_the_orders_that_are_shipped_have_hot_accounts_duplicates_and_faults():
    accounts = read_accounts(generate.HERE / "accounts.csv")
    batch = read_orders(generate.HERE / "transfers.csv", accounts={account.number for account in accounts})
    hottest = accounts[0].number
    assert len(batch.orders) > 5000
    assert sum(hottest in {order.source, order.target} for order in batch.orders) > 500
    assert len({order.key for order in batch.orders}) == 5000
    assert len({skipped.reason for skipped in batch.skipped}) > 15
