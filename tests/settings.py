"""Settings of the suite: the test project's, on the servers that the environment names."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

import fakeredis

from testproject import databases
from testproject.settings import (
    DEFAULT_AUTO_FIELD,
    INSTALLED_APPS,
    MIDDLEWARE,
    REST_FRAMEWORK,
    STATIC_URL,
    TEMPLATES,
    TIME_ZONE,
    USE_TZ,
)

__all__ = [
    "DEFAULT_AUTO_FIELD",
    "INSTALLED_APPS",
    "MIDDLEWARE",
    "REST_FRAMEWORK",
    "STATIC_URL",
    "TEMPLATES",
    "TIME_ZONE",
    "USE_TZ",
]

SECRET_KEY = "for the tests only"
ROOT_URLCONF = "tests.urls"
INSTALLED_APPS = [*INSTALLED_APPS, "tests.testapp"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# A file, because a database in memory is seen by one process only. Its name is handed down to the processes that a
# test starts, and nothing is made yet: mypy imports these settings too, and leaves without cleaning up.
SQLITE = os.environ.setdefault(
    "REDISLOCK_TEST_SQLITE", str(Path(tempfile.gettempdir()) / f"redislock-test-{secrets.token_hex(8)}.sqlite3")
)

# Set by conftest.py once the test databases are there: in the processes that a test starts, the aliases mean those.
IN_TEST_DATABASES = os.environ.get("REDISLOCK_IN_TEST_DATABASES") == "1"


def database(url: str) -> dict[str, Any]:
    """A server's entry, with the test database's name."""
    entry = databases.from_url(url)
    test_name = f"test_{entry['NAME']}"
    return entry | {"NAME": test_name if IN_TEST_DATABASES else entry["NAME"], "TEST": {"NAME": test_name}}


DATABASES = {"default": databases.sqlite(Path(SQLITE)) | {"TEST": {"NAME": SQLITE}}}
for alias, variable in {"postgres": "TEST_POSTGRES_URL", "mariadb": "TEST_MARIADB_URL"}.items():
    if variable in os.environ:
        DATABASES[alias] = database(os.environ[variable])


def cache(location: str, **pool: Any) -> dict[str, Any]:
    """A cache of django-redis."""
    options = {"CONNECTION_POOL_KWARGS": pool}
    return {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": location, "OPTIONS": options}


def cluster_cache(location: str, **pool: Any) -> dict[str, Any]:
    """A cache of django-redis on a cluster."""
    factory = "django_redislock.cluster.ClusterConnectionFactory"
    options = {"CONNECTION_FACTORY": factory, "CONNECTION_POOL_KWARGS": {"socket_timeout": 5, **pool}}
    return {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": location, "OPTIONS": options}


def sentinel_cache(sentinels: list[tuple[str, int]], service: str, **pool: Any) -> dict[str, Any]:
    """A cache of django-redis on the primary that these Sentinels name."""
    options = {
        "CLIENT_CLASS": "django_redis.client.SentinelClient",
        "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
        "SENTINELS": sentinels,
        "CONNECTION_POOL_KWARGS": {"socket_timeout": 2, "socket_connect_timeout": 2, **pool},
    }
    return {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"redis://{service}/0", "OPTIONS": options}


CACHES = {"fake": cache("redis://fake:6379/0", connection_class=fakeredis.FakeRedisConnection)}
if "TEST_REDIS_URL" in os.environ:
    CACHES["real"] = cache(os.environ["TEST_REDIS_URL"])
CACHES["default"] = CACHES.get("real", CACHES["fake"])

REDISLOCK = {alias: {"CACHE": alias, "TTL": 30, "WAIT": 10} for alias in CACHES}
