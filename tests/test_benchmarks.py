"""The arithmetic of the benchmarks, and that they run; how fast anything is, is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks import measure
from benchmarks.measure import Contender, Turn, interleaved
from benchmarks.report import Column, Report, Target

ROOT = Path(__file__).parent.parent

PAIR_TRIPS = {
    "raw pair": 2,
    "redis-py Lock": 2,
    "django-redis cache.lock": 2,
    "python-redis-lock": 3,
    'lock("name")': 2,
    'lock("name") again': 0,
}
ROW_TRIPS = {"select_for_update()": 0, "objects.locked(pk)": 2}


def turn(*microseconds, cpu=0):
    return Turn(times=[1000 * duration for duration in microseconds], cpu=1000 * cpu)


def test_percentiles_are_over_the_pairs_of_all_blocks_in_microseconds():
    blocks = [{"a": turn(*range(51))}, {"a": turn(*range(51, 101))}]
    assert measure.p50(blocks, "a") == pytest.approx(50)
    assert measure.p99(blocks, "a") == pytest.approx(99)


def test_processor_time_is_per_pair():
    blocks = [{"a": turn(1, 1, cpu=30)}, {"a": turn(1, 1, cpu=50)}]
    assert measure.cpu(blocks, "a") == pytest.approx(20)


def test_a_ratio_does_not_see_that_a_whole_block_was_slow():
    blocks = [{"a": turn(20, 30, 40), "base": turn(10, 15, 20)}, {"a": turn(800), "base": turn(400)}]
    assert measure.ratio(blocks, "a", "base") == pytest.approx(2)


def test_a_ratio_does_not_see_a_single_hiccup():
    quiet = {"a": turn(20, 20, 9000), "base": turn(10, 10, 10)}
    assert measure.ratio([quiet, quiet, {"a": turn(9000), "base": turn(10)}], "a", "base") == pytest.approx(2)


def test_all_contenders_take_a_turn_in_each_block():
    ran = Counter[str]()

    def contender(name: str) -> Contender:
        return Contender(name=name, pair=lambda number: ran.update([name]))

    blocks = interleaved([contender(name) for name in "abc"], rounds=4, pairs=5)
    assert [sorted(block) for block in blocks] == [["a", "b", "c"]] * 4
    assert {len(turn.times) for block in blocks for turn in block.values()} == {5}
    assert ran == dict.fromkeys("abc", 4 * (measure.WARM_UP + 5))


def test_what_is_around_a_turn_is_entered_once():
    steps: list[str | int] = []

    @contextmanager
    def around():
        steps.append("enter")
        yield
        steps.append("leave")

    measure.take_turn(Contender(name="a", pair=steps.append, around=around), 2)
    assert steps == ["enter", *range(measure.WARM_UP), 0, 1, "leave"]


def test_a_target_is_met_up_to_its_limit_and_says_so():
    assert str(Target("trips", 2, 2, "g")) == "met     trips: 2 (at most 2)"
    assert str(Target("ratio", 1.104, 1.1, ".3f")) == "MISSED  ratio: 1.104 (at most 1.1)"
    assert not Target("not measured", None, 1).met


def test_a_report_is_shown_and_saved(capsys, tmp_path):
    report = Report(
        columns=[Column("p50", "p50"), Column("ratio", "ratio", ".2f")],
        rows={"a lock": {"p50": 12.34, "ratio": None}},
        targets=[Target("time", 12.34, 13)],
        notes=["A note."],
        versions={"Python": "3"},
    )
    report.show()
    report.save(tmp_path / "report.json")
    shown = capsys.readouterr().out
    assert all(part in shown for part in ["Python 3", "a lock", "12.3", "A note.", "met     time: 12.3 (at most 13)"])
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["targets"][0]["met"] is True


def run_benchmark(*arguments, to):
    command = [sys.executable, "-m", "benchmarks", *arguments, "--json", str(to)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(to.read_text(encoding="utf-8"))


def test_pair_compares_all_and_counts_their_round_trips(real_redis, tmp_path):
    report = run_benchmark("pair", "--rounds", "2", to=tmp_path / "pair.json")
    expected = PAIR_TRIPS | (ROW_TRIPS if "PostgreSQL" in report["versions"] else {})
    assert {name: row["round_trips"] for name, row in report["rows"].items()} == expected
    assert {row["queries"] for name, row in report["rows"].items() if name in ROW_TRIPS} <= {1}
    assert report["rows"]["raw pair"]["ratio"] == 1


def test_memory_weighs_client_and_server(real_redis, tmp_path):
    report = run_benchmark("memory", "--locks", "50", to=tmp_path / "memory.json")
    assert list(report["rows"]) == ['lock("name")', "redis-py Lock", "python-redis-lock"]
    assert all(row["client"] > 0 for row in report["rows"].values())


def test_a_number_of_rounds_must_be_positive():
    command = [sys.executable, "-m", "benchmarks", "pair", "--rounds", "0"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "1 at least" in done.stderr
