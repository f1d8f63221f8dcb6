"""The rule holds to the letter: a model's class is its worst band, and what can't be judged is never approved."""

import math
import sys
from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from modelwarden.gate.assessment import Assessment, Classification, Flag
from modelwarden.gate.gating import (
    QualityAssessment,
    assess_model_quality,
    assess_summary,
    history_figures,
)
from modelwarden.gate.policy import Policy
from modelwarden.gate.summary import parse_summary
from modelwarden.gate.thresholds import ModelGatingConfig
from summaries import GOOD, encoded, flat_summary

pure = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

APPROVED, REVIEW, DROP = Classification
SEEDS_STRICTER_CONFIG = ModelGatingConfig(
    approved_min_fitness=0.80, approved_min_pf=2.0, approved_min_consistency=0.90, approved_max_drawdown=0.05
)
GOOD_FIGURES = (0.9, 2.0, 0.9, 0.05)
FIELDS = ("final_fitness", "final_pf", "final_consistency", "final_max_dd")
BEST_FIRST = (APPROVED, REVIEW, DROP)
NAN, INF = math.nan, math.inf

finite = st.floats(allow_nan=False, allow_infinity=False)
plausible = st.one_of(st.floats(0, 4), st.sampled_from([0.7, 0.5, 1.8, 1.3, 0.85, 0.65, 0.08, 0.15]), finite)
figures = st.one_of(st.none(), st.floats(), plausible)
Figures = tuple[float | None, float | None, float | None, float | None]
models = st.tuples(figures, figures, figures, figures)
judgeable = st.tuples(plausible, plausible, st.floats(0, 1), st.floats(min_value=0, allow_infinity=False))
histories = st.lists(st.one_of(st.floats(), st.floats(-1, 1)), max_size=12)


class Case(NamedTuple):
    """One row of the table of cases."""

    figures: tuple[float, float, float, float]
    history: list[float] | None
    classification: str
    flags: str = ""
    use_checkpoint: bool = False
    best_idx: int | None = None
    config: ModelGatingConfig | None = None


