"""The admin page of held locks, and the mixin that shows locks on the pages of your own models."""

from __future__ import annotations

from django.contrib import admin

from .models import HeldLock
from .pages.heldlocks import HeldLockAdmin
from .pages.status import LockStatusAdminMixin

__all__ = ["HeldLockAdmin", "LockStatusAdminMixin"]

admin.site.register(HeldLock, HeldLockAdmin)
