from __future__ import annotations

from django.urls import path

from . import views

app_name = "bank"
urlpatterns = [
    path("", views.accounts, name="accounts"),
    path("accounts/<int:pk>/transfer/", views.send, name="transfer"),
]
