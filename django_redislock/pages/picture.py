"""The picture of who waits for whom: where each box and line stands. A template draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from ..waitgraph import LockNode, Step, WaitGraph, steps

MOST = 100
"""Lines that are drawn."""
ROW, INDENT, GAP, LETTER = 52, 32, 10, 7.5
"""Pixels: the height of a line, how far a child stands in, the space between boxes, a letter's width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One line of the picture."""

    step: Step
    """What is in it."""
    is_lock: bool
    """Whether it is a lock; else somebody who waits."""
    is_chosen: bool
    """Whether it is the lock that the page is about."""
    title: str
    """Its first line of text: a key or a place in the queue."""
    who: str
    """Its second line of text: who holds it, or who waits."""
    seconds: float
    """Since when."""
    waits_for: str
    """The key that it waits for; nothing for a lock."""
    x: float
    y: float
    width: float
    line: str
    """The path from its parent."""

    @property
    def height(self) -> int:
        """Of the box."""
        return ROW - GAP

    @property
    def text_x(self) -> float:
        """Where its text begins."""
        return self.x + GAP

    @property
    def title_y(self) -> float:
        """Where the first line of text stands."""
        return self.y + 17

    @property
    def who_y(self) -> float:
        """Where the second line of text stands."""
        return self.y + 33


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """All boxes."""

    boxes: Sequence[Box]
    width: float
    height: float
    is_cut: bool
    """Whether there is more than is drawn."""


def draw(graph: WaitGraph, name: str) -> Picture | None:
    """The picture around a lock; none where nobody waits."""
    tree = list(islice(steps(graph.around(name)), MOST + 1))
    if len(tree) < 2:
        return None
    boxes = [box_of(number, tree, name) for number in range(min(MOST, len(tree)))]
    width = max(box.x + box.width for box in boxes) + 1
    return Picture(boxes=boxes, width=width, height=len(boxes) * ROW, is_cut=len(tree) > MOST)


def box_of(number: int, tree: Sequence[Step], name: str) -> Box:
    """Where a line of the tree stands."""
    step = tree[number]
    node = step.node
    above = None if step.parent is None else tree[step.parent].node
    if isinstance(node, LockNode):
        title, who, seconds = node.lock.name, str(node.lock.holder), node.lock.held_for
    else:
        title, who, seconds = str(node.place), str(node.waiter.holder), node.waiter.waits_for
    x, y = step.depth * INDENT + 1, number * ROW + 1
    return Box(
        step=step,
        is_lock=isinstance(node, LockNode),
        is_chosen=isinstance(node, LockNode) and node.lock.name == name,
        title=title,
        who=who,
        seconds=seconds,
        waits_for=above.lock.name if isinstance(above, LockNode) else "",
        x=x,
        y=y,
        width=(max(len(title), len(who)) + 18) * LETTER,
        line=line_to(step, x, y),
    )


def line_to(step: Step, x: float, y: float) -> str:
    """From below the parent's left edge down, and then to this box."""
    if step.parent is None:
        return ""
    start = step.parent * ROW + ROW - GAP + 1
    return f"M{x - INDENT / 2:g} {start}V{y + (ROW - GAP) / 2:g}H{x:g}"
