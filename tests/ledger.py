"""Money that moves between versioned rows while servers fail."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from django.db import OperationalError, connections
from django.db.models import Sum

from django_redislock import Deadlock, LeaseLost, LockBusy, StoreUnavailable, VersionConflict
from tests.testapp.models import Purse

WORKERS, PURSES, COINS = 4, 6, 100


class Ledger:
    """Purses in a database, and what became of the transfers between them."""

    def __init__(self, db: str) -> None:
        self._db = db
        self.pks = [Purse.objects.using(db).create(coins=COINS).pk for _ in range(PURSES)]
        self.outcomes: Counter[str] = Counter()
        self._ended = threading.Event()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Workers move money for as long as the block lasts. What one of them does not expect is raised at the end."""
        with ThreadPoolExecutor(WORKERS) as pool:
            workers: list[Future[None]] = [pool.submit(self._work, number) for number in range(WORKERS)]
            try:
                yield
            finally:
                self._ended.set()
            for worker in workers:
                worker.result()

    def _work(self, number: int) -> None:
        chance = random.Random(number)
        try:
            while not self._ended.is_set():
                try:
                    self._move(chance)
                except (Deadlock, LeaseLost, LockBusy, StoreUnavailable, VersionConflict, OperationalError) as error:
                    self.outcomes[type(error).__name__] += 1
                else:
                    self.outcomes["moved"] += 1
        finally:
            connections.close_all()

    def _move(self, chance: random.Random) -> None:
        source, target = chance.sample(self.pks, 2)
        amount = chance.randint(1, 10)
        with Purse.objects.using(self._db).locked_many([source, target], wait=2, ttl=2) as rows:
            for row, change in zip(rows, (-amount, amount), strict=True):
                row.coins += change
                row.save()

    def moved_more(self, than: int) -> bool:
        """Whether more transfers were made by now."""
        return self.outcomes["moved"] > than

    @property
    def total(self) -> int:
        """All money there is."""
        found = Purse.objects.using(self._db).filter(pk__in=self.pks).aggregate(total=Sum("coins"))
        return int(found["total"])
