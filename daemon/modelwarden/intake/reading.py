"""Reading a file that a stranger may still be writing.

The rule: never block, never follow a link, never read more than the cap; and bytes count only if the file stood
still from before the read to after it.
"""

import errno
import os
import stat
import time
from contextlib import suppress
from typing import Final, NamedTuple

from modelwarden.errors import RejectSummary
from modelwarden.fingerprint import Fingerprint

_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_MIB: Final = 1 << 20
_HEAD: Final = _MIB
"""Bytes that are kept of a file that is too large."""

PATIENCE_SECONDS: Final = 1.0
"""How long a file that somebody asks for may go on changing while it is read."""

_PAUSE_SECONDS: Final = 0.05

LEAST_MEMORY: Final = 320 * _MIB
MEMORY_SHARE: Final = 5
"""So many times `max_bytes`, and not less than the other, may a file take while it is looked into: what a trainer
writes takes three or four times its size."""

_WEIGHTS: Final = {b",": 32, b":": 48, b'"': 24, b"{": 120, b"[": 72}
"""Bytes that a value, an entry, half a text, an object and a list take, about, by what each is written with."""

_WORST: Final = 64
"""No file takes so many times its size."""


class Whole(NamedTuple):
    """All bytes of a file that stood still."""

    data: bytes
    fingerprint: Fingerprint


class Gone(NamedTuple):
    """Nothing is there (any more)."""


class NotAFile(NamedTuple):
    """Something is there that is no regular file. `kind` says what, such as `a symbolic link`."""

    kind: str


class Moving(NamedTuple):
    """It changed while it was read: read it again."""


class TooLarge(NamedTuple):
    """More bytes than the cap. `head` holds the first of them."""

    head: bytes
    fingerprint: Fingerprint

    def error(self, max_bytes: int) -> RejectSummary:
        """Why that is no summary."""
        return RejectSummary(
            f"{self.fingerprint.size} bytes, more than max_bytes = {max_bytes}",
            hint="split the run, or raise max_bytes in [intake]; only the beginning of such a file is kept",
        )


class TooDense(NamedTuple):
    """So many values in these bytes that looking into them takes more memory than there is for one file."""

    data: bytes
    fingerprint: Fingerprint

    def error(self, max_bytes: int) -> RejectSummary:
        """Why that is no summary."""
        takes, may_take = memory_of(self.data) // _MIB, memory_allowed(max_bytes) // _MIB
        return RejectSummary(
            f"looking into it takes some {takes} MiB of memory, more than {may_take}: its values are very many",
            hint="split the run, or raise max_bytes in [intake], of which it may take five times as much",
        )


class Refused(NamedTuple):
    """The system said no (a right, the disk, too many open files)."""

    reason: str


Reading = Whole | Gone | NotAFile | Moving | TooLarge | TooDense | Refused


def read_whole(path: str, max_bytes: int) -> Reading:  # noqa: PLR0911 - one return an outcome
    """The bytes of a regular file and its fingerprint, or why there are none. Raises nothing."""
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        # ELOOP: a link; ENXIO: a socket, or a device without a driver; ENOTDIR: a folder above became a file.
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV}:
            return _what_else(path)
        return Refused(error.strerror or str(error))
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            return NotAFile(_kind(before.st_mode))
        is_large = before.st_size > max_bytes
        data = _read_up_to(descriptor, min(_HEAD, max_bytes + 1) if is_large else max_bytes + 1, before.st_size + 1)
        after = os.fstat(descriptor)
    except OSError as error:
        return Refused(error.strerror or str(error))
    finally:
        with suppress(OSError):  # of a file that was only read: nothing can be lost any more
            os.close(descriptor)
    if (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino):
        return Moving()
    # The time of change tells of a rewrite whose other times were put back; a file that lost its last name changes too.
    if before.st_ctime_ns != after.st_ctime_ns and after.st_nlink > 0:
        return Moving()
    if is_large or len(data) > max_bytes:
        return TooLarge(data[:_HEAD], Fingerprint.of(after))
    if len(data) * _WORST > memory_allowed(max_bytes) and memory_of(data) > memory_allowed(max_bytes):
        return TooDense(data, Fingerprint.of(after))
    return Whole(data, Fingerprint.of(after))


def read_at_rest(path: str, max_bytes: int) -> Reading:
    """The same of a file that somebody asks for: one that changes meanwhile is read again for PATIENCE_SECONDS."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while isinstance(reading := read_whole(path, max_bytes), Moving) and time.monotonic() <= deadline:
        time.sleep(_PAUSE_SECONDS)
    return reading


def memory_allowed(max_bytes: int) -> int:
    """How many bytes it may take to look into a file."""
    return max(LEAST_MEMORY, MEMORY_SHARE * max_bytes)


def memory_of(data: bytes) -> int:
    """About how many bytes it takes to look into JSON; a text full of brackets is taken for what it looks like."""
    return len(data) + sum(weight * data.count(sign) for sign, weight in _WEIGHTS.items())


def _what_else(path: str) -> Gone | NotAFile:
    """What is there instead of a file that can be opened."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return Gone()
    return Gone() if stat.S_ISREG(mode) else NotAFile(_kind(mode))


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")


def _read_up_to(descriptor: int, limit: int, expected: int) -> bytes:
    """Up to `limit` bytes. The system may hand them out in pieces: only an empty one is the end.

    What is expected is asked for at once: nearly every file is one piece, and is not copied.
    """
    parts, total, ask = [], 0, expected
    while total < limit and (part := os.read(descriptor, min(ask, limit - total))):
        parts.append(part)
        total += len(part)
        ask = _MIB
    return parts[0] if len(parts) == 1 else b"".join(parts)
