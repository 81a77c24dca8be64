"""Questions that change nothing: what is held, and what the server says of itself.

They go over the cache's own connections, several at once, so that no connection for locks waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..exceptions import StoreUnavailable
from .base import Held, Refusal
from .discretion import hush
from .listing import Listed, list_held
from .redis import FAULTS, secrets_of
from .verbs import Call, Verbs

if TYPE_CHECKING:
    from redis import Redis

    from ..keys import Key

T = TypeVar("T")


class Inquiry:
    """Asks the server that `connect` gives a client to. Raises `StoreUnavailable` when it cannot be asked."""

    def __init__(self, connect: Callable[[], Redis], *, scope: str, prefix: str) -> None:
        self.prefix = prefix
        """What all names begin with."""
        self._scope = scope
        self._connect = connect
        self._verbs = Verbs(prefix)

    def list_held(self, *, queues: bool = False) -> list[Listed]:
        """All that is held, in one round trip; with `queues` also who waits for it."""
        buckets = self._ask_all(list_held(self.prefix, queues=queues), "what is held")
        return [lock for bucket in buckets for lock in bucket]

    def inspect(self, keys: Sequence[Key]) -> list[Held | None]:
        """Who holds each of the keys, in one round trip."""
        return self._ask_all([self._verbs.inspect(key) for key in keys], f"{len(keys)} keys")

    def server(self, *words: str) -> Any:
        """What the server answers to a command of its own; a `Refusal` where it does not carry that out."""
        (answer,) = self._send([words], words[0])
        return Refusal(str(answer)) if isinstance(answer, Exception) else answer

    def settings(self) -> dict[str, Any]:
        """With what connections are made. Some of it is secret."""
        return dict(self._connect().connection_pool.connection_kwargs)

    def _ask_all(self, calls: Sequence[Call[T]], about: str) -> list[T]:
        answers = self._send(list(map(spell, calls, first_of_its_script(calls))), about)
        for answer in answers:
            if isinstance(answer, Exception):
                raise self._unavailable(answer, about) from answer
        return [call.read(answer) for call, answer in zip(calls, answers, strict=True)]

    def _send(self, commands: Sequence[Sequence[str | int]], about: str) -> list[Any]:
        """The answers to commands that are sent at once; what the server refuses is an exception among them."""
        client = self._connect()
        pipe: Any = client.pipeline(transaction=False)
        try:
            for command in commands:
                pipe.execute_command(*command)
            return list(pipe.execute(raise_on_error=False))
        except FAULTS as error:
            raise self._unavailable(error, about) from error

    def _unavailable(self, error: Exception, about: str) -> StoreUnavailable:
        kind, told = type(error).__name__, hush(error, secrets_of(self._connect().connection_pool))
        return StoreUnavailable(
            f"Redis could not be asked about {about} ({kind}: {told}). "
            f"Check the server and the cache alias {self._scope!r}."
        )


def first_of_its_script(calls: Sequence[Call[Any]]) -> list[bool]:
    """Which calls have to bring the text of their script: those after them find it known."""
    scripts = [call.script for call in calls]
    return [script not in scripts[:number] for number, script in enumerate(scripts)]


def spell(call: Call[Any], brings_text: bool) -> tuple[str | int, ...]:
    """A call as a command."""
    script = ("EVAL", call.script.source) if brings_text else ("EVALSHA", call.script.sha)
    return (*script, len(call.keys), *call.keys, *call.args)
