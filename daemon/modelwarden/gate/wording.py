"""How a judgement is put in words: the figure, the bound it missed, the checkpoint to take instead.

The rule: a sentence never shows a figure and its bound alike unless they are, and a bound is shown with all its digits.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Final, NamedTuple

from modelwarden.gate.assessment import NOT_KEPT, Assessment, Band, Checkpoint, Classification, Flag, PointAssessment
from modelwarden.gate.deployment import advises_checkpoint, peaks_at_last
from modelwarden.gate.gates import Better, Gate
from modelwarden.gate.policy import CALIBRATED_REWARD_SCALE, Policy

_LONGEST_PLAIN: Final = 1e6
"""From here on figures are written as Python writes them; a fitness of 1e300 has no use for decimals."""

_MOST_DECIMALS: Final = 7
"""More decimals than this are no easier to read than all digits."""


# Bound once: looked up thousands of times a batch.
_IN_APPROVED, _IGNORED = Band.APPROVED, Band.IGNORED
_UNCALIBRATED, _DECLINE, _UNSTABLE = Flag.UNCALIBRATED_REWARD_SCALE, Flag.FITNESS_DECLINE, Flag.UNSTABLE_TRAINING
_HIGHER = Better.HIGHER


def explain(
    policy: Policy,
    values: Sequence[float | None],
    bands: Sequence[Band],
    flags: Sequence[str],
    peak: float | None,
    decline: float | None,
    largest_fall: float | None,
    fell_from: float | None,
    reward_scale: float | None,
    contradictions: Sequence[str] = (),
) -> tuple[str, ...]:
    """Sentences that name the figures which decided, with the bounds they missed. Fields as in `Assessment`."""
    reasons: list[str] = []
    for phrases, band, value in zip(_phrases(policy), bands, values, strict=True):
        if band is not _IN_APPROVED and band is not _IGNORED:
            phrase = phrases[band]
            if value is not None and phrase.low < value <= phrase.high:  # nearly always
                reasons.append(phrase.form % value)
            else:
                reasons.append(_sentence(phrase, value))
    if not flags:
        return tuple(reasons)
    if bands.count(_IGNORED) == len(bands):
        reasons.append("there is no figure that a gate judges: every metric may be missing, and all are")
    if _UNCALIBRATED in flags:
        reasons.append(
            f"reward_scale is {reward_scale!r}; the bounds are calibrated for {CALIBRATED_REWARD_SCALE!r}: "
            "the drawdown can't be compared"
        )
    if _DECLINE in flags:
        share = _share(decline, policy.decline, peak)
        peak_is = "below its peak" if policy.history_better is _HIGHER else "above its lowest"
        reasons.append(f"final {policy.history_label} is {share} {peak_is}")
    if _UNSTABLE in flags:
        share = _share(largest_fall, policy.oscillation, fell_from)
        went = "fell" if policy.history_better is _HIGHER else "rose"
        reasons.append(f"{policy.history_label} {went} by {share} in training")
    reasons += [f"figures contradict each other: {each}" for each in contradictions]
    return tuple(reasons)


def metric_comparisons(
    judged: Assessment | PointAssessment, policy: Policy, bands: Sequence[Band] = tuple(Band)
) -> list[str]:
    """Each figure in one of these bands beside the bound that put it there: `profit factor 1.10 < 1.30`."""
    if isinstance(judged, Assessment):
        policy = policy.for_symbol(judged.symbol)
    return [
        _comparison(phrases[band], value)
        for phrases, band, value in zip(_phrases(policy), judged.bands, judged.values, strict=True)
        if band in bands
    ]


class CheckpointAdvice(NamedTuple):
    """What is said about the checkpoint at the peak.

    Attributes:
        use: what to do, for bold; "" if nothing is advised.
        note: what is known of that checkpoint, for plain; "" if there is nothing to say.
    """

    use: str
    note: str

    def __str__(self) -> str:
        return "; ".join(filter(None, self))


_NO_ADVICE: Final = CheckpointAdvice("", "")


def checkpoint_advice(assessment: Assessment, policy: Policy, quote: Callable[[str], str] = str) -> CheckpointAdvice:
    """Which checkpoint to take instead of the last, and what is known of it; nothing without FITNESS_DECLINE.

    Whether there is anything to take is `advises_checkpoint`'s to say: a point that would not be APPROVED is told of,
    and never advised.

    Args:
        assessment: of the model.
        policy: what judged it.
        quote: how an id that is text (the trainer's own, so a stranger's) is shown.
    """
    if not assessment.use_checkpoint:
        return _NO_ADVICE
    if not advises_checkpoint(assessment):
        return CheckpointAdvice("", peak_note(assessment, policy, quote))
    checkpoint = assessment.checkpoint_update
    if checkpoint is None:
        use = f"use the checkpoint of validation point {(assessment.best_idx or 0) + 1} instead of the last"
    else:
        use = f"use checkpoint {_quoted(checkpoint, quote)} instead of the last"
    return CheckpointAdvice(use, _figures_there(assessment, policy.for_symbol(assessment.symbol)))


def peak_note(assessment: Assessment, policy: Policy, quote: Callable[[str], str] = str) -> str:
    """Where a model with FITNESS_DECLINE peaked and what its figures were there, without any advice; else ""."""
    if not assessment.use_checkpoint:
        return ""
    checkpoint = assessment.checkpoint_update
    at = f"validation point {(assessment.best_idx or 0) + 1}"
    if checkpoint == NOT_KEPT:
        at += ", of which no checkpoint is kept"
    elif checkpoint is not None:
        at = _quoted(checkpoint, quote)
    if peaks_at_last(assessment):
        return f"peaked at {at}, its last checkpoint: there is no earlier one to use"
    return f"peaked at {at}; {_figures_there(assessment, policy.for_symbol(assessment.symbol))}"


def _figures_there(assessment: Assessment, policy: Policy) -> str:
    there = assessment.at_checkpoint
    if there is None:
        return "its other figures there are not known"
    missed = metric_comparisons(there, policy, _MISSED[there.classification])
    return f"its figures there: {there.classification}" + (f" ({', '.join(missed)})" if missed else "")


_MISSED: Final[Mapping[Classification, Sequence[Band]]] = {
    Classification.APPROVED: (),
    Classification.REVIEW: (Band.REVIEW,),
    Classification.DROP: (Band.DROP, Band.INVALID),
}
"""The bands whose figures kept a class from a better one."""


def _quoted(checkpoint: Checkpoint, quote: Callable[[str], str]) -> str:
    return quote(checkpoint) if isinstance(checkpoint, str) else str(checkpoint)


def tell_apart(value: float, bound: float) -> tuple[str, str]:
    """Both figures with as many digits as tell them apart, and no fewer than the bound has, or two.

    A message must never say "0.70 < 0.70" about 0.6999999. Equal figures are written alike.
    """
    value, bound = value + 0.0, bound + 0.0  # minus zero, as -min(falls) gives, is zero
    if abs(value) < _LONGEST_PLAIN:
        fewest = _decimals(bound)
        for decimals in range(fewest, max(fewest, _MOST_DECIMALS) + 1):
            figure, limit = f"{value:.{decimals}f}", f"{bound:.{decimals}f}"
            if value == bound or float(figure) != float(limit):
                return figure, limit
    return repr(value), repr(bound)


class _Phrase(NamedTuple):
    """What is always said of a metric in a band, written once a policy.

    Attributes:
        gate: of the metric.
        sign: how the figure compares to the bound; "" if it can't be judged.
        bound: that it is held against.
        ending: what that bound is.
        form: the whole sentence, with a place for the figure.
        low: figures above this one, and up to
        high: this one, are told from the bound by the digits that `form` has.
    """

    gate: Gate
    sign: str
    bound: float
    ending: str
    form: str
    low: float
    high: float


@lru_cache(maxsize=16)
def _phrases(policy: Policy) -> tuple[dict[Band, _Phrase], ...]:
    return tuple(
        {
            Band.APPROVED: _phrase(gate, gate.signs[0], gate.approve, ""),
            Band.REVIEW: _phrase(gate, gate.signs[1], gate.approve, ", the bound of APPROVED"),
            Band.DROP: _phrase(gate, gate.signs[1], gate.review, ", the bound of REVIEW"),
            Band.INVALID: _phrase(gate, "", math.nan, ""),
            Band.IGNORED: _phrase(gate, "", math.nan, ""),
        }
        for gate in policy.gates
    )


def _phrase(gate: Gate, sign: str, bound: float, ending: str) -> _Phrase:
    decimals = _decimals(bound)
    places = f".{decimals}f"
    label = gate.label.replace("%", "%%")
    unit = 10.0**-decimals
    low, high = (0.0, bound - unit) if sign.startswith("<") else (max(0.0, bound + unit), _LONGEST_PLAIN - 1)
    if not sign or abs(bound) >= _LONGEST_PLAIN:
        low, high = math.inf, -math.inf
    return _Phrase(gate, sign, bound, ending, f"{label} %{places} {sign} {bound:{places}}{ending}", low, high)


def _sentence(phrase: _Phrase, value: float | None) -> str:
    """Why a metric is not in the APPROVED band, with the bound that it missed and what that bound is."""
    said = _comparison(phrase, value)
    if value is None and phrase.sign:  # a metric that a model may lack, if a person looks
        return f"{said}: a person looks"
    return said if value == math.inf else said + phrase.ending


def _comparison(phrase: _Phrase, value: float | None) -> str:
    gate = phrase.gate
    if value is None or not phrase.sign:
        return f"{gate.label} {_why_invalid(gate, value)}"
    if value == math.inf:
        return f"{gate.label} is infinite{gate.infinity_means}: a person looks"
    figure, bound = tell_apart(value, phrase.bound)
    return f"{gate.label} {figure} {phrase.sign} {bound}"


def _why_invalid(gate: Gate, value: float | None) -> str:
    if value is None:
        return "is missing"
    if math.isnan(value):
        return "is not a number (NaN)"
    if math.isinf(value):
        return "is infinite" if value > 0 else "is minus infinity"
    short = f"{value:.12g}"  # 88, not 88.0; but never a figure that lies inside
    return f"{short if float(short) == value else repr(value)} {gate.hint_outside(value)}"


def _share(figure: float | None, threshold: float, peak: float | None) -> str:
    """A decline or a fall as a share of the peak, or as a difference if the peak is not positive."""
    figure = figure or 0.0
    if peak is not None and peak > 0:
        least, form = _share_form(threshold)
        if least <= (percent := figure * 100) < _LONGEST_PLAIN:  # nearly always
            return form % percent
        share, bound = tell_apart(figure * 100, round(threshold * 100, 6))
        return f"{share} % (more than {bound} %)"
    difference, bound = tell_apart(figure, threshold)
    return f"{difference} (more than {bound})"


@lru_cache(maxsize=64)
def _share_form(threshold: float) -> tuple[float, str]:
    """From which percentage on the digits of the bound tell the two apart, and the words for those."""
    bound = round(threshold * 100, 6)
    decimals = _decimals(bound)
    return bound + 10.0**-decimals, f"%.{decimals}f %% (more than {bound:.{decimals}f} %%)"


@lru_cache(maxsize=256)
def _decimals(bound: float) -> int:
    exponent = Decimal(repr(bound)).as_tuple().exponent
    return max(2, -exponent) if isinstance(exponent, int) else 2
