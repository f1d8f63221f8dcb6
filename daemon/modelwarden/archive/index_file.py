"""index.json on disk: replaced as a whole for its readers, while only the lines that are new are written.

The rule: a file that anybody may be reading is never written to. Two files take turns: the one that readers open as
index.json, and a spare in this process's staging folder that was index.json one commit ago. The spare lacks only the
last lines; it gets them, is synced, and the two swap names in one step. While the spare is written to, this process
holds a lease on it, which the kernel grants only if nobody else has the file open. The lease ends before the swap: on
index.json itself there is none, for whoever opens it would wait for a process that was stopped. If the lease is
refused, or the file system knows no leases or no swap, the whole file is written anew, as any replaced file is.

Whoever wrote index.json under the lock leaves a note beside it of what that file is. A file that the note does not know
was put there by another hand.
"""

import fcntl
import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from modelwarden import durable
from modelwarden.errors import RetryLater
from modelwarden.filesystems import show_path

NOTE_FILE: Final = ".index.written"

Signature = tuple[int, int, int, int]
"""Inode, size, modification and change time in ns: whether index.json is still the file that was read or written. The
last one can't be set back; on a network it is 0."""

ContentFrom = Callable[[int], tuple[int, bytes]]
"""From a line's number to where it begins in the file, and all bytes from there to the end."""


class IndexFile:
    """The file and its spare. Every call is made under the index lock.

    Args:
        path: of index.json.
        spare: where this process keeps the other file, on the same file system; nobody else may use that name.
        takes_turns: whether a lease tells of every reader. Not on a network: other hosts' readers are unknown here.
    """

    def __init__(self, path: str, spare: str, *, takes_turns: bool) -> None:
        self.path = path
        self._spare = spare
        self._takes_turns = takes_turns
        self._spare_lines: int | None = None  # how many of its first lines are still true; None: there is no spare
        self._spare_signature: Signature | None = None  # of the spare as it was when it was index.json
        self._signature: Signature | None = None
        self._note = os.path.join(os.path.dirname(path), NOTE_FILE)

    def is_current(self) -> bool:
        """Whether index.json is still what this object read or wrote."""
        return self._signature is not None and self._signature == self._look(self.path)

    def was_written_under_the_lock(self) -> bool:
        """Whether index.json is the file that its last writer, this process or another, left there."""
        try:
            with open(self._note, encoding="ascii") as stream:
                return stream.read() == _note_of(self._look(self.path))
        except (OSError, UnicodeDecodeError):
            return False

    def read(self) -> bytes | None:
        """The file's bytes, None if there is none.

        Raises:
            RetryLater: the disk refused.
        """
        self._signature = None
        try:
            with open(self.path, "rb", opener=_open_at_once) as stream:
                status = os.fstat(stream.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise RetryLater("is no file", where=show_path(self.path), hint="move it away")
                data = stream.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise durable.refusal("read", self.path, error) from error
        self._signature = self._signature_of(status)
        return data

    def replace(self, true_lines: int, content_from: ContentFrom) -> None:
        """Make index.json hold new content; on disk before this returns.

        Args:
            true_lines: how many of the first lines that index.json has now are also the first of the new content.
            content_from: the new content.

        Raises:
            RetryLater: the disk refused; the old index stands.
            StorageSuspect: a sync failed; the old index or the new one stands.
        """
        replaced, self._signature = self._signature, None
        spare_lines, self._spare_lines = self._spare_lines, None
        try:
            with _nobody_else(self._spare if spare_lines is not None else None, self._spare_signature) as spare:
                if spare is None or spare_lines is None:
                    durable.remove_if_there(self._spare)
                    durable.write_new_file(self._spare, content_from(0)[1])
                else:
                    durable.write_tail(spare, self._spare, *content_from(min(true_lines, spare_lines)))
                written = self._look(self._spare)
            swapped = durable.swap_or_rename(self._spare, self.path)
        except BaseException:
            self.drop_spare()
            raise
        durable.sync_folder(os.path.dirname(self.path))
        self._spare_lines = true_lines if swapped and self._takes_turns else None
        self._spare_signature = replaced
        self._know_again(written)

    def _know_again(self, written: Signature | None) -> None:
        """Take index.json for ours if it is what was written: its new name changed nothing but its change time."""
        now = self._look(self.path)
        if now is not None and written is not None and now[:3] == written[:3]:
            self._signature = now
            with suppress(OSError), open(self._note, "w", encoding="ascii") as stream:  # without it, the folders tell
                stream.write(_note_of(now))

    def _look(self, path: str) -> Signature | None:
        try:
            return self._signature_of(os.lstat(path))
        except FileNotFoundError:
            return None

    def _signature_of(self, status: os.stat_result) -> Signature:
        # On a network the change time may be told late, and would show a change that is none.
        return *_file_of(status), status.st_ctime_ns if self._takes_turns else 0

    def forget(self) -> None:
        """Believe nothing of what was read or written, and touch nothing: the archive went away."""
        self._signature = self._spare_lines = None

    def drop_spare(self) -> None:
        """Remove the spare: the process ends, or index.json was changed by somebody else."""
        self._spare_lines = None
        with suppress(RetryLater):  # the next write must remove it, and says so if it can't
            durable.remove_if_there(self._spare)


@contextmanager
def _nobody_else(path: str | None, signature: Signature | None) -> Iterator[int | None]:
    """While entered, an open file that nobody else has open or can open: the kernel makes them wait.

    None if somebody has, if another name leads to the file (a hard link kept as a backup), if there is none,
    if it is not as it was left (somebody replaced or wrote to index.json just before the two swapped names), or
    if the file system grants no leases.
    """
    if path is None:
        yield None
        return
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield descriptor if _lease(descriptor) and _is_alone(os.fstat(descriptor), signature) else None
    finally:
        os.close(descriptor)  # ends the lease; who waited opens what is whole by now


def _is_alone(status: os.stat_result, signature: Signature | None) -> bool:
    return signature is not None and status.st_nlink == 1 and _file_of(status) == signature[:3]


def _lease(descriptor: int) -> bool:
    try:
        # Who opens the file meanwhile makes the kernel signal us: SIGURG is ignored by default, SIGIO would kill.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:  # somebody has it open, or there is no lease to be had: whatever the reason, not alone
        return False
    return True


def _file_of(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _note_of(signature: Signature | None) -> str:
    return " ".join(map(str, signature or ())) + "\n"


def _open_at_once(path: str, flags: int) -> int:
    """Do not wait for the other end of a pipe: the lock is held. A lease is waited for: the kernel ends it."""
    try:
        return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    except BlockingIOError:  # somebody holds a lease on it, so it is a file
        return os.open(path, flags | os.O_CLOEXEC)
