"""With what our own connections are made: as the cache's pool makes its, in fewer trips to the server.

By default redis-py asks for a newer protocol and for notices of maintenance, and tells its name and its version, which
it looks up each time. That takes longer than several questions, and who has waited for long opens a connection to ask
its next one.
"""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

import redis.connection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis import ConnectionPool

KNOWN = signature(redis.connection.AbstractConnection.__init__).parameters


def known(**options: Any) -> dict[str, Any]:
    """Those that this redis-py knows."""
    return {name: value for name, value in options.items() if name in KNOWN}


UNTOLD = known(driver_info=None) or known(lib_name=None, lib_version=None)
UNNOTIFIED = known(
    # These need protocol 3, or hiredis. A connection that breaks is opened again.
    maint_notifications_config=None,
    maint_notifications_pool_handler=None,
)
PLAIN = known(protocol=2)
TEXT = {"decode_responses": True, "encoding": "utf-8", "encoding_errors": "strict"}
"""However the cache has its values: what scripts say is text."""


def options_for_questions(pool: ConnectionPool) -> Mapping[str, Any]:
    """For connections on which is asked and answered; with the protocol of the pool if one is set."""
    given = pool.connection_kwargs
    return UNTOLD | given | UNNOTIFIED | TEXT | ({} if given.get("protocol") else PLAIN)


def options_for_listening(pool: ConnectionPool) -> Mapping[str, Any]:
    """For connections that are subscribed: with protocol 3 what is published comes beside the replies."""
    return UNTOLD | pool.connection_kwargs | UNNOTIFIED | TEXT | PLAIN
