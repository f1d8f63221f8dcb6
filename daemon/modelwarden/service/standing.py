"""What the daemon says of itself for who asks: one small file in the state directory.

The rule: it is written only if it says something new, without a sync and without ever stopping the work: it is about
this moment alone. Who asks believes it only while the daemon holds its lock.
"""

import json
import os
from contextlib import suppress
from typing import Final, NamedTuple

FILE: Final = "standing.json"

DAEMON_LOCK: Final = "daemon.lock"
COURIER_LOCK: Final = "courier.lock"
"""Who holds these, beside it, is running."""


class Standing(NamedTuple):
    """How the daemon stands.

    Attributes:
        pid: its process.
        since: when it was started, ISO 8601 in UTC.
        folders: the watched ones.
        is_watching: whether each of them gives hints; else they are scanned more often.
        waiting: files that are there and not dealt with.
        unseen: folders or files that the last scan could not look at.
        trouble: what keeps it from its work, or what it could not take over; "" for nothing.
        unmeasured: why its metrics are not to be had; "" for nothing.
    """

    pid: int
    since: str
    folders: tuple[str, ...] = ()
    is_watching: bool = False
    waiting: int = 0
    unseen: int = 0
    trouble: str = ""
    unmeasured: str = ""


class StandingFile:
    """The file, as the daemon writes it.

    Args:
        state_dir: where it is.
    """

    def __init__(self, state_dir: str) -> None:
        self._path = os.path.join(state_dir, FILE)
        self._written: Standing | None = None

    def write(self, standing: Standing) -> None:
        """Say how the daemon stands now; nothing if that was said already, or can't be."""
        if standing == self._written:
            return
        draft = f"{self._path}.new"
        with suppress(OSError):
            with open(draft, "w", encoding="utf-8", errors="backslashreplace") as stream:
                json.dump(standing._asdict(), stream)
            os.replace(draft, self._path)
            self._written = standing


def read_standing(state_dir: str) -> Standing | None:
    """What a daemon said last; None if there is nothing, or nothing that can be read."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        with open(os.path.join(state_dir, FILE), encoding="utf-8") as stream:
            said = json.load(stream)
        return Standing(**{**said, "folders": tuple(said["folders"])})
    return None
