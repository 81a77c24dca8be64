"""The locks of one bucket of a Redis Cluster: all that belongs to them is in one slot, so on one node."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from redis.exceptions import MovedError, NoPermissionError, RedisError, ResponseError, TimeoutError

from ..exceptions import StoreUnavailable
from .discretion import hush, secrets_in
from .options import options_for_listening
from .redis import RedisStore
from .replicas import ConfirmingEar
from .route import Route
from .wakeups import Interrupted, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .base import Answer, Ear, Renewal, Store
    from .clusternodes import Address, Node, Nodes

CONFIRMATION = 5.0
"""Seconds within which a server confirms a subscription."""


class SlotStore(RedisStore):
    """A `Store` for one bucket: asks the node that has it. `whole` is the store that it is a part of."""

    def __init__(self, nodes: Nodes, whole: Store, *, bucket: str, prefix: str, replicas: int) -> None:
        """`bucket`: what all names of the bucket begin with."""
        super().__init__(lambda: nodes.client, scope=whole.scope, prefix=prefix, root=bucket, replicas=replicas)
        self._nodes = nodes
        self._whole = whole
        self._bucket = bucket

    @property
    def whole(self) -> Store:
        """As `Store.whole`."""
        return self._whole

    @property
    def server(self) -> Any:
        """As `Store.server`: the node that has the bucket; where none is known, the bucket is alone."""
        try:
            return self._nodes.owner(self._bucket)
        except RedisError:
            return self

    def close(self) -> None:
        """There are no connections but those of the nodes."""

    def ear(self, token: str, *, within: float | None = None) -> Ear:
        """As `Store.ear()`, but a grant is only a reason to ask.

        Nodes pass messages on to each other. One who still listens at a node that has lost the slot hears of a grant
        that the script has given to the next one, since nobody listened where it looked:

            new primary                               waiter, at the former primary
            takes it from the queue, publishes: 0     hears its grant from its node
            next waiter, or free                      must not go on
        """
        return ConfirmingEar(self._wakeups.ear(token, within=within))

    def renew_many(self, renewals: Sequence[Renewal], *, within: float) -> list[Answer]:
        """As `Store.renew_many()`. A node that did not answer a moment ago keeps the leases of others from nothing."""
        node = self._tell(partial(self._nodes.owner, self._bucket))
        if self._nodes.hangs(node):
            raise StoreUnavailable(f"{node.address[0]}:{node.address[1]} did not answer a moment ago: not asked again.")
        try:
            return super().renew_many(renewals, within=within)
        except StoreUnavailable as error:
            if isinstance(error.__cause__, TimeoutError):
                self._nodes.note_hanging(node, within)
            raise

    def _tries(self, within: float | None = None) -> Route:
        self._secrets = self._nodes.secrets
        return Route(self._nodes, self._bucket, within=within)

    def _tell(self, ask: Any) -> Any:
        """What it gives; `StoreUnavailable` where the cluster cannot be asked."""
        try:
            return ask()
        except RedisError as error:
            told = f"{type(error).__name__}: {hush(error, self._secrets)}"
            raise StoreUnavailable(
                f"The cluster could not be asked who has {self._bucket} ({told}). "
                f"Check its nodes and the cache alias {self.scope!r}."
            ) from error

    def _subscribe(self, channel: str) -> SlotSubscription:
        broken: list[Address] = []
        try:
            node = self._nodes.owner(self._bucket)
            broken.append(node.address)
            return SlotSubscription(self._nodes, node, self._bucket, channel)
        except MovedError as error:
            self._nodes.learn(self._bucket, error)
            raise Interrupted(str(error)) from error
        except RedisError as error:
            self._nodes.refresh(self._bucket, broken=broken)
            raise Interrupted(str(hush(error, self._secrets))) from error


class SlotSubscription:
    """A `Subscription` at the node that has the bucket: there the scripts hear who listens.

    Messages that stay in the slot came with Redis 7. Where the server knows none of them it is the kind that all nodes
    pass on to each other.
    """

    def __init__(self, nodes: Nodes, node: Node, bucket: str, channel: str) -> None:
        """Raises `Refused` where the user may not subscribe, redis-py's errors when that fails."""
        self._nodes = nodes
        self._node = node
        self._bucket = bucket
        pool = self._node.pool
        self._secrets = secrets_in(pool.connection_kwargs)
        self._connection: Any = pool.connection_class(**options_for_listening(pool))
        try:
            self._connection.connect()
            self._begin(channel)
        except BaseException:
            self.close()
            raise

    def _begin(self, channel: str) -> None:
        try:
            self._ask("SSUBSCRIBE", channel)
        except MovedError:
            raise
        except NoPermissionError as error:
            raise Refused(str(error)) from error
        except ResponseError:
            self._ask("SUBSCRIBE", channel)

    def _ask(self, command: str, channel: str) -> None:
        self._connection.send_command(command, channel.encode())  # as scripts are told it
        if not self._connection.can_read(timeout=CONFIRMATION):
            raise TimeoutError(f"no answer to {command} within {CONFIRMATION:g} s")
        self._connection.read_response(disconnect_on_error=False)

    def read(self, seconds: float) -> str | None:
        """The next message, if one comes within so many seconds."""
        try:
            if self._nodes.owner(self._bucket) is not self._node:
                raise Interrupted("the bucket has been moved")
            if not self._connection.can_read(timeout=seconds):
                return None
            kind, _, message = self._connection.read_response(disconnect_on_error=False)
        except RedisError as error:
            raise Interrupted(str(hush(error, self._secrets))) from error
        if kind not in {"message", "smessage"}:
            raise Interrupted(f"{kind}: the bucket has been moved")
        return str(message)

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()
