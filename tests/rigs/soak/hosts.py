"""A host: one daemon with its settings, its clock and its processes, started again however it ended.

The rule: what a host's daemon is made to do is done here, so that an end that nobody asked for is told from one that
somebody did.
"""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, Self

from modelwarden.pipeline.workers import NAME
from processes import Daemon, Site, destination, running_daemon, until
from rigs.launching import SteppedClock
from rigs.soak.disks import Disk
from rigs.soak.readings import called, children
from rigs.soak.trainers import MAX_BYTES

DESTINATION: Final = "team"
TOPICS: Final = ("APPROVED", "REVIEW", "DROP", "REJECTED")
"""All there is, so that everything is announced."""

MARK: Final = "SOAKED_IN"
"""The environment variable by which all of a soak's processes are known."""

SEND_SECONDS: Final = 2
"""How long a send may take: a destination that hangs costs the courier its life, soon."""

STOP_SECONDS: Final = 60.0
"""How long a daemon may take to stop: what its systemd unit grants."""

START_AGAIN_SECONDS: Final = 1.0
"""Pause before a daemon that could not start is started again, as systemd does."""


LINES: Final = 12
LONGEST_LINE: Final = 300
"""How many of its last lines are told of a daemon that ended, and how much of each."""

REFUSED: Final = 2
"""Exit code of a daemon that says why it can't run."""

FULL_A_MOMENT_AGO: Final = 5.0
"""Seconds within which a daemon that found the disk full has ended, also where it has room again meanwhile."""


class Clock(Protocol):
    """What a host needs of its clock."""

    @property
    def env(self) -> Mapping[str, str]:
        """The variables that give it to a process; none where no process can have one."""

    def step_to(self, seconds: int) -> None:
        """Set it so many seconds ahead of the true one."""


class TrueClock:
    """For a machine where no process can have a clock of its own."""

    def __init__(self) -> None:
        self.env: Mapping[str, str] = {}

    def step_to(self, seconds: int) -> None:
        """Stay what it is."""


def clock_in(folder: Path) -> Clock:
    """A clock that can be stepped, where the machine has what that takes."""
    return SteppedClock(folder) if shutil.which("faketime") else TrueClock()


@dataclass(frozen=True)
class Ended:
    """An end that nobody asked for.

    Attributes:
        code: the exit code; None for one that did not end when it was asked to.
        was_ready: whether it had started.
        said: the last lines of its log that are not of things gone well.
    """

    code: int | None
    was_ready: bool
    said: str

    def __str__(self) -> str:
        how = "did not stop when asked to" if self.code is None else f"ended with {self.code}"
        return f"{how}{'' if self.was_ready else ' before it was ready'}:\n{self.said}"


