"""A run, beside its models: its name, where it came from, what judged it, and how many models are in each class. Pure.

The rule: these fields are listed here and nowhere else. model_assessments.json, the catalog and the way back from both
go over them by their names and types.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, TypedDict

from modelwarden.gate.assessment import CLASSIFICATIONS, Assessment, Classification, count_by_classification
from modelwarden.gate.policy import Policy
from modelwarden.gate.timestamp import is_ahead


class Source(NamedTuple):
    """Where a summary was found.

    Attributes:
        path: the file's path as text (bytes that are no UTF-8 are written as escapes), or "" for a summary
            handed over in memory.
        size: in bytes.
        mtime: modification time, ISO 8601 in UTC, or None.
    """

    path: str
    size: int
    mtime: str | None


class RunRecord(NamedTuple):
    """One archived run, without its models.

    Attributes:
        timestamp: the run's name, `YYYYMMDD_HHMMSS` with `_2`, `_3`... if two collide.
        run_name: the trainer's name for it, or None.
        archived_at: ISO 8601 in UTC.
        archived_by: the host.
        daemon_id: the state file whose owner archived it; says who owes the notifications.
        source: where the summary was found.
        sha256: of the summary's bytes, hex.
        reward_scale: as the summary names it, or None.
        policy: what judged, whole.
        approved_count: models in APPROVED.
        review_count: models in REVIEW.
        dropped_count: models in DROP.
        format: what the trainer's file was read as; None: it was a summary.
        original: what the trainer's bytes are called in the run's folder, if they are not the summary's. `sha256` is
            theirs then.
        supersedes: the run that the same path was before, if a format says that one path is one run.
    """

    timestamp: str
    run_name: str | None
    archived_at: str
    archived_by: str
    daemon_id: str
    source: Source
    sha256: str
    reward_scale: float | None
    policy: Policy
    approved_count: int
    review_count: int
    dropped_count: int
    format: str | None = None
    original: str | None = None
    supersedes: str | None = None

    @property
    def models(self) -> int:
        """How many models the run judged."""
        return self.approved_count + self.review_count + self.dropped_count

    @property
    def is_ahead(self) -> bool:
        """Whether it is dated more than a day after it was archived."""
        return is_ahead(self.timestamp, self.archived_at)

    @property
    def counts(self) -> Mapping[Classification, int]:
        """Models per class, best first."""
        return dict(zip(CLASSIFICATIONS, (self.approved_count, self.review_count, self.dropped_count), strict=True))


class Counts(TypedDict):
    """How many models are in each class, by the field of a run that says so."""

    approved_count: int
    review_count: int
    dropped_count: int


def class_counts(assessments: Sequence[Assessment]) -> Counts:
    """How many of these models are in each class."""
    approved, review, dropped = count_by_classification(assessments).values()
    return Counts(approved_count=approved, review_count=review, dropped_count=dropped)


def iso_of(seconds: float) -> str:
    """A moment (seconds since the epoch) as a run records it: ISO 8601 in UTC, with microseconds.

    A file's time beyond the year 9999 is the epoch.
    """
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        moment = datetime.fromtimestamp(0, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
