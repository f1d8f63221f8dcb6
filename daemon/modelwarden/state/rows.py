"""How an assessment stands in a row of the catalog, and the way back.

The rule: a row keeps what no figure and no bound says; bands, the gates' flags and the sentences follow from the run's
policy, and are made again from it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from modelwarden.gate.assessment import CLASSIFICATIONS, Assessment, Band, Flag, finite_or_none
from modelwarden.gate.gating import infinity_flags, judge_point
from modelwarden.gate.policy import Policy
from modelwarden.gate.wording import explain
from modelwarden.state.packing import packed_figures, unpacked_figures

_BIT: Final[Mapping[str, int]] = {flag: 1 << position for position, flag in enumerate(Flag)}
CONTRADICTED: Final = _BIT[Flag.INCONSISTENT_FIGURES]
"""The bit of a model of which the summary says two different things."""

_BEFORE_GATES: Final = (Flag.FITNESS_DECLINE, Flag.UNSTABLE_TRAINING)
_LAST: Final = (Flag.UNCALIBRATED_REWARD_SCALE, Flag.INCONSISTENT_FIGURES)
_OF_NO_GATE: Final = (*_BEFORE_GATES, Flag.INVALID_METRIC, *_LAST)
"""What no figure and no bound says: the others follow from these."""

CODE_OF: Final = {classification: code for code, classification in enumerate(CLASSIFICATIONS)}
MODEL_COLUMNS: Final = (
    "symbol, classification, flags, best_idx, checkpoint_update, peak, decline, largest_fall, fell_from, "
    "points, last_checkpoint, at_checkpoint, contradictions, figures, others"
)
ModelRow = tuple[str | int | float | bytes | None, ...]
"""A model's row without its run: position, class, flags as bits, the figures packed."""


def model_rows(assessments: Sequence[Assessment]) -> list[ModelRow]:
    """What the catalog keeps of a run's models: plain values, so that another process may make them."""
    return [
        (
            position,
            model.symbol,
            CODE_OF[model.classification],
            sum([_BIT.get(flag, 0) for flag in model.flags]),
            model.best_idx,
            model.checkpoint_update,
            model.peak,
            model.decline,
            model.largest_fall,
            model.fell_from,
            model.points,
            model.last_checkpoint,
            None if model.at_checkpoint is None else packed_figures(model.at_checkpoint.values),
            json.dumps(model.contradictions) if model.contradictions else None,
            packed_figures(model.values),
            json.dumps({name: finite_or_none(value) for name, value in model.others.items()}) if model.others else None,
        )
        for position, model in enumerate(assessments)
    ]


def assessment_of(row: Sequence[Any], policy: Policy, reward_scale: float | None) -> Assessment:
    """The assessment in a row of MODEL_COLUMNS, under the policy of its run; the history stays in the summary."""
    symbol, code, bits, best_idx, checkpoint, peak, decline, fall, fell_from, *rest = row
    points, last_checkpoint, packed_there, contradictory, packed, others = rest
    policy = policy.for_symbol(symbol)
    contradictions = tuple(json.loads(contradictory)) if contradictory is not None else ()
    values = unpacked_figures(packed)
    bands = tuple(gate.band(value) for gate, value in zip(policy.gates, values, strict=True))
    flags = _flags(bits, values, bands, policy)
    return Assessment(
        symbol=symbol,
        classification=CLASSIFICATIONS[code],
        flags=flags,
        use_checkpoint=Flag.FITNESS_DECLINE in flags,
        best_idx=best_idx,
        checkpoint_update=checkpoint,
        values=values,
        bands=bands,
        peak=peak,
        decline=decline,
        largest_fall=fall,
        fell_from=fell_from,
        reasons=explain(policy, values, bands, flags, peak, decline, fall, fell_from, reward_scale, contradictions),
        history=(),
        points=points,
        last_checkpoint=last_checkpoint,
        at_checkpoint=None
        if packed_there is None
        else judge_point(unpacked_figures(packed_there), reward_scale, policy, contradicted=bool(contradictions)),
        contradictions=contradictions,
        others={}
        if others is None
        else {name: math.nan if value is None else value for name, value in json.loads(others).items()},
    )


def _flags(bits: int, values: Sequence[float | None], bands: Sequence[Band], policy: Policy) -> tuple[str, ...]:
    """The flags in their order: those of the gates follow from the bands, the others are kept as bits."""
    kept = [flag for flag in _OF_NO_GATE if bits & _BIT[flag]]
    of_gates = [gate.flag for gate, band in zip(policy.gates, bands, strict=True) if band is Band.DROP]
    infinite = infinity_flags(values, bands, policy.gates) if math.inf in values else []
    before = [flag for flag in kept if flag in _BEFORE_GATES]
    invalid = [flag for flag in kept if flag is Flag.INVALID_METRIC]
    return (*before, *of_gates, *invalid, *infinite, *[flag for flag in kept if flag in _LAST])
