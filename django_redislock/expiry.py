"""Giving a lock up without releasing it: the server keeps it for as long as it is told."""

from __future__ import annotations

from .guards import NamedLock
from .holds import leave_all
from .keylock import not_held
from .stores.base import Answer


def leave_to_expire(lock: NamedLock, *, after: float) -> None:
    """Give back what this flow acquired last through the lock, and keep it locked for `after` seconds from now.

    Nobody, not even the flow that held it, gets it before. Where the flow entered the lock several times, or a
    transaction is open that the release has to wait for, it is released as ever. Raises what `release()` raises.
    """
    entry = lock._own_entry()
    (hold,) = entry.holds
    if hold.count > 1 or lock._transactions():
        lock.release()
        return
    hold.lock.ensure_ours(hold.lease)
    lock._entries.remove(entry)
    leave_all(entry.holds)
    hold.lease.end(None)  # before the question, so that no watchdog renews what is to expire
    answer = hold.lock.store.renew(hold.lock.key, token=hold.lease.token, ttl=after)
    if answer is not Answer.DONE:
        raise not_held(hold.lock.key, answer)
