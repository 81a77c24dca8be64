from __future__ import annotations

from django.contrib import admin

from .models import Account, Transfer


@admin.register(Account)
class AccountAdmin(admin.ModelAdmin[Account]):
    list_display = ("number", "owner", "balance", "movements")
    search_fields = ("number", "owner")
    readonly_fields = ("movements",)


@admin.register(Transfer)
class TransferAdmin(admin.ModelAdmin[Transfer]):
    """The ledger is read here, not written: a changed line would not change the balances."""

    list_display = ("key", "source", "target", "amount", "status", "created")
    list_filter = ("status",)
    list_select_related = ("source", "target")
    search_fields = ("key", "source__number", "target__number")

    def has_add_permission(self, *_args: object) -> bool:
        return False

    def has_change_permission(self, *_args: object) -> bool:
        return False

    def has_delete_permission(self, *_args: object) -> bool:
        return False
