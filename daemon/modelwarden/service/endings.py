"""Which trainers' files are worth reading: whether a training ended, as far as can be told without reading them.

The rule: a log that grows for days costs a look at its figures, and where its last line tells, the bytes that came
since the last look. What was read once is not read again while it is not final.
"""

import os
import re
import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from modelwarden.fingerprint import Fingerprint
from modelwarden.formats.finality import Look, decide
from modelwarden.intake.settling import Settling
from modelwarden.pipeline.groups import Group
from modelwarden.pipeline.policies import JudgedFolder

LONGEST_LINE: Final = 1 << 20
"""Most bytes of a log's last line that are looked at."""

_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class _Seen(NamedTuple):
    """What is known of a file that was not final.

    Attributes:
        fingerprint: as it was then.
        line: where its last line began if it had no end yet, else where the next one begins.
    """

    fingerprint: Fingerprint
    line: int


class Endings:
    """The files that wait for their end.

    Args:
        settling: when files are looked at.
        settle_seconds: how long a file must stand still before it is read for what it says of its own end.
        clock: seconds since the epoch.
    """

    def __init__(self, settling: Settling, settle_seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._settling = settling
        self._settle = settle_seconds
        self._clock = clock
        self._open: dict[str, _Seen] = {}
        self._groups: dict[str, tuple[tuple[tuple[str, Fingerprint], ...], float]] = {}  # as they are since when
        self.bytes_read = 0

    def is_waiting(self, path: str, fingerprint: Fingerprint) -> bool:
        """Whether the file said that its training goes on, and is as it was then."""
        seen = self._open.get(path)
        return seen is not None and seen.fingerprint == fingerprint

    def look(self, path: str, folder: JudgedFolder) -> Look | None:
        """Whether to read the file now, and how; None: not now, and settling knows when to look again."""
        try:
            status = os.lstat(path)
        except OSError:
            self._settling.forget(path)
            self._open.pop(path, None)
            return None
        now = time.monotonic()
        stood = now - self._settling.since(path, now)
        # A daemon that was started a moment ago knows nothing of the file but its times.
        still = max(stood, self._clock() - max(status.st_mtime, status.st_ctime))
        decision = decide(folder.final, still, lambda name: _is_marked(os.path.dirname(path), name, status.st_mtime_ns))
        look: Look | None = decision.look
        if look is Look.READ_IF_COMPLETE:
            last_line = "" if folder.format is None else folder.format.last_line
            fingerprint = Fingerprint.of(status)
            if self.is_waiting(path, fingerprint) or (last_line and not self._ends_with(path, last_line, fingerprint)):
                look = Look.WAIT
            elif not last_line and still < self._settle:
                self._settling.again(path, now + self._settle - still)
                return None
        if look is not Look.WAIT:
            return look
        if decision.seconds is None:
            self._settling.forget(path)  # another hint, or another fingerprint, brings it back
        else:
            self._settling.again(path, now + decision.seconds)
        return None

    def goes_on(self, path: str, fingerprint: Fingerprint, folder: JudgedFolder) -> None:
        """The file was read, and says that its training goes on."""
        self._open[path] = _Seen(fingerprint, 0)
        self.look(path, folder)

    def look_at_group(self, group: Group, folder: JudgedFolder, due: Iterable[str]) -> Look | None:
        """The same of a group of files; `due` are those that wait for the answer."""
        now = time.monotonic()
        files, since = self._groups.get(group.folder, ((), now))
        if files != group.files:
            self._groups[group.folder] = group.files, (since := now)
        modified = max(each.modified for _, each in group.files)
        changed = max(each.changed for _, each in group.files)
        still = max(now - since, self._clock() - max(modified, changed) / 1e9)
        decision = decide(folder.final, still, lambda name: _is_marked(group.folder, name, modified))
        if decision.look is Look.READ:
            return decision.look
        if decision.look is Look.READ_IF_COMPLETE and not all(self.is_waiting(*each) for each in group.files):
            return decision.look
        for path in due:
            if decision.seconds is None:
                self._settling.forget(path)
            else:
                self._settling.again(path, now + decision.seconds)
        return None

    def group_goes_on(self, group: Group, folder: JudgedFolder, due: Iterable[str]) -> None:
        """A group was read, and not all of its files say that their training ended."""
        self._open |= {path: _Seen(fingerprint, 0) for path, fingerprint in group.files}
        self.look_at_group(group, folder, due)

    def ended(self, path: str) -> None:
        """The file was dealt with."""
        self._open.pop(path, None)

    def group_ended(self, group: Group) -> None:
        """The group was dealt with."""
        self._groups.pop(group.folder, None)
        for path, _ in group.files:
            self.ended(path)

    def forget_gone(self, seen: set[str]) -> None:
        """Forget files that a whole scan did not find."""
        for path in [path for path in self._open if path not in seen]:
            del self._open[path]
        for where in [
            where for where, (files, _) in self._groups.items() if not any(each[0] in seen for each in files)
        ]:
            del self._groups[where]

    def _ends_with(self, path: str, expression: str, fingerprint: Fingerprint) -> bool:
        """Whether the log's last line fits; only what came since the last look is read, from that line's begin on."""
        known = self._open.get(path)
        begin = known.line if known is not None and known.line <= fingerprint.size else 0
        begin = max(begin, fingerprint.size - LONGEST_LINE)
        try:
            descriptor = os.open(path, _FLAGS)
        except OSError:
            return True  # the read says what is wrong
        try:
            data = os.pread(descriptor, fingerprint.size - begin, begin)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        self.bytes_read += len(data)
        line = data.rstrip(b"\n").rpartition(b"\n")[2]
        at = begin + len(data) - (0 if data.endswith(b"\n") else len(line))
        if re.search(expression.encode(), line):
            return True
        self._open[path] = _Seen(fingerprint, at)
        return False


def _is_marked(folder: str, name: str, modified: int) -> bool:
    """Whether the marker lies in the folder and is no older: the one of an earlier run says nothing of this one."""
    try:
        marker = os.lstat(os.path.join(folder, name))
    except OSError:
        return False
    return marker.st_mtime_ns >= modified
