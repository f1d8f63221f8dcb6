"""The source files: what is due is read and walked down the pipeline, and each outcome decides what follows.

The rule: a source is let go only when the ledger has it. An exception nobody foresaw is caught here and nowhere else,
put on record, and costs the file that caused it a pause; what can't be stored is tried again, ever more slowly.
"""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from modelwarden.archive.outcomes import AlreadyArchived, Archived, Outcome, Postponed, Pruned, Rejected, Unfinished
from modelwarden.errors import RejectSummary, RetryLater, StorageSuspect
from modelwarden.filesystems import show_path
from modelwarden.fingerprint import Fingerprint
from modelwarden.intake.reading import Gone, Moving, NotAFile, Refused, TooDense, TooLarge, Whole, read_whole
from modelwarden.intake.removal import Kept, NotRemoved, Removed, remove_source
from modelwarden.intake.settling import Settling
from modelwarden.log import log
from modelwarden.pipeline.policies import Policies
from modelwarden.pipeline.walk import Found, Pipeline
from modelwarden.service.attempts import DEATHS_ALLOWED, Attempts
from modelwarden.service.endings import Endings
from modelwarden.service.metrics import DaemonMetrics
from modelwarden.service.problems import Problems
from modelwarden.service.trainings import Trainings

BATCH_BYTES: Final = 64 * 1024 * 1024
"""Most bytes in a batch, so that memory is bounded whatever the backlog."""

UNREADABLE_SECONDS: Final = 5.0
"""Pause before a file that could not be read is tried again."""

LASTING_TROUBLE: Final = 4.0
"""From this pause on, reached at the third refusal, trouble with the disk or the lock is announced."""

LONGEST_TROUBLE_PAUSE: Final = 60.0
"""Longest pause, in seconds, before what could not be stored is tried again."""


class _Refusal(NamedTuple):
    """Why a path can't be read, or deleted, and since which moment of the monotonic clock."""

    reason: str
    since: float


