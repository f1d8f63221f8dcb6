"""Hints from the kernel: watchdog reads its queue, and a handler notes which paths the events are about, no more.

The rule: it is only a hint. The handler adds a path to a bounded set and rings; it never reads, stats or logs. What
watchdog fails to say (an overflow, a replaced root, a dead thread) becomes "scan everything", and a watch that is lost
is reported and armed again, never fatal.

watchdog's observers are passed by: they pair the two halves of every rename, at a cost that grows with the square of a
burst, and hand each event through three threads. What is used is the layer below, its reader with a callback a folder.
"""

import errno
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from threading import Lock
from typing import Final, NamedTuple

from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
)

from modelwarden.filesystems import network_file_system
from modelwarden.intake.scan import Root, is_temporary
from modelwarden.log import log

MAX_HINTS: Final = 10_000
"""More paths than this at once are not kept apart: the scan is cheaper."""

_MASK: Final = Mask(
    # Not what is opened, read or closed after reading: our own reads would feed the queue.
    InotifyConstants.IN_CREATE
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_MOVED_FROM
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_DONT_FOLLOW
)
_ISDIR: Final = InotifyConstants.IN_ISDIR
_LEFT: Final = InotifyConstants.IN_MOVED_FROM

_LIMITS: Final = frozenset({errno.ENOSPC, errno.ENOMEM})
"""What the kernel says if it watches no more folders; all else that it says is about the one folder."""

_ARMED: Final = "watch_armed"
_INCOMPLETE: Final = "watch_incomplete"


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
    """What the kernel is asked to tell of all roots.

    Args:
        roots: the watched folders; one that is missing is armed when it appears.
        ring: called from watchdog's thread when there are new hints; must only wake the main loop.
        excluded: real paths of folders that are never entered: the archive and the state.

    Attributes:
        overflows: how often the kernel dropped events.
        losses: how often the watch on a root was lost.
    """

    def __init__(self, roots: Sequence[Root], ring: Callable[[], None], excluded: Sequence[str] = ()) -> None:
        self._ring = ring
        self._lock = Lock()
        self._paths: dict[str, None] = {}
        self._folders: dict[_Arm, dict[str, None]] = {}  # that came, left or changed their names, in that order
        self._rescan = True
        self._overflowed = False
        self._reader: _Reader | None = None
        self._arms = [_Arm(root, excluded, self) for root in roots]
        self.overflows = 0
        self.losses = 0

    def start(self) -> None:
        """Arm every root that is there. Scan after this, not before: then what comes between is not missed."""
        logger = logging.getLogger("watchdog")
        logger.addHandler(logging.NullHandler())
        logger.propagate = False  # of what it says, an overflow, we hear by a call
        self.supervise()

    def stop(self) -> None:
        """Take all watches down."""
        reader, self._reader = self._reader, None
        for arm in self._arms:
            arm.disarm()
        if reader is not None:
            reader.stop()
            reader.join()

    def supervise(self) -> bool:
        """Look whether every root is still the folder that was armed, and arm what is not. True: all are."""
        if self._reader is not None and not self._reader.is_alive():
            self._reader = None  # and its watches with it
        watched = [arm.supervise() for arm in self._arms]  # every one of them, not up to the first that is not
        return all(watched)

    def drain(self) -> Hints:
        """Take what was noted; folders that came are watched from now on, so that a scan of them misses nothing."""
        with self._lock:
            hints = Hints(list(self._paths), self._rescan)
            folders, self._folders = self._folders, {}
            overflowed, self._overflowed = self._overflowed, False
            self._paths.clear()
            self._rescan = False
        if overflowed:
            self.overflows += 1
            log.warning("events_lost", reason="the kernel's queue overflowed", overflows=self.overflows)
            for arm in self._arms:
                arm.renew()
        else:
            for arm, changed in folders.items():
                arm.renew(changed)
        return hints

    def reader(self) -> InotifyFD:
        """The thread that reads the kernel's queue. Raises OSError if the kernel grants no queue."""
        if self._reader is None:
            self._reader = _Reader()
            self._reader.start()
        return self._reader

    def is_read(self, reader: InotifyFD | None) -> bool:
        """Whether it is the reader, and lives."""
        return reader is not None and reader is self._reader

    def note(self, *paths: str) -> None:
        """Keep paths for the next drain; called from watchdog's thread."""
        with self._lock:
            if len(self._paths) + len(paths) > MAX_HINTS:
                self._paths.clear()
                self._rescan = True
            elif not self._rescan:
                self._paths.update(dict.fromkeys(paths))
        self._ring()

    def note_folder(self, arm: "_Arm", path: str) -> None:
        """A folder came, or left: whether it is watched is seen to at the next drain."""
        with self._lock:
            changed = self._folders.setdefault(arm, {})
            changed.pop(path, None)
            changed[path] = None
        self.note(path)

    def note_everything(self, *, overflowed: bool = False) -> None:
        """Something happened that the paths do not tell: scan."""
        with self._lock:
            self._rescan = True
            self._overflowed |= overflowed
        self._ring()


