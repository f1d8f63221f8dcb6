"""The bell between the processes of one state directory: who owes a message rings it, and the courier listens.

The rule: a ring is a hint and may be lost: the courier also looks by itself from time to time. Ringing never waits, and
nobody is told whether it was heard.
"""

import os
import stat
from contextlib import suppress
from typing import Final

FILE: Final = "courier.bell"


def ring_bell(state_dir: str) -> None:
    """Wake the courier, if one listens."""
    with suppress(OSError):  # nobody listens, or it is full of rings
        descriptor = os.open(os.path.join(state_dir, FILE), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                os.write(descriptor, b"\0")
        finally:
            os.close(descriptor)


class Bell:
    """The bell, as the courier hears it.

    Args:
        state_dir: where it is; it is made if it is missing.

    Attributes:
        descriptor: to be waited for; None if there is no bell to be had.
    """

    def __init__(self, state_dir: str) -> None:
        self.descriptor: int | None = None
        path = os.path.join(state_dir, FILE)
        with suppress(OSError):
            with suppress(FileExistsError):
                os.mkfifo(path, 0o600)
            # Also open for writing, so that the end of the last ringer is no end of the file.
            descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                self.descriptor = descriptor
            else:
                os.close(descriptor)

    def heed(self) -> None:
        """Forget the rings that came: what they were about is looked for now."""
        if self.descriptor is not None:
            with suppress(OSError):
                while os.read(self.descriptor, 4096):
                    continue
