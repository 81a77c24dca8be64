"""The suite's settings with the admin theme Unfold."""

from __future__ import annotations

import os

from tests import settings

globals().update({name: value for name, value in vars(settings).items() if name.isupper()})

INSTALLED_APPS = ["unfold", *settings.INSTALLED_APPS]
DATABASES = {"default": settings.DATABASES["default"] | {"NAME": os.environ.get("THEME_DATABASE", ":memory:")}}
REDISLOCK = {"default": {"CACHE": "default"}}
ALLOWED_HOSTS = ["127.0.0.1"]
