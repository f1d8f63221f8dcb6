"""What is counted of the work, for who asks how it goes over weeks: what a part calls when something happened.

The rule: it costs next to nothing, and no trouble with it ever reaches the work. A label is one of a few words or a
name from the settings; never what a stranger wrote. Who asked for no metrics pays an empty call.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from modelwarden.errors import RetryLater
from modelwarden.gate.run import RunRecord
from modelwarden.state.reading import Messages


class Room(NamedTuple):
    """How large a disk is and what is left of it, in bytes."""

    size: int
    free: int


class Readings(NamedTuple):
    """How the daemon stands at one moment.

    Attributes:
        waiting: files that are there and not dealt with.
        unseen: folders or files that the last scan could not look at.
        is_watching: whether each folder gives hints.
        has_archive: whether the archive is the one that the state knows.
        runs: how many it holds.
        losses: how often the watch on a folder was lost, since the start.
        overflows: how often the kernel's queue overflowed, likewise.
        last_archived: when a run was archived last, seconds since the epoch; None if none ever was.
        messages: what the outbox owes; None if it can't be asked.
        rooms: of the disks, by what they are for; one that can't be asked is left out.
    """

    waiting: int
    unseen: int
    is_watching: bool
    has_archive: bool
    runs: int
    losses: int
    overflows: int
    last_archived: float | None
    messages: Messages | None
    rooms: Mapping[str, Room]


class DaemonMetrics(Protocol):
    """What the daemon tells.

    Attributes:
        trouble: why nobody can read it; "" for nothing.
    """

    trouble: str

    def archived(self, run: RunRecord, seconds: float) -> None:
        """A run was archived, so long after its summary was ready."""

    def came_to(self, outcome: str) -> None:
        """A summary came to something else: `already_archived`, `pruned`, `rejected` or `postponed`."""

    def refused(self, error: RetryLater) -> None:
        """The disk, the lock or a right was in the way."""

    def is_due(self) -> bool:
        """Whether `stand` is to be called."""

    def stand(self, readings: Readings) -> None:
        """How things stand now; who asks is told from now on."""

    def close(self) -> None:
        """The daemon ends: nothing is to be said of it any more."""


class NoMetrics:
    """For who asked for none."""

    trouble = ""

    def archived(self, run: RunRecord, seconds: float) -> None:
        """Nothing."""

    def came_to(self, outcome: str) -> None:
        """Nothing."""

    def refused(self, error: RetryLater) -> None:
        """Nothing."""

    def is_due(self) -> bool:
        """Never."""
        return False

    def stand(self, readings: Readings) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class CourierMetrics(Protocol):
    """What the courier tells.

    Attributes:
        trouble: why nobody can ask it; "" for nothing.
    """

    trouble: str

    def sent(self, destination: str, outcome: str) -> None:
        """A send ended: `delivered`, `refused`, `try_later` or `perhaps_delivered`."""

    def turn(self) -> bool:
        """The courier is alive; whether `stand` is to be called."""

    def stand(self, messages: Messages | None) -> None:
        """What the outbox owes now; None if it can't be asked."""

    def close(self) -> None:
        """The courier ends."""


class NoCourierMetrics:
    """For who asked for none."""

    trouble = ""

    def sent(self, destination: str, outcome: str) -> None:
        """Nothing."""

    def turn(self) -> bool:
        """Never."""
        return False

    def stand(self, messages: Messages | None) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
