"""The policy: rows that say how a metric is bounded, and what its history's course means; data, resolved and checked.

The rule: a bound lives in one row of one table, and a policy that contradicts itself is refused here, with every reason
at once, before it judges anything. What a run recorded is read whatever is refused today.
"""

import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, fields, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Final, Self

from modelwarden.gate.assessment import Band, Flag

CALIBRATED_REWARD_SCALE: Final = 0.001
"""The reward scale that the default bounds are calibrated for (training notes v2.4.1)."""

CALIBRATED_METRIC: Final = "max_drawdown"
"""The metric that is a proxy computed with the reward scale: only a policy that gates it cares."""

RULE: Final = 2
"""The revision of the rule that judges now; each policy that a run records names the one that judged with it.

1: runs of schema 1. 2: a drawdown above 1 is outside its domain; what a summary says twice of a model is held against
itself, and its figures at a recommended checkpoint are judged.
"""

FIRST_RULE: Final = 1

DEFAULT_NAME: Final = "default"
"""The policy of the four gates that `ModelGatingConfig` fills."""

LONGEST_NAME: Final = 64
"""Characters of a metric's, a label's and a policy's name: they stand in tables and messages."""

MOST_GATES: Final = 32
"""Rows of a policy: as many as a person can still look over."""

_MOST: Final = sys.float_info.max
_NO_FRACTION: Final = "is outside 0..1: is it a percentage?"


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
    """Which figures are judged: those of the last validation point, or those of the history's best one."""

    LAST = "last"
    BEST = "best"


Place = tuple[str | int, ...]
"""Where in a policy something stands: ("gate", 0, "review")."""


class PolicyError(ValueError):
    """A policy contradicts itself.

    Attributes:
        problems: every reason, each with its place in the policy.
    """

    def __init__(self, problems: Sequence[tuple[Place, str]]) -> None:
        super().__init__("; ".join(said for _, said in problems))
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type["PolicyError"], tuple[Sequence[tuple[Place, str]]]]:
        """What another process gets."""
        return PolicyError, (self.problems,)


_SEED_FIELDS: Final[Mapping[str, tuple[str, str]]] = {
    "fitness": ("final_fitness", "fitness_score"),
    "profit_factor": ("final_pf", "profit_factor"),
    "consistency": ("final_consistency", "consistency"),
    "max_drawdown": ("final_max_dd", "max_drawdown"),
}
"""What the summary's two layouts call the four metrics of the default policy; every other is called by its name."""

