"""Signals, always sent robustly; `sender` is the model, or `NamedLock` for a plain name.

Re-entering a held lock sends nothing.
"""

from __future__ import annotations

from django.dispatch import Signal

lock_acquired = Signal()
"""A lease was acquired. Arguments: `lease`."""

lock_released = Signal()
"""A lease was given back while it was held. Arguments: `lease`."""

lock_lost = Signal()
"""A lease turned out to have ended before its holder gave it back. Arguments: `lease`, and `reason`, a `LossReason`."""

lock_forced = Signal()
"""A lock was taken away from its holder by force. Arguments: `info`, the `LockInfo` of who held it."""

lock_contended = Signal()
"""A lock was refused because another holds it. Arguments: `error`, the `LockBusy` that is raised."""

version_conflict = Signal()
"""A save or a deletion was refused because the row is not what was read. Arguments: `error`, the `VersionConflict`."""

store_unavailable = Signal()
"""Redis was away when locks on rows were acquired, and the block goes on without them, by the rows' versions alone.
Arguments: `error`, the `StoreUnavailable` that is not raised."""
