"""Mounts that only a test and its daemon see: a private mount namespace, with tmpfs and ext4 in a file.

The rule: nothing is ever mounted in the machine's own namespace. The namespace lives as long as the process that holds
it, and that one ends with the test, also where the test run is killed: the kernel then takes all mounts and loop
devices back.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from processes import DIES_WITH_US, until
from rigs.needs import needs


class PrivateMounts:
    """A mount namespace.

    Attributes:
        how: what makes a command, or a daemon, run in it (see `processes.running_daemon`).
    """

    def __init__(self, holder: int) -> None:
        self._holder = holder
        self.how: Sequence[str] = ("nsenter", f"--mount=/proc/{holder}/ns/mnt", "--")

    def seen(self, path: Path) -> Path:
        """The path by which this process sees what is at `path` in there."""
        return Path(f"/proc/{self._holder}/root{path}")

    def table(self) -> bytes:
        """What is mounted in there, as the kernel tells it."""
        return Path(f"/proc/{self._holder}/mountinfo").read_bytes()

    def run(self, *command: str | os.PathLike[str]) -> None:
        """Run a command in there; fail with what it says."""
        result = subprocess.run([*self.how, *command], capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{command}: {result.stderr}"

    def tmpfs(self, path: Path, *options: str) -> None:
        """Mount an empty tmpfs at the path."""
        self.run("mount", "-t", "tmpfs", "-o", ",".join(["mode=755", *options]), "none", path)

    def ext4(self, image: Path, path: Path) -> None:
        """Mount the image at the path."""
        self.run("mount", "-o", "loop", image, path)

    def remount(self, path: Path, option: str) -> None:
        """Change a mount: `ro`, `rw`."""
        self.run("mount", "-o", f"remount,{option}", path)

    def unmount(self, path: Path) -> None:
        """Unmount what is at the path; a daemon that reads there this moment makes it busy."""

        def unmounted() -> bool:
            return subprocess.run([*self.how, "umount", path], capture_output=True, check=False).returncode == 0

        until(unmounted, f"{path} to be unmounted")

    def detach(self, path: Path) -> None:
        """Unmount what is at the path although it is in use: who has files open there keeps them."""
        self.run("umount", "--lazy", path)


@contextmanager
def private_mounts() -> Iterator[PrivateMounts]:
    """A new mount namespace, gone at the end with all that is mounted in it."""
    with namespace_holder() as holder:
        yield PrivateMounts(holder)


@contextmanager
def namespace_holder(*more: str, first: str = ":") -> Iterator[int]:
    """A process that holds a new mount namespace; its pid.

    Args:
        more: options of unshare for more namespaces.
        first: what a shell does in there before anybody else.
    """
    needs(root=True, commands=("unshare", "nsenter", "mount", "umount"))
    options = ("--mount", "--propagation", "private", *more)
    holder = subprocess.Popen(
        [*DIES_WITH_US, "unshare", *options, "sh", "-c", f"{first} && echo && exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.read(1), "no namespace"  # it is in there now
        yield holder.pid
    finally:
        holder.kill()
        holder.communicate()


def ext4_image(image: Path, megabytes: int, *options: str) -> Path:
    """Make a file that holds an empty ext4, with these options of mkfs; return it."""
    needs(commands=("mkfs.ext4",), devices=("/dev/loop-control",))
    with image.open("wb") as stream:
        stream.truncate(megabytes << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", *options, image], check=True, capture_output=True)
    return image
