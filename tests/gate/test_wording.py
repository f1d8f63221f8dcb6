"""A sentence shows the figure and the bound it missed with digits that tell them apart, and says what to do."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from modelwarden.gate.assessment import Assessment, Band
from modelwarden.gate.gating import assess_summary
from modelwarden.gate.policy import Policy
from modelwarden.gate.summary import parse_summary
from modelwarden.gate.thresholds import ModelGatingConfig
from modelwarden.gate.wording import checkpoint_advice, metric_comparisons, tell_apart
from summaries import BAD, GOOD, MIDDLING, encoded, flat_summary

pure = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

NAN, INF = math.nan, math.inf
POLICY = Policy.from_config()

finite = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("run", "model", "advice"),
    [
        ({"validation_interval": 50}, {}, "use checkpoint 150 instead of the last"),
        ({}, {"checkpoints": ["a", "b", "best", "d"]}, "use checkpoint <best> instead of the last"),
        ({}, {}, "use the checkpoint of validation point 3 instead of the last"),
    ],
)
def test_checkpoint_advice_names_what_is_known(run: dict[str, Any], model: dict[str, Any], advice: str) -> None:
    """A number, the trainer's own id (quoted, for it is a stranger's text), else the validation point."""
    entry = {**GOOD, "final_fitness": 0.8, "fitness_history": [0.70, 0.75, 0.97, 0.80]} | model
    assessment = judge_one(entry, **run)
    assert assessment.use_checkpoint
    assert checkpoint_advice(assessment, POLICY, quote="<{}>".format) == (
        advice,
        "its other figures there are not known",
    )


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"final_pf": 1.1}, "profit factor 1.10 < 1.30, the bound of REVIEW"),
        ({"final_pf": 1.5}, "profit factor 1.50 < 1.80, the bound of APPROVED"),
        ({"final_max_dd": 0.2}, "max drawdown 0.20 > 0.15, the bound of REVIEW"),
        ({"final_fitness": 0.6999999}, "fitness 0.6999999 < 0.7000000, the bound of APPROVED"),
        ({"final_consistency": None}, "consistency is missing"),
        ({"final_consistency": NAN}, "consistency is not a number (NaN)"),
        ({"final_fitness": INF}, "fitness is infinite"),
        ({"final_fitness": -INF}, "fitness is minus infinity"),
        ({"final_consistency": 88}, "consistency 88 is outside 0..1: is it a percentage?"),
        ({"final_max_dd": 8}, "max drawdown 8 is outside 0..1: is it a percentage?"),
        ({"final_max_dd": 5.0}, "max drawdown 5 is outside 0..1: is it a percentage?"),
        ({"final_max_dd": 1.0000001}, "max drawdown 1.0000001 is outside 0..1: is it a percentage?"),
        ({"final_max_dd": -0.3}, "max drawdown -0.3 is negative: give the size of the fall"),
        ({"final_pf": INF}, "profit factor is infinite (no losing trade): a person looks"),
    ],
)
def test_reason_names_the_figure_and_the_bound_that_it_missed(entry: dict[str, Any], sentence: str) -> None:
    """A person reads why, with figures that show it."""
    assert judge_one(GOOD | entry).reasons == (sentence,)


def test_reason_of_an_approved_model_there_is_none() -> None:
    """Nothing was missed, nothing is explained."""
    assert judge_one().reasons == ()


def test_reason_of_history_flags_names_share_and_threshold() -> None:
    """Decline and fall are given as shares of the peak, beside what is allowed."""
    decline, fall = judge_one({**GOOD, "final_fitness": 0.9, "fitness_history": [0.5, 1.0, 0.8, 0.9]}).reasons
    assert "10.00 %" in decline
    assert "5.00 %" in decline
    assert "20.00 %" in fall
    assert "10.00 %" in fall


def test_reason_of_a_reward_scale_names_both_scales() -> None:
    """What was found and what the bounds are calibrated for."""
    (reason,) = judge_one(reward_scale=0.01).reasons
    assert "reward_scale is 0.01" in reason
    assert "calibrated for 0.001" in reason


def test_reason_of_a_figure_just_outside_its_domain_shows_it() -> None:
    """Float noise makes a mean of ones 1.0000000000000002; the message must not say that 1 is outside 0..1."""
    (reason,) = judge_one({**GOOD, "final_consistency": 1.0000000000000002}).reasons
    assert "1.0000000000000002 is outside 0..1" in reason


def test_reason_of_a_fall_from_a_negative_peak_is_a_difference() -> None:
    """A ratio to a negative peak means nothing: from -1 to -3 is a fall of 2, not of 200 %."""
    (reason,) = judge_one({**GOOD, "fitness_history": [-1.0, -3.0, 0.91]}).reasons
    assert "%" not in reason
    assert "2.00 (more than 0.10)" in reason


@pytest.mark.parametrize(
    ("value", "bound", "texts"),
    [
        (0.5, 0.7, ("0.50", "0.70")),
        (0.70, 0.70, ("0.70", "0.70")),
        (0.6999, 0.70, ("0.6999", "0.7000")),
        (0.6999999, 0.70, ("0.6999999", "0.7000000")),
        (math.nextafter(0.7, 0), 0.7, ("0.6999999999999998", "0.7")),
        (1e300, 1.8, ("1e+300", "1.8")),
        (-0.25, 0.5, ("-0.25", "0.50")),
    ],
)
def test_tell_apart_prints_as_many_digits_as_it_takes(value: float, bound: float, texts: tuple[str, str]) -> None:
    """Two decimals where they do; more where they are needed; never "0.70 < 0.70"."""
    assert tell_apart(value, bound) == texts


@pure
@given(finite, finite)
@example(0.7, math.nextafter(0.7, 1))
@example(1e6, 1e6 + 1e-9)
@example(5e-324, 0.0)
@example(-0.001, 0.0)
def test_tell_apart_different_figures_are_printed_differently_and_in_order(value: float, bound: float) -> None:
    """Whatever the figures, the text shows which is larger; equal figures are written alike."""
    text, limit = tell_apart(value, bound)
    assert (float(text) == float(limit)) is (value == bound)
    assert (text == limit) is (value == bound)
    assert (float(text) < float(limit)) is (value < bound)
    assert (float(text) > float(limit)) is (value > bound)


@pure
@given(st.floats(0, 1e9), st.floats(0.0001, 1e9))
def test_tell_apart_sizes_beside_a_positive_bound_keeps_their_order(value: float, bound: float) -> None:
    """The usual case, never printed alike: what lies below the bound reads as below, what lies above as above."""
    text, limit = tell_apart(value, bound)
    assert (text == limit) is (value == bound)
    assert (float(text) < float(limit)) is (value < bound)
    assert (float(text) > float(limit)) is (value > bound)


@pure
@given(finite, st.floats(0, 100).map(lambda bound: round(bound, 4)))
def test_tell_apart_beside_any_usual_bound_is_short(value: float, bound: float) -> None:
    """A message has room for a figure, not for three hundred digits."""
    assert max(map(len, tell_apart(value, bound))) <= 25


def test_metric_comparisons_minus_zero_is_printed_as_zero() -> None:
    """Minus zero is zero: a drawdown is never shown as negative and approved at once."""
    assert metric_comparisons(judge_one({**GOOD, "final_max_dd": -0.0}), POLICY)[3] == "max drawdown 0.00 <= 0.08"


def test_metric_comparisons_of_an_approved_model_show_all_four() -> None:
    """What passed is shown beside what it passed."""
    assert metric_comparisons(judge_one(), POLICY) == [
        "fitness 0.91 >= 0.70",
        "profit factor 2.40 >= 1.80",
        "consistency 0.90 >= 0.85",
        "max drawdown 0.04 <= 0.08",
    ]


def test_metric_comparisons_of_some_bands_leave_the_others_out() -> None:
    """A message names the figures that decided and no others."""
    mixed = judge_one({**GOOD, "final_pf": 1.5, "final_max_dd": 0.3})
    assert metric_comparisons(mixed, POLICY, (Band.REVIEW,)) == ["profit factor 1.50 < 1.80"]
    assert metric_comparisons(mixed, POLICY, (Band.DROP, Band.INVALID)) == ["max drawdown 0.30 > 0.15"]


def test_metric_comparisons_of_a_bound_with_many_digits_show_them_all() -> None:
    """A bound is never rounded: 0.725 is not 0.73."""
    config = ModelGatingConfig(approved_min_fitness=0.725, review_max_drawdown=0.1234)
    assert metric_comparisons(judge_one(MIDDLING, config), Policy.from_config(config))[0] == "fitness 0.600 < 0.725"
    assert metric_comparisons(judge_one(BAD, config), Policy.from_config(config))[3] == "max drawdown 0.3000 > 0.1234"


@pure
@given(st.lists(st.one_of(st.none(), st.floats()), min_size=4, max_size=4))
def test_reasons_of_any_model_name_each_metric_that_is_not_approved_once(values: list[float | None]) -> None:
    """No metric is passed over and none is explained twice, whatever the figures."""
    names = ("final_fitness", "final_pf", "final_consistency", "final_max_dd")
    labels = ("fitness", "profit factor", "consistency", "max drawdown")
    assessment = judge_one(dict(zip(names, values, strict=True)))
    missed = [label for label, band in zip(labels, assessment.bands, strict=True) if band is not Band.APPROVED]
    assert len(assessment.reasons) == len(missed)
    assert all(reason.startswith(label) for reason, label in zip(assessment.reasons, missed, strict=True))


def judge_one(entry: Mapping[str, Any] = GOOD, config: ModelGatingConfig | None = None, **fields: Any) -> Assessment:
    """The assessment of a summary's only model."""
    summary = parse_summary(encoded(flat_summary({"ONLY": entry}, **fields)))
    (assessment,) = assess_summary(summary, Policy.from_config(config))
    return assessment
