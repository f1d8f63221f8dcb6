"""The one place that makes bytes survive a power cut: new files, folders and replaced files.

The rule: a function returns only when what it did is on disk, or raises; if not, its name says `unsynced`. A failed
fsync is never retried on the same file (see `StorageSuspect`), and nothing here ever overwrites a file in place.
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from modelwarden.errors import RetryLater, StorageSuspect
from modelwarden.filesystems import show_path

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""The errors of a disk or a quota that is full."""

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_RENAME_NOREPLACE: Final = 1
_RENAME_EXCHANGE: Final = 2
_NO_RENAMEAT2: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM})
"""What a kernel or a file system answers that lacks the call or the flag."""

_NOT_BEGUN: Final = frozenset({errno.EINTR, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ESPIPE})
"""What sync_file_range ends with if a signal came first, or if the kernel, a sandbox or the file system lacks it:
nothing was begun, so nothing has failed."""

_AT_FDCWD: Final = -100
_SYNC_FILE_RANGE_WRITE: Final = 2


_HINTS: Final = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room in the quota",
    errno.EROFS: "the file system is read-only: remount it",
    errno.EACCES: "give the service's user the right to read and write there",
    errno.EMFILE: "raise LimitNOFILE",
    errno.EIO: "storage suspect: look at the kernel log and the disk's health",
}
"""What an operator can do about a disk's refusal."""


def hint_for(code: int | None) -> str:
    """What an operator can do about an error of that number; "" if that is not known."""
    return _HINTS.get(code or 0, "")


def refusal(action: str, path: str, error: OSError) -> RetryLater:
    """The disk's refusal as an error that says what was refused, where, and what to do."""
    what = f"can't {action} ({error.strerror or error})"
    return RetryLater(what, where=show_path(path), hint=hint_for(error.errno))


def write_new_file(path: str, data: bytes) -> None:
    """Create the file with these bytes, on disk before this returns. The folder is the caller's to sync.

    Raises:
        FileExistsError: the name is taken.
        RetryLater: no space, or another refusal of the disk.
        StorageSuspect: the fsync failed.
    """
    finish(write_unsynced_file(path, data), path)


def write_unsynced_file(path: str, data: bytes) -> int:
    """Create the file with these bytes and return it, open: it is not on disk before `finish`.

    The disk is told to begin, so that it works while the next file is made: several files written like this and then
    finished one after the other cost little more than one.

    Raises:
        FileExistsError: the name is taken.
        RetryLater: no space, or another refusal of the disk.
        StorageSuspect: the disk could not even begin.
    """
    with _storage_errors("write", path):
        descriptor = os.open(path, _NEW_FILE, 0o644)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            _begin_to_sync(descriptor, path)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def finish(descriptor: int, path: str) -> None:
    """Put an open file on disk and close it.

    Raises:
        RetryLater: no space, or another refusal of the disk.
        StorageSuspect: the fsync failed.
    """
    with _storage_errors("write", path):
        try:
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


def write_tail(descriptor: int, path: str, offset: int, data: bytes) -> None:
    """Make an open file hold these bytes from the offset on, and end there; on disk before this returns.

    Only for a file that nobody reads: until it returns the file is neither the old nor the new one.

    Raises:
        RetryLater: no space, or another refusal of the disk.
        StorageSuspect: the fsync failed.
    """
    with _storage_errors("write", path):
        end = offset + len(data)
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, end - len(view))
            view = view[written:]
        os.ftruncate(descriptor, end)
        _fsync(descriptor, path)


def swap_or_rename(new: str, name: str) -> bool:
    """Give a synced file the name, in one step; the folder is the caller's to sync.

    Returns True if the two swapped names, so that `new` is now the file that had the name before; False if
    there was none, or the file system can't swap, and `new` was renamed over it.

    Raises:
        RetryLater: the disk refused; nothing changed.
    """
    with _storage_errors("rename", name):
        code = _renameat2(new, name, _RENAME_EXCHANGE)
        if code == 0:
            return True
        if code not in _NO_RENAMEAT2 | {errno.ENOENT}:
            raise OSError(code, os.strerror(code), new, None, name)
        os.rename(new, name)
        return False


def rename_over(new: str, name: str) -> None:
    """Give a synced file the name, in place of what had it; the folder is the caller's to sync.

    Raises:
        RetryLater: the disk refused; nothing changed.
    """
    with _storage_errors("rename", name):
        os.rename(new, name)


