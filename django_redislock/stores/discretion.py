"""Errors of the Redis client that may be shown: without the password that the server's answer can repeat, and short."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

E = TypeVar("E", bound=BaseException)

HIDDEN = "***"

ECHO = re.compile(r",? with args beginning with: .*", re.DOTALL)
"""What a server adds that does not know a command, `HELLO` with the password for one."""

CLIENT = re.compile(r"<redis\.client\.Redis\(.*?\bhost=([^,]+),port=(\d+).*?\)>\)>\)>", re.DOTALL)
"""How redis-py names each Sentinel that it has asked: with all the options of a connection."""


def secrets_in(options: Mapping[str, Any]) -> list[str]:
    """What a client with these options knows and must not tell."""
    given = (options.get("password"), getattr(options.get("credential_provider"), "password", None))
    return [secret for secret in given if isinstance(secret, str) and secret]


def hush(error: E, secrets: Iterable[str]) -> E:
    """Take the secrets, and all repetition of a command, out of an error and of those that led to it."""
    secrets = list(secrets)
    told: BaseException | None = error
    while told is not None:
        args = tuple(without(arg, secrets) for arg in told.args)
        if args != told.args:
            told.args = args
        told = told.__cause__ or told.__context__
    return error


def without(value: Any, secrets: Iterable[str]) -> Any:
    """A text without them; anything else as it is."""
    if not isinstance(value, str):
        return value
    text = CLIENT.sub(r"\1:\2", ECHO.sub("", value))
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text
