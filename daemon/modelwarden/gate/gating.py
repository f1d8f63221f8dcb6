"""The rule: from a model's figures and a policy to its assessment.

The rule nobody may break: a model's class is its worst band, and a figure that can't be judged is in the worst.
Flags about the history recommend and warn; they never change the class.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from modelwarden.gate.assessment import (
    CLASSIFICATIONS,
    Assessment,
    Band,
    Checkpoint,
    Classification,
    Flag,
    PointAssessment,
)
from modelwarden.gate.gates import Better, Gate, JudgeAt
from modelwarden.gate.model_entry import Model
from modelwarden.gate.policy import CALIBRATED_REWARD_SCALE, Policy
from modelwarden.gate.series import figures_at, figures_at_best
from modelwarden.gate.soundness import PolicyError
from modelwarden.gate.summary import Summary
from modelwarden.gate.thresholds import ModelGatingConfig
from modelwarden.gate.wording import explain

FLOAT_NOISE: Final = 1e-9
"""Allowance for rounding in the two derived figures, decline and fall, and nowhere else: 0.95 against a peak
of 1.0 is a decline of 0.050000000000000044, and exactly the threshold is not flagged."""


LARGEST: Final = sys.float_info.max
"""What a decline or a fall counts as that is larger: JSON has no infinity to keep it in."""


# Bound once: in Python 3.11 to look up a member of an enumeration costs more than to compare with it.
_APPROVED, _REVIEW, _DROP = CLASSIFICATIONS
_IN_REVIEW, _IN_DROP, _INVALID, _IGNORED = Band.REVIEW, Band.DROP, Band.INVALID, Band.IGNORED
_LOWER, _AT_BEST = Better.LOWER, JudgeAt.BEST
_DECLINE, _UNSTABLE = Flag.FITNESS_DECLINE, Flag.UNSTABLE_TRAINING


class QualityAssessment(NamedTuple):
    """What `assess_model_quality` returns; unpacks in this order."""

    classification: Classification
    flags: list[Flag]
    use_checkpoint: bool
    best_idx: int | None


class HistoryFigures(NamedTuple):
    """What the course of the history's metric says whatever the bounds.

    Attributes:
        best_idx: index of the earliest best point, None without a usable point.
        peak: the best point: the highest, or the lowest if lower is better.
        largest_fall: from a running peak to a later point that is worse, relative to that peak (absolute if the peak is
            not positive).
        fell_from: the peak that it began at, None without a fall.
    """

    best_idx: int | None
    peak: float | None
    largest_fall: float | None
    fell_from: float | None


class Verdict(NamedTuple):
    """Class, flags and bands: all that a policy decides about a model's figures."""

    classification: Classification
    flags: tuple[str, ...]
    bands: tuple[Band, ...]


def assess_model_quality(
    final_fitness: float | None,
    final_pf: float | None,
    final_consistency: float | None,
    final_max_dd: float | None,
    fitness_history: Sequence[float] | None = None,
    config: ModelGatingConfig | None = None,
) -> QualityAssessment:
    """Judge one model by its final figures.

    The figures are taken as they are given. A summary's are also held against one another: the flag
    INCONSISTENT_FIGURES and the remark NO_HISTORY are of a model in a summary, never of this call.

    Args:
        final_fitness: fitness at the last validation point.
        final_pf: profit factor there; +inf means no losing trade.
        final_consistency: a fraction 0..1.
        final_max_dd: the size of the largest drawdown, a fraction, never negative.
        fitness_history: fitness over the validation points, oldest first.
        config: thresholds; the calibrated defaults if None.

    Returns:
        (classification, flags, use_checkpoint, best_idx). Classification and flags compare equal to their names.

    Raises:
        TypeError: a figure is not a number.
    """
    figures = (final_fitness, final_pf, final_consistency, final_max_dd)
    model = Model(
        symbol="model",
        values=tuple(None if figure is None else _as_float(figure) for figure in figures),
        history=[_as_float(point) for point in fitness_history] if fitness_history is not None else (),
        checkpoints=None,
        validation_interval=None,
    )
    assessment = assess_model(model, Policy.from_config(config))
    flags = [Flag(flag) for flag in assessment.flags]
    return QualityAssessment(assessment.classification, flags, assessment.use_checkpoint, assessment.best_idx)


