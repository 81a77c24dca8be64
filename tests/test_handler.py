"""From an alias of `REDISLOCK` to the locks of one cache."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest
from django.conf import settings
from django.db.models import Model
from django.test import override_settings
from django_redis import get_redis_connection

from django_redislock import InvalidLockSettings, LockBusy, StoreUnavailable, lock
from django_redislock.handler import LockHandler, Locks, locks
from django_redislock.stores.redis import RedisStore
from tests.flows import PATIENCE, elsewhere, is_free
from tests.testapp.models import Account, AccountProxy, Restaurant

SECRET = "hunter2"
DJANGO_REDIS = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"redis://:{SECRET}@127.0.0.1:1/0"}

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


def by_tenant(name: str, *, model: type[Model] | None) -> str:
    """Such as an application with a schema for each tenant would have it."""
    return f"{tenant.get()}/{name}"


def in_tenant(name: str, function: Callable[[], Any]) -> Any:
    """What the function gives to another thread that works for this tenant."""

    def work() -> Any:
        tenant.set(name)
        return function()

    return elsewhere(work)


def taken(name: str) -> str:
    """Take a lock at once; gives the name under which it is kept."""
    return lock(name, nowait=True, ttl=5).acquire().key.name


@pytest.fixture
def aliases(lock_alias: str) -> Callable[..., Any]:
    """Settings of aliases that share a Redis, each through a cache of its own."""

    def use(**entries: dict[str, Any]) -> Any:
        cache = settings.CACHES[lock_alias]
        return override_settings(
            CACHES={alias: cache | entry for alias, entry in entries.items()},
            REDISLOCK={alias: {"CACHE": alias} for alias in entries},
        )

    return use


def excludes(one: str, other: str) -> bool:
    """Whether a lock that is held through one alias is busy through the other."""
    with lock("shared", alias=one):
        return elsewhere(lambda: lock("shared", alias=other).info()) is not None


@pytest.mark.parametrize("redislock", [{}, None])
def test_an_empty_setting_means_the_default_cache(redislock):
    with override_settings(REDISLOCK=redislock):
        assert locks["default"].options.cache == "default"


def test_no_setting_at_all_means_the_default_cache():
    with override_settings():
        del settings.REDISLOCK
        assert (locks["default"].options.cache, locks["default"].options.ttl) == ("default", 30)


@pytest.mark.usefixtures("lock_alias")
def test_without_an_alias_default_is_used():
    with lock("a"):
        assert lock("a", alias="default").info() is not None


def test_each_alias_has_its_own_options():
    with override_settings(REDISLOCK={"default": {"TTL": 5}, "slow": {"TTL": 600, "WAIT": None}}):
        assert [locks[alias].options.ttl for alias in ("default", "slow")] == [5, 600]


def test_an_alias_that_is_not_there_is_told():
    with override_settings(REDISLOCK={"default": {}}), pytest.raises(InvalidLockSettings, match="'absent'"):
        lock("a", alias="absent").acquire()


def test_overridden_settings_are_followed():
    with override_settings(REDISLOCK={"default": {"TTL": 5}}):
        before = locks["default"]
        with override_settings(REDISLOCK={"default": {"TTL": 7}}):
            assert locks["default"].options.ttl == 7
        assert (locks["default"].options.ttl, locks["default"] is before) == (5, False)


def test_an_overridden_cache_is_followed(lock_alias):
    elsewhere_in_it = settings.CACHES[lock_alias] | {"KEY_PREFIX": "elsewhere"}
    with lock("a"), override_settings(CACHES=settings.CACHES | {lock_alias: elsewhere_in_it}):
        assert is_free("a")
    assert is_free("a")


def test_other_settings_keep_what_was_built():
    before = locks["default"]
    with override_settings(DEBUG=True):
        assert locks["default"] is before


def test_threads_share_what_was_built():
    assert elsewhere(lambda: locks["default"]) is locks["default"]


def test_the_settings_ttl_and_wait_are_used(lock_alias):
    with override_settings(REDISLOCK={"default": {"CACHE": lock_alias, "TTL": 5, "WAIT": 0}}), lock("a") as lease:
        assert lease.ttl == 5
        with pytest.raises(LockBusy, match="not waited for"):
            elsewhere(lambda: lock("a").acquire())


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ({}, {}, True),
        ({"KEY_PREFIX": "shop"}, {"KEY_PREFIX": "shop"}, True),
        ({"KEY_PREFIX": "shop"}, {"KEY_PREFIX": "blog"}, False),
        ({"KEY_PREFIX": "shop"}, {}, False),
        ({"VERSION": 1}, {"VERSION": 2}, True),
        ({"TIMEOUT": 1}, {"TIMEOUT": None}, True),
    ],
    ids=str,
)
def test_caches_share_locks_when_their_prefix_is_the_same(aliases, one, other, shared):
    with aliases(default=one, other=other):
        assert excludes("default", "other") is shared


def test_threads_that_come_first_together_share_what_the_first_has_made():
    both = threading.Barrier(2)

    class Slow(LockHandler):
        """Makes nothing before two threads want it."""

        def create_connection(self, alias: str) -> Locks:
            both.wait(PATIENCE)
            return super().create_connection(alias)

    handler = Slow()
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(handler.__getitem__, ["default"] * 2)
    assert one is other is handler["default"]


def test_the_prefix_stands_in_front_of_every_key(lock_alias, aliases):
    with aliases(default={"KEY_PREFIX": "shop", "VERSION": 3}), lock("a"):
        keys = get_redis_connection("default").keys("*")
    assert keys
    assert all(key.startswith(b"shop:redislock:") for key in keys)


@pytest.mark.parametrize("function", [by_tenant, f"{__name__}.by_tenant"])
def test_tenants_do_not_exclude_each_other(lock_alias, function):
    with override_settings(REDISLOCK={"default": {"CACHE": lock_alias, "KEY_FUNCTION": function}}):
        assert [in_tenant(name, lambda: taken("import")) for name in ("a", "b")] == ["a/import", "b/import"]
        with pytest.raises(LockBusy):
            in_tenant("a", lambda: taken("import"))


@pytest.mark.parametrize("model", [Account, AccountProxy, Restaurant])
def test_the_key_function_is_told_the_model(lock_alias, model):
    def note(name: str, *, model: type[Model] | None) -> str:
        told.append((name.partition(":")[0], model))
        return name

    told: list[tuple[str, type[Model] | None]] = []
    with override_settings(REDISLOCK={"default": {"CACHE": lock_alias, "KEY_FUNCTION": note}}):
        model.objects.is_locked(7)
        lock("import").info()
    assert told == [("testapp.Place" if model is Restaurant else "testapp.Account", model), ("import", None)]


@pytest.mark.parametrize("given", [None, "", 5, b"name", ["name"]], ids=repr)
def test_a_key_function_that_gives_no_name_locks_nothing(lock_alias, given):
    entry = {"CACHE": lock_alias, "KEY_FUNCTION": lambda name, *, model: given}
    with override_settings(REDISLOCK={"default": entry}):
        with pytest.raises(InvalidLockSettings, match="KEY_FUNCTION must give a name that is not empty for 'a'"):
            lock("a").acquire()
    assert get_redis_connection(lock_alias).keys("*") == []


@pytest.mark.parametrize(
    "entry",
    [
        {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
        DJANGO_REDIS | {"BACKEND": "django.core.cache.backends.redis.RedisCache"},
        DJANGO_REDIS | {"BACKEND": "no.such.Cache"},
        DJANGO_REDIS | {"OPTIONS": {"CLIENT_CLASS": "django_redis.client.ShardClient"}},
        DJANGO_REDIS | {"OPTIONS": {"CLIENT_CLASS": "no.such.Client"}},
    ],
    ids=["LocMemCache", "DummyCache", "Django's RedisCache", "no back end", "ShardClient", "no client class"],
)
def test_a_cache_that_cannot_keep_locks_is_refused_each_time(entry):
    with override_settings(CACHES={"default": entry}, REDISLOCK={}):
        for _ in range(2):
            with pytest.raises(InvalidLockSettings, match="'default'"):
                lock("a", nowait=True).acquire()


def test_a_back_end_that_cannot_be_imported_is_not_told_as_a_missing_alias():
    with override_settings(CACHES={"default": DJANGO_REDIS | {"BACKEND": "no.such.Cache"}}, REDISLOCK={}):
        with pytest.raises(InvalidLockSettings) as caught:
            lock("a").acquire()
    assert "has no alias" not in str(caught.value)


def test_a_cache_that_is_not_there_is_refused():
    with override_settings(REDISLOCK={"default": {"CACHE": "absent"}}), pytest.raises(InvalidLockSettings) as caught:
        lock("a").acquire()
    assert str(caught.value) == "REDISLOCK: CACHES has no alias 'absent'."


@pytest.mark.parametrize(
    "redislock",
    [["default"], "default", {"default": None}, {"default": {"TTL": 0}}, {"default": {"TIMEOUT": 3}}],
    ids=str,
)
def test_wrong_settings_are_refused_where_no_checks_ran(redislock):
    with override_settings(REDISLOCK=redislock), pytest.raises(InvalidLockSettings, match="REDISLOCK"):
        lock("a").acquire()


@pytest.mark.parametrize(
    ("location", "error"),
    [
        (f"redis://:{SECRET}@127.0.0.1:1/0", StoreUnavailable),
        (f"redis://user:{SECRET}@127.0.0.1:1/0", StoreUnavailable),
        (f"redis://:{SECRET}/rest@127.0.0.1:1/0", Exception),
        (f"http://:{SECRET}@127.0.0.1:1/0", Exception),
    ],
    ids=["password", "user and password", "slash in the password", "wrong scheme"],
)
def test_no_password_is_told(location, error):
    with override_settings(CACHES={"default": DJANGO_REDIS | {"LOCATION": location}}, REDISLOCK={}):
        with pytest.raises(error) as caught:
            lock("a", nowait=True).acquire()
    assert SECRET not in "".join(traceback.format_exception_only(caught.value))
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__cause__}"


def test_nothing_is_connected_before_the_first_question():
    with override_settings(CACHES={"default": DJANGO_REDIS}, REDISLOCK={}):
        assert isinstance(locks["default"], Locks)


def test_new_settings_close_the_connections_of_the_old_ones(real_redis):
    with lock("a"):
        pass
    store = locks["default"].lock("a", model=None).store
    assert isinstance(store, RedisStore)
    assert store._connections is not None
    connection = store._connections.take()
    store._connections.give(connection)
    locks.reset()
    assert connection._sock is None