class Host:
    """One daemon.

    Args:
        name: also the path of its messages.
        site: where its things are.
        roots: the watched folders.
        url: where its messages go.
        disk: where its state and archive are.

    Attributes:
        name: the same.
        site: the same.
        roots: the same.
        clock: what its processes take for the time.
        unforeseen: every end that nobody asked for.
        refusals: how often it could not start while the disk was full, by what it said.
    """

    def __init__(self, name: str, site: Site, roots: Sequence[Path], url: str, disk: Disk) -> None:
        self._disk = disk
        self.name = name
        self.site = site
        self.roots = roots
        site.folder.mkdir()
        site.config.write_text(_settings(site, roots, url), encoding="utf-8")
        site.config.chmod(0o600)
        self.clock = clock_in(site.folder)
        self.unforeseen: list[Ended] = []
        self.refusals: Counter[str] = Counter()
        self._env = {MARK: str(site.folder.parent), **self.clock.env, **_sleep_mended(site.folder / "site")}
        self._stack = ExitStack()
        self._daemon: Daemon | None = None
        self._starts = 0
        self._start_at = 0.0
        self._is_wanted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def daemon(self) -> Daemon:
        """The one that runs, or the last one."""
        assert self._daemon is not None, f"{self.name} was never started"
        return self._daemon

    @property
    def pid(self) -> int:
        """The daemon's."""
        return self.daemon.process.pid

    def start(self, *, ready: bool) -> None:
        """Start it; with a log of its own, since what an earlier one said is not this one's."""
        self._starts += 1
        self._is_wanted = True
        log = self.site.folder / f"log-{self._starts}"
        running = running_daemon("--config", self.site.config, log=log, env=self._env, ready=None)
        self._daemon = self._stack.enter_context(running)
        if ready:
            until(self.is_ready, f"{self.name} to be ready")

    def is_ready(self) -> bool:
        """Whether it has started; it may have ended since."""
        return b'"ready"' in self.daemon.log.read_bytes()

    def supervise(self) -> None:
        """Start it again where it ended by itself."""
        code = self.daemon.process.poll()
        if code is None or not self._is_wanted or time.monotonic() < self._start_at:
            return
        self._note(code)
        self._stack.close()
        self._start_at = time.monotonic() + START_AGAIN_SECONDS
        self.start(ready=False)

    def kill(self) -> None:
        """Kill the daemon alone: its children must find out by themselves."""
        process = self.daemon.process
        if (code := process.poll()) is not None:
            self._note(code)
        self._is_wanted = False
        process.kill()
        process.wait()
        self._stack.close()

    def stop(self) -> None:
        """Ask it to stop, paused or not, and see that it does so in time and in order."""
        process = self.daemon.process
        self._is_wanted = False
        if (code := process.poll()) is not None:
            self._note(code)
            return
        was_ready = self.is_ready()
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        code = process.poll()
        # Before it heeds signals the kernel ends it; it has done nothing then.
        if code not in ({0} if was_ready else {0, -signal.SIGTERM}):
            self._note(code)
        self._stack.close()

    def _note(self, code: int | None) -> None:
        """It ended, and not as it was asked to. On a full disk it may refuse to start, where it says why."""
        said = self._last_lines()
        if code == REFUSED and not self.is_ready() and self._disk.full_until > time.monotonic() - FULL_A_MOMENT_AGO:
            self.refusals[_without_paths(said.splitlines()[-1] if said else "nothing")] += 1
        else:
            self.unforeseen.append(Ended(code, self.is_ready(), said))

    def _last_lines(self) -> str:
        """The end of its log, without what goes well."""
        lines = self.daemon.log.read_text(errors="replace").splitlines()
        return "\n".join([line[:LONGEST_LINE] for line in lines if '"level": "info"' not in line][-LINES:])

    def couriers(self) -> list[int]:
        """Its courier, where it has one now; not the one that only looks at the settings before a start."""
        return [pid for pid, line in children(self.pid).items() if " courier " in line and " --check" not in line]

    def workers(self) -> list[int]:
        """The processes that stage a backlog for it now."""
        return [pid for pid in children(self.pid) if called(pid) == NAME]

    def daemon_id(self) -> str:
        """What its runs record."""
        with closing(sqlite3.connect(self.site.state / "modelwarden.sqlite")) as connection:
            (found,) = connection.execute("SELECT daemon_id FROM identity").fetchone()
        return str(found)

    def logs(self) -> Iterator[tuple[str, Sequence[str]]]:
        """The name and the lines of each of its logs."""
        for number in range(1, self._starts + 1):
            log = self.site.folder / f"log-{number}"
            yield f"{self.name}/{log.name}", log.read_text(errors="replace").splitlines()


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """While entered, the process does not run."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _sleep_mended(folder: Path) -> Mapping[str, str]:
    """The variable by which Python sleeps in a way that libfaketime knows: 0.9.10 refuses clock_nanosleep."""
    folder.mkdir()
    text = "import select\nimport time\n\ntime.sleep = lambda seconds: select.select([], [], [], seconds)[3:]\n"
    (folder / "sitecustomize.py").write_text(text, encoding="utf-8")
    before = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{folder}{os.pathsep}{before}" if before else str(folder)}


def _settings(site: Site, roots: Sequence[Path], url: str) -> str:
    """The config file's text."""
    tables: dict[str, dict[str, Any]] = {
        # Seconds, for writers are held up on a loaded machine; what is given up nevertheless is known by its beginning.
        "intake": {"settle_seconds": 0.3, "reject_after_seconds": 4, "scan_every_seconds": 3, "max_bytes": MAX_BYTES},
        # Clocks are stepped by days: the deadline is not what is tried here.
        "notify": {"send_timeout_seconds": SEND_SECONDS, "deadline_hours": 10_000},
    }
    lines = [f'archive_dir = "{site.archive}"', f'state_dir = "{site.state}"']
    lines += [f'[[watch]]\npath = "{root}"' for root in roots]
    for name, values in tables.items():
        lines += [f"[{name}]", *(f"{key} = {value}" for key, value in values.items())]
    return "\n".join([*lines, destination(DESTINATION, url, *TOPICS)])


def _without_paths(text: str) -> str:
    return re.sub(r"/\S*/", "", text)
