"""Locks on the admin pages of your own models: who holds the row, in the list and above the form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..exceptions import RedisLockError
from ..guards import LockInfo
from ..handler import DEFAULT_ALIAS, locks
from ..identity import name_of
from ..models import FORCE_RELEASE, HeldLock, identify
from ..overview import infos
from .words import ago, spell

if TYPE_CHECKING:
    from django.contrib.admin.options import ModelAdmin
    from django.contrib.admin.views.main import ChangeList

    Options = ModelAdmin[Any]
else:
    Options = admin.ModelAdmin

Status = LockInfo | RedisLockError | None
"""Who holds a row; or why nobody knows."""


class LockStatusAdminMixin(Options):
    """Put it before `ModelAdmin`: `class AccountAdmin(LockStatusAdminMixin, admin.ModelAdmin)`.

    The list gets a column `lock_status`; all rows of a page are asked about in one round trip. The form says who holds
    the row, and has a link to the page that frees it, for those who may.
    """

    lock_alias = DEFAULT_ALIAS
    """Alias of `REDISLOCK` under which the rows are locked."""
    change_form_template = "admin/django_redislock/locked_form.html"

    class Media:
        """How the badge looks."""

        css: ClassVar = {"all": ["django_redislock/redislock.css"]}

    def get_list_display(self, request: HttpRequest) -> Any:
        """With the badge at the end, unless it has its place already."""
        columns = super().get_list_display(request)
        return columns if "lock_status" in columns else [*columns, "lock_status"]

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """The list, with the status of each row on its page."""
        changes = super().get_changelist_instance(request)
        rows = list(changes.result_list)
        for row, status in zip(rows, self._statuses(rows), strict=True):
            row.__dict__[STATUS] = status
        return changes

    @admin.display(description=gettext_lazy("lock"))
    def lock_status(self, obj: Model) -> str:
        """The badge; nothing for a row that nobody holds."""
        return badge(obj.__dict__.get(STATUS))

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The form, with the status of its row."""
        obj = context.get("original")
        if obj is not None:
            (status,) = self._statuses([obj])
            context |= {"redislock_badge": badge(status), "redislock_release_url": self._tool(request, status)}
        return super().render_change_form(request, context, *args, **kwargs)

    def _statuses(self, rows: Sequence[Model]) -> Sequence[Status]:
        """Who holds each row, in one round trip. That Redis is away does not keep anybody from the page."""
        try:
            place = locks[self.lock_alias]
            names = [place.lock(name_of(type(row), row.pk), model=type(row)).key.name for row in rows]
            return infos(names, alias=self.lock_alias) if names else []
        except RedisLockError as error:
            return [error] * len(rows)

    def _tool(self, request: HttpRequest, status: Status) -> str:
        """Where the lock can be freed, for who may."""
        may = request.user.has_perm(f"{HeldLock._meta.app_label}.{FORCE_RELEASE}")
        if not may or not isinstance(status, LockInfo) or not self.admin_site.is_registered(HeldLock):
            return ""
        query = {"lock": identify(self.lock_alias, status.key), "next": request.get_full_path()}
        return reverse(f"{self.admin_site.name}:django_redislock_heldlock_release", query=query)


STATUS = "_redislock_status"


def badge(status: Status) -> str:
    """Who holds a row, in a few words."""
    if status is None:
        return "-"
    if isinstance(status, RedisLockError):
        return format_html('<span class="redislock-unknown" title="{}">{}</span>', status, _("unknown"))
    words = _("locked by %(holder)s for %(time)s") % {"holder": status.holder, "time": spell(ago(status.since))}
    return format_html('<span class="redislock-badge">{}</span>', words)
