"""How the pages say things."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from django.utils.translation import get_language, pgettext
from django.utils.translation import gettext as _

from ..conf import Options
from ..stores.listing import Listed

MINUTE, HOUR, DAY = 60, 3600, 86400


def units() -> tuple[tuple[int, str], ...]:
    """How durations are spelt, the longest unit first; a script counts on in the same words."""
    return units_in(get_language())


@lru_cache(maxsize=64)
def units_in(language: str | None) -> tuple[tuple[int, str], ...]:
    """The units in the language that is active: a page spells hundreds of durations."""
    return (
        (DAY, pgettext("duration", "%s d")),
        (HOUR, pgettext("duration", "%s h")),
        (MINUTE, pgettext("duration", "%s min")),
        (1, pgettext("duration", "%s s")),
    )


def spell(seconds: float) -> str:
    """A duration in one unit, never less than two of it: `119 s`, `2 min`, `47 h`."""
    whole = max(0, int(seconds))
    spelt = units()
    unit, words = next((each for each in spelt if whole >= 2 * each[0]), spelt[-1])
    return words % (whole // unit)


HELD, ENDING, LONG = "held", "ending", "long"


def state_of(lock: Listed, options: Options) -> str:
    """Whether it is being kept (one that is renewed, or new, has most of its ttl left), and whether for too long."""
    if lock.remaining < options.ttl / 3:
        return ENDING
    return LONG if options.max_hold is not None and lock.held_for > options.max_hold else HELD


def spell_state(state: str) -> str:
    """The state in words."""
    return states_in(get_language())[state]


@lru_cache(maxsize=64)
def states_in(language: str | None) -> dict[str, str]:
    """The states in the language that is active."""
    return {HELD: _("held"), ENDING: _("ends soon, not renewed"), LONG: _("held for longer than MAX_HOLD")}


def ago(since: datetime) -> float:
    """Seconds since then, by this host's clock: for people only."""
    return (datetime.now(UTC) - since).total_seconds()
