"""The daemon's life: start, the wake-or-timeout loop, stop.

The rule: one thread does all the work and every wait has an end. Signals and events only ring; what they mean is found
out here. An exception nobody foresaw is caught in one place, put on record, and costs the file that caused it a pause.
"""

import os
import signal
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Final

from modelwarden.errors import RejectSummary, RetryLater, StorageSuspect
from modelwarden.events import log
from modelwarden.filesystems import show_path
from modelwarden.intake.reading import Gone, Moving, Refused, TooLarge, Whole, read_whole
from modelwarden.intake.scan import Root, Scan, figures_of
from modelwarden.intake.settling import Figures, Settling
from modelwarden.intake.watch import Watch
from modelwarden.pipeline import (
    AlreadyArchived,
    Archived,
    Found,
    Outcome,
    Pipeline,
    Postponed,
    Rejected,
    Unfinished,
)
from modelwarden.service.courier_process import CourierHandle
from modelwarden.service.problems import Problems
from modelwarden.service.systemd import Notifier
from modelwarden.service.wake import Wake
from modelwarden.state.attempts import DEATHS_ALLOWED, Attempts

BATCH_FILES: Final = 512
"""Most summaries in a batch: enough to keep all cores at work, and few enough to stop within a second or two."""

BATCH_BYTES: Final = 64 * 1024 * 1024
"""Most bytes in a batch, so that memory is bounded whatever the backlog."""

SUPERVISE_SECONDS: Final = 5.0
"""Longest wait of the main loop; how soon a lost watch or a dead courier is noticed."""

UNWATCHED_SCAN_SECONDS: Final = 5.0
"""Pause between scans while a folder gives no events."""

SCAN_SHARE: Final = 100
"""A scan may take one part in so many of the time (1 % of a core)."""

WATCHED_SCAN_SHARE: Final = 2000
WATCHED_SCAN_SECONDS: Final = 300.0
"""While events arrive, one part in so many is enough, as long as that is not a longer pause than this."""

LASTING_SECONDS: Final = 60.0
"""How long a watch must be lost until a person hears of it."""

LASTING_TROUBLE: Final = 4.0
"""From this pause on, reached at the third refusal, trouble with the disk or the lock is announced."""

LONGEST_TROUBLE_PAUSE: Final = 60.0
"""Longest pause, in seconds, before what could not be stored is tried again."""


