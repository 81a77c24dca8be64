"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks
from django.utils.translation import gettext_lazy as _

from .checks import check_outages, check_settings


class RedisLockConfig(AppConfig):
    """Registers the system checks."""

    name = "django_redislock"
    verbose_name = _("Redis locks")

    def ready(self) -> None:
        """Register them under the tag of cache checks."""
        checks.register(check_settings, checks.Tags.caches)
        checks.register(check_outages, checks.Tags.models)
