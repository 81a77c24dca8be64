"""The package's texts for translators: `python -m tests.messages` brings the catalogues up to date and compiles them.

New texts come without translation; a test fails until they have one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from babel.messages import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from django.utils.translation.template import templatize

import django_redislock

PACKAGE = Path(django_redislock.__file__).parent
LANGUAGES = ("zh_Hans",)
KEYWORDS = DEFAULT_KEYWORDS | {
    f"{name}_lazy": DEFAULT_KEYWORDS[name] for name in ("gettext", "ngettext", "pgettext", "npgettext")
}


HEAD: Any = {
    "project": "django-redislock",
    "version": "0.1.0",
    "fuzzy": False,
    "header_comment": "# Texts of django-redislock. `python -m tests.messages` brings this file up to date.",
    "msgid_bugs_address": "-",
    "last_translator": "the django-redislock contributors",
    "language_team": "-",
    "creation_date": datetime(2026, 11, 24, tzinfo=UTC),
    "revision_date": datetime(2026, 11, 24, tzinfo=UTC),
}
"""What begins a catalogue. It has no dates that change, so that only texts do."""


def sources() -> Iterator[tuple[Path, str]]:
    """Every file that may hold texts, as Python."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, path.read_text(encoding="utf-8")
    for path in sorted((PACKAGE / "templates").rglob("*.html")):
        lines = templatize(path.read_text(encoding="utf-8")).splitlines()
        yield path, "\n".join(map(str.strip, lines))


def template() -> Catalog:
    """All texts, untranslated."""
    catalog = Catalog(project="django-redislock", fuzzy=False)
    for path, source in sources():
        for line, message, _comments, context in extract("python", BytesIO(source.encode()), keywords=KEYWORDS):
            place = (path.relative_to(PACKAGE).as_posix(), line)
            catalog.add(message, locations=[place], context=context, auto_comments=[])
    return catalog


def po_of(language: str) -> Path:
    return PACKAGE / "locale" / language / "LC_MESSAGES" / "django.po"


def read(language: str) -> Catalog:
    """A catalogue as it is kept."""
    with po_of(language).open("rb") as file:
        return read_po(file, locale=language)


def compiled(catalog: Catalog) -> bytes:
    """A catalogue as gettext reads it."""
    out = BytesIO()
    write_mo(out, catalog)
    return out.getvalue()


def write_catalog(catalog: Catalog, path: Path) -> None:
    """For translators, and compiled."""
    with path.open("wb") as file:
        write_po(file, catalog, width=120, include_lineno=False)
    path.with_suffix(".mo").write_bytes(compiled(catalog))


def main() -> None:
    for language in LANGUAGES:
        path = po_of(language)
        path.parent.mkdir(parents=True, exist_ok=True)
        catalog = read(language) if path.exists() else Catalog(locale=language, **HEAD)
        catalog.update(template(), no_fuzzy_matching=True, update_header_comment=False, update_creation_date=False)
        catalog.obsolete.clear()
        write_catalog(catalog, path)


if __name__ == "__main__":
    main()
