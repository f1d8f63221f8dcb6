"""The policy: the table of metric gates and the two history thresholds, resolved and checked.

The rule: a threshold lives in one row of one table, and a table that contradicts itself is refused here,
before it judges anything.
"""

import hashlib
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cached_property
from typing import Final, Self

from modelwarden.gate.assessment import Band, Flag

CALIBRATED_REWARD_SCALE: Final = 0.001
"""The reward scale that the default bounds are calibrated for (training notes v2.4.1)."""


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
        outside_hint: what a figure outside the domain suggests.
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
    outside_hint: str = ""
    infinity_flag: Flag | None = None
    band: Callable[[float | None], Band] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "band", _band_of(self))

    @property
    def signs(self) -> tuple[str, str]:
        """How a figure within a bound and one beyond it compare to it."""
        return (">=", "<") if self.better is Better.HIGHER else ("<=", ">")


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
class ModelGatingConfig:
    """The thresholds a team sets. Every field has the calibrated default.

    Raises:
        ValueError: at construction, where a threshold is not a finite number, lies outside its metric's
            domain, or a review bound is stricter than its approve bound; the message names fields and values.
    """

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

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ValueError("; ".join(problems))

    def _problems(self) -> list[str]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        unusable = [
            f"{name} = {value!r} is not a finite number"
            for name, value in values.items()
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max
        ]
        if unusable:
            return unusable
        problems = [
            f"{name} = {values[name]!r} is negative"
            for name in ("fitness_decline_threshold", "fitness_oscillation_threshold")
            if values[name] < 0
        ]
        for gate, (approve_name, review_name) in zip(metric_gates(self), _BOUND_NAMES, strict=True):
            problems += [
                f"{name} = {values[name]!r} {gate.outside_hint}"
                for name in (approve_name, review_name)
                if not gate.least <= values[name] <= gate.most
            ]
            stricter = gate.review > gate.approve if gate.better is Better.HIGHER else gate.review < gate.approve
            if stricter:
                problems.append(f"{review_name} = {gate.review!r} is stricter than {approve_name} = {gate.approve!r}")
        return problems


_BOUND_NAMES: Final = (
    ("approved_min_fitness", "review_min_fitness"),
    ("approved_min_pf", "review_min_pf"),
    ("approved_min_consistency", "review_min_consistency"),
    ("approved_max_drawdown", "review_max_drawdown"),
)


def metric_gates(config: ModelGatingConfig) -> tuple[MetricGate, ...]:
    """The table of gates that a config fills. A new metric is a new row here."""
    return (
        MetricGate(
            name="fitness",
            argument="final_fitness",
            series="fitness_score",
            label="fitness",
            better=Better.HIGHER,
            approve=config.approved_min_fitness,
            review=config.review_min_fitness,
            low_flag=Flag.LOW_FITNESS,
        ),
        MetricGate(
            name="profit_factor",
            argument="final_pf",
            series="profit_factor",
            label="profit factor",
            better=Better.HIGHER,
            approve=config.approved_min_pf,
            review=config.review_min_pf,
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
            approve=config.approved_min_consistency,
            review=config.review_min_consistency,
            low_flag=Flag.LOW_CONSISTENCY,
            least=0.0,
            most=1.0,
            outside_hint="is outside 0..1: is it a percentage?",
        ),
        MetricGate(
            name="max_drawdown",
            argument="final_max_dd",
            series="max_drawdown",
            label="max drawdown",
            better=Better.LOWER,
            approve=config.approved_max_drawdown,
            review=config.review_max_drawdown,
            low_flag=Flag.HIGH_DRAWDOWN,
            least=0.0,
            outside_hint="is negative: give the size of the fall",
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
    """

    thresholds: Mapping[str, float]
    gates: tuple[MetricGate, ...]
    decline_threshold: float
    oscillation_threshold: float

    @classmethod
    def from_config(cls, config: ModelGatingConfig | None = None) -> Self:
        """The policy of a config, or of the defaults."""
        config = config or ModelGatingConfig()
        thresholds = {field.name: float(getattr(config, field.name)) for field in fields(ModelGatingConfig)}
        config = ModelGatingConfig(**thresholds)  # floats throughout, so that 1 and 1.0 are one policy
        return cls(
            thresholds=thresholds,
            gates=metric_gates(config),
            decline_threshold=config.fitness_decline_threshold,
            oscillation_threshold=config.fitness_oscillation_threshold,
        )

    @classmethod
    def from_thresholds(cls, thresholds: Mapping[str, float]) -> Self:
        """The policy that a run recorded. Raises ValueError or TypeError where it is not one of ours."""
        return cls.from_config(ModelGatingConfig(**thresholds))

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> tuple[Callable[[Mapping[str, float]], "Policy"], tuple[dict[str, float]]]:
        """What another process gets: the thresholds; all else follows from them."""
        return Policy.from_thresholds, (dict(self.thresholds),)

    @cached_property
    def id(self) -> str:
        """Eight hex digits that change when any threshold does."""
        canonical = ";".join(f"{name}={value!r}" for name, value in sorted(self.thresholds.items()))
        return hashlib.sha256(canonical.encode()).hexdigest()[:8]
