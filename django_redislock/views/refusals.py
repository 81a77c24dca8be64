"""What a client is told when a lock is refused: the status, the words, when to come back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from http import HTTPStatus

from django.core.exceptions import ObjectDoesNotExist
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from ..conflicts import VersionConflict
from ..exceptions import Deadlock, LeaseLost, LockBusy, RedisLockError, StoreUnavailable

ANSWERED = (RedisLockError, ObjectDoesNotExist)
"""Errors that may have an answer; `refusal_of()` knows which do."""

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that change nothing."""

ENTERING = {f"django_redislock.{module}" for module in ("identity", "manyrows", "rows", "targets")}
"""The modules that look for the row which is to be locked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An answer. It says nothing about who holds the lock: who may know that, has other ways to ask."""

    status: HTTPStatus
    """The status of the response."""
    code: str
    """For programs: tells apart what shares a status."""
    detail: str | Promise
    """For people: what happened, and what to do."""
    retry_after: int | None = None
    """Seconds after which it makes sense to come back, if it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """What may be chosen about the answers."""

    busy_status: int = HTTPStatus.LOCKED
    """The status when another is at work."""
    retry_after: float = 1
    """Seconds after which to come back."""

    def __post_init__(self) -> None:
        if self.busy_status not in {HTTPStatus.LOCKED, HTTPStatus.CONFLICT}:
            raise ValueError(f"busy_status is 423 or 409, not {self.busy_status!r}.")
        if not self.retry_after > 0 or math.isinf(self.retry_after):
            raise ValueError(f"retry_after is a number of seconds above 0, not {self.retry_after!r}.")


BUSY = _("Somebody else is working on this at the moment. Please try again in a moment.")
BUSY_UNDONE = _("Somebody else is working on this at the moment. Nothing was changed. Please try again in a moment.")
AWAY = _("This cannot be locked at the moment. Please try again in a moment.")
AWAY_UNDONE = _("This cannot be locked at the moment. Nothing was changed. Please try again in a moment.")
LOST = _("This took too long and was stopped. Please look at what was done of it before you try again.")
LOST_UNDONE = _("This took too long, and nothing was changed. Please try again in a moment.")
CHANGED = _("Somebody else has changed this in the meantime. Please look at it again.")
CHANGED_UNDONE = _("Somebody else has changed this in the meantime. Nothing was changed. Please look at it again.")
MISSING = _("There is no such object.")


def refusal_of(error: BaseException, manner: Manner, *, undone: bool = False) -> Refusal | None:
    """The answer to an error, or `None` for one that is none of ours.

    `undone`: whether a rollback has undone whatever was done, so that this may be said.
    """
    later = math.ceil(manner.retry_after)
    match error:
        case LockBusy() | Deadlock():
            code = "deadlock" if isinstance(error, Deadlock) else "lock_busy"
            detail = BUSY_UNDONE if undone else BUSY
            return Refusal(status=HTTPStatus(manner.busy_status), code=code, detail=detail, retry_after=later)
        case StoreUnavailable():
            code, detail = "store_unavailable", AWAY_UNDONE if undone else AWAY
            return Refusal(status=HTTPStatus.SERVICE_UNAVAILABLE, code=code, detail=detail, retry_after=later)
        case LeaseLost():
            code, detail = "lease_lost", LOST_UNDONE if undone else LOST
            return Refusal(status=HTTPStatus.SERVICE_UNAVAILABLE, code=code, detail=detail, retry_after=later)
        case VersionConflict():
            detail = CHANGED_UNDONE if undone else CHANGED
            return Refusal(status=HTTPStatus.CONFLICT, code="version_conflict", detail=detail)
        case ObjectDoesNotExist() if raised_on_entering(error):
            return Refusal(status=HTTPStatus.NOT_FOUND, code="not_found", detail=MISSING)
    return None


def raised_on_entering(error: BaseException) -> bool:
    """Whether it was the row to be locked that was not found, and not something that the code in the block missed.

    The traceback tells: what a block raises has not passed through the code that enters it.
    """
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_globals.get("__name__") in ENTERING:
            return True
        step = step.tb_next
    return False
