"""The policy: rows that say how a metric is bounded, and what its history's course means; data, resolved and checked.

The rule: a bound lives in one row of one table, and a policy that contradicts itself is refused here, with every reason
at once, before it judges anything. What a run recorded is read whatever is refused today.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, fields, replace
from functools import cached_property
from typing import Any, Final, Self

from modelwarden.gate.gates import (
    LARGEST_FIGURE,
    SEED_FLAGS_BY_TEXT,
    Better,
    Gate,
    JudgeAt,
    Missing,
    Override,
    as_float,
    is_finite,
    with_bounds,
)
from modelwarden.gate.soundness import PolicyError, problems_of
from modelwarden.gate.thresholds import (
    BOUND_NAMES,
    FIRST_RULE,
    FRACTIONS,
    RULE,
    ModelGatingConfig,
    Thresholds,
    contradictions,
    default_gates,
    unusable,
)

CALIBRATED_REWARD_SCALE: Final = 0.001
"""The reward scale that the default bounds are calibrated for (training notes v2.4.1)."""

CALIBRATED_METRIC: Final = "max_drawdown"
"""The metric that is a proxy computed with the reward scale: only a policy that gates it cares."""

DEFAULT_NAME: Final = "default"
"""The policy of the four gates that `ModelGatingConfig` fills."""


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
        judge_at: which figures are judged; with `best` a model counts as ended at its history's best point.
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
            object.__setattr__(self, name, as_float(getattr(self, name)))
        if not recorded and (problems := [*problems_of(self)]):
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
        if problems := unusable(vars(written)) or [*contradictions(written)]:
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
                    "least": None if gate.least == -LARGEST_FIGURE else gate.least,
                    "most": None if gate.most == LARGEST_FIGURE else gate.most,
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
                least=-LARGEST_FIGURE if row["least"] is None else _number(row["least"]),
                most=LARGEST_FIGURE if row["most"] is None else _number(row["most"]),
                infinity=_one_of(row["infinity"], "", "review"),
                missing=Missing(row["missing"]),
                flag=SEED_FLAGS_BY_TEXT.get(row["flag"], _text(row["flag"])),
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
            for gate, names in zip(self.gates, BOUND_NAMES, strict=True)
            for name, value in zip(names, (gate.approve, gate.review), strict=True)
        }
        return bounds | dict(zip(FRACTIONS, (self.decline, self.oscillation), strict=True))

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
            replace(self, gates=with_bounds(self.gates, each), overrides=(), recorded=True) for each in self.overrides
        )


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
    if not is_finite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)  # type: ignore[arg-type]
