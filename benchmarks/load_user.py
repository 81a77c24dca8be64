"""What a visitor does under load, for locust: moves money between accounts that everybody wants."""

from __future__ import annotations

import json
import os
import random
import sys
from collections import Counter
from typing import Any

from locust import FastHttpUser, events, task

ACCOUNTS = json.loads(os.environ["LOAD_ACCOUNTS"])
VIEW = os.environ["LOAD_VIEW"]
TOKEN = "l" * 32
HEADERS = {"Cookie": f"csrftoken={TOKEN}", "X-CSRFToken": TOKEN, "Accept": "application/json"}
STATUSES = Counter[int]()


class Visitor(FastHttpUser):
    """Comes back at once."""

    network_timeout = 60.0
    connection_timeout = 60.0

    @task
    def move(self) -> None:
        source, target = random.sample(ACCOUNTS, 2)
        data = {"target": str(target), "amount": f"{random.randint(1, 3000) / 100:.2f}"}
        with self.client.post(
            f"/accounts/{source}/{VIEW}/",
            data=data,
            headers=HEADERS,
            name="move",
            allow_redirects=False,
            catch_response=True,
        ) as response:
            STATUSES[response.status_code] += 1
            response.success()  # what the statuses are worth is judged by who counts them


def tell(environment: Any, **named: Any) -> None:
    """Print what came back."""
    total = environment.stats.total
    figures = {
        "statuses": dict(STATUSES),
        "rate": total.total_rps,
        "p50": total.get_response_time_percentile(0.5),
        "p99": total.get_response_time_percentile(0.99),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


events.quitting.add_listener(tell)  # type: ignore[no-untyped-call]  # of locust
