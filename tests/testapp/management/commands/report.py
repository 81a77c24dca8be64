"""A guarded command that tells when it runs, and does what it is told meanwhile."""

from __future__ import annotations

import signal
import sys
from typing import Any

from django.core.management.base import BaseCommand

from django_redislock import lock_command


@lock_command(ttl=30)
class Command(BaseCommand):
    def handle(self, *args: Any, **options: Any) -> str:
        print("running", flush=True)
        order = sys.stdin.readline().strip()
        if order == "raise":
            raise ValueError("The report failed.")
        if order == "suspend":
            signal.pause()
        return "done"