def assess(
    metrics: Mapping[str, float | None],
    history: Sequence[float] | None = None,
    policy: Policy | None = None,
    symbol: str = "model",
) -> Assessment:
    """Judge one model by its final figures under any policy.

    Args:
        metrics: the final figures by metric; what no gate names is kept and judges nothing.
        history: the course of the policy's history metric over the validation points, oldest first.
        policy: what judges; the calibrated default if None.
        symbol: the model's name, by which overrides are found.

    Raises:
        TypeError: a figure is not a number.
        PolicyError: a history is given, and the policy has none.
    """
    policy = policy or Policy.from_config()
    if history is not None and policy.history is None:
        raise PolicyError([(("history",), f"the policy {policy.name} has no history")])
    figures = {name: None if figure is None else _as_float(figure) for name, figure in metrics.items()}
    model = Model(
        symbol=symbol,
        values=tuple(figures.get(gate.metric) for gate in policy.gates),
        history=[_as_float(point) for point in history] if history is not None else (),
        checkpoints=None,
        validation_interval=None,
        others={name: each for name, each in figures.items() if each is not None and name not in policy.metrics},
    )
    return assess_model(model, policy)


def _as_float(figure: float) -> float:
    """The figure of whatever numeric library; a whole number beyond floats is infinite. Text is no figure."""
    if isinstance(figure, str | bytes | bytearray | bool):
        raise TypeError(f"{figure!r} is not a number")
    try:
        return float(figure)
    except OverflowError:
        return math.inf if figure > 0 else -math.inf


def assess_summary(summary: Summary, policy: Policy) -> list[Assessment]:
    """One assessment a model, in the summary's order."""
    return [assess_model(model, policy, summary.reward_scale) for model in summary.models]


def assess_model(model: Model, policy: Policy, reward_scale: float | None = None) -> Assessment:
    """The assessment of one model under a policy.

    Args:
        model: the figures; `values` in the order of the policy's gates.
        policy: the bounds.
        reward_scale: what the run's drawdown proxy was computed with; None if the summary is silent.
    """
    if policy.overrides:
        policy = policy.for_symbol(model.symbol)
    history = history_figures(model.history, policy.history_better)
    values, points = model.values, len(model.history)
    if policy.judge_at is _AT_BEST and history.best_idx is not None and not model.is_flat:
        # What came after that point was judged by nobody: it is neither the last checkpoint nor a decline.
        values = figures_at_best(model.lists or {}, model.history, history.best_idx, policy)
        points = history.best_idx + 1
    final = values[position] if (position := policy.history_position) is not None else _last_of(model.history, points)
    decline = decline_from_peak(final, history.peak, policy.history_better)
    contradicted = bool(model.contradictions)
    verdict = judge(values, decline, history.largest_fall, reward_scale, policy, contradicted=contradicted)
    checkpoint, last_checkpoint = _checkpoints(model, history.best_idx, points)
    declines = _DECLINE in verdict.flags
    at_checkpoint = _judge_at_peak(model, history.best_idx, reward_scale, policy) if declines else None
    # By position: by name it takes three times as long, and a backlog has a hundred thousand models.
    return Assessment(
        model.symbol,
        verdict.classification,
        verdict.flags,
        declines,
        history.best_idx,
        checkpoint,
        values,
        verdict.bands,
        history.peak,
        decline,
        history.largest_fall,
        history.fell_from,
        explain(
            policy,
            values,
            verdict.bands,
            verdict.flags,
            history.peak,
            decline,
            history.largest_fall,
            history.fell_from,
            reward_scale,
            model.contradictions,
        ),
        model.history,
        points,
        last_checkpoint,
        at_checkpoint,
        model.contradictions,
        model.others,
    )


def _last_of(history: Sequence[float], points: int) -> float | None:
    return history[points - 1] if points else None


def _judge_at_peak(
    model: Model, best_idx: int | None, reward_scale: float | None, policy: Policy
) -> PointAssessment | None:
    """The figures at the peak, judged as if the training had ended there; None if it did, or if they are not known."""
    if best_idx is None or model.lists is None or best_idx == len(model.history) - 1:
        return None
    values = figures_at(model.lists, model.history, best_idx, policy)
    if values is None:
        return None
    return judge_point(values, reward_scale, policy, contradicted=bool(model.contradictions))


def judge_point(
    values: tuple[float | None, ...], reward_scale: float | None, policy: Policy, *, contradicted: bool
) -> PointAssessment:
    """The figures of one validation point, judged like final ones."""
    verdict = judge(values, None, None, reward_scale, policy, contradicted=contradicted)
    return PointAssessment(verdict.classification, values, verdict.bands)