def make_folder(path: str, mode: int = 0o777) -> None:
    """Make the folder and its parents if they are missing, each on disk in its parent.

    Args:
        path: of the folder.
        mode: of the last one, before the umask, if it is made here.

    Raises:
        RetryLater: the disk refused, or something that is no folder has the name.
    """
    if os.path.isdir(path):
        return
    parent = os.path.dirname(os.path.abspath(path))
    if parent != os.path.abspath(path):
        make_folder(parent)
    with _storage_errors("make folder", path):
        try:
            os.mkdir(path, mode)
        except FileExistsError:
            if not os.path.isdir(path):
                raise RetryLater(
                    "is no folder", where=show_path(path), hint="move it away, or name another folder"
                ) from None
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
    """Rename a file or a folder without ever replacing anything. The parent is the caller's to sync.

    Raises:
        FileExistsError: the target is there.
        RetryLater: the disk refused.
    """
    with _storage_errors("rename", target):
        code = _renameat2(source, target, _RENAME_NOREPLACE)
        if code == 0:
            return
        if code == errno.EEXIST:
            raise FileExistsError(code, os.strerror(code), target)
        if code not in _NO_RENAMEAT2:
            raise OSError(code, os.strerror(code), source, None, target)
        if not os.path.isdir(source):
            os.link(source, target, follow_symlinks=False)  # fails if the name is taken
            os.unlink(source)
            return
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        try:
            os.rename(source, target)  # of a folder onto a folder that is not empty: fails, replaces nothing
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from error
            raise


def close_unwritten(descriptor: int) -> None:
    """Close what nothing was written to: whatever the close answers, nothing can be lost by it."""
    with suppress(OSError):
        os.close(descriptor)


def leave_marker(path: str, folder: int) -> None:
    """Make an empty file if there is none; not synced, for a marker says something by being there.

    Args:
        path: of the file.
        folder: the folder that it lies in, open: the file is made in no other that has come to its path.

    Raises:
        RetryLater: the disk refused.
    """
    with _storage_errors("write", path):
        flags = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(os.path.basename(path), flags, 0o644, dir_fd=folder))


def remove_if_there(path: str, folder: int | None = None) -> None:
    """Remove the file; nothing if there is none. Raises RetryLater if the disk refuses.

    Args:
        path: of the file.
        folder: the folder that it lies in, open, if no other that has come to its path is meant.
    """
    with _storage_errors("remove", path):
        try:
            os.unlink(path if folder is None else os.path.basename(path), dir_fd=folder)
        except FileNotFoundError:
            return


def _begin_to_sync(descriptor: int, path: str) -> None:
    """Let the disk begin to write the file. An error counts: the fsync that follows may not repeat it.

    Seen on ext4 with a damaged bitmap: EBADMSG here, 0 from the fsync afterwards, and the data was gone.
    """
    if _sync_file_range is None or _sync_file_range(descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE) == 0:
        return
    code = ctypes.get_errno()
    if code not in _NOT_BEGUN:
        raise _failed_sync("sync_file_range", path, OSError(code, os.strerror(code)))


def _fsync(descriptor: int, path: str) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise _failed_sync("fsync", path, error) from error


def _failed_sync(call: str, path: str, error: OSError) -> OSError | StorageSuspect:
    """What to raise for a sync that failed: delayed allocation may say only now that the disk is full."""
    if error.errno in FULL:
        return error
    return StorageSuspect(
        f"{call} failed ({error.strerror})",
        where=show_path(path),
        hint="storage suspect: look at the kernel log and the disk's health",
    )


@contextmanager
def _storage_errors(action: str, path: str) -> Iterator[None]:
    """Say of a disk's refusal what was refused and what to do; leave FileExistsError to the caller."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise refusal(action, path, error) from error


def _renameat2(source: str, target: str, flags: int) -> int:
    """The system call: 0, or the errno of its refusal; ENOSYS if the C library has none."""
    if _system_call is None:
        return errno.ENOSYS
    if _system_call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags) == 0:
        return 0
    return ctypes.get_errno()


def _load(name: str, *argument_types: "type[ctypes._SimpleCData[Any]]") -> "ctypes._NamedFuncPointer | None":
    """A function of the C library's that Python has no name for, or None if the library lacks it."""
    try:
        function: ctypes._NamedFuncPointer = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (OSError, AttributeError):
        return None
    function.argtypes = argument_types
    function.restype = ctypes.c_int
    return function


_system_call: Final = _load(
    "renameat2", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint
)  # Linux, glibc >= 2.28
_sync_file_range: Final = _load(
    "sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint
)  # Linux; off_t has 64 bits wherever this runs
