"""Decorators keep the signature of what they decorate, for mypy and for pyright alike."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

RIGHT = """
from django.core.management.base import BaseCommand
from django.http import HttpRequest, HttpResponse
from typing import assert_type

from django_redislock import lock_command, lock_instance, lock_task, locked
from testproject.bank.models import Account

@lock_instance(Account, wait=2)
def pay(request: HttpRequest, account: Account) -> HttpResponse:
    return HttpResponse()

@lock_task
def report(year: int) -> str:
    return ""

@lock_task(Account)
def pay_out(account_id: int, account: Account) -> str:
    return ""

@lock_command(hold_at_least=60)
class Command(BaseCommand):
    rate = 3

def use(request: HttpRequest, account: Account) -> None:
    assert_type(pay(request, account), HttpResponse)
    assert_type(report(2026), str)
    assert_type(pay_out(1, account), str)
    assert_type(Command().rate, int)
    with locked(Account, 1) as row:
        assert_type(row, Account)
"""
WRONG = {
    "a view": "pay('no request', 7)",
    "a task": "report('a year')",
    "an argument": "lock_instance(Account, wait='long')",
    "a word": "lock_instance(Account, timeout=5)",
    "a command": "Command().speed",
}
CHECKERS = {
    "mypy": ["mypy", "--no-error-summary"],
    "pyright": ["pyright", "--pythonpath", sys.executable],
}


def check(checker: str, tmp_path: Path, *lines: str) -> str:
    """What the checker says of a program."""
    pytest.importorskip(checker, reason=f"{checker} is in the extra `type`")
    program = tmp_path / "program.py"
    program.write_text("\n".join([RIGHT, *lines]))
    command = [sys.executable, "-m", *CHECKERS[checker], str(program)]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True).stdout


@pytest.mark.long
@pytest.mark.parametrize("checker", CHECKERS)
def test_what_is_right_is_right_and_what_is_wrong_is_told(checker, tmp_path):
    first = RIGHT.count("\n") + 1
    said = check(checker, tmp_path, *WRONG.values())
    lines = {int(part.split(":")[1]) for part in said.splitlines() if "program.py:" in part and "error" in part}
    assert lines == set(range(first + 1, first + 1 + len(WRONG))), said
