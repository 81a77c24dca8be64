"""`manage.py redislock`: list, show, release, run, watch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_redislock import LockNotHeld, clock, lock
from django_redislock.cli import running
from django_redislock.cli.words import plain, spell_seconds, table
from django_redislock.forcing import force_release
from django_redislock.holder import Work, working_on
from tests.flows import is_free, until
from tests.line import Line
from tests.testapp.models import Seat


class Terminal(StringIO):
    """Output that is looked at."""

    def isatty(self) -> bool:
        return True


def redislock(*words: str, out: StringIO | None = None, **options: Any) -> str:
    """What the command prints."""
    out = out or StringIO()
    call_command("redislock", *words, stdout=out, stderr=out, **options)
    return out.getvalue()


@pytest.fixture
def held(lock_alias: str) -> Iterator[str]:
    """A lock that another thread holds, unless it was taken away."""
    guard = lock("nightly")

    def give_back() -> None:
        with suppress(LockNotHeld):
            guard.release()

    with ThreadPoolExecutor(1) as other:
        other.submit(guard.acquire).result()
        yield "nightly"
        other.submit(give_back).result()


def answer(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """What is typed at the question; nothing: there is nobody."""

    def type_it(question: str) -> str:
        if text is None:
            raise EOFError
        return text

    monkeypatch.setattr("builtins.input", type_it)


# list


def test_nothing_is_held(lock_alias):
    assert redislock("list") == "No lock is held.\n"


def test_it_lists_a_line_for_each_lock(held):
    head, line = redislock("list").splitlines()
    assert head.split() == ["KEY", "HELD", "FOR", "ENDS", "IN", "WAITERS", "FENCE", "ALIAS", "HOLDER"]
    assert line.startswith("nightly  0.")
    assert line.endswith(str(lock(held).info().holder))


def test_as_json_it_is_complete(held):
    info = lock(held).info()
    (found,) = json.loads(redislock("list", "--format", "json"))
    assert (found["key"], found["fence"], found["since"]) == (held, info.fence, info.since.isoformat())
    assert found["holder"]["pid"] == os.getpid()
    assert (found["alias"], found["model"], found["waiters"]) == ("default", None, 0)
    assert 29 < found["remaining"] <= 30


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["night"], ["nightly"]),
        (["MAINTHREAD"], ["bank.Account:1"]),
        (["--model", "bank.account"], ["bank.Account:1"]),
        (["--host", "web-9"], []),
        (["--alias", "default", "--sort", "key"], ["bank.Account:1", "nightly"]),
        (["--sort", "since"], ["nightly", "bank.Account:1"]),
    ],
)
def test_it_filters_and_sorts(held, words, keys):
    with lock("bank.Account:1"):
        found = json.loads(redislock("list", *words, "--format", "json"))
    assert [each["key"] for each in found] == keys


def test_a_server_that_is_away_is_an_error_and_keeps_its_password(held, settings):
    settings.CACHES = settings.CACHES | {
        "away": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://:open-sesame@127.0.0.1:1/0"}
    }
    settings.REDISLOCK = settings.REDISLOCK | {"second": {"CACHE": "away"}}
    out = StringIO()
    with pytest.raises(CommandError, match="second: Redis could not be asked") as caught:
        redislock("list", out=out)
    assert "nightly" in out.getvalue()
    assert "open-sesame" not in str(caught.value)


def test_an_alias_that_there_is_not_is_said(lock_alias):
    with pytest.raises(CommandError, match="REDISLOCK has no alias 'stock'"):
        redislock("list", "--alias", "stock")


@pytest.mark.parametrize("words", [["--no-color", "list"], ["list", "--no-color"]])
def test_colours_are_for_a_terminal_and_can_be_had_off(held, words):
    assert "\x1b" in redislock("list", out=Terminal(), force_color=True)
    assert "\x1b" not in redislock("list")
    assert "\x1b" not in redislock(*words, out=Terminal())


def test_names_cannot_move_the_cursor(lock_alias):
    with lock("a\x1b[2Jb\nc"):
        assert "a\\x1b[2Jb\\nc " in redislock("list")


def test_text_that_can_be_read_stays():
    assert plain("两个 locks, é") == "两个 locks, é"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.44, "0.4 s"), (12.4, "12 s"), (185, "3 min 5 s"), (7800, "2 h 10 min"), (349_200, "4 d 1 h")],
)
def test_durations_are_short(seconds, words):
    assert spell_seconds(seconds) == words


def test_columns_stand_under_each_other():
    assert table(["A", "B"], [["long", "x"]]) == ["A     B", "long  x"]


# show


def test_it_tells_all_of_one(held):
    with working_on(lambda: Work("POST /x/")):
        lines = redislock("show", held).splitlines()
    info = lock(held).info()
    assert lines[0] == "Key       nightly"
    assert f"Holder    {info.holder}" in lines
    assert f"Fence     {info.fence}" in lines


def test_it_draws_who_waits_for_whom(lock_alias):
    line = Line(lock_alias)
    line.queue("a", "b")
    text = redislock("show", "shelf")
    assert "Who waits for whom:\nshelf, held by web-1 pid 42 MainThread (a)" in text
    assert "\n   1. web-1 pid 42 MainThread (b) waits for" in text
    assert json.loads(redislock("show", "shelf", "--format", "json"))["queue"][0]["holder"]["doing"] == "b"
    line.close()


@pytest.mark.parametrize("typed", ["testapp.Seat:A,7", "testapp.seat:A,007"])
def test_a_row_is_found_by_any_spelling(lock_alias, db, typed):
    Seat.objects.create(row="A", number=7)
    with Seat.objects.locked(("A", 7)):
        assert "Key       testapp.Seat:A,7" in redislock("show", typed)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("weekly", r"Nobody holds weekly \(any more\)"),
        ("bank.Acount:1", "There is no model bank.Acount"),
        ("bank.Account:x", "No bank.Account has the primary key 'x'"),
        ("", "A key is text that is not empty"),
    ],
)
@pytest.mark.parametrize("word", ["show", "release"])
def test_what_is_not_held_is_said(lock_alias, word, typed, said):
    with pytest.raises(CommandError, match=said):
        redislock(word, typed)


# release


def test_it_asks_and_says_what_it_did(held, monkeypatch):
    answer(monkeypatch, "y")
    holder = lock(held).info().holder
    text = redislock("release", held)
    assert text.startswith(f"nightly, held by {holder} for ")
    assert text.endswith(" s.\nNobody waited for it.\n")
    assert is_free(held)


@pytest.mark.parametrize(
    ("typed", "said"), [("", "Nothing was done."), ("n", "Nothing was done."), (None, "--no-input")]
)
def test_without_a_yes_nothing_is_done(held, monkeypatch, typed, said):
    answer(monkeypatch, typed)
    with pytest.raises(CommandError, match=said):
        redislock("release", held)
    assert not is_free(held)


def test_it_says_who_has_it_now(lock_alias):
    line = Line(lock_alias)
    line.queue("a", "b")
    text = redislock("release", "shelf", interactive=False)
    assert "Released shelf, held by web-1 pid 42 MainThread (a)" in text
    assert "It is held by web-1 pid 42 MainThread (b) now." in text
    line.close()


def test_one_who_got_it_while_it_asked_is_left_alone(lock_alias, monkeypatch):
    line = Line(lock_alias)
    line.queue("a", "b")

    def hand_over(question: str) -> str:
        line.release("a")
        return "y"

    monkeypatch.setattr("builtins.input", hand_over)
    with pytest.raises(CommandError, match=r"Nothing was done: shelf, held by .* was given back meanwhile"):
        redislock("release", "shelf")
    assert line.owner() == "b"
    line.close()


# watch


def test_it_looks_again_and_again(held, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(clock, "sleep", pauses.append)
    assert redislock("watch", "--count", "3", "--interval", "0.5").count("nightly") == 3
    assert pauses == [0.5, 0.5]


def test_a_terminal_is_cleared_and_ctrl_c_ends(held, monkeypatch):
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(clock, "sleep", interrupt)
    assert redislock("watch", out=Terminal()).startswith("\x1b[H\x1b[2J")


def test_it_goes_on_when_the_server_is_away(lock_alias, settings, monkeypatch):
    settings.CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}}
    settings.REDISLOCK = {}
    monkeypatch.setattr(clock, "sleep", lambda seconds: None)
    assert redislock("watch", "--count", "2").count("Redis could not be asked") == 2


def test_an_interval_is_above_zero(lock_alias):
    with pytest.raises(CommandError, match="--interval"):
        redislock("watch", "--interval", "0")


# run


def run(*words: str) -> int:
    """The exit status of `redislock run`."""
    try:
        redislock("run", *words)
    except SystemExit as error:
        return int(error.code or 0)
    except CommandError as error:
        return error.returncode
    return 0


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_lock_is_held_while_the_program_runs(lock_alias, tmp_path, monkeypatch):
    seen = []
    wait_for = running.wait_for

    def look(child: Any, lease: Any) -> int:
        seen.append(is_free("a"))
        return wait_for(child, lease)

    monkeypatch.setattr(running, "wait_for", look)
    assert run("a", "--", *python(f"open({str(tmp_path / 'x')!r}, 'w').write('ran')")) == 0
    assert (tmp_path / "x").read_text() == "ran"
    assert (seen, is_free("a")) == ([False], True)


@pytest.mark.parametrize(
    ("code", "status"), [("import sys; sys.exit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 128 + 9)]
)
def test_its_exit_status_is_passed_on(lock_alias, code, status):
    assert run("a", "--", *python(code)) == status


def test_a_busy_lock_is_75(held, tmp_path):
    assert run(held, "--wait", "0", "--", "touch", str(tmp_path / "x")) == running.BUSY == 75
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("program", "status"), [("/no/such/program", 127), ("/etc/hostname", 126)])
def test_a_program_that_cannot_run_has_the_status_that_shells_have(lock_alias, program, status):
    assert run("a", "--", program) == status
    assert is_free("a")


def test_there_has_to_be_a_program(lock_alias):
    with pytest.raises(CommandError, match="Say what to run"):
        redislock("run", "a", "--")


def test_a_bad_ttl_is_said(lock_alias):
    with pytest.raises(CommandError, match="ttl must be between"):
        redislock("run", "a", "--ttl", "0", "--", "true")


def test_the_lease_is_kept_as_long_as_it_runs(lock_alias, settings):
    settings.REDISLOCK = {"default": settings.REDISLOCK[lock_alias] | {"MAX_HOLD": 1}}
    assert run("a", "--ttl", "1", "--", "sleep", "1.5") == 0


def test_a_program_whose_lock_was_taken_away_is_told_to_end(lock_alias):
    with pytest.raises(CommandError, match="lost") as caught, lock_taken_meanwhile():
        redislock("run", "a", "--ttl", "0.3", "--", "sleep", "60")
    assert caught.value.returncode == running.LOST == 76


@contextmanager
def lock_taken_meanwhile() -> Iterator[None]:
    """Somebody takes the lock away as soon as it is held."""

    def take() -> None:
        until(lambda: lock("a").info() is not None)
        force_release("a")

    with ThreadPoolExecutor(1) as other:
        other.submit(take)
        yield


CHILD = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("told", flush=True), sys.exit(3)))
print("ready", flush=True)
for _ in range(600):  # a signal that comes right before it sleeps is told when it wakes up
    time.sleep(0.1)
"""


def test_signals_are_passed_on_and_the_lock_is_given_back(real_redis):
    words = ["django", "redislock", "run", "a", "--alias", "real", "--", *python(CHILD)]
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        assert lock("a", alias="real").info() is not None
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=20)[0] == "told\n"
    assert process.returncode == 3
    assert lock("a", alias="real").info() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_comes_before_the_program_gives_the_lock_back(number):
    with pytest.raises(SystemExit) as caught:
        running.leave(number, None)
    assert caught.value.code == 128 + number
