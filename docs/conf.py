"""How Sphinx builds the documentation."""

from __future__ import annotations

from importlib.metadata import version as version_of

import django
from django.conf import settings

# Enough of Django for autodoc to import the package.
settings.configure(
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django_redislock",
    ],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
)
django.setup()

project = "django-redislock"
copyright = "2026, the django-redislock contributors"  # noqa: A001 - Sphinx reads this name
release = version = version_of(project)

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
default_role = "code"

html_theme = "furo"
html_title = f"{project} {release}"