class Service:
    """The parts, and when each is used.

    Args:
        roots: the watched folders.
        excluded: real paths of folders that are never entered.
        watch: hints about the roots.
        settling: when files are ready.
        pipeline: what becomes of them.
        attempts: which files a process died over.
        problems: what a person should hear of.
        courier: the process that delivers.
        notifier: systemd.
        wake: what the watch rings.
        scan_every: seconds between scans while events arrive.
        max_bytes: cap on one file.
        delete_archived: whether a source is removed once its run is safe.

    Attributes:
        rejected: how many files were rejected.
        unseen: how many folders or files the last scan could not look at.
    """

    def __init__(
        self,
        roots: Sequence[Root],
        excluded: Sequence[str],
        watch: Watch,
        settling: Settling,
        pipeline: Pipeline,
        attempts: Attempts,
        problems: Problems,
        courier: CourierHandle,
        notifier: Notifier,
        wake: Wake,
        *,
        scan_every: float,
        max_bytes: int,
        delete_archived: bool,
    ) -> None:
        self._roots = roots
        self._excluded = excluded
        self._watch = watch
        self._settling = settling
        self._pipeline = pipeline
        self._attempts = attempts
        self._problems = problems
        self._courier = courier
        self._notifier = notifier
        self._wake = wake
        self._scan_every = scan_every
        self._max_bytes = max_bytes
        self._delete_archived = delete_archived
        self._stopping = False
        self._watched = False
        self._unwatched_at: float | None = None  # the last moment at which all was watched; None before the first
        self._scanned = False
        self._supervise_at = 0.0
        self._scan_at = 0.0
        self._trouble_pause = 0.0
        self._trouble = ""  # what stood in the way last
        self._unreadable: dict[str, str] = {}
        self.rejected = 0
        self.unseen = 0

    def run(self) -> None:
        """Live until a signal says stop."""
        with _stop_on_signals(self):
            self._start()
            while not self._stopping:
                self._wake.wait(self._pause())
                self._turn()
            self._stop()

    def run_once(self) -> None:
        """Deal with everything that is there, then stop; nothing that was found is left undecided."""
        with _stop_on_signals(self):
            self._start()
            self._turn()
            while len(self._settling) and not self._stopping:
                self._wake.wait(self._pause())
                self._turn()
            self._stop()

    def request_stop(self) -> None:
        """End the loop after the batch under way; safe in a signal handler."""
        self._stopping = True
        self._pipeline.hurry()
        self._wake.ring()

    def look_around(self) -> None:
        """Turn the loop once more now; safe in a signal handler."""
        self._wake.ring()

    def _start(self) -> None:
        self._recover()
        if self._stopping:  # told to stop while it waited: it never was ready
            return
        self._watch.start()
        self._notifier.ready(self._status())
        log.info("ready", runs=len(self._pipeline.archive), folders=[root.path for root in self._roots])

    def _recover(self) -> None:
        """Reconcile; while the lock or the disk is in the way, wait and say so."""
        while not self._stopping:
            try:
                self._pipeline.recover()
            except RetryLater as error:
                log.warning("waiting_to_start", reason=str(error))
                self._notifier.status(f"waiting: {error}")
                self._wake.wait(SUPERVISE_SECONDS)
            else:
                return

    def _stop(self) -> None:
        self._notifier.stopping()
        self._watch.stop()
        self._courier.stop()
        log.info("stopped", runs=len(self._pipeline.archive), waiting=len(self._settling))

    def _pause(self) -> float:
        """How long nothing needs to be done, in seconds."""
        moments = [self._supervise_at, self._scan_at]
        moments += [each for each in (self._settling.next_look(), self._courier.next_look()) if each is not None]
        return max(0.0, min(moments) - time.monotonic())

    def _turn(self) -> None:
        """One turn of the loop: supervise, gather, work on one batch."""
        now = time.monotonic()
        self._courier.supervise(now)
        if now >= self._supervise_at:
            self._watched = self._watch.supervise()
            self._notifier.status(self._status())
            self._look_for_problems(now)
            self._catch_up()
            if not len(self._settling):
                self._pipeline.rest()
            self._supervise_at = now + SUPERVISE_SECONDS
        hints = self._watch.drain()
        if hints.paths:
            resolved = [(root, os.path.realpath(root.path)) for root in self._roots]  # once a turn: it asks the disk
            for path in hints.paths:
                self._follow(path, resolved)
        if hints.rescan or time.monotonic() >= self._scan_at:
            self._scan()
        paths = self._settling.due(time.monotonic(), BATCH_FILES)
        if paths:
            self._work(paths)

    def _catch_up(self) -> None:
        """Record what the disk refused before; where it still does, whatever comes next tells so."""
        with suppress(RetryLater):
            self._pipeline.catch_up()

    def _look_for_problems(self, now: float) -> None:
        """What lasts is announced: a watch that was lost, a folder that fell silent."""
        self._problems.announce()
        if self._watched:
            self._unwatched_at = now
            self._problems.end("watch")
        elif self._unwatched_at is not None and now - self._unwatched_at > LASTING_SECONDS:
            self._problems.begin("watch", "the watch on a folder is lost; it is scanned instead, see the log")
        if self._scanned and not len(self._settling):
            self._problems.look_for_silence()

    def _follow(self, path: str, resolved: Sequence[tuple[Root, str]]) -> None:
        """See what an event was about; the roots come with their real paths."""
        try:
            status = os.lstat(path)
        except OSError:
            if self._settling.forget(path):
                log.debug("gone_before_ready", path=show_path(path))
            return
        for root, top in resolved:
            if not root.holds(path, top, self._excluded):
                continue
            if stat.S_ISDIR(status.st_mode) and root.recursive:
                for found, figures in Scan(root, self._excluded, path):
                    self._see(found, figures, hinted=False)
            elif stat.S_ISREG(status.st_mode) and root.takes(os.path.basename(path)):
                self._see(path, figures_of(status), hinted=True)

    def _scan(self) -> None:
        """Walk every root. What is not in a complete walk any more is forgotten by the ledger."""
        began = time.monotonic()
        seen: set[str] = set()
        devices: set[int] = set()
        problems: list[tuple[str, str]] = []
        fresh: list[tuple[str, Figures]] = []
        for root in self._roots:
            scan = Scan(root, self._excluded)
            for path, figures in scan:
                seen.add(path)
                devices.add(figures[0])
                if not self._is_dealt_with(path, figures):
                    fresh.append((path, figures))
            problems += scan.problems
        for path, figures in sorted(fresh, key=_modified):  # a backlog goes oldest first, as it would have come
            self._settling.seen(path, figures, hinted=False, now=time.monotonic())
        self._scanned = True
        if len(problems) < self.unseen:
            self._watch.folders_changed = True  # what could not be read can be watched now
        self.unseen = len(problems)
        for path, reason in problems:
            self._say_unreadable(path, reason)
        if not problems:
            self._prune(seen, devices)
        took = time.monotonic() - began
        if self._watched:
            pause = max(self._scan_every, min(took * WATCHED_SCAN_SHARE, WATCHED_SCAN_SECONDS))
        else:
            pause = min(self._scan_every, UNWATCHED_SCAN_SECONDS)
        self._scan_at = time.monotonic() + max(pause, took * SCAN_SHARE)
        log.debug("scanned", files=len(seen), seconds=round(took, 3), waiting=len(self._settling))

    def _see(self, path: str, figures: Figures, *, hinted: bool) -> None:
        if not self._is_dealt_with(path, figures):
            self._settling.seen(path, figures, hinted=hinted, now=time.monotonic())

    def _is_dealt_with(self, path: str, figures: Figures) -> bool:
        """Whether the ledger knows the file as it is; a source that a crash kept from being deleted goes now."""
        if not self._pipeline.ledger.is_dealt_with(path, figures):
            return False
        if self._delete_archived and self._pipeline.ledger.was_archived(path):
            self._remove_source(path, figures)
        return True

    def _prune(self, seen: set[str], devices: set[int]) -> None:
        """Forget files that are gone; not those of a device that is not there (unmounted is not deleted)."""
        ledger = self._pipeline.ledger
        gone = [path for path in ledger.paths() if path not in seen and ledger.device(path) in devices]
        if gone:
            try:
                self._pipeline.forget(gone)
            except RetryLater as error:  # the next scan tries again
                log.warning("not_forgotten", files=len(gone), reason=str(error))

    def _work(self, paths: Sequence[str]) -> None:
        """Read what is due and walk it down the pipeline."""
        batch: list[Found] = []
        size = 0
        for path in paths:
            if size > BATCH_BYTES:
                self._settling.again(path, time.monotonic())
                continue
            found = self._read(path)
            if found is not None:
                batch.append(found)
                size += len(found.data)
        suspects = [found for found in batch if self._deaths(found) is not None]
        for found in suspects:
            if self._stopping:
                return
            self._walk_alone(found)
        if rest := [found for found in batch if found not in suspects]:
            self._walk(rest)

    def _deaths(self, found: Found) -> int | None:
        return None if found.figures is None else self._attempts.deaths(found.path, found.figures)

    def _walk_alone(self, found: Found) -> None:
        """A process died while it worked on this file: alone it harms no other, and shows whose fault it was."""
        deaths = self._deaths(found)
        if deaths is None or deaths < DEATHS_ALLOWED:
            self._walk([found])
            return
        error = RejectSummary(
            f"modelwarden died {deaths} times while it worked on this file alone",
            hint="a fault of modelwarden's: report it with the file; touched, the file is tried again",
        )
        self._reject(found.path, found.data, found.figures, error)
        self._attempts.end(_files([found]))

    def _walk(self, batch: Sequence[Found], *, final: bool = False) -> None:
        """Process a batch and deal with its outcomes.

        Args:
            batch: the files as they were read.
            final: none of them is waited for any longer; what is no JSON object is rejected.
        """
        self._attempts.begin(_files(batch))
        try:
            outcomes: Sequence[Outcome] = self._pipeline.process(batch, final=final)
        except Exception:  # noqa: BLE001 - the one broad catch: our fault in one summary must not stop the others
            log.exception("batch_failed", files=[show_path(found.path) for found in batch])
            if len(batch) > 1:
                for found in batch:
                    if not self._stopping:
                        self._walk([found], final=final)
                self._attempts.end(_files(batch))
                return
            outcomes = [Postponed(RetryLater("an error of modelwarden's own; see the log"))]
        self._attempts.end(_files(batch))
        self._measure_trouble(outcomes)
        given_up: list[Found] = []
        for found, outcome in zip(batch, outcomes, strict=True):
            self._conclude(found, outcome, given_up)
        if given_up and not self._stopping:
            self._walk(given_up, final=True)

    def _measure_trouble(self, outcomes: Sequence[Outcome]) -> None:
        """Where anything was refused the pauses grow, whatever else went well; else, once a run is safe, it is over."""
        if any(isinstance(outcome, Postponed) for outcome in outcomes):
            self._trouble_pause = min(LONGEST_TROUBLE_PAUSE, max(1.0, self._trouble_pause * 2))
        elif any(isinstance(outcome, Archived | AlreadyArchived) for outcome in outcomes):
            self._trouble_pause, self._trouble = 0.0, ""
            self._problems.end("storage")

    def _conclude(self, found: Found, outcome: Outcome, given_up: list[Found]) -> None:
        """Deal with one outcome; what stood still unfinished for long enough is added to `given_up`."""
        path, figures = found.path, found.figures
        match outcome:
            case Archived() | AlreadyArchived():
                if isinstance(outcome, Archived):
                    self._problems.came(path)
                self._settling.forget(path)
                if self._delete_archived and figures is not None:
                    self._remove_source(path, figures)
            case Rejected():
                self.rejected += 1
                self._settling.forget(path)
            case Unfinished() if figures is not None and self._settling.unfinished(path, figures, time.monotonic()):
                given_up.append(found)
            case Unfinished(reason):
                log.debug("not_ready", path=show_path(path), reason=reason)
            case Postponed(error):
                self._say_postponed(path, error)
                if isinstance(error, StorageSuspect) or self._trouble_pause >= LASTING_TROUBLE:
                    self._problems.begin(
                        "storage", f"a run can't be archived\n{error}\nnothing is lost: it is tried again"
                    )
                self._settling.again(path, time.monotonic() + self._trouble_pause)

    def _say_postponed(self, path: str, error: RetryLater) -> None:
        """Warn of one trouble once, not of every file and every try that it stops."""
        say = log.debug if error.what == self._trouble else log.warning
        self._trouble = error.what
        say("postponed", path=show_path(path), reason=str(error), seconds=self._trouble_pause)

    def _read(self, path: str) -> Found | None:
        """The file's bytes where it has some; every other end of the read is dealt with here."""
        match read_whole(path, self._max_bytes):
            case Whole(data, figures):
                self._unreadable.pop(path, None)
                if not self._pipeline.ledger.is_dealt_with(path, figures):
                    return Found(path, data, figures)
                self._settling.forget(path)
            case Gone():
                log.debug("gone_before_ready", path=show_path(path))
                self._settling.forget(path)
            case Moving():
                self._settling.again(path, time.monotonic() + 0.05)
            case TooLarge(head, figures):
                self._reject_large(path, head, figures)
            case Refused(reason):
                self._say_unreadable(path, reason)
                self._settling.again(path, time.monotonic() + UNWATCHED_SCAN_SECONDS)
        return None

    def _reject_large(self, path: str, head: bytes, figures: Figures) -> None:
        error = RejectSummary(
            f"{figures[2]} bytes, more than max_bytes = {self._max_bytes}",
            hint="the file stays where it is; its first bytes are kept",
        )
        self._reject(path, head, figures, error)

    def _reject(self, path: str, data: bytes, figures: Figures | None, error: RejectSummary) -> None:
        try:
            self._pipeline.reject(path, data, figures, error)
        except RetryLater as trouble:
            self._settling.again(path, time.monotonic() + LONGEST_TROUBLE_PAUSE)
            log.warning("postponed", path=show_path(path), reason=str(trouble))
        else:
            self.rejected += 1
            self._settling.forget(path)

    def _remove_source(self, path: str, figures: Figures) -> None:
        """Delete a source whose run is safe, unless it changed since it was read."""
        try:
            if figures_of(os.lstat(path)) == figures:
                os.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            self._say_unreadable(path, f"can't be deleted: {error.strerror}")

    def _say_unreadable(self, path: str, reason: str) -> None:
        """Say what the system refuses once, not at every look."""
        if self._unreadable.get(path) != reason:
            self._unreadable[path] = reason
            log.warning("unreadable", path=show_path(path), reason=reason)

    def _status(self) -> str:
        watch = "watching" if self._watched or not self._supervise_at else "scanning only"
        return f"{len(self._pipeline.archive)} runs archived, {len(self._settling)} files waiting, {watch}"


class _stop_on_signals:  # noqa: N801 - reads as the statement it is
    """While entered, SIGTERM and SIGINT request a stop, a child's end a look; the handlers before are put back."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            self._before[number] = signal.signal(number, self._handle)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGCHLD:
            self._service.look_around()
        else:
            self._service.request_stop()


def _files(batch: Sequence[Found]) -> list[tuple[str, Figures]]:
    return [(found.path, found.figures) for found in batch if found.figures is not None]


def _modified(file: tuple[str, Figures]) -> int:
    """When a found file was last modified, in ns."""
    return file[1][3]
