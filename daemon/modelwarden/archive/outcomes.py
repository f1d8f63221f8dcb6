"""What becomes of a summary that came to the archive: a closed set, the same for who archives and for who asked for it.

The rule: each summary has exactly one. Only the first two let its source go.
"""

from typing import NamedTuple

from modelwarden.errors import RejectSummary, RetryLater
from modelwarden.gate.run import RunRecord


class Archived(NamedTuple):
    """The bytes became this run: it has its name and is in the index."""

    run: RunRecord


class AlreadyArchived(NamedTuple):
    """The same bytes are this run since earlier."""

    name: str


class Pruned(NamedTuple):
    """The same bytes were this run, which somebody removed on purpose: it stays away until somebody asks for it."""

    name: str


class Rejected(NamedTuple):
    """The bytes are kept under `rejected/` with what is wrong with them."""

    error: RejectSummary

    @property
    def reason(self) -> str:
        """The same as text, a line for each problem."""
        return str(self.error)


class Unfinished(NamedTuple):
    """The bytes are no JSON object (yet): whoever read them decides how long to wait."""

    error: RejectSummary

    @property
    def reason(self) -> str:
        """Why not, as text."""
        return str(self.error)


class Postponed(NamedTuple):
    """The disk, the lock or a right was in the way; the source is still owed."""

    error: RetryLater


Outcome = Archived | AlreadyArchived | Pruned | Rejected | Unfinished | Postponed
