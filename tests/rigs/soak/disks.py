"""The disk that the archive and the states are on, and the taking of all its room.

The rule: a disk that can be filled is a file system of its own, mounted where nobody but the soak sees it; where that
can't be had, nothing is filled, and what was left out is said.
"""

import errno
import math
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from rigs.disk_images import FileSystem, make_image, mounted

OWN_MOUNTS: Final = "SOAK_HAS_OWN_MOUNTS"
"""Set in the environment of a soak whose mounts nobody else sees."""

SHARED_MEMORY: Final = "/dev/shm"

_LEAST: Final = 512
"""Bytes of the smallest piece of room that is taken."""


class Disk(Protocol):
    """Where things are stored.

    Attributes:
        folder: on it.
        full_until: until when its room was taken, by the monotonic clock; infinity while it is.
        why_never_full: why its room can't be taken; "" where it can.
    """

    folder: Path
    full_until: float
    why_never_full: str

    @contextmanager
    def filled(self) -> Iterator[None]:
        """While entered, there is no room."""
        yield


class OrdinaryFolder:
    """A folder on the machine's own disk, which is not filled.

    Args:
        folder: made here.
        reason: why there is no better one.
    """

    def __init__(self, folder: Path, reason: str) -> None:
        self.folder = folder
        self.full_until = -math.inf
        self.why_never_full = reason
        folder.mkdir()

    @contextmanager
    def filled(self) -> Iterator[None]:
        """Do nothing."""
        yield


class SmallDisk:
    """A mounted file system.

    Args:
        folder: where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.full_until = -math.inf
        self.why_never_full = ""
        self._ballast = folder / "ballast"

    @contextmanager
    def filled(self) -> Iterator[None]:
        """One file takes all that is left, while others go on to take and to give back."""
        self.full_until = math.inf
        try:
            with self._ballast.open("wb", buffering=0) as stream:
                self._take_all(stream.fileno())
                yield
        finally:
            self._ballast.unlink(missing_ok=True)
            self.full_until = time.monotonic()

    def _take_all(self, descriptor: int) -> None:
        room = os.statvfs(self.folder)
        piece, end = room.f_bavail * room.f_frsize, 0
        while piece >= _LEAST:
            try:
                os.posix_fallocate(descriptor, end, piece)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                piece //= 2
            else:
                end += piece


def what_is_missing_for_a_disk() -> str:
    """Why no disk can be filled on this machine; "" where one can."""
    if os.environ.get(OWN_MOUNTS):
        return ""
    if os.geteuid() != 0:
        return "not root"
    missing = [name for name in ("unshare", "mount", "umount", "mkfs.ext4") if shutil.which(name) is None]
    if not Path("/dev/loop-control").exists():
        missing.append("/dev/loop-control")
    if missing:
        return f"this machine lacks {', '.join(missing)}"
    refused = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    return refused.stderr.strip()


@contextmanager
def disk_in(folder: Path, mebibytes: int) -> Iterator[Disk]:
    """A disk below the folder: one that can be filled where the soak has mounts of its own, else an ordinary folder."""
    if not os.environ.get(OWN_MOUNTS):
        yield OrdinaryFolder(folder / "disk", what_is_missing_for_a_disk() or "no mounts of its own")
        return
    # What libfaketime leaves there of every process that is killed goes with the mounts.
    subprocess.run(["mount", "-t", "tmpfs", "none", SHARED_MEMORY], check=True)
    ext4 = FileSystem("ext4", mebibytes, ("mkfs.ext4", "-q", "-m", "0"), "loop")
    make_image(ext4, folder / "image")
    with mounted(ext4, folder / "image", folder / "disk") as mountpoint:
        yield SmallDisk(mountpoint)
