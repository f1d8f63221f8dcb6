"""Removing a summary whose run is safe: only the very file that was archived goes.

The rule: a trainer may rename its next summary over the name at any moment, so a name is never unlinked by what stood
there before. It is taken away first; what was taken is then looked at, and is removed, or gets its name back. A process
that dies between leaves the file under its aside name, which every scan finds as it finds a summary.
"""

import errno
import fcntl
import os
import stat
from contextlib import suppress
from typing import Final, NamedTuple

from modelwarden import durable
from modelwarden.errors import RetryLater
from modelwarden.fingerprint import Fingerprint
from modelwarden.intake.scan import is_aside

_LONGEST_NAME: Final = 255
"""Bytes in a name, on every file system that matters."""


class Removed(NamedTuple):
    """The file is gone, or was gone already."""


class Kept(NamedTuple):
    """Something else has the name, or somebody still writes to the file: it stays, and is looked at again.

    Attributes:
        path: where it is: under its own name, or aside if that was taken meanwhile.
    """

    path: str


class NotRemoved(NamedTuple):
    """The system refused; the file is where it was."""

    reason: str


Removal = Removed | Kept | NotRemoved


def remove_source(path: str, fingerprint: Fingerprint) -> Removal:
    """Remove the file if it is still the one of this fingerprint and nobody has it open to write. Raises nothing."""
    folder, name = os.path.split(path)
    aside = path if is_aside(name) else os.path.join(folder, _aside_name(name))
    try:
        if not _is_still(path, fingerprint, ctime=True) or _has_writer(path):
            return Kept(path)
        os.rename(path, aside)
        if _is_still(aside, fingerprint, ctime=False) and not _has_writer(aside):
            os.unlink(aside)
            return Removed()
    except FileNotFoundError:
        return Removed()
    except OSError as error:
        return NotRemoved(error.strerror or str(error)) if _put_back(aside, path) else Kept(aside)
    return Kept(path if _put_back(aside, path) else aside)


def _is_still(path: str, fingerprint: Fingerprint, *, ctime: bool) -> bool:
    """Whether the file is the one with this fingerprint. To rename it changes its change time."""
    status = os.lstat(path)
    now = Fingerprint.of(status)
    return stat.S_ISREG(status.st_mode) and (now == fingerprint if ctime else now[:4] == fingerprint[:4])


def _has_writer(path: str) -> bool:
    """Whether somebody has the file open for writing. The kernel tells its owner alone: else no is the answer."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(descriptor)  # ends the lease
    return False


def _put_back(aside: str, path: str) -> bool:
    """Give what was taken its name again; False if somebody has the name meanwhile."""
    if aside == path or not os.path.lexists(aside):
        return True
    with suppress(FileExistsError, RetryLater):
        durable.rename_new(aside, path)
        return True
    return False


def _aside_name(name: str) -> str:
    """A hidden name beside it that says what it was, as far as there is room."""
    ending = f".{os.urandom(4).hex()}.taken"
    kept = os.fsencode(name)[: _LONGEST_NAME - 1 - len(ending)]
    return f".{os.fsdecode(kept)}{ending}"
