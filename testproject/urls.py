from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("testproject.bank.urls")),
    path("admin/", admin.site.urls),
]
