"""No text is missed: every one can be translated, and every catalogue has all of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from babel.messages import Catalog
from babel.messages.mofile import read_mo
from django.test import Client
from django.utils import translation

from django_redislock import lock
from tests.messages import LANGUAGES, PACKAGE, compiled, po_of, read, template

TEMPLATES = sorted((PACKAGE / "templates").rglob("*.html"))
PAGES = [PACKAGE / "models.py", PACKAGE / "apps.py", PACKAGE / "admin.py", *sorted((PACKAGE / "pages").glob("*.py"))]
PLACE = re.compile(r"%(?:\(\w+\))?[sd%]")

every_language = pytest.mark.parametrize("language", LANGUAGES)


def texts_of(catalog: Catalog) -> set[tuple[str | None, Any]]:
    return {(message.context, message.id) for message in catalog if message.id}


def name_of(path: Path) -> str:
    return path.name


# The catalogues


@every_language
def test_a_catalogue_has_every_text_and_no_other(language):
    assert texts_of(read(language)) == texts_of(template())


@every_language
def test_every_text_is_translated(language):
    missing = [message.id for message in read(language) if message.id and not all(strings_of(message))]
    assert missing == []


def strings_of(message: Any) -> tuple[str, ...]:
    return message.string if isinstance(message.string, tuple) else (message.string,)


@every_language
def test_a_translation_has_the_places_of_its_text(language):
    for message in read(language):
        if message.id:
            plural = message.id if isinstance(message.id, str) else message.id[-1]
            for string in strings_of(message):
                assert sorted(PLACE.findall(string)) == sorted(PLACE.findall(plural)), message.id


@every_language
def test_what_is_compiled_is_what_is_written(language):
    with po_of(language).with_suffix(".mo").open("rb") as file:
        kept = read_mo(file)
    assert strings_in(kept) == strings_in(read_mo(BytesIO(compiled(read(language)))))


def strings_in(catalog: Catalog) -> dict[str, Any]:
    return {f"{message.context} {message.id}": message.string for message in catalog if message.id}


# The sources


class TextFinder(HTMLParser):
    """Finds the words of a template that stand outside its tags and variables."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found += re.findall(r"[A-Za-z]{2,}.*", data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = ("title", "aria-label", "alt", "placeholder", "value")
        self.found += [value for name, value in attrs if name in said and value and re.search("[A-Za-z]{2,}", value)]


def words_outside(source: str) -> list[str]:
    source = re.sub(r"{% blocktranslate.*?{% endblocktranslate %}", "", source, flags=re.DOTALL)
    source = re.sub(r"{%.*?%}|{{.*?}}|{#.*?#}", "", source)
    finder = TextFinder()
    finder.feed(re.sub(r'\sdata-[a-z-]+="[^"]*"', "", f" {source}"))
    return finder.found


@pytest.mark.parametrize("path", TEMPLATES, ids=name_of)
def test_a_template_says_nothing_by_itself(path):
    assert words_outside(path.read_text()) == []


def test_a_word_that_was_missed_is_found():
    assert words_outside('<p>{% translate "a" %}</p><p>Missed {{ x }}</p><a title="this too">') == [
        "Missed ",
        "this too",
    ]


NAMES = {"verbose_name", "verbose_name_plural", "description", "short_description", "label", "help_text", "title"}


def plain_texts(source: str) -> Iterator[str]:
    """What is said in words that were not marked for translation."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg in NAMES and isinstance(node.value, ast.Constant):
            yield str(node.value.value)
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("messages."):
            yield from (str(arg.value) for arg in node.args if isinstance(arg, ast.Constant))
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield from (node.value.value for target in node.targets if ast.unparse(target) in NAMES)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_a_page_says_nothing_that_is_not_marked(path):
    assert list(plain_texts(path.read_text())) == []


def test_a_text_that_was_missed_is_found():
    source = 'messages.error(request, "a"); title = "b"; f(label="c")'
    assert sorted(plain_texts(source)) == ["a", "b", "c"]


# The pages


@pytest.mark.django_db
def test_the_pages_speak_chinese(admin_client: Client, lock_alias: str):
    with translation.override("zh-hans"), lock("夜间导入"):
        headers = {"accept-language": "zh-hans"}
        page = admin_client.get("/admin/django_redislock/heldlock/", headers=headers).text
        confirmation = admin_client.get("/admin/django_redislock/heldlock/release/?lock=default:夜间导入").text
    assert all(text in page for text in ("持有中的锁", "有 1 个锁被持有。", "强制释放所选的锁", "夜间导入"))
    assert re.search(r"\d 秒", page)
    assert "将从其持有者手中收回" in confirmation
