"""System checks of `REDISLOCK` and of the caches that it names. They read settings and touch no network.

Each is described, by its id, in `docs/checks.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.cache import DEFAULT_CACHE_ALIAS
from django.core.checks import CheckMessage, Error, Warning
from django.db.models import Model
from django.utils.module_loading import import_string
from django_redis.cache import RedisCache
from django_redis.client import DefaultClient, ShardClient

from .conf import DEFAULTS, READERS, OnOutage, faults_of
from .handler import DEFAULT_ALIAS, doubles_of, mixed_with, several_behind
from .managers import LockQuerySet
from .versions import version_field_of

IDS = {
    "shape": "E001",
    "name": "E003",
    "CACHE": "E004",
    "TTL": "E005",
    "WAIT": "E006",
    "KEY_FUNCTION": "E007",
    "MAX_HOLD": "E012",
    "ON_OUTAGE": "E013",
    "MIN_REPLICAS": "E020",
    "GUARD": "E014",
}
HINTS = {
    "shape": 'Write REDISLOCK = {"default": {"CACHE": "default"}}.',
    "name": f"The options are {', '.join(READERS)}, in capitals.",
    "CACHE": "Name an alias of CACHES, or a list of three or five of independent servers.",
    "TTL": "Give the seconds that the server keeps a lock whose holder has vanished, such as 30.",
    "WAIT": "Give the seconds that acquiring may wait, such as 10; 0 for one try, None for ever.",
    "MAX_HOLD": "Give the seconds after which a held lock goes to the next in line, such as 300; None: never.",
    "ON_OUTAGE": "Write 'raise', or 'optimistic' for rows with versions to go on without lock when Redis is away.",
    "MIN_REPLICAS": "Give the number of replicas that have to know of a lock before it counts; 0: none, or a quorum.",
    "GUARD": "Give the seconds that a server sits out after it lost its data, such as 60; no ttl may be longer.",
    "KEY_FUNCTION": "Give a function, or its dotted path, that takes (name, *, model) and returns a name.",
}


def check_settings(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """All that is wrong with `REDISLOCK`."""
    return list(_faults(getattr(settings, "REDISLOCK", None) or {DEFAULT_ALIAS: {}}))


def check_outages(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """The models that `ON_OUTAGE` says should go on by version, and that have none."""
    configured = getattr(settings, "REDISLOCK", None)
    entries = configured.values() if isinstance(configured, dict) else ()
    if not any(isinstance(entry, Mapping) and entry.get("ON_OUTAGE") == OnOutage.OPTIMISTIC for entry in entries):
        return []
    hint = "Add a VersionField. See checks.md in the documentation."
    return [
        Warning(
            f"{model._meta.label} uses LockManager and has no VersionField, so its locks raise StoreUnavailable when "
            f"Redis is away, whatever ON_OUTAGE says.",
            hint=hint,
            obj=model,
            id="django_redislock.W001",
        )
        for config in (apps.get_app_configs() if app_configs is None else app_configs)
        for model in config.get_models()
        if _locks(model) and version_field_of(model) is None
    ]


def _locks(model: type[Model]) -> bool:
    """Whether rows of the model are locked through a manager of its own; a proxy's are its model's."""
    kinds = (manager._queryset_class for manager in model._meta.managers)  # type: ignore[attr-defined]  # not in the stubs
    return not model._meta.proxy and any(issubclass(kind, LockQuerySet) for kind in kinds)


def _error(about: str, message: str, hint: str) -> CheckMessage:
    return Error(message, hint=f"{hint} See checks.md in the documentation.", id=f"django_redislock.{about}")


def _faults(configured: Any) -> Iterator[CheckMessage]:
    if not isinstance(configured, dict):
        yield _error("E001", f"REDISLOCK must be a dict, not {type(configured).__name__}.", HINTS["shape"])
        return
    if DEFAULT_ALIAS not in configured:
        yield _error("E002", "REDISLOCK has no alias 'default'.", "It is the one that locks use unless told otherwise.")
    for alias, entry in configured.items():
        faults = list(faults_of(alias, entry))
        for fault in faults:
            yield _error(IDS[fault.about], fault.message, HINTS[fault.about])
        if not {"shape", "CACHE"} & {fault.about for fault in faults}:
            named = entry.get("CACHE", DEFAULTS["CACHE"])
            where, several = f"REDISLOCK[{alias!r}]", not isinstance(named, str)
            for cache in named if several else [named]:
                yield from _cache_faults(where, cache)
            if several:
                yield from _quorum_faults(where, named)


def _quorum_faults(where: str, aliases: Sequence[str]) -> Iterator[CheckMessage]:
    """What is wrong with several servers together."""
    for doubles in doubles_of(aliases):
        message = f"{where}: {doubles} are one server, which would have several votes."
        yield _error("E015", message, "Name servers that share nothing.")
    for several in filter(None, map(several_behind, filter(settings.CACHES.__contains__, aliases))):
        hint = "Name a cache that reaches one server; without a list CACHE may be a cluster, or have Sentinels."
        yield _error("E021", f"{where}: {several}", hint)
    if len(aliases) % 2 == 0:
        yield Warning(
            f"{where}: of {len(aliases)} servers no more may fail than of {len(aliases) - 1}.",
            hint="Name an odd number of servers. See checks.md in the documentation.",
            id="django_redislock.W003",
        )


def _cache_faults(where: str, alias: str) -> Iterator[CheckMessage]:
    """What is wrong with the cache that keeps the locks."""
    cache = settings.CACHES.get(alias)
    if cache is None:
        hint = f"CACHES has {', '.join(sorted(settings.CACHES)) or 'no alias at all'}."
        yield _error("E008", f"{where}: CACHES has no alias {alias!r}.", hint)
        return
    fault = _class_fault(cache.get("BACKEND", ""), RedisCache)
    if fault:
        named = "the default cache" if alias == DEFAULT_CACHE_ALIAS else f"the cache {alias!r}"
        hint = "Locks need django-redis: set its BACKEND to 'django_redis.cache.RedisCache', or name another in CACHE."
        yield _error("E009", f"{where}: {named} cannot keep locks: {fault}.", hint)
        return
    yield from _client_faults(where, alias, cache)


def _client_faults(where: str, alias: str, cache: Mapping[str, Any]) -> Iterator[CheckMessage]:
    """What is wrong with a cache of django-redis."""
    path = cache.get("OPTIONS", {}).get("CLIENT_CLASS", "django_redis.client.DefaultClient")
    fault = _class_fault(path, DefaultClient)
    if fault is None and issubclass(_load(path), ShardClient):
        fault = "a ShardClient spreads keys over servers that do not know each other"
    if fault:
        hint = "Use django-redis' DefaultClient, HerdClient or SentinelClient for the cache that keeps the locks."
        yield _error("E010", f"{where}: the client of the cache {alias!r} cannot keep locks: {fault}.", hint)
    if mixed := mixed_with(alias):
        hint = "Let the Sentinels watch each primary under a name of its own: django-redis keeps pools by LOCATION."
        yield _error("E022", f"{where}: {mixed}", hint)
    if not cache.get("LOCATION"):
        hint = "Give its URL, such as 'redis://127.0.0.1:6379/1'."
        yield _error("E011", f"{where}: the cache {alias!r} has no LOCATION.", hint)


def _load(path: Any) -> Any:
    return import_string(path) if isinstance(path, str) else path


def _class_fault(path: Any, base: type) -> str | None:
    """Why what stands there is not a class of that kind, if it is not."""
    try:
        loaded = _load(path)
    except ImportError as error:
        return f"{path!r} cannot be imported ({error})"
    if isinstance(loaded, type) and issubclass(loaded, base):
        return None
    return f"{path} is not a {base.__module__}.{base.__name__}"
