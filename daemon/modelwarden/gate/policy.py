"""The policy: the table of metric gates and the two history thresholds, resolved and checked.

The rule: a threshold lives in one row of one table, and a table that contradicts itself is refused here,
before it judges anything.
"""

import hashlib
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cached_property
from typing import Final, Self

from modelwarden.gate.assessment import Band, Flag

CALIBRATED_REWARD_SCALE: Final = 0.001
"""The reward scale that the default bounds are calibrated for (training notes v2.4.1)."""

RULE: Final = 2
"""The revision of the rule that judges now; each run records the one that judged it, and is read back by that one.

1: runs that record no revision. 2: a drawdown above 1 is outside its domain; what a summary says twice of a model is
held against itself, and its figures at a recommended checkpoint are judged.
"""

FIRST_RULE: Final = 1

_NO_FRACTION: Final = "is outside 0..1: is it a percentage?"


class Better(StrEnum):
    """Which way a metric improves."""

    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True, slots=True)
class MetricGate:
    """One row of the policy: how one metric is read, bounded and flagged.

    Attributes:
        name: the metric's name in what modelwarden writes.
        argument: its field in the flat layout, and its argument of `assess_model_quality`.
        series: its list in the layout of lists over validation points.
        label: what a sentence calls it.
        better: which way it improves.
        approve: inclusive bound of the APPROVED band.
        review: inclusive bound of the REVIEW band; beyond it is DROP.
        low_flag: the flag of a figure in the DROP band.
        least: smallest figure inside the metric's domain.
        most: largest figure inside the metric's domain.
        below_hint: what a figure below the domain suggests.
        above_hint: what a figure above it suggests.
        infinity_flag: set where +infinity means something (no losing trade) and lies in the domain; the band is
            then REVIEW.
        band: from a final figure, or None where it is missing, to its band.
    """

    name: str
    argument: str
    series: str
    label: str
    better: Better
    approve: float
    review: float
    low_flag: Flag
    least: float = -sys.float_info.max
    most: float = sys.float_info.max
    below_hint: str = ""
    above_hint: str = ""
    infinity_flag: Flag | None = None
    band: Callable[[float | None], Band] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "band", _band_of(self))

    @property
    def signs(self) -> tuple[str, str]:
        """How a figure within a bound and one beyond it compare to it."""
        return (">=", "<") if self.better is Better.HIGHER else ("<=", ">")

    def hint_outside(self, value: float) -> str:
        """What a figure outside the domain suggests."""
        return self.below_hint if value < self.least else self.above_hint


def _band_of(gate: MetricGate) -> Callable[[float | None], Band]:
    """What gives the band of a figure. A closure, for judging a whole catalog again calls it twenty million times.

    INVALID for a figure that is missing, NaN, infinite (but for `infinity_flag`) or outside the domain: `nan >= 0.7`
    and `nan < 0.5` are both False, so an else-branch would wave it through. Bounds are inclusive and compared exactly.
    """
    least, most, approve, review = gate.least, gate.most, gate.approve, gate.review
    in_approved, in_review, in_drop, invalid = Band

    def higher_is_better(value: float | None) -> Band:
        if value is None or not least <= value <= most:  # NaN compares False: outside
            return invalid
        if value >= approve:
            # Only a metric with an infinity flag has a domain that reaches infinity.
            return in_approved if value < math.inf else in_review
        return in_review if value >= review else in_drop

    def lower_is_better(value: float | None) -> Band:
        if value is None or not least <= value <= most:
            return invalid
        if value <= approve:
            return in_approved
        return in_review if value <= review else in_drop

    return higher_is_better if gate.better is Better.HIGHER else lower_is_better


@dataclass(frozen=True)
class Thresholds:
    """Ten thresholds as they stand, checked by nobody: what a run recorded must be read whatever is refused today."""

    approved_min_fitness: float = 0.70
    approved_min_pf: float = 1.8
    approved_min_consistency: float = 0.85
    approved_max_drawdown: float = 0.08
    review_min_fitness: float = 0.50
    review_min_pf: float = 1.3
    review_min_consistency: float = 0.65
    review_max_drawdown: float = 0.15
    fitness_decline_threshold: float = 0.05
    fitness_oscillation_threshold: float = 0.10


@dataclass(frozen=True)
class ModelGatingConfig(Thresholds):
    """The thresholds a team sets. Every field has the calibrated default.

    Consistency, drawdown and the two thresholds of the history are fractions: 0.08 is 8 %. 1.0 is the largest.

    Raises:
        ValueError: at construction, where a threshold is not a finite number, lies outside its metric's
            domain, is no fraction where it must be one, or a review bound is stricter than its approve bound; the
            message names fields and values.
    """

    def __post_init__(self) -> None:
        problems = _unusable(self) or [*_outside(self), *_contradictions(self)]
        if problems:
            raise ValueError("; ".join(problems))


def _unusable(thresholds: Thresholds) -> list[str]:
    return [
        f"{name} = {value!r} is not a finite number"
        for name, value in vars(thresholds).items()
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max
    ]


def _outside(thresholds: Thresholds) -> Iterator[str]:
    """The thresholds that no figure can meet, or every figure meets."""
    for name in ("fitness_decline_threshold", "fitness_oscillation_threshold"):
        value = getattr(thresholds, name)
        if not 0 <= value <= 1:
            yield f"{name} = {value!r} {'is negative' if value < 0 else _NO_FRACTION}"
    for gate, names in zip(metric_gates(thresholds), _BOUND_NAMES, strict=True):
        for name, value in zip(names, (gate.approve, gate.review), strict=True):
            if not gate.least <= value <= gate.most:
                yield f"{name} = {value!r} {gate.hint_outside(value)}"


