"""What the admin shows of the locks that are held: a model without a table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote, unquote

from django.db import models
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from .stores.listing import Listed

FORCE_RELEASE = "force_release"


class NoRows(models.Manager["HeldLock"]):
    """There is no table: whoever asks the database for all rows of all models gets none of this one."""

    def get_queryset(self) -> models.QuerySet[HeldLock]:
        """Nothing."""
        return super().get_queryset().none()


class HeldLock(models.Model):
    """A lock that somebody holds, as the server listed it."""

    id = models.CharField(_("identifier"), max_length=255, primary_key=True)
    key = models.TextField(_("key"))
    alias = models.TextField(_("alias"))
    since = models.DateTimeField(_("since"))
    remaining = models.FloatField(_("time left"))
    fence = models.BigIntegerField(_("fence"))
    waiters = models.IntegerField(_("waiters"))

    objects = NoRows()

    listed: Listed
    """What the server said."""
    object_text: str = ""
    """What the row says of itself, where the user may see it."""
    object_url: str = ""
    """The admin page of the row."""

    class Meta:
        """No table."""

        managed = False
        verbose_name = _("held lock")
        verbose_name_plural = _("held locks")
        default_manager_name = "objects"
        base_manager_name = "objects"
        default_permissions = ("view",)
        permissions: ClassVar = [(FORCE_RELEASE, "Can force the release of held locks")]

    def __str__(self) -> str:
        return self.key

    @classmethod
    def of(cls, listed: Listed) -> HeldLock:
        """The lock as it was listed."""
        lock = cls(
            id=identify(listed.alias, listed.name),
            key=listed.name,
            alias=listed.alias,
            since=datetime.fromtimestamp(listed.since, UTC),
            remaining=listed.remaining,
            fence=listed.fence,
            waiters=listed.waiters,
        )
        lock.listed = listed
        return lock


def identify(alias: str, name: str) -> str:
    """One text for both."""
    return f"{quote(alias, safe='')}:{name}"


def identified(identifier: str) -> tuple[str, str]:
    """Alias and name again."""
    alias, _colon, name = identifier.partition(":")
    return unquote(alias), name
