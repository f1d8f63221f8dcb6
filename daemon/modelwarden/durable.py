"""The one place that makes bytes survive a power cut: new files, folders and replaced files.

The rule: every function returns only when what it did is on disk, or raises. A failed fsync is never retried on
the same file (see `StorageSuspect`), and nothing here ever overwrites a file in place.
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from modelwarden.errors import RetryLater, StorageSuspect

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""The errors of a disk or a quota that is full."""

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_RENAME_NOREPLACE: Final = 1
_AT_FDCWD: Final = -100


def write_new_file(path: str, data: bytes) -> None:
    """Create the file with these bytes, on disk before this returns. The folder is the caller's to sync.

    Raises:
        FileExistsError: the name is taken.
        RetryLater: no space, or another refusal of the disk.
        StorageSuspect: the fsync failed.
    """
    with _storage_errors("write", path):
        descriptor = os.open(path, _NEW_FILE, 0o644)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            _fsync(descriptor, path)
        finally:
            os.close(descriptor)


def sync_folder(path: str) -> None:
    """Put the folder's entries (creations, renames, removals) on disk.

    Raises:
        StorageSuspect: the fsync failed; what is in the folder must be verified before anything is claimed.
    """
    with _storage_errors("open", path):
        descriptor = os.open(path, _FOLDER)
        try:
            _fsync(descriptor, path)
        finally:
            os.close(descriptor)


def replace_file(path: str, data: bytes) -> None:
    """Make the file hold these bytes: a reader sees the old ones whole or the new ones whole.

    Written beside it, synced, renamed over it, and the folder synced. A temporary left by a crash is removed first:
    the caller holds whatever lock makes it the only writer of `path`.

    Raises:
        RetryLater: the disk refused; the old bytes stand.
        StorageSuspect: an fsync failed; the old bytes or the new ones stand.
    """
    temporary = f"{path}.new"
    with _storage_errors("replace", path):
        remove_if_there(temporary)
        try:
            write_new_file(temporary, data)
            os.rename(temporary, path)
        except BaseException:
            remove_if_there(temporary)
            raise
    sync_folder(os.path.dirname(path))


def make_folder(path: str) -> None:
    """Make the folder and its parents where they are missing, each on disk in its parent."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(os.path.abspath(path))
    make_folder(parent)
    with _storage_errors("make folder", path):
        try:
            os.mkdir(path)
        except FileExistsError:
            if not os.path.isdir(path):
                raise
        else:
            sync_folder(parent)


def make_unsynced_folder(path: str) -> None:
    """Make one new folder, not on disk yet: for what will be renamed to where its entry is synced.

    Raises:
        RetryLater: the disk refused.
    """
    with _storage_errors("make folder", path):
        os.mkdir(path)


def rename_new(source: str, target: str) -> None:
    """Rename a folder without ever replacing anything. The parent is the caller's to sync.

    Raises:
        FileExistsError: the target is there.
        RetryLater: the disk refused.
    """
    with _storage_errors("rename", target):
        if _renameat2 is not None:
            if _renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
                return
            code = ctypes.get_errno()
            if code == errno.EEXIST:
                raise FileExistsError(code, os.strerror(code), target)
            if code not in {errno.EINVAL, errno.ENOSYS, errno.EPERM}:  # the file system lacks the flag
                raise OSError(code, os.strerror(code), source, None, target)
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        try:
            os.rename(source, target)  # of a folder onto a folder that is not empty: fails, replaces nothing
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from error
            raise


def remove_if_there(path: str) -> None:
    """Remove the file; nothing where there is none."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _fsync(descriptor: int, path: str) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in FULL:  # delayed allocation: the disk says only now that it is full
            raise
        raise StorageSuspect(
            f"fsync failed ({error.strerror})",
            where=_shown(path),
            hint="storage suspect: look at the kernel log and the disk's health",
        ) from error


@contextmanager
def _storage_errors(action: str, path: str) -> Iterator[None]:
    """Say of a disk's refusal what was refused and what to do; leave FileExistsError to the caller."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        hint = {
            errno.ENOSPC: "make room on the disk",
            errno.EDQUOT: "make room in the quota",
            errno.EROFS: "the file system is read-only: remount it",
            errno.EACCES: "give the service's user the right to write there",
            errno.EMFILE: "raise LimitNOFILE",
            errno.EIO: "storage suspect: look at the kernel log and the disk's health",
        }.get(error.errno or 0, "")
        raise RetryLater(f"can't {action} ({error.strerror})", where=_shown(path), hint=hint) from error


def _shown(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _load_renameat2() -> "ctypes._NamedFuncPointer | None":
    """The system call, where the C library has it (Linux, glibc >= 2.28)."""
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    function.restype = ctypes.c_int
    return function


_renameat2: Final = _load_renameat2()
