"""System checks of models with a version. Each is described, by its id, in `docs/versions.md`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.db.models import Model

from .managers import LockManager
from .versionquery import VersionQuerySet
from .versions import version_fields_of


def check_models(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """All that is wrong with the versions of the models."""
    configs = apps.get_app_configs() if app_configs is None else app_configs
    return [message for config in configs for model in config.get_models() for message in faults_of(model)]


def faults_of(model: type[Model]) -> Iterator[CheckMessage]:
    """All that is wrong with the version of a model."""
    fields = list(version_fields_of(model))
    own = [field for field in fields if field.model is model]
    label = model._meta.label
    if own and len(own) < len(fields):
        yield Error(
            f"{label} has a VersionField of its own beside that of its parent {fields[0].model._meta.label}.",
            hint="The parent's counts for the whole row: remove the child's.",
            obj=own[0],
            id="django_redislock.E032",
        )
    elif own and model._meta.parents:
        yield Error(
            f"{label} has a VersionField, but is the child of a model without one.",
            hint="Changes of the parent would not move it: give the field to the parent.",
            obj=own[0],
            id="django_redislock.E032",
        )
    elif len(own) > 1:
        yield Error(
            f"{label} has {len(own)} VersionFields.",
            hint="One row has one version: keep one of them.",
            obj=own[1],
            id="django_redislock.E031",
        )
    if fields and not isinstance(model._default_manager.all(), VersionQuerySet):
        yield Warning(
            f"{label} has a VersionField, but its default manager is not a LockManager.",
            hint="Its update(), bulk_update() and upserts do not move the version, so what they write can be "
            "overwritten unnoticed. Write objects = LockManager(), or LockManager.from_queryset(...)().",
            obj=model,
            id="django_redislock.W033",
        )
    if not fields and isinstance(model._default_manager, LockManager) and falls_back_to_versions():
        yield Warning(
            f"{label} can be locked but has no VersionField, and REDISLOCK says ON_OUTAGE = 'optimistic'.",
            hint="Without a version there is nothing to fall back to: its locks raise StoreUnavailable all the same.",
            obj=model,
            id="django_redislock.W034",
        )


def check_admins(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """The admins that do not look after the version of their model."""
    if not apps.is_installed("django.contrib.admin"):
        return []
    from django.contrib.admin.sites import all_sites  # noqa: PLC0415 - it may not be there

    from .versionadmin import VersionedAdmin  # noqa: PLC0415 - the same

    configs = apps.get_app_configs() if app_configs is None else app_configs
    models = {model for config in configs for model in config.get_models() if any(version_fields_of(model))}
    return [
        Warning(
            f"{type(model_admin).__name__} of {model._meta.label}, which has a VersionField, is not a VersionedAdmin.",
            hint="What is saved there is compared only where its form has the version, and what is deleted not at all: "
            "so it can undo unnoticed what another has changed since the page was opened. Derive it from "
            "django_redislock.versionadmin.VersionedAdmin.",
            obj=type(model_admin),
            id="django_redislock.W035",
        )
        for site in all_sites
        for model, model_admin in site._registry.items()
        if model in models and not isinstance(model_admin, VersionedAdmin)
    ]


def falls_back_to_versions() -> bool:
    """Whether the setting has work go on without Redis."""
    configured = getattr(settings, "REDISLOCK", None)
    entries = configured.values() if isinstance(configured, dict) else ()
    return any(isinstance(entry, dict) and entry.get("ON_OUTAGE") == "optimistic" for entry in entries)
