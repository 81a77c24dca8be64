"""The suite's settings for a real web server whose views stream."""

from __future__ import annotations

from typing import Any

from tests import settings

globals().update({name: value for name, value in vars(settings).items() if name.isupper()})

ROOT_URLCONF = "tests.streaming"
MIDDLEWARE: list[Any] = []
ALLOWED_HOSTS = ["127.0.0.1"]
