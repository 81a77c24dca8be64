from __future__ import annotations

from django.contrib import admin

from django_redislock.versionadmin import VersionedAdmin

from .models import Account, Document, Page, Purse


@admin.register(Page)
class PageAdmin(VersionedAdmin):
    """Names its fields, so the version has to come by itself."""

    fields = ("number", "text")


@admin.register(Purse)
class PurseAdmin(admin.ModelAdmin):
    """Names its fields, and leaves the version out."""

    fields = ("coins",)


@admin.register(Account)
class AccountAdmin(VersionedAdmin):
    """Of a model that has no version."""


admin.site.register(Document)
