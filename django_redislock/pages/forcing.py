"""Force release in the admin: who is meant, what is written down, what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from django import forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.contrib.admin.models import LogEntry
from django.db import router, transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..exceptions import RedisLockError
from ..forcing import Seized, hand_over, seize
from ..models import HeldLock, identified

MOST_AT_ONCE = 200
"""Locks that one confirmation frees: more of them nobody reads."""


class ReasonForm(forms.Form):
    """What the operator has to say."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        help_text=gettext_lazy("It is kept in the history, with your name."),
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60, "class": "vLargeTextField"}),
    )


class Meant(NamedTuple):
    """An owner of a lock: the one that was on the page, and no one who got the lock since."""

    fence: int
    identifier: str


def write_meant(lock: HeldLock) -> str:
    """For the form."""
    return f"{lock.fence} {lock.pk}"


def read_meant(value: str) -> Meant:
    """From the form. Raises `ValueError`."""
    fence, _space, identifier = value.partition(" ")
    return Meant(int(fence), identifier)


def force_all(admin: ModelAdmin[Any], request: HttpRequest, meant: Sequence[Meant], reason: str) -> None:
    """Free the locks, and say of each what became of it."""
    seized: list[Seized] = []
    try:
        for one in meant:
            _alias, name = identified(one.identifier)
            try:
                taken = force(admin, request, one, reason)
            except RedisLockError as error:
                messages.error(request, _("Not released: %(key)s. %(error)s") % {"key": name, "error": error})
                continue
            if taken is None:
                text = _("Left %(key)s alone: who held it does not hold it any more.")
                messages.warning(request, text % {"key": name})
            else:
                seized.append(taken)
                text = _("Released %(key)s, which %(holder)s held. The next in line has it now, if there is one.")
                messages.success(request, text % {"key": name, "holder": taken.info.holder})
    finally:
        hand_over(seized)


def force(admin: ModelAdmin[Any], request: HttpRequest, meant: Meant, reason: str) -> Seized | None:
    """Take one lock away. It is written down before it is done, and struck out when it was not done."""
    alias, name = identified(meant.identifier)
    with transaction.atomic(using=router.db_for_write(LogEntry)):
        lock = HeldLock(id=meant.identifier, key=name, alias=alias)
        entry = admin.log_change(request, lock, _("Released by force. Reason: %s") % reason)
        forced = seize(name, alias=alias, fence=meant.fence)
        if forced is None:
            entry.delete()
        else:
            entry.change_message = _("Released by force from %(holder)s. Reason: %(reason)s") % {
                "holder": forced.info.holder,
                "reason": reason,
            }
            entry.save(update_fields=["change_message"])
    return forced
