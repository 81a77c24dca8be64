"""Every model with a `VersionField` is saved and deleted by `CheckedModel`, whatever its bases are.

It comes into them just before Django's `Model`: so the application's own `save()` and `delete()`, and those of its
mixins, reach it by `super()`.
"""

from __future__ import annotations

from typing import Any

from django.db.models import Model
from django.db.models.signals import class_prepared

from .versions import version_field_of


def check_saves(sender: type[Model], **kwargs: Any) -> None:
    """Put `CheckedModel` into the bases of a model with a version."""
    if version_field_of(sender) is None:
        return
    from .checkedmodel import CheckedModel  # noqa: PLC0415 - a model, which cannot be made before all apps are there

    if not issubclass(sender, CheckedModel):
        bases = [base for base in sender.__bases__ if base is not Model]
        sender.__bases__ = (*bases, CheckedModel, Model)


class_prepared.connect(check_saves, dispatch_uid="django_redislock.checkedsaves")
