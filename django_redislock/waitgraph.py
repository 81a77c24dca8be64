"""Who waits for whom, around one lock: a tree whose root is the lock that everything else waits for in the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from .stores.listing import Listed, Waiter


@dataclass(slots=True, kw_only=True)
class LockNode:
    """A lock, and below it those who wait for it."""

    lock: Listed
    """The lock."""
    waiters: list[WaiterNode] = field(default_factory=list)
    """In order."""


@dataclass(slots=True, kw_only=True)
class WaiterNode:
    """Somebody who waits, and below it the locks that it keeps from others meanwhile."""

    waiter: Waiter
    """Who waits."""
    place: int
    """Its place in the queue, from 1."""
    holds: list[LockNode] = field(default_factory=list)
    """The locks that it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of the tree."""

    depth: int
    """How far in it stands; the root at 0."""
    node: LockNode | WaiterNode
    """What stands there."""
    parent: int | None
    """The number of the line that it hangs on."""


class WaitGraph:
    """All that is held and waited for; needs what `held(queues=True)` gives."""

    def __init__(self, locks: Iterable[Listed]) -> None:
        self._by_name = {lock.name: lock for lock in locks}
        self._held_by: dict[str, list[str]] = defaultdict(list)
        self._waited_for_by: dict[str, str] = {}
        for lock in self._by_name.values():
            self._held_by[lock.flow].append(lock.name)
            for waiter in lock.queue:
                self._waited_for_by[waiter.flow] = lock.name

    def around(self, name: str) -> LockNode:
        """The tree in which the lock of that name is."""
        return self._tree(self._root_of(name))

    def _root_of(self, name: str) -> str:
        """The lock at which all waiting ends; in a cycle, which only the dead leave behind, any of it."""
        seen = {name}
        while (above := self._waited_for_by.get(self._by_name[name].flow)) and above not in seen:
            seen.add(above)
            name = above
        return name

    def _tree(self, name: str) -> LockNode:
        """What hangs below a lock. Chains may be long, so nothing here calls itself."""
        root = LockNode(lock=self._by_name[name])
        seen, left = {name}, [root]
        while left:
            node = left.pop()
            for place, waiter in enumerate(node.lock.queue, start=1):
                names = [other for other in self._held_by.get(waiter.flow, ()) if other not in seen]
                seen.update(names)
                below = [LockNode(lock=self._by_name[other]) for other in names]
                node.waiters.append(WaiterNode(waiter=waiter, place=place, holds=below))
                left += below
        return root


def steps(root: LockNode) -> Iterator[Step]:
    """The lines of the tree from the top."""
    number = 0
    left: list[tuple[int, LockNode | WaiterNode, int | None]] = [(0, root, None)]
    while left:
        depth, node, parent = left.pop()
        yield Step(depth=depth, node=node, parent=parent)
        below: Sequence[LockNode | WaiterNode] = node.waiters if isinstance(node, LockNode) else node.holds
        left += [(depth + 1, child, number) for child in reversed(below)]
        number += 1
