"""The cells of the list and the lines of the detail page. Everything that others chose is text: it is escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..handler import locks
from .words import spell, spell_state, state_of

if TYPE_CHECKING:
    from ..models import HeldLock


WORDS_OF_OTHERS = "<bdi>{}</bdi>"
"""Set apart, so that a page which is read from the right leaves them as they are."""


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
        instant, age = lock.since.isoformat(" ", "seconds"), lock.listed.held_for
        return format_html(
            f'<time datetime="{instant}" title="{instant}" data-redislock-age="{age:.3f}">{{}}</time>', spell(age)
        )

    @admin.display(description=gettext_lazy("time left"), ordering="remaining")
    def remaining_column(self, lock: HeldLock) -> SafeString:
        """How long the server keeps it unless it is renewed, and whether it is being kept."""
        options = locks[lock.alias].options
        # The server does not tell the ttl: it is taken for the one that the setting gives.
        left, whole = f"{lock.remaining:.3f}", max(options.ttl, lock.remaining)
        state = state_of(lock.listed, options)
        return format_html(
            f'<meter min="0" max="{whole:.3f}" low="{whole / 3:.3f}" value="{left}" data-redislock-left="{left}"'
            f' aria-label="{{0}}">{{1}}</meter> <span class="redislock-left">{{1}}</span>'
            f' <span class="redislock-state redislock-{state}">{{2}}</span>',
            _("time left"),
            spell(lock.remaining),
            spell_state(state),
        )

    @admin.display(description=gettext_lazy("waiters"), ordering="waiters")
    def waiters_column(self, lock: HeldLock) -> SafeString:
        """How many wait for it."""
        return mark_safe(f'<span class="redislock-{"waited" if lock.waiters else "idle"}">{lock.waiters:d}</span>')

    @admin.display(description=gettext_lazy("since"))
    def since_line(self, lock: HeldLock) -> SafeString:
        """When it was acquired, in full."""
        instant = date_format(timezone.localtime(lock.since), "DATETIME_FORMAT")
        return format_html('<time datetime="{}">{}</time>', lock.since.isoformat(), instant)

    @admin.display(description=gettext_lazy("host"))
    def host_line(self, lock: HeldLock) -> str:
        """On which machine."""
        return format_html(WORDS_OF_OTHERS, lock.listed.holder.host)

    @admin.display(description=gettext_lazy("process"))
    def pid_line(self, lock: HeldLock) -> int:
        """In which process."""
        return lock.listed.holder.pid

    @admin.display(description=gettext_lazy("thread or task"))
    def thread_line(self, lock: HeldLock) -> str:
        """In which thread or task."""
        return format_html(WORDS_OF_OTHERS, lock.listed.holder.thread)

    @admin.display(description=gettext_lazy("doing"))
    def doing_line(self, lock: HeldLock) -> str:
        """What it is at."""
        return format_html(WORDS_OF_OTHERS, lock.listed.holder.doing or "-")

    @admin.display(description=gettext_lazy("for user"))
    def user_line(self, lock: HeldLock) -> str:
        """For whom, as far as that is known: a primary key."""
        return lock.listed.holder.user or "-"
