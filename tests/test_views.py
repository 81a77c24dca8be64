"""`@lock_instance`: which row a request is about, and how the view gets it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, RequestFactory
from django.utils.decorators import method_decorator
from django.views import View

from django_redislock import get_lease, lock, lock_instance
from django_redislock.rows import Selected
from tests.flows import elsewhere, is_free
from tests.testapp.models import Account, Country, Place, Ticket

pytestmark = pytest.mark.django_db(transaction=True)

POST = RequestFactory().post("/")
GET = RequestFactory().get("/")
KEY = "testapp.Place:%s"


@pytest.fixture
def account(lock_alias: str) -> Account:
    return Account.objects.create(name="rent", balance=100)


def tell(account: Account) -> HttpResponse:
    """What a view sees: the row, and whether it is held."""
    held = "free" if is_free(f"testapp.Account:{account.pk}") else "held"
    return HttpResponse(f"{account.name} {held}")


def show_unlocked(request: HttpRequest, account: Account) -> HttpResponse:
    return tell(account)


# Decorated views keep their signature for type checkers, and these tests call them as the URLs do.
show: Any = lock_instance(Account)(show_unlocked)


def post(view: Any, *, request: HttpRequest = POST, **parameters: Any) -> Any:
    return view(request, **parameters)


class TestTheRow:
    @pytest.mark.parametrize("name", ["pk", "account_id", "account_pk", "id"])
    def test_it_is_named_by_a_usual_parameter(self, account, name):
        assert show(POST, **{name: account.pk}).content == b"rent held"

    def test_it_is_free_afterwards(self, account):
        show(POST, pk=account.pk)
        assert is_free(f"testapp.Account:{account.pk}")

    def test_the_most_telling_parameter_counts(self, account):
        view = lock_instance(Account)(lambda request, pk, account: tell(account))
        assert post(view, pk=12345, account_id=account.pk).content == b"rent held"

    def test_a_slug_finds_it(self, lock_alias):
        place = Place.objects.create(name="Bergen", slug="bergen")
        view = lock_instance(Place)(lambda request, place: HttpResponse(f"{place.name} {is_free(KEY % place.pk)}"))
        assert post(view, slug="bergen").content == b"Bergen False"
        assert post(view, slug="oslo").status_code == 404
        assert is_free(KEY % place.pk)

    def test_one_that_the_url_no_longer_names_once_it_is_locked_is_not_found(self, lock_alias, monkeypatch):
        place = Place.objects.create(slug="bergen")
        find = Selected.find

        def find_and_lose(self: Any) -> Any:
            pk = find(self)
            Place.objects.update(slug="oslo")
            return pk

        monkeypatch.setattr(Selected, "find", find_and_lose)
        view = lock_instance(Place)(lambda request, place: HttpResponse())
        assert post(view, slug="bergen").status_code == 404
        assert is_free(KEY % place.pk)

    def test_any_parameter_may_be_told(self, account):
        view = lock_instance(Account, row="number")(lambda request, account: tell(account))
        assert post(view, number=account.pk).content == b"rent held"

    def test_a_parameter_may_be_called_like_the_row(self, account):
        view = lock_instance(Account, row="account")(lambda request, account: tell(account))
        assert post(view, account=account.pk).content == b"rent held"

    def test_other_fields_find_it(self, account):
        view = lock_instance(Account, row={"name": "of", "balance": "money"})(lambda request, account: tell(account))
        assert post(view, of="rent", money=100).content == b"rent held"

    def test_a_function_finds_it_by_primary_key(self, account):
        view = lock_instance(Account, row=lambda request: request.POST["account"])(
            lambda request, account: tell(account)
        )
        request = RequestFactory().post("/", {"account": account.pk})
        assert post(view, request=request).content == b"rent held"

    def test_a_function_finds_it_by_other_fields(self, account):
        view = lock_instance(Account, row=lambda request, of: {"name": of})(lambda request, of, account: tell(account))
        assert post(view, of="rent").content == b"rent held"

    def test_it_has_to_belong_to_the_queryset(self, account):
        view = lock_instance(Account.objects.filter(balance=0))(lambda request, account: tell(account))
        assert post(view, pk=account.pk).status_code == 404

    def test_a_lookup_has_to_find_it_again_once_it_is_locked(self, account):
        @lock_instance(Account, row={"name": "other"}, name="other")
        @lock_instance(Account, row={"name": "of"})
        def view(request: HttpRequest, account: Account, other: Account) -> HttpResponse:
            return HttpResponse(f"{account.name} {other.name}")

        Account.objects.create(name="shop")
        assert post(view, of="rent", other="shop").content == b"rent shop"
        assert post(view, of="rent", other="nobody").status_code == 404

    def test_it_is_read_after_the_lock_was_acquired(self, account):
        seen = Account.objects.get()
        Account.objects.update(balance=7)
        view = lock_instance(Account)(lambda request, account: HttpResponse(str(account.balance)))
        assert (seen.balance, post(view, pk=account.pk).content) == (Decimal(100), b"7.00")

    def test_a_call_that_names_none_says_what_was_looked_for(self, account):
        with pytest.raises(TypeError, match="Among number is none of account_id, account_pk, pk, id, slug"):
            show(POST, number=account.pk)


class TestTheArgument:
    def test_a_view_that_takes_it_gets_the_parameter_as_well(self, account):
        view = lock_instance(Account)(lambda request, pk, account: HttpResponse(str(pk == account.pk)))
        assert post(view, pk=account.pk).content == b"True"

    def test_other_parameters_are_passed_on(self, account):
        view = lock_instance(Account)(lambda request, year, account: HttpResponse(year))
        assert post(view, pk=account.pk, year="2026").content == b"2026"

    def test_its_name_may_be_told(self, account):
        view = lock_instance(Account, name="source")(lambda request, source: tell(source))
        assert post(view, pk=account.pk).content == b"rent held"

    def test_a_view_that_does_not_take_it_is_told_so_at_once(self):
        with pytest.raises(TypeError, match=r"no argument 'account'.* name="):
            lock_instance(Account)(lambda request, pk: HttpResponse())

    def test_a_row_that_is_there_already_is_not_locked_again(self, account):
        inner: Any = lock_instance(Account)(lambda request, account: account)
        outer = lock_instance(Account)(lambda request, pk, account: account is inner(request, pk=pk, account=account))
        assert post(outer, pk=account.pk) is True

    def test_the_view_keeps_its_name_and_its_signature(self):
        def pay(request: HttpRequest, account: Account) -> HttpResponse:
            """Pays."""
            return HttpResponse()

        locked = lock_instance(Account)(pay)
        assert (locked.__name__, locked.__doc__) == ("pay", "Pays.")


class TestMethods:
    @pytest.mark.parametrize("methods", ["unsafe", ["POST"], ["post", "put"]])
    def test_only_those_are_locked_for(self, account, methods):
        view = lock_instance(Account, methods=methods)(lambda request, account: tell(account))
        assert post(view, pk=account.pk).content == b"rent held"
        assert post(view, request=GET, pk=account.pk).content == b"rent free"

    def test_without_the_lock_a_row_that_is_missing_is_not_found_either(self, account):
        view = lock_instance(Account, methods="unsafe")(lambda request, account: tell(account))
        assert [post(view, request=GET, pk=pk).status_code for pk in (account.pk + 1, "no number", 10**30)] == [
            404,
            404,
            404,
        ]


class Withdraw(View):
    def post(self, request: HttpRequest, account: Account, **kwargs: Any) -> HttpResponse:
        return tell(account)


class Whole(Withdraw):
    pass


class TestClasses:
    def test_dispatch_is_decorated(self, account):
        view: Any = method_decorator(lock_instance(Account), name="dispatch")(type("Whole", (Withdraw,), {}))
        assert view.as_view()(POST, pk=account.pk).content == b"rent held"

    def test_the_class_is_decorated(self, account):
        view: Any = lock_instance(Account)(Whole)
        assert view.as_view()(POST, pk=account.pk).content == b"rent held"

    @pytest.mark.parametrize("decorate", [lock_instance(Account), method_decorator(lock_instance(Account))])
    def test_a_method_is_decorated(self, account, decorate):
        post = decorate(lambda self, request, account: tell(account))
        view: Any = type("One", (View,), {"post": post, "get": lambda self, request, pk: HttpResponse("not locked")})
        assert view.as_view()(POST, pk=account.pk).content == b"rent held"
        assert view.as_view()(GET, pk=account.pk).content == b"not locked"

    def test_what_is_called_without_a_request_says_so(self):
        with pytest.raises(TypeError, match="is no request"):
            show(account=1)


class TestSeveral:
    @staticmethod
    @lock_instance(Account, row="target", name="target")
    @lock_instance(Account, row="source", name="source")
    def move(request: HttpRequest, source: Account, target: Account) -> HttpResponse:
        return HttpResponse(f"{source.name} {tell(source).text} {target.name} {tell(target).text}")

    def test_two_of_one_model_are_locked_together(self, account):
        other = Account.objects.create(name="shop")
        assert post(self.move, source=account.pk, target=other.pk).content == b"rent rent held shop shop held"
        assert is_free(f"testapp.Account:{other.pk}")

    def test_one_of_them_missing_locks_neither(self, account):
        assert post(self.move, source=account.pk, target=12345).status_code == 404
        assert is_free(f"testapp.Account:{account.pk}")

    def test_rows_of_several_models_are_locked_in_one_order(self, account):
        ticket, _ = Ticket.objects.create(account=account), Country.objects.create(code="no")
        taken: list[str] = []

        @lock_instance(Country, row="country")
        @lock_instance(Ticket, row="ticket")
        @lock_instance(Account, row="account")
        def view(request: HttpRequest, account: Account, country: Country, ticket: Ticket) -> HttpResponse:
            taken.extend(str(get_lease(row).key) for row in sorted((account, country, ticket), key=fence_of))
            return HttpResponse()

        assert post(view, ticket=ticket.pk, country="no", account=account.pk).status_code == 200
        assert taken == sorted(taken)
        assert all(is_free(key) for key in taken)

    @pytest.mark.parametrize("busy", ["testapp.Account", "testapp.Ticket"])
    def test_one_of_several_models_being_busy_locks_none(self, account, busy):
        ticket = Ticket.objects.create(account=account)

        @lock_instance(Ticket, row="ticket", wait=0.01)
        @lock_instance(Account, row="account", wait=0.01)
        def view(request: HttpRequest, account: Account, ticket: Ticket) -> HttpResponse:
            raise AssertionError("It was busy.")

        rows = {"testapp.Account": account.pk, "testapp.Ticket": ticket.pk}
        other = next(key for key in rows if key != busy)
        with lock(f"{busy}:{rows[busy]}"):
            assert elsewhere(lambda: post(view, account=account.pk, ticket=ticket.pk)).status_code == 423
            assert is_free(f"{other}:{rows[other]}")

    def test_two_that_are_to_be_passed_in_under_one_name_are_refused(self):
        with pytest.raises(TypeError, match="tell them apart with name="):
            lock_instance(Account)(show)

    def test_two_that_disagree_are_refused(self):
        with pytest.raises(TypeError, match="give both the same arguments"):
            lock_instance(Account, name="other", wait=5)(show)


def fence_of(row: Any) -> int:
    return get_lease(row).fence


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"row": 5}, "row= is the name of a parameter"),
        ({"row": {}}, "row= cannot look for"),
        ({"row": AsyncClient().get}, "gives the primary key or a dict at once"),
        ({"row": {"ttl": "ttl"}}, "row= cannot look for 'ttl'"),
        ({"name": "not a name"}, "name= is the name of a parameter"),
        ({"methods": "POST"}, "methods is a list"),
        ({"methods": [1]}, "methods is a list"),
        ({"busy_status": 500}, "busy_status is 423 or 409"),
        ({"retry_after": 0}, "retry_after is a number of seconds"),
        ({"streaming": "maybe"}, "streaming is one of refuse, hold"),
        ({"wait": -1}, "wait must be 0 or more"),
        ({"ttl": "long"}, "seconds are a number"),
        ({"timeout": 5}, "Did you mean ttl="),
    ],
)
def test_a_mistake_is_told_where_the_view_is_decorated(arguments, complaint):
    with pytest.raises((TypeError, ValueError), match=complaint):
        lock_instance(Account, **arguments)


def test_what_has_no_rows_cannot_be_locked():
    with pytest.raises(TypeError, match="A model, a manager or a queryset"):
        lock_instance("Account")  # type: ignore[arg-type]  # the mistake under test
