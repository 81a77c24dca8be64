"""The documentation is complete, and its messages, defaults and figures are those of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from django.core.cache import caches
from django.dispatch import Signal
from redis.exceptions import ConnectionError

import django_redislock
from django_redislock import clock, conf, lock, signals
from django_redislock.conflicts import VersionConflict, describe
from django_redislock.exceptions import LossReason
from django_redislock.holder import Holder
from django_redislock.keylock import NOT_HELD, busy, deadlock, not_held
from django_redislock.keys import Key
from django_redislock.lease import Lease
from django_redislock.lookout import awaited
from django_redislock.stores.base import Edge, Held
from django_redislock.stores.redis import RedisStore
from tests.pages import ROOT, text_of
from tests.testapp.models import Account

FILES = ROOT / "django_redislock" / "stores" / "scripts"
SCRIPTS = sorted(FILES.glob("*.lua"))

# The lists


@pytest.mark.parametrize("name", django_redislock.__all__)
def test_every_public_name_is_in_the_reference(name):
    assert re.search(rf"^\.\. auto\w+:: {name}\b", text_of("api.md"), re.MULTILINE)


def rows_of(name: str) -> set[str]:
    """The names that begin the rows of a page's tables."""
    return set(re.findall(r"^\| `(\w+)`", text_of(name), re.MULTILINE))


@pytest.mark.parametrize("name", [name for name in django_redislock.__all__ if name[0].isupper()])
def test_every_error_has_its_row(name):
    is_error = issubclass(getattr(django_redislock, name), django_redislock.RedisLockError)
    assert (name in rows_of("errors.md")) == (is_error and name != "RedisLockError")


def test_every_setting_is_documented_with_its_default():
    text = text_of("settings.md")
    shown = re.findall(r"^## ([A-Z_]+)\n\nDefault: `(.+?)`", text, re.MULTILINE)
    assert {name: ast.literal_eval(default) for name, default in shown} == conf.DEFAULTS


def test_every_signal_is_documented():
    assert rows_of("signals.md") == {name for name, value in vars(signals).items() if isinstance(value, Signal)}


def test_every_command_that_the_scripts_use_is_documented():
    used = {name for script in FILES.rglob("*.lua") for name in re.findall(r"\bcall\('(\w+)'", script.read_text())}
    (listed,) = re.findall(r"with access rules: ([^;]+);", text_of("protocol.md").replace("\n", " "))
    assert set(re.findall(r"\w+", listed)) == used


def test_every_script_is_documented():
    assert set(re.findall(r"^\| `(\w+\.lua)`", text_of("protocol.md"), re.MULTILINE)) == {path.name for path in SCRIPTS}


def test_every_warning_of_the_log_is_documented():
    sources = (path.read_text() for path in (ROOT / "django_redislock").rglob("*.py"))
    warnings = [text for source in sources for text in re.findall(r'logger\.warning\(\s*"([^"%]+)', source)]
    documented = re.findall(r"^\| `([A-Z][\w ]+ [\w ]+)` \|", text_of("errors.md"), re.MULTILINE)
    assert warnings
    assert all(any(text.startswith(start) for start in documented) for text in warnings), warnings
    assert all(any(text.startswith(start) for text in warnings) for start in documented), documented


# The messages

KEY = Key("bank.Account:42")
HOLDER = Holder(host="web-1", pid=4242, thread="MainThread", doing="gunicorn")
HELD = Held(holder=HOLDER, fence=41, since=0, held_for=3.2, remaining=26.8, asked=3.2)
EDGES = (
    Edge(key="bank.Account:42", holder=HOLDER),
    Edge(key="bank.Account:7", holder=Holder(host="web-2", pid=99, thread="MainThread", doing="manage.py shell")),
)


def lost(reason: LossReason) -> Exception:
    lease = Lease(key=KEY, token="", ttl=30, extender=None)  # type: ignore[arg-type]
    lease.begin(fence=41, asked_at=clock.now() - 31.5)
    lease.deadline = clock.now() + (reason is not LossReason.EXPIRED)
    lease.end(reason)
    return lease.lost()


def unavailable() -> Exception:
    def refuse() -> Any:
        raise ConnectionError("Connection refused.")

    with pytest.raises(django_redislock.StoreUnavailable) as caught:
        RedisStore(refuse, scope="default", prefix="").inspect(KEY)
    return caught.value


MESSAGES: dict[str, Callable[[], Exception]] = {
    "busy": lambda: busy(KEY, HELD, wait=0),
    "waited": lambda: busy(KEY, HELD, wait=2),
    "deadlock": lambda: deadlock(KEY, EDGES),
    "awaited": lambda: awaited(KEY, HELD),
    **{reason.value: partial(lost, reason) for reason in LossReason},
    "unavailable": unavailable,
    "changed": lambda: VersionConflict(f"bank.Report:42 {describe(3, 5)}"),
    "deleted": lambda: VersionConflict(f"bank.Report:42 {describe(3, None)}"),
    "not read": lambda: VersionConflict(f"bank.Report:42 {describe(None, 5)}"),
    **{answer.value: partial(not_held, KEY, answer) for answer in NOT_HELD},
}


@pytest.mark.parametrize("message", MESSAGES)
def test_the_messages_are_those_that_are_raised(message, monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: 100.0)
    assert f"\n{MESSAGES[message]()}\n" in text_of("errors.md")


# What the pages claim beside that


def test_managers_of_related_objects_lock_too(db, lock_alias):
    account = Account.objects.create()
    ticket = account.tickets.create()
    with account.tickets.locked(ticket.pk) as row:
        assert row == ticket


@pytest.mark.parametrize("find", [Lease.extend, Lease.ensure_held, repr], ids=["extend", "ensure_held", "release"])
def test_a_loss_is_signalled_wherever_it_is_found(find, lock_alias):
    lost_ones = []

    def hear(lease: Lease, **named: Any) -> None:
        lost_ones.append(lease.key.name)

    signals.lock_lost.connect(hear)
    with suppress(django_redislock.RedisLockError), lock("a") as lease:
        caches[lock_alias].clear()
        find(lease)
    assert lost_ones == ["a"]


def test_a_deadline_is_as_documented():
    assert f"30 s the deadline is {clock.safe_ttl(30):g} s after" in text_of("leases.md").replace("\n", " ")
