"""`VersionedModel`: a version and a manager for those who start from nothing."""

from __future__ import annotations

from django.db import models

from .managers import LockManager
from .versions import VersionField


class VersionedModel(models.Model):
    """An abstract model with `version = VersionField()` and `objects = LockManager()`."""

    version = VersionField()

    objects = LockManager()

    class Meta:  # noqa: D106 - as everywhere in Django
        abstract = True
