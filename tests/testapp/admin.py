from __future__ import annotations

from django.contrib import admin

from django_redislock.versionadmin import VersionedAdmin

from .models import Document, Page


@admin.register(Page)
class PageAdmin(VersionedAdmin):
    """Names its fields, so the version has to come by itself."""

    fields = ("number", "text")


admin.site.register(Document)
