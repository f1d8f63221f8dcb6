"""The discovery: which files are there that nobody has dealt with, by hints and by scans, and when to scan again.

The rule: what the kernel says is a hint, and the scan is the truth. Whatever the watch fails to say, or says wrongly,
the next scan finds; a scan takes a bounded share of the time, however large the folders are.
"""

import math
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from modelwarden.filesystems import show_path
from modelwarden.fingerprint import Fingerprint
from modelwarden.intake.scan import Root, Scan, is_inside, may_be_missed
from modelwarden.intake.settling import Settling
from modelwarden.intake.watch import Watch
from modelwarden.log import log
from modelwarden.service.processing import Processing

UNWATCHED_SCAN_SECONDS: Final = 5.0
"""Pause between scans while a folder gives no hints."""

BREATH: Final = 64
"""Files of a scan between two looks at the clock."""

SCAN_SHARE: Final = 100
"""A scan may take one part in so many of the time (1 % of a core)."""

SLICE_SECONDS: Final = 0.05
"""How long a scan goes on until files that are ready have their turn."""

WATCHED_SCAN_SHARE: Final = 2000
WATCHED_SCAN_SECONDS: Final = 300.0
"""While hints arrive, one part in so many is enough, as long as that is not a longer pause than this."""


class Discovery:
    """What looks at the watched folders.

    Args:
        roots: the watched folders.
        excluded: real paths of folders that are never entered.
        watch: hints about the roots.
        settling: hears of every file that is not dealt with.
        processing: knows which are.
        progress: called for each file of a scan: a long one is seen to go on.
        scan_every: seconds between scans while hints arrive.

    Attributes:
        is_watched: whether every folder gives hints, as of the last `supervise`.
        has_scanned: whether the folders have been walked once.
        scanned_at: when the last walk began, on the monotonic clock.
        scan_at: when they are walked next, likewise.
        unseen: how many folders or files the last scan could not look at.
    """

    def __init__(
        self,
        roots: Sequence[Root],
        excluded: Sequence[str],
        watch: Watch,
        settling: Settling,
        processing: Processing,
        progress: Callable[[], object] = lambda: None,
        *,
        scan_every: float,
    ) -> None:
        self._roots = roots
        self._excluded = excluded
        self._watch = watch
        self._settling = settling
        self._processing = processing
        self._scan_every = scan_every
        self._progress = progress
        self._walk: Iterator[None] | None = None  # that is under way
        self._took = 0.0  # by it so far, in seconds
        self._computed = 0.0  # of these, by the processor: a busy host makes a scan long, and not dear
        self._files = 0  # that the last one came by
        self._is_behind = False  # whether something came that the walk under way may not have seen
        self._links: set[str] = set()  # that were looked at, and told of if anything is missed by them
        self.is_watched = False
        self.has_scanned = False
        self.scanned_at = 0.0
        self.scan_at = 0.0
        self.unseen = 0

    @property
    def folders(self) -> list[str]:
        """The watched folders, by path."""
        return [root.path for root in self._roots]

    @property
    def overflows(self) -> int:
        """How often the kernel's queue of hints was full."""
        return self._watch.overflows

    @property
    def losses(self) -> int:
        """How often the watch on a folder was lost, and was to be armed anew."""
        return self._watch.losses

    def start(self) -> None:
        """Begin to be told."""
        self._watch.start()

    def stop(self) -> None:
        """Be told no more."""
        self._watch.stop()

    def supervise(self) -> None:
        """See to it that every folder that can be watched is."""
        self.is_watched = self._watch.supervise()

    def look(self) -> None:
        """Follow the hints that came, and scan if it is time to."""
        hints = self._watch.drain()
        if hints.paths:
            resolved = [(root, os.path.realpath(root.path)) for root in self._roots]  # once a turn: it asks the disk
            for path in hints.paths:
                self._follow(path, resolved)
        self._is_behind |= hints.rescan
        if self._walk is None and (self._is_behind or time.monotonic() >= self.scan_at):
            self._walk, self._is_behind = self._walk_all(), False
        if self._walk is not None:
            self._go_on(SLICE_SECONDS)

    def scan(self) -> None:
        """Walk every root to the end, now."""
        self._walk = self._walk_all()
        self._go_on(math.inf)

    def _go_on(self, seconds: float) -> None:
        """Go on with the walk that is under way for so long."""
        began, computed = time.monotonic(), time.thread_time()
        for _ in self._walk or ():
            if time.monotonic() > began + seconds:
                self._took += time.monotonic() - began
                self._computed += time.thread_time() - computed
                self.scan_at = 0.0  # at once, after what is ready
                return
        self._walk = None
        took = self._took + time.monotonic() - began
        computed = self._computed + time.thread_time() - computed
        self._took = self._computed = 0.0
        if self.is_watched:
            pause = max(self._scan_every, min(computed * WATCHED_SCAN_SHARE, WATCHED_SCAN_SECONDS))
        else:
            pause = min(self._scan_every, UNWATCHED_SCAN_SECONDS)
        self.scan_at = 0.0 if self._is_behind else time.monotonic() + max(pause, took * SCAN_SHARE)
        log.debug("scanned", files=self._files, seconds=round(took, 3), waiting=len(self._settling))

    def _walk_all(self) -> Iterator[None]:
        """Walk every root, with a break now and then. What is not in a complete walk any more is forgotten."""
        began = time.monotonic()
        seen: set[str] = set()
        devices: set[int] = set()
        problems: list[tuple[str, str]] = []
        fresh: list[tuple[str, Fingerprint]] = []
        links: list[tuple[str, Root]] = []
        for root in self._roots:
            scan = Scan(root, self._excluded)
            for path, fingerprint in scan:
                self._progress()
                seen.add(path)
                devices.add(fingerprint.device)
                if not self._processing.is_dealt_with(path, fingerprint):
                    fresh.append((path, fingerprint))
                if not len(seen) % BREATH:
                    yield
            problems += scan.problems
            links += ((path, root) for path in scan.links)
        for path, fingerprint in sorted(fresh, key=_modified):  # a backlog goes oldest first, as it would have come
            self._see(path, fingerprint, hinted=False)  # a hint may have been faster
        self.has_scanned, self.scanned_at, self._files = True, began, len(seen)
        self.unseen = len(problems)
        for path, reason in problems:
            self._processing.say_unreadable(path, reason)
        if not problems:
            self._processing.forget_gone(seen, devices)
            self._links.intersection_update(path for path, _ in links)
        self._say_links(links)

    def _say_links(self, links: Sequence[tuple[str, Root]]) -> None:
        """Say once which links are not followed, but for those whose end is looked at anyway, or is the archive's.

        None is followed: whoever may write to the folder could make the daemon read, and show, any file that it may
        read itself.
        """
        fresh = [(path, root) for path, root in links if path not in self._links]
        if not fresh:
            return
        self._links.update(path for path, _ in fresh)
        known = [*(os.path.realpath(root.path) for root in self._roots), *self._excluded]
        missed: list[tuple[str, str]] = []
        for path, root in fresh:
            target = os.path.realpath(path)
            is_summary_or_folder = root.takes(os.path.basename(path)) or os.path.isdir(target)
            if is_summary_or_folder and not any(is_inside(target, folder) for folder in known):
                missed.append((path, target))
        if missed:
            path, target = missed[0]
            log.warning(
                "links_not_followed",
                links=len(missed),
                path=show_path(path),
                leads_to=show_path(target),
                hint="leave the summary itself there, or watch the folder that the link leads to",
            )

    def _follow(self, path: str, resolved: Sequence[tuple[Root, str]]) -> None:
        """See what a hint was about; the roots come with their real paths."""
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
                scan = Scan(root, self._excluded, path)
                for found, fingerprint in scan:
                    self._see(found, fingerprint, hinted=False)
                self._say_links([(link, root) for link in scan.links])
            elif stat.S_ISLNK(status.st_mode) and may_be_missed(os.path.basename(path), root):
                self._say_links([(path, root)])
            elif stat.S_ISREG(status.st_mode) and root.takes(os.path.basename(path)):
                self._see(path, Fingerprint.of(status), hinted=True)

    def _see(self, path: str, fingerprint: Fingerprint, *, hinted: bool) -> None:
        if not self._processing.is_dealt_with(path, fingerprint):
            self._settling.seen(path, fingerprint, hinted=hinted, now=time.monotonic())


def _modified(file: tuple[str, Fingerprint]) -> int:
    """When a found file was last modified, in ns."""
    return file[1].modified
