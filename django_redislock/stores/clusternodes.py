"""The nodes of a Redis Cluster: which of them has a bucket, and the connections to it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from redis.cluster import ClusterNode, RedisCluster
from redis.connection import parse_url
from redis.exceptions import (
    ClusterDownError,
    ConnectionError,
    MovedError,
    RedisClusterException,
    RedisError,
    TimeoutError,
)

from .. import clock
from .connections import Connections
from .discretion import hush, secrets_in

if TYPE_CHECKING:
    from redis import ConnectionPool, Redis

Address = tuple[str, int]

logger = logging.getLogger("django_redislock")

MOMENT = 0.5
"""Seconds that another node has to tell who has a bucket whose node is broken, and is left alone if it does not."""


def cluster_client(url: str, *, startup: Sequence[str], options: Mapping[str, Any]) -> RedisCluster:
    """redis-py's client of the cluster that the server of the URL, or one of the others (`host:port`), belongs to.

    Raises redis-py's errors when none of them can be asked; who has no client cannot know what they must not tell.
    """
    secrets = secrets_in({**options, **parse_url(url)})  # type: ignore[no-untyped-call]
    node: Any = ClusterNode
    nodes = [node(parts.hostname, parts.port or 6379) for parts in (urlsplit(f"//{name}") for name in startup)]
    try:
        return RedisCluster.from_url(url, startup_nodes=nodes or None, **options)
    except RedisClusterException as error:
        raise ConnectionError(f"no node of the cluster answers: {hush(error, secrets)}") from error
    except RedisError as error:
        hush(error, secrets)
        raise


class Node:
    """One server of the cluster."""

    def __init__(self, address: Address, client: Redis) -> None:
        self.address = address
        self.client = client
        """redis-py's client of this very server, with the settings of the whole."""
        self.connections = Connections(client.connection_pool)

    @property
    def pool(self) -> ConnectionPool:
        """Knows how connections are made."""
        return self.client.connection_pool


