"""Real processes for tests: a running daemon, commands, and waiting on a condition with a deadline."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T")

DEADLINE = float(os.environ.get("TEST_DEADLINE", "30"))
"""Seconds until a condition that does not come true fails the test; generous, for a loaded machine."""


def until(condition: Callable[[], T], what: str, seconds: float = DEADLINE, *, tick: float = 0.01) -> T:
    """Return the first truthy value of the condition; fail the test with `what` when the deadline passes.

    Args:
        condition: asked every `tick` seconds.
        what: what was waited for.
        seconds: the deadline.
        tick: 0 for who must be there the moment it happens.
    """
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(tick)


def next_tick(folder: Path) -> None:
    """Wait until what is done to the folder has another time than what was: files have the kernel's last tick."""
    before, clock = folder.stat().st_mtime_ns, folder.parent / f"{folder.name}.clock"

    def has_come() -> bool:
        clock.write_bytes(b"")
        return clock.stat().st_mtime_ns > before

    until(has_come, "the next tick")
    clock.unlink()


def modelwarden(
    *arguments: str | os.PathLike[str],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdout: int = subprocess.PIPE,
    timeout: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. Output is decoded as UTF-8; check `returncode` yourself."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "modelwarden", *arguments],
        cwd=cwd,
        env=clean_environment(env),
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        timeout=timeout,
        check=False,
    )


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of modelwarden's or of systemd's."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MODELWARDEN_") and name not in _OF_SYSTEMD
    }
    return kept | dict(extra or {})


_OF_SYSTEMD = {"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "JOURNAL_STREAM", "CREDENTIALS_DIRECTORY"}


class Daemon:
    """A running `modelwarden run` or `courier`. Its log is a file of JSON lines, read as it grows."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """The events so far, all or those of one name; lines that are no events are left out."""
        whole = self.log.read_text().rpartition("\n")[0]  # the last line may be half written
        events = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return events if name is None else [event for event in events if event["event"] == name]

    def wait_for(self, name: str, count: int = 1, seconds: float = DEADLINE) -> list[dict[str, Any]]:
        """Wait until there are that many events of a name."""

        def enough() -> list[dict[str, Any]]:
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.log.read_text()}")
            found = self.events(name)
            return found if len(found) >= count else []

        return until(enough, f"{count} x {name} in\n{self.log.read_text()}", seconds)

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = DEADLINE) -> int:
        """Send a signal and wait for the end; return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)


DIES_WITH_US: Final = ("setpriv", "--pdeathsig=KILL")
"""The kernel kills the process when its parent ends, so that nothing outlives a test run that was killed. It stands
last before the daemon: who changes rights on the way loses it."""


@contextmanager
def running_daemon(
    *arguments: str | os.PathLike[str],
    log: Path,
    how: Sequence[str | os.PathLike[str]] = (),
    command: str = "run",
    cwd: Path = Path("/"),
    env: Mapping[str, str] | None = None,
    ready: str | None = "ready",
) -> Iterator[Daemon]:
    """Start modelwarden and wait until it is ready; it is killed at the end where a test left it running.

    Args:
        arguments: the command's.
        log: the file that output is appended to.
        how: commands that run another, such as those of `rigs.launching`.
        command: `run` or `courier`.
        cwd: its current folder; by default one where no test's settings are.
        env: more variables.
        ready: the event to wait for; None for none.
    """
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [*how, *DIES_WITH_US, sys.executable, "-P", "-m", "modelwarden", command, *arguments],
            cwd=cwd,
            env=clean_environment(env),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    daemon = Daemon(process, log)
    try:
        if ready is not None:
            daemon.wait_for(ready)
        yield daemon
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def running_courier(
    *arguments: str | os.PathLike[str],
    log: Path,
    env: Mapping[str, str] | None = None,
    ready: str | None = "courier_ready",
) -> AbstractContextManager[Daemon]:
    """The same for `modelwarden courier`."""
    return running_daemon(*arguments, log=log, command="courier", env=env, ready=ready)


@contextmanager
def running_program(program: str, *arguments: str | os.PathLike[str], says: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process with a program of the test's own, once it has said so; killed at the end.

    Args:
        program: in Python.
        arguments: its own.
        says: its first line.
    """
    command = [sys.executable, "-P", "-c", program, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"{says}\n".encode()
            yield process
        finally:
            process.kill()


def drop(data: bytes, folder: Path, name: str = "summary.json") -> Path:
    """Rename a finished file into a folder, as a careful trainer does; return its path."""
    temporary = folder / f".{name}.tmp"
    temporary.write_bytes(data)
    return temporary.rename(folder / name)


def index_of(archive: Path) -> Sequence[dict[str, Any]]:
    """The runs in index.json; empty while there is none."""
    try:
        document = json.loads((archive / "index.json").read_bytes())
    except FileNotFoundError:
        return []
    runs: Sequence[dict[str, Any]] = document["runs"]
    return runs


@dataclass(frozen=True)
class Site:
    """A place of work: a config file, a watched folder `out`, an archive with the state in it, and a log.

    Attributes:
        folder: all is below it, unless told otherwise.
        out_folder: the watched folder, where it lies elsewhere.
        archive_folder: likewise the archive.
        state_folder: likewise the state.
    """

    folder: Path
    out_folder: Path | None = None
    archive_folder: Path | None = None
    state_folder: Path | None = None

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def out(self) -> Path:
        return self.out_folder or self.folder / "out"

    @property
    def archive(self) -> Path:
        return self.archive_folder or self.folder / "archive"

    @property
    def state(self) -> Path:
        return self.state_folder or self.archive / ".state"

    @property
    def log(self) -> Path:
        return self.folder / "log"


def make_site(
    folder: Path,
    *tables: str,
    watch: str = '[[watch]]\npath = "out"\n',
    intake: str = "",
    archive: str = "archive",
    level: str = "info",
) -> Site:
    """Write a config file with short settle times and make the watched folder.

    Args:
        folder: where; made where missing.
        tables: more TOML.
        watch: the watched folders, as TOML.
        intake: more lines of `[intake]`.
        archive: archive_dir.
        level: of the log.
    """
    site = Site(folder, archive_folder=folder / archive)
    site.out.mkdir(parents=True, exist_ok=True)
    intake = f"[intake]\nsettle_seconds = 0.2\nreject_after_seconds = 1\n{intake}\n"
    parts = [f'archive_dir = "{archive}"', watch, intake, f'[log]\nlevel = "{level}"', *tables]
    site.config.write_text("\n".join(parts), encoding="utf-8")
    site.config.chmod(0o600)  # it may hold URLs
    return site


def destination(name: str, url: str, *on: str) -> str:
    """A `[[notify.destination]]` table."""
    return f'[[notify.destination]]\nname = "{name}"\nurl = "{url}"\non = {json.dumps(on)}\n'


def outbox_of(state: Path) -> list[dict[str, Any]]:
    """The outbox's rows, oldest first; empty while there is no state file."""
    file = state / "modelwarden.sqlite"
    if not file.exists():
        return []
    with closing(sqlite3.connect(file)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM outbox ORDER BY id")]


def is_running(pid: int) -> bool:
    """Whether the process is there and not a zombie that nobody reaps."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
