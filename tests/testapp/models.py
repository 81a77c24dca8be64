"""Models with every kind of primary key and manager."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models

from django_redislock import LockManager, LockQuerySet, VersionedModel, VersionField


class Account(models.Model):
    """The ordinary case."""

    name = models.CharField(max_length=40, default="")
    balance = models.DecimalField(max_digits=12, decimal_places=2, default=0)

    objects = LockManager()

    def __str__(self) -> str:
        return self.name


class Purse(models.Model):
    """A row with a version, and a lock."""

    coins = models.IntegerField(default=0)
    version = VersionField()

    objects = LockManager()

    def __str__(self) -> str:
        return f"Purse {self.pk}"


class AccountProxy(Account):
    """The same rows under another class."""

    class Meta:
        proxy = True


class Place(models.Model):
    """Parent of a row in two tables."""

    name = models.CharField(max_length=40, default="")
    slug = models.SlugField(default="")

    objects = LockManager()

    def __str__(self) -> str:
        return self.name


class Restaurant(Place):
    """Child of a row in two tables: `Restaurant(1)` and `Place(1)` are one row."""

    serves_pizza = models.BooleanField(default=False)


class Pizzeria(Restaurant):
    """Grandchild: a row in three tables."""

    oven = models.CharField(max_length=40, default="")


class Plan(models.Model):
    """Its primary key relates to an account without being its child: `Plan(1)` and `Account(1)` are two rows."""

    account = models.OneToOneField(Account, on_delete=models.CASCADE, primary_key=True)

    objects = LockManager()

    def __str__(self) -> str:
        return f"Plan of {self.account_id}"


class Parcel(models.Model):
    """A primary key that an unsaved instance has already."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)

    objects = LockManager()

    def __str__(self) -> str:
        return str(self.id)


class Country(models.Model):
    """A primary key of characters."""

    code = models.CharField(max_length=40, primary_key=True)

    objects = LockManager()

    def __str__(self) -> str:
        return self.code


class Weight(models.Model):
    """A primary key with several spellings of one number."""

    grams = models.DecimalField(max_digits=8, decimal_places=3, primary_key=True)

    objects = LockManager()

    def __str__(self) -> str:
        return str(self.grams)


class IsbnField(models.CharField):
    """Ten digits; hyphens and spaces between them mean nothing."""

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        return text and text.replace("-", "").replace(" ", "")

    def get_prep_value(self, value: Any) -> Any:
        return self.to_python(super().get_prep_value(value))


class Book(models.Model):
    """A primary key whose field reads several spellings as one."""

    isbn = IsbnField(max_length=10, primary_key=True)

    objects = LockManager()

    def __str__(self) -> str:
        return str(self.isbn)


class Seat(models.Model):
    """A primary key of two columns."""

    pk = models.CompositePrimaryKey("row", "number")
    row = models.CharField(max_length=2)
    number = models.IntegerField()
    guest = models.CharField(max_length=40, default="")

    objects = LockManager()

    def __str__(self) -> str:
        return f"{self.row}{self.number}"


class TicketQuerySet(LockQuerySet["Ticket"]):
    """A queryset of the application's own."""

    def open(self) -> TicketQuerySet:
        return self.filter(closed=False)


class Ticket(models.Model):
    """A manager made from the application's own queryset, a relation to follow, a plain manager beside it."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="tickets")
    closed = models.BooleanField(default=False)

    objects = LockManager.from_queryset(TicketQuerySet)()
    plain = models.Manager["Ticket"]()

    def __str__(self) -> str:
        return f"Ticket {self.pk}"


class CouponQuerySet(LockQuerySet["Coupon"]):
    """Another queryset of the application's own."""

    def unused(self) -> CouponQuerySet:
        return self.filter(used=False)


class Coupon(models.Model):
    """A manager made by the queryset itself."""

    used = models.BooleanField(default=False)

    objects = CouponQuerySet.as_manager()

    def __str__(self) -> str:
        return f"Coupon {self.pk}"


class Document(models.Model):
    """A version on an ordinary model: neither base class nor manager of ours."""

    title = models.CharField(max_length=40, default="")
    copies = models.IntegerField(default=0)
    price = models.DecimalField(max_digits=12, decimal_places=2, default=0)
    version = VersionField()

    def __str__(self) -> str:
        return self.title


class Page(VersionedModel):
    """What the base class gives; `number` is unique for those who upsert."""

    number = models.IntegerField(unique=True)
    text = models.CharField(max_length=40, default="")
    words = models.IntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.number}"


class Shelf(models.Model):
    """A parent whose version counts for its children, with a primary key of characters."""

    code = models.CharField(max_length=20, primary_key=True)
    books = models.IntegerField(default=0)
    version = VersionField()

    objects = LockManager()

    def __str__(self) -> str:
        return self.code


class Cabinet(Shelf):
    """A child in a table of its own."""

    doors = models.IntegerField(default=0)
