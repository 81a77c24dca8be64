"""Django as the benchmarks need it: one cache on the Redis, and PostgreSQL if there is one."""

from __future__ import annotations

import os

from testproject import databases
from testproject.settings import INSTALLED_APPS, MIDDLEWARE, ROOT_URLCONF, STATIC_URL, TEMPLATES

__all__ = ["INSTALLED_APPS", "MIDDLEWARE", "ROOT_URLCONF", "STATIC_URL", "TEMPLATES"]

SECRET_KEY = "for the benchmarks only"
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": os.environ["TEST_REDIS_URL"],
        "KEY_PREFIX": "benchmarks",
    },
}
REDISLOCK = {"default": {"CACHE": "default", "TTL": 30, "WAIT": 10}}

DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
if "TEST_POSTGRES_URL" in os.environ:
    # A database of its own: the suite, which runs this too, has one on the same server.
    DATABASES["default"] = databases.from_url(os.environ["TEST_POSTGRES_URL"]) | {
        "TEST": {"NAME": "redislock_benchmarks"},
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
