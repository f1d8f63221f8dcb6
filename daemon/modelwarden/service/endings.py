"""Which trainers' files are worth reading: whether a training ended, as far as can be told without reading them.

The rule: a log that grows for days costs a look at its figures, and if its last line tells, the bytes that came
since the last look and the first few of the file that says how far it goes. What was read once is not read again while
it is not final.
"""

import os
import re
import time
from collections.abc import Callable, Iterable
from typing import BinaryIO, Final, NamedTuple

from modelwarden.fingerprint import Fingerprint
from modelwarden.formats.description import Format
from modelwarden.formats.finality import Look, decide
from modelwarden.intake.settling import Settling
from modelwarden.pipeline.groups import Group
from modelwarden.pipeline.policies import JudgedFolder

LONGEST_LINE: Final = 1 << 20
"""Most bytes of a log's last line that are looked at."""

LONGEST_HEAD: Final = 8192
"""Most bytes in which the number stands that a log's last line must reach."""

_CLOSING: Final = b" \t\r\n]}"
"""What a last line may hold that says nothing: a document that grows is closed anew behind each row."""

_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class _Seen(NamedTuple):
    """What is known of a file that was not final.

    Attributes:
        fingerprint: as it was then.
        line: where its last line began if it had no end yet, else where the next one begins.
    """

    fingerprint: Fingerprint
    line: int


class _LastLine(NamedTuple):
    """The last line of a log that says anything.

    Attributes:
        text: without its line break.
        next: as `line` of _Seen.
        is_whole: whether its begin was seen.
    """

    text: bytes
    next: int
    is_whole: bool


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
            fingerprint = Fingerprint.of(status)
            if self.is_waiting(path, fingerprint) or not self._may_have_ended(path, folder.format, fingerprint):
                look = Look.WAIT
            elif still < self._settle and not _tells_by_itself(folder.format):
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
        known = self._open.get(path)
        self._open[path] = _Seen(fingerprint, 0 if known is None else known.line)
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

    def _may_have_ended(self, path: str, format_: Format | None, fingerprint: Fingerprint) -> bool:
        """Whether a log's last line allows it; read is what came since the last look, from that line's begin on."""
        if format_ is None or not format_.last_line:
            return True
        try:
            with _open(path) as log:
                last = self._last_line(log, path, fingerprint.size)
                said = re.search(format_.last_line.encode(), last.text)
                if said is not None and (not format_.goal or self._is_reached(said, log, path, format_)):
                    return True
        except OSError:
            return True  # the read says what is wrong
        self._open[path] = _Seen(fingerprint, last.next)
        return False

    def _last_line(self, log: BinaryIO, path: str, size: int) -> _LastLine:
        known = self._open.get(path)
        least = max(0, size - LONGEST_LINE)
        if known is not None and least < known.line <= size:
            last = _last_line_of(self._bytes(log, known.line - 1, size), known.line - 1)
            if last.is_whole:
                return last  # else it is another log: this line began before that one's
        return _last_line_of(self._bytes(log, least, size), least)

    def _is_reached(self, said: re.Match[bytes], log: BinaryIO, path: str, format_: Format) -> bool:
        """Whether the last line's number is the one that the log goes up to, or one short of it: some count from 0."""
        try:
            if format_.goal_in:
                with _open(os.path.join(os.path.dirname(path), format_.goal_in)) as beside:
                    head = self._bytes(beside, 0, LONGEST_HEAD)
            else:
                head = self._bytes(log, 0, LONGEST_HEAD)
        except FileNotFoundError:
            return False
        goal = re.search(format_.goal.encode(), head)
        if goal is None:
            return len(head) == LONGEST_HEAD  # it may stand further on: then who reads all of it says
        try:
            return float(said[1]) >= float(goal[1]) - 1
        except (TypeError, ValueError):  # one of them is no number
            return True

    def _bytes(self, file: BinaryIO, begin: int, end: int) -> bytes:
        data = os.pread(file.fileno(), end - begin, begin)
        self.bytes_read += len(data)
        return data


def _tells_by_itself(format_: Format | None) -> bool:
    """Whether a last line that fits is the end. A number that is reached is not: its checkpoint comes after its row."""
    return format_ is not None and bool(format_.last_line) and not format_.goal


def _open(path: str) -> BinaryIO:
    return open(path, "rb", buffering=0, opener=lambda path, _: os.open(path, _FLAGS))


def _last_line_of(data: bytes, begin: int) -> _LastLine:
    """The last line of a piece of a log; `begin` is where the piece does."""
    end = len(data.rstrip(_CLOSING))
    first = data.rfind(b"\n", 0, end) + 1
    return _LastLine(data[first:].partition(b"\n")[0], begin + data.rfind(b"\n") + 1, begin + first == 0 or first > 0)


def _is_marked(folder: str, name: str, modified: int) -> bool:
    """Whether the marker lies in the folder and is no older: the one of an earlier run says nothing of this one."""
    try:
        marker = os.lstat(os.path.join(folder, name))
    except OSError:
        return False
    return marker.st_mtime_ns >= modified
