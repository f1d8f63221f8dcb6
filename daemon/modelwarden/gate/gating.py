"""The rule: from a model's figures and a policy to its assessment.

The rule nobody may break: a model's class is its worst band, and a figure that can't be judged is in the worst.
Flags about the history recommend and warn; they never change the class.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from operator import truediv
from typing import Final, NamedTuple

from modelwarden.gate.assessment import Assessment, Band, Checkpoint, Classification, Flag
from modelwarden.gate.policy import CALIBRATED_REWARD_SCALE, MetricGate, ModelGatingConfig, Policy
from modelwarden.gate.summary import Model, Summary

FLOAT_NOISE: Final = 1e-9
"""Allowance for rounding in the two derived figures, decline and fall, and nowhere else: 0.95 against a peak
of 1.0 is a decline of 0.050000000000000044, and exactly the threshold is not flagged."""


class QualityAssessment(NamedTuple):
    """What `assess_model_quality` returns; unpacks in this order."""

    classification: Classification
    flags: list[Flag]
    use_checkpoint: bool
    best_idx: int | None


class HistoryFigures(NamedTuple):
    """What a fitness history says whatever the policy.

    Attributes:
        best_idx: index of the earliest highest point, None without a usable point.
        peak: the highest point.
        largest_fall: from a running peak to a later low, relative to that peak (absolute where the peak is
            not positive).
    """

    best_idx: int | None
    peak: float | None
    largest_fall: float | None


class Verdict(NamedTuple):
    """Class, flags and bands: all that a policy decides about a model's figures."""

    classification: Classification
    flags: tuple[Flag, ...]
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

    Args:
        final_fitness: fitness at the last validation point.
        final_pf: profit factor there; +inf means no losing trade.
        final_consistency: a fraction 0..1.
        final_max_dd: the size of the largest drawdown, a fraction, never negative.
        fitness_history: fitness over the validation points, oldest first.
        config: thresholds; the calibrated defaults where None.

    Returns:
        (classification, flags, use_checkpoint, best_idx). Classification and flags compare equal to their names.

    Raises:
        TypeError: a figure is not a number.
    """
    figures = (final_fitness, final_pf, final_consistency, final_max_dd)
    model = Model(
        symbol="model",
        values=tuple(None if figure is None else float(figure) for figure in figures),
        history=[float(point) for point in fitness_history] if fitness_history is not None else (),
        checkpoints=None,
        validation_interval=None,
    )
    assessment = assess_model(model, Policy.from_config(config))
    return QualityAssessment(
        assessment.classification, list(assessment.flags), assessment.use_checkpoint, assessment.best_idx
    )


def assess_summary(summary: Summary, policy: Policy) -> list[Assessment]:
    """One assessment a model, in the summary's order."""
    return [assess_model(model, policy, summary.reward_scale) for model in summary.models]


def assess_model(model: Model, policy: Policy, reward_scale: float | None = None) -> Assessment:
    """The assessment of one model under a policy.

    Args:
        model: the figures; `values` in the order of the policy's gates.
        policy: the bounds.
        reward_scale: what the run's drawdown proxy was computed with; None where the summary is silent.
    """
    history = history_figures(model.history)
    decline = decline_from_peak(model.values[0], history.peak)
    verdict = judge(model.values, decline, history.largest_fall, reward_scale, policy)
    unexplained = Assessment(
        symbol=model.symbol,
        classification=verdict.classification,
        flags=verdict.flags,
        use_checkpoint=Flag.FITNESS_DECLINE in verdict.flags,
        best_idx=history.best_idx,
        checkpoint_update=_checkpoint(model, history.best_idx),
        values=model.values,
        bands=verdict.bands,
        peak=history.peak,
        decline=decline,
        largest_fall=history.largest_fall,
        reasons=(),
        history=model.history,
    )
    return unexplained._replace(reasons=tuple(explain(unexplained, policy, reward_scale)))


def judge(
    values: Sequence[float | None],
    decline: float | None,
    largest_fall: float | None,
    reward_scale: float | None,
    policy: Policy,
) -> Verdict:
    """The verdict on figures already derived; what judging a catalog again under another policy calls."""
    bands = tuple(gate.band(value) for gate, value in zip(policy.gates, values, strict=True))
    uncalibrated = reward_scale is not None and reward_scale != CALIBRATED_REWARD_SCALE
    if Band.DROP in bands or Band.INVALID in bands:
        classification = Classification.DROP
    elif Band.REVIEW in bands or uncalibrated:
        classification = Classification.REVIEW
    else:
        classification = Classification.APPROVED
    flags: list[Flag] = []
    if _exceeds(decline, policy.decline_threshold):
        flags.append(Flag.FITNESS_DECLINE)
    if _exceeds(largest_fall, policy.oscillation_threshold):
        flags.append(Flag.UNSTABLE_TRAINING)
    flags += [gate.low_flag for gate, band in zip(policy.gates, bands, strict=True) if band is Band.DROP]
    if Band.INVALID in bands:
        flags.append(Flag.INVALID_METRIC)
    if math.inf in values:
        flags += [
            gate.infinity_flag
            for gate, band, value in zip(policy.gates, bands, values, strict=True)
            if gate.infinity_flag is not None and band is Band.REVIEW and value == math.inf
        ]
    if uncalibrated:
        flags.append(Flag.UNCALIBRATED_REWARD_SCALE)
    return Verdict(classification, tuple(flags), bands)


def history_figures(history: Sequence[float]) -> HistoryFigures:
    """Peak and largest fall of a fitness history. Points that are not finite are skipped and keep their index."""
    if not history:
        return HistoryFigures(None, None, None)
    if all(map(math.isfinite, history)):
        points: Sequence[float] = history
        indices: Sequence[int] = range(len(history))
    else:
        indices = [index for index, point in enumerate(history) if math.isfinite(point)]
        points = [history[index] for index in indices]
        if not points:
            return HistoryFigures(None, None, None)
    peak = max(points)
    return HistoryFigures(indices[points.index(peak)], peak, _largest_fall(points))


