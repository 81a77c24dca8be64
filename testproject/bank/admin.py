from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin

from django_redislock.admin import LockStatusAdminMixin

from .models import Account, Transfer

if TYPE_CHECKING:
    from django.forms import ModelForm
    from django.http import HttpRequest

    AccountOptions = admin.ModelAdmin[Account]
    TransferOptions = admin.ModelAdmin[Transfer]
else:
    AccountOptions = TransferOptions = admin.ModelAdmin


@admin.register(Account)
class AccountAdmin(LockStatusAdminMixin, AccountOptions):
    list_display = ("number", "owner", "balance", "movements")
    search_fields = ("number", "owner")
    readonly_fields = ("movements",)

    def get_readonly_fields(self, request: HttpRequest, obj: Account | None = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        return fields if obj is None else (*fields, "balance")

    def save_model(self, request: HttpRequest, obj: Account, form: ModelForm[Account], change: bool) -> None:
        # A plain save() writes the balance that the form was opened with over a transfer that was booked since.
        obj.save(update_fields=form.changed_data if change else None)


@admin.register(Transfer)
class TransferAdmin(TransferOptions):
    """The ledger is read here, not written: a changed line would not change the balances."""

    list_display = ("key", "source", "target", "amount", "status", "created")
    list_filter = ("status",)
    list_select_related = ("source", "target")
    search_fields = ("key", "source__number", "target__number")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
