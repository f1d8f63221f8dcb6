"""Hints from the kernel: watchdog observers that note which paths they are about, and nothing else.

The rule: it is only a hint. The handler adds a path to a bounded set and rings; it never reads, stats or logs. What
watchdog fails to say (an overflow, a replaced root, a dead thread) becomes "scan everything", and a watch that is lost
is reported and armed again, never fatal.
"""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from modelwarden.filesystems import network_file_system
from modelwarden.intake.scan import Root, is_temporary
from modelwarden.log import log

MAX_HINTS: Final = 10_000
"""More paths than this at once are not kept apart: the scan is cheaper."""

LONGEST_REASON: Final = 500
"""Characters kept of what watchdog says: some of it quotes every folder."""

_EVENTS: Final[list[type[FileSystemEvent]]] = [
    # Without Opened and ClosedNoWrite: our own reads would feed the queue.
    FileCreatedEvent,
    FileMovedEvent,
    FileClosedEvent,
    FileDeletedEvent,
    DirCreatedEvent,
    DirMovedEvent,
    DirDeletedEvent,
]


@dataclass(slots=True)
class Hints:
    """What happened since the last drain.

    Attributes:
        paths: files and folders that hints are about.
        rescan: whether more happened than the paths tell.
    """

    paths: list[str] = field(default_factory=list)
    rescan: bool = False


class Watch:
    """The observers of all roots.

    Args:
        roots: the watched folders; one that is missing is armed when it appears.
        ring: called from watchdog's threads when there are new hints; must only wake the main loop.
    """

    def __init__(self, roots: Sequence[Root], ring: Callable[[], None]) -> None:
        self._ring = ring
        self._lock = Lock()
        self._paths: dict[str, None] = {}
        self._rescan = True
        self._arms = [_Arm(root, self) for root in roots]
        self._overflow = _OverflowListener(self)
        self.overflows = 0
        self.folders_changed = False
        self.scan_again = False

    def start(self) -> None:
        """Arm every root that is there. Scan after this, not before: then what comes between is not missed."""
        logging.getLogger("watchdog.observers").addHandler(self._overflow)
        self.supervise()

    def stop(self) -> None:
        """Take all watches down."""
        logging.getLogger("watchdog.observers").removeHandler(self._overflow)
        for arm in self._arms:
            arm.disarm()

    def supervise(self) -> bool:
        """Look whether every root is still the folder that was armed, and arm what is not. True: all are."""
        if self.scan_again:
            self.scan_again = False
            self.note_everything()
        if self.folders_changed:  # a new folder may have been one too many for the kernel's limit
            self.folders_changed = False
            for arm in self._arms:
                arm.count_again()
        watched = [arm.supervise() for arm in self._arms]  # every one of them, not up to the first that is not
        return all(watched)

    def drain(self) -> Hints:
        """Take what was noted."""
        with self._lock:
            hints = Hints(list(self._paths), self._rescan)
            self._paths.clear()
            self._rescan = False
        return hints

    def note(self, *paths: str) -> None:
        """Keep paths for the next drain; called from watchdog's threads."""
        with self._lock:
            if len(self._paths) + len(paths) > MAX_HINTS:
                self._paths.clear()
                self._rescan = True
            elif not self._rescan:
                self._paths.update(dict.fromkeys(paths))
        self._ring()

    def note_everything(self) -> None:
        """Something happened that the paths do not tell: scan."""
        with self._lock:
            self._rescan = True
        self._ring()


