"""What a person should hear of although no run says it: trouble that lasts, and folders that fall silent.

The rule: an episode is announced once when it begins, a silence once more when it ends; a state file that refuses
delays an announcement and loses none.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from modelwarden.errors import RetryLater
from modelwarden.filesystems import path_text, show_path
from modelwarden.intake.scan import is_inside
from modelwarden.log import log
from modelwarden.pipeline.recording import Recorder
from modelwarden.state.expectations import Expectation
from modelwarden.state.messages import Event, Kind, Noticed

KEPT_SECONDS: Final = 60.0
"""How exactly the table has it when a folder last spoke: a transaction a summary would be too many. What counts is the
exact moment, which this process knows, and the catalog after a restart.
"""


class Expected(NamedTuple):
    """A watched folder from which a summary is expected, and within how many seconds each."""

    path: str
    within: float


class Problems:
    """Announces episodes of trouble.

    Args:
        recorder: owes the messages.
        host: named in each.
        expected: the folders that may not fall silent.
        clock: seconds since the epoch.
        timer: seconds that only ever grow: a stepped clock is no silence.
    """

    def __init__(
        self,
        recorder: Recorder,
        host: str,
        expected: Sequence[Expected],
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._recorder = recorder
        self._host = host
        self._expected = expected
        self._clock = clock
        self._timer = timer
        self._heard: dict[str, float] = {}  # by folder, when the last summary came, on the timer
        self._episodes: dict[str, Event] = {}
        self._unannounced: list[Event] = []

    def begin(self, what: str, text: str) -> None:
        """An episode of that kind is on; announced if it was not on before."""
        if what not in self._episodes:
            event = self._event(what, text)
            self._episodes[what] = event
            self._unannounced.append(event)
            log.info("problem_announced", what=what)
            self.announce()

    def end(self, what: str) -> None:
        """The episode, if there was one, is over."""
        if self._episodes.pop(what, None) is not None:
            log.info("problem_over", what=what)

    def announce(self) -> None:
        """Owe what the state file did not take so far."""
        while self._unannounced:
            try:
                self._recorder.announce(self._unannounced[0])
            except RetryLater:
                return
            del self._unannounced[0]

    def came(self, path: str, at: float) -> None:
        """A summary was archived from this path, where it was first seen at that moment of the timer."""
        for folder, _ in self._expected:
            if is_inside(path, os.path.realpath(folder)):
                self._spoke(folder, at)

    def look_for_silence(self, waiting: Iterable[tuple[str, float]], scanned_at: float) -> bool:
        """Announce the folders from which no summary came for longer than expected; False if a scan must come first.

        Args:
            waiting: files that are not dealt with, each with the moment of the timer at which it was first seen: they
                came, whatever keeps them from the archive.
            scanned_at: when the last scan began, on the timer. Only a scan that began when the summary was overdue
                shows that there is none: hints may be late, or never come.
        """
        if not self._expected:
            return True
        files, is_certain = list(waiting), True
        for folder, within in self._expected:
            inside = os.path.realpath(folder)
            try:
                known = self._recorder.expectations.of(folder, self._clock())
                heard = max([self._heard_from(folder, known), *(at for path, at in files if is_inside(path, inside))])
                silent = self._timer() - heard
                if known.is_overdue or silent <= within:
                    continue
                if scanned_at <= heard + within:
                    is_certain = False
                    continue
                since = self._clock() - silent
                text = f"no summary in {show_path(folder)} since {_moment(since)}"
                hint = f"expected every {_duration(within)}: is the trainer alive?"
                self._note(folder, Expectation(since, is_overdue=True), f"{text}\n{hint}")
            except RetryLater:
                break
        return is_certain

    def _heard_from(self, folder: str, known: Expectation) -> float:
        """When the last summary came from a folder, on the timer; what came before this process, by the state file."""
        if folder not in self._heard:
            archived_at = self._recorder.catalog.last_archived_below(path_text(os.path.realpath(folder)))
            seen_at = known.seen_at if archived_at is None else max(known.seen_at, archived_at)
            self._heard[folder] = self._timer() - max(0.0, self._clock() - seen_at)
        return self._heard[folder]

    def _spoke(self, folder: str, at: float) -> None:
        now = self._clock()
        try:
            known = self._recorder.expectations.of(folder, now)
            self._heard[folder] = max(at, self._heard_from(folder, known))
            seen_at = now - (self._timer() - self._heard[folder])
            if known.is_overdue:
                text = f"summaries come again in {show_path(folder)}\nthe last before was of {_moment(known.seen_at)}"
                self._note(folder, Expectation(seen_at, is_overdue=False), text)
            elif abs(seen_at - known.seen_at) > KEPT_SECONDS:
                self._recorder.expectations.note(folder, Expectation(seen_at, is_overdue=False))
        except RetryLater:
            return  # the next summary, or the next look, tries again

    def _note(self, folder: str, expectation: Expectation, text: str) -> None:
        """Record and announce together."""
        event = self._event(f"silence:{path_text(folder)}:{expectation.is_overdue}", text)
        self._recorder.expectations.note(folder, expectation, lambda: self._recorder.owe(event))
        self._recorder.ring()
        log.warning("summaries_missing" if expectation.is_overdue else "summaries_again", folder=show_path(folder))

    def _event(self, what: str, text: str) -> Event:
        now = self._clock()  # told, since a message may arrive days later
        told = f"{text}\nnoticed: {_moment(now)}\nhost: {self._host}"
        return Event(f"problem:{what}:{now:.3f}", Kind.PROBLEM, (Kind.PROBLEM,), Noticed(told))


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _duration(seconds: float) -> str:
    """In the largest unit that leaves no rest."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"
