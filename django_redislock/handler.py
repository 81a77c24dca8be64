"""From an alias of `REDISLOCK` to the place where its locks are kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
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
from django_redis.pool import SentinelConnectionFactory

from .cluster import ClusterConnectionFactory
from .conf import InvalidLockSettings, Options, read_options
from .keylock import KeyLock
from .keys import Key
from .majority import patience
from .stores.cluster import ClusterStore
from .stores.clusterinquiry import ClusterInquiry
from .stores.inquiry import Inquiry
from .stores.loopstore import LoopStore
from .stores.quorum import QuorumStore
from .stores.quoruminquiry import QuorumInquiry
from .stores.redis import RedisStore
from .stores.redisnode import RedisNode, impatient

if TYPE_CHECKING:
    from django.db.models import Model
    from redis import Redis

    from .stores.base import Store

DEFAULT_ALIAS = "default"


class Place:
    """One server or cluster, which keeps the locks or has a vote in a quorum."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        """The cache, in `CACHES`."""
        self.prefix: str = cache_of(alias).key_prefix
        if mixed := mixed_with(alias):
            raise InvalidLockSettings(f"REDISLOCK: {mixed}")
        self.where: tuple[str, str] = (str(caches.settings[alias]["LOCATION"]), self.prefix)
        """Where its locks are kept. It may hold a password."""
        self.client: Callable[[], Any] = partial(client_of, alias)

    def inquiry(self, store: Any) -> Inquiry:
        """For questions to what keeps these locks."""
        if isinstance(store, ClusterStore):
            return ClusterInquiry(store.nodes, scope=self.alias, prefix=self.prefix)
        return Inquiry(self.client, scope=self.alias, prefix=self.prefix)

    def store(self, options: Options) -> RedisStore | ClusterStore:
        """The locks that it keeps."""
        replicas = options.min_replicas
        if is_cluster(self.alias):
            return ClusterStore(self.client, scope=self.alias, prefix=self.prefix, replicas=replicas)
        return RedisStore(self.client, scope=self.alias, prefix=self.prefix, replicas=replicas, twin=LoopStore)

    def node(self, options: Options) -> RedisNode:
        """The locks that it has a vote for. It is not waited for as long as the cache would wait.

        Raises `InvalidLockSettings` for what is not one server.
        """
        if several := several_behind(self.alias):
            raise InvalidLockSettings(f"REDISLOCK: {several}")
        self.client = partial(impatient_client_of, self.alias, seconds=patience(options.ttl))
        return RedisNode(self.client, scope=self.alias, prefix=self.prefix, guard=options.guard)


class Locks:
    """The locks of one alias."""

    def __init__(self, options: Options) -> None:
        self.options = options
        aliases = (options.cache,) if isinstance(options.cache, str) else options.cache
        for doubles in doubles_of(aliases):
            raise InvalidLockSettings(f"REDISLOCK: {doubles} are one server, which would have several votes.")
        self.places = tuple(map(Place, aliases))
        """The server, or those of a quorum."""
        self.where = tuple(sorted(place.where for place in self.places))
        """Aliases that agree in it share their locks. It may hold a password."""
        if len(self.places) == 1:
            (place,) = self.places
            only = place.store(options)
            inquiry = place.inquiry(only)
            self.store: RedisStore | ClusterStore | QuorumStore = only
            self.inquiry: Inquiry | QuorumInquiry = inquiry
            self.parts: tuple[tuple[RedisStore | ClusterStore, Inquiry], ...] = ((only, inquiry),)
        else:
            nodes = [place.node(options) for place in self.places]
            inquiries = [place.inquiry(node) for place, node in zip(self.places, nodes, strict=True)]
            self.store = QuorumStore(nodes, scope=",".join(aliases), guard=options.guard)
            self.inquiry = QuorumInquiry(self.store, inquiries)
            self.parts = tuple(zip(nodes, inquiries, strict=True))
        store = self.store
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

    def locks(self, names: Iterable[str], *, model: type[Model] | None) -> list[KeyLock]:
        """As `lock()`, for each."""
        one = self.kept if self.options.key_function is None else partial(self.lock, model=model)
        return list(map(one, names))


def is_cluster(cache: str) -> bool:
    """Whether the cache is on a Redis Cluster: its `CONNECTION_FACTORY` says so."""
    return issubclass(factory_of(cache), ClusterConnectionFactory)


def several_behind(cache: str) -> str:
    """Why the cache cannot be a server of a quorum; empty where it can."""
    factory = factory_of(cache)
    for kind, what in ((ClusterConnectionFactory, "a cluster"), (SentinelConnectionFactory, "whom Sentinels name")):
        if issubclass(factory, kind):
            return f"a quorum is made of single servers, and the cache {cache!r} leads to {what}."
    return ""


def mixed_with(cache: str) -> str:
    """Why it is not known whose server the cache leads to; empty where it is.

    django-redis keeps pools by `LOCATION` alone, which is the same for others that ask other Sentinels.
    """
    address, sentinels = settings.CACHES[cache].get("LOCATION"), sentinels_of(cache)
    others = [
        repr(other)
        for other, entry in settings.CACHES.items()
        if address and entry.get("LOCATION") == address and sentinels_of(other) != sentinels
    ]
    if not others:
        return ""
    return f"the cache {cache!r} has the LOCATION of {' and '.join(others)}, and other Sentinels; all get one pool."


def sentinels_of(cache: str) -> set[tuple[str, int]]:
    """Whom the cache asks for its server."""
    return set(map(tuple, settings.CACHES[cache].get("OPTIONS", {}).get("SENTINELS") or ()))


def factory_of(cache: str) -> type:
    """The `CONNECTION_FACTORY` of the cache; `object` where it is django-redis' own affair.

    Raises `InvalidLockSettings` for one that cannot be imported.
    """
    default = getattr(settings, "DJANGO_REDIS_CONNECTION_FACTORY", None)
    path = caches.settings[cache].get("OPTIONS", {}).get("CONNECTION_FACTORY") or default
    try:
        factory = path and import_string(path)
    except ImportError as error:
        raise InvalidLockSettings(f"REDISLOCK: CONNECTION_FACTORY of the cache {cache!r}: {error}") from error
    return factory if isinstance(factory, type) else object


def lock_in(store: Store, name: str) -> KeyLock:
    """The lock that is kept under this name."""
    key = Key(name)
    return KeyLock(store.part(key), key)


def cache_of(alias: str) -> Any:
    """The cache object behind an alias.

    Raises `InvalidLockSettings` when `CACHES` has no such alias, or one that cannot be made.
    """
    if alias not in caches:
        raise InvalidLockSettings(f"REDISLOCK: CACHES has no alias {alias!r}.")
    if not caches.settings[alias].get("LOCATION"):
        raise InvalidLockSettings(f"REDISLOCK: the cache {alias!r} has no LOCATION: no server.")
    try:
        return caches[alias]
    except (InvalidCacheBackendError, ImportError) as error:
        raise InvalidLockSettings(f"REDISLOCK: the cache {alias!r} cannot be made: {error}") from error


def address_of(alias: str) -> tuple[str, ...]:
    """The servers and the database of a cache, without user and password."""
    location = settings.CACHES[alias].get("LOCATION") or ""
    urls = location if isinstance(location, list | tuple) else str(location).split(",")
    return tuple(re.sub(r"(?<=//)[^/]*@|\?.*$", "", str(url).strip()) for url in urls)


def doubles_of(aliases: Sequence[str]) -> list[str]:
    """Those of several aliases, named together, that are one server, whatever the database."""
    by_server: dict[tuple[str, ...], list[str]] = {}
    for alias in aliases:
        if settings.CACHES.get(alias, {}).get("LOCATION"):
            server = tuple(re.sub(r"(?<=[^/:])/\d*$", "", url) for url in address_of(alias))
            by_server.setdefault(server, []).append(alias)
    return [" and ".join(map(repr, doubles)) for doubles in by_server.values() if len(doubles) > 1]


def client_of(alias: str) -> Redis:
    """The redis-py client of the cache, to the server that takes writes.

    Raises `InvalidLockSettings` when the cache has none: another back end than django-redis, or a sharded client.
    """
    try:
        client: Redis = get_redis_connection(alias, write=True)
    except NotImplementedError as error:
        raise InvalidLockSettings(
            f"REDISLOCK: the cache {alias!r} gives no single Redis client. Name one of the back end "
            f"django_redis.cache.RedisCache with its default, herd or sentinel client."
        ) from error
    except ValueError:  # its text quotes a part of the URL, which may be the password
        message = f"REDISLOCK: the LOCATION of the cache {alias!r} is not a URL; quote what its password holds."
        raise InvalidLockSettings(message) from None
    return client


def impatient_client_of(alias: str, *, seconds: float) -> Redis:
    """The same, for who asks several servers: one that does not answer must not keep the others waiting."""
    return impatient(client_of(alias), seconds=seconds)


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
        # Of threads that come first together, all go on with what the first of them has made: a process listens once.
        made: Locks = vars(self._connections).setdefault(alias, self.create_connection(alias))
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