class _Arm:
    """The observer of one root, and the folder it was armed on."""

    def __init__(self, root: Root, watch: Watch) -> None:
        self._root = root
        self._watch = watch
        self._observer: BaseObserver | None = None
        self._identity: tuple[str, int, int] | None = None
        self._said: str | None = None
        self._complete = False

    def supervise(self) -> bool:
        """Whether the root is watched; arms it where it can be."""
        resolved = os.path.realpath(self._root.path)
        identity = _identity(resolved)
        if self._observer is not None and identity is not None and identity == self._identity and self._is_alive():
            if self._is_complete(resolved):
                return True
            self.disarm()  # the kernel may grant more by now
        elif self._observer is not None:
            self._say("watch_lost", reason="the folder was replaced, or its observer died")
            self.disarm()
            self._watch.note_everything()
        if identity is None:
            self._say("watch_waits", reason="the folder is not there")
            return False
        if (kind := network_file_system(resolved)) is not None:
            self._say("watch_by_scanning", reason=f"{kind} gives no events for what others write")
            return False
        if not os.access(resolved, os.R_OK | os.X_OK):  # watchdog would arm nothing and say nothing
            self._say("watch_refused", reason="no right to read the folder", hint="give it to the service's user")
            return False
        return self._arm(resolved, identity)

    def count_again(self) -> None:
        """See at the next look whether every folder is watched."""
        self._complete = False

    def disarm(self) -> None:
        """Take the watch down."""
        observer, self._observer, self._identity = self._observer, None, None
        self._complete = False
        if observer is not None:
            _end(observer)

    def _arm(self, resolved: str, identity: tuple[str, int, int]) -> bool:
        observer: BaseObserver | None = None
        try:
            observer = Observer()
            observer.schedule(_Handler(self._watch), resolved, recursive=self._root.recursive, event_filter=_EVENTS)
            observer.start()
        except OSError as error:
            # ENOSPC: the watch limit; EMFILE: the instance limit. Scanning goes on meanwhile.
            self._say(
                "watch_refused",
                reason=error.strerror or str(error),
                hint="raise fs.inotify.max_user_watches or max_user_instances",
            )
            if observer is not None:
                _end(observer)
            return False
        self._observer, self._identity = observer, identity
        self._watch.note_everything()
        if not self._is_complete(resolved):
            return False
        log.info("watch_armed", path=self._root.path, recursive=self._root.recursive)
        self._said = None
        return True

    def _is_complete(self, resolved: str) -> bool:
        """Whether the kernel watches every folder; asked again until it does.

        Below the root watchdog passes over in silence what the kernel refuses: the limit of watches.
        """
        if not self._complete:
            armed = _kernel_watches(self._observer)
            folders = sum(1 for _ in os.walk(resolved)) if self._root.recursive else 1
            self._complete = armed is None or armed >= folders
            if not self._complete:
                hint = "raise fs.inotify.max_user_watches"
                self._say("watch_incomplete", reason=f"{armed} of {folders} folders", hint=hint)
        return self._complete

    def _is_alive(self) -> bool:
        """Whether all of watchdog's threads live: dispatcher, emitters, and the reader of the kernel's queue."""
        observer = self._observer
        if observer is None or not observer.is_alive():
            return False
        reader = getattr(observer, "_inotify_fd", None)  # not public, and nothing else tells of its death
        return all(each.is_alive() for each in (*observer.emitters, *([reader] if reader is not None else [])))

    def _say(self, what: str, **details: str) -> None:
        """Log a state once, not at every look."""
        if self._said != what:
            self._said = what
            log.warning(what, path=self._root.path, **details)


class _Handler(FileSystemEventHandler):
    """Notes the paths that hints are about. An exception here would end the observer's thread without a word."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def dispatch(self, event: FileSystemEvent) -> None:
        if event.is_directory:
            self._watch.folders_changed = True
        paths = [
            path
            for path in map(os.fsdecode, (event.src_path, event.dest_path))
            if path and not is_temporary(os.path.basename(path))
        ]
        if paths:
            self._watch.note(*paths)


class _OverflowListener(logging.Handler):
    """watchdog says in its log alone that the kernel dropped events."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(logging.WARNING)
        self._watch = watch

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if "events were lost" in message:
            self._watch.overflows += 1
            log.warning("events_lost", reason="the kernel's queue overflowed", overflows=self._watch.overflows)
        else:
            log.warning("watch_trouble", reason=message[:LONGEST_REASON])
        # watchdog rebuilds its watches only after it has said so: what is made meanwhile is the second scan's.
        self._watch.note_everything()
        self._watch.scan_again = True


def _kernel_watches(observer: BaseObserver | None) -> int | None:
    """How many folders the kernel watches for an observer; None where it can't be told."""
    # Not public, and the only way to the descriptor; without it a watch counts as complete.
    descriptor = getattr(getattr(observer, "_inotify_fd", None), "_inotify_fd", None)
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", "rb") as stream:
            return stream.read().count(b"inotify wd:")
    except OSError:
        return None


def _end(observer: BaseObserver) -> None:
    observer.stop()  # also where its thread never ran or is dead: the kernel's queue is closed here
    if observer.is_alive():
        observer.join()


def _identity(resolved: str) -> tuple[str, int, int] | None:
    try:
        status = os.stat(resolved)
    except OSError:
        return None
    return resolved, status.st_dev, status.st_ino
