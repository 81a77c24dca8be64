from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, Q, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from django_redislock import LeaseLost, LockBusy, StoreUnavailable

from .forms import TransferForm
from .models import Account, Transfer
from .transfers import Order, Outcome, transfer

WAIT = 2.0  # seconds that a visitor may be kept waiting for the locks
PER_PAGE = 20

TOO_LITTLE = "Refused: there is not enough money on the account."
OTHER_ORDER = "This form was used for another transfer already. Nothing was booked now."
TRY_AGAIN = "Nothing was booked. Send the form again in a moment."


@require_GET
def accounts(request: HttpRequest) -> HttpResponse:
    """All accounts, and a form to send money from one of them: `?from=<pk>`, else the first."""
    wanted = request.GET.get("from", "")
    source = get_object_or_404(Account, pk=wanted) if wanted.isdecimal() else Account.objects.first()
    return page(request, source)


@require_POST
def send(request: HttpRequest, pk: int) -> HttpResponse:
    """Carry one order out, once however often the form is sent."""
    source = get_object_or_404(Account, pk=pk)
    form = TransferForm(request.POST, source=pk)
    if not form.is_valid():
        return page(request, source, form, status=HTTPStatus.BAD_REQUEST)
    data = form.cleaned_data
    order = Order(key=data["key"], source=pk, target=data["target"].pk, amount=data["amount"])
    try:
        outcome = transfer(order, wait=WAIT)
    except LockBusy as error:
        busy = f"One of the accounts is busy: {error.holder or 'another process'} is working on it. {TRY_AGAIN}"
        return later(page(request, source, form, error=busy, status=HTTPStatus.LOCKED))
    except (LeaseLost, StoreUnavailable):
        unavailable = f"The accounts cannot be locked at this time. {TRY_AGAIN}"
        return later(page(request, source, form, error=unavailable, status=HTTPStatus.SERVICE_UNAVAILABLE))
    return decided(request, source, order, outcome)


def decided(request: HttpRequest, source: Account, order: Order, outcome: Outcome) -> HttpResponse:
    """Tell the decision; the second time as the first time."""
    booked = Transfer.objects.get(key=order.key)
    if (booked.source_id, booked.target_id, booked.amount) != (order.source, order.target, order.amount):
        return page(request, source, error=OTHER_ORDER, status=HTTPStatus.CONFLICT)
    if booked.status == Transfer.Status.REFUSED:
        return page(request, source, error=TOO_LITTLE, status=HTTPStatus.CONFLICT)
    before = " It was booked before, and only once." if outcome is Outcome.DUPLICATE else ""
    messages.success(request, f"{booked.amount} was sent to {booked.target}.{before}")
    return redirect(reverse("bank:accounts", query={"from": source.pk}))


def later(response: HttpResponse) -> HttpResponse:
    response["Retry-After"] = "2"
    return response


def page(
    request: HttpRequest,
    source: Account | None,
    form: TransferForm | None = None,
    *,
    error: str = "",
    status: int = HTTPStatus.OK,
) -> HttpResponse:
    """The one page of this site, with the account that money is sent from as it is now."""
    context: dict[str, Any] = {
        "page": Paginator(Account.objects.all(), PER_PAGE).get_page(request.GET.get("page")),
        "total": Account.objects.aggregate(money=Sum("balance")),
        "decided": Transfer.objects.aggregate(
            booked=Count("pk", filter=Q(status=Transfer.Status.BOOKED)),
            refused=Count("pk", filter=Q(status=Transfer.Status.REFUSED)),
        ),
        "error": error,
    }
    if source is not None:
        source.refresh_from_db()
        recent = Transfer.objects.filter(Q(source=source) | Q(target=source)).select_related("source", "target")
        context |= {"source": source, "form": form or TransferForm(source=source.pk), "recent": recent[:6]}
    return render(request, "bank/accounts.html", context, status=status)
