"""A Debian 12 of its own, booted by systemd in a container.

The rule: what is installed there is installed by the README's own lines, and the units are those that are shipped.
"""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from processes import until
from rigs.debian import ENVIRONMENT, debian
from rigs.needs import needs

BOOT_SECONDS: Final = 120.0

WANTS_REBOOT: Final = 133
"""What nspawn exits with if the system in it is to be started again."""


class BootedHost:
    """A running container.

    Attributes:
        root: its file system.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._process: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        """Start it and wait until systemd has started all it was to start."""
        # Neither a scope nor a registration: neither is to be had in a container that itself is one.
        command = ["systemd-nspawn", "--register=no", "--keep-unit", "--link-journal=no", "--quiet", "--boot"]
        with (self.root.parent / "console").open("ab") as console:
            self._process = subprocess.Popen(
                [*command, f"--directory={self.root}"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        self.wait_until_up()

    def wait_until_up(self) -> None:
        """Until systemd says that it runs; degraded is up, too."""
        states = {"running", "degraded"}
        until(lambda: self.say("systemctl is-system-running") in states, "a system that is up", BOOT_SECONDS, tick=0.2)

    def reboot(self) -> None:
        """Let systemd end everything in order, and start it again."""
        assert self._process is not None
        self.run("systemctl reboot")
        assert self._process.wait(BOOT_SECONDS) == WANTS_REBOOT
        self.boot()

    def power_off(self) -> None:
        """End it."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)  # nspawn's word for an orderly end is SIGRTMIN+3; no need
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def run(self, script: str, *, user: str = "root", seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run lines of shell there; their exit code is the caller's to look at."""
        as_user = [] if user == "root" else ["/usr/sbin/runuser", "--user", user, "--"]
        return subprocess.run(
            ["nsenter", f"--target={self._init()}", "--all", "--", *as_user, "/bin/bash", "-c", script],
            env={"HOME": "/", **ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=seconds,
            check=False,
        )

    def say(self, script: str, *, user: str = "root") -> str:
        """What the lines print, without the last line break; "" also if there is no such host (yet)."""
        try:
            return self.run(script, user=user).stdout.rstrip("\n")
        except (LookupError, FileNotFoundError):
            return ""

    def do(self, script: str, *, user: str = "root", seconds: float = 120.0) -> str:
        """The same, where anything but exit code 0 is a failure of the test."""
        done = self.run(f"set -euo pipefail\n{script}", user=user, seconds=seconds)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout.rstrip("\n")

    def shows(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.say(f"systemctl show {unit} --property={name} --value")

    def _init(self) -> int:
        """The process that is number 1 there. Raises LookupError while there is none."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for child in map(int, children):
            with suppress(OSError):
                if re.search(r"^NSpid:.*\t1$", Path(f"/proc/{child}/status").read_text(), re.MULTILINE):
                    return child
        raise LookupError("no init yet")


@contextmanager
def booted_host(folder: Path, *, checkout: bool = True) -> Iterator[BootedHost]:
    """A host of its own below that folder, booted; it is gone at the end. With a copy of the checkout in /src."""
    needs(root=True, commands=("nsenter",))
    with debian(folder / "root", checkout=checkout) as root:
        host = BootedHost(root)
        try:
            host.boot()
            yield host
        finally:
            host.power_off()
