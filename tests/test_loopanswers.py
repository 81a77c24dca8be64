"""How the answers of a server reach the tasks of a loop, whatever reads them from the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import redis
import uvloop
from redis.utils import HIREDIS_AVAILABLE

from django_redislock.steps import Reply
from django_redislock.stores.asking import FAULTS
from django_redislock.stores.loopanswers import AnswersInProtocol, AnswersInTask, answers_of
from django_redislock.stores.loopconnections import LoopConnection
from django_redislock.stores.loopmakers import connection_for_loop
from django_redislock.stores.options import options_for_questions
from tests.flows import client_of
from tests.test_stores import MADE_BY, MANNERS, PROTOCOLS, connect

with_hiredis = pytest.mark.skipif(not HIREDIS_AVAILABLE, reason="redis-py reads them itself")


@pytest.fixture(params=["asyncio", "uvloop"])
def going_through(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs something on a loop of its own."""
    make = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}[request.param]

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(debug=True, loop_factory=make) as runner:
            return runner.run(coroutine)

    return run


@pytest.fixture(params=["fake", "real", "socket", "tls"])
def place(request: pytest.FixtureRequest) -> str:
    """A cache."""
    needed = MADE_BY.get(request.param) or {"real": "real_redis"}.get(request.param)
    if needed:
        request.getfixturevalue(needed)
    client_of(request.param).flushall()
    name: str = request.param
    return name


async def opened(place: str, **options: Any) -> LoopConnection:
    """A connection of this loop to the server of the cache."""
    connection = LoopConnection(connect(place, **options).connection_pool)
    await connection.open()
    return connection


async def ask(connection: LoopConnection, *words: str) -> Any:
    """Ask one thing."""
    sizes = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
    return await connection.send([f"*{len(words)}\r\n{sizes}".encode()])


@with_hiredis
def test_no_task_reads_the_answers_of_a_server(place, going_through):
    async def work() -> type:
        connection = await opened(place)
        answers = connection.opened
        await connection.aclose()
        return type(answers)

    assert going_through(work()) is (AnswersInTask if place == "fake" else AnswersInProtocol)


@pytest.mark.parametrize("options", MANNERS, ids=str)
def test_every_manner_of_client_is_understood(place, options, going_through):
    async def work() -> list[Any]:
        connection = await opened(place, **options)
        answers = await asyncio.gather(ask(connection, "SET", "a", "1"), ask(connection, "GET", "a"))
        nothing = await ask(connection, "GET", "b")
        await connection.aclose()
        return [*answers, nothing]

    ok, one, nothing = going_through(work())
    assert {ok, one} == {"OK", "1"}
    assert nothing is None


@pytest.mark.parametrize("size", [1, 10_000_000])
def test_an_answer_may_come_in_pieces(place, size, going_through):
    async def work() -> list[Any]:
        connection = await opened(place)
        await ask(connection, "SET", "a", "x" * size)
        answers = await asyncio.gather(*(ask(connection, "GET", "a") for _ in range(3)))
        await connection.aclose()
        return answers

    assert going_through(work()) == ["x" * size] * 3


@with_hiredis
def test_who_gets_an_answer_may_close_the_connection(real_redis, going_through):
    """Who is to get the next one is told that it was closed, although that has come already."""

    async def work() -> tuple[list[Any], int]:
        connection = await opened("real")
        answers: Any = connection.opened
        ends, end = [], answers.end

        def ending() -> None:
            ends.append(asyncio.current_task())
            end()

        answers.end = ending

        async def close() -> Any:
            answer = await connection.send([b"*1\r\n$4\r\nPING\r\n" * 2])
            connection.break_off(redis.ConnectionError("It was closed."))
            return answer

        closes = asyncio.create_task(close())
        await asyncio.sleep(0)
        connection._sent.append((0, Reply(loop=asyncio.get_running_loop())))  # of the second question
        (_, second) = connection._sent[1]
        told = await asyncio.gather(closes, second, return_exceptions=True)
        await asyncio.wait([answers.closed])
        return [told[0], type(told[1])], len(ends)

    assert going_through(work()) == (["PONG", redis.ConnectionError], 1)


@with_hiredis
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_ends_a_loop_does_so_where_an_answer_is_heard_too(real_redis, going_through, error):
    """And the answer that has come with that one reaches who waits for it."""
    heard = []

    async def work() -> None:
        connection = await opened("real")

        async def end() -> None:
            await connection.send([b"*1\r\n$4\r\nPING\r\n" * 2])
            raise error

        async def hear() -> None:
            second: Reply[Any] = Reply(loop=asyncio.get_running_loop())
            connection._sent.append((0, second))
            heard.append(await second)

        tasks = [asyncio.create_task(end()), asyncio.create_task(hear())]
        try:
            await asyncio.sleep(60)
        finally:
            await connection.aclose()
            await asyncio.wait(tasks)

    with pytest.raises(error):
        going_through(work())
    assert heard == ["PONG"]


def test_a_refusal_is_raised_where_it_was_asked_for(place, going_through):
    async def work() -> Any:
        connection = await opened(place)
        asked = (ask(connection, "GET", "a"), ask(connection, "NONSENSE"), ask(connection, "GET", "a"))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert connection.is_open
        await connection.aclose()
        return answers

    first, refusal, last = going_through(work())
    assert (first, type(refusal), last) == (None, redis.exceptions.ResponseError, None)


