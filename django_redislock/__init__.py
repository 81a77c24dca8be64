"""Row locks for Django models that live in Redis."""

from typing import TYPE_CHECKING, Any

from . import checkedsaves as checkedsaves  # makes saves of versioned models checked
from .commands import LockedCommand, lock_command
from .conf import InvalidLockSettings
from .conflicts import VersionConflict
from .exceptions import (
    Deadlock,
    LeaseLost,
    LockBusy,
    LockNotHeld,
    QuorumNotReached,
    RedisLockError,
    StoreUnavailable,
    WaitTimeout,
)
from .functions import get_lease, lock, lock_many, locked, locked_many
from .managers import LockManager, LockQuerySet
from .retry import retry_on_conflict
from .tasks import lock_task
from .versions import VersionField
from .views.decorator import lock_instance

if TYPE_CHECKING:
    from .versionedmodel import VersionedModel

__all__ = [
    "Deadlock",
    "InvalidLockSettings",
    "LeaseLost",
    "LockBusy",
    "LockManager",
    "LockNotHeld",
    "LockQuerySet",
    "LockedCommand",
    "QuorumNotReached",
    "RedisLockError",
    "StoreUnavailable",
    "VersionConflict",
    "VersionField",
    "VersionedModel",
    "WaitTimeout",
    "get_lease",
    "lock",
    "lock_command",
    "lock_instance",
    "lock_many",
    "lock_task",
    "locked",
    "locked_many",
    "retry_on_conflict",
]


def __getattr__(name: str) -> Any:
    """The model, once it is asked for: no model can be made before all apps are there, and this is one of them."""
    if name == "VersionedModel":
        from .versionedmodel import VersionedModel  # noqa: PLC0415 - see above

        return VersionedModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
