"""Gates: the rows of a policy, one a metric, and other bounds for some models; what a figure's band is.

The rule: a bound is inclusive and compared exactly, and what can't be judged is in no band that lets a model through.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from modelwarden.gate.assessment import Band, Flag

LARGEST_FIGURE: Final = sys.float_info.max
"""An open end of a domain."""

NO_FRACTION: Final = "is outside 0..1: is it a percentage?"


class Better(StrEnum):
    """Which way a metric improves."""

    HIGHER = "higher"
    LOWER = "lower"


class Missing(StrEnum):
    """What a model is that lacks a metric: dropped, looked at by a person, or judged by its other metrics."""

    DROP = "drop"
    REVIEW = "review"
    IGNORE = "ignore"


class JudgeAt(StrEnum):
    """Which figures are judged: those of the last validation point, or those of the history's best one.

    SAVED is LAST of a course that ends where the trainer says that it kept the model: a format cuts it there.
    """

    LAST = "last"
    BEST = "best"
    SAVED = "saved"


_SEED_FIELDS: Final[Mapping[str, tuple[str, str]]] = {
    "fitness": ("final_fitness", "fitness_score"),
    "profit_factor": ("final_pf", "profit_factor"),
    "consistency": ("final_consistency", "consistency"),
    "max_drawdown": ("final_max_dd", "max_drawdown"),
}
"""What the summary's two layouts call the four metrics of the default policy; every other is called by its name."""

SEED_FLAGS: Final[Mapping[str, Flag]] = {
    "fitness": Flag.LOW_FITNESS,
    "profit_factor": Flag.LOW_PF,
    "consistency": Flag.LOW_CONSISTENCY,
    "max_drawdown": Flag.HIGH_DRAWDOWN,
}
_INFINITY_FLAGS: Final[Mapping[str, Flag]] = {"profit_factor": Flag.NO_LOSSES}
_INFINITY_MEANS: Final[Mapping[str, str]] = {"profit_factor": " (no losing trade)"}
_BELOW_HINTS: Final[Mapping[str, str]] = {"max_drawdown": "is negative: give the size of the fall"}


def final_field(metric: str) -> str:
    """What a final figure of the metric is called in the flat layout."""
    return _SEED_FIELDS[metric][0] if metric in _SEED_FIELDS else f"final_{metric}"


def series_field(metric: str) -> str:
    """What the metric is called in the layout of lists over validation points."""
    return _SEED_FIELDS[metric][1] if metric in _SEED_FIELDS else metric


@dataclass(frozen=True, slots=True)
class Gate:
    """One row of a policy: how one metric is read, bounded and flagged.

    Attributes:
        metric: its name in what modelwarden writes.
        approve: inclusive bound of the APPROVED band.
        review: inclusive bound of the REVIEW band; beyond it is DROP.
        better: which way it improves.
        label: what a sentence calls it; by default its name, with spaces for underscores.
        least: smallest figure inside the metric's domain.
        most: largest figure inside the metric's domain.
        infinity: "review" if +infinity means something, lies in the domain and is for a person to look at; else "".
        missing: what a model is that lacks the metric.
        flag: of a figure in the DROP band; by default LOW_ or HIGH_ and the name in capitals.
        band: from a final figure, or None if it is missing, to its band.
        argument: its field in the flat layout.
        series: its list in the layout of lists over validation points.
    """

    metric: str
    approve: float
    review: float
    better: Better = Better.HIGHER
    label: str = ""
    least: float = -LARGEST_FIGURE
    most: float = LARGEST_FIGURE
    infinity: str = ""
    missing: Missing = Missing.DROP
    flag: str = ""
    band: Callable[[float | None], Band] = field(init=False, repr=False, compare=False)
    argument: str = field(init=False, repr=False, compare=False)
    series: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        settle = object.__setattr__
        for name in ("approve", "review", "least", "most"):  # floats throughout, so that 1 and 1.0 are one policy
            settle(self, name, as_float(getattr(self, name)))
        if self.infinity and self.most == math.inf:  # the same gate as without `most`, which JSON can hold
            settle(self, "most", LARGEST_FIGURE)
        settle(self, "label", self.label or self.metric.replace("_", " ").strip() or self.metric)
        settle(self, "flag", self.flag or _flag_of(self.metric, self.better))
        settle(self, "argument", final_field(self.metric))
        settle(self, "series", series_field(self.metric))
        settle(self, "band", _band_of(self))

    @property
    def signs(self) -> tuple[str, str]:
        """How a figure within a bound and one beyond it compare to it."""
        return (">=", "<") if self.better is Better.HIGHER else ("<=", ">")

    @property
    def infinity_flag(self) -> str:
        """Set if the figure is +infinity and that means something."""
        return _INFINITY_FLAGS.get(self.metric, f"INFINITE_{_capitals(self.metric)}")

    @property
    def infinity_means(self) -> str:
        """What +infinity says, in brackets; "" if that is not known."""
        return _INFINITY_MEANS.get(self.metric, "")

    def hint_outside(self, value: float) -> str:
        """What a figure outside the domain suggests."""
        if value < self.least and self.metric in _BELOW_HINTS:
            return _BELOW_HINTS[self.metric]
        if (self.least, self.most) == (0.0, 1.0):
            return NO_FRACTION
        if value < self.least:
            return f"is below {self.least:g}, the least that it can be"
        percentage = ": is it a percentage?" if self.most == 1.0 else ""
        return f"is above {self.most:g}, the most that it can be{percentage}"


