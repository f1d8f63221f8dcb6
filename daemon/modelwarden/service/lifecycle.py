"""The daemon's life: start, the wake-or-timeout loop, stop.

The rule: one thread does all the work and every wait has an end. Signals and hints only ring; what they mean is found
out here.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from types import FrameType
from typing import Final

from modelwarden.errors import NotTheArchive, RetryLater, StopService
from modelwarden.filesystems import show_path
from modelwarden.intake.settling import Settling
from modelwarden.log import log
from modelwarden.pipeline.walk import Pipeline
from modelwarden.service.courier_process import CourierHandle
from modelwarden.service.discovery import Discovery
from modelwarden.service.metrics import DaemonMetrics, NoMetrics, Readings, Room
from modelwarden.service.problems import Problems
from modelwarden.service.processing import Processing
from modelwarden.service.standing import Standing, StandingFile
from modelwarden.service.systemd import Notifier
from modelwarden.service.wake import Wake

BATCH_FILES: Final = 512
"""Most summaries in a batch: enough to keep all cores at work, and few enough to stop within a second or two."""

FIRST_FILES: Final = 64
"""Most in the first batch after a pause: all of it is read before its first run is made, and somebody may wait."""

SUPERVISE_SECONDS: Final = 5.0
"""Longest wait of the main loop; how soon a lost watch or a dead courier is noticed."""

LASTING_SECONDS: Final = 60.0
"""How long a watch must be lost, or a file be refused, until a person hears of it."""

_SHOWN: Final = 3
"""Paths that are named in a message."""

_NONE: Final = NoMetrics()


class Service:
    """The parts, and when each is used.

    Args:
        discovery: finds the files.
        settling: says which are due.
        processing: deals with them.
        pipeline: what they go through.
        problems: what a person should hear of.
        courier: the process that delivers.
        notifier: systemd.
        wake: what the watch rings.
        found: called when the archive is found: at the start, and when it is back.
        standing: what is said to who asks.
        metrics: what is counted for who asks over weeks.
        rooms: how large the disks are, and what is left of them.
        read_settings: on a hang-up, reads the settings again, for the next life, and raises StopService if they are
            wrong; None if a hang-up is the end, as at a terminal that is closed.

    Attributes:
        ends_to_reload: whether this life ends for one with other settings.
    """

    def __init__(
        self,
        discovery: Discovery,
        settling: Settling,
        processing: Processing,
        pipeline: Pipeline,
        problems: Problems,
        courier: CourierHandle,
        notifier: Notifier,
        wake: Wake,
        standing: StandingFile,
        metrics: DaemonMetrics = _NONE,
        rooms: Callable[[], Mapping[str, Room]] = dict,
        found: Callable[[], None] = lambda: None,
        read_settings: Callable[[], None] | None = None,
    ) -> None:
        self._discovery = discovery
        self._settling = settling
        self._processing = processing
        self._pipeline = pipeline
        self._problems = problems
        self._courier = courier
        self._notifier = notifier
        self._wake = wake
        self._standing = standing
        self._metrics = metrics
        self._rooms = rooms
        self._since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self._found = found
        self._read_settings = read_settings
        self._refused = ""  # why the settings as they are on disk now are not in force
        self._reload_asked = False
        self.ends_to_reload = False
        self._stopping = False
        self._away = ""  # why the archive is not the one that the state knows; "" while it is
        self._watched_at: float | None = None  # the last moment at which all was watched; None before the first
        self._supervise_at = 0.0
        self._most_files = FIRST_FILES

    @property
    def is_all_well(self) -> bool:
        """Whether the archive was there, no file was rejected, and the last scan could look at everything."""
        return not self._away and self._processing.rejected == self._discovery.unseen == 0

    def run(self) -> bool:
        """Live until a signal says stop; whether it is to live again with the settings that were read last."""
        with _stop_on_signals(self):
            self._start()
            while not self._stopping:
                self._wake.wait(self._pause())
                self._turn()
                self._reload()
            self._stop()
        return self.ends_to_reload

    def run_once(self) -> None:
        """Deal with everything that is there, then stop; nothing is left undecided but trainings that go on."""
        self._processing.leave_unfinished()
        with _stop_on_signals(self):
            self._start(waits=False)
            self._turn()
            while (len(self._settling) or not self._discovery.has_scanned) and not self._stopping and not self._away:
                self._wake.wait(self._pause())
                self._turn()
            self._stop()

    def request_stop(self) -> None:
        """End the loop after the batch under way; safe in a signal handler."""
        self._stopping = True
        self._notifier.ends()
        self._processing.hurry()
        self._wake.ring()

    def hang_up(self) -> None:
        """Read the settings again after the batch under way, or end; safe in a signal handler."""
        if self._read_settings is None:
            self.request_stop()
        self._reload_asked = True
        self._wake.ring()

    def look_around(self) -> None:
        """Turn the loop once more now; safe in a signal handler."""
        self._wake.ring()

    def _start(self, *, waits: bool = True) -> None:
        self._recover(waits=waits)
        if self._stopping or self._away:  # told to stop while it waited: it never was ready
            return
        self._discovery.start()
        self._notifier.ready(self._status())
        self._stand()
        log.info("ready", runs=len(self._pipeline.archive), folders=self._discovery.folders)

    def _recover(self, *, waits: bool = True) -> None:
        """Reconcile; while that can't be done, wait and say so.

        Args:
            waits: whether also for an archive that is away.
        """
        while not self._stopping and not self._reconciles():
            if self._away and not waits:
                return
            self._courier.supervise(time.monotonic())  # a problem is to be heard of now
            self._wake.wait(SUPERVISE_SECONDS)
            self._notifier.alive()
            self._reload()

    def _reconciles(self) -> bool:
        """Reconcile; False, and said, while the archive is away, or the lock or the disk is in the way."""
        try:
            self._pipeline.upkeep.recover()
        except NotTheArchive as error:
            self._say_away(error)
            return False
        except RetryLater as error:
            log.warning("waiting_to_start", reason=str(error))
            self._metrics.refused(error)
            self._notifier.ready(f"waiting: {error}")  # ready: a full disk must not hold up the host's start
            self._stand(f"it waits: {error}")
            return False
        self._found()
        if self._away:
            self._away = ""
            self._pipeline.recorder.ledger.reload()
            log.info("archive_back", runs=len(self._pipeline.archive))
            self._problems.end("archive")
        return True

    def _say_away(self, error: NotTheArchive) -> None:
        """The archive is not the one that the state knows: say so once, let go of it, conclude nothing."""
        if str(error) != self._away:
            log.warning("archive_away", reason=str(error))
        self._away = str(error)
        self._pipeline.archive.distrust()
        self._problems.begin(
            "archive", f"the archive is away, and nothing is archived\n{error}\nnothing is lost: it waits"
        )
        self._problems.announce()
        self._notifier.ready(f"waiting for the archive: {error}")  # ready: or who is started after this one never is
        self._stand(f"the archive is away: {error}")

    def _has_archive(self, now: float) -> bool:
        """Whether the archive is the one that the state knows; if it was away and is back, all is looked at anew."""
        if self._away:
            if now < self._supervise_at:
                return False
            self._supervise_at = now + SUPERVISE_SECONDS
            if not self._reconciles():
                return False
            self._discovery.scan_at = 0.0
            return True
        try:
            self._pipeline.archive.tree.insist()
        except NotTheArchive as error:
            self._say_away(error)
            self._supervise_at = now + SUPERVISE_SECONDS
            return False
        except RetryLater:
            return True  # a disk that refuses is no stranger: what is to be archived tells so
        return True

    def _reload(self) -> None:
        """If it was asked for: read the settings, and end this life for one with them, or go on if they are wrong."""
        if not self._reload_asked or self._stopping:
            return
        self._reload_asked = False
        self._notifier.reloading()
        try:
            if self._read_settings is not None:
                self._read_settings()
        except StopService as error:
            self._refused = f"; the settings on disk are refused: {error}"
            log.error("settings_refused", reason=str(error), hint="those of before are still in force")
            self._notifier.ready(self._status())
        else:
            log.info("settings_read_again")
            self.ends_to_reload = True
            self.request_stop()

    def _stop(self) -> None:
        if not self.ends_to_reload:
            self._notifier.stopping()
        self._discovery.stop()
        self._processing.close()
        self._courier.stop()
        if not self.ends_to_reload:  # else the next life writes it anew
            self._metrics.close()
        log.info("stopped", runs=len(self._pipeline.archive), waiting=len(self._settling))

    def _pause(self) -> float:
        """How long nothing needs to be done, in seconds."""
        moments = [self._supervise_at]
        if not self._away:
            moments.append(self._discovery.scan_at)
        looks = (self._courier.next_look(), None if self._away else self._settling.next_look())
        moments += [each for each in looks if each is not None]
        return max(0.0, min(moments) - time.monotonic())

    def _turn(self) -> None:
        """One turn of the loop: supervise, look, work on one batch; nothing while the archive is away."""
        now = time.monotonic()
        self._notifier.alive()
        self._courier.supervise(now)
        if not self._has_archive(now):
            return
        if now >= self._supervise_at:
            self._discovery.supervise()
            self._notifier.status(self._status())
            self._stand()
            is_certain = self._look_for_problems(now)
            self._catch_up()
            if self._pipeline.recorder.is_cut_off():
                log.warning("state_file_replaced", hint="the daemon starts again with the one that is there")
                self._reload_asked = True
            self._pipeline.rest()
            self._processing.rest()
            self._supervise_at = now + (SUPERVISE_SECONDS if is_certain else 0.0)
        self._discovery.look()
        paths = self._settling.due(time.monotonic(), self._most_files)
        self._most_files = BATCH_FILES if paths else FIRST_FILES
        if paths or self._processing.has_work:
            self._processing.work(paths)

    def _catch_up(self) -> None:
        """Record what the disk refused before; if it still does, whatever comes next tells so."""
        with suppress(RetryLater):
            self._pipeline.recorder.catch_up()

    def _look_for_problems(self, now: float) -> bool:
        """What lasts is announced: a watch that was lost, a folder that fell silent. False: look again after a scan."""
        self._problems.announce()
        if self._discovery.is_watched:
            self._watched_at = now
            self._problems.end("watch")
        elif self._watched_at is not None and now - self._watched_at > LASTING_SECONDS:
            self._problems.begin("watch", "the watch on a folder is lost; it is scanned instead, see the log")
        if refused := self._processing.refused_since(now - LASTING_SECONDS):
            self._problems.begin("unreadable", _of_refused(refused))
        else:
            self._problems.end("unreadable")
        if not self._discovery.has_scanned:
            return True
        is_certain = self._problems.look_for_silence(self._settling.waiting(), self._discovery.scanned_at)
        if not is_certain:
            self._discovery.scan_at = now
        return is_certain

    @property
    def _is_watching(self) -> bool:
        """Whether every folder gives hints, as far as is known: before the first look none is missed."""
        return self._discovery.is_watched or not self._supervise_at

    def _stand(self, trouble: str = "") -> None:
        """Say to who asks how things stand."""
        if self._metrics.is_due():
            self._metrics.stand(self._readings())
        self._standing.write(
            Standing(
                os.getpid(),
                self._since,
                tuple(self._discovery.folders),
                self._is_watching,
                len(self._settling),
                self._discovery.unseen,
                trouble or self._refused.removeprefix("; "),
                self._metrics.trouble,
            )
        )

    def _readings(self) -> Readings:
        recorder, discovery = self._pipeline.recorder, self._discovery
        return Readings(
            waiting=len(self._settling),
            unseen=discovery.unseen,
            is_watching=self._is_watching,
            has_archive=not self._away,
            runs=len(self._pipeline.archive),
            losses=discovery.losses,
            overflows=discovery.overflows,
            last_archived=recorder.last_archived(),
            messages=recorder.outbox.open_messages(),
            rooms=self._rooms(),
        )

    def _status(self) -> str:
        watch = "watching" if self._is_watching else "scanning only"
        figures = f"{len(self._pipeline.archive)} runs archived, {len(self._settling)} files waiting"
        return f"{figures}, {watch}{self._refused}"


def _of_refused(refused: Sequence[tuple[str, str]]) -> str:
    """What is told of paths that the system has refused for long."""
    count = "a file or folder" if len(refused) == 1 else f"{len(refused)} files or folders"
    shown = "".join(f"\n{show_path(path)}: {reason}" for path, reason in refused[:_SHOWN])
    more = f"\nand {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
    advice = "give the service's user the right: by the trainer's umask, a group or an ACL"
    return f"{count} in the watched folders can't be used{shown}{more}\n{advice}"


class _stop_on_signals:  # noqa: N801 - reads as the statement it is
    """While entered, SIGTERM and SIGINT request a stop, a child's end a look, SIGHUP what it means to it.

    Then the handlers are those of before; but a life that is to begin anew goes on to hear a SIGHUP, which would end
    it. A SIGHUP that is ignored (nohup) stays so.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._before: dict[signal.Signals, object] = {}
        self._is_over = False

    def __enter__(self) -> None:
        numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGCHLD]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        for number in numbers:
            self._before[number] = signal.signal(number, self._handle)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # held back since the life before it

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        for number, handler in self._before.items():
            if number != signal.SIGHUP or not self._service.ends_to_reload:
                signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._is_over:  # what rings is closed; the next life reads the settings as they are then
            return
        if number == signal.SIGCHLD:
            self._service.look_around()
        elif number == signal.SIGHUP:
            self._service.hang_up()
        else:
            self._service.request_stop()
