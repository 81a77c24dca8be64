"""The documentation says what the code does: its examples are run, its lists are complete, its links lead somewhere.

Every block of Python is run, in the order of its page, unless `<!-- not run: reason -->` stands before it.
"""

from __future__ import annotations

import ast
import doctest
import os
import re
import subprocess
import sys
import unittest
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test import override_settings
from django.test.utils import isolate_apps
from redis.exceptions import ConnectionError

import django_redislock
import testproject.bank.models as bank
from django_redislock import checks, clock, conf, lock, signals
from django_redislock.holder import Holder
from django_redislock.keylock import NOT_HELD, busy, not_held
from django_redislock.keys import Key
from django_redislock.lease import Lease
from django_redislock.stores.base import Held
from django_redislock.stores.redis import RedisStore

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TUTORIAL, WRONG_SETTINGS = "getting-started.md", "checks.md"
FENCE = re.compile(r"(?P<skip><!-- not run: .+ -->\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block of a page."""

    kind: str
    text: str
    line: int
    is_run: bool


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(
            kind=match["kind"],
            text=match["text"],
            line=text.count("\n", 0, match.start("text")),
            is_run=not match["skip"],
        )
        for match in FENCE.finditer(text)
    ]


def name_of(page: Path) -> str:
    return page.name


def text_of(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def run(page: Path, names: dict[str, Any]) -> None:
    """Run the page's Python as one program; a traceback shows the lines of the page."""
    for block in blocks_of(page):
        if block.is_run and block.kind == "python":
            exec(compile("\n" * block.line + block.text, page, "exec"), names)
        elif block.is_run and block.kind == "pycon":
            example = doctest.DocTestParser().get_doctest(block.text, names, page.name, str(page), block.line)
            example.globs = names
            doctest.DebugRunner().run(example, clear_globs=False)


# The examples

NOT_ONE_PROGRAM = {TUTORIAL, WRONG_SETTINGS}


@pytest.fixture
def names(
    transactional_db: None, lock_alias: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """What the examples take for granted: an app `bank` with accounts, a user, a tenant."""
    settings.CACHES = {"default": settings.CACHES[lock_alias]}
    settings.REDISLOCK = {}
    monkeypatch.setitem(sys.modules, "bank", sys.modules["testproject.bank"])
    monkeypatch.setitem(sys.modules, "bank.models", bank)
    monkeypatch.setattr(connection, "schema_name", "oslo", raising=False)
    User.objects.create(username="alice")
    one = bank.Account.objects.create(number="NO-1", owner="Kari", balance=100)
    other = bank.Account.objects.create(number="NO-2", owner="Ola", balance=100)
    receivers = [(signal, list(signal.receivers)) for signal in vars(signals).values() if hasattr(signal, "receivers")]
    with isolate_apps("testproject.bank"):
        yield {"__name__": "testproject.bank.models", "pk": one.pk, "other_pk": other.pk}
    for signal, before in receivers:
        signal.receivers[:] = before
        signal.sender_receivers_cache.clear()


def shown_settings_faults(names: dict[str, Any]) -> list[Any]:
    """What the system checks say of the settings that a page shows."""
    with override_settings(**{name: names[name] for name in ("CACHES", "REDISLOCK") if name in names}):
        return checks.check_settings()


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in NOT_ONE_PROGRAM], ids=name_of)
def test_the_examples_of_a_page_run(page, names):
    run(page, names)
    assert not shown_settings_faults(names)
    cases = [value for value in names.values() if isinstance(value, type) and issubclass(value, unittest.TestCase)]
    suite = unittest.TestSuite(
        unittest.defaultTestLoader.loadTestsFromTestCase(case) for case in cases if case.__module__ == names["__name__"]
    )
    result = suite.run(unittest.TestResult())
    assert result.wasSuccessful(), [*result.errors, *result.failures]


