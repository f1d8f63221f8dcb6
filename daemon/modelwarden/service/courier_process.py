"""The courier as the daemon's child: started, watched, started again, stopped.

The rule: the daemon never waits for it. It is disposable: what it has not delivered stands in the outbox.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Final, Protocol

from modelwarden.log import log

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds before a courier that died is started again; doubled each time it dies young."""

GROWN_UP: Final = 60.0
"""A courier that lived this long did not die of its start."""

START_AGAIN: Final = 75
"""Exit code of a courier that ended itself because a send hung (sysexits: EX_TEMPFAIL)."""

STOP_SECONDS: Final = 5.0
"""How long a courier may take to stop before it is killed."""


class CourierHandle(Protocol):
    """What the main loop knows of the courier."""

    def supervise(self, now: float) -> None:
        """See that it runs; `now` is a monotonic clock."""

    def next_look(self) -> float | None:
        """When it is to be started again; None if that is not foreseen."""

    def stop(self) -> None:
        """End it, within STOP_SECONDS."""


class NoCourier:
    """For a daemon without destinations, or whose courier is a service of its own."""

    def supervise(self, now: float) -> None:
        """Nothing to see to."""

    def next_look(self) -> float | None:
        """Never."""
        return None

    def stop(self) -> None:
        """Nothing to end."""


class CourierProcess:
    """A child process that runs `modelwarden courier`.

    Args:
        arguments: of that command, so that it reads the same settings.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._start_at = 0.0
        self._pause = FIRST_PAUSE

    def supervise(self, now: float) -> None:
        """Start it if it does not run, with growing pauses if it keeps dying."""
        process = self._process
        if process is not None:
            if process.poll() is None:
                return
            self._release(process)
            if now - self._started_at > GROWN_UP or process.returncode == START_AGAIN:
                self._pause = FIRST_PAUSE
            # Who gave way had been delivering until then: the others' messages need not wait.
            pause = 0.0 if process.returncode == START_AGAIN else self._pause
            self._start_at = now + pause
            log.warning("courier_ended", exit_code=process.returncode, again_in_seconds=pause)
            self._pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, pause * 2))
        if now >= self._start_at:
            try:
                self._process = _start(self._arguments)
            except OSError as error:  # no process, no memory, no interpreter left: archiving goes on
                log.warning("courier_not_started", reason=str(error), again_in_seconds=self._pause)
                self._start_at = now + self._pause
                self._pause = min(LONGEST_PAUSE, self._pause * 2)
                return
            self._started_at = now
            log.info("courier_started", pid=self._process.pid)

    def next_look(self) -> float | None:
        """The end of the pause, while it does not run."""
        return self._start_at if self._process is None else None

    def stop(self) -> None:
        """Ask it to stop, then make it."""
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._release(process)

    def _release(self, process: subprocess.Popen[bytes]) -> None:
        self._process = None
        if process.stdin is not None:
            process.stdin.close()


def drain_outbox(arguments: Sequence[str], seconds: float) -> int:
    """Run a courier until nothing is owed, at most so many seconds; return its exit code, 1 if something is."""
    process = _start([*arguments, "--drain"])
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return 1
    finally:
        if process.stdin is not None:
            process.stdin.close()


def check_destinations(arguments: Sequence[str]) -> int:
    """Let a courier look whether it understands its destinations; return its exit code, 0 if it does.

    In a process of its own, since Apprise takes 45 MiB that the daemon would keep for years.
    """
    process = _start([*arguments, "--check"])
    try:
        return process.wait()
    finally:
        if process.stdin is not None:
            process.stdin.close()


def _start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """The child ends when its standard input does: it never outlives a daemon that was killed."""
    # -P: a folder called modelwarden where the daemon was started is not the package.
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module, our own arguments
        [sys.executable, "-P", "-m", "modelwarden", "courier", "--attached", *arguments],
        stdin=subprocess.PIPE,
        env=os.environ | {"PYTHONUTF8": "1"},
    )
