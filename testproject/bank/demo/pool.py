"""Several worker processes and the orders that each of them has been given.

Every worker has a pipe of its own. A queue that all of them share would not survive the SIGKILL of one that is
reading from it.
"""

from __future__ import annotations

import multiprocessing
import random
import signal
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from types import TracebackType

from .messages import Answer, Done, Failed, Ready, Task
from .worker import serve

AT_A_TIME = 3  # the next orders are in the pipe already, so that no worker waits for the demo
processes = multiprocessing.get_context("spawn")  # fork would share database and Redis connections


class WorkerFailed(Exception):
    """A worker met an unexpected error or ended without having been told to."""


@contextmanager
def ctrl_c_blocked() -> Iterator[None]:
    """A process that is started here never hears it, and ends with its pipe; this one hears it afterwards.

    Ignoring it for a moment would do for the other process, but this one would lose what came in that moment.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Worker:
    """A process, the pipe to it and what it has been given and not answered."""

    def __init__(self) -> None:
        self.pipe, theirs = processes.Pipe()
        self.process = processes.Process(target=serve, args=(theirs,), daemon=True)
        with ctrl_c_blocked():
            self.process.start()
        theirs.close()  # or the end of the process would not end the pipe
        self.tasks: deque[Task] = deque()
        self.ready = False
        self.killed = False

    def give(self, task: Task) -> None:
        self.tasks.append(task)
        try:
            self.pipe.send(task)
        except ConnectionError:
            return  # it has just been killed; reading from it will tell, and its tasks are taken back

    def hear(self) -> Answer:
        """The next answer. Raises `EOFError` when the process is gone."""
        try:
            answer: Answer = self.pipe.recv()
        except ConnectionError as error:
            raise EOFError from error
        if isinstance(answer, Ready):
            self.ready = True
        else:
            self.tasks.popleft()
        return answer

    def kill(self) -> None:
        self.killed = True
        self.process.kill()

    def stop(self, *, within: float) -> None:
        """Let it end by itself, or not."""
        self.pipe.close()
        self.process.join(within)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class Pool:
    """Workers that carry out tasks; those that are killed are replaced and lose nothing."""

    def __init__(self, size: int) -> None:
        self._workers = [Worker() for _ in range(size)]
        self.killed = 0

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.stop(within=0 if kind else 5)

    def wait_until_ready(self) -> None:
        """Raises `WorkerFailed` when one does not start."""
        while not all(worker.ready for worker in self._workers):
            for _ in self._answers(deque()):
                pass

    def run(self, tasks: Iterable[Task], *, kill_at: Collection[int] = ()) -> Iterator[Done]:
        """Carry out all tasks; after each of these counts of answers one worker is killed in the middle of its work.

        Raises `WorkerFailed`.
        """
        todo, done = deque(tasks), 0
        while todo or any(worker.tasks for worker in self._workers):
            self._hand_out(todo)
            for answer in self._answers(todo):
                if isinstance(answer, Failed):
                    raise WorkerFailed(answer.traceback)
                if isinstance(answer, Done):
                    done += 1
                    if done in kill_at:
                        self._kill_one()
                    yield answer

    def _hand_out(self, todo: deque[Task]) -> None:
        """One each in turn, so that the last ones are shared out evenly."""
        for count in range(AT_A_TIME):
            for worker in self._workers:
                if todo and worker.ready and not worker.killed and len(worker.tasks) <= count:
                    worker.give(todo.popleft())

    def _answers(self, todo: deque[Task]) -> Iterator[Answer]:
        """What has come in, once something has. The tasks of workers that are gone go back to the others."""
        by_pipe = {worker.pipe: worker for worker in self._workers}
        for pipe in wait(list(by_pipe)):
            assert isinstance(pipe, Connection)
            worker = by_pipe[pipe]
            try:
                yield worker.hear()
            except EOFError:
                todo.extendleft(reversed(worker.tasks))
                self._replace(worker)

    def _replace(self, worker: Worker) -> None:
        worker.stop(within=5)
        if not worker.killed:
            raise WorkerFailed(f"A worker ended by itself, with exit code {worker.process.exitcode}.")
        self._workers[self._workers.index(worker)] = Worker()

    def _kill_one(self) -> None:
        busy = [worker for worker in self._workers if worker.tasks and not worker.killed]
        if busy:
            random.choice(busy).kill()
            self.killed += 1
