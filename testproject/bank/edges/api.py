"""Views of Django REST framework whose rows are locked for them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rest_framework import serializers, viewsets
from rest_framework.decorators import action, api_view
from rest_framework.request import Request
from rest_framework.response import Response

from django_redislock import lock_instance
from django_redislock.drf import LockedObjectMixin

from ..models import Account

if TYPE_CHECKING:
    AccountViewSet = viewsets.ModelViewSet[Account]
    AccountModelSerializer = serializers.ModelSerializer[Account]
else:
    AccountViewSet = viewsets.ModelViewSet
    AccountModelSerializer = serializers.ModelSerializer


class AccountSerializer(AccountModelSerializer):
    class Meta:  # pyright: ignore[reportIncompatibleVariableOverride]  # a base that the stubs alone have
        model = Account
        fields = ("id", "number", "owner", "balance")
        read_only_fields = ("balance",)


class Amount(serializers.Serializer[Any] if TYPE_CHECKING else serializers.Serializer):  # type: ignore[misc]
    amount = serializers.DecimalField(min_value=Decimal("0.01"), max_digits=12, decimal_places=2)


class Accounts(LockedObjectMixin, AccountViewSet):
    """Whatever changes an account does so on the locked row."""

    queryset = Account.objects.all()
    serializer_class = AccountSerializer

    @action(detail=True, methods=["post"])
    @lock_instance(Account, wait=2)
    def deposit(self, request: Request, account: Account) -> Response:
        """One action with a row of its own."""
        amount = Amount(data=request.data)
        amount.is_valid(raise_exception=True)
        account.balance += amount.validated_data["amount"]
        account.save()
        return Response(AccountSerializer(account).data)


@api_view(["POST"])
@lock_instance(Account, row={"number": "number"}, wait=2)
def close(request: Request, account: Account) -> Response:
    """A function; the account is named by its number."""
    if account.balance:
        return Response({"detail": "There is money on it."}, status=409)
    account.delete()
    return Response(status=204)
