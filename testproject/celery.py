"""The Celery application of the test project."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")

app = Celery("testproject", broker=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
app.autodiscover_tasks(["testproject.bank"])
