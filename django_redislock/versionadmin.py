"""The admin of models with a version: a conflict is shown in the form, however late it is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import Model
from django.http import HttpRequest, HttpResponseRedirect

from .conflicts import VersionConflict
from .versions import version_field_of

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Any]
else:
    Base = admin.ModelAdmin


class VersionedAdmin(Base):
    """A `ModelAdmin` whose change form carries the version, whichever `fields` or `fieldsets` it has."""

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """As Django's, with the hidden version."""
        fieldsets = super().get_fieldsets(request, obj)
        model: type[Model] = self.model
        version = version_field_of(model)
        shown = {*flatten_fieldsets(fieldsets), *self.get_readonly_fields(request, obj)}
        if version is None or version.name in shown:
            return fieldsets
        return [*fieldsets, (None, {"fields": (version.name,)})]

    def changeform_view(self, request: HttpRequest, *args: Any, **named: Any) -> Any:
        """As Django's; a conflict between the check of the form and the save is found by checking once more."""
        try:
            return super().changeform_view(request, *args, **named)
        except VersionConflict:
            return super().changeform_view(request, *args, **named)

    def delete_view(self, request: HttpRequest, *args: Any, **named: Any) -> Any:
        """As Django's; a row that was changed meanwhile is not deleted, and is shown again."""
        try:
            return super().delete_view(request, *args, **named)
        except VersionConflict as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(request.path)
