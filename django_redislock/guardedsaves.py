"""Saves of a row that is locked without a transaction: no rollback would undo what was written too late."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import Model
from django.db.models.signals import pre_save

from .confirming import confirm
from .exceptions import LossReason
from .lease import Lease, LeaseState
from .versions import version_field_of

M = TypeVar("M", bound=Model)

NAME = "_redislock_lease"
"""Attribute of an instance."""


def guard_saves(row: M, lease: Lease) -> M:
    """From now on saving the row raises `LeaseLost` when the lease has been lost."""
    row.__dict__[NAME] = lease
    pre_save.connect(ensure_not_lost, sender=type(row), dispatch_uid="django_redislock.guardedsaves")
    return row


def ensure_not_lost(sender: type[Model], instance: Model, **kwargs: Any) -> None:
    """Raise `LeaseLost` for a row whose lease is lost. One past `max_hold` goes on, where its version decides."""
    lease: Lease | None = instance.__dict__.get(NAME)
    if lease is None:
        return
    confirm([lease])
    if lease.state is not LeaseState.LOST:
        return
    if lease.reason is LossReason.MAX_HOLD and version_field_of(sender) is not None:
        return
    raise lease.lost()
