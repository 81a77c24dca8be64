"""A Redis for the test project: the one of `REDIS_URL`, else one started for the while."""

from __future__ import annotations

from .programs import NoRedisFound
from .servers import Serving, serving

__all__ = ["NoRedisFound", "Serving", "serving"]
