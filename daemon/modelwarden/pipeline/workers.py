"""Worker processes that stage a backlog: one interpreter does one summary at a time, however many cores there are.

The rule: a worker only stages. It has no lock and no state, ends when its standard input does, and what it was given
and did not answer in time is staged by whoever gave it. It is started when there is a backlog and stopped soon after.
"""

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Timer
from typing import IO, Final, NamedTuple

from modelwarden.archive.tree import Tree
from modelwarden.gate.policy import Policy
from modelwarden.pipeline.staging import Candidate, Stager, Staging

WORTHWHILE: Final = 2
"""Fewest workers that are of use: one alone is no faster than the process it would work for."""

STOP_SECONDS: Final = 5.0
"""How long workers may take to end, or for what they were asked once the daemon is to stop, before they are killed."""

SILENCE_SECONDS: Final = 120.0
"""How long a worker may take to start, or for one question, before it is killed: a few runs, on a disk that everybody
writes to."""

_READY: Final = b"\n"

_OF_THE_DAEMON: Final = re.compile(r"MODELWARDEN_|CREDENTIALS_DIRECTORY$|NOTIFY_SOCKET$", re.IGNORECASE)
"""Variables that a worker has no business with; a setting's name may be written in small letters too."""


class Orders(NamedTuple):
    """What a worker must know before its first candidate.

    Attributes:
        root: the archive directory.
        staging: the folder to stage in; its lock is the giver's.
        owner: what a run records as `daemon_id`.
        host: what it records as `archived_by`.
        policies: what judges, by name.
    """

    root: str
    staging: str
    owner: str
    host: str
    policies: Mapping[str, Policy]


class WorkerLost(Exception):
    """A worker ended before it answered: killed, out of memory, silent, or an error of ours. See its standard error."""


class Workers:
    """The workers of one process.

    Args:
        orders: what they need to know.
        size: how many; none are ever started where that is fewer than WORTHWHILE.
    """

    def __init__(self, orders: Orders, size: int) -> None:
        self._orders = orders
        self._size = size
        self._threads = ThreadPoolExecutor(max(1, size), thread_name_prefix="worker")
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        self._workers: list[_Worker] = []
        self._starting: list[Future[None]] = []

    def call(self) -> None:
        """Start the workers, without waiting for them; nothing where they run, or where one core is all there is."""
        if self._size < WORTHWHILE or self._starting:
            return
        self._starting = [self._threads.submit(self._start) for _ in range(self._size)]

    def is_ready(self) -> bool:
        """Whether all workers wait for work. One that could not be started, or died, makes this False."""
        return bool(self._starting) and all(each.done() for each in self._starting) and self._is_whole()

    def stage(self, batch: Sequence[Candidate]) -> Future[list[Staging]]:
        """Let a worker stage these.

        The future raises WorkerLost where it died; what it had begun is swept with the staging folder.
        """
        return self._threads.submit(self._ask, batch)

    def kill(self) -> None:
        """Kill the workers: what they were asked for, and whatever they are asked from now on, is WorkerLost."""
        for worker in self._workers:
            worker.kill()

    def dismiss(self) -> None:
        """Stop the workers; `call` starts others."""
        starting, self._starting = self._starting, []
        if wait_for(starting, STOP_SECONDS).not_done:
            self.kill()
        for each in starting:
            each.exception()  # waits; what it raised is not news
        while not self._idle.empty():
            self._idle.get()
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.ask_to_end()
        deadline = time.monotonic() + STOP_SECONDS
        for worker in workers:
            worker.end(deadline)

    def close(self) -> None:
        """Stop the workers for good."""
        self.dismiss()
        self._threads.shutdown()

    def _is_whole(self) -> bool:
        return len(self._workers) == self._size and all(worker.is_alive() for worker in self._workers)

    def _start(self) -> None:
        worker = _Worker(self._orders)
        self._workers.append(worker)
        worker.wait()
        self._idle.put(worker)

    def _ask(self, batch: Sequence[Candidate]) -> list[Staging]:
        worker = self._idle.get()  # as many threads as workers: one is free, or dead
        try:
            return worker.ask(batch)
        finally:
            self._idle.put(worker)


class _Worker:
    """One process, and the two pipes to it."""

    def __init__(self, orders: Orders) -> None:
        # -P: a folder called modelwarden where the daemon was started is not the package.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from modelwarden.pipeline.workers import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(os.environ),
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("asked for pipes")
        self._questions, self._answers = self._process.stdin, self._process.stdout
        self._orders = orders

    def wait(self) -> None:
        """Until it is ready."""
        try:
            with self._heard():
                _write(self._questions, self._orders)
                if self._answers.read(len(_READY)) != _READY:
                    raise WorkerLost
        except OSError as error:
            raise WorkerLost from error

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, batch: Sequence[Candidate]) -> list[Staging]:
        try:
            with self._heard():
                _write(self._questions, batch)
                answer: list[Staging] = pickle.load(self._answers)  # noqa: S301 - our own child, on a pipe of our own
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            self.kill()
            raise WorkerLost from error
        return answer

    def kill(self) -> None:
        self._process.kill()

    def ask_to_end(self) -> None:
        try:
            self._questions.close()
        except OSError:  # it died with a question half read
            self.kill()

    def end(self, deadline: float) -> None:
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self._answers.close()

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """One that stands still, whoever stopped it, must not hold up the daemon: dead, it ends what waits for it."""
        deadline = Timer(SILENCE_SECONDS, self.kill)
        deadline.daemon = True
        deadline.start()
        try:
            yield
        finally:
            deadline.cancel()


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What a worker inherits: it has its orders and needs no network, so no settings, no credentials and no URL."""
    kept = {name: value for name, value in ours.items() if "://" not in value and not _OF_THE_DAEMON.match(name)}
    return kept | {"PYTHONUTF8": "1"}


def _write(stream: IO[bytes], value: object) -> None:
    pickle.dump(value, stream, pickle.HIGHEST_PROTOCOL)
    stream.flush()


def work(questions: IO[bytes], answers: IO[bytes]) -> None:
    """A worker's life: orders, then batches until there are no more."""
    orders: Orders = pickle.load(questions)  # noqa: S301 - from the process that started this one
    tree = Tree(orders.root, orders.owner, staging=orders.staging, make=False)
    stager = Stager(tree, orders.policies, orders.owner, orders.host)
    answers.write(_READY)
    answers.flush()
    while True:
        try:
            batch: Sequence[Candidate] = pickle.load(questions)  # noqa: S301 - likewise
        except (EOFError, pickle.UnpicklingError):  # no more, or cut off in the middle: the daemon was killed
            break
        _write(answers, stager.stage(batch))
        tree.release_names()
    stager.close()


def main() -> None:
    """A worker process."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the daemon decides when its workers end
        signal.signal(number, signal.SIG_IGN)
    try:
        # Opened anew: where PYTHONUNBUFFERED is set, what sys.stdout can't write at once is dropped without a word.
        with (
            open(sys.stdin.fileno(), "rb", closefd=False) as questions,
            open(sys.stdout.fileno(), "wb", closefd=False) as answers,
        ):
            work(questions, answers)
    except BrokenPipeError:  # the daemon was killed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
