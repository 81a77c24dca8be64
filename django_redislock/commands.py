"""One run of a management command at a time, on all hosts: `@lock_command`, `LockedCommand`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, TypeVar, Unpack, overload
from urllib.parse import urlencode

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser, OutputWrapper

from .exceptions import LockBusy, RedisLockError
from .expiry import leave_to_expire
from .functions import lock
from .guards import NamedLock
from .holder import Work, working_on
from .interruptions import Interruptions
from .lease import Lease
from .seconds import Seconds, read_seconds, read_wait
from .terms import LockTerms, check_terms

logger = logging.getLogger("django_redislock")

C = TypeVar("C", bound=BaseCommand)
WhenBusy = Literal["fail", "skip"]

TEMPORARY_FAILURE = 75
"""`EX_TEMPFAIL` of sysexits.h: try again later."""


def seconds(text: str) -> float | None:
    """The value of `--lock-wait`; argparse tells the function's name. Raises `ValueError`."""
    return read_wait(float(text))


class LockedCommand(BaseCommand):
    """A management command of which one run at a time takes place, on all hosts that share the Redis.

    The lock is held while the command runs, its system checks included, and released when it has ended, by an
    exception or a signal too. Under another command's transaction (`call_command`) the release waits for its end.
    """

    lock_name: ClassVar[str | None] = None
    """What the lock is called; without it `command:` and the command's name."""
    lock_arguments: ClassVar[Sequence[str]] = ()
    """Arguments whose values are a part of it, so that runs with other values do not exclude each other."""
    lock_terms: ClassVar[LockTerms] = {}
    """`ttl`, `alias`, `wait` and `max_hold` as for `lock()`, but that without `wait` it is not waited for, and without
    `max_hold` renewed for as long as the run takes."""
    when_busy: ClassVar[WhenBusy] = "fail"
    """`"fail"` with a `CommandError`, or `"skip"` the run."""
    busy_exit_code: ClassVar[int] = TEMPORARY_FAILURE
    """What the process exits with when it fails for that."""
    hold_at_least: ClassVar[Seconds] = 0
    """Seconds for which the lock is kept from its acquiring on, though the run has ended well before. Set it to more
    than the clocks of the hosts may differ, and a run that takes a moment does not take place twice."""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """As the command's, with `--lock-wait` and `--no-lock`."""
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        group = parser.add_argument_group("lock")
        wait = "How long to wait while it runs elsewhere; without this it is not waited for."
        group.add_argument("--lock-wait", type=seconds, metavar="SECONDS", help=wait)
        group.add_argument("--no-lock", action="store_true", help="Run even if it runs elsewhere.")
        return parser

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command under its lock.

        Raises `CommandError` when it is busy or cannot be asked for, and when it was lost while the command ran.
        """
        wait, no_lock = options.pop("lock_wait", None), options.pop("no_lock", False)
        if no_lock:
            return super().execute(*args, **options)
        guard = lock(self.lock_key(options), **self.terms())
        with working_on(lambda: Work(f"command {self.command_name}")), Interruptions() as interruptions:
            try:
                lease = guard.acquire() if wait is None else guard.acquire(wait=wait)
            except RedisLockError as error:
                self.refuse(error, options)
                return None
            with self.given_back(guard, lease, interruptions):
                return super().execute(*args, **options)

    def terms(self) -> LockTerms:
        """How the lock is held: unless that is told, it is not waited for, and renewed for as long as the run takes."""
        terms: LockTerms = {"max_hold": None, **self.lock_terms}
        return terms if "nowait" in terms else {"wait": 0, **terms}

    @property
    def command_name(self) -> str:
        """The name that the command is called by: that of its module."""
        return type(self).__module__.rpartition(".")[2]

    def lock_key(self, options: dict[str, Any]) -> str:
        """What the lock is called for these options. Raises `ImproperlyConfigured` for an argument that it has not."""
        name = self.lock_name or f"command:{self.command_name}"
        unknown = [argument for argument in self.lock_arguments if argument not in options]
        if unknown:
            raise ImproperlyConfigured(
                f"The command {self.command_name} has no argument {unknown[0]!r} to be a part of its lock; there are "
                f"{', '.join(sorted(options))}."
            )
        values = [(argument, options[argument]) for argument in self.lock_arguments]
        return f"{name}?{urlencode(values, doseq=True)}" if values else name

    def refuse(self, error: RedisLockError, options: dict[str, Any]) -> None:
        """Skip the run, or raise `CommandError`: it runs elsewhere, or nobody knows."""
        if not isinstance(error, LockBusy):
            raise CommandError(f"{self.command_name} was not started: {error}", returncode=1) from error
        message = f"{self.command_name} was not started: {error.key} is held by {error.holder}."
        if self.when_busy == "fail":
            message = f"{message} Pass --lock-wait SECONDS to wait for it."
            raise CommandError(message, returncode=self.busy_exit_code) from error
        logger.info("Skipped: %s", message)
        if options.get("verbosity", 1) > 1:
            out = options.get("stdout")
            (OutputWrapper(out) if out else self.stdout).write(message)

    @contextmanager
    def given_back(self, guard: NamedLock, lease: Lease, interruptions: Interruptions) -> Iterator[None]:
        """Give the lock back at the end, and let no signal come between."""
        try:
            yield
        except BaseException as error:
            interruptions.postpone()
            try:
                guard.release()
            except RedisLockError as failure:
                error.add_note(str(failure))
            raise
        interruptions.postpone()
        left = read_seconds(self.hold_at_least) - lease.held_for
        try:
            if left > 0:
                leave_to_expire(guard, after=left)
            else:
                guard.release()
        except RedisLockError as error:
            message = f"{self.command_name} has ended, but another run may have taken place at the same time: {error}"
            raise CommandError(message, returncode=1) from error


@overload
def lock_command(command: type[C], /) -> type[C]: ...


@overload
def lock_command(
    *,
    name: str | None = None,
    arguments: Sequence[str] = (),
    when_busy: WhenBusy = "fail",
    exit_code: int = TEMPORARY_FAILURE,
    hold_at_least: Seconds = 0,
    **terms: Unpack[LockTerms],
) -> Callable[[type[C]], type[C]]: ...


def lock_command(
    command: type[C] | None = None,
    /,
    *,
    name: str | None = None,
    arguments: Sequence[str] = (),
    when_busy: WhenBusy = "fail",
    exit_code: int = TEMPORARY_FAILURE,
    hold_at_least: Seconds = 0,
    **terms: Unpack[LockTerms],
) -> type[C] | Callable[[type[C]], type[C]]:
    """Make a command a `LockedCommand`: `@lock_command` or `@lock_command(arguments=["country"])` on its class.

    The arguments are the attributes of `LockedCommand`; `wait`, `nowait`, `ttl`, `max_hold` and `alias` are its
    `lock_terms`.
    Raises `TypeError` or `ValueError` for what cannot be right.
    """
    check_terms(terms, call="lock_command()")
    if when_busy not in {"fail", "skip"}:
        raise ValueError(f"when_busy is 'fail' or 'skip', not {when_busy!r}.")
    if isinstance(arguments, str):
        raise TypeError(f"arguments is a list of names, not {arguments!r}.")
    if not 0 <= read_seconds(hold_at_least) < float("inf"):
        raise ValueError(f"hold_at_least is 0 or more seconds, not {hold_at_least!r}.")
    attributes = {
        "lock_name": name,
        "lock_arguments": tuple(arguments),
        "lock_terms": terms,
        "when_busy": when_busy,
        "busy_exit_code": exit_code,
        "hold_at_least": hold_at_least,
    }
    return locked_class(command, attributes) if command else lambda found: locked_class(found, attributes)


def locked_class(command: type[C], attributes: dict[str, Any]) -> type[C]:
    """The command's class with the lock before it. Raises `TypeError` for what is no such class."""
    if not isinstance(command, type) or not issubclass(command, BaseCommand):
        raise TypeError(f"lock_command() decorates the class of a management command, not {command!r}.")
    if issubclass(command, LockedCommand):
        raise TypeError(f"{command.__qualname__} is a LockedCommand already: set its attributes instead.")
    names = {name: getattr(command, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(command.__name__, (LockedCommand, command), names | attributes)
