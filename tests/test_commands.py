"""One run of a command at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from io import StringIO
from typing import Any, ClassVar

import pytest
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand
from django.db import transaction

from django_redislock import LockBusy, LockedCommand, StoreUnavailable, clock, lock, lock_command
from django_redislock.interruptions import ENDING
from tests.flows import Peer, elsewhere, is_free, peer, until

KEY = "command:test_commands"


class Plain(BaseCommand):
    """Says who holds what while it runs."""

    body: ClassVar[Callable[..., Any]] = lambda **options: None

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--country", default="no")
        parser.add_argument("--year", type=int)

    def handle(self, *args: Any, **options: Any) -> str:
        type(self).body(**options)
        return "ran"


def run(command: type[BaseCommand], **options: Any) -> str:
    out = StringIO()
    call_command(command(), stdout=out, **options)
    return out.getvalue().strip()


def command_with(body: Callable[..., Any], **arguments: Any) -> type[BaseCommand]:
    return lock_command(**arguments)(type("Told", (Plain,), {"body": body, "__module__": __name__}))


Guarded = lock_command(Plain)


@pytest.mark.usefixtures("lock_alias")
class TestTheLock:
    def test_it_is_held_while_the_command_runs(self):
        seen = []
        assert run(command_with(lambda **options: seen.append(is_free(KEY)))) == "ran"
        assert seen == [False]
        assert is_free(KEY)

    def test_it_is_named_after_the_command_and_the_arguments_that_are_told(self):
        seen = []
        command = command_with(
            lambda **options: seen.append(is_free(f"{KEY}?country=s%26e&year=2026")), arguments=["country", "year"]
        )
        run(command, country="s&e", year=2026)
        assert seen == [False]

    def test_runs_with_other_values_do_not_exclude_each_other(self):
        command = command_with(lambda **options: None, arguments=["country"])
        with lock(f"{KEY}?country=se"):
            assert elsewhere(run, command) == "ran"

    def test_it_may_have_any_name(self):
        with lock("nightly"), pytest.raises(CommandError, match="nightly is held by"):
            elsewhere(run, command_with(lambda **options: None, name="nightly"))

    def test_an_argument_that_there_is_not_is_told(self):
        with pytest.raises(ImproperlyConfigured, match="has no argument 'day'"):
            run(command_with(lambda **options: None, arguments=["day"]))

    def test_a_command_that_fails_frees_it(self):
        with pytest.raises(ZeroDivisionError):
            run(command_with(lambda **options: 1 / 0))
        assert is_free(KEY)

    def test_it_says_what_the_holder_is_doing(self):
        seen: list[Any] = []
        run(command_with(lambda **options: seen.append(lock(KEY).info())))
        assert seen[0].holder.doing == "command test_commands"

    def test_the_command_is_not_told_of_its_options(self):
        seen: list[Any] = []
        run(command_with(lambda **options: seen.append(options)), lock_wait=3)
        assert not {"lock_wait", "no_lock"} & set(seen[0])

    @pytest.mark.django_db(transaction=True)
    def test_in_a_transaction_the_release_waits_for_its_end(self):
        with transaction.atomic():
            run(Guarded)
            assert not is_free(KEY)
        assert is_free(KEY)

    def test_it_works_in_a_thread(self):
        assert elsewhere(run, Guarded) == "ran"
        assert is_free(KEY)

    def test_it_is_renewed_while_the_command_runs_however_long(self):
        seen: list[Any] = []

        def body(**options: Any) -> None:
            until(lambda: (info := lock(KEY).info()) is not None and held_for(info) > 1.5)
            seen.append(is_free(KEY))

        assert run(command_with(body, ttl=1)) == "ran"
        assert seen == [False]


def held_for(info: Any) -> float:
    """Seconds since it was acquired, by this machine's clock, which is the server's."""
    return time.time() - float(info.since.timestamp())


@pytest.mark.usefixtures("lock_alias")
class TestBusy:
    def test_it_fails_with_its_own_exit_code_and_says_who_runs_it(self):
        with lock(KEY), pytest.raises(CommandError, match=r"is held by .* pid .*--lock-wait SECONDS") as caught:
            elsewhere(run, Guarded)
        assert caught.value.returncode == 75
        assert isinstance(caught.value.__cause__, LockBusy)

    def test_the_exit_code_may_be_told(self):
        with lock(KEY), pytest.raises(CommandError) as caught:
            elsewhere(run, command_with(lambda **options: None, exit_code=3))
        assert caught.value.returncode == 3

    @pytest.mark.parametrize(("verbosity", "words"), [(1, ""), (2, "was not started")])
    def test_it_is_skipped_quietly_where_that_is_told(self, verbosity, words, caplog):
        caplog.set_level("INFO", "django_redislock")
        skipping = command_with(lambda **options: pytest.fail("It was busy."), when_busy="skip")
        with lock(KEY):
            said = elsewhere(lambda: run(skipping, verbosity=verbosity))
        assert words in said
        assert bool(words) == bool(said)
        assert "Skipped: test_commands was not started: command:test_commands is held by" in caplog.text

    def test_it_waits_as_long_as_the_command_line_says(self):
        with lock(KEY), pytest.raises(CommandError) as caught:
            elsewhere(lambda: run(Guarded, lock_wait=0.01))
        assert "waited 0.01 s" in str(caught.value.__cause__)

    def test_it_waits_as_long_as_the_class_says(self):
        with lock(KEY), pytest.raises(CommandError) as caught:
            elsewhere(run, command_with(lambda **options: None, wait=0.02))
        assert "waited 0.02 s" in str(caught.value.__cause__)

    def test_without_the_lock_it_runs_all_the_same(self):
        with lock(KEY):
            assert elsewhere(lambda: run(Guarded, no_lock=True)) == "ran"

    @pytest.mark.parametrize("wait", ["-1", "soon", "inf", "nan"])
    def test_a_wait_that_cannot_be_is_refused(self, wait):
        with pytest.raises(CommandError, match="--lock-wait: invalid seconds value"):
            call_command(Guarded(), f"--lock-wait={wait}")


class TestTrouble:
    def test_a_store_that_is_away_is_told(self, settings, lock_alias):
        away = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
        settings.CACHES = {**settings.CACHES, "away": away}
        settings.REDISLOCK = {"default": {"CACHE": "away"}}
        with pytest.raises(CommandError, match="was not started: Redis could not be asked") as caught:
            run(Guarded)
        assert isinstance(caught.value.__cause__, StoreUnavailable)

    def test_a_lock_that_was_lost_meanwhile_is_told(self, lock_alias):
        with pytest.raises(CommandError, match="another run may have taken place at the same time"):
            run(command_with(lambda **options: caches[lock_alias].clear()))

    def test_the_commands_own_error_is_not_hidden_by_that(self, lock_alias):
        def body(**options: Any) -> None:
            caches[lock_alias].clear()
            raise ValueError("The report failed.")

        with pytest.raises(ValueError, match="The report failed") as caught:
            run(command_with(body))
        assert "is not held by this owner" in caught.value.__notes__[0]


class TestHoldAtLeast:
    def test_a_short_run_keeps_the_lock(self, lock_alias):
        run(command_with(lambda **options: None, hold_at_least=60, ttl=5))
        info = lock(KEY).info()
        assert info is not None
        assert 55 < info.remaining <= 60

    def test_it_does_not_start_again_meanwhile_not_even_in_the_same_thread(self, lock_alias):
        command = command_with(lambda **options: None, hold_at_least=60)
        run(command)
        with pytest.raises(CommandError, match="is held by"):
            run(command)

    def test_a_long_run_releases_at_its_end(self, lock_alias, monkeypatch):
        def body(**options: Any) -> None:
            later = clock.now() + 20
            monkeypatch.setattr(clock, "now", lambda: later)

        run(command_with(body, hold_at_least=10))
        monkeypatch.undo()
        assert is_free(KEY)

    def test_a_run_that_failed_may_be_tried_again_at_once(self, lock_alias):
        with pytest.raises(ZeroDivisionError):
            run(command_with(lambda **options: 1 / 0, hold_at_least=60))
        assert is_free(KEY)

    def test_a_run_inside_another_with_the_lock_leaves_it_to_that_one(self, lock_alias):
        with lock(KEY):
            run(command_with(lambda **options: None, hold_at_least=60))
            assert not is_free(KEY)
        assert is_free(KEY)

    def test_a_lock_that_was_lost_is_told(self, lock_alias):
        with pytest.raises(CommandError, match="another run may have taken place"):
            run(command_with(lambda **options: caches[lock_alias].clear(), hold_at_least=60))


class TestSignals:
    def test_handlers_are_as_before_afterwards(self, lock_alias):
        before = [signal.getsignal(number) for number in ENDING]
        seen: list[Any] = []
        run(command_with(lambda **options: seen.extend(signal.getsignal(number) for number in ENDING)))
        assert [signal.getsignal(number) for number in ENDING] == before
        assert not set(map(id, seen)) & set(map(id, before))

    def test_a_handler_of_the_program_stays(self, lock_alias):
        seen: list[Any] = []
        mine = lambda number, frame: None
        before = signal.signal(signal.SIGTERM, mine)
        try:
            run(command_with(lambda **options: seen.append(signal.getsignal(signal.SIGTERM))))
        finally:
            signal.signal(signal.SIGTERM, before)
        assert seen == [mine]

    def test_a_signal_during_the_release_waits_for_its_end(self, lock_alias, monkeypatch):
        release = type(lock("a")).release

        def interrupted(self: Any) -> None:
            signal.raise_signal(signal.SIGINT)
            release(self)

        monkeypatch.setattr(type(lock("a")), "release", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(Guarded)
        monkeypatch.undo()
        assert is_free(KEY)

    def test_a_second_signal_does_not_disturb_the_first(self, lock_alias):
        def body(**options: Any) -> None:
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            run(command_with(body))
        assert is_free(KEY)

    def test_in_a_thread_they_are_let_be(self, lock_alias):
        seen: list[Any] = []
        handlers = [signal.getsignal(number) for number in ENDING]
        elsewhere(run, command_with(lambda **options: seen.extend(map(signal.getsignal, ENDING))))
        assert seen == handlers


REPORT = """
from django.core.management import call_command, CommandError
for line in sys.stdin:
    try:
        call_command("report")
        sys.stdout.flush()
    except CommandError as error:
        print("busy", error.returncode, flush=True)
    except ValueError as error:
        print(error, flush=True)
