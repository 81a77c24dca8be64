"""The documentation does what it says: its examples are run, its links lead somewhere.

Every block of Python is run, in the order of its page, unless `<!-- not run: reason -->` stands before it.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from celery import current_app
from django.contrib.auth.models import User
from django.db import connection
from django.test import override_settings
from django.test.utils import isolate_apps

import testproject.bank.models as bank
from django_redislock import InvalidLockSettings, checks, lock, signals
from tests.pages import PAGES, ROOT, Block, anchors_of, blocks_of, name_of, run, sections_of, text_of

TUTORIAL, WRONG_SETTINGS = "getting-started.md", "checks.md"

# The examples

NOT_ONE_PROGRAM = {TUTORIAL, WRONG_SETTINGS}
if django.VERSION < (6, 0):
    NOT_ONE_PROGRAM.add("django-tasks.md")


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
    tables = set(connection.introspection.table_names())
    with isolate_apps("testproject.bank"):
        yield {"__name__": "testproject.bank.models", "pk": one.pk, "other_pk": other.pk}
    with connection.cursor() as cursor:
        for table in set(connection.introspection.table_names()) - tables:
            cursor.execute(f"DROP TABLE {connection.ops.quote_name(table)}")
    for name in [name for name in current_app.tasks if name.startswith("testproject.bank.models.")]:
        current_app.tasks.unregister(name)
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


@pytest.mark.long
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
            answer = subprocess.run(
                command, shell=True, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            assert answer.returncode == 0, f"{command}: {answer.stderr}"
            assert doctest.OutputChecker().check_output(printed, answer.stdout, doctest.ELLIPSIS), answer.stdout


# The checks

CHECKS = sections_of(WRONG_SETTINGS)


def settings_in(block: Block) -> dict[str, Any]:
    names: dict[str, Any] = {"REDISLOCK": {}}
    exec(block.text, names)
    return {name: value for name, value in names.items() if name.isupper()}


def test_every_check_is_documented():
    source = Path(checks.__file__).read_text()
    assert [f"django_redislock.{number}" for number in sorted(set(re.findall(r"\b[EW]\d{3}\b", source)))] == [*CHECKS]


@pytest.mark.parametrize("identifier", [identifier for identifier in CHECKS if ".E" in identifier])
def test_the_example_of_a_check_gives_its_message(identifier):
    wrong, message, *_ = CHECKS[identifier]
    with override_settings(**settings_in(wrong)):
        assert [(fault.id, f"{fault.msg}\n") for fault in checks.check_settings()] == [(identifier, message.text)]
        with pytest.raises(InvalidLockSettings):
            lock("a", alias="default").acquire()


@pytest.mark.parametrize("identifier", [identifier for identifier, blocks in CHECKS.items() if len(blocks) > 2])
def test_the_remedy_of_a_check_is_right(identifier):
    with override_settings(**settings_in(CHECKS[identifier][2])):
        assert checks.check_settings() == []


# The links


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
