"""Locks in a Redis Cluster: a store made of one store for each bucket, which is in one slot as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from .. import clock
from ..exceptions import StoreUnavailable
from ..keys import bucket_of
from .base import Blocked, Edge, TakenMany, Way
from .clusternodes import Nodes
from .slot import SlotStore
from .twins import InThreads, twin_of
from .verbs import names_of

if TYPE_CHECKING:
    from redis.cluster import RedisCluster

    from ..keys import Key
    from .base import Answer, Ear, Grant, Held, Renewal, Taken

T = TypeVar("T")

Group = tuple[SlotStore, list[int]]
"""A bucket's store, and the places of its keys in the list of all."""

POLL = 0.05
"""Seconds between two looks of one who waits for several keys and has no channel yet."""


class ClusterStore:
    """A `Store` on the cluster that `connect` gives a client of; it is asked for once, at the first call.

    Several keys are taken bucket by bucket, in the order of the buckets, and within each in that of the keys: one order
    for everybody. What is found taken in a later bucket gives back those before where all or none are wanted.
    """

    def __init__(self, connect: Callable[[], RedisCluster], *, scope: str, prefix: str, replicas: int = 0) -> None:
        self.scope = scope
        self.nodes = Nodes(connect)
        """Shared by all that asks this cluster."""
        self._prefix = prefix
        self._replicas = replicas
        self._parts: dict[int, SlotStore] = {}
        self._ears: dict[str, SeveralEar] = {}

    @property
    def server(self) -> Any:
        """As `Store.server`."""
        return self

    @property
    def twin(self) -> Any:
        """As `Store.twin`."""
        return twin_of(self, InThreads)

    @cached_property
    def whole(self) -> ClusterStore:
        """As `Store.whole`."""
        return self

    def part(self, key: Key) -> SlotStore:
        """As `Store.part()`: the store of the key's bucket."""
        number = bucket_of(key.name)
        found = self._parts.get(number)
        if found is None:
            bucket = names_of(self._prefix, key.name).bucket
            made = SlotStore(self.nodes, self, bucket=bucket, prefix=self._prefix, replicas=self._replicas)
            found = self._parts.setdefault(number, made)
        return found

    def close(self) -> None:
        """Close the connections that are idle; what comes later opens new ones."""
        self.nodes.close()

    def acquire(
        self,
        key: Key,
        *,
        token: str,
        ttl: float,
        holder: str,
        channel: str = "",
        meanwhile: Callable[[], object] | None = None,
    ) -> Taken | Held | tuple[Edge, ...]:
        """As `Store.acquire()`."""
        part = self.part(key)
        return part.acquire(key, token=token, ttl=ttl, holder=holder, channel=channel, meanwhile=meanwhile)

    def leave(self, key: Key, *, token: str) -> None:
        """As `Store.leave()`."""
        self.part(key).leave(key, token=token)

    def force(self, key: Key, *, token: str, ttl: float, fence: int | None = None) -> Held | None:
        """As `Store.force()`."""
        return self.part(key).force(key, token=token, ttl=ttl, fence=fence)

    def release(self, key: Key, *, token: str, ttl: float) -> Answer:
        """As `Store.release()`."""
        return self.part(key).release(key, token=token, ttl=ttl)

    def renew(self, key: Key, *, token: str, ttl: float) -> Answer:
        """As `Store.renew()`."""
        return self.part(key).renew(key, token=token, ttl=ttl)

    def inspect(self, key: Key) -> Held | None:
        """As `Store.inspect()`."""
        return self.part(key).inspect(key)

    def follow(self, key: Key, *, flow: str) -> tuple[Edge, ...]:
        """As `Store.follow()`, within the bucket."""
        return self.part(key).follow(key, flow=flow)

    def acquire_many(
        self, keys: Sequence[Key], *, token: str, way: Way, limit: int, channel: str = "", **wanted: Any
    ) -> TakenMany | Blocked | tuple[Edge, ...]:
        """As `Store.acquire_many()`; but two who want all or none may meet half way, and both get none."""

        def ask(group: Group, most: int, heard_on: str = "") -> TakenMany | Blocked | tuple[Edge, ...]:
            store, places = group
            own = [keys[place] for place in places]
            return store.acquire_many(own, token=token, way=way, limit=most, channel=heard_on, **wanted)

        try:
            if way is Way.FREE:
                return TakenMany(self._take_free(keys, limit, ask))
            fences = [0] * len(keys)
            groups = self._groups(keys, range(len(keys)))
            for number, group in enumerate(groups):
                answer = ask(group, len(group[1]))
                if isinstance(answer, Blocked) and channel:
                    answer = ask(group, len(group[1]), self._ears[token].at(group[0]))
                if not isinstance(answer, TakenMany):
                    self._leave(keys, groups[number + 1 :] if way is Way.LINE else groups[:number], token)
                    return answer
                for place, fence in zip(group[1], answer.fences, strict=True):
                    fences[place] = fence
        except StoreUnavailable:
            self._try_to_leave(keys, token)
            raise
        return TakenMany(tuple(fences))

    def leave_many(self, keys: Sequence[Key], *, token: str) -> None:
        """As `Store.leave_many()`."""
        self._leave(keys, self._groups(keys, range(len(keys))), token)

    def release_many(self, keys: Sequence[Key], *, token: str, ttl: float) -> list[Answer]:
        """As `Store.release_many()`. A node that cannot be asked keeps those of the others from nothing."""
        return self._spread(
            keys, lambda store, places: store.release_many([keys[at] for at in places], token=token, ttl=ttl)
        )

    def renew_many(self, renewals: Sequence[Renewal], *, within: float) -> list[Answer]:
        """As `Store.renew_many()`."""
        keys = [renewal.key for renewal in renewals]
        return self._spread(
            keys, lambda store, places: store.renew_many([renewals[at] for at in places], within=within)
        )

    @property
    def listens(self) -> bool:
        """As `Store.listens`: on whose channel one has to wait is not known before the keys have been asked for."""
        return False

    def ear(self, token: str, *, within: float | None = None) -> Ear:
        """As `Store.ear()`, for one who waits for several keys, of one bucket after the other."""
        ear = self._ears[token] = SeveralEar(token, within=within, forget=self._ears.pop)
        return ear

    def _groups(self, keys: Sequence[Key], places: Sequence[int]) -> list[Group]:
        """The places of the keys by bucket, in the one order of all."""
        by_bucket: dict[int, list[int]] = {}
        for place in places:
            by_bucket.setdefault(bucket_of(keys[place].name), []).append(place)
        return [(self.part(keys[by_bucket[bucket][0]]), by_bucket[bucket]) for bucket in sorted(by_bucket)]

    def _take_free(
        self, keys: Sequence[Key], limit: int, ask: Callable[[Group, int], TakenMany | Blocked | tuple[Edge, ...]]
    ) -> tuple[int, ...]:
        """Take those that are free, the first ones first: as many as are missing are tried at once."""
        fences = [0] * len(keys)
        tried, missing = 0, limit
        while missing and tried < len(keys):
            upto = min(len(keys), tried + missing)
            for group in self._groups(keys, range(tried, upto)):
                answer = ask(group, len(group[1]))
                assert isinstance(answer, TakenMany)  # nobody is refused who takes what there is
                for place, fence in zip(group[1], answer.fences, strict=True):
                    fences[place] = fence
            tried, missing = upto, limit - sum(map(bool, fences))
        return tuple(fences)

    def _leave(self, keys: Sequence[Key], groups: Sequence[Group], token: str) -> None:
        """Give back what the token has of these, and wait for none of them; all are tried, whatever becomes of one."""
        fault: StoreUnavailable | None = None
        for store, places in groups:
            try:
                store.leave_many([keys[place] for place in places], token=token)
            except StoreUnavailable as error:
                fault = fault or error
        if fault is not None:
            raise fault

    def _try_to_leave(self, keys: Sequence[Key], token: str) -> None:
        """As `leave_many()`; what cannot be given back now is when the node answers again."""
        try:
            self.leave_many(keys, token=token)
        except StoreUnavailable:
            return  # the store of that bucket owes it, and the first fault is told

    def _spread(self, keys: Sequence[Key], ask: Callable[[SlotStore, list[int]], list[Answer]]) -> list[Answer]:
        """An answer for each key; the first fault is raised when all buckets have been asked."""
        answers: dict[int, Answer] = {}
        fault: StoreUnavailable | None = None
        for store, places in self._groups(keys, range(len(keys))):
            try:
                answers.update(zip(places, ask(store, places), strict=True))
            except StoreUnavailable as error:
                fault = fault or error
        if fault is not None:
            raise fault
        return [answers[place] for place in range(len(keys))]


class SeveralEar:
    """An `Ear` for one who waits for several keys: it listens at the bucket of the key that is waited for now."""

    kept = False

    def __init__(self, token: str, *, within: float | None, forget: Callable[[str], object]) -> None:
        self._token = token
        self._end = None if within is None else clock.now() + within
        self._forget = forget
        self._ears: dict[SlotStore, Ear] = {}
        self._now: Ear | None = None

    def at(self, store: SlotStore) -> str:
        """Listen there from now on; gives the channel."""
        ear = self._ears.get(store)
        if ear is None:
            left = None if self._end is None else max(0.0, self._end - clock.now())
            ear = self._ears[store] = store.ear(self._token, within=left)
        self._now = ear
        return ear.channel

    @property
    def channel(self) -> str:
        """As `Ear.channel`; before it is known where to wait, a word for any."""
        return "any" if self._now is None else self._now.channel

    def listen(self, seconds: float) -> Grant | None:
        """As `Ear.listen()`."""
        if self._now is None:
            clock.sleep(min(seconds, POLL))
            return None
        return self._now.listen(seconds)

    def close(self) -> None:
        """As `Ear.close()`."""
        self._forget(self._token)
        for ear in self._ears.values():
            ear.close()
