"""Row locks for Django models that live in Redis."""

from .commands import LockedCommand, lock_command
from .conf import InvalidLockSettings
from .exceptions import Deadlock, LeaseLost, LockBusy, LockNotHeld, RedisLockError, StoreUnavailable, WaitTimeout
from .functions import get_lease, lock, lock_many, locked, locked_many
from .managers import LockManager, LockQuerySet
from .tasks import lock_task
from .views.decorator import lock_instance

__all__ = [
    "Deadlock",
    "InvalidLockSettings",
    "LeaseLost",
    "LockBusy",
    "LockManager",
    "LockNotHeld",
    "LockQuerySet",
    "LockedCommand",
    "RedisLockError",
    "StoreUnavailable",
    "WaitTimeout",
    "get_lease",
    "lock",
    "lock_command",
    "lock_instance",
    "lock_many",
    "lock_task",
    "locked",
    "locked_many",
]
