"""How a daemon can be started in a way of its own: under strace, with fewer rights, under limits, with another clock.

The rule: the process that is started is the daemon itself (every prefix here ends in an exec), so that a signal to it
is a signal to the daemon.
"""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from processes import until
from rigs.needs import needs

_FAKETIME_LIBRARIES: Final = "/usr/lib/*/faketime/libfaketimeMT.so.1"


def traced(report: Path, *options: str) -> Sequence[str | os.PathLike[str]]:
    """Under strace with these options; `-D` makes the tracer the child, and the daemon the process that was started.

    Args:
        report: where strace writes what it saw.
        options: what to trace and what to inject.
    """
    needs(root=True, commands=("strace",))  # -D attaches to its own parent, which others may be forbidden
    return "strace", "-D", "-f", "-qq", "-o", report, *options


def without_the_rights_of_root() -> Sequence[str]:
    """As a user who may read what its mode lets it: root keeps its name and loses the right to pass modes by."""
    if os.geteuid() != 0:
        return ()
    return "setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"


def with_inotify_limits(*, watches: int | None = None, instances: int | None = None) -> Sequence[str]:
    """In a user namespace of its own whose limits on inotify are these; nobody else's change."""
    namespace = ("unshare", "--user", "--map-root-user")
    needs(commands=("unshare",))
    if subprocess.run([*namespace, "true"], check=False, capture_output=True).returncode:
        needs(devices=("a user namespace",))
    limits = {"watches": watches, "instances": instances}
    orders = [f"echo {most} >/proc/sys/user/max_inotify_{what}" for what, most in limits.items() if most is not None]
    return *namespace, "sh", "-c", " && ".join([*orders, 'exec "$@"']), "sh"


class SteppedClock:
    """A wall clock that a test sets for the daemon and its children; the monotonic clock stays the kernel's.

    Args:
        folder: where the file with the offset is kept.
    """

    def __init__(self, folder: Path) -> None:
        libraries = sorted(map(str, Path("/").glob(_FAKETIME_LIBRARIES.lstrip("/"))))
        needs(commands=("faketime",))
        self._offset = folder / "clock-offset"
        self.step_to(0)
        self.env = {
            "LD_PRELOAD": libraries[0],
            "FAKETIME_TIMESTAMP_FILE": str(self._offset),
            "FAKETIME_NO_CACHE": "1",  # the file is read at every look at the clock
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def step_to(self, seconds: int) -> None:
        """Set the clock so many seconds ahead of the true one, or behind it."""
        new = self._offset.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(self._offset)


def kernel_watches(pid: int) -> int:
    """How many folders the kernel watches for a process."""
    count = 0
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            count += entry.read_text().count("inotify wd:")
        except FileNotFoundError:  # closed meanwhile
            continue
    return count


def stop_tracing(pid: int) -> None:
    """Take strace away; the process goes on without it."""
    status = Path(f"/proc/{pid}/status")

    def tracer() -> int:
        return int(status.read_text().partition("TracerPid:")[2].split()[0])

    os.kill(tracer(), signal.SIGKILL)  # with -D it heeds no other
    until(lambda: tracer() == 0, "strace to let go")


def wait_for_strace(report: Path, text: str) -> None:
    """Wait until strace has written the text."""
    until(lambda: report.exists() and text in report.read_text(errors="replace"), f"{text!r} in {report}")
