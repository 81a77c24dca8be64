"""Processes with threads that all want one lock."""

from __future__ import annotations

import multiprocessing
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from .line import Times
from .rivals import RIVALS, disconnect

clock = time.monotonic_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What each process is to do."""

    rival: str
    key: str
    threads: int
    hold: float = 0.0
    """Seconds for which the lock is held."""
    once: bool = False
    """Acquire once; else again and again, coming back at once."""


class Crowd:
    """Processes that wait to be told."""

    def __init__(self, pipes: Sequence[Connection], pids: Sequence[int]) -> None:
        self._pipes = pipes
        self.pids = pids

    def get_ready(self, tasks: Sequence[Task]) -> None:
        """Give each of the first processes its task; returns when all have connected."""
        for pipe, task in zip(self._pipes, tasks, strict=False):
            pipe.send(task)
        for pipe in self._pipes[: len(tasks)]:
            hear(pipe)

    def go(self, count: int, *, until: int) -> None:
        """Start them; what is acquired at `until` or later is the last for each."""
        for pipe in self._pipes[:count]:
            pipe.send(until)

    def gather(self, count: int) -> list[Times]:
        """What each thread of theirs did, when all are done."""
        return [times for pipe in self._pipes[:count] for times in hear(pipe)]


@contextmanager
def crowd(size: int) -> Iterator[Crowd]:
    """Fork them: before anything is opened or any thread started here."""
    context = multiprocessing.get_context("fork")
    ends = [context.Pipe() for _ in range(size)]
    processes = [context.Process(target=serve, args=(theirs,), daemon=True) for _, theirs in ends]
    for process in processes:
        process.start()
    try:
        yield Crowd([ours for ours, _ in ends], [process.pid or 0 for process in processes])
        for ours, _ in ends:
            ours.send(None)
    except BaseException:
        for process in processes:
            process.terminate()
        raise
    finally:
        for process in processes:
            process.join()


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong in a process."""

    traceback: str


def hear(pipe: Connection) -> Any:
    """What a process answers. Raises `RuntimeError` with its traceback when it failed."""
    answer = pipe.recv()
    if isinstance(answer, Failure):
        raise RuntimeError(answer.traceback)
    return answer


def serve(pipe: Connection) -> None:
    """The life of a process: do each task as it comes."""
    while (task := pipe.recv()) is not None:
        try:
            pipe.send(do(task, pipe))
            disconnect()
        except Exception:
            pipe.send(Failure(traceback.format_exc()))
            raise


def do(task: Task, pipe: Connection) -> list[Times]:
    """Do it in threads, which all begin together when the starting signal comes."""
    gate = threading.Barrier(task.threads + 1)
    end: list[int] = []
    with ThreadPoolExecutor(task.threads) as pool:
        futures = [pool.submit(compete, task, gate, end) for _ in range(task.threads)]
        # Where it is broken, one of them says why.
        with suppress(threading.BrokenBarrierError):
            gate.wait()
            pipe.send("ready")
            end.append(pipe.recv())
            gate.wait()
        return [future.result() for future in futures]


def compete(task: Task, gate: threading.Barrier, end: Sequence[int]) -> Times:
    """One contender."""
    times: list[tuple[int, int]] = []
    with gate_broken_by_failure(gate), RIVALS[task.rival](task.key) as locking:
        gate.wait()
        gate.wait()
        while not times or not (task.once or times[-1][0] >= end[0]):
            times.append(have(locking(), task, end[0]))
    return times


@contextmanager
def gate_broken_by_failure(gate: threading.Barrier) -> Iterator[None]:
    """Nobody waits at the gate for one that does not come."""
    try:
        yield
    except BaseException:
        gate.abort()
        raise


def have(lock: Any, task: Task, end: int) -> tuple[int, int]:
    """Acquire, hold, release."""
    with lock:
        acquired = clock()
        if task.hold and acquired < end:
            time.sleep(task.hold)
        released = clock()
    return acquired, released
