"""The ten thresholds of the default policy, under the names that a team sets them by, and the four gates they fill.

The rule: what a team sets is refused if it contradicts itself; what a run recorded is read whatever is refused today.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from modelwarden.gate.gates import LARGEST_FIGURE, NO_FRACTION, Better, Gate, is_finite, is_stricter

RULE: Final = 2
"""The revision of the rule that judges now; each policy that a run records names the one that judged with it.

1: runs of schema 1. 2: a drawdown above 1 is outside its domain; what a summary says twice of a model is held against
itself, and its figures at a recommended checkpoint are judged.
"""

FIRST_RULE: Final = 1


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
    """The thresholds of the default policy. Every field has the calibrated default.

    Consistency, drawdown and the two thresholds of the history are fractions: 0.08 is 8 %. 1.0 is the largest.

    Raises:
        ValueError: at construction, if a threshold is not a finite number, lies outside its metric's domain, is no
            fraction and must be one, or a review bound is stricter than its approve bound; the message names fields
            and values.
    """

    def __post_init__(self) -> None:
        problems = unusable(vars(self)) or [*_outside(self), *contradictions(self)]
        if problems:
            raise ValueError("; ".join(problems))


def unusable(numbers: Mapping[str, object]) -> list[str]:
    """What is no number that a threshold can be, a sentence each."""
    return [f"{name} = {value!r} is not a finite number" for name, value in numbers.items() if not is_finite(value)]


FRACTIONS: Final = ("fitness_decline_threshold", "fitness_oscillation_threshold")


def _outside(thresholds: Thresholds) -> Iterator[str]:
    """The thresholds that no figure can meet, or every figure meets."""
    for name in FRACTIONS:
        if said := no_fraction(getattr(thresholds, name)):
            yield f"{name} = {getattr(thresholds, name)!r} {said}"
    for gate, names in zip(default_gates(thresholds), BOUND_NAMES, strict=True):
        for name in names:
            value = getattr(thresholds, name)
            if not gate.least <= value <= gate.most:
                yield f"{name} = {value!r} {gate.hint_outside(value)}"


def no_fraction(value: float) -> str:
    """Why a number is no fraction, as the end of a sentence; "" if it is one."""
    if 0 <= value <= 1:
        return ""
    return "is negative" if value < 0 else NO_FRACTION


def contradictions(thresholds: Thresholds) -> Iterator[str]:
    """The review bounds that ask for more than their approve bounds."""
    for gate, (approve_name, review_name) in zip(default_gates(thresholds), BOUND_NAMES, strict=True):
        approve, review = getattr(thresholds, approve_name), getattr(thresholds, review_name)
        if is_stricter(review, approve, gate.better):
            yield f"{review_name} = {review!r} is stricter than {approve_name} = {approve!r}"


BOUND_NAMES: Final = (
    ("approved_min_fitness", "review_min_fitness"),
    ("approved_min_pf", "review_min_pf"),
    ("approved_min_consistency", "review_min_consistency"),
    ("approved_max_drawdown", "review_max_drawdown"),
)


def default_gates(thresholds: Thresholds, rule: int = RULE) -> tuple[Gate, ...]:
    """The four rows of the default policy that the thresholds fill, as that revision of the rule has them."""
    return (
        Gate("fitness", thresholds.approved_min_fitness, thresholds.review_min_fitness),
        Gate("profit_factor", thresholds.approved_min_pf, thresholds.review_min_pf, infinity="review"),
        Gate(
            "consistency", thresholds.approved_min_consistency, thresholds.review_min_consistency, least=0.0, most=1.0
        ),
        Gate(
            "max_drawdown",
            thresholds.approved_max_drawdown,
            thresholds.review_max_drawdown,
            better=Better.LOWER,
            least=0.0,
            most=LARGEST_FIGURE if rule == FIRST_RULE else 1.0,
        ),
    )