class Nodes:
    """The nodes of the cluster that `connect` gives a client of; it is asked for once, at the first call."""

    def __init__(self, connect: Callable[[], RedisCluster]) -> None:
        self._connect = connect
        self._client: Any = None
        self._guard = threading.Lock()
        self._refreshed = 0
        self._nodes: dict[Address, Node] = {}
        self._former: Sequence[Address] = ()
        """Who was there before the nodes changed for the last time."""
        self._moved: dict[str, Address] = {}
        self._hung: dict[Address, float] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """With what connections are made, once a client could be made. Some of it is secret."""
        return {} if self._client is None else dict(self._client.nodes_manager.connection_kwargs)

    @cached_property
    def secrets(self) -> list[str]:
        """What of them must not be told. Raises redis-py's errors."""
        return secrets_in(self.client.nodes_manager.connection_kwargs)

    @property
    def client(self) -> Any:
        """redis-py's client."""
        if self._client is None:
            self._client = self._connect()
        return self._client

    def owner(self, bucket: str) -> Node:
        """The node that has the bucket, as far as is known. Raises `ConnectionError` where none is."""
        return self._node(self._moved.get(bucket) or self._address(bucket))

    def owners(self, buckets: Sequence[str]) -> list[Node]:
        """The nodes that have any of the buckets."""
        return list(dict.fromkeys(map(self.owner, buckets)))

    def learn(self, bucket: str, error: MovedError) -> None:
        """Where the bucket is, as the node said that has it no more."""
        if error.host:
            self._moved[bucket] = error.host, error.port
        else:
            self.refresh()

    def refresh(self, bucket: str = "", *, broken: Collection[Address] = ()) -> None:
        """Ask the cluster anew who has what. Where nobody answers it stays as it was.

        Who comes while another one asks takes what that finds. Where the bucket is still said to be at one of those
        that are broken, the others are asked. Who has answered may not have heard of the fail-over, or not believe in
        it: each primary has an epoch, and the dead one's may be the higher one. Then the new primary alone knows:

            the dead primary, epoch 12     its replica                        all others
            is gone
                                           elected for an earlier epoch, 11
                                           says that it has the slots: 11     the dead one has them: 12
        """
        seen = self._refreshed
        with self._guard:
            if self._refreshed == seen:
                self._ask_anew()
            if self._is_at_one_of(broken, bucket):
                self._ask_the_others(bucket, broken)

    def hangs(self, node: Node) -> bool:
        """Whether the node did not answer a moment ago."""
        return self._hung.get(node.address, 0.0) > clock.now()

    def note_hanging(self, node: Node, seconds: float) -> None:
        """It did not answer, and is not to be waited for again within so many seconds."""
        self._hung[node.address] = clock.now() + seconds

    def close(self) -> None:
        """Close the connections that are idle."""
        for node in list(self._nodes.values()):
            node.connections.close()

    def _node(self, address: Address) -> Node:
        found = self._nodes.get(address)
        if found is None:
            manager = self.client.nodes_manager
            client = manager.create_redis_node(*address, **manager.connection_kwargs)
            found = self._nodes.setdefault(address, Node(address, client))
        return found

    def _address(self, bucket: str) -> Address:
        """Where the client takes the bucket to be."""
        try:
            found = self.client.get_node_from_key(bucket)
        except RedisClusterException as error:
            raise ClusterDownError(str(error)) from error
        return found.host, found.port

    def _is_at_one_of(self, addresses: Collection[Address], bucket: str) -> bool:
        try:
            return bool(addresses) and self._address(bucket) in addresses
        except ClusterDownError:  # it is nowhere
            return False

    def _ask_anew(self, first: Node | None = None) -> None:
        """Let the client ask whom it knows, or that one alone."""
        manager = self.client.nodes_manager
        known, former = manager.startup_nodes, self._all()
        try:
            if first is not None:
                manager.startup_nodes = only(first.address)
            manager.initialize()
        except (RedisClusterException, RedisError, OSError) as error:
            logger.debug("The nodes could not be asked anew: %s", type(error).__name__)
            return  # the question that led here tells its own fault
        finally:
            if first is not None and len(manager.startup_nodes) == 1:  # it was not told of others, or not to keep them
                manager.startup_nodes = known
        self._moved.clear()
        self._refreshed += 1
        if set(self._all()) != set(former):
            self._former = former

    def _all(self) -> list[Address]:
        """Those that the client knows."""
        return [(node.host, node.port) for node in self.client.nodes_manager.nodes_cache.values()]

    def _ask_the_others(self, bucket: str, broken: Collection[Address]) -> None:
        """Find a node that takes the bucket to be at one that is not broken, and let the client ask that one."""
        slot = self.client.keyslot(bucket)
        for node in self._others(broken):
            try:
                primary = primary_of(slot, node)
            except (RedisError, OSError) as error:
                if isinstance(error, TimeoutError):
                    self.note_hanging(node, MOMENT)
                logger.debug("%s:%s did not tell where the others are: %s", *node.address, type(error).__name__)
            else:
                if primary is not None and self.client.nodes_manager.remap_host_port(*primary) not in broken:
                    self._ask_anew(node)
                    return

    def _others(self, broken: Collection[Address]) -> Iterator[Node]:
        """Those that are or were there, but for those that are broken or did not answer a moment ago."""
        for address in dict.fromkeys([*self._all(), *self._former]):
            if address not in broken and not self.hangs(self._node(address)):
                yield self._node(address)


def only(address: Address) -> dict[str, Any]:
    """A node as the only one that redis-py's client starts from."""
    node: Any = ClusterNode
    made = node(*address)
    return {made.name: made}


def primary_of(slot: int, node: Node) -> Address | None:
    """Where a node takes the slot to be, if anywhere. Raises redis-py's errors."""
    connection = node.connections.take()
    try:
        connection.connect()
        connection.send_command("CLUSTER", "SLOTS")
        if not connection.can_read(timeout=MOMENT):
            raise TimeoutError(f"no answer within {MOMENT:g} s")
        ranges = connection.read_response(disconnect_on_error=False)
    except BaseException:
        connection.disconnect()
        raise
    finally:
        node.connections.give(connection)
    for first, last, primary, *_ in ranges:
        if first <= slot <= last:
            return primary[0] or node.address[0], primary[1]
    return None
