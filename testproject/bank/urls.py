from __future__ import annotations

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from . import views
from .edges import api
from .edges import views as edges

router = SimpleRouter()
router.register("accounts", api.Accounts)

app_name = "bank"
urlpatterns = [
    path("", views.accounts, name="accounts"),
    path("accounts/<int:pk>/transfer/", views.send, name="transfer"),
    path("accounts/<int:pk>/move/", edges.move, name="move"),
    path("accounts/<int:pk>/amove/", edges.amove, name="amove"),
    path("accounts/<int:pk>/rename/", edges.Rename.as_view(), name="rename"),
    path("accounts/<int:pk>/edit/", edges.Edit.as_view(), name="edit"),
    path("accounts/<int:pk>/deposit/", edges.deposit, name="deposit"),
    path("accounts/<int:pk>/statement/", edges.statement, name="statement"),
    path("api/", include(router.urls)),
    path("api/close/<number>/", api.close, name="close"),
]
