"""From an alias of `REDISLOCK` to the place where its locks are kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.base import InvalidCacheBackendError
from django.core.signals import setting_changed
from django.utils.connection import BaseConnectionHandler
from django.utils.module_loading import import_string
from django_redis import get_redis_connection

from .cluster import ClusterConnectionFactory
from .conf import InvalidLockSettings, Options, read_options
from .keylock import KeyLock
from .keys import Key
from .stores.cluster import ClusterStore
from .stores.clusterinquiry import ClusterInquiry
from .stores.inquiry import Inquiry
from .stores.loopstore import LoopStore
from .stores.redis import RedisStore

if TYPE_CHECKING:
    from django.db.models import Model
    from redis import Redis

    from .stores.base import Store

DEFAULT_ALIAS = "default"


class Locks:
    """The locks of one alias."""

    def __init__(self, options: Options) -> None:
        self.options = options
        prefix = cache_of(options).key_prefix
        client = partial(client_of, options)
        store = self.store = store_of(options, client, prefix=prefix)
        self.where = (str(caches.settings[options.cache]["LOCATION"]), prefix)
        """Where its locks are kept; aliases that agree in it share them. It may hold a password."""
        self.inquiry = inquiry_of(store, client, prefix=prefix)
        self._opened = (store, self.inquiry)
        self.kept: Callable[[str], KeyLock] = lru_cache(maxsize=1024)(
            lambda kept: KeyLock(store.part(Key(kept)), Key(kept))
        )
        """The lock that is kept under this very name, whatever `KEY_FUNCTION` would make of it."""

    def close(self) -> None:
        """Close the connections that are idle."""
        for opened in self._opened:
            opened.close()

    def lock(self, name: str, *, model: type[Model] | None) -> KeyLock:
        """The lock on a row (of that model) or on a plain name, kept under the name that `KEY_FUNCTION` gives.

        Raises `InvalidLockSettings` when it gives none.
        """
        function = self.options.key_function
        if function is None:
            return self.kept(name)
        kept = function(name, model=model)
        if not isinstance(kept, str) or not kept:
            raise InvalidLockSettings(f"KEY_FUNCTION must give a name that is not empty for {name!r}, not {kept!r}.")
        return self.kept(kept)


def store_of(options: Options, connect: Callable[[], Any], *, prefix: str) -> RedisStore | ClusterStore:
    """The store on the client that `connect` gives: of one server, or of a cluster."""
    if is_cluster(options.cache):
        return ClusterStore(connect, scope=options.cache, prefix=prefix, replicas=options.min_replicas)
    if options.min_replicas:
        return RedisStore(connect, scope=options.cache, prefix=prefix, replicas=options.min_replicas)
    return RedisStore(connect, scope=options.cache, prefix=prefix, twin=LoopStore)


def inquiry_of(store: RedisStore | ClusterStore, connect: Callable[[], Any], *, prefix: str) -> Inquiry:
    """Asks what the store keeps."""
    if isinstance(store, ClusterStore):
        return ClusterInquiry(store.nodes, scope=store.scope, prefix=prefix)
    return Inquiry(connect, scope=store.scope, prefix=prefix)


def is_cluster(cache: str) -> bool:
    """Whether the cache is on a Redis Cluster: its `CONNECTION_FACTORY` says so.

    Raises `InvalidLockSettings` for a factory that cannot be imported.
    """
    default = getattr(settings, "DJANGO_REDIS_CONNECTION_FACTORY", None)
    path = caches.settings[cache].get("OPTIONS", {}).get("CONNECTION_FACTORY") or default
    try:
        factory = path and import_string(path)
    except ImportError as error:
        raise InvalidLockSettings(f"REDISLOCK: CONNECTION_FACTORY of the cache {cache!r}: {error}") from error
    return isinstance(factory, type) and issubclass(factory, ClusterConnectionFactory)


def lock_in(store: Store, name: str) -> KeyLock:
    """The lock that is kept under this name."""
    key = Key(name)
    return KeyLock(store.part(key), key)


def cache_of(options: Options) -> Any:
    """The cache object behind the options.

    Raises `InvalidLockSettings` when `CACHES` has no such alias, or one that cannot be made.
    """
    if options.cache not in caches:
        raise InvalidLockSettings(f"REDISLOCK: CACHES has no alias {options.cache!r}.")
    if not caches.settings[options.cache].get("LOCATION"):
        raise InvalidLockSettings(f"REDISLOCK: the cache {options.cache!r} has no LOCATION: no server.")
    try:
        return caches[options.cache]
    except (InvalidCacheBackendError, ImportError) as error:
        raise InvalidLockSettings(f"REDISLOCK: the cache {options.cache!r} cannot be made: {error}") from error


def client_of(options: Options) -> Redis:
    """The redis-py client of the cache, to the server that takes writes.

    Raises `InvalidLockSettings` when the cache has none: another back end than django-redis, or a sharded client.
    """
    try:
        client: Redis = get_redis_connection(options.cache, write=True)
    except NotImplementedError as error:
        raise InvalidLockSettings(
            f"REDISLOCK: the cache {options.cache!r} gives no single Redis client. Name one of the back end "
            f"django_redis.cache.RedisCache with its default, herd or sentinel client."
        ) from error
    except ValueError:  # its text quotes a part of the URL, which may be the password
        message = f"REDISLOCK: the LOCATION of the cache {options.cache!r} is not a URL; quote what its password holds."
        raise InvalidLockSettings(message) from None
    return client


class LockHandler(BaseConnectionHandler):  # type: ignore[type-arg]  # generic in the stubs only
    """`locks["alias"]`. Built once a process: locks are not connections, threads share them."""

    settings_name = "REDISLOCK"
    exception_class = InvalidLockSettings

    def __init__(self) -> None:
        super().__init__()
        self._connections: Any = SimpleNamespace()

    def reset(self) -> None:
        """Forget what was built from the settings, and close its connections."""
        built: list[Locks] = list(vars(self._connections).values())
        self._connections = SimpleNamespace()
        for place in built:
            place.close()
        self._settings = None
        self.__dict__.pop("settings", None)

    def configure_settings(self, configured: Any) -> dict[str, Any]:
        """`REDISLOCK`; without it, or left empty, the cache `default` is used."""
        configured = getattr(settings, self.settings_name, None) or {DEFAULT_ALIAS: {}}
        if not isinstance(configured, dict):
            raise InvalidLockSettings(f"REDISLOCK must be a dict, not {type(configured).__name__}.")
        return configured

    def __getitem__(self, alias: str) -> Locks:
        found: Locks | None = vars(self._connections).get(alias)
        if found is not None:
            return found
        if alias not in self.settings:
            raise InvalidLockSettings(f"REDISLOCK has no alias {alias!r}; there are {', '.join(self.settings)}.")
        made: Locks = super().__getitem__(alias)
        return made

    def create_connection(self, alias: str) -> Locks:
        """The locks of an alias."""
        return Locks(read_options(alias, self.settings[alias]))


locks = LockHandler()


def follow_settings(*, setting: str, **kwargs: Any) -> None:
    """Tests override settings: what was built from the old ones must go."""
    if setting in {"REDISLOCK", "CACHES"}:
        locks.reset()


setting_changed.connect(follow_settings)
