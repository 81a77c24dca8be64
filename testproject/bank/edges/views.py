"""Views whose rows are locked for them."""

from __future__ import annotations

import csv
import uuid
from collections.abc import Iterator
from decimal import Decimal
from http import HTTPStatus
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_required
from django.contrib.auth.mixins import LoginRequiredMixin
from django.db import transaction
from django.db.models import Q
from django.forms import DecimalField, ValidationError
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.http import require_POST
from django.views.generic import UpdateView

from django_redislock import lock_instance
from django_redislock.views import LockedObjectMixin

from ..models import Account, Transfer
from ..transfers import Order, Outcome, book


def amount_of(request: HttpRequest) -> Decimal:
    """The amount that was sent. Raises `ValidationError`."""
    amount = DecimalField(min_value=Decimal("0.01"), max_digits=12, decimal_places=2).clean(request.POST.get("amount"))
    assert isinstance(amount, Decimal)
    return amount


def chosen(request: HttpRequest, **kwargs: Any) -> str | None:
    """The account that a form names as the target."""
    return request.POST.get("target")


@require_POST
@lock_instance(Account, row=chosen, name="target", wait=2, ttl=5)
@lock_instance(Account, row="pk", name="source", wait=2, ttl=5)
def move(request: HttpRequest, source: Account, target: Account) -> HttpResponse:
    """A function view with two rows: move money from one account to another."""
    return moved(request, source, target)


@require_POST
@lock_instance(Account, row=chosen, name="target", wait=2, ttl=5)
@lock_instance(Account, row="pk", name="source", wait=2, ttl=5)
async def amove(request: HttpRequest, source: Account, target: Account) -> HttpResponse:
    """The same on an event loop: the locks are those of the task, the transaction is that of a thread inside them."""
    return await sync_to_async(transaction.atomic(moved))(request, source, target)


def moved(request: HttpRequest, source: Account, target: Account) -> HttpResponse:
    """Book the transfer, and say what became of it."""
    key = request.POST.get("key") or uuid.uuid4().hex
    try:
        order = Order(key=key, source=source.pk, target=target.pk, amount=amount_of(request))
    except ValidationError as error:
        return HttpResponse(error.messages, status=HTTPStatus.BAD_REQUEST)
    if source == target or Transfer.objects.filter(key=key).exists():
        return HttpResponse("This was booked before, or is no transfer.", status=HTTPStatus.CONFLICT)
    if book(order, {source.pk: source, target.pk: target}) is Outcome.REFUSED:
        return HttpResponse("There is not enough money on the account.", status=HTTPStatus.CONFLICT)
    return redirect(reverse("bank:accounts", query={"from": source.pk}))


@method_decorator(login_required, name="dispatch")
class Rename(View):
    """A class view: one of its methods has the row."""

    @method_decorator(lock_instance(Account, wait=2))
    def post(self, request: HttpRequest, account: Account) -> HttpResponse:
        account.owner = request.POST.get("owner") or account.owner
        account.save()
        return JsonResponse({"owner": account.owner})


class Edit(LoginRequiredMixin, LockedObjectMixin, UpdateView):  # type: ignore[type-arg]  # in the stubs only
    """A generic view whose object is the locked row."""

    model = Account
    fields = ("owner",)
    template_name = "bank/edit.html"
    success_url = "/"


@require_POST
@lock_instance(Account, wait=2)
async def deposit(request: HttpRequest, account: Account) -> HttpResponse:
    """An asynchronous view."""
    try:
        account.balance += amount_of(request)
    except ValidationError as error:
        return HttpResponse(error.messages, status=HTTPStatus.BAD_REQUEST)
    await account.asave()
    return JsonResponse({"balance": str(account.balance)})


class Echo:
    """What a writer of CSV writes into, to have the line back."""

    def write(self, line: str) -> str:
        return line


@lock_instance(Account, streaming="hold", wait=2, ttl=60)
def statement(request: HttpRequest, account: Account) -> StreamingHttpResponse:
    """A view that streams: the account stays locked until the last line is sent."""

    def lines() -> Iterator[str]:
        writer = csv.writer(Echo())
        for transfer in Transfer.objects.filter(Q(source=account) | Q(target=account)).order_by("pk").iterator():
            yield writer.writerow([transfer.key, transfer.amount, transfer.status])
        yield writer.writerow(["balance", account.balance, ""])

    return StreamingHttpResponse(lines(), content_type="text/csv")
