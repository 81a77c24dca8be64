"""The arithmetic of the benchmarks, and that they run; how fast anything is, is not tested."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks import measure
from benchmarks.crowd import Task, crowd
from benchmarks.line import Line, jain
from benchmarks.measure import Contender, Turn, interleaved
from benchmarks.report import Column, Report, Target

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent

PAIR_TRIPS = {
    "raw pair": 2,
    "redis-py Lock": 2,
    "django-redis cache.lock": 2,
    "python-redis-lock": 3,
    'lock("name")': 2,
    'lock("name") again': 0,
}
RIVALS = ['lock("name")', "python-redis-lock", "redis-py Lock"]
ADVISORY = "PostgreSQL advisory lock"
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


def test_the_median_is_of_the_figures_that_there_are():
    assert measure.median_of([3, None, 1, 2]) == 2
    assert measure.median_of([None]) is None


def line(*contenders, end=100):
    """What contenders did in a window that begins at 0; here in microseconds."""
    times = [[(1000 * acquired, 1000 * released) for acquired, released in own] for own in contenders]
    return Line(begin=0, end=1000 * end, contenders=times)


def test_a_hand_over_is_from_the_release_to_the_next_acquisition_by_another():
    assert line([(10, 20), (50, 60)], [(25, 40)]).hand_overs() == [5, 10]


def test_who_comes_back_at_once_hands_over_to_nobody():
    back = line([(10, 20), (30, 40), (50, 60)], [(63, 70)])
    assert back.hand_overs() == [3]
    assert back.came_back() == pytest.approx(200 / 3)


def test_what_is_acquired_outside_of_the_window_does_not_count():
    late = line([(-5, 1), (20, 30)], [(5, 10), (101, 102)])
    assert late.shares() == [1, 1]
    assert late.rate() == pytest.approx(2 / 100e-6)


def test_two_that_have_the_lock_at_once_are_no_result():
    with pytest.raises(AssertionError, match="at once"):
        line([(10, 20)], [(19, 30)]).had()


def test_all_are_through_when_the_last_one_has_had_it():
    assert line([(0, 10)], [(20, 21)], [(30, 31)]).through(10_000) == pytest.approx(0.02)


def test_an_empty_window_tells_nothing():
    nothing = line([], [])
    assert (nothing.hand_overs(), nothing.came_back(), nothing.rate(), nothing.shares()) == ([], 0, 0, [0, 0])


@pytest.mark.parametrize(("shares", "index"), [([5, 5, 5], 1), ([9, 0, 0], 1 / 3), ([3, 1], 0.8), ([0, 0], 0)], ids=str)
def test_fairness_is_one_for_equal_shares_and_one_in_n_when_one_has_all(shares, index):
    assert jain(shares) == pytest.approx(index)


def test_a_target_can_be_a_lower_bound():
    assert str(Target("fairness", 0.99, 0.99, ".3f", at_least=True)) == "met     fairness: 0.990 (at least 0.99)"
    assert not Target("fairness", 0.98, 0.99, at_least=True).met


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


def rivals_of(report):
    return RIVALS + ([ADVISORY] if "PostgreSQL" in report["versions"] else [])


def test_contended_compares_all_in_each_scene_and_counts_their_requests(real_redis, tmp_path):
    report = run_benchmark("contended", "--quick", to=tmp_path / "contended.json")
    scenes = [f"2 {kind}, {hold} ms" for hold in (0, 5) for kind in ("processes", "threads")]
    assert list(report["rows"]) == [f"{scene}: {name}" for scene in scenes for name in rivals_of(report)]
    for name, row in report["rows"].items():
        assert row["rate"] > 0
        assert (row["requests"] is None) == name.endswith(ADVISORY)
        # Threads that poll can share one: one asks while the other sleeps.
        assert row["connections"] >= (2 if "processes" in name else 1)


def test_idle_lets_all_through_and_ours_asks_nothing_meanwhile(real_redis, tmp_path):
    report = run_benchmark("idle", "--quick", to=tmp_path / "idle.json")
    assert sorted(report["rows"]) == sorted(rivals_of(report))
    assert report["rows"]['lock("name")']["requests"] < report["rows"]["redis-py Lock"]["requests"]
    assert all(row["through"] > 0 for row in report["rows"].values())


def test_many_takes_several_with_two_round_trips(real_redis, tmp_path):
    report = run_benchmark("many", "--quick", to=tmp_path / "many.json")
    trips = {"raw pair": 2, "lock_many(), 10 names": 2, '10 x lock("name")': 20}
    assert {name: row["round_trips"] for name, row in report["rows"].items()} == trips


def test_tasks_compares_the_locks_of_a_loop(real_redis, tmp_path):
    report = run_benchmark("tasks", "--quick", to=tmp_path / "tasks.json")
    ours = report["rows"]['async with lock("name")']
    assert ours["rate"] > 0
    assert ours["connections"] <= 3
    assert report["rows"]["raw pair"]["ratio"] == 1


def test_a_quorum_needs_one_round_of_questions_each_way(real_redis, tmp_path):
    report = run_benchmark("quorum", "--quick", to=tmp_path / "quorum.json")
    trips = {name: row["round_trips"] for name, row in report["rows"].items()}
    assert 6 <= trips['lock("name"), 3 servers'] < 7
    assert 10 <= trips['lock("name"), 5 servers'] < 11


def test_a_cluster_is_asked_twice_for_a_pair(real_redis, tmp_path):
    report = run_benchmark("cluster", "--quick", to=tmp_path / "cluster.json")
    assert {name: row["round_trips"] for name, row in report["rows"].items()} == {
        "redis-py's pair": 2,
        'lock("name")': 2,
    }
    assert [target["limit"] for target in report["targets"]] == [1.3]


def test_faults_lose_no_money(real_redis, tmp_path):
    orders = [f"{number},1014-22,1007-11,{1 + number % 3}.00,rent" for number in range(20)]
    (tmp_path / "few.csv").write_text("\n".join(["key,source,target,amount,purpose", *orders]))
    report = run_benchmark("faults", "--workers", "2", "--file", str(tmp_path / "few.csv"), to=tmp_path / "faults.json")
    assert all(target["met"] for target in report["targets"])
    assert all(row["faults"] > 0 for row in report["rows"].values())


def test_version_compares_the_checked_save_with_others(tmp_path):
    if "TEST_POSTGRES_URL" not in os.environ:
        pytest.skip("It needs PostgreSQL.")
    report = run_benchmark("version", "--rounds", "2", to=tmp_path / "version.json")
    queries = {name: row["queries"] for name, row in report["rows"].items()}
    assert {name: number for name, number in queries.items() if "concurrency" not in name} == {
        "plain save(), autocommit": 1,
        "VersionField save(), autocommit": 1,
        "plain save(), in a transaction": 1,
        "VersionField save(), in a transaction": 1,
    }


def test_edges_compares_the_decorator_with_the_block(real_redis, tmp_path):
    if "TEST_POSTGRES_URL" not in os.environ:
        pytest.skip("It needs PostgreSQL.")
    report = run_benchmark("edges", "--rounds", "2", to=tmp_path / "edges.json")
    assert report["rows"]["with locked()"]["more"] == 0
    assert report["rows"]["@lock_instance"]["p50"] > 0


def test_what_fails_in_a_process_fails_the_benchmark():
    with crowd(1) as people, pytest.raises(RuntimeError, match="KeyError: 'nobody'"):
        people.get_ready([Task(rival="nobody", key="any", threads=2)])


def test_a_number_of_rounds_must_be_positive():
    command = [sys.executable, "-m", "benchmarks", "pair", "--rounds", "0"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "1 at least" in done.stderr


def test_renew_loses_none_with_one_thread(real_redis, tmp_path):
    report = run_benchmark("renew", "--quick", to=tmp_path / "renew.json")
    ours = report["rows"]['lock("name")']
    assert (ours["threads"], ours["lost"]) == (1, 0)
    assert ours["requests"] < report["rows"]["python-redis-lock, auto_renewal"]["requests"] / 5