def test_a_block_that_fails_is_told(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```pycon\n>>> 1 + 1\n3\n```\n")
    with pytest.raises(doctest.DocTestFailure):
        run(page, {})


def commands_of(block: Block) -> Iterator[tuple[str, str]]:
    """The commands of a block with what each is to print."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed


def write_file(block: Block, directory: Path) -> None:
    """Append the block to the file that its first line names."""
    path = directory / block.text.partition("\n")[0].removeprefix("# ")
    with path.open("a") as file:
        file.write(block.text)


@pytest.mark.timeout(180)
def test_the_tutorial_works_from_an_empty_directory(tmp_path, real_redis):
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "REDIS_URL": os.environ["TEST_REDIS_URL"],
    }
    for block in blocks_of(ROOT / "docs" / TUTORIAL):
        if block.kind == "python":
            write_file(block, tmp_path)
        for command, printed in commands_of(block) if block.is_run else ():
            answer = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
            assert answer.returncode == 0, f"{command}: {answer.stderr}"
            assert doctest.OutputChecker().check_output(printed, answer.stdout, doctest.ELLIPSIS), answer.stdout


# The checks


def sections_of(name: str) -> dict[str, list[Block]]:
    """The blocks below each heading of the second level."""
    page = ROOT / "docs" / name
    lines = page.read_text().splitlines()
    starts = {index: line.removeprefix("## ") for index, line in enumerate(lines) if line.startswith("## ")}
    found: dict[str, list[Block]] = {title: [] for title in starts.values()}
    for block in blocks_of(page):
        above = [title for start, title in starts.items() if start < block.line]
        if above:
            found[above[-1]].append(block)
    return found


CHECKS = sections_of(WRONG_SETTINGS)


def settings_in(block: Block) -> dict[str, Any]:
    names: dict[str, Any] = {"REDISLOCK": {}}
    exec(block.text, names)
    return {name: value for name, value in names.items() if name.isupper()}


def test_every_check_is_documented():
    source = Path(checks.__file__).read_text()
    assert [f"django_redislock.{number}" for number in sorted(set(re.findall(r"\bE\d{3}\b", source)))] == [*CHECKS]


@pytest.mark.parametrize("identifier", CHECKS)
def test_the_example_of_a_check_gives_its_message(identifier):
    wrong, message, *_ = CHECKS[identifier]
    with override_settings(**settings_in(wrong)):
        assert [(fault.id, f"{fault.msg}\n") for fault in checks.check_settings()] == [(identifier, message.text)]
        with pytest.raises(ImproperlyConfigured):
            lock("a", alias="default").acquire()


@pytest.mark.parametrize("identifier", [identifier for identifier, blocks in CHECKS.items() if len(blocks) > 2])
def test_the_remedy_of_a_check_is_right(identifier):
    with override_settings(**settings_in(CHECKS[identifier][2])):
        assert checks.check_settings() == []


# The lists


@pytest.mark.parametrize("name", django_redislock.__all__)
def test_every_public_name_is_in_the_reference(name):
    assert re.search(rf"^\.\. auto\w+:: {name}$", text_of("api.md"), re.MULTILINE)


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
    assert rows_of("signals.md") == {name for name in vars(signals) if name.startswith("lock_")}


def test_every_command_that_the_scripts_use_is_documented():
    scripts = (ROOT / "django_redislock" / "stores" / "scripts").glob("*.lua")
    used = {name for script in scripts for name in re.findall(r"redis\.call\('(\w+)'", script.read_text())}
    (listed,) = re.findall(r"^(`GET`.+)around them", text_of("protocol.md"), re.MULTILINE)
    assert set(re.findall(r"\w+", listed)) == used


def test_every_script_is_documented():
    scripts = (ROOT / "django_redislock" / "stores" / "scripts").glob("*.lua")
    assert set(re.findall(r"^\| `(\w+\.lua)`", text_of("protocol.md"), re.MULTILINE)) == {path.name for path in scripts}


def test_every_warning_of_the_log_is_documented():
    sources = (path.read_text() for path in (ROOT / "django_redislock").glob("*.py"))
    warnings = [text for source in sources for text in re.findall(r'logger\.warning\("([^"%]+)', source)]
    documented = re.findall(r"^\| `([A-Z][\w ]+ [\w ]+)` \|", text_of("errors.md"), re.MULTILINE)
    assert warnings
    assert all(any(text.startswith(start) for start in documented) for text in warnings), warnings
    assert all(any(text.startswith(start) for text in warnings) for start in documented), documented


# The messages

KEY = Key("bank.Account:42")
HOLDER = Holder(host="web-1", pid=4242, thread="MainThread", doing="gunicorn")
HELD = Held(holder=HOLDER, fence=41, since=0, held_for=3.2, remaining=26.8)


def lost() -> Exception:
    lease = Lease(key=KEY, token="", fence=41, ttl=30, asked_at=clock.now() - 31.5, extender=None)  # type: ignore[arg-type]
    return lease.lost()


def unavailable() -> Exception:
    def refuse() -> Any:
        raise ConnectionError("Connection refused.")

    with pytest.raises(django_redislock.StoreUnavailable) as caught:
        RedisStore(refuse, scope="default", prefix="").inspect(KEY)
    return caught.value


MESSAGES = {
    "busy": lambda: busy(KEY, HELD, wait=0),
    "waited": lambda: busy(KEY, HELD, wait=2),
    "lost": lost,
    "unavailable": unavailable,
    **{answer.name.lower(): lambda answer=answer: not_held(KEY, answer) for answer in NOT_HELD},
}


@pytest.mark.parametrize("message", MESSAGES)
def test_the_messages_are_those_that_are_raised(message, monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: 100.0)
    assert f"\n{MESSAGES[message]()}\n" in text_of("errors.md")


def test_a_deadline_is_as_documented():
    assert f"30 s the deadline is {clock.safe_ttl(30):g} s after" in text_of("leases.md").replace("\n", " ")


# The links


def anchors_of(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name_of)
def test_the_links_lead_to_pages_and_headings(page):
    for link in re.findall(r"\]\((?!https?://)([^)]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors_of(target), link


def test_every_page_is_linked_from_the_readme_and_in_the_index():
    readme, index = (ROOT / "README.md").read_text(), text_of("index.md")
    for page in (ROOT / "docs").glob("*.md"):
        if page.name != "index.md":
            assert f"(docs/{page.name})" in readme
            assert f"\n{page.stem}\n" in index
