"""modelwarden as the benchmark meets it: a real daemon on its own folders, waited for by its log and by stat alone.

The rule: nothing here opens index.json while something is measured; a reader makes the daemon write it whole.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from bench.workload import summary_bytes
from processes import Daemon, running_daemon

BURST_DEADLINE = 600.0
LONE_DEADLINE = 30.0
LOOK_SECONDS = 0.2
"""Pause between two looks at the memory in a burst; a look takes about a millisecond."""

_TICKS = os.sysconf("SC_CLK_TCK")


class Burst(NamedTuple):
    """How a burst went.

    Attributes:
        seconds: until the last run was archived.
        first: from the first rename until the first run was, by the log.
        cpu: seconds that daemon and workers computed.
    """

    seconds: float
    first: float
    cpu: float


@dataclass
class Subject:
    """A running daemon, its folders, and summaries ready to be renamed in.

    Attributes:
        daemon: the process and its log.
        folder: holds everything.
        watched: where summaries are renamed to.
        archive: where runs go.
        most_mib: the most memory that daemon and workers had together in a burst; what they share counts once.
    """

    daemon: Daemon
    folder: Path
    watched: Path
    archive: Path
    most_mib: float = 0.0

    def prepare(self, seeds: Sequence[int], *, models: int = 50, year: int = 2024) -> list[Path]:
        """Write summaries of that year beside the watched folder, on disk."""
        ready = self.folder / "ready"
        ready.mkdir(exist_ok=True)
        paths = []
        for seed in seeds:
            path = ready / f"summary-{seed}.json"
            path.write_bytes(summary_bytes(seed, models=models, year=year))
            paths.append(path)
        os.sync()
        return paths

    def burst(self, paths: Sequence[Path], name: Callable[[Path], str] = lambda path: path.name) -> Burst:
        """Rename all in at once, to those names, and wait until the last is durable, indexed and recorded."""
        cpu = self.cpu_seconds()
        position = self.daemon.log.stat().st_size
        began, began_at = time.perf_counter(), time.time()
        for path in paths:
            os.rename(path, self.watched / name(path))
        left, first, looked = len(paths), 0.0, began
        rest = b""
        with self.daemon.log.open("rb") as log:
            log.seek(position)
            while left > 0:
                if self.daemon.process.poll() is not None or time.perf_counter() - began > BURST_DEADLINE:
                    raise RuntimeError(f"{left} runs missing; see {self.daemon.log}")
                time.sleep(0.005)
                *lines, rest = (rest + log.read()).split(b"\n")  # the last line may be half of one
                archived = [line for line in lines if b'"run_archived"' in line]
                left -= len(archived)
                now = time.perf_counter()
                if archived and not first:  # by the log's own clock: to rename thousands takes a while by itself
                    first = datetime.fromisoformat(json.loads(archived[0])["timestamp"]).timestamp() - began_at
                if now > looked + LOOK_SECONDS:
                    looked = now
                    self.most_mib = max(self.most_mib, self.shared_mib())
        return Burst(time.perf_counter() - began, first, self.cpu_seconds() - cpu)

    def lone(self, path: Path) -> float:
        """Rename one in; return the seconds until its entry is durable in index.json."""
        index = self.archive / "index.json"
        before = index.stat().st_size
        folder = os.open(self.archive, os.O_RDONLY)
        began = time.perf_counter()
        os.rename(path, self.watched / path.name)
        while index.stat().st_size == before:
            if time.perf_counter() - began > LONE_DEADLINE:
                raise RuntimeError(f"no entry; see {self.daemon.log}")
            time.sleep(0.0001)
        os.fsync(folder)  # the entry is in sight a moment before its rename is on disk: wait for that too
        took = time.perf_counter() - began
        os.close(folder)
        return took

    def cpu_seconds(self) -> float:
        """User and system time of the daemon and its children so far."""
        return sum(_cpu_of(pid) for pid in _family(self.daemon.process.pid))

    def shared_mib(self) -> float:
        """Memory now, of the daemon and its children together, in MiB; what they share counts once."""
        return sum(_proportional(pid) for pid in _family(self.daemon.process.pid)) / 1024

    def peak_mib(self) -> float:
        """The largest resident memory of the daemon so far, and what its living children have alone, in MiB."""
        daemon, *children = _family(self.daemon.process.pid)
        return (_status(daemon, "VmHWM") + sum(map(_private, children))) / 1024


@contextmanager
def subject(folder: Path, *, archive: Path | None = None) -> Iterator[Subject]:
    """A daemon on a new folder, or on an archive that is there already."""
    folder.mkdir(parents=True, exist_ok=True)
    watched = folder / "watched"
    watched.mkdir(exist_ok=True)
    archive = archive or folder / "archive"
    with running_daemon("--watch", watched, "--archive", archive, log=folder / "daemon.log") as daemon:
        yield Subject(daemon, folder, watched, archive)


def _family(pid: int) -> list[int]:
    """The process and its descendants; each thread has children of its own."""
    try:
        children = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    except FileNotFoundError:
        return []
    return [pid, *(each for child in " ".join(children).split() for each in _family(int(child)))]


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _proportional(pid: int) -> int:
    """KiB; a page of three processes counts a third."""
    return _kib(pid, "smaps_rollup", "Pss")


def _private(pid: int) -> int:
    """KiB that no other process has."""
    return sum(_kib(pid, "smaps_rollup", name) for name in ("Private_Clean", "Private_Dirty"))


def _status(pid: int, name: str) -> int:
    return _kib(pid, "status", name)


def _kib(pid: int, file: str, name: str) -> int:
    for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0
