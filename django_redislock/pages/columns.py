"""The cells of the list and the lines of the detail page. Everything that others chose is text: it is escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..handler import locks
from .words import HELD, spell, spell_state, state_of

if TYPE_CHECKING:
    from ..models import HeldLock


class Columns:
    """What is shown of a lock."""

    @admin.display(description=gettext_lazy("key"), ordering="key")
    def key_column(self, lock: HeldLock) -> SafeString:
        """The key; a script finds the row by it."""
        return format_html('<span class="redislock-key" data-redislock-lock="{}">{}</span>', lock.pk, lock.key)

    @admin.display(description=gettext_lazy("object"))
    def object_column(self, lock: HeldLock) -> str:
        """The row that is locked, with a link to its page."""
        if lock.object_url:
            return format_html('<a href="{}">{}</a>', lock.object_url, lock.object_text)
        return lock.object_text or "-"

    @admin.display(description=gettext_lazy("holder"), ordering="holder")
    def holder_column(self, lock: HeldLock) -> SafeString:
        """Who holds it."""
        holder = lock.listed.holder
        place = {"host": holder.host, "pid": holder.pid, "thread": holder.thread}
        return format_html(
            '<span class="redislock-doing">{}</span> {} <span class="redislock-place">{}</span>',
            holder.doing,
            _("for user %s") % holder.user if holder.user else "",
            _("%(host)s, process %(pid)s, %(thread)s") % place,
        )

    @admin.display(description=gettext_lazy("held for"), ordering="-since")
    def since_column(self, lock: HeldLock) -> SafeString:
        """For how long; the instant is its title."""
        return format_html(
            '<time datetime="{}" title="{}" data-redislock-age="{}">{}</time>',
            lock.since.isoformat(),
            date_format(timezone.localtime(lock.since), "DATETIME_FORMAT"),
            f"{lock.listed.held_for:.3f}",
            spell(lock.listed.held_for),
        )

    @admin.display(description=gettext_lazy("time left"), ordering="remaining")
    def remaining_column(self, lock: HeldLock) -> SafeString:
        """How long the server keeps it unless it is renewed."""
        whole = max(ttl_of(lock), lock.remaining)
        return format_html(
            '<meter min="0" max="{}" low="{}" value="{}" aria-label="{}" data-redislock-left="{}">{}</meter> '
            '<span class="redislock-left">{}</span>',
            f"{whole:.3f}",
            f"{whole / 3:.3f}",
            f"{lock.remaining:.3f}",
            _("time left"),
            f"{lock.remaining:.3f}",
            spell(lock.remaining),
            spell(lock.remaining),
        )

    @admin.display(description=gettext_lazy("state"))
    def state_column(self, lock: HeldLock) -> SafeString:
        """Whether it is being kept."""
        state = state_of(lock.listed, locks[lock.alias].options)
        return format_html(
            '<span class="redislock-state{}">{}</span>', " redislock-warning" * (state != HELD), spell_state(state)
        )

    @admin.display(description=gettext_lazy("waiters"), ordering="waiters")
    def waiters_column(self, lock: HeldLock) -> SafeString:
        """How many wait for it."""
        return format_html('<span class="{}">{}</span>', "redislock-waited" if lock.waiters else "", lock.waiters)

    @admin.display(description=gettext_lazy("since"))
    def since_line(self, lock: HeldLock) -> SafeString:
        """When it was acquired, in full."""
        instant = date_format(timezone.localtime(lock.since), "DATETIME_FORMAT")
        return format_html('<time datetime="{}">{}</time>', lock.since.isoformat(), instant)

    @admin.display(description=gettext_lazy("host"))
    def host_line(self, lock: HeldLock) -> str:
        """On which machine."""
        return lock.listed.holder.host

    @admin.display(description=gettext_lazy("process"))
    def pid_line(self, lock: HeldLock) -> int:
        """In which process."""
        return lock.listed.holder.pid

    @admin.display(description=gettext_lazy("thread or task"))
    def thread_line(self, lock: HeldLock) -> str:
        """In which thread or task."""
        return lock.listed.holder.thread

    @admin.display(description=gettext_lazy("doing"))
    def doing_line(self, lock: HeldLock) -> str:
        """What it is at."""
        return lock.listed.holder.doing or "-"

    @admin.display(description=gettext_lazy("for user"))
    def user_line(self, lock: HeldLock) -> str:
        """For whom, as far as that is known: a primary key."""
        return lock.listed.holder.user or "-"


def ttl_of(lock: HeldLock) -> float:
    """The ttl that locks of the alias have unless the call says otherwise: the server does not tell."""
    return locks[lock.alias].options.ttl
