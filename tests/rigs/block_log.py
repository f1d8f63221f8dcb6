"""A disk that keeps a record: one FUSE file to put under a loop device, and the log of what was written and flushed.

The rule: a write stands in the log before the writer is told that it is done, in the order in which the writes came.
What stands before a flush is on the disk from then on; what stands behind the last flush may be there or not, each
block by itself.
"""

import errno
import json
import os
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from processes import until

DISK: Final = "disk"
"""The one file's name in the FUSE mount."""

_RECORD: Final = struct.Struct("<cQI")  # what, offset on the disk, length of the data that follows
_WRITE: Final = b"w"
_FLUSH: Final = b"f"


class Write(NamedTuple):
    """Bytes that the file system above sent to a place on the disk."""

    offset: int
    data: bytes


class Epoch(NamedTuple):
    """The writes between two flushes: a power cut leaves any of them, in any order.

    Attributes:
        writes: in the order in which they came.
        end: the log's size once the flush stood in it. What happened while the log was shorter, happened before.
    """

    writes: list[Write]
    end: int


class Fault(NamedTuple):
    """Which writes fail with EIO: those that hold one text and none of others.

    Attributes:
        within: what a write must hold to fail.
        without: what it must not hold.
    """

    within: str
    without: Sequence[str] = ()

    def hits(self, data: bytes) -> bool:
        """Whether a write of these bytes fails."""
        return self.within.encode() in data and not any(text.encode() in data for text in self.without)


@dataclass(frozen=True)
class RecordedDisk:
    """A disk under record.

    Attributes:
        path: the file to mount by a loop device.
        log: what was written and flushed so far.
        faults: the file that says what fails; see `fail` and `mend`.
    """

    path: Path
    log: Path
    faults: Path

    def fail(self, fault: Fault) -> None:
        """From now on, fail these writes."""
        scratch = self.faults.with_suffix(".new")
        scratch.write_text(json.dumps(fault))
        scratch.rename(self.faults)

    def mend(self) -> None:
        """From now on, fail nothing."""
        self.faults.unlink()

    def refused(self) -> int:
        """How many writes failed so far."""
        count = self.faults.with_suffix(".count")
        return count.stat().st_size if count.exists() else 0


@contextmanager
def recorded_disk(image: Path, folder: Path) -> Iterator[RecordedDisk]:
    """Serve an image as a disk under record; whatever is mounted from it must be unmounted before the end.

    Args:
        image: what is on the disk at first; written to.
        folder: for the log and the FUSE mount; made here.
    """
    folder.mkdir()
    disk = RecordedDisk(folder / "fuse" / DISK, folder / "log", folder / "faults")
    disk.path.parent.mkdir()
    disk.log.touch()
    server = subprocess.Popen(
        [sys.executable, "-P", "-m", "rigs.block_log", image, disk.log, disk.faults, disk.path.parent],
        stdin=subprocess.DEVNULL,
    )
    try:
        until(lambda: disk.path.exists() or server.poll() is not None, "the FUSE file is served")
        if server.poll() is not None:
            raise RuntimeError(f"the FUSE server ended with {server.returncode}")
        yield disk
    finally:
        subprocess.run(["umount", disk.path.parent], check=False)
        try:
            server.wait(10)
        finally:
            server.kill()
            server.wait()


def epochs_of(log: Path) -> list[Epoch]:
    """The log, flush by flush. The last epoch is what was written behind the last flush."""
    data = log.read_bytes()
    epochs: list[Epoch] = []
    writes: list[Write] = []
    position = 0
    while position < len(data):
        what, offset, length = _RECORD.unpack_from(data, position)
        position += _RECORD.size
        if what == _WRITE:
            writes.append(Write(offset, data[position : position + length]))
            position += length
        else:
            epochs.append(Epoch(writes, position))
            writes = []
    return [*epochs, Epoch(writes, position + 1)]


class _Disk:
    """The FUSE file system: a folder with one file. The methods are those that mfusepy calls by name.

    It is served by one thread, so the log's order is the disk's.
    """

    use_ns = True  # times are whole nanoseconds: mfusepy asks

    def __init__(self, image: str, log: str, faults: str) -> None:
        self._image = os.open(image, os.O_RDWR)
        self._size = os.fstat(self._image).st_size
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND)
        self._faults = faults
        self._refused = os.open(f"{faults}.count", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def getattr(self, path: str, _handle: int | None = None) -> Mapping[str, int]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        if path == f"/{DISK}":
            return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": self._size}
        raise FileNotFoundError(errno.ENOENT, path)

    def open(self, _path: str, _flags: int) -> int:
        return 0

    def read(self, _path: str, size: int, offset: int, _handle: int) -> bytes:
        return os.pread(self._image, size, offset)

    def write(self, _path: str, data: bytes, offset: int, _handle: int) -> int:
        if (fault := self._fault()) is not None and fault.hits(data):
            os.write(self._refused, b".")
            raise OSError(errno.EIO, "a bad block")
        if os.pwrite(self._image, data, offset) != len(data):
            raise OSError(errno.EIO, "short write")
        os.writev(self._log, [_RECORD.pack(_WRITE, offset, len(data)), data])
        return len(data)

    def fsync(self, _path: str, _only_data: int, _handle: int) -> int:
        os.write(self._log, _RECORD.pack(_FLUSH, 0, 0))
        return 0

    def _fault(self) -> Fault | None:
        try:
            with open(self._faults, "rb") as stream:
                return Fault._make(json.load(stream))
        except FileNotFoundError:
            return None


def _serve(image: str, log: str, faults: str, mountpoint: str) -> None:
    import mfusepy  # noqa: PLC0415 - loads libfuse, which the reader of a log needs not

    operations: Any = _Disk(image, log, faults)
    # direct_io: what the loop device writes comes here at once, past a second page cache.
    mfusepy.FUSE(operations, mountpoint, foreground=True, nothreads=True, direct_io=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