def judge(  # noqa: C901, PLR0912 - a branch a rule
    values: Sequence[float | None],
    decline: float | None,
    largest_fall: float | None,
    reward_scale: float | None,
    policy: Policy,
    *,
    contradicted: bool = False,
) -> Verdict:
    """The verdict on figures already derived; what judging a catalog again under another policy calls.

    `contradicted` figures, of which the summary says two different things, are REVIEW at best: a person looks.
    """
    gates = policy.gates
    flags: list[str] = []
    if decline is not None and decline > policy.decline + FLOAT_NOISE:
        flags.append(_DECLINE)
    if largest_fall is not None and largest_fall > policy.oscillation + FLOAT_NOISE:
        flags.append(_UNSTABLE)
    classification = _APPROVED
    bands: list[Band] = []
    for gate, value in zip(gates, values, strict=True):
        band = gate.band(value)
        bands.append(band)
        if band is _IN_DROP:
            classification = _DROP
            flags.append(gate.flag)
        elif band is _INVALID:
            classification = _DROP
        elif band is _IN_REVIEW and classification is _APPROVED:
            classification = _REVIEW
    if classification is _APPROVED and bands.count(_IGNORED) == len(bands):
        classification = _DROP  # no gate judged anything: that is no approval
        flags.append(Flag.INVALID_METRIC)
    if classification is _DROP and _INVALID in bands:
        flags.append(Flag.INVALID_METRIC)
    if math.inf in values:
        flags += infinity_flags(values, bands, gates)
    if reward_scale is not None and reward_scale != CALIBRATED_REWARD_SCALE and policy.minds_reward_scale:
        flags.append(Flag.UNCALIBRATED_REWARD_SCALE)
        if classification is _APPROVED:
            classification = _REVIEW
    if contradicted:
        flags.append(Flag.INCONSISTENT_FIGURES)
        if classification is _APPROVED:
            classification = _REVIEW
    return Verdict(classification, tuple(flags), tuple(bands))


def infinity_flags(values: Sequence[float | None], bands: Sequence[Band], gates: Sequence[Gate]) -> Sequence[str]:
    """The flags of figures that are +infinity if that means something."""
    return [
        gate.infinity_flag
        for gate, band, value in zip(gates, bands, values, strict=True)
        if gate.infinity and band is _IN_REVIEW and value == math.inf
    ]


def history_figures(history: Sequence[float], better: Better = Better.HIGHER) -> HistoryFigures:
    """Peak and largest fall of a history. Points that are not finite are skipped and keep their index."""
    # One pass in C tells whether all are finite; a sum that overflows merely takes the other branch.
    whole = math.isfinite(sum(history))
    points = history if whole else [point for point in history if math.isfinite(point)]
    if not points:
        return HistoryFigures(None, None, None, None)
    if better is _LOWER:
        peak, largest_fall, fell_from = _largest_rise(points)
    else:
        peak, largest_fall, fell_from = _largest_fall(points)
    return HistoryFigures(history.index(peak), peak, min(largest_fall, LARGEST), fell_from)


def _largest_fall(points: Sequence[float]) -> tuple[float, float, float | None]:
    """The highest point, the largest fall from a running peak, and that peak."""
    peak = points[0]
    largest_fall, fell_from = 0.0, None
    for point in points:  # a plain loop: on thirty points twice as fast as accumulate and map
        if point >= peak:
            peak = point
        elif (fall := (peak - point) / peak if peak > 0 else peak - point) > largest_fall:
            largest_fall, fell_from = fall, peak
    return peak, largest_fall, fell_from


def _largest_rise(points: Sequence[float]) -> tuple[float, float, float | None]:
    """The same if lower is better: the lowest point, the largest rise from a running low, and that low."""
    low = points[0]
    largest_rise, rose_from = 0.0, None
    for point in points:
        if point <= low:
            low = point
        elif (rise := (point - low) / low if low > 0 else point - low) > largest_rise:
            largest_rise, rose_from = rise, low
    return low, largest_rise, rose_from


def decline_from_peak(final: float | None, peak: float | None, better: Better = Better.HIGHER) -> float | None:
    """How much worse the final figure is than the peak; the final figure itself counts towards the peak."""
    if final is None or peak is None or not math.isfinite(final):
        return None
    if better is _LOWER:
        low = min(peak, final)
        return min((final - low) / low if low > 0 else final - low, LARGEST)
    return min(_fall(max(peak, final), final), LARGEST)


def _fall(peak: float, later: float) -> float:
    """The fall from a peak, relative to it if it is positive; for a peak <= 0 a ratio means nothing."""
    return (peak - later) / peak if peak > 0 else peak - later


def _checkpoints(model: Model, best_idx: int | None, points: int) -> tuple[Checkpoint | None, Checkpoint | None]:
    """At the peak and at the last of so many points: the trainer's own ids, else (index + 1) * validation_interval."""
    ids, interval = model.checkpoints, model.validation_interval
    if not points:
        return None, None
    if ids is not None:
        return None if best_idx is None else ids[best_idx], ids[points - 1]
    if interval is not None:
        return None if best_idx is None else (best_idx + 1) * interval, points * interval
    return None, None
