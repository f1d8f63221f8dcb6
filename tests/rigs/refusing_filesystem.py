"""A file system that refuses what it is told to: a folder passed through FUSE, with errors by order.

The rule: without orders it does what the folder below it does. An order names a call, the paths it is about and the
error; orders are a file that is read at every call, so a test changes them while a daemon works. What somebody changes
in the folder below gives no events in the mount, as what another host writes to a network file system.

Run as a program it serves one mount: `python -m rigs.refusing_filesystem BELOW MOUNTPOINT ORDERS`.
"""

import errno
import fnmatch
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from processes import DIES_WITH_US, until
from rigs.mounts import PrivateMounts
from rigs.needs import needs

ANSWER_LOST: Final = "rename, and the answer is lost"
"""The order for a rename that is done and reported as failed."""

WHOLE_SECONDS: Final = "times in whole seconds"
"""The order for a file system that keeps no fractions of a second; its error means nothing."""

_TIMES: Final = ("st_atime", "st_mtime", "st_ctime")
_FIGURES: Final = ("st_mode", "st_ino", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks")
_SPACE: Final = (
    "f_bavail",
    "f_bfree",
    "f_blocks",
    "f_bsize",
    "f_favail",
    "f_ffree",
    "f_files",
    "f_frsize",
    "f_namemax",
)

Order = tuple[str, str, int]
"""The call, a shell pattern of paths below the mount, the error."""


class Operations:
    """What FUSE calls, by the names it calls it.

    Args:
        below: the folder that holds everything.
        orders: the file with the orders.
    """

    use_ns: Final = True

    def __init__(self, below: str, orders: str) -> None:
        self._below = below
        self._orders = orders

    def _real(self, path: str) -> str:
        return self._below + path

    def _ordered(self, call: str, path: str) -> int:
        """The error that was ordered for the call, 0 for none."""
        with open(self._orders, encoding="utf-8") as stream:
            orders: list[Order] = json.load(stream)
        return next((error for name, paths, error in orders if name == call and fnmatch.fnmatchcase(path, paths)), 0)

    def _obey(self, call: str, path: str) -> None:
        if error := self._ordered(call, path):
            raise OSError(error, os.strerror(error), path)

    def getattr(self, path: str, handle: int | None = None) -> dict[str, int]:
        self._obey("getattr", path)
        status = os.lstat(self._real(path)) if handle is None else os.fstat(handle)
        second = 10**9 if self._ordered(WHOLE_SECONDS, path) else 1
        times = {name: getattr(status, f"{name}_ns") // second * second for name in _TIMES}
        return times | {name: getattr(status, name) for name in _FIGURES}

    def readdir(self, path: str, _handle: int) -> list[str]:
        self._obey("readdir", path)
        return [".", "..", *os.listdir(self._real(path))]

    def open(self, path: str, flags: int) -> int:
        self._obey("open", path)
        return os.open(self._real(path), flags)

    def create(self, path: str, mode: int) -> int:
        self._obey("create", path)
        return os.open(self._real(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, stat.S_IMODE(mode))

    def read(self, path: str, size: int, offset: int, handle: int) -> bytes:
        self._obey("read", path)
        return os.pread(handle, size, offset)

    def write(self, path: str, data: bytes, offset: int, handle: int) -> int:
        self._obey("write", path)
        return os.pwrite(handle, data, offset)

    def truncate(self, path: str, length: int, handle: int | None = None) -> int:
        os.truncate(self._real(path) if handle is None else handle, length)
        return 0

    def release(self, _path: str, handle: int) -> int:
        os.close(handle)
        return 0

    def fsync(self, path: str, _only_data: int, handle: int) -> int:
        self._obey("fsync", path)
        os.fsync(handle)
        return 0

    def fsyncdir(self, path: str, _only_data: int, _handle: int) -> int:
        self._obey("fsync", path)
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        self._obey("mkdir", path)
        os.mkdir(self._real(path), mode)
        return 0

    def rmdir(self, path: str) -> int:
        os.rmdir(self._real(path))
        return 0

    def unlink(self, path: str) -> int:
        os.unlink(self._real(path))
        return 0

    def rename(self, old: str, new: str) -> int:
        self._obey("rename", new)
        os.rename(self._real(old), self._real(new))
        self._obey(ANSWER_LOST, new)
        return 0

    def utimens(self, path: str, times: tuple[int, int]) -> int:
        os.utime(self._real(path), ns=times)
        return 0

    def chmod(self, path: str, mode: int) -> int:
        os.chmod(self._real(path), mode)
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        status = os.statvfs(self._real(path))
        return {name: getattr(status, name) for name in _SPACE}


class RefusingFilesystem:
    """The mount, as a test has it.

    Attributes:
        below: the folder that is passed through.
        mountpoint: where it is mounted.
    """

    def __init__(self, below: Path, mountpoint: Path, orders: Path) -> None:
        self.below = below
        self.mountpoint = mountpoint
        self._file = orders
        self.relent()

    def refuse(self, *orders: Order) -> None:
        """From now on refuse these calls, and no others."""
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(orders), encoding="utf-8")
        new.rename(self._file)

    def relent(self) -> None:
        """Refuse nothing any more."""
        self.refuse()


@contextmanager
def refusing_filesystem(mounts: PrivateMounts, mountpoint: Path) -> Iterator[RefusingFilesystem]:
    """Mount one at an empty folder, in a private namespace, over a folder beside it."""
    needs(fuse=True)
    below = mountpoint.with_name(f"{mountpoint.name}-below")
    below.mkdir()
    orders = mountpoint.with_name(f"{mountpoint.name}-orders")
    filesystem = RefusingFilesystem(below, mountpoint, orders)
    server = subprocess.Popen(
        [*DIES_WITH_US, *mounts.how, sys.executable, "-P", "-m", __name__, below, mountpoint, orders],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    try:
        until(lambda: f" {mountpoint} ".encode() in mounts.table(), f"{mountpoint} to be mounted")
        yield filesystem
    finally:
        server.kill()  # the mount goes with the namespace
        server.wait()


def serve(below: str, mountpoint: str, orders: str) -> None:
    """Mount, and answer until it is unmounted."""
    import mfusepy  # noqa: PLC0415 - loads libfuse, which a test that is only collected must not need

    class Fuse(mfusepy.FUSE):  # type: ignore[misc]
        """Says of a rename with flags that it does not know them, as most network file systems do."""

        def rename_fuse_3(self, old: bytes, new: bytes, flags: int) -> int:
            if flags:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return int(self.rename_fuse_2(old, new))

    # Nothing is remembered by the kernel: what changes below is seen at the next call.
    unremembered = {"attr_timeout": 0, "entry_timeout": 0, "negative_timeout": 0}
    Fuse(Operations(below, orders), mountpoint, foreground=True, nothreads=True, **unremembered)


if __name__ == "__main__":
    serve(*sys.argv[1:])
