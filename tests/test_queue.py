"""Waiting in line, seen from the store: who is served when, and who is not."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from django_redislock.keylock import deadlock, operator_token
from django_redislock.keys import Key
from django_redislock.stores.base import Answer, Edge, Held, Taken
from tests.line import KEY, Line, wait_key_of

OTHER = Key("other")


@pytest.fixture
def line(lock_alias: str) -> Iterator[Line]:
    line = Line(lock_alias)
    yield line
    line.close()


def fence_of(answer: Any) -> int:
    assert isinstance(answer, Taken | Held)
    return answer.fence


# First come, first served


def test_first_come_first_served(line):
    line.queue("a", "b", "c", "d")
    served = []
    for _ in range(4):
        served.append(line.owner())
        line.release(served[-1])
    assert served == ["a", "b", "c", "d"]
    assert line.owner() is None


def test_who_is_served_is_told_and_nobody_else(line):
    line.queue("a", "b", "c")
    line.release("a")
    (grant,) = line.heard("b")
    assert grant.fence == line.store.inspect(KEY).fence
    assert grant.granted == line.store.inspect(KEY).since
    assert line.heard("c") == line.heard("a") == []


def test_who_is_served_has_the_ttl_it_asked_for(line):
    line.ask("a", ttl=5)
    line.ask("b", ttl=600)
    line.release("a")
    assert 300 < line.store.inspect(KEY).remaining <= 600


@pytest.mark.parametrize("index", ["with others in the index", "alone"])
@pytest.mark.parametrize("wait", [True, False])
def test_a_newcomer_comes_behind_those_who_wait_for_a_key_that_is_free(line, wait, index):
    line.queue("a", "b")
    line.expire()
    if index == "alone":
        line.server.delete(line.name("held"))  # it ends with the last of its locks
    assert isinstance(line.ask("c", wait=wait), Held)
    assert (line.owner(), len(line.heard("b"))) == ("b", 1)


def test_who_waits_first_takes_a_free_key_by_asking_again(line):
    line.queue("a", "b", "c")
    line.expire()
    assert fence_of(line.ask("b")) == line.store.inspect(KEY).fence
    assert (line.owner(), line.heard("b")) == ("b", [])


def test_who_waits_second_does_not_take_a_free_key_by_asking_again(line):
    line.queue("a", "b", "c")
    line.expire()
    assert isinstance(line.ask("c"), Held)
    assert line.owner() == "b"


def test_who_does_not_wait_gets_nothing_later(line):
    line.ask("a")
    line.ask("b", wait=False)
    line.release("a")
    assert (line.owner(), line.left()) == (None, set())


def test_keys_have_lines_of_their_own(line):
    line.queue("a", "b")
    line.queue("c", "d", key=OTHER)
    line.release("c", OTHER)
    assert (line.owner(), line.owner(OTHER)) == ("a", "d")


# Who is not served


def test_a_dead_waiter_is_passed_over_within_one_release(line):
    line.queue("a", "b", "c", "d", "e")
    for who in "bcd":
        line.die(who)
    line.release("a")
    assert line.owner() == "e"


def test_when_all_waiters_are_dead_the_key_is_free(line):
    line.queue("a", "b", "c")
    line.die("b")
    line.die("c")
    line.release("a")
    assert (line.owner(), line.left() - {wait_key_of(who) for who in "bc"}) == (None, set())


def test_who_was_passed_over_and_lives_queues_again_at_the_end(line):
    line.queue("a", "b", "c")
    line.die("b")
    line.release("a")
    assert isinstance(line.ask("b"), Held)
    line.release("c")
    assert line.owner() == "b"


def test_who_leaves_is_not_served(line):
    line.queue("a", "b", "c")
    line.leave("b")
    line.release("a")
    assert (line.owner(), line.heard("b")) == ("c", [])


def test_a_grant_that_crossed_the_leaving_goes_to_the_next(line):
    line.queue("a", "b", "c")
    line.release("a")
    line.leave("b")
    assert (line.owner(), len(line.heard("c"))) == ("c", 1)


def test_a_grant_that_crossed_the_leaving_of_the_last_frees_the_key(line):
    line.queue("a", "b")
    line.release("a")
    line.leave("b")
    assert (line.owner(), line.left()) == (None, set())


def test_who_neither_waits_nor_holds_may_leave(line):
    line.queue("a", "b")
    line.leave("c")
    assert (line.owner(), line.store.inspect(KEY).waiters) == ("a", 1)


# Sent twice


def test_joining_twice_is_one_place_in_the_line(line):
    line.queue("a", "b", "c", "b", "b", "c")
    assert line.store.inspect(KEY).waiters == 2
    line.release("a")
    line.release("b")
    assert line.owner() == "c"


def test_leaving_twice_takes_nothing_from_the_next(line):
    line.queue("a", "b", "c")
    line.release("a")
    line.leave("b")
    line.leave("b")
    assert line.owner() == "c"


def test_releasing_twice_is_answered_alike_and_hands_over_once(line):
    line.queue("a", "b", "c")
    assert [line.release("a"), line.release("a")] == [Answer.DONE] * 2
    assert (line.owner(), line.heard("c")) == ("b", [])


def test_a_grant_whose_message_was_lost_is_found_by_asking(line):
    line.queue("a", "b")
    line.release("a")
    (grant,) = line.heard("b")
    assert line.ask("b") == line.ask("b") == Taken(grant.fence)


def test_a_grant_that_is_found_by_asking_lasts_for_a_ttl_from_then(line):
    """Whoever asks counts the ttl from its question: the server must not have counted from before."""
    line.queue("a", "b")
    line.release("a")
    line.server.pexpire(line.name("lock"), 1_000)
    line.server.zadd(line.name("held"), {line.name("lock"): 1})
    line.ask("b", ttl=30)
    assert 20 < line.store.inspect(KEY).remaining <= 30
    assert line.server.zscore(line.name("held"), line.name("lock")) > 1
    assert line.server.pttl(line.name("held")) >= line.server.pttl(line.name("lock"))


# Taken away


def test_force_hands_over_to_the_first(line):
    line.queue("a", "b", "c")
    assert line.force().holder.doing == "a"
    assert (line.owner(), len(line.heard("b")), line.release("a")) == ("b", 1, Answer.FORCED)


def test_force_frees_what_nobody_waits_for(line):
    line.queue("a")
    assert line.force().holder.doing == "a"
    assert (line.owner(), line.left(), line.release("a")) == (None, set(), Answer.FORCED)


def test_what_an_operator_has_taken_away_is_nobodys_until_it_is_handed_over(line):
    line.queue("a", "b")
    token = operator_token()
    line.store.force(KEY, token=token, ttl=10)
    assert (line.owner(), line.heard("b"), line.release("a")) == ("a", [], Answer.FORCED)
    assert isinstance(line.ask("a", wait=False), Held)
    assert line.store.force(KEY, token=operator_token(), ttl=10) is None
    assert line.store.release(KEY, token=token, ttl=60) is Answer.DONE
    assert (line.owner(), len(line.heard("b"))) == ("b", 1)


def test_force_says_when_nobody_held_the_key(line):
    assert line.force() is None
    assert line.left() == set()


# Fences and the index


def hand_over_by_release(line: Line, owner: str) -> None:
    line.release(owner)


def hand_over_by_force(line: Line, owner: str) -> None:
    line.force()


def hand_over_by_leaving(line: Line, owner: str) -> None:
    line.leave(owner)


def hand_over_by_expiry(line: Line, owner: str) -> None:
    line.expire()
    line.ask("newcomer", wait=False)


WAYS = [hand_over_by_release, hand_over_by_force, hand_over_by_leaving, hand_over_by_expiry]
every_way = pytest.mark.parametrize("hand_over", WAYS)


@every_way
def test_fences_grow_with_every_hand_over(line, hand_over):
    line.queue("a", "b", "c", "d")
    fences = [line.store.inspect(KEY).fence]
    for owner in "abc":
        hand_over(line, owner)
        fences.append(line.store.inspect(KEY).fence)
    assert all(earlier < later for earlier, later in pairwise(fences))


def test_fences_grow_over_hand_overs_although_the_servers_clock_was_set_back(line):
    line.queue("a", "b", "c")
    ahead = 2 * line.store.inspect(KEY).fence
    line.server.set(line.name("fence"), ahead)
    line.release("a")
    line.release("b")
    assert line.store.inspect(KEY).fence == ahead + 2
    assert [grant.fence for grant in line.heard("b") + line.heard("c")] == [ahead + 1, ahead + 2]


@every_way
def test_the_index_is_right_after_every_hand_over(line, hand_over):
    line.queue("a", "b")
    line.server.zadd(line.name("held"), {line.name("lock"): 1})
    hand_over(line, "a")
    end = line.server.zscore(line.name("held"), line.name("lock")) / 1e3
    assert end == pytest.approx(line.store.inspect(KEY).since + 30, abs=0.002)
    line.release("b")
    assert line.server.exists(line.name("held")) == 0


# What is seen and what is left


def test_nobody_waits_for_a_key_that_is_just_held(line):
    line.ask("a")
    assert (line.store.inspect(KEY).waiters, line.store.inspect(KEY).first_waits_for) == (0, 0)


def test_it_is_told_how_many_wait_and_how_long_the_first_has_waited(line):
    line.queue("a", "b", "c")
    token, channel, ttl, _, rest = line.server.get(wait_key_of("b")).decode().split(" ", 4)
    since = round((line.store.inspect(KEY).since - 60) * 1e6)
    line.server.set(wait_key_of("b"), f"{token} {channel} {ttl} {since} {rest}")
    held = line.store.inspect(KEY)
    assert (held.waiters, held.holder.doing) == (2, "a")
    assert held.first_waits_for == pytest.approx(60 + held.held_for, abs=0.001)


def test_asking_again_does_not_shorten_how_long_one_has_waited(line):
    line.queue("a", "b")
    line.queue("c", key=OTHER)
    before = line.store.inspect(KEY).first_waits_for
    line.ask("b")
    assert line.store.inspect(KEY).first_waits_for > before


@pytest.mark.parametrize("end", [Line.leave, lambda line, who: line.release("a")])
def test_the_line_goes_with_its_last_waiter(line, end):
    line.queue("a", "b")
    end(line, "b")
    assert line.left() == {line.name("lock"), line.name("held")}


def test_a_line_of_the_dead_expires(line):
    line.ask("a", ttl=5)
    line.ask("b", ttl=20)
    line.ask("c", ttl=10)
    line.die("b")
    line.die("c")
    lives = {name: line.server.pttl(name) for name in line.left()}
    assert len(lives) == 5
    assert all(0 < life <= 20_000 for life in lives.values())


def test_asking_again_keeps_the_place_in_the_line(line):
    line.queue("a", "b")
    names = [line.name("queue"), wait_key_of("b")]
    for name in names:
        line.server.pexpire(name, 1_000)
    line.ask("b")
    assert all(line.server.pttl(name) > 20_000 for name in names)


def test_a_line_that_expired_is_joined_anew(line):
    line.queue("a", "b", "c")
    line.server.delete(*line.left() - {line.name("lock"), line.name("held")})
    line.queue("c", "b")
    line.release("a")
    assert line.owner() == "c"


def test_a_half_of_a_line_serves_nobody_twice(line):
    line.queue("a", "b", "c")
    line.server.delete(wait_key_of("b"), wait_key_of("c"))
    line.queue("b")
    line.release("a")
    assert line.owner() == "b"
    line.release("b")
    assert (line.owner(), line.left()) == (None, set())


def test_who_waits_for_something_else_by_now_is_passed_over_and_keeps_that_place(line):
    """It could not say that it had given up."""
    line.queue("a", "b", "c")
    line.queue("d", key=OTHER)
    line.ask("b", OTHER, attempt=1)
    line.release("a")
    assert (line.owner(), line.heard("b")) == ("c", [])
    line.release("d", OTHER)
    assert (line.owner(OTHER), len(line.heard("b"))) == ("b", 1)


def test_one_token_may_wait_for_one_key_after_the_other(line):
    line.queue("a", "b")
    line.ask("b", Key("third"), attempt=1)
    line.ask("d", OTHER)
    line.ask("b", OTHER)
    (first, second) = line.ask("d", Key("third"))
    assert (first.key, first.holder.doing, second.key, second.holder.doing) == ("third", "b", "other", "d")
    line.release("d", OTHER)
    assert line.owner(OTHER) == "b"


def test_giving_up_late_takes_nothing_from_what_one_waits_for_by_now(line):
    line.queue("a", "b")
    line.queue("d", key=OTHER)
    line.ask("b", OTHER, attempt=1)
    line.leave("b")
    line.release("d", OTHER)
    assert line.owner(OTHER) == "b"
    line.release("a")
    assert line.owner() is None


# Deadlocks


def keys(count: int) -> list[Key]:
    return [Key(f"bank.Account:{number}") for number in range(count)]


def chain(line: Line, length: int) -> list[Key]:
    """Each of so many holds a key, and all but the last wait for that of the next."""
    rows = keys(length)
    for number, row in enumerate(rows):
        assert isinstance(line.ask(f"flow-{number}", row), Taken)
    for number, row in enumerate(rows[1:]):
        assert isinstance(line.ask(f"flow-{number}", row), Held)
    return rows


@pytest.mark.parametrize("length", [2, 3, 10])
def test_who_would_close_a_cycle_is_refused_with_every_edge(line, length):
    rows = chain(line, length)
    edges = line.ask(f"flow-{length - 1}", rows[0])
    assert isinstance(edges, tuple)
    named = [(edge.key, edge.holder.doing) for edge in edges]
    assert named == [(row.name, f"flow-{number}") for number, row in enumerate(rows)]


@pytest.mark.parametrize("length", [2, 3, 10])
def test_who_is_refused_is_not_queued_and_the_others_go_on(line, length):
    rows = chain(line, length)
    last = f"flow-{length - 1}"
    line.ask(last, rows[0])
    assert line.store.inspect(rows[0]).waiters == 0
    line.release(last, rows[-1])
    assert line.owner(rows[-1]) == f"flow-{length - 2}"


def test_a_cycle_is_refused_again(line):
    rows = chain(line, 2)
    assert line.ask("flow-1", rows[0]) == line.ask("flow-1", rows[0]) != ()


def test_the_refusal_names_every_edge(line):
    rows = chain(line, 3)
    text = str(deadlock(rows[0], line.ask("flow-2", rows[0])))
    parts = [f"{row.name}, held by web-1 pid 42 MainThread (flow-{number})" for number, row in enumerate(rows)]
    assert ", who waits for ".join(parts) in text


def test_a_chain_that_does_not_end_at_the_asker_is_no_cycle(line):
    rows = chain(line, 3)
    assert isinstance(line.ask("outsider", rows[0]), Held)


@pytest.mark.parametrize("dead", ["flow-0", "flow-1"])
def test_a_dead_process_closes_no_cycle(line, dead):
    rows = chain(line, 3)
    line.die(dead)
    assert isinstance(line.ask("flow-2", rows[0]), Held)


@pytest.mark.parametrize("gone", [0, 1])
def test_a_cycle_whose_member_left_is_none(line, gone):
    rows = chain(line, 3)
    line.leave(f"flow-{gone}", rows[gone + 1])
    assert isinstance(line.ask("flow-2", rows[0]), Held)


def test_a_cycle_whose_member_released_is_none(line):
    rows = chain(line, 3)
    line.release("flow-1", rows[1])
    assert line.owner(rows[1]) == "flow-0"
    assert isinstance(line.ask("flow-2", rows[0]), Held)


def test_a_cycle_whose_lock_has_expired_is_none(line):
    rows = chain(line, 3)
    line.expire(rows[1])
    assert isinstance(line.ask("flow-2", rows[0]), Held)


def test_who_does_not_wait_is_not_told_of_cycles(line):
    rows = chain(line, 2)
    assert isinstance(line.ask("flow-1", rows[0], wait=False), Held)


def test_a_lease_of_its_own_that_it_lost_sight_of_is_no_cycle(line):
    line.ask("a")
    assert isinstance(line.ask("a", attempt=1), Held)


def test_who_was_passed_over_and_got_the_key_later_waits_for_it_no_more(line):
    """Else it would seem to wait for whoever holds that key after it."""
    shelf, other = KEY, OTHER
    line.queue("a", "b", key=shelf)
    line.die("b")
    line.release("a", shelf)
    assert isinstance(line.ask("b", shelf), Taken)
    line.ask("b", other)
    line.release("b", shelf)
    line.ask("c", shelf)
    assert isinstance(line.ask("c", other), Held)


@pytest.mark.parametrize("name", ["a b", "größe 日本 🔒", "}:lock:x", "two\nlines", "%s %d"])
def test_odd_names_stand_in_a_cycle_as_they_are(line, name):
    one, other = Key(name), OTHER
    line.queue("a", key=one)
    line.queue("b", "a", key=other)
    edges = line.ask("b", one)
    assert isinstance(edges, tuple)
    assert [edge.key for edge in edges] == [one.name, other.name]
    assert all(isinstance(edge, Edge) for edge in edges)
