"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks
from django.utils.translation import gettext_lazy as _

from .checks import check_outages, check_settings
from .versionchecks import check_admins, check_models
from .views.checks import check_views


class RedisLockConfig(AppConfig):
    """Registers the system checks."""

    name = "django_redislock"
    verbose_name = _("Redis locks")

    def ready(self) -> None:
        """Register them under the tags of what they look at."""
        checks.register(check_settings, checks.Tags.caches)
        checks.register(check_outages, checks.Tags.models)
        checks.register(check_models, checks.Tags.models)
        checks.register(check_admins, checks.Tags.admin)
        checks.register(check_views, checks.Tags.urls)