class Processing:
    """The files that trainers leave, from the moment they are due.

    Args:
        settling: when files are ready; hears what became of them.
        pipeline: where they go.
        attempts: which summaries a process died over.
        problems: what a person should hear of.
        metrics: counts what becomes of them.
        max_bytes: cap on one file.
        delete_archived: whether a source is removed once its run is safe; never one that a format read.
        policies: which folders' files a format reads; None: none.
        endings: says which of these are worth reading.
        ring: called when there is an answer about a trainer's file.

    Attributes:
        rejected: how many files were rejected.
        trouble_pause: seconds before what was refused is tried again; 0 while nothing is.
    """

    def __init__(
        self,
        settling: Settling,
        pipeline: Pipeline,
        attempts: Attempts,
        problems: Problems,
        metrics: DaemonMetrics,
        *,
        max_bytes: int,
        delete_archived: bool,
        policies: Policies | None = None,
        endings: Endings | None = None,
        ring: Callable[[], object] = lambda: None,
    ) -> None:
        self._settling = settling
        self._pipeline = pipeline
        self._recorder = pipeline.recorder
        self._attempts = attempts
        self._problems = problems
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._delete_archived = delete_archived
        self._policies = policies
        self._endings = endings or Endings(settling, 0.0)
        self._trainings = Trainings(
            settling, self._endings, policies, self._read, self._reject_found, self.is_dealt_with, ring, max_bytes
        )
        self._in_haste = False
        self._trouble = ""  # what stood in the way last
        self._unreadable: dict[str, _Refusal] = {}
        self.rejected = 0
        self.trouble_pause = 0.0

    def hurry(self) -> None:
        """The batch under way is the last; safe in a signal handler."""
        self._in_haste = True
        self._trainings.hurry()
        self._pipeline.hurry()

    @property
    def has_work(self) -> bool:
        """Whether something is to be done though no file is due: a trainer's file was read."""
        return self._trainings.has_work

    def leave_unfinished(self) -> None:
        """Wait for no training that goes on."""
        self._trainings.waits = False

    def rest(self) -> None:
        """Give back what reading trainers' files needed, if there was none for a while."""
        self._trainings.rest()

    def close(self) -> None:
        """End what reads trainers' files."""
        self._trainings.close()

    def is_dealt_with(self, path: str, fingerprint: Fingerprint) -> bool:
        """Whether the ledger knows the file as it is; a source that a crash kept from being deleted goes now.

        Also for a trainer's file that is none of its format's, or waits for its end.
        """
        if self._endings.is_waiting(path, fingerprint) or not self._is_taken(path):
            return True
        if not self._recorder.ledger.is_dealt_with(path, fingerprint):
            return False
        run = self._recorder.ledger.run(path)
        if self._delete_archived and run is not None and self._pipeline.archive.tree.holds(run):
            self._remove_source(path, fingerprint)
        return True

    def _has_format(self, path: str) -> bool:
        """Whether a format reads it: such a file is its trainer's, who needs it to go on with the training."""
        folder = self._policies.folder_of(path) if self._policies is not None else None
        return folder is not None and folder.format is not None

    def _is_taken(self, path: str) -> bool:
        """Whether any folder takes the file: a format may ask for more than a name."""
        return self._policies is None or not self._policies.has_formats or self._policies.folder_of(path) is not None

    def forget_gone(self, seen: set[str], devices: set[int]) -> None:
        """Forget files that are gone; not those of a device that is not there (unmounted is not deleted)."""
        self._endings.forget_gone(seen)
        ledger = self._recorder.ledger
        gone = [path for path in ledger.paths() if path not in seen and ledger.device(path) in devices]
        gone = [path for path in gone if not os.path.lexists(path)]  # it came behind the walk
        if gone:
            try:
                self._recorder.forget(gone)
            except RetryLater as error:  # the next scan tries again
                log.warning("not_forgotten", files=len(gone), reason=str(error))

    def say_unreadable(self, path: str, reason: str) -> None:
        """Say what the system refuses once, not at every look; nothing of what is gone: a folder's watch says that."""
        if _is_gone(path):
            return
        known = self._unreadable.get(path)
        if known is None or known.reason != reason:
            self._unreadable[path] = _Refusal(reason, time.monotonic() if known is None else known.since)
            log.warning("unreadable", path=show_path(path), reason=reason)

    def refused_since(self, moment: float) -> list[tuple[str, str]]:
        """What the system refuses since then and still does: paths and reasons, the longest first."""
        for path in [path for path in self._unreadable if _is_over(path)]:
            del self._unreadable[path]
        return [(path, refusal.reason) for path, refusal in self._unreadable.items() if refusal.since <= moment]

    def work(self, paths: Sequence[str]) -> None:
        """Read what is due and walk it down the pipeline."""
        batch: list[Found] = []
        size = 0
        for path in paths:
            folder = self._policies.folder_of(path) if self._policies is not None else None
            if size > BATCH_BYTES or self._in_haste:
                self._settling.again(path, time.monotonic())
            elif folder is not None and folder.format is not None:
                self._trainings.take(path, folder)
            elif (found := self._read(path)) is not None:
                batch.append(found)
                size += len(found.data)
        batch += self._trainings.go_on()
        self._work_on(batch)
        self._trainings.see_late()

    def _work_on(self, batch: Sequence[Found]) -> None:
        """Walk what was read down the pipeline."""
        suspects = [(found, deaths) for found in batch if (deaths := self._deaths(found))]
        under_suspicion = {found.path for found, _ in suspects}
        if rest := [found for found in batch if found.path not in under_suspicion]:
            self._walk(rest)
        for found, deaths in suspects:  # last, for one of them may end the process again
            if self._in_haste:
                return
            self._walk_alone(found, deaths)

    def _deaths(self, found: Found) -> int:
        """How often a process died over these bytes; they are hashed only if anything is under suspicion."""
        return self._attempts.deaths(hashlib.sha256(found.data).hexdigest()) if self._attempts else 0

    def _walk_alone(self, found: Found, deaths: int) -> None:
        """A process died while it judged this summary: alone it holds up no other."""
        if deaths < DEATHS_ALLOWED:
            self._walk([found])
            return
        error = RejectSummary(
            f"modelwarden died {deaths} times while it judged this summary",
            hint="a fault of modelwarden's: report it with the file; touched, the file is tried again",
        )
        self._reject_found(found, error)
        self._attempts.forgive(hashlib.sha256(found.data).hexdigest())

    def _walk(self, batch: Sequence[Found], *, final: bool = False) -> None:
        """Process a batch and deal with its outcomes.

        Args:
            batch: the files as they were read.
            final: none of them is waited for any longer; what is no JSON object is rejected.
        """
        try:
            outcomes: Sequence[Outcome] = self._pipeline.process(batch, final=final)
        except Exception:  # noqa: BLE001 - the one broad catch: our fault in one summary must not stop the others
            log.exception("batch_failed", files=[show_path(found.path) for found in batch])
            if len(batch) > 1:
                for found in batch:
                    if not self._in_haste:
                        self._walk([found], final=final)
                return
            outcomes = [Postponed(RetryLater("an error of modelwarden's own; see the log"))]
        self._measure_trouble(outcomes)
        given_up = [found for found, outcome in zip(batch, outcomes, strict=True) if self._conclude(found, outcome)]
        if given_up and not self._in_haste:
            self._walk(given_up, final=True)

    def _measure_trouble(self, outcomes: Sequence[Outcome]) -> None:
        """Where anything was refused the pauses grow, whatever else went well; else, once a run is safe, it is over."""
        errors = {id(outcome.error): outcome.error for outcome in outcomes if isinstance(outcome, Postponed)}
        for error in errors.values():  # one may hold up a whole group
            self._metrics.refused(error)
        if errors:
            self.trouble_pause = min(LONGEST_TROUBLE_PAUSE, max(1.0, self.trouble_pause * 2))
        elif any(isinstance(outcome, Archived | AlreadyArchived) for outcome in outcomes):
            self.trouble_pause, self._trouble = 0.0, ""
            self._problems.end("storage")

    def _conclude(self, found: Found, outcome: Outcome) -> bool:
        """Deal with one outcome; True if the file stood still unfinished for long enough to be given up."""
        path, fingerprint = found.path, found.fingerprint
        match outcome:
            case Archived() | AlreadyArchived():
                if isinstance(outcome, Archived):
                    now = time.monotonic()
                    since = self._settling.since(path, now)
                    self._metrics.archived(outcome.run, now - since)
                    self._problems.came(path, since)
                else:
                    self._metrics.came_to("already_archived")
                self._forget(found)
                if self._delete_archived and fingerprint is not None:
                    self._remove_source(path, fingerprint)
            case Pruned(name):
                self._metrics.came_to("pruned")
                self._settling.forget(path)
                log.info("pruned_left_alone", path=show_path(path), run=name, hint=f"{_AGAIN} {show_path(path)}")
            case Rejected():
                self.rejected += 1
                self._metrics.came_to("rejected")
                self._forget(found)
            case Unfinished() if fingerprint is not None and self._settling.unfinished(
                path, fingerprint, time.monotonic()
            ):
                return True
            case Unfinished():
                log.debug("not_ready", path=show_path(path), reason=outcome.reason)
            case Postponed(error):
                self._metrics.came_to("postponed")
                self._say_postponed(path, error)
                if isinstance(error, StorageSuspect) or self.trouble_pause >= LASTING_TROUBLE:
                    self._problems.begin(
                        "storage", f"a run can't be archived\n{error}\nnothing is lost: it is tried again"
                    )
                self._settling.again(path, time.monotonic() + self.trouble_pause)
        return False

    def _forget(self, found: Found) -> None:
        """It was dealt with: the file, and those that it was read with."""
        for path in (found.path, *(member for member, _ in found.members)):
            self._settling.forget(path)

    def _say_postponed(self, path: str, error: RetryLater) -> None:
        """Warn of one trouble once, not of every file and every try that it stops."""
        say = log.debug if error.what == self._trouble else log.warning
        self._trouble = error.what
        say("postponed", path=show_path(path), reason=str(error), seconds=self.trouble_pause)

    def _read(self, path: str) -> Found | None:
        """The file's bytes if it has some; every other end of the read is dealt with here."""
        reading = read_whole(path, self._max_bytes)
        if not isinstance(reading, Refused):
            self._unreadable.pop(path, None)
        match reading:
            case Whole(data, fingerprint):
                if not self._recorder.ledger.is_dealt_with(path, fingerprint):
                    return Found(path, data, fingerprint)
                self._settling.forget(path)
            case Gone():
                log.debug("gone_before_ready", path=show_path(path))
                self._settling.forget(path)
            case Moving():
                self._settling.again(path, time.monotonic() + 0.05)
            case NotAFile(kind):
                log.debug("not_a_file", path=show_path(path), kind=kind)
                self._settling.forget(path)
            case TooLarge(data, fingerprint) | TooDense(data, fingerprint) as large:
                self._reject(path, data, fingerprint, large.error(self._max_bytes))
            case Refused(reason):
                self.say_unreadable(path, reason)
                self._settling.again(path, time.monotonic() + UNREADABLE_SECONDS)
        return None

    def _reject_found(self, found: Found, error: RejectSummary) -> None:
        group = found if found.folder else None
        self._reject(found.path, found.data, found.fingerprint, error, group)

    def _reject(
        self, path: str, data: bytes, fingerprint: Fingerprint | None, error: RejectSummary, group: Found | None = None
    ) -> None:
        try:
            self._pipeline.reject(path, data, fingerprint, error, group)
        except RetryLater as trouble:
            self._metrics.came_to("postponed")
            self._metrics.refused(trouble)
            self._settling.again(path, time.monotonic() + LONGEST_TROUBLE_PAUSE)
            log.warning("postponed", path=show_path(path), reason=str(trouble))
        else:
            self.rejected += 1
            self._metrics.came_to("rejected")
            self._forget(group or Found(path, data, fingerprint))

    def _remove_source(self, path: str, fingerprint: Fingerprint) -> None:
        """Delete a source whose run is safe, if it is still the file that was archived, and no trainer's own file."""
        if self._has_format(path):
            return
        match remove_source(path, fingerprint):
            case Removed():
                return
            case Kept(where) if where != path:  # a next summary came between: it is under no name that hints tell of
                with suppress(OSError):
                    self._settling.seen(where, Fingerprint.of(os.lstat(where)), hinted=True, now=time.monotonic())
            case Kept():
                log.debug("source_kept", path=show_path(path), reason="changed since, or still open for writing")
            case NotRemoved(reason):
                self.say_unreadable(path, f"can't be deleted: {reason}")


_AGAIN: Final = "it was pruned; to have it again: modelwarden archive"


def _is_over(path: str) -> bool:
    """Whether it is gone, or a folder that may be read now; of a file the next try to read it tells."""
    return _is_gone(path) or (os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK, effective_ids=True))


def _is_gone(path: str) -> bool:
    """Whether nothing is there; what lies in a folder that may not be entered is not gone."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
