"""Locks in views: the decorator, and the mixin for views of one object."""

from .decorator import lock_instance
from .mixins import LockedObjectMixin
from .refusals import Manner

__all__ = ["LockedObjectMixin", "Manner", "lock_instance"]