CASES = {
    "good": Case((0.75, 1.9, 0.88, 0.06), [0.70, 0.75, 0.78, 0.75], "APPROVED", best_idx=2),
    "good by a stricter config": Case(
        (0.75, 1.9, 0.88, 0.06), [0.70, 0.75, 0.78, 0.75], "REVIEW", best_idx=2, config=SEEDS_STRICTER_CONFIG
    ),
    "exactly on the bounds of APPROVED": Case((0.70, 1.8, 0.85, 0.08), [], "APPROVED"),
    "exactly on the bounds of REVIEW": Case((0.50, 1.3, 0.65, 0.15), None, "REVIEW"),
    "fitness just below REVIEW": Case((0.49999, 3.0, 0.99, 0.01), None, "DROP", "LOW_FITNESS"),
    "high profit factor, poor consistency": Case((0.9, 5.0, 0.50, 0.02), None, "DROP", "LOW_CONSISTENCY"),
    "three metrics low": Case((0.9, 1.2, 0.4, 0.3), None, "DROP", "LOW_PF LOW_CONSISTENCY HIGH_DRAWDOWN"),
    "decline of exactly 5 %": Case((0.95, 2.0, 0.9, 0.05), [0.5, 1.0, 0.95], "APPROVED", best_idx=1),
    "decline of 6 %": Case((0.94, 2.0, 0.9, 0.05), [0.5, 1.0, 0.94], "APPROVED", "FITNESS_DECLINE", True, 1),
    "fall and recovery": Case((0.80, 2.0, 0.9, 0.05), [0.8, 0.6, 0.8], "APPROVED", "UNSTABLE_TRAINING", False, 0),
    "steep but steady rise": Case((0.90, 2.0, 0.9, 0.05), [0.1, 0.3, 0.6, 0.9], "APPROVED", best_idx=3),
    "fitness is NaN": Case((NAN, 2.0, 0.9, 0.05), None, "DROP", "INVALID_METRIC"),
    "no losing trade": Case((0.9, INF, 0.9, 0.05), None, "REVIEW", "NO_LOSSES"),
    "consistency as a percentage": Case((0.9, 2.0, 88.0, 0.05), None, "DROP", "INVALID_METRIC"),
    "drawdown as a percentage": Case((0.9, 2.0, 0.9, 8.0), None, "DROP", "INVALID_METRIC"),
    "drawdown of more than all": Case((0.9, 2.0, 0.9, 1.0000001), None, "DROP", "INVALID_METRIC"),
    "drawdown of all": Case((0.9, 2.0, 0.9, 1.0), None, "DROP", "HIGH_DRAWDOWN"),
    "negative drawdown": Case((0.9, 2.0, 0.9, -0.3), None, "DROP", "INVALID_METRIC"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_case_of_the_table_has_its_result(case: Case) -> None:
    """The table of cases in the rule, row by row."""
    classification, flags, use_checkpoint, best_idx = assess_model_quality(*case.figures, case.history, case.config)
    assert (classification, flags, use_checkpoint, best_idx) == (
        case.classification,
        case.flags.split(),
        case.use_checkpoint,
        case.best_idx,
    )


def test_assess_model_quality_called_as_in_the_training_notes_unpacks() -> None:
    """The seed's call, keyword by keyword, and its four results."""
    classification, flags, use_checkpoint, best_idx = assess_model_quality(
        final_fitness=0.75,
        final_pf=1.9,
        final_consistency=0.88,
        final_max_dd=0.06,
        fitness_history=[0.70, 0.75, 0.78, 0.75],
        config=SEEDS_STRICTER_CONFIG,
    )
    assert classification == "REVIEW"
    assert flags == []
    assert use_checkpoint is False
    assert best_idx == 2


def test_classification_and_flags_compare_equal_to_their_names() -> None:
    """Whoever compares with plain text, as scripts do, gets what they mean."""
    quality = assess_model_quality(0.9, 1.2, 0.9, 0.05)
    assert quality.classification == "DROP"
    assert "LOW_PF" in quality.flags
    assert f"{quality.classification}" == "DROP"


def test_assess_model_quality_numbers_of_other_types_are_taken() -> None:
    """Whole numbers, fractions and a numeric library's scalars are numbers."""
    quality = assess_model_quality(1, Fraction(2), Fraction(9, 10), 0, (1, Fraction(1)))  # type: ignore[arg-type]
    assert quality == QualityAssessment(APPROVED, [], False, 0)


@pytest.mark.parametrize("text", ["0.9", "good"])
def test_assess_model_quality_figure_that_is_text_raises_type_error(text: Any) -> None:
    """A figure that is not a number is the caller's mistake and is said to be one, as in a summary."""
    with pytest.raises(TypeError):
        assess_model_quality(text, 2.0, 0.9, 0.05)


@pytest.mark.parametrize(("position", "expected"), [(0, "DROP"), (1, "REVIEW"), (2, "DROP"), (3, "DROP")])
def test_whole_number_beyond_floats_counts_as_infinite(position: int, expected: str) -> None:
    """Python's whole numbers have no end; one too large for a float is judged like infinity."""
    assert assess_model_quality(*_with(position, 10**400)).classification == expected


@pytest.mark.parametrize(
    ("position", "approve", "review", "flag"),
    [
        (0, 0.70, 0.50, "LOW_FITNESS"),
        (1, 1.8, 1.3, "LOW_PF"),
        (2, 0.85, 0.65, "LOW_CONSISTENCY"),
        (3, 0.08, 0.15, "HIGH_DRAWDOWN"),
    ],
)
def test_band_value_on_the_bound_is_inside_and_the_next_float_is_not(
    position: int, approve: float, review: float, flag: str
) -> None:
    """Bounds are inclusive and compared exactly: one bit beyond is beyond."""
    worse = INF if position == 3 else -INF
    results = [
        assess_model_quality(*_with(position, value))
        for value in (approve, math.nextafter(approve, worse), review, math.nextafter(review, worse))
    ]
    assert [(each.classification, each.flags) for each in results] == [
        (APPROVED, []),
        (REVIEW, []),
        (REVIEW, []),
        (DROP, [flag]),
    ]


@pytest.mark.parametrize(
    ("position", "value"),
    [
        *((position, value) for position in range(4) for value in (None, NAN, -INF)),
        (0, INF),
        (2, INF),
        (3, INF),
        (2, 88.0),
        (2, math.nextafter(1.0, INF)),
        (2, math.nextafter(0.0, -INF)),
        (3, -0.3),
        (3, math.nextafter(0.0, -INF)),
    ],
)
def test_metric_that_cannot_be_judged_is_dropped_as_invalid(position: int, value: float | None) -> None:
    """Missing, NaN, infinite or outside the domain: the model is DROP, and no LOW flag pretends to know more."""
    quality = assess_model_quality(*_with(position, value))
    assert quality == QualityAssessment(DROP, [Flag.INVALID_METRIC], False, None)


@pytest.mark.parametrize(("position", "value"), [(2, 0.0), (2, 1.0), (3, 0.0), (3, -0.0), (1, 0.0), (0, -1.0)])
def test_metric_on_the_edge_of_its_domain_is_judged(position: int, value: float) -> None:
    """0, 1 and minus zero are figures like any other."""
    assert "INVALID_METRIC" not in assess_model_quality(*_with(position, value)).flags


def test_no_losses_beside_a_low_metric_is_dropped_with_both_flags() -> None:
    """An infinite profit factor caps at REVIEW; it lifts nothing."""
    quality = assess_model_quality(0.4, INF, 0.9, 0.05)
    assert (quality.classification, quality.flags) == (DROP, ["LOW_FITNESS", "NO_LOSSES"])


def test_no_losses_beside_an_invalid_metric_is_dropped_with_both_flags() -> None:
    """Both are said, in the order of the table of flags."""
    quality = assess_model_quality(NAN, INF, 0.9, 0.05)
    assert (quality.classification, quality.flags) == (DROP, ["INVALID_METRIC", "NO_LOSSES"])


@pytest.mark.parametrize(
    ("scale", "expected", "flags"),
    [
        (None, APPROVED, ()),
        (0.001, APPROVED, ()),
        (0.01, REVIEW, ("UNCALIBRATED_REWARD_SCALE",)),
        (1, REVIEW, ("UNCALIBRATED_REWARD_SCALE",)),
        (math.nextafter(0.001, 1), REVIEW, ("UNCALIBRATED_REWARD_SCALE",)),
        (0, REVIEW, ("UNCALIBRATED_REWARD_SCALE",)),
    ],
)
def test_reward_scale_other_than_the_calibrated_is_review_at_best(
    scale: float | None, expected: Classification, flags: tuple[str, ...]
) -> None:
    """A drawdown proxy of another scale can't be compared: a person looks."""
    assessment = judge_one(reward_scale=scale)
    assert (assessment.classification, assessment.flags) == (expected, flags)


def test_reward_scale_uncalibrated_does_not_lift_a_dropped_model() -> None:
    """The cap only lowers."""
    assessment = judge_one({**GOOD, "final_pf": 1.0}, reward_scale=0.01)
    assert (assessment.classification, assessment.flags) == (DROP, ("LOW_PF", "UNCALIBRATED_REWARD_SCALE"))


@pytest.mark.parametrize(
    ("final", "history", "flagged"),
    [
        (0.95, [1.0], False),
        (0.9499, [1.0], True),
        (0.95 - 1e-10, [1.0], False),
        (0.95 - 1e-8, [1.0], True),
        (1.5, [0.5, 1.0], False),
        (0.7, [], False),
        (0.7, [NAN, INF, -INF], False),
        (0.0, [0.0, -1.0], False),
        (-0.05, [0.0], False),
        (-0.06, [0.0], True),
        (-1.05, [-1.0], False),
        (-1.06, [-1.0], True),
        (-1.0, [-2.0], False),
        (-0.5, [10.0], True),
        (0.9, [NAN, 1.0, INF], True),
    ],
)
def test_decline_from_the_peak_is_flagged_above_the_threshold_only(
    final: float, history: list[float], flagged: bool
) -> None:
    """Relative to a positive peak, absolute else; exactly the threshold is none; the final value is no decline."""
    quality = assess_model_quality(final, 2.0, 0.9, 0.05, history)
    assert ("FITNESS_DECLINE" in quality.flags) is flagged
    assert quality.use_checkpoint is flagged


def test_decline_of_a_final_fitness_above_its_whole_history_is_zero() -> None:
    """The final value counts towards the peak: a model that ends at its best has not declined, not by minus 25 %."""
    assert judge_one({**GOOD, "final_fitness": 1.0, "fitness_history": [0.7, 0.8]}).decline == 0.0


@pytest.mark.parametrize("final", [None, NAN, INF, -INF])
def test_decline_of_a_final_fitness_that_is_no_number_is_not_flagged(final: float | None) -> None:
    """A decline can't be known; INVALID_METRIC says why."""
    quality = assess_model_quality(final, 2.0, 0.9, 0.05, [0.5, 1.0])
    assert (quality.flags, quality.use_checkpoint, quality.best_idx) == (["INVALID_METRIC"], False, 1)


@pytest.mark.parametrize(
    ("history", "flagged"),
    [
        ([1.0, 0.9], False),
        ([1.0, 0.9 - 1e-10], False),
        ([1.0, 0.9 - 1e-8], True),
        ([1.0, 0.89, 1.0], True),
        ([0.5, 1.0, 0.95, 0.91, 1.0], False),
        ([0.5, 0.4, 1.0], True),
        ([0.5, NAN, 0.4, NAN, 1.0], True),
        ([1.0, INF, 1.0, -INF, 1.0], False),
        ([0.9], False),
        ([0.0, -0.1], False),
        ([0.0, -0.11, 0.9], True),
        ([-1.0, -1.1], False),
        ([-1.0, -1.2, 0.9], True),
        ([0.9] * 40, False),
    ],
)
def test_fall_inside_the_history_is_flagged_above_the_threshold_only(history: list[float], flagged: bool) -> None:
    """From a running peak to a later low; exactly the threshold is none; points that are no numbers are skipped."""
    assert ("UNSTABLE_TRAINING" in assess_model_quality(*GOOD_FIGURES, history).flags) is flagged


def test_history_thresholds_of_the_config_are_the_ones_that_flag() -> None:
    """A team may allow more decline and more swing, or less."""
    loose = ModelGatingConfig(fitness_decline_threshold=0.5, fitness_oscillation_threshold=0.5)
    strict = ModelGatingConfig(fitness_decline_threshold=0.0, fitness_oscillation_threshold=0.0)
    history = [0.9, 1.0, 0.7, 0.99]
    assert assess_model_quality(0.8, 2.0, 0.9, 0.05, history, loose).flags == []
    assert assess_model_quality(0.99, 2.0, 0.9, 0.05, history, strict).flags == ["FITNESS_DECLINE", "UNSTABLE_TRAINING"]


@pytest.mark.parametrize(
    ("history", "best_idx"),
    [
        (None, None),
        ([], None),
        ([NAN, INF, -INF], None),
        ([0.5], 0),
        ([0.7, 0.9, 0.9, 0.8], 1),
        ([NAN, 0.5, INF, 0.9, NAN], 3),
        ([INF, NAN, -INF, 0.1], 3),
        ([-3.0, -1.0, -2.0], 1),
        ([1e308, 1.7e308, 1e308], 1),
    ],
)
def test_best_idx_is_the_earliest_peak_among_finite_points(history: list[float] | None, best_idx: int | None) -> None:
    """Points that are no numbers are skipped and keep their index: it is the validation point's number."""
    assert assess_model_quality(*GOOD_FIGURES, history).best_idx == best_idx


@pytest.mark.parametrize(
    ("model", "run", "expected"),
    [
        ({}, {}, None),
        ({}, {"validation_interval": 50}, 150),
        ({"validation_interval": 10}, {"validation_interval": 50}, 30),
        ({"validation_interval": None}, {"validation_interval": 50}, 150),
        ({"checkpoints": ["a", "b", "best.pt", "d"]}, {"validation_interval": 50}, "best.pt"),
        ({"checkpoints": [7, 8, 9, 10]}, {}, 9),
        ({"fitness_history": []}, {"validation_interval": 50}, None),
        ({"fitness_history": [None, None, 0.9, None]}, {"validation_interval": 50}, 150),
    ],
)
def test_checkpoint_of_the_peak_is_the_trainers_id_else_the_formula(
    model: dict[str, Any], run: dict[str, Any], expected: int | str | None
) -> None:
    """(best_idx + 1) * validation_interval, the model's own interval first; real ids win over the formula."""
    entry = {**GOOD, "fitness_history": [0.70, 0.75, 0.97, 0.75]} | model
    assert judge_one(entry, **run).checkpoint_update == expected


def test_checkpoint_of_the_largest_interval_stays_a_number_or_is_refused() -> None:
    """An interval that makes a checkpoint nobody can store or count is refused before it reaches a table."""
    history = [index / 2000 for index in range(1024)]
    try:
        assessment = judge_one({**GOOD, "fitness_history": history}, validation_interval=10**9)
    except ValueError:
        return
    assert isinstance(assessment.checkpoint_update, int)
    assert assessment.checkpoint_update <= 2**53


@pure
@given(models)
def test_class_of_any_figures_is_the_worst_band(model: Figures) -> None:
    """Against bands worked out from the rule's table: all must hold, one failure drops."""
    bands = [_band(position, value) for position, value in enumerate(model)]
    assert assess_model_quality(*model).classification == max(bands, key=BEST_FIRST.index)


@pure
@given(models, histories)
def test_class_of_any_figures_does_not_depend_on_the_history(model: Figures, history: list[float]) -> None:
    """FITNESS_DECLINE and UNSTABLE_TRAINING recommend and warn; they never change the class."""
    assert assess_model_quality(*model, history).classification == assess_model_quality(*model).classification


@pure
@given(judgeable, st.integers(0, 3), st.data())
def test_class_with_one_metric_improved_is_never_worse(
    model: tuple[float, float, float, float], position: int, data: st.DataObject
) -> None:
    """A better figure inside its domain can only help."""
    value = model[position]
    better = {
        0: st.floats(min_value=value, allow_infinity=False),
        1: st.floats(min_value=value, allow_infinity=False),
        2: st.floats(min_value=value, max_value=1),
        3: st.floats(min_value=0, max_value=value),
    }[position]
    improved = _with(position, data.draw(better), model)
    before, after = assess_model_quality(*model), assess_model_quality(*improved)
    assert BEST_FIRST.index(after.classification) <= BEST_FIRST.index(before.classification)


@pure
@given(
    judgeable,
    st.integers(0, 3),
    st.one_of(st.sampled_from([None, NAN, INF, -INF]), finite),
)
@example(GOOD_FIGURES, 0, INF)
@example(GOOD_FIGURES, 1, INF)
def test_model_with_a_figure_that_cannot_be_judged_is_never_approved(
    model: Figures, position: int, value: float | None
) -> None:
    """However good the other three are."""
    figure = INF if value is None else value
    outside = (position == 2 and not 0 <= figure <= 1) or (position == 3 and figure < 0)
    assume(not math.isfinite(figure) or outside)
    assert assess_model_quality(*_with(position, value, model)).classification != "APPROVED"


@pure
@given(models, histories)
def test_flags_of_any_model_stand_in_order_once(model: Figures, history: list[float]) -> None:
    """Flags are listed in the table's order without repeats; use_checkpoint is True exactly with FITNESS_DECLINE."""
    quality = assess_model_quality(*model, history)
    assert quality.flags == [flag for flag in Flag if flag in quality.flags]
    assert quality.use_checkpoint is (Flag.FITNESS_DECLINE in quality.flags)
    assert (quality.classification == DROP) is any(
        flag.startswith(("LOW_", "HIGH_", "INVALID_")) for flag in quality.flags
    )


@pure
@given(histories)
def test_history_figures_of_any_history_are_those_of_looking_at_every_pair(history: list[float]) -> None:
    """Peak and largest fall against the plain definition: every peak so far with every later point."""
    usable = [(index, point) for index, point in enumerate(history) if math.isfinite(point)]
    found = history_figures(history)
    if not usable:
        assert found == (None, None, None, None)
        return
    peak = max(point for _, point in usable)
    falls = [0.0]
    for position, (_, later) in enumerate(usable):
        running = max(point for _, point in usable[: position + 1])
        falls.append((running - later) / running if running > 0 else running - later)
    assert found.peak == peak
    assert found.best_idx == next(index for index, point in usable if point == peak)
    assert found.largest_fall == pytest.approx(min(max(falls), sys.float_info.max), rel=1e-9, abs=1e-9)


@pure
@given(st.lists(finite, min_size=1).map(sorted))
def test_history_that_never_falls_is_stable_however_steep(history: list[float]) -> None:
    """A steady rise is not unstable."""
    assert all(earlier <= later for earlier, later in pairwise(history))
    assert "UNSTABLE_TRAINING" not in assess_model_quality(*GOOD_FIGURES, history).flags


@pure
@given(st.lists(models, min_size=1, max_size=4), histories)
def test_assess_summary_judges_each_model_as_the_function_does(entries: list[Figures], history: list[float]) -> None:
    """A summary's models are judged by the same rule, in the summary's order, none by another's figures.

    But for the history: the function takes it as it is given, and a summary's is held against the final fitness.
    """
    named = {
        f"M{index}": dict(zip(FIELDS, entry, strict=True)) | {"fitness_history": history}
        for index, entry in enumerate(entries)
    }
    summary = parse_summary(encoded(flat_summary(named)))
    assessments = assess_summary(summary, Policy.from_config())
    assert [each.symbol for each in assessments] == list(named)
    for assessment, entry in zip(assessments, entries, strict=True):
        quality = assess_model_quality(*entry, history)
        flags = [flag for flag in assessment.flags if flag is not Flag.INCONSISTENT_FIGURES]
        assert flags == quality.flags
        capped = len(flags) < len(assessment.flags) and quality.classification is APPROVED
        assert assessment.classification == (REVIEW if capped else quality.classification)
        assert (assessment.use_checkpoint, assessment.best_idx) == (quality.use_checkpoint, quality.best_idx)


def judge_one(entry: Mapping[str, Any] = GOOD, **fields: Any) -> Assessment:
    """The assessment of a summary's only model."""
    summary = parse_summary(encoded(flat_summary({"ONLY": entry}, **fields)))
    (assessment,) = assess_summary(summary, Policy.from_config())
    return assessment


def _with(position: int, value: float | None, model: Figures = GOOD_FIGURES) -> Figures:
    """The model's figures with one of them replaced."""
    fitness, factor, consistency, drawdown = (
        value if each == position else figure for each, figure in enumerate(model)
    )
    return fitness, factor, consistency, drawdown


def _band(position: int, value: float | None) -> Classification:
    """The band of one metric, from the rule's table; what can't be judged counts as DROP."""
    if value is None or math.isnan(value) or value == -INF:
        return DROP
    if value == INF:
        return REVIEW if position == 1 else DROP
    if (position == 2 and not 0 <= value <= 1) or (position == 3 and value < 0):
        return DROP
    if position == 3:
        return APPROVED if value <= 0.08 else REVIEW if value <= 0.15 else DROP
    approve, review = ((0.70, 0.50), (1.8, 1.3), (0.85, 0.65))[position]
    return APPROVED if value >= approve else REVIEW if value >= review else DROP
