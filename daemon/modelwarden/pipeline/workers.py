"""Worker processes that stage a backlog: one interpreter does one summary at a time, however many cores there are.

The rule: a worker only stages. It has no lock and no state, ends when the pipe that it is asked through does, and what
it was given and did not answer is staged by whoever gave it. Workers are forked before the first thread and before
anything is opened, and live as long as the process: their code is the process's own, whatever is installed meanwhile.
"""

import gc
import os
import signal
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Final, NamedTuple

from modelwarden.archive.tree import Tree
from modelwarden.gate.policy import Policy
from modelwarden.memory import give_back
from modelwarden.pipeline.staging import Candidate, Stager, Staging

WORTHWHILE: Final = 2
"""Fewest workers that are of use: one alone is no faster than the process it would work for."""

STOP_SECONDS: Final = 5.0
"""How long workers may take to end, or for what they were asked once the daemon is to stop, before they are killed."""

SILENCE_SECONDS: Final = 120.0
"""How long a worker may take for one question before all are killed: a few runs, on a disk that everybody writes to."""

REST_SECONDS: Final = 10.0
"""After so long without a question a worker gives back its threads and what memory it can."""

NAME: Final = "modelwarden-wkr"
"""What `ps` and `top` call a worker: up to 15 characters."""

_OF_THE_DAEMON: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that may reach all processes of a service or a terminal: the daemon decides when its workers end."""

_FORK: Final = get_context("fork")


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
    """A worker ended before it answered: killed, out of memory, silent, or an error of ours. See the standard error."""


class Workers:
    """The workers of one process, forked here.

    Args:
        size: how many; none if that is fewer than WORTHWHILE.
    """

    def __init__(self, size: int) -> None:
        self._workers: list[_Worker] = []
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        self._threads = ThreadPoolExecutor(max(1, size), thread_name_prefix="worker")
        if size >= WORTHWHILE:
            gc.collect()
            gc.freeze()  # what is shared stays shared: no collection writes to it
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_DAEMON)  # until a worker ignores them
            try:
                for _ in range(size):
                    self._workers.append(_Worker(self._workers))
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for worker in self._workers:
            self._idle.put(worker)

    def begin(self, orders: Orders) -> None:
        """Give the workers their orders; before the first candidate, and again if they change."""
        for worker in self._workers:
            worker.tell(orders)

    def are_whole(self) -> bool:
        """Whether there are workers, and all of them live. One that died is not replaced: a fork needs no threads."""
        return bool(self._workers) and all(worker.is_alive() for worker in self._workers)

    def stage(self, batch: Sequence[Candidate]) -> Future[list[Staging]]:
        """Let a worker stage these.

        The future raises WorkerLost if it died; what it had begun is swept with the staging folder.
        """
        return self._threads.submit(self._ask, batch)

    def kill(self) -> None:
        """Kill the workers: what they were asked for, and whatever they are asked from now on, is WorkerLost."""
        for worker in self._workers:
            worker.kill()

    def close(self) -> None:
        """Stop the workers. One that stands still is killed."""
        for worker in self._workers:
            worker.ask_to_end()
        deadline = time.monotonic() + STOP_SECONDS
        for worker in self._workers:
            worker.end(deadline)
        self._threads.shutdown()

    def _ask(self, batch: Sequence[Candidate]) -> list[Staging]:
        worker = self._idle.get()  # as many threads as workers: one is free, or dead
        try:
            return worker.ask(batch)
        finally:
            self._idle.put(worker)


class _Worker:
    """One process, and the pipe to it.

    Args:
        others: forked before; the new process has copies of their pipes, which would keep those open.
    """

    def __init__(self, others: Sequence["_Worker"]) -> None:
        self.pipe, theirs = _FORK.Pipe()
        ours = [self.pipe, *(other.pipe for other in others)]
        self._process = _FORK.Process(target=_live, args=(theirs, ours), daemon=True)
        self._process.start()
        self._is_killed = False
        theirs.close()

    def is_alive(self) -> bool:
        return not self._is_killed and self._process.is_alive()

    def tell(self, orders: Orders) -> None:
        try:
            self.pipe.send(orders)
        except OSError:  # it is dead, and `are_whole` says so
            self.kill()

    def ask(self, batch: Sequence[Candidate]) -> list[Staging]:
        try:
            self.pipe.send(batch)
            answer: list[Staging] = self.pipe.recv()
        except (OSError, EOFError) as error:
            self.kill()
            raise WorkerLost from error
        return answer

    def kill(self) -> None:
        self._is_killed = True  # a moment before the system says so
        self._process.kill()

    def ask_to_end(self) -> None:
        self.pipe.close()

    def end(self, deadline: float) -> None:
        self._process.join(max(0.0, deadline - time.monotonic()))
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()


def _live(pipe: Connection, others: Sequence[Connection]) -> None:
    """A worker's life."""
    for number in _OF_THE_DAEMON:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_THE_DAEMON)
    for other in others:
        other.close()
    with suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as name:
        name.write(NAME)
    try:
        _work(pipe)
    except (EOFError, ConnectionError):  # no more to do, or nobody to tell: the daemon stops, or was killed
        os._exit(0)  # without what a Python process does at its end: none of it is ours


def _work(pipe: Connection) -> None:
    """Orders, then batches until there are no more; other orders may come between two batches."""
    tree: Tree | None = None
    stager: Stager | None = None
    has_worked = False
    while True:
        if has_worked and stager is not None and not pipe.poll(REST_SECONDS):
            has_worked = False
            stager.close()
            give_back()
        asked = pipe.recv()
        if isinstance(asked, Orders):
            if stager is not None:
                stager.close()
            tree = Tree(asked.root, asked.owner, staging=asked.staging, make=False)
            stager = Stager(tree, asked.policies, asked.owner, asked.host)
        elif tree is not None and stager is not None:
            pipe.send(stager.stage(asked))
            has_worked = True
            tree.release_names()
