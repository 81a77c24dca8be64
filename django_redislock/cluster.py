"""django-redis on a Redis Cluster: what `CONNECTION_FACTORY` of a cache names."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar

from django_redis.pool import ConnectionFactory

from .stores.clusternodes import cluster_client

if TYPE_CHECKING:
    from redis.cluster import RedisCluster


class ClusterConnectionFactory(ConnectionFactory):  # type: ignore[misc]  # it comes without types
    """Gives django-redis a client of the cluster that the server in `LOCATION` belongs to, one for each URL.

    `OPTIONS` may name more nodes in `STARTUP_NODES`, a list of `"host:port"`: who starts while the one of `LOCATION` is
    away asks those. User, password, time-outs, `CONNECTION_POOL_KWARGS` and `REDIS_CLIENT_KWARGS` are as elsewhere.
    """

    _clients: ClassVar[dict[str, RedisCluster]] = {}
    _guard = threading.Lock()

    def get_connection(self, params: dict[str, Any]) -> RedisCluster:
        """The client of the cluster; made at the first call, which asks a node for the others.

        Raises redis-py's `ConnectionError` when none of them answers.
        """
        url = params["url"]
        with self._guard:
            if url not in self._clients:
                options = {name: value for name, value in params.items() if name not in {"url", "parser_class"}}
                self._clients[url] = cluster_client(
                    url,
                    startup=self.options.get("STARTUP_NODES", ()),
                    options=options | self.pool_cls_kwargs | self.redis_client_cls_kwargs,
                )
            return self._clients[url]

    def disconnect(self, connection: RedisCluster) -> None:
        """Close the connections of the client, as `DJANGO_REDIS_CLOSE_CONNECTION` asks for."""
        connection.disconnect_connection_pools()  # type: ignore[no-untyped-call]
