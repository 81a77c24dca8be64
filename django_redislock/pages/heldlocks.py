"""The admin of held locks: a changelist, a detail page, and the way to free them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import escape
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language, gettext_lazy
from django.utils.translation import gettext as _

from ..models import FORCE_RELEASE, HeldLock, identified
from ..overview import aliases_of
from ..waitgraph import WaitGraph
from .columns import Columns
from .filters import AliasFilter, HostFilter, ModelFilter
from .forcing import MOST_AT_ONCE, ReasonForm, force_all, read_meant, write_meant
from .objects import attach_objects
from .picture import draw
from .rows import HeldLocks, Look
from .words import units

if TYPE_CHECKING:
    from django.contrib.admin.options import ModelAdmin

    Options = ModelAdmin[HeldLock]
else:
    Options = admin.ModelAdmin

REFRESH_EVERY = 5
"""Seconds."""
PK, NAME = "redislock-pk", "redislock-name"
"""What stands in a box for those of a row."""
PK_OR_NAME = re.compile(f"{PK}|{NAME}")


def look_of(request: HttpRequest) -> Look:
    """The one look at the servers of this request."""
    found: Look = request.__dict__.setdefault("_redislock_look", Look())
    return found


class HeldLockChangeList(ChangeList):
    """The list, with the objects of its rows."""

    def get_results(self, request: HttpRequest) -> None:
        """Those of the page."""
        super().get_results(request)
        self.result_list = list(self.result_list)
        attach_objects(self.result_list, self.model_admin.admin_site, request)
        self.faults = self.root_queryset.look.overview.faults  # type: ignore[attr-defined]  # a `HeldLocks`


class HeldLockAdmin(Columns, Options):
    """`site.register(HeldLock, HeldLockAdmin)` puts it on an admin site of your own."""

    list_display = (
        "key_column",
        "object_column",
        "holder_column",
        "since_column",
        "waiters_column",
        "remaining_column",
        "fence",
        "alias",
    )
    list_display_links = ("key_column",)
    list_filter = (ModelFilter, HostFilter, AliasFilter)
    search_fields = ("key",)
    ordering = ("since",)
    list_per_page = 100
    show_full_result_count = True
    show_facets = admin.ShowFacets.NEVER  # the filters count without being asked
    actions = ("force_release_selected",)
    fieldsets = (
        (None, {"fields": ("key", "object_column", "alias")}),
        (gettext_lazy("Holder"), {"fields": ("host_line", "pid_line", "thread_line", "doing_line", "user_line")}),
        (
            gettext_lazy("Lease"),
            {"fields": ("since_line", "since_column", "remaining_column", "fence", "waiters")},
        ),
    )
    readonly_fields = (
        "object_column",
        "host_line",
        "pid_line",
        "thread_line",
        "doing_line",
        "user_line",
        "since_line",
        "since_column",
        "remaining_column",
    )
    change_list_template = "admin/django_redislock/held_locks.html"
    change_form_template = "admin/django_redislock/held_lock.html"

    class Media:
        """Files of our own, so that nothing stands inline."""

        css: ClassVar = {"all": ["django_redislock/redislock.css"]}
        js: ClassVar = ["django_redislock/refresh.js"]

    # Who may what

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody: locks are acquired."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: HeldLock | None = None) -> bool:
        """Nobody."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: HeldLock | None = None) -> bool:
        """Nobody: to free a lock has a permission and a page of its own."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: HeldLock | None = None) -> bool:
        """Who may view, and who may free."""
        return super().has_view_permission(request, obj) or self.has_force_release_permission(request)

    def has_force_release_permission(self, request: HttpRequest) -> bool:
        """Who may free."""
        return request.user.has_perm(f"{self.opts.app_label}.{FORCE_RELEASE}")

    # The list

    def get_list_display(self, request: HttpRequest) -> Any:
        """The alias is shown where there is more than one."""
        columns = super().get_list_display(request)
        return columns if len(aliases_of({})) > 1 else [column for column in columns if column != "alias"]

    def get_queryset(self, request: HttpRequest) -> HeldLocks:
        """What is held; all that this request asks for comes from one look."""
        locks = HeldLocks(HeldLock)
        locks.look = look_of(request)
        return locks

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        """Those with each of the words in their key or holder."""
        words = search_term.lower().split()
        if not words:
            return queryset, False
        found = queryset.that(lambda lock: all(word in f"{lock.name} {lock.holder}".lower() for word in words))
        return found, False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """The list with objects."""
        return HeldLockChangeList

    @cached_property
    def _boxes(self) -> dict[str | None, SafeString]:
        """What `action_checkbox` makes of the box of a row, by language."""
        return {}

    def action_checkbox(self, obj: HeldLock) -> SafeString:
        """The box of `ModelAdmin` or a theme, rendered once: a template for each of 100 rows is a fifth of the page."""
        language = get_language()
        if language not in self._boxes:
            self._boxes[language] = super().action_checkbox(HeldLock(id=PK, key=NAME))
        values = {PK: escape(obj.pk), NAME: escape(obj.key)}
        return mark_safe(PK_OR_NAME.sub(lambda found: values[found[0]], self._boxes[language]))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list; what could not be asked is said on it."""
        context = {"refresh_every": REFRESH_EVERY, "units": units()}
        return super().changelist_view(request, {**(extra_context or {}), **context})

    @admin.action(permissions=[FORCE_RELEASE], description=gettext_lazy("Release selected locks by force"))
    def force_release_selected(self, request: HttpRequest, queryset: Any) -> HttpResponse:
        """Ask first."""
        return self._confirm(request, list(queryset[: MOST_AT_ONCE + 1]), ReasonForm())

    # The detail page

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> HeldLock | None:
        """The lock; its history is there also when it has ended."""
        lock = self.get_queryset(request).named(object_id)
        if lock is not None:
            attach_objects([lock], self.admin_site, request)
        elif request.resolver_match and str(request.resolver_match.url_name).endswith("_history"):
            alias, name = identified(object_id)
            return HeldLock(id=object_id, alias=alias, key=name)
        return lock

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """All that is known of a lock."""
        identifier = unquote(object_id)
        look_of(request).queues = True
        lock = self.get_object(request, identifier) if self.has_view_permission(request) else None
        if lock is None and self.has_view_permission(request):
            return self._gone(request, identifier)
        context = {"refresh_every": REFRESH_EVERY, "units": units()} | (self._waiting(request, lock) if lock else {})
        if lock is not None and self.has_force_release_permission(request):
            context["force_release_url"] = self._release_url([lock])
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **context})

    def _waiting(self, request: HttpRequest, lock: HeldLock) -> dict[str, Any]:
        """Who waits for it, and the picture of all that hangs together with it."""
        everything = (listed for listed in look_of(request).overview.locks if listed.alias == lock.alias)
        return {"queue": lock.listed.queue, "picture": draw(WaitGraph(everything), lock.key)}

    def _gone(self, request: HttpRequest, identifier: str) -> HttpResponse:
        """Back to the list with the reason."""
        if not self.get_queryset(request).look.overview.faults:
            _alias, name = identified(identifier)
            messages.warning(request, _("Nobody holds %s any more.") % name)
        return HttpResponseRedirect(self._url("changelist"))

    # Force release

    def get_urls(self) -> list[URLPattern]:
        """With the page that confirms."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_release"
        view = self.admin_site.admin_view(self.release_view)
        return [path("release/", view, name=name), *super().get_urls()]

    def release_view(self, request: HttpRequest) -> HttpResponse:
        """GET asks, POST does it."""
        if not self.has_force_release_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            wanted = [self.get_queryset(request).named(pk) for pk in request.GET.getlist("lock")]
            return self._confirm(request, [lock for lock in wanted if lock is not None], ReasonForm())
        try:
            meant = [read_meant(value) for value in request.POST.getlist("meant")[:MOST_AT_ONCE]]
        except ValueError:
            raise PermissionDenied from None
        form = ReasonForm(request.POST)
        if not form.is_valid():
            locks = [self.get_queryset(request).named(one.identifier) for one in meant]
            return self._confirm(request, [lock for lock in locks if lock is not None], form)
        force_all(self, request, meant, form.cleaned_data["reason"])
        return HttpResponseRedirect(self._next(request))

    def _confirm(self, request: HttpRequest, locks: Sequence[HeldLock], form: ReasonForm) -> HttpResponse:
        """The page that names the holders and what will happen to them."""
        if not locks:
            messages.warning(request, _("None of these locks is held any more."))
            return HttpResponseRedirect(self._next(request))
        if len(locks) > MOST_AT_ONCE:
            messages.error(request, _("No more than %s locks can be released at once.") % MOST_AT_ONCE)
            return HttpResponseRedirect(self._next(request))
        attach_objects(locks, self.admin_site, request)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Release by force"),
            "opts": self.opts,
            "media": self.media,
            "locks": [(write_meant(lock), lock) for lock in locks],
            "form": form,
            "next": self._next(request),
            "action_url": self._url("release"),
        }
        return TemplateResponse(request, "admin/django_redislock/release.html", context)

    def _next(self, request: HttpRequest) -> str:
        """Where to go afterwards."""
        wanted = request.POST.get("next") or request.GET.get("next") or ""
        is_ours = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
        return wanted if is_ours else self._url("changelist")

    def _release_url(self, locks: Sequence[HeldLock]) -> str:
        return reverse(self._name("release"), query={"lock": [lock.pk for lock in locks]})

    def _url(self, view: str) -> str:
        return reverse(self._name(view))

    def _name(self, view: str) -> str:
        return f"{self.admin_site.name}:{self.opts.app_label}_{self.opts.model_name}_{view}"
