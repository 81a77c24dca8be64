"""The ways to lock that are compared. All that use Redis use the one client that django-redis gives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import redis_lock
from django.core.cache import caches
from django.db import transaction
from django_redis import get_redis_connection
from redis.lock import Lock

from django_redislock import lock
from testproject.bank.models import Account

from .measure import Contender

KEYS = 16
"""The keys rotate over so many, as an application's do."""

RAW = "raw pair"
OURS = 'lock("name")'
AGAIN = 'lock("name") again'
ROW = "select_for_update()"
OUR_ROW = "objects.locked(pk)"

COMPARE_AND_DELETE = b"if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


def raw_pair(client: Any, names: Sequence[str]) -> Callable[[int], None]:
    """The least that a lock can be, with a client of redis-py: SET NX PX, and a compare-and-delete."""
    token = "5f0c1dce2f6b4d0e8a7f3b9d6c1e2a47"  # one for all: the cost of making them is not in the base
    sha = hashlib.sha1(COMPARE_AND_DELETE, usedforsecurity=False).hexdigest()
    client.script_load(COMPARE_AND_DELETE)

    def pair(number: int) -> None:
        key = names[number % KEYS]
        client.set(key, token, nx=True, px=30_000)
        client.evalsha(sha, 1, key, token)

    return pair


def of_redis() -> list[Contender]:
    """The locks on names."""
    client = get_redis_connection("default")
    cache: Any = caches["default"]
    # The names differ, since python-redis-lock and ours do not exclude each other.
    names = [f"benchmark-{number}" for number in range(KEYS)]
    raw_names = [f"raw:{name}" for name in names]

    def redis_py(number: int) -> None:
        with Lock(client, raw_names[number % KEYS], timeout=30):
            pass

    def django_redis(number: int) -> None:
        with cache.lock(names[number % KEYS], timeout=30):
            pass

    def python_redis_lock(number: int) -> None:
        with redis_lock.Lock(client, names[number % KEYS], expire=30):
            pass

    def ours(number: int) -> None:
        with lock(names[number % KEYS]):
            pass

    def ours_again(number: int) -> None:
        with lock(names[0]):
            pass

    return [
        Contender(name=RAW, pair=raw_pair(client, raw_names)),
        Contender(name="redis-py Lock", pair=redis_py),
        Contender(name="django-redis cache.lock", pair=django_redis),
        Contender(name="python-redis-lock", pair=python_redis_lock),
        Contender(name=OURS, pair=ours),
        Contender(name=AGAIN, pair=ours_again, around=lambda: lock(names[0])),
    ]


def of_rows(pks: Sequence[int]) -> list[Contender]:
    """The locks on rows, which read the row as well."""

    def theirs(number: int) -> None:
        with transaction.atomic():
            Account.objects.select_for_update().get(pk=pks[number % KEYS])

    def ours(number: int) -> None:
        with Account.objects.locked(pks[number % KEYS]):
            pass

    return [Contender(name=ROW, pair=theirs), Contender(name=OUR_ROW, pair=ours)]