"""
REPORT_KEY = "command:report"
SHORT = f"""
from tests.testapp.management.commands.report import Command
Command.lock_terms = {{"ttl": 3}}
{REPORT}
"""


def start(process: Peer) -> None:
    process.tell()
    assert process.hear() == "running"


@pytest.mark.usefixtures("real_redis")
class TestProcesses:
    def test_of_two_that_start_together_one_runs_fifty_times(self):
        with peer(REPORT) as one, peer(REPORT) as other:
            for _ in range(50):
                one.tell()
                other.tell()
                answers = {one.hear(): one, other.hear(): other}
                assert set(answers) == {"running", "busy 75"}
                answers["running"].tell("go on")
                assert answers["running"].hear() == "done"

    @pytest.mark.parametrize("number", ENDING)
    def test_one_that_is_ended_by_a_signal_frees_it_at_once(self, number):
        with peer(REPORT) as process:
            start(process)
            process.tell("suspend")
            assert not is_free(REPORT_KEY)
            process.send(number)
            assert process.end() == -number
            assert is_free(REPORT_KEY)

    def test_one_that_waits_is_ended_by_a_signal_too(self):
        with peer(REPORT.replace('"report"', '"report", lock_wait=60')) as process, lock(REPORT_KEY):
            process.tell()
            until(lambda: elsewhere(waits, REPORT_KEY))
            process.send(signal.SIGTERM)
            assert process.end() == -signal.SIGTERM
            until(lambda: not elsewhere(waits, REPORT_KEY))
        assert is_free(REPORT_KEY)

    def test_one_that_was_killed_holds_it_for_the_ttl(self):
        with peer(REPORT) as process:
            start(process)
            process.kill()
        info = lock(REPORT_KEY).info()
        assert info is not None
        assert 25 < info.remaining <= 30

    def test_one_that_waits_runs_when_the_ttl_of_one_that_was_killed_is_over(self):
        with peer(SHORT) as one, peer(SHORT.replace('"report"', '"report", lock_wait=60')) as other:
            start(one)
            other.tell()
            until(lambda: elsewhere(waits, REPORT_KEY))
            one.kill()
            assert not is_free(REPORT_KEY)
            assert other.hear() == "running"
            other.tell()
            assert other.hear() == "done"

    def test_the_process_exits_with_75_and_says_who_runs_it(self):
        command = [sys.executable, "-m", "django", "report"]
        environment = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"}
        with peer(REPORT) as process:
            start(process)
            done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
            assert done.returncode == 75
            assert f"CommandError: report was not started: {REPORT_KEY} is held by" in done.stderr
            assert f"pid {process.pid}" in done.stderr
            assert "Traceback" not in done.stderr

    def test_one_that_raises_frees_it(self):
        with peer(REPORT) as process:
            start(process)
            process.tell("raise")
            assert process.hear() == "The report failed."
            assert is_free(REPORT_KEY)


def waits(name: str) -> bool:
    info = lock(name).info()
    return info is not None and info.waiters > 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"when_busy": "maybe"}, "when_busy is 'fail' or 'skip'"),
        ({"arguments": "country"}, "arguments is a list of names"),
        ({"hold_at_least": -1}, "hold_at_least is 0 or more"),
        ({"hold_at_least": "long"}, "seconds are a number"),
        ({"timeout": 5}, "Did you mean ttl="),
        ({"wait": -1}, "wait must be 0 or more"),
    ],
)
def test_a_mistake_is_told_where_the_command_is_decorated(arguments, complaint):
    with pytest.raises((TypeError, ValueError), match=complaint):
        lock_command(**arguments)


@pytest.mark.parametrize(("target", "complaint"), [(print, "decorates the class"), (Guarded, "is a LockedCommand")])
def test_what_is_no_command_is_refused(target, complaint):
    with pytest.raises(TypeError, match=complaint):
        lock_command(target)


def test_the_class_keeps_its_name():
    assert (Guarded.__name__, Guarded.__module__, Guarded.__doc__) == ("Plain", __name__, Plain.__doc__)
    assert issubclass(Guarded, LockedCommand)
    assert threading.current_thread() is threading.main_thread()
