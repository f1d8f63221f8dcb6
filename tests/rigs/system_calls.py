"""System calls of a running process: seen, refused, or the moment at which it is killed or stopped.

The rule: this is the one place that knows how strace is told what to do and how it writes what it saw. The counting
begins when the tracer has attached, so a subject waits until then at the place where a sweep is to begin; `when=`
counts for each thread on its own, so a sweep's subject does everything on the thread that is traced.
"""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from processes import DEADLINE, DIES_WITH_US, until
from rigs.needs import needs

FILE_CALLS: Final = (
    *("openat", "mkdir", "write", "pwrite64", "ftruncate", "fallocate", "fsync", "fdatasync", "sync_file_range"),
    *("rename", "renameat2", "link", "unlink", "unlinkat", "rmdir", "chmod", "fchmod", "chown", "fchown"),
    *("flock", "fcntl", "close"),
)
"""Calls that change what is on a disk, and those that open, lock, lease and close it."""

SOCKET_CALLS: Final = ("socket", "connect", "sendto", "sendmsg", "recvfrom", "recvmsg", "poll", "shutdown")
"""Calls that speak to somebody else."""

_CHANGING: Final = frozenset(FILE_CALLS) - {"fsync", "fdatasync", "sync_file_range", "flock", "fcntl", "close"}

_LINE: Final = re.compile(r"^(?:\d+ +)?(?P<name>\w+)\((?P<arguments>.*?)\) += (?P<result>-?\w+)(?P<rest>.*)$")
_CUT_SHORT: Final = re.compile(r"^(?:\d+ +)?(?P<name>\w+)\((?P<arguments>.*)$")
_OPEN_FILE: Final = re.compile(r'^\d+<(?P<path>[^>]*)>(?:, "(?P<name>[^"]+)")?')


class Point(NamedTuple):
    """A place on a process's way: the n-th call of a name, from 1."""

    call: str
    number: int

    def __str__(self) -> str:
        return f"{self.call}:{self.number}"


class Seen(NamedTuple):
    """A call as it was seen.

    Attributes:
        point: which one it was.
        arguments: as strace writes them.
        path: of the open file or the name that it is about; "" where it has none.
        error: the name of the error it ended with, or "".
        injected: whether the rig made it end so.
    """

    point: Point
    arguments: str
    path: str
    error: str
    injected: bool

    def __str__(self) -> str:
        return f"{self.point} ({self.arguments})"

    @property
    def concerns_files(self) -> bool:
        """Whether it is about a file or a folder, not about a socket, a pipe or a standard stream."""
        return self.path.startswith("/")

    @property
    def changes_files(self) -> bool:
        """Whether something on a disk is another after it.

        A kill before one that changes nothing leaves what a kill before the next that does leaves.
        """
        creates = self.point.call != "openat" or "O_CREAT" in self.arguments
        return creates and self.point.call in _CHANGING and not self.error


@contextmanager
def traced(
    pid: int, report: Path, *, inject: str = "", calls: Sequence[str] = FILE_CALLS, threads: bool = False
) -> Iterator["subprocess.Popen[str]"]:
    """While entered, a process is traced; nothing of it before. Yield strace, which ends when the process does.

    Args:
        pid: the process.
        report: where strace writes what it saw.
        inject: from `killing`, `stopping` or `refusing`.
        calls: which are seen.
        threads: whether all its threads are traced, each counted on its own; else its first one.
    """
    needs(commands=("strace",))
    options = ["-y", "-s", "0", "-e", f"trace={','.join(calls)}"]  # open files by path, no contents
    options += ["-f"] if threads else []
    options += ["-e", f"inject={inject}"] if inject else []
    tracer = subprocess.Popen(
        [*DIES_WITH_US, "strace", "-p", str(pid), "-o", report, *options],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tracer.stderr is not None
    try:
        line = tracer.stderr.readline()
        assert "attached" in line, f"strace did not attach: {line}"
        yield tracer
    finally:
        tracer.terminate()  # it lets go, and what it traced goes on
        tracer.communicate(timeout=DEADLINE)


def killing(point: Point) -> str:
    """Before this call the process is killed."""
    return f"{point.call}:signal=KILL:when={point.number}"


def stopping(point: Point) -> str:
    """After this call the process stands still, until somebody lets it go on."""
    return f"{point.call}:signal=STOP:when={point.number}"


def refusing(point: Point, error: str) -> str:
    """This call is not made, and ends with this error (`ENOSPC`)."""
    return f"{point.call}:error={error}:when={point.number}"


def was_killed(report: Path) -> bool:
    """Whether the process ended by the rig's hand."""
    return "+++ killed by SIGKILL +++" in report.read_text(errors="replace")


def wait_until_stopped(report: Path) -> None:
    """Wait until the process stands still."""
    until(lambda: "--- stopped by SIGSTOP ---" in report.read_text(errors="replace"), "the process to be stopped")


def seen(report: Path) -> list[Seen]:
    """The calls of one thread in the order in which they were made."""
    counts: Counter[str] = Counter()
    found = []
    for line in report.read_text(errors="replace").splitlines():
        match = _LINE.match(line) or _CUT_SHORT.match(line)
        if match is None:
            continue
        name, arguments = match["name"], match["arguments"]
        counts[name] += 1
        result, rest = (match["result"], match["rest"]) if "result" in match.groupdict() else ("", "")
        error = rest.split()[0] if result == "-1" else ""
        point = Point(name, counts[name])
        found.append(Seen(point, arguments, _path(arguments), error, "(INJECTED)" in rest))
    return found


def _path(arguments: str) -> str:
    """The file that a call is about: an open one's, or the (last) name that is given."""
    if (match := _OPEN_FILE.match(arguments)) is not None:
        return f"{match['path']}/{match['name']}" if match["name"] else match["path"]  # a name in an open folder
    names = re.findall(r'"([^"]*)"', arguments)
    return names[-1] if names else ""
