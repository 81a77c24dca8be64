"""What is told of how a lock was given back."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from .exceptions import RedisLockError, StoreUnavailable
from .holds import Hold

logger = logging.getLogger("django_redislock")


def refused(error: RedisLockError, holds: Sequence[Hold]) -> RedisLockError | None:
    """What is to be told of a release that was not carried out: nothing but a log entry where Redis is away."""
    if not isinstance(error, StoreUnavailable):
        return error
    logger.warning("The lock stays taken until its ttl of %g s is over: %s", holds[0].lease.ttl, error)
    return None


def tell(failure: RedisLockError | None, error: BaseException | None) -> None:
    """Raise the failure, or note it on the exception that is on its way already."""
    if failure is None:
        return
    if error is None:
        raise failure
    error.add_note(str(failure))


def tell_late(failure: RedisLockError | None) -> None:
    """Log the failure where it changes nothing any more."""
    if failure is not None:
        logger.warning("Known only when it was given back: %s", failure)