def _largest_fall(points: Sequence[float]) -> float:
    if points[0] > 0:  # a running peak never sinks, so every peak is positive
        lowest_share: float = min(map(truediv, points, accumulate(points, max)))
        return max(0.0, 1.0 - lowest_share)
    return max(_fall(peak, point) for peak, point in zip(accumulate(points, max), points, strict=True))


def decline_from_peak(final: float | None, peak: float | None) -> float | None:
    """How far the final fitness lies below the peak; the final figure itself counts towards the peak."""
    if final is None or peak is None or not math.isfinite(final):
        return None
    return _fall(max(peak, final), final)


def _fall(peak: float, later: float) -> float:
    """The fall from a peak, relative to it where it is positive; for a peak <= 0 a ratio means nothing."""
    return (peak - later) / peak if peak > 0 else peak - later


def _exceeds(figure: float | None, threshold: float) -> bool:
    return figure is not None and figure > threshold + FLOAT_NOISE


def _checkpoint(model: Model, best_idx: int | None) -> Checkpoint | None:
    """The checkpoint at the peak: the trainer's own id, else (best_idx + 1) * validation_interval."""
    if best_idx is None:
        return None
    if model.checkpoints is not None:
        return model.checkpoints[best_idx]
    if model.validation_interval is not None:
        return (best_idx + 1) * model.validation_interval
    return None


def explain(assessment: Assessment, policy: Policy, reward_scale: float | None) -> Iterator[str]:
    """Sentences that name the figures which decided, with the bounds they missed."""
    for gate, band, value in zip(policy.gates, assessment.bands, assessment.values, strict=True):
        if band is not Band.APPROVED:
            yield metric_sentence(gate, band, value)
    if Flag.UNCALIBRATED_REWARD_SCALE in assessment.flags:
        yield (
            f"reward_scale is {reward_scale!r}; the bounds are calibrated for {CALIBRATED_REWARD_SCALE!r}: "
            "the drawdown can't be compared"
        )
    if Flag.FITNESS_DECLINE in assessment.flags:
        decline = _share(assessment.decline, policy.decline_threshold, assessment.peak)
        yield f"final fitness is {decline} below its peak"
    if Flag.UNSTABLE_TRAINING in assessment.flags:
        fall = _share(assessment.largest_fall, policy.oscillation_threshold, assessment.peak)
        yield f"fitness fell by {fall} in training"


def checkpoint_advice(assessment: Assessment, quote: Callable[[str], str] = str) -> str:
    """Which checkpoint to take instead of the last; the validation point's number where no id is known.

    Args:
        assessment: of a model with `use_checkpoint`.
        quote: how an id that is text (the trainer's own, so a stranger's) is shown.
    """
    checkpoint = assessment.checkpoint_update
    if checkpoint is None:
        return f"use the checkpoint of validation point {(assessment.best_idx or 0) + 1} instead of the last"
    shown = quote(checkpoint) if isinstance(checkpoint, str) else str(checkpoint)
    return f"use checkpoint {shown} instead of the last"


def metric_sentence(gate: MetricGate, band: Band, value: float | None) -> str:
    """Why a metric is not in the APPROVED band, with the bound that it missed and what that bound is."""
    comparison = metric_comparison(gate, band, value)
    if band is Band.DROP:
        return f"{comparison}, the bound of REVIEW"
    if band is Band.REVIEW and value != math.inf:
        return f"{comparison}, the bound of APPROVED"
    return comparison


def metric_comparison(gate: MetricGate, band: Band, value: float | None) -> str:
    """The figure beside the bound that put it in its band: `profit factor 1.10 < 1.30`."""
    if value is None or band is Band.INVALID:
        return f"{gate.label} {_why_invalid(gate, value)}"
    if value == math.inf:
        return f"{gate.label} is infinite (no losing trade): a person looks"
    figure, bound = tell_apart(value, gate.review if band is Band.DROP else gate.approve)
    within, beyond = gate.signs
    sign = within if band is Band.APPROVED else beyond
    return f"{gate.label} {figure} {sign} {bound}"


def _why_invalid(gate: MetricGate, value: float | None) -> str:
    if value is None:
        return "is missing"
    if math.isnan(value):
        return "is not a number (NaN)"
    if math.isinf(value):
        return "is infinite" if value > 0 else "is minus infinity"
    return f"{value:.12g} {gate.outside_hint}"


def tell_apart(value: float, bound: float) -> tuple[str, str]:
    """Both figures with as many digits as tell them apart, and at least two decimals.

    A message must never say "0.70 < 0.70" about 0.6999999. Equal figures are written alike.
    """
    for decimals in range(2, 8):
        texts = f"{value:.{decimals}f}", f"{bound:.{decimals}f}"
        if texts[0] != texts[1] and abs(value) < _LONGEST_PLAIN:
            return texts
        if value == bound:
            return texts
    return repr(value), repr(bound)


_LONGEST_PLAIN: Final = 1e6
"""From here on figures are written as Python writes them; a fitness of 1e300 has no use for decimals."""


def _share(figure: float | None, threshold: float, peak: float | None) -> str:
    """A decline or a fall as a share of the peak, or as a difference where the peak is not positive."""
    if peak is not None and peak > 0:
        share, bound = tell_apart((figure or 0.0) * 100, threshold * 100)
        return f"{share} % (more than {bound} %)"
    difference, bound = tell_apart(figure or 0.0, threshold)
    return f"{difference} (more than {bound})"