def as_float(value: float) -> float:
    """A whole number as a float; what is no number as it is, for `problems_of` to name."""
    return float(value) if isinstance(value, int) and is_finite(value) else value


def _flag_of(metric: str, better: Better) -> str:
    return SEED_FLAGS.get(metric) or f"{'LOW' if better is Better.HIGHER else 'HIGH'}_{_capitals(metric)}"


def _capitals(metric: str) -> str:
    return "".join(each if each.isalnum() else "_" for each in metric.upper())


_BAND_OF_MISSING: Final = {
    Missing.DROP: Band.INVALID,
    Missing.REVIEW: Band.REVIEW,
    Missing.IGNORE: Band.IGNORED,
}


def _band_of(gate: Gate) -> Callable[[float | None], Band]:
    """What gives the band of a figure. A closure, for judging a whole catalog again calls it twenty million times.

    INVALID for a figure that is NaN, infinite (unless `infinity` says otherwise) or outside the domain: `nan >= 0.7`
    and `nan < 0.5` are both False, so an else-branch would wave it through. Bounds are inclusive and compared exactly.
    """
    approve, review, least = gate.approve, gate.review, gate.least
    most = math.inf if gate.infinity else gate.most
    in_approved, in_review, in_drop, invalid = Band.APPROVED, Band.REVIEW, Band.DROP, Band.INVALID
    missing = _BAND_OF_MISSING[gate.missing]

    def higher_is_better(value: float | None) -> Band:
        if value is None:
            return missing
        if not least <= value <= most:  # NaN compares False: outside
            return invalid
        if value >= approve:
            # Only a metric whose infinity means something has a domain that reaches it.
            return in_approved if value < math.inf else in_review
        return in_review if value >= review else in_drop

    def lower_is_better(value: float | None) -> Band:
        if value is None:
            return missing
        if not least <= value <= most:
            return invalid
        if value <= approve:
            return in_approved
        return in_review if value <= review or value == math.inf else in_drop

    return higher_is_better if gate.better is Better.HIGHER else lower_is_better


@dataclass(frozen=True)
class Override:
    """Other bounds for the models whose symbol fits.

    Attributes:
        symbols: shell patterns; one that fits is enough. Upper and lower case differ.
        approve: bounds of the APPROVED band by metric, instead of the gates' own.
        review: those of the REVIEW band.
    """

    symbols: tuple[str, ...]
    approve: Mapping[str, float] = field(default_factory=dict)
    review: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("approve", "review"):
            bounds = {metric: as_float(bound) for metric, bound in getattr(self, name).items()}
            object.__setattr__(self, name, bounds)

    def fits(self, symbol: str) -> bool:
        """Whether a pattern fits the symbol."""
        return any(fnmatchcase(symbol, pattern) for pattern in self.symbols)


def with_bounds(gates: Sequence[Gate], override: Override) -> tuple[Gate, ...]:
    """The rows with the bounds of an override, which need not agree."""
    return tuple(
        replace(
            gate,
            approve=override.approve.get(gate.metric, gate.approve),
            review=override.review.get(gate.metric, gate.review),
        )
        for gate in gates
    )


SEED_FLAGS_BY_TEXT: Final[Mapping[str, str]] = {flag.value: flag for flag in SEED_FLAGS.values()}


def is_finite(value: object) -> bool:
    """Whether it is a number that a bound can be."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_FIGURE


def is_stricter(review: float, approve: float, better: Better) -> bool:
    """Whether a bound of REVIEW asks for more than the bound of APPROVED beside it."""
    return review > approve if better is Better.HIGHER else review < approve
