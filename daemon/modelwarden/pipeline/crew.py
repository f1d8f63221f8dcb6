"""Who stages: this process, or its workers if there is a backlog; in groups, as they are ready.

The rule: whatever becomes of a worker, each summary is handed on once, staged or with its reason, in order.
"""

import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Final, Generic, TypeVar

from modelwarden.filesystems import show_path
from modelwarden.log import log
from modelwarden.pipeline.staging import DRAFTS, Candidate, Stager, Staging
from modelwarden.pipeline.workers import SILENCE_SECONDS, STOP_SECONDS, WorkerLost, Workers

GROUP: Final = 64
"""Most runs that are published, indexed and recorded together: what that costs is paid once a group."""

LARGE_GROUP: Final = 512
"""The same while a commit writes much of index.json anew: old summaries go far from its end."""

MUCH: Final = 1 << 20
"""Bytes of index.json: to write and sync so many takes as long as to publish some ten runs."""

BACKLOG: Final = 2 * DRAFTS
"""From so many new summaries in a batch on, more than one worker process has something to do."""

S = TypeVar("S")


class Crew(Generic[S]):
    """All that stages.

    Args:
        stager: this process.
        workers: the others; the caller's to close.
        candidate: what is to be staged of a summary, and whether its name must be reserved: a worker can't see what
            others reserve.
        index_bytes: how much of index.json the last commit wrote.
    """

    def __init__(
        self,
        stager: Stager,
        workers: Workers,
        candidate: Callable[[S, bool], Candidate],
        index_bytes: Callable[[], int],
    ) -> None:
        self._stager = stager
        self._workers = workers
        self._candidate = candidate
        self._index_bytes = index_bytes
        self._in_haste = False

    def rest(self) -> None:
        """End this process's threads; a next batch that needs some has new ones."""
        self._stager.close()

    def hurry(self) -> None:
        """Nobody waits long for a worker any more; safe in a signal handler."""
        self._in_haste = True

    def stage(self, summaries: Sequence[S]) -> Generator[Sequence[tuple[S, Staging]]]:
        """Stage all; hand them on in groups as they are ready, in order."""
        if len(summaries) >= BACKLOG and self._workers.are_whole():
            yield from self._stage_by_workers(summaries)
        else:
            done = 0
            while done < len(summaries):
                size = self._group_size()
                yield self.stage_here(summaries[done : done + size])
                done += size

    def stage_here(self, summaries: Sequence[S]) -> Sequence[tuple[S, Staging]]:
        """Stage these in this process, as one group."""
        staged = self._stager.stage([self._candidate(each, False) for each in summaries])
        return list(zip(summaries, staged, strict=True))

    def _group_size(self) -> int:
        return GROUP if self._index_bytes() < MUCH else LARGE_GROUP

    def _stage_by_workers(self, summaries: Sequence[S]) -> Generator[Sequence[tuple[S, Staging]]]:
        """The workers go on while a group is published and recorded."""
        chunks = [[(each, self._candidate(each, True)) for each in chunk] for chunk in _chunks(summaries)]
        asked = [(chunk, self._workers.stage([candidate for _, candidate in chunk])) for chunk in chunks]
        group: list[tuple[S, Staging]] = []
        size = self._group_size()
        if size == GROUP:
            size = DRAFTS  # somebody may wait for the first of a burst; not if that writes much of the index twice
        try:
            while asked:
                chunk, answer = asked.pop(0)
                summaries = [each for each, _ in chunk]
                try:
                    group += zip(summaries, self._answer(answer), strict=True)
                except WorkerLost:
                    log.warning("worker_lost", files=[show_path(each.source.path) for _, each in chunk])
                    group += self.stage_here(summaries)
                if len(group) >= size or not asked:
                    yield group
                    group, size = [], self._group_size()
        finally:  # the batch ended early: nobody may still be staging when its staging folder is cleared
            for _, answer in asked:
                if not answer.cancel():
                    with suppress(WorkerLost):
                        self._answer(answer)

    def _answer(self, answer: Future[list[Staging]]) -> list[Staging]:
        """Wait for a worker's answer; not for ever for one that stands still, and not long if in haste.

        Raises:
            WorkerLost: it died, or was killed for its silence.
        """
        silent_at = time.monotonic() + SILENCE_SECONDS
        while True:
            try:
                return answer.result(STOP_SECONDS)
            except TimeoutError:
                if self._in_haste or time.monotonic() > silent_at:
                    self._workers.kill()


def _chunks(summaries: Sequence[S]) -> list[Sequence[S]]:
    """What a worker is asked for at once."""
    return [summaries[start : start + DRAFTS] for start in range(0, len(summaries), DRAFTS)]