@pytest.mark.skipif(3 not in PROTOCOLS, reason="this redis-py has no RESP3")
def test_what_a_server_says_unasked_is_no_answer(real_redis, going_through):
    async def work() -> list[Any]:
        connection = await opened("real", protocol=3)
        await ask(connection, "CLIENT", "TRACKING", "ON")
        await ask(connection, "GET", "a")
        client_of("real").set("a", "1")  # of which the server tells the other one
        answers = [await ask(connection, "GET", "a"), await ask(connection, "PING")]
        await connection.aclose()
        return answers

    assert going_through(work()) == ["1", "PONG"]


@with_hiredis
@pytest.mark.parametrize("reads", [False, True], ids=["unread", "read by hiredis"])
def test_what_has_come_before_is_not_lost(real_redis, reads, going_through):
    """redis-py goes on to read it."""

    async def work() -> tuple[type, list[Any]]:
        pool = connect("real").connection_pool
        connection = connection_for_loop(pool, options_for_questions(pool))
        await connection.connect()
        await connection.send_packed_command([b"*1\r\n$4\r\nPING\r\n" * 2])
        heard: list[Any] = []
        lost: list[Exception] = []
        if reads:
            heard.append(await connection.read_response())
        while not (connection._reader._buffer or reads):
            await asyncio.sleep(0)
        answers = answers_of(connection, heard.append, lambda answers, error: lost.append(error))
        while len(heard) < 2:
            await asyncio.sleep(0)
        answers.end()
        await asyncio.wait([answers.closed])
        return type(answers), heard

    assert going_through(work()) == (AnswersInTask, ["PONG"] * 2)


@pytest.mark.parametrize("said", [b"?\r\n", b"-LOADING Redis is loading\r\n"], ids=str)
@with_hiredis
def test_what_is_no_answer_ends_it(real_redis, said, going_through):
    """Nobody knows to what that which comes next would be an answer."""

    async def work() -> tuple[bool, BaseException | None]:
        connection = await opened("real")
        answers: Any = connection.opened
        asked = asyncio.create_task(ask(connection, "BLPOP", "nothing", "0"))
        await asyncio.sleep(0)
        answers.get_buffer(-1)[: len(said)] = said
        answers.buffer_updated(len(said))
        await asyncio.wait([answers.closed, asked])
        return connection.is_open, asked.exception()

    is_open, told = going_through(work())
    assert not is_open
    assert isinstance(told, FAULTS)


@with_hiredis
def test_an_answer_to_nothing_ends_it(real_redis, going_through):
    async def work() -> Any:
        connection = await opened("real")
        answers: Any = connection.opened
        answers.write([b"*1\r\n$4\r\nPING\r\n"])
        while connection.is_open:
            await asyncio.sleep(0)
        await asyncio.wait([answers.closed])
        await connection.open()
        answer = await ask(connection, "PING")
        await connection.aclose()
        return answer

    assert going_through(work()) == "PONG"


def test_who_waits_is_told_that_the_server_has_closed_it(place, going_through):
    if place == "fake":
        pytest.skip("It closes nothing.")

    async def work() -> tuple[bool, Any]:
        connection = await opened(place)
        waits = asyncio.create_task(ask(connection, "BLPOP", "nothing", "0"))
        await asyncio.sleep(0)
        await asyncio.to_thread(client_of(place).client_kill_filter, _type="normal", skipme=True)
        await asyncio.wait([waits])
        return connection.is_open, waits.exception()

    is_open, told = going_through(work())
    assert not is_open
    assert isinstance(told, redis.exceptions.ConnectionError)


@with_hiredis
def test_nothing_is_sent_on_one_that_the_server_has_closed(real_redis, going_through):
    """Tasks may go on in the round of the loop in which that is seen."""

    async def work() -> Any:
        connection = await opened("real")
        answers: Any = connection.opened
        seen: list[bool] = []

        def see() -> None:
            AnswersInProtocol.eof_received(answers)
            seen.append(connection.is_open)

        answers.eof_received = see
        await asyncio.to_thread(client_of("real").client_kill_filter, _type="normal", skipme=True)
        while not hasattr(answers, "closed"):
            await asyncio.sleep(0)
        await asyncio.wait([answers.closed])
        return seen

    assert going_through(work()) == [False]


def test_what_was_sent_before_the_end_arrives(place, going_through):
    async def work() -> None:
        connection = await opened(place)
        for _ in range(100):
            connection.send([b"*2\r\n$4\r\nINCR\r\n$1\r\na\r\n"])
        await connection.aclose()

    going_through(work())
    assert client_of(place).get("a") == b"100"


def test_one_is_closed_when_all_has_been_answered(place, going_through):
    """A server drops what it has not read yet of one that is closed."""

    async def work() -> Any:
        connection = await opened(place)
        asked = ask(connection, "PING")
        task = asyncio.create_task(asked)
        await asyncio.sleep(0)
        await connection.aclose()
        return await task

    assert going_through(work()) in {"PONG", True}


def test_one_that_is_not_answered_is_closed_in_time(real_redis, going_through):
    async def work() -> tuple[bool, BaseException | None]:
        connection = await opened("real", socket_timeout=0.2)
        task = asyncio.create_task(ask(connection, "BLPOP", "nobody", "0"))
        await asyncio.sleep(0)
        await connection.aclose()
        await asyncio.wait([task])
        return connection.is_open, task.exception()

    is_open, told = going_through(work())
    assert not is_open
    assert isinstance(told, redis.exceptions.TimeoutError)
