"""Several nodes, asked at once from one thread.

Each question is made ready for all of them, then sent to all, and then the answers are read: where a server shares the
core with us, it works as soon as it has been told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from .. import clock, majority
from ..exceptions import QuorumNotReached, StoreUnavailable
from .late import Latecomers
from .nodes import SitsOut
from .verdicts import answered

if TYPE_CHECKING:
    from .nodes import Asked, Node

logger = logging.getLogger("django_redislock")

S = TypeVar("S")
T = TypeVar("T")
Start = Callable[[int, "Node"], "Asked[T] | None"]
"""Asks one node, whose number it is told too; gives nothing where that node is not concerned."""
Enough = Callable[[Sequence["T | None"]], bool]
"""Whether these answers decide, whatever the others are."""

AWAY = 1.0
"""Seconds for which a node that has kept us waiting is left alone where the others are enough."""


class Replies(list[T | None]):
    """For each node what it answered, if it did."""

    def __init__(self, answers: Sequence[T | None], faults: Sequence[StoreUnavailable]) -> None:
        super().__init__(answers)
        self.faults = faults
        """Why the others did not."""

    def map(self, fn: Callable[[T], S]) -> Replies[S]:
        """With something else in the place of each answer."""
        return Replies([None if answer is None else fn(answer) for answer in self], self.faults)


class Panel:
    """The nodes, and which of them keep people waiting."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self._away: dict[int, float] = {}
        self._late = Latecomers()

    def ask(self, start: Start[T], *, within: float, token: str = "") -> Replies[T]:
        """Ask all nodes. Each has until `within` seconds from now for its answer.

        What it has not answered the token yet is waited for before.
        """
        return self._ask(start, range(len(self.nodes)), within=within, token=token)

    def ask_enough(
        self,
        start: Start[T],
        *,
        within: float,
        token: str = "",
        enough: Enough[T] | None = None,
        meanwhile: Callable[[], object] | None = None,
        instead: Callable[[Node], object] | None = None,
    ) -> Replies[T]:
        """The same, but those that are away are asked only when the others are not enough.

        Nor are answers waited for when those that are there are `enough`. `meanwhile` is called when all have been
        asked, `instead` for each that is not.
        """
        ask = partial(self._ask, start, within=within, token=token, enough=enough)
        numbers = range(len(self.nodes))
        if not self._away:
            return ask(numbers, meanwhile=meanwhile)
        now = clock.now()
        here = [number for number in numbers if self._away.get(number, now) <= now]
        if len(here) == len(numbers) or not majority.is_met(len(here), nodes=len(numbers)):
            return ask(numbers, meanwhile=meanwhile)
        away = [number for number in numbers if number not in here]
        replies = ask(here, meanwhile=meanwhile)
        if majority.is_met(answered(replies), nodes=len(numbers)):
            for number in away if instead is not None else ():
                instead(self.nodes[number])  # type: ignore[misc]  # it is not None
            return replies
        rest = ask(away)
        both = [mine if mine is not None else other for mine, other in zip(replies, rest, strict=True)]
        return Replies(both, [*replies.faults, *rest.faults])

    def hear_all(self) -> None:
        """Wait for all answers that are to come yet."""
        self._late.hear_all()

    def _ask(
        self,
        start: Start[T],
        numbers: Sequence[int],
        *,
        within: float,
        token: str,
        enough: Enough[T] | None = None,
        meanwhile: Callable[[], object] | None = None,
    ) -> Replies[T]:
        faults: list[StoreUnavailable] = []
        asked: dict[int, Asked[T]] = {}
        begin = partial(self._begin, start, asked, faults, slow=within / 2)
        owing = self._late.owing(token)
        try:
            begin([number for number in numbers if number not in owing])
            self._hear(token)
            if owing:
                begin([number for number in numbers if number in owing])
            if meanwhile is not None:
                meanwhile()
            until = clock.now() + within
            replies, late = self._receive(asked, faults, until=until, enough=enough)
            self._late.add(late, token=token, until=until)
        except BaseException:
            self._late.drop(asked.values())
            for question in asked.values():
                question.abandon()
            raise
        return Replies(replies, faults)

    def _hear(self, token: str) -> None:
        """Hear what came late, and what this token has to wait for."""
        replies: list[Any] = [None] * len(self.nodes)
        for late, answer in self._late.hear(token):
            if isinstance(answer, StoreUnavailable):
                self._note(late.number, answer, [], was_slow=clock.now() >= late.until)
            else:
                replies[late.number] = answer
        self.plead(replies)

    def _begin(
        self,
        start: Start[T],
        asked: dict[int, Asked[T]],
        faults: list[StoreUnavailable],
        numbers: Sequence[int],
        *,
        slow: float,
    ) -> None:
        """Make the question ready for these nodes, then send it to them."""
        ready: dict[int, Asked[T]] = {}
        for number in numbers:
            began = clock.now()
            try:
                question = start(number, self.nodes[number])
            except StoreUnavailable as error:
                self._note(number, error, faults, was_slow=clock.now() - began >= slow)
            else:
                if question is not None:
                    ready[number] = asked[number] = question
        for number, question in ready.items():
            began = clock.now()
            try:
                question.send()
            except StoreUnavailable as error:
                self._note(number, error, faults, was_slow=clock.now() - began >= slow)
                del asked[number]

    def _receive(
        self,
        asked: Mapping[int, Asked[T]],
        faults: list[StoreUnavailable],
        *,
        until: float,
        enough: Enough[T] | None,
    ) -> tuple[list[T | None], dict[int, Asked[T]]]:
        """The answers, and the questions whose answers need not be waited for."""
        answers: list[T | None] = [None] * len(self.nodes)
        late: dict[int, Asked[T]] = {}
        is_enough = False
        for number, question in asked.items():
            if is_enough and question.is_understood:
                late[number] = question
                continue
            try:
                answers[number] = question.receive(until)
            except StoreUnavailable as error:
                self._note(number, error, faults, was_slow=clock.now() >= until)
            else:
                is_enough = enough is not None and enough(answers)
        return answers, late

    def _note(self, number: int, error: StoreUnavailable, faults: list[StoreUnavailable], *, was_slow: bool) -> None:
        if was_slow:
            self._away[number] = clock.now() + AWAY
        faults.append(error)

    @staticmethod
    def of(replies: Sequence[Sequence[T] | None], index: int) -> list[T | None]:
        """What each node answered about one of the keys."""
        return [None if reply is None else reply[index] for reply in replies]

    def plead(self, replies: Sequence[Any]) -> bool:
        """Let the nodes that sit out find out whether they have to; says whether one has not."""
        freed = False
        for node, reply in zip(self.nodes, replies, strict=True):
            if reply and isinstance(reply[0], SitsOut):  # then it does for each key
                try:
                    freed |= node.plead(reply[0])
                except StoreUnavailable as error:
                    logger.debug("It sits out: %s", error)
        return freed

    @classmethod
    def require(cls, replies: Replies[Any], about: str, *, key: str | None = None, also: str = "") -> None:
        """Raise `QuorumNotReached` unless a majority has answered."""
        count = answered(replies)
        if majority.is_met(count, nodes=len(replies)):
            return
        told = "; ".join([*map(str, replies.faults), *filter(None, [also])])
        cls.fail(
            f"{count} of {len(replies)} nodes could be asked about {about}, and "
            f"{majority.needed(len(replies))} are needed ({told})",
            key=key,
            cause=replies.faults[0] if replies.faults else None,
        )

    @staticmethod
    def fail(why: str, *, key: str | None = None, cause: Exception | None = None) -> NoReturn:
        """Raise `QuorumNotReached`."""
        raise QuorumNotReached(
            f"No quorum: {why}, so nobody knows who holds it. Check these servers.", key=key
        ) from cause
