"""The admin of models with a version: a conflict is shown to who saves or deletes, however late it is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.utils import flatten_fieldsets
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _

from .conflicts import VersionConflict
from .versionforms import UNTOLD, compare_opened, opened_with, read_signed
from .versions import VersionField, version_field_of

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Any]
else:
    Base = admin.ModelAdmin

OPENED = "_version"
"""What the page that asks whether to delete a row was opened with: in its address, so in that of its answer, too."""


class VersionedAdmin(Base):
    """A `ModelAdmin` that saves and deletes a row only as the person has seen it.

    Its change form carries the version, whichever `fields` or `fieldsets` it has, and so does its page for deleting.
    """

    @property
    def _version(self) -> VersionField | None:
        model: type[Model] = self.model
        return version_field_of(model)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """As Django's, with the hidden version."""
        fieldsets, version = super().get_fieldsets(request, obj), self._version
        shown = {*flatten_fieldsets(fieldsets), *self.get_readonly_fields(request, obj)}
        if version is None or obj is None or version.name in shown:
            return fieldsets
        if not self.has_change_permission(request, obj):  # who cannot save would see it as one more value to read
            return fieldsets
        return [*fieldsets, (None, {"fields": (version.name,)})]

    def changeform_view(self, request: HttpRequest, *args: Any, **named: Any) -> Any:
        """As Django's; a conflict between the check of the form and the save is found by checking once more."""
        try:
            return super().changeform_view(request, *args, **named)
        except VersionConflict:
            return super().changeform_view(request, *args, **named)

    def delete_view(self, request: HttpRequest, *args: Any, **named: Any) -> Any:
        """As Django's; a row that was changed since the page was opened is not deleted, and is shown again."""
        if request.method == "POST" and self._version is not None and read_signed(request.GET.get(OPENED)) is None:
            return self._ask_again(request, _("The page does not say which version it was opened with."))
        try:
            return super().delete_view(request, *args, **named)
        except VersionConflict:
            return self._ask_again(request, _("Another has changed it since the page was opened."))
        except ValidationError as error:
            if error.code != UNTOLD:
                raise
            return self._ask_again(request, _("The page does not say which version it was opened with."))

    def _ask_again(self, request: HttpRequest, why: str) -> HttpResponse:
        """Show the row as it is now, and ask whether that is to be deleted."""
        ask = _("Nothing was deleted. This is what it is now: is it to be deleted?")
        self.message_user(request, f"{why} {ask}", messages.ERROR)
        return HttpResponseRedirect(request.path)

    def render_delete_form(self, request: HttpRequest, context: Any) -> Any:
        """As Django's, at an address that says which version is shown."""
        if self._version is not None:
            opened = opened_with(context["object"], getattr(context["object"], self._version.attname)).signed()
            if request.GET.get(OPENED) != opened:
                query = request.GET.copy()
                query[OPENED] = opened
                return HttpResponseRedirect(f"{request.path}?{query.urlencode()}")
        return super().render_delete_form(request, context)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """As Django's; from the page for deleting only the version that was shown there."""
        opened = read_signed(request.GET.get(OPENED))
        if self._version is not None and opened is not None:
            setattr(obj, self._version.attname, compare_opened(obj, opened))
        super().delete_model(request, obj)
