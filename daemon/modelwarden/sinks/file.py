"""The file sink: an audit trail on this host, one event a line, for as long as somebody keeps the file.

The rule: what is recorded as delivered is on the disk, and a line is whole: what a crash or a full disk left half
written is ended before the next line begins. The file is opened for each call, so a rotation by rename is respected.
"""

import os
import stat
from collections.abc import Sequence
from typing import Final

from modelwarden.durable import sync_folder
from modelwarden.errors import RetryLater, StopService
from modelwarden.filesystems import show_path
from modelwarden.sinks.announcing import Asked, CloudEvent, Target, encoded
from modelwarden.sinks.protocol import Bundling, Delivered, Delivery, PerhapsDelivered, TryLater

MODE: Final = 0o640


class EventFile(Target):
    """A file of JSON lines, in a folder that is there.

    Args:
        asked: what the settings say.
        path: of the file; made if it is missing.

    Raises:
        StopService: there is no such folder, or what stands there is no file that can be written.
    """

    bundling = Bundling(above=0, most=100)

    def __init__(self, asked: Asked, path: str) -> None:
        super().__init__(asked)
        self._path = path
        folder, where = os.path.dirname(path) or ".", f'destination "{self.name}"'
        if not os.path.isdir(folder):
            raise StopService(f"there is no folder {show_path(folder)}", where=where, hint="make it, or mend path")
        if os.path.lexists(path) and not os.path.isfile(path):
            raise StopService(f"{show_path(path)} is not a file", where=where, hint="name a file, or a new one")
        if not os.access(path if os.path.lexists(path) else folder, os.W_OK):
            raise StopService(f"{show_path(path)} can't be written", where=where, hint="see its owner and its mode")

    def send(self, events: Sequence[CloudEvent], seconds: float) -> Delivery:  # noqa: ARG002 - a disk has no deadline
        """Append the events, a line each, and sync them."""
        data = b"".join(encoded(event) + b"\n" for event in events)
        try:
            is_new = not os.path.lexists(self._path)
            # O_NONBLOCK: a pipe that somebody put there must not hold up the lane.
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
            descriptor = os.open(self._path, flags, MODE)
        except OSError as error:
            return TryLater(f"{show_path(self._path)} can't be opened ({error.strerror})")
        try:
            return self._append(descriptor, data, is_new=is_new)
        finally:
            os.close(descriptor)

    def _append(self, descriptor: int, data: bytes, *, is_new: bool) -> Delivery:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return TryLater(f"{show_path(self._path)} is not a file")
        try:
            is_torn = found.st_size > 0 and os.pread(descriptor, 1, found.st_size - 1) != b"\n"
            left = memoryview(b"\n" + data if is_torn else data)
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError as error:
            try:
                os.ftruncate(descriptor, found.st_size)
            except OSError:
                return PerhapsDelivered(f"{show_path(self._path)} can't be written ({error.strerror})")
            return TryLater(f"{show_path(self._path)} can't be written ({error.strerror})")
        try:
            os.fsync(descriptor)
            if is_new:
                sync_folder(os.path.dirname(self._path) or ".")
        except OSError as error:
            return PerhapsDelivered(f"{show_path(self._path)} can't be synced ({error.strerror})")
        except RetryLater as error:
            return PerhapsDelivered(str(error))
        return Delivered()
