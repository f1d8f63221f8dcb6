"""Which summary a process died over: its sha256 is noted while it is judged, and struck out right after.

The rule: only time spent on the summary's own bytes counts. Nothing that waits (for a lock, a disk, the state file) is
inside the note, so that a kill at any other moment blames no summary. The note is written without a sync, for it must
survive the process and not the machine; if it can't be written, work goes on without it.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

DEATHS_ALLOWED: Final = 3
"""A summary over which a process died so often is given up: a crash loop would hold up all others."""

FILE: Final = "attempts.json"

_MOST_BYTES: Final = 4096
"""Of a file that is not ours; what lies behind them is no part of the one line that is read."""


class Attempts:
    """The summaries that earlier processes died over, and the one that this process is judging.

    Args:
        state_dir: where the note is kept.
    """

    def __init__(self, state_dir: str) -> None:
        self._path = os.path.join(state_dir, FILE)
        self._deaths: dict[str, int] = {}
        self._descriptor: int | None = None
        self._length = 0  # of the file
        self._open()
        with suppress(OSError, ValueError, TypeError, AttributeError):
            with open(self._path, encoding="utf-8") as stream:
                note = json.loads(stream.readline())
            self._deaths = {str(sha256): int(deaths) for sha256, deaths in note.items()}

    def close(self) -> None:
        """Give the note's file back."""
        if self._descriptor is not None:
            with suppress(OSError):  # nothing that counts was left to be written
                os.close(self._descriptor)
            self._descriptor = None

    def __bool__(self) -> bool:
        """Whether any summary is under suspicion."""
        return bool(self._deaths)

    def deaths(self, sha256: str) -> int:
        """How often a process died while it judged these bytes."""
        return self._deaths.get(sha256, 0)

    @contextmanager
    def judging(self, sha256: str) -> Iterator[None]:
        """While entered, a death is put down to these bytes; to leave it, with an error too, is to survive them."""
        self._write(self._deaths | {sha256: self.deaths(sha256) + 1})
        try:
            yield
        finally:
            self.forgive(sha256)

    def forgive(self, sha256: str) -> None:
        """These bytes were survived, or given up: they are under suspicion no more."""
        self._deaths.pop(sha256, None)
        self._write(self._deaths)

    def _open(self) -> None:
        with suppress(OSError):
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._length = min(os.fstat(self._descriptor).st_size, _MOST_BYTES)

    def _write(self, note: dict[str, int]) -> None:
        text = json.dumps(note).encode() + b"\n" if note else b""
        with suppress(OSError):
            if self._descriptor is None:
                self._open()
            if self._descriptor is None:
                return
            # Spaces over what was longer: to cut the file costs several times what it costs to write to it.
            os.pwrite(self._descriptor, text.ljust(self._length), 0)
            self._length = max(self._length, len(text))