class _Reader(InotifyFD):
    """The thread that reads the kernel's queue. It gives the queue back however it ends."""

    def run(self) -> None:
        try:
            super().run()
        finally:
            self._is_reading = False
            self.close()


class _Watched(NamedTuple):
    """How watchdog knows a folder that it watches for an arm: the kernel's number of it, and an id of this name's."""

    descriptor: WatchDescriptor
    identity: CallbackId


_ids: Final = count()


class _Arm(WatchCallback):
    """The watched folders of one root, and the folder that it was armed on.

    What watchdog's thread calls is `on_event` and its neighbours; all else is the main loop's.
    """

    def __init__(self, root: Root, excluded: Sequence[str], watch: Watch) -> None:
        self._root = root
        self._excluded = excluded
        self._watch = watch
        self._reader: InotifyFD | None = None
        self._identity: tuple[str, int, int] | None = None
        self._said: str | None = None
        self._lock = Lock()
        self._path_of: dict[WatchDescriptor, str] = {}
        self._watched: dict[str, _Watched] = {}
        self._unreadable: list[str] = []
        self._refused: list[str] = []  # by the kernel: its limit

    def supervise(self) -> bool:
        """Whether the root is watched; arms it if it can be."""
        resolved = os.path.realpath(self._root.path)
        identity = _identity(resolved)
        if self._identity is not None:
            if identity == self._identity and self._watch.is_read(self._reader) and resolved in self._watched:
                return self._is_armed()
            self._say("watch_lost", reason="the folder was replaced, or watchdog's thread died")
            self._watch.losses += 1
            self.disarm()
            self._watch.note_everything()
        if identity is None:
            self._say("watch_waits", reason="the folder is not there")
            return False
        if (kind := network_file_system(resolved)) is not None:
            self._say("watch_by_scanning", reason=f"{kind} gives no events for what others write")
            return False
        if not os.access(resolved, os.R_OK | os.X_OK, effective_ids=True):
            self._say("watch_refused", reason="no right to read the folder", hint="give it to the service's user")
            return False
        return self._arm(resolved, identity)

    def renew(self, folders: Iterable[str] = ()) -> None:
        """Watch folders and what is below them as they are now: they came, left or were renamed. None: the whole root.

        All are let go before one is watched: two may have changed places, and the kernel knows a folder by one number.
        """
        if self._identity is None:
            return
        folders = [*folders] or [self._identity[0]]
        for path in folders:
            self._let_go(path)
        for path in folders:
            self._watch_below(path)

    def disarm(self) -> None:
        """Take the watch down."""
        if self._identity is not None:
            self._let_go(self._identity[0])
        self._reader = self._identity = None
        with self._lock:
            self._path_of.clear()
            self._watched.clear()
        self._unreadable.clear()
        self._refused.clear()

    def on_event(self, event: InotifyEvent) -> None:
        """Note what it is about. An exception here would end watchdog's thread."""
        folder, mask = self._path_of.get(event.wd), event.mask
        if folder is None or (mask & _LEFT and not mask & _ISDIR):  # being armed or let go: a scan follows
            return
        name = os.fsdecode(event.name)
        if is_temporary(name):
            return
        path = os.path.join(folder, name)
        if mask & _ISDIR and self._root.recursive:
            self._watch.note_folder(self, path)
        else:
            self._watch.note(path)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """The folder is gone."""
        with self._lock:
            path = self._path_of.pop(wd, None)
            if path is not None and (watched := self._watched.get(path)) is not None and watched.descriptor == wd:
                del self._watched[path]

    def on_queue_overflow(self) -> None:
        """The kernel dropped events: no path is certain any more."""
        self._watch.note_everything(overflowed=True)

    def _arm(self, resolved: str, identity: tuple[str, int, int]) -> bool:
        try:
            self._reader = self._watch.reader()
            self._identity = identity
            self._watch_below(resolved)
            if resolved not in self._watched:
                raise OSError("inotify watch limit reached" if self._refused else "the folder is gone")  # noqa: TRY301
        except OSError as error:
            # The limit of watches or of instances. Scanning goes on meanwhile.
            self._say(
                "watch_refused",
                reason=error.strerror or str(error),
                hint="raise fs.inotify.max_user_watches or max_user_instances",
            )
            self.disarm()
            return False
        self._watch.note_everything()
        return self._is_armed()

    def _is_complete(self) -> bool:
        """Whether the kernel watches every folder; what it refused is asked for again."""
        again = [*self._unreadable, *self._refused]
        self._unreadable.clear()
        self._refused.clear()
        for path in again:
            self._watch_below(path)
            if path in self._watched:
                self._watch.note(path)  # what came before it was watched
                self._said = None  # that all is watched is news again
        if not self._refused:
            return True
        if self._said != _INCOMPLETE:
            self._watch.note_everything()  # what came there is found by scanning from now on
        there = len(self._watched)
        reason = f"{there} folders are watched, and at least {len(self._refused)} are not"
        self._say(_INCOMPLETE, reason=reason, hint="raise fs.inotify.max_user_watches")
        return False

    def _is_armed(self) -> bool:
        """Whether every folder is watched, and said."""
        if not self._is_complete():
            return False
        if self._said != _ARMED:
            self._said = _ARMED
            log.info(_ARMED, path=self._root.path, recursive=self._root.recursive)
        return True

    def _watch_below(self, top: str) -> None:
        """Watch a folder and, if the root is recursive, all below it that a scan enters.

        Each is watched before it is listed, so that no folder comes between. One that is gone meanwhile is none.
        """
        folders = [top]
        while folders:
            folder = folders.pop()
            if folder in self._excluded:
                continue
            try:
                if not self._add(folder):
                    self._unreadable.append(folder)
                elif self._root.recursive:
                    folders += _folders_in(folder)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                if error.errno in _LIMITS:  # of no use to ask for the others now
                    self._refused += [folder, *folders]
                    return
                self._let_go(folder)  # one that can be watched and not listed is asked for again, too
                self._unreadable.append(folder)

    def _add(self, folder: str) -> bool:
        """Watch one folder; False if it may not be read. Raises OSError if the kernel refuses."""
        if folder in self._watched:
            return True
        if self._reader is None or not os.access(folder, os.R_OK, effective_ids=True):
            os.lstat(folder)  # gone is not unreadable
            return False
        # An id of its own: a folder may still be watched under a name that it had, for its move is not told yet.
        identity = CallbackId(next(_ids))
        descriptor = self._reader.add_callback(os.fsencode(folder), _MASK, self, identity)
        if descriptor < 0:  # the right went away in between, and watchdog does not say so
            self._reader.remove_callbacks([(descriptor, identity)])
            return False
        with self._lock:
            self._path_of[descriptor] = folder
            self._watched[folder] = _Watched(descriptor, identity)
        return True

    def _let_go(self, top: str) -> None:
        """Watch nothing at or below a path any more."""
        below = top.rstrip("/") + "/"
        with self._lock:
            paths = [path for path in self._watched if path == top or path.startswith(below)]
            gone = {path: self._watched.pop(path) for path in paths}
            for path, watched in gone.items():
                if self._path_of.get(watched.descriptor) == path:  # else it has another name by now
                    del self._path_of[watched.descriptor]
        self._unreadable = [path for path in self._unreadable if path != top and not path.startswith(below)]
        self._refused = [path for path in self._refused if path != top and not path.startswith(below)]
        if self._reader is not None and self._watch.is_read(self._reader):
            self._reader.remove_callbacks([*gone.values()])

    def _say(self, what: str, **details: str) -> None:
        """Log a state once, not at every look."""
        if self._said != what:
            self._said = what
            log.warning(what, path=self._root.path, **details)


def _folders_in(folder: str) -> Iterator[str]:
    """The folders in a folder that a scan enters."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not is_temporary(entry.name) and entry.is_dir(follow_symlinks=False):
                yield entry.path


def _identity(resolved: str) -> tuple[str, int, int] | None:
    try:
        status = os.stat(resolved)
    except OSError:
        return None
    return resolved, status.st_dev, status.st_ino
