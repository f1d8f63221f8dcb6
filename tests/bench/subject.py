"""modelwarden as the benchmark meets it: a real daemon on its own folders, waited for by its log and by stat alone.

The rule: nothing here opens index.json while something is measured; a reader makes the daemon write it whole.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.workload import summary_bytes
from processes import Daemon, running_daemon

BURST_DEADLINE = 600.0
LONE_DEADLINE = 30.0

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Subject:
    """A running daemon, its folders, and summaries ready to be renamed in.

    Attributes:
        daemon: the process and its log.
        folder: holds everything.
        watched: where summaries are renamed to.
        archive: where runs go.
    """

    daemon: Daemon
    folder: Path
    watched: Path
    archive: Path

    def prepare(self, seeds: Sequence[int], *, models: int = 50) -> list[Path]:
        """Write summaries beside the watched folder, on disk."""
        ready = self.folder / "ready"
        ready.mkdir(exist_ok=True)
        paths = []
        for seed in seeds:
            path = ready / f"summary-{seed}.json"
            path.write_bytes(summary_bytes(seed, models=models))
            paths.append(path)
        os.sync()
        return paths

    def burst(self, paths: Sequence[Path], name: Callable[[Path], str] = lambda path: path.name) -> float:
        """Rename all in at once, to those names; return the seconds until the last is durable, indexed and recorded."""
        position = self.daemon.log.stat().st_size
        began = time.perf_counter()
        for path in paths:
            os.rename(path, self.watched / name(path))
        left = len(paths)
        with self.daemon.log.open("rb") as log:
            log.seek(position)
            while left > 0:
                if self.daemon.process.poll() is not None or time.perf_counter() - began > BURST_DEADLINE:
                    raise RuntimeError(f"{left} runs missing; see {self.daemon.log}")
                time.sleep(0.005)
                left -= log.read().count(b'"run_archived"')
        return time.perf_counter() - began

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

    def peak_mib(self) -> float:
        """The largest resident memory so far, of the daemon and its living children together, in MiB."""
        return sum(_status(pid, "VmHWM") for pid in _family(self.daemon.process.pid)) / 1024

    def resident_mib(self) -> float:
        """Resident memory now, of the daemon and its children together, in MiB."""
        return sum(_status(pid, "VmRSS") for pid in _family(self.daemon.process.pid)) / 1024


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


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0