_SEED_FLAGS: Final[Mapping[str, Flag]] = {
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
    least: float = -_MOST
    most: float = _MOST
    infinity: str = ""
    missing: Missing = Missing.DROP
    flag: str = ""
    band: Callable[[float | None], Band] = field(init=False, repr=False, compare=False)
    argument: str = field(init=False, repr=False, compare=False)
    series: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        settle = object.__setattr__
        for name in ("approve", "review", "least", "most"):  # floats throughout, so that 1 and 1.0 are one policy
            settle(self, name, _as_float(getattr(self, name)))
        settle(self, "label", self.label or self.metric.replace("_", " "))
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
            return _NO_FRACTION
        if value < self.least:
            return f"is below {self.least:g}, the least that it can be"
        percentage = ": is it a percentage?" if self.most == 1.0 else ""
        return f"is above {self.most:g}, the most that it can be{percentage}"


def _as_float(value: float) -> float:
    """A whole number as a float; what is no number as it is, for `_problems` to name."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MOST else value


def _flag_of(metric: str, better: Better) -> str:
    return _SEED_FLAGS.get(metric) or f"{'LOW' if better is Better.HIGHER else 'HIGH'}_{_capitals(metric)}"


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

    def fits(self, symbol: str) -> bool:
        """Whether a pattern fits the symbol."""
        return any(fnmatchcase(symbol, pattern) for pattern in self.symbols)


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
        problems = _unusable(vars(self)) or [*_outside(self), *_contradictions(self)]
        if problems:
            raise ValueError("; ".join(problems))


def _unusable(numbers: Mapping[str, object]) -> list[str]:
    return [f"{name} = {value!r} is not a finite number" for name, value in numbers.items() if not _is_finite(value)]


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MOST


_FRACTIONS: Final = ("fitness_decline_threshold", "fitness_oscillation_threshold")


def _outside(thresholds: Thresholds) -> Iterator[str]:
    """The thresholds that no figure can meet, or every figure meets."""
    for name in _FRACTIONS:
        if said := _no_fraction(getattr(thresholds, name)):
            yield f"{name} = {getattr(thresholds, name)!r} {said}"
    for gate, names in zip(default_gates(thresholds), _BOUND_NAMES, strict=True):
        for name in names:
            value = getattr(thresholds, name)
            if not gate.least <= value <= gate.most:
                yield f"{name} = {value!r} {gate.hint_outside(value)}"


def _no_fraction(value: float) -> str:
    if 0 <= value <= 1:
        return ""
    return "is negative" if value < 0 else _NO_FRACTION


def _contradictions(thresholds: Thresholds) -> Iterator[str]:
    """The review bounds that ask for more than their approve bounds."""
    for gate, (approve_name, review_name) in zip(default_gates(thresholds), _BOUND_NAMES, strict=True):
        approve, review = getattr(thresholds, approve_name), getattr(thresholds, review_name)
        if _is_stricter(review, approve, gate.better):
            yield f"{review_name} = {review!r} is stricter than {approve_name} = {approve!r}"


def _is_stricter(review: float, approve: float, better: Better) -> bool:
    return review > approve if better is Better.HIGHER else review < approve


_BOUND_NAMES: Final = (
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
            most=_MOST if rule == FIRST_RULE else 1.0,
        ),
    )


@dataclass(frozen=True)
class Policy:
    """What judges a run; recorded whole in each run, with a short hash of it.

    Attributes:
        gates: one row a metric; at least one.
        history: the metric whose course gives peak, decline, fall and checkpoint; None: there is none.
        name: the team's own name for it.
        better: which way that metric improves, if no gate says so.
        decline: FITNESS_DECLINE if the final figure lies more than this share below the peak.
        oscillation: UNSTABLE_TRAINING if the course falls by more than this share of a running peak.
        judge_at: which figures are judged.
        overrides: other bounds for some models; of those that fit a symbol the last one counts.
        rule: the revision of the rule that goes with it.
        recorded: it was read from a run: its bounds are taken as they are.

    Raises:
        PolicyError: it contradicts itself.
    """

    gates: tuple[Gate, ...]
    history: str | None = None
    name: str = DEFAULT_NAME
    better: Better | None = None
    decline: float = 0.05
    oscillation: float = 0.10
    judge_at: JudgeAt = JudgeAt.LAST
    overrides: tuple[Override, ...] = ()
    rule: int = RULE
    recorded: InitVar[bool] = False

    def __post_init__(self, recorded: bool) -> None:
        for name in ("decline", "oscillation"):
            object.__setattr__(self, name, _as_float(getattr(self, name)))
        if not recorded and (problems := [*_problems(self)]):
            raise PolicyError(problems)

    @classmethod
    def from_config(cls, config: ModelGatingConfig | None = None) -> Self:
        """The default policy with the thresholds of a config, or the calibrated ones."""
        return cls._of(config or ModelGatingConfig(), RULE)

    @classmethod
    def from_thresholds(cls, thresholds: Mapping[str, float], rule: int = FIRST_RULE) -> Self:
        """The policy that a run of schema 1 recorded, also if its bounds would be refused today.

        Raises:
            ValueError, TypeError: it is not one of ours.
        """
        written = Thresholds(**thresholds)
        if problems := _unusable(vars(written)) or [*_contradictions(written)]:
            raise ValueError("; ".join(problems))
        return cls._of(written, rule)

    @classmethod
    def _of(cls, thresholds: Thresholds, rule: int) -> Self:
        # Floats throughout, so that 1 and 1.0 are one policy.
        thresholds = Thresholds(**{each.name: float(getattr(thresholds, each.name)) for each in fields(Thresholds)})
        return cls(
            gates=default_gates(thresholds, rule),
            history="fitness",
            decline=thresholds.fitness_decline_threshold,
            oscillation=thresholds.fitness_oscillation_threshold,
            rule=rule,
            recorded=True,
        )

    def as_json(self) -> dict[str, Any]:
        """Everything that decides, as strict JSON can hold it; `from_json` makes the same policy of it."""
        return {"id": self.id, **self._written()}

    def _written(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "rule": self.rule,
            "gates": [
                {
                    "metric": gate.metric,
                    "label": gate.label,
                    "better": gate.better.value,
                    "approve": gate.approve,
                    "review": gate.review,
                    "least": None if gate.least == -_MOST else gate.least,
                    "most": None if gate.most == _MOST else gate.most,
                    "infinity": gate.infinity,
                    "missing": gate.missing.value,
                    "flag": str(gate.flag),
                }
                for gate in self.gates
            ],
            "history": self.history,
            "better": None if self.better is None else self.better.value,
            "decline": self.decline,
            "oscillation": self.oscillation,
            "judge_at": self.judge_at.value,
            "overrides": [
                {"symbols": [*each.symbols], "approve": dict(each.approve), "review": dict(each.review)}
                for each in self.overrides
            ],
        }

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Self:
        """The policy that a run recorded, also if it would be refused today.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: it is not what `as_json` makes.
        """
        gates = tuple(
            Gate(
                metric=_text(row["metric"]),
                approve=_number(row["approve"]),
                review=_number(row["review"]),
                better=Better(row["better"]),
                label=_text(row["label"]),
                least=-_MOST if row["least"] is None else _number(row["least"]),
                most=_MOST if row["most"] is None else _number(row["most"]),
                infinity=_one_of(row["infinity"], "", "review"),
                missing=Missing(row["missing"]),
                flag=_SEED_FLAGS_BY_TEXT.get(row["flag"], _text(row["flag"])),
            )
            for row in written["gates"]
        )
        return cls(
            gates=gates,
            history=None if written["history"] is None else _text(written["history"]),
            name=_text(written["name"]),
            better=None if written["better"] is None else Better(written["better"]),
            decline=_number(written["decline"]),
            oscillation=_number(written["oscillation"]),
            judge_at=JudgeAt(written["judge_at"]),
            overrides=tuple(
                Override(
                    tuple(map(_text, each["symbols"])),
                    {_text(metric): _number(bound) for metric, bound in each["approve"].items()},
                    {_text(metric): _number(bound) for metric, bound in each["review"].items()},
                )
                for each in written["overrides"]
            ),
            rule=_whole(written["rule"]),
            recorded=True,
        )

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> tuple[Callable[..., "Policy"], tuple[Any, ...]]:
        """What another process gets; gates hold functions, which don't travel."""
        return Policy.from_json, (self.as_json(),)

    @cached_property
    def id(self) -> str:
        """Eight hex digits that change when anything does that decides, or the name."""
        if self.rule == FIRST_RULE:  # the runs of the first go on under the ids that they have
            canonical = ";".join(f"{name}={value!r}" for name, value in sorted(self._thresholds().items()))
        else:
            canonical = json.dumps(self._written(), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:8]

    def _thresholds(self) -> dict[str, float]:
        bounds = {
            name: value
            for gate, names in zip(self.gates, _BOUND_NAMES, strict=True)
            for name, value in zip(names, (gate.approve, gate.review), strict=True)
        }
        return bounds | dict(zip(_FRACTIONS, (self.decline, self.oscillation), strict=True))

    @cached_property
    def history_better(self) -> Better:
        """Which way the history's metric improves."""
        gate = next((gate for gate in self.gates if gate.metric == self.history), None)
        return gate.better if gate is not None else self.better or Better.HIGHER

    @cached_property
    def history_label(self) -> str:
        """What a sentence calls the history's metric."""
        gate = next((gate for gate in self.gates if gate.metric == self.history), None)
        return gate.label if gate is not None else (self.history or "").replace("_", " ")

    @cached_property
    def history_position(self) -> int | None:
        """Where the history's metric stands among the gates; None if it has none."""
        return next((at for at, gate in enumerate(self.gates) if gate.metric == self.history), None)

    @cached_property
    def minds_reward_scale(self) -> bool:
        """Whether it gates the metric that is computed with the reward scale."""
        return any(gate.metric == CALIBRATED_METRIC for gate in self.gates)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics' names, in the order of every tuple of figures."""
        return tuple(gate.metric for gate in self.gates)

    def for_symbol(self, symbol: str) -> "Policy":
        """The policy with the bounds that count for a model: its own, or those of the last override that fits."""
        if self.overrides:
            for override, overridden in zip(reversed(self.overrides), reversed(self._overridden), strict=True):
                if override.fits(symbol):
                    return overridden
        return self

    @cached_property
    def _overridden(self) -> tuple["Policy", ...]:
        return tuple(
            replace(self, gates=_with_bounds(self.gates, each), overrides=(), recorded=True) for each in self.overrides
        )


def _with_bounds(gates: Sequence[Gate], override: Override) -> tuple[Gate, ...]:
    return tuple(
        replace(
            gate,
            approve=override.approve.get(gate.metric, gate.approve),
            review=override.review.get(gate.metric, gate.review),
        )
        for gate in gates
    )


_SEED_FLAGS_BY_TEXT: Final[Mapping[str, str]] = {flag.value: flag for flag in _SEED_FLAGS.values()}
_RESERVED_FLAGS: Final = frozenset(Flag) - frozenset(_SEED_FLAGS.values())
"""What says something else of a model than that a figure is in the DROP band."""


def _problems(policy: Policy) -> Iterator[tuple[Place, str]]:
    """Every reason why a policy can't judge, with its place."""
    if said := _unfit_name(policy.name):
        yield ("name",), f"the policy's name {said}"
    if not policy.gates:
        yield ("gate",), "a policy needs a gate: a metric with its bounds"
    if len(policy.gates) > MOST_GATES:
        yield ("gate",), f"{len(policy.gates)} gates, more than {MOST_GATES}"
    seen: set[str] = set()
    for at, gate in enumerate(policy.gates):
        if gate.metric in seen:
            yield ("gate", at, "metric"), f"{gate.metric} has a gate already"
        seen.add(gate.metric)
        for name, said in _problems_of_gate(gate):
            yield ("gate", at, name), said
    yield from _problems_of_history(policy)
    for at, override in enumerate(policy.overrides):
        for name, said in _problems_of_override(override, {gate.metric: gate for gate in policy.gates}):
            yield ("override", at, name), said


def _problems_of_gate(gate: Gate) -> Iterator[tuple[str, str]]:
    if said := _unfit_name(gate.metric):
        yield "metric", f"a metric's name {said}"
        return
    if said := _unfit_name(gate.label):
        yield "label", f"the label of {gate.metric} {said}"
    if said := _unfit_name(gate.flag):
        yield "flag", f"the flag of {gate.metric} {said}"
    elif gate.flag in _RESERVED_FLAGS:
        yield "flag", f"{gate.flag} says something else already: give {gate.metric} a flag of its own"
    if gate.infinity not in {"", "review"}:
        yield "infinity", f'infinity = {gate.infinity!r}: "review" is all that it can be'
    if gate.infinity and gate.most not in {_MOST, math.inf}:
        yield "infinity", f"{gate.metric} can't be infinite if the most that it can be is {gate.most:g}"
    for name in ("approve", "review", "least", "most"):
        value = getattr(gate, name)
        if not _is_finite(value) and not (name == "most" and gate.infinity and value == math.inf):
            yield name, f"{name} = {value!r} of {gate.metric} is not a finite number"
            return
    if gate.least > gate.most:
        yield "least", f"least = {gate.least!r} of {gate.metric} is more than most = {gate.most!r}"
        return
    yield from _problems_of_bounds(gate)


def _problems_of_bounds(gate: Gate) -> Iterator[tuple[str, str]]:
    for name, value in (("approve", gate.approve), ("review", gate.review)):
        if not gate.least <= value <= gate.most:
            yield name, f"{name} = {value!r} of {gate.metric} {gate.hint_outside(value)}"
    if _is_stricter(gate.review, gate.approve, gate.better):
        yield "review", f"review = {gate.review!r} of {gate.metric} is stricter than approve = {gate.approve!r}"


def _problems_of_history(policy: Policy) -> Iterator[tuple[Place, str]]:
    gate = next((gate for gate in policy.gates if gate.metric == policy.history), None)
    if policy.history is not None:
        if said := _unfit_name(policy.history):
            yield ("history",), f"the history's metric {said}"
        elif gate is None and policy.better is None:
            yield ("history",), f'no gate says which way {policy.history} improves: give better = "higher" or "lower"'
        elif gate is not None and policy.better not in {None, gate.better}:
            yield ("better",), f"better = {policy.better} contradicts the gate of {policy.history}"
    elif policy.better is not None:
        yield ("better",), "better is the history's direction, and there is no history"
    if policy.judge_at is JudgeAt.BEST and policy.history is None:
        yield ("judge_at",), 'judge_at = "best" needs a history'
    for name in ("decline", "oscillation"):
        value = getattr(policy, name)
        if not _is_finite(value):
            yield (name,), f"{name} = {value!r} is not a finite number"
        elif value < 0 or (policy.history_better is Better.HIGHER and value > 1):
            yield (name,), f"{name} = {value!r} {_no_fraction(value)}"


def _problems_of_override(override: Override, gates: Mapping[str, Gate]) -> Iterator[tuple[str, str]]:
    if not override.symbols or not all(override.symbols):
        yield "symbols", "an override needs the symbols that it is for"
    if not override.approve and not override.review:
        yield "approve", "an override needs a bound"
    sound = True
    for name, bounds in (("approve", override.approve), ("review", override.review)):
        for metric, bound in bounds.items():
            if metric not in gates:
                sound = False
                yield name, f"{metric} has no gate that could be overridden"
            elif not _is_finite(bound):
                sound = False
                yield name, f"{name} = {bound!r} of {metric} is not a finite number"
    if sound:
        for gate in _with_bounds([*gates.values()], override):
            if gate.metric in override.approve or gate.metric in override.review:
                yield from _problems_of_bounds(gate)


def _unfit_name(name: object) -> str:
    """Why a name is none, as the end of a sentence; "" if it is one."""
    if not isinstance(name, str):
        return "is no text"
    if not 1 <= len(name) <= LONGEST_NAME:
        return f"has {len(name)} characters: 1 to {LONGEST_NAME} are allowed"
    if not name.isprintable() or name != name.strip():
        return "holds what can't be seen"
    return ""


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _one_of(value: object, *known: str) -> str:
    if value not in known:
        raise ValueError(f"{value!r} is none of {known}")
    return str(value)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not FIRST_RULE <= value <= RULE:
        raise ValueError(f"{value!r} is not a revision of the rule that is known")
    return value


def _number(value: object) -> float:
    if not _is_finite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)  # type: ignore[arg-type]
