"""The words of a judgement: classification, band, flag, and the assessment of one model.

The rule: these are values. Nothing here decides anything; gating decides, policy holds the bounds.
"""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple


class Classification(StrEnum):
    """What may be done with a model. Compares equal to its name: `classification == "APPROVED"`."""

    APPROVED = "APPROVED"
    REVIEW = "REVIEW"
    DROP = "DROP"


class Band(StrEnum):
    """Where one metric stands against its two bounds.

    INVALID is a figure that can't be judged; IGNORED one that is missing, of a metric that a model may lack.
    """

    APPROVED = "APPROVED"
    REVIEW = "REVIEW"
    DROP = "DROP"
    INVALID = "INVALID"
    IGNORED = "IGNORED"


class Flag(StrEnum):
    """What a person should know about a model, in the order in which flags are listed.

    The four of LOW_ and HIGH_ are those of the default policy's gates; another's have names of their own.
    """

    FITNESS_DECLINE = "FITNESS_DECLINE"
    UNSTABLE_TRAINING = "UNSTABLE_TRAINING"
    LOW_FITNESS = "LOW_FITNESS"
    LOW_PF = "LOW_PF"
    LOW_CONSISTENCY = "LOW_CONSISTENCY"
    HIGH_DRAWDOWN = "HIGH_DRAWDOWN"
    INVALID_METRIC = "INVALID_METRIC"
    NO_LOSSES = "NO_LOSSES"
    UNCALIBRATED_REWARD_SCALE = "UNCALIBRATED_REWARD_SCALE"
    INCONSISTENT_FIGURES = "INCONSISTENT_FIGURES"


class Remark(StrEnum):
    """What is listed beside a model's flags and changes nothing: not what it did, but what can't be known of it."""

    NO_HISTORY = "NO_HISTORY"


CLASSIFICATIONS: Final = tuple(Classification)
"""Best first; also the order of every count and every list."""

CHANGED: Final = "CHANGED"
"""What a run may have to say beside its classes: a model's is another than in its symbol's last run before."""

Checkpoint = int | str
"""A checkpoint a person can load: an update number, or an id that the trainer listed beside its history."""


NOT_KEPT: Final = ""
"""Stands for the checkpoint of a point that the trainer did not keep: nobody can load it."""


class PointAssessment(NamedTuple):
    """A model's figures at one validation point, judged as if they were its final ones.

    Attributes:
        classification: by the same policy.
        values: the figure per gate of the policy, in the policy's order; None if missing.
        bands: the band per gate, in the same order.
    """

    classification: Classification
    values: tuple[float | None, ...]
    bands: tuple[Band, ...]


_NO_OTHERS: Final[Mapping[str, float]] = {}


class Assessment(NamedTuple):
    """The judgement of one model.

    Attributes:
        symbol: the model's name. Data, never a path or markup.
        classification: the worst band of its metrics (see gating for the flags that cap it).
        flags: in the order of `Flag`, those of gates in the policy's order.
        use_checkpoint: whether an earlier checkpoint is recommended; True exactly with FITNESS_DECLINE.
        best_idx: index of the peak in the history, None without one.
        checkpoint_update: the checkpoint at that peak, if the summary lets it be known; NOT_KEPT if there is none.
        values: the final figure per gate of the policy, in the policy's order; None if missing.
        bands: the band per gate, in the same order.
        peak: the highest fitness of the history, None without one.
        decline: how far the final fitness lies below the peak, relative to the peak (absolute if the peak
            is not positive); None without a history or without a usable final fitness.
        largest_fall: the largest fall from a running peak to a later low in the history, likewise; None
            without a history.
        fell_from: the peak that the largest fall began at, None without a fall.
        reasons: sentences that name the figures which decided.
        history: the fitness history as it was read; NaN if a point is missing.
        points: how many points the history has, up to the one that was judged; None in a run that was recorded before.
        last_checkpoint: the checkpoint at the last of them, likewise.
        at_checkpoint: the figures at the peak, judged, if FITNESS_DECLINE is flagged, the summary has them and the peak
            is not the last point.
        contradictions: what the summary says of the model twice, and differently; see INCONSISTENT_FIGURES.
        others: the final figures of metrics that no gate names: kept and shown, and judged by nothing.
    """

    symbol: str
    classification: Classification
    flags: tuple[str, ...]
    use_checkpoint: bool
    best_idx: int | None
    checkpoint_update: Checkpoint | None
    values: tuple[float | None, ...]
    bands: tuple[Band, ...]
    peak: float | None
    decline: float | None
    largest_fall: float | None
    fell_from: float | None
    reasons: tuple[str, ...]
    history: Sequence[float]
    points: int | None = None
    last_checkpoint: Checkpoint | None = None
    at_checkpoint: PointAssessment | None = None
    contradictions: tuple[str, ...] = ()
    others: Mapping[str, float] = _NO_OTHERS

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """NO_HISTORY if no point of a history can be used: whether the model was better before is not known."""
        return () if self.best_idx is not None else (Remark.NO_HISTORY,)


def count_by_classification(assessments: Sequence[Assessment]) -> Mapping[Classification, int]:
    """How many models fell in each class; every class is present, also with 0."""
    counts = dict.fromkeys(CLASSIFICATIONS, 0)
    for assessment in assessments:
        counts[assessment.classification] += 1
    return counts


def finite_or_none(value: float | None) -> float | None:
    """The value as strict JSON can hold it: None for missing, NaN and both infinities."""
    return value if value is not None and math.isfinite(value) else None
