"""A question to a Redis server that is made ready, sent and answered one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar

from redis.exceptions import NoScriptError, ResponseError, TimeoutError

from .. import clock
from .asking import BROKEN, FAULTS
from .ballots import read_info
from .inquiry import first_of_its_script, spell
from .packing import joined
from .verbs import Call

if TYPE_CHECKING:
    from ..exceptions import StoreUnavailable
    from ..keys import Key

T = TypeVar("T")
Calls = Sequence[Call[T]]
Make = Callable[[str], Calls[T]]
"""Makes the calls for a run of the server, which has an id."""
Undo = Callable[[bool], Calls[None]]
"""Makes the calls that take back what was not answered; told whether it may have reached the server."""


def nothing(asked: bool) -> Calls[None]:
    """What was carried out without an answer does no harm."""
    return ()


class Line(Protocol):
    """The connections to a server. All of these raise what the client raises, but for `undo()`."""

    known: set[tuple[str, str]]
    """The runs of the server, and the digests of the scripts that each has."""

    def take(self) -> Any:
        """A connection, which may not be connected yet."""

    def give(self, connection: Any) -> None:
        """It is free for the next question."""

    def drop(self, connection: Any) -> None:
        """Close it: there may be answers on it that nobody has read."""

    def connect(self, connection: Any) -> str:
        """Connect if need be; gives the run id of the server."""

    def undo(self, connection: Any, calls: Calls[None], *, follows: bool) -> None:
        """Take back what was not answered: before the next question, and now if it can follow on the connection."""

    def unavailable(self, error: Exception, keys: Sequence[Key]) -> StoreUnavailable:
        """The error that tells that the server could not be asked."""


class Started(Generic[T]):
    """An `Asked` on a connection of its own, which is open when this is made. All of it raises `StoreUnavailable`."""

    __slots__ = ("_asked", "_calls", "_connection", "_keys", "_line", "_make", "_packed", "_script", "_undo")

    def __init__(self, line: Line, make: Make[T], keys: Sequence[Key], undo: Undo = nothing) -> None:
        self._line = line
        self._make = make
        self._keys = keys
        self._undo = undo
        self._asked = False
        self._connection = line.take()
        try:
            try:
                self._prepare()
            except BROKEN:
                self._prepare_again()
        except BaseException as error:  # noqa: BLE001 - it is raised there
            self._fail(error)

    def send(self) -> None:
        """Put it on its way; on another connection where this one is broken."""
        self._asked = True
        try:
            try:
                self._connection.send_packed_command(self._packed)
            except BROKEN:
                self._send_again()
        except BaseException as error:  # noqa: BLE001 - it is raised there
            self._fail(error)

    @property
    def is_understood(self) -> bool:
        """As `Asked.is_understood`: as far as this run of the server was asked it before."""
        return self._script in self._line.known

    def has_come(self) -> bool:
        """Whether the answers are there, or will never be."""
        try:
            return bool(self._connection.has_more())
        except FAULTS:
            return True

    def receive(self, until: float) -> list[T]:
        """The answers, if they come before that instant; asked again where the connection broke before."""
        try:
            try:
                answers = self._read(until)
            except BROKEN:
                self._send_again()
                answers = self._read(until)
        except BaseException as error:  # noqa: BLE001 - it is raised there
            self._fail(error)
        self._give_back()
        return answers

    def abandon(self) -> None:
        """Nobody is interested any more."""
        if self._connection is not None:
            self._give_up(TimeoutError("nobody waits for the answer"))

    def _prepare(self) -> None:
        run = self._line.connect(self._connection)
        calls = self._calls = self._make(run)
        self._script = (run, calls[0].script.sha)
        self._packed = calls[0].packed if len(calls) == 1 else joined(call.packed for call in calls)

    def _prepare_again(self) -> None:
        self._line.drop(self._connection)
        self._prepare()

    def _send_again(self) -> None:
        self._prepare_again()
        self._connection.send_packed_command(self._packed)

    def _read(self, until: float) -> list[T]:
        try:
            answers = read(self._connection, self._calls, until)
        except NoScriptError:
            if self.is_understood:
                self._line.known.clear()  # it has forgotten all of them
            commands = map(spell, self._calls, first_of_its_script(self._calls))
            self._connection.send_packed_command(joined(commands))
            answers = read(self._connection, self._calls, until)
        self._line.known.add(self._script)
        return answers

    def _fail(self, error: BaseException) -> NoReturn:
        """Raise what the client did, as `StoreUnavailable`, after all has been done that can be done."""
        self._give_up(error)
        if isinstance(error, FAULTS):
            raise self._line.unavailable(error, self._keys) from error
        raise error

    def _give_up(self, error: BaseException) -> None:
        follows = self._asked and not isinstance(error, BROKEN)
        self._line.undo(self._connection, self._undo(self._asked), follows=follows)
        self._line.drop(self._connection)
        self._give_back()

    def _give_back(self) -> None:
        connection, self._connection = self._connection, None
        self._line.give(connection)


def read(connection: Any, calls: Calls[T], until: float) -> list[T]:
    """The answers to the calls. The first error is raised when all have been read, so that more can be asked."""
    answers, error = [], None
    for call in calls:
        left = until - clock.now()
        # Where the connection itself waits for about as long, it need not be looked at before.
        if left < (connection.socket_timeout or math.inf) / 2 and not connection.has_more(max(0.0, left)):
            raise TimeoutError("no answer in time")
        try:
            answers.append(call.read(connection.read_answer()))
        except ResponseError as refusal:
            error = error or refusal
    if error is not None:
        raise error
    return answers


def ask_info(connection: Any, section: str) -> dict[str, str]:
    """What the server says of itself; nothing where it does not tell this user."""
    connection.send_command("INFO", section)
    try:
        return read_info(connection.read_response(disconnect_on_error=False))
    except ResponseError:
        return {}