def _contradictions(thresholds: Thresholds) -> Iterator[str]:
    """The review bounds that ask for more than their approve bounds."""
    for gate, (approve_name, review_name) in zip(metric_gates(thresholds), _BOUND_NAMES, strict=True):
        if gate.review > gate.approve if gate.better is Better.HIGHER else gate.review < gate.approve:
            yield f"{review_name} = {gate.review!r} is stricter than {approve_name} = {gate.approve!r}"


_BOUND_NAMES: Final = (
    ("approved_min_fitness", "review_min_fitness"),
    ("approved_min_pf", "review_min_pf"),
    ("approved_min_consistency", "review_min_consistency"),
    ("approved_max_drawdown", "review_max_drawdown"),
)


def metric_gates(thresholds: Thresholds, rule: int = RULE) -> tuple[MetricGate, ...]:
    """The table of gates that the thresholds fill, as that revision of the rule has it. A new metric is a new row."""
    return (
        MetricGate(
            name="fitness",
            argument="final_fitness",
            series="fitness_score",
            label="fitness",
            better=Better.HIGHER,
            approve=thresholds.approved_min_fitness,
            review=thresholds.review_min_fitness,
            low_flag=Flag.LOW_FITNESS,
        ),
        MetricGate(
            name="profit_factor",
            argument="final_pf",
            series="profit_factor",
            label="profit factor",
            better=Better.HIGHER,
            approve=thresholds.approved_min_pf,
            review=thresholds.review_min_pf,
            low_flag=Flag.LOW_PF,
            most=math.inf,
            infinity_flag=Flag.NO_LOSSES,
        ),
        MetricGate(
            name="consistency",
            argument="final_consistency",
            series="consistency",
            label="consistency",
            better=Better.HIGHER,
            approve=thresholds.approved_min_consistency,
            review=thresholds.review_min_consistency,
            low_flag=Flag.LOW_CONSISTENCY,
            least=0.0,
            most=1.0,
            below_hint=_NO_FRACTION,
            above_hint=_NO_FRACTION,
        ),
        MetricGate(
            name="max_drawdown",
            argument="final_max_dd",
            series="max_drawdown",
            label="max drawdown",
            better=Better.LOWER,
            approve=thresholds.approved_max_drawdown,
            review=thresholds.review_max_drawdown,
            low_flag=Flag.HIGH_DRAWDOWN,
            least=0.0,
            most=sys.float_info.max if rule == FIRST_RULE else 1.0,
            below_hint="is negative: give the size of the fall",
            above_hint=_NO_FRACTION,
        ),
    )


METRICS: Final = tuple(gate.name for gate in metric_gates(ModelGatingConfig()))
"""The names of the metrics, in the order of every tuple of figures."""


@dataclass(frozen=True)
class Policy:
    """The resolved thresholds that judge a run; recorded whole in each run under a short hash.

    Attributes:
        thresholds: every threshold by its config name, in the order of the config.
        gates: the table of metric gates.
        decline_threshold: FITNESS_DECLINE above this.
        oscillation_threshold: UNSTABLE_TRAINING above this.
        rule: the revision of the rule that goes with them.
    """

    thresholds: Mapping[str, float]
    gates: tuple[MetricGate, ...]
    decline_threshold: float
    oscillation_threshold: float
    rule: int = RULE

    @classmethod
    def from_config(cls, config: ModelGatingConfig | None = None) -> Self:
        """The policy of a config, or of the defaults."""
        return cls._of(config or ModelGatingConfig(), RULE)

    @classmethod
    def from_thresholds(cls, thresholds: Mapping[str, float], rule: int = RULE) -> Self:
        """The policy that a run recorded, also if its bounds would be refused today.

        Raises:
            ValueError, TypeError: it is not one of ours.
        """
        recorded = Thresholds(**thresholds)
        if problems := _unusable(recorded) or [*_contradictions(recorded)]:
            raise ValueError("; ".join(problems))
        return cls._of(recorded, rule)

    @classmethod
    def _of(cls, thresholds: Thresholds, rule: int) -> Self:
        # Floats throughout, so that 1 and 1.0 are one policy.
        floats = {each.name: float(getattr(thresholds, each.name)) for each in fields(Thresholds)}
        thresholds = Thresholds(**floats)
        return cls(
            thresholds=floats,
            gates=metric_gates(thresholds, rule),
            decline_threshold=thresholds.fitness_decline_threshold,
            oscillation_threshold=thresholds.fitness_oscillation_threshold,
            rule=rule,
        )

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> tuple[Callable[[Mapping[str, float], int], "Policy"], tuple[dict[str, float], int]]:
        """What another process gets: the thresholds and the rule; all else follows from them."""
        return Policy.from_thresholds, (dict(self.thresholds), self.rule)

    @cached_property
    def id(self) -> str:
        """Eight hex digits that change when any threshold does, or the rule."""
        canonical = ";".join(f"{name}={value!r}" for name, value in sorted(self.thresholds.items()))
        if self.rule != FIRST_RULE:  # the runs of the first go on under the ids that they have
            canonical += f";rule={self.rule}"
        return hashlib.sha256(canonical.encode()).hexdigest()[:8]
