"""What a person should hear of although no run says it: trouble that lasts, and folders that fall silent.

The rule: an episode is announced once when it begins, a silence once more when it ends; a state file that refuses
delays an announcement and loses none.
"""

import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from modelwarden.errors import RetryLater
from modelwarden.events import log
from modelwarden.filesystems import path_text, show_path
from modelwarden.intake.scan import is_inside
from modelwarden.pipeline.walk import Pipeline
from modelwarden.state.expectations import Expectation
from modelwarden.state.outbox import Event, Kind

KEPT_SECONDS: Final = 60.0
"""How exactly it is remembered when a folder last spoke: a transaction a summary would be too many."""


class Expected(NamedTuple):
    """A watched folder from which a summary is expected, and within how many seconds each."""

    path: str
    within: float


class Problems:
    """Announces episodes of trouble.

    Args:
        pipeline: owes the messages.
        host: named in each.
        expected: the folders that may not fall silent.
        clock: seconds since the epoch.
    """

    def __init__(
        self, pipeline: Pipeline, host: str, expected: Sequence[Expected], clock: Callable[[], float] = time.time
    ) -> None:
        self._pipeline = pipeline
        self._host = host
        self._expected = expected
        self._clock = clock
        self._episodes: dict[str, Event] = {}
        self._unannounced: list[Event] = []

    def begin(self, what: str, text: str) -> None:
        """An episode of that kind is on; announced where it was not on before."""
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
                self._pipeline.announce(self._unannounced[0])
            except RetryLater:
                return
            del self._unannounced[0]

    def came(self, path: str) -> None:
        """A summary was archived from this path."""
        for folder, _ in self._expected:
            if is_inside(path, os.path.realpath(folder)):
                self._spoke(folder)

    def look_for_silence(self) -> None:
        """Announce the folders from which no summary came for longer than expected."""
        for folder, within in self._expected:
            now = self._clock()
            try:
                known = self._pipeline.expectations.of(folder, now)
                if not known.is_overdue and now - known.seen_at > within:
                    text = f"no summary in {show_path(folder)} since {_moment(known.seen_at)}"
                    hint = f"expected every {_duration(within)}: is the trainer alive?"
                    self._note(folder, Expectation(known.seen_at, is_overdue=True), f"{text}\n{hint}")
            except RetryLater:
                return

    def _spoke(self, folder: str) -> None:
        now = self._clock()
        try:
            known = self._pipeline.expectations.of(folder, now)
            if known.is_overdue:
                text = f"summaries come again in {show_path(folder)}\nthe last before was of {_moment(known.seen_at)}"
                self._note(folder, Expectation(now, is_overdue=False), text)
            elif abs(now - known.seen_at) > KEPT_SECONDS:
                self._pipeline.expectations.note(folder, Expectation(now, is_overdue=False))
        except RetryLater:
            return  # the next summary, or the next look, tries again

    def _note(self, folder: str, expectation: Expectation, text: str) -> None:
        """Record and announce together."""
        event = self._event(f"silence:{path_text(folder)}:{expectation.is_overdue}", text)
        self._pipeline.expectations.note(folder, expectation, lambda: self._pipeline.owe(event))
        log.warning("summaries_missing" if expectation.is_overdue else "summaries_again", folder=show_path(folder))

    def _event(self, what: str, text: str) -> Event:
        now = self._clock()  # told, since a message may arrive days later
        told = f"{text}\nnoticed: {_moment(now)}\nhost: {self._host}"
        return Event(f"problem:{what}:{now:.3f}", Kind.PROBLEM, (Kind.PROBLEM,), None, told)


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _duration(seconds: float) -> str:
    """In the largest unit that leaves no rest."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"
