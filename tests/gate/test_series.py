"""What a summary says of a model twice, and differently, is told with both places and both values; nothing else is."""

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from modelwarden.gate.assessment import Assessment, Band, Classification, Flag, PointAssessment
from modelwarden.gate.gating import assess_model_quality, assess_summary
from modelwarden.gate.policy import Policy
from modelwarden.gate.summary import parse_summary
from summaries import BAD, GOOD, MIDDLING, encoded, flat_summary, series_summary

NAN, INF = math.nan, math.inf
APPROVED, REVIEW, DROP = Classification
POLICY = Policy.from_config()
LISTS = {
    "fitness_score": [0.5, 0.98, 0.91],
    "profit_factor": [1.1, 1.9, 2.4],
    "consistency": [0.6, 0.8, 0.9],
    "max_drawdown": [0.2, 0.1, 0.04],
}
"""What ends at the figures of GOOD."""

Point = tuple[float, float, float, float]
points = st.lists(
    st.tuples(*[st.floats() | st.floats(0, 3) | st.sampled_from([0.7, 0.5, 1.8, 0.9, 0.05, 0.1])] * 4),
    min_size=1,
    max_size=7,
)


def judged(entry: dict[str, Any], **run: Any) -> Assessment:
    """The assessment of a summary's only model."""
    (assessment,) = assess_summary(parse_summary(encoded(flat_summary({"A": entry}, **run))), POLICY)
    return assessment


def judged_series(course: list[Point], **run: Any) -> Assessment:
    """The same of a model in the layout of lists."""
    (assessment,) = assess_summary(parse_summary(encoded(series_summary({"A": course}, **run))), POLICY)
    return assessment


CONTRADICTIONS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a history that ends elsewhere": (
        {**GOOD, "fitness_history": [0.5, 0.93]},
        ["final_fitness is 0.91, but fitness_history ends at 0.93"],
    ),
    "a history that ends in NaN": (
        {**GOOD, "fitness_history": [0.5, NAN]},
        ["final_fitness is 0.91, but fitness_history ends at NaN"],
    ),
    "a figure that is NaN beside a history that ends well": (
        {**GOOD, "final_fitness": NAN, "fitness_history": [0.5, 0.91]},
        ["final_fitness is NaN, but fitness_history ends at 0.91"],
    ),
    "a whole number beyond floats": (
        {**GOOD, "fitness_history": [0.5, 10**400]},
        ["final_fitness is 0.91, but fitness_history ends at inf"],
    ),
    "a figure beside a list": (
        {**GOOD, "final_pf": 2.5, "metrics": LISTS},
        ["final_pf is 2.5, but metrics.profit_factor ends at 2.4"],
    ),
    "every figure beside its list": (
        {**BAD, "validation_metrics": LISTS},
        [
            "final_fitness is 0.2, but validation_metrics.fitness_score ends at 0.91",
            "final_pf is 0.8, but validation_metrics.profit_factor ends at 2.4",
            "final_consistency is 0.4, but validation_metrics.consistency ends at 0.9",
            "final_max_dd is 0.3, but validation_metrics.max_drawdown ends at 0.04",
        ],
    ),
    "a figure beside a history and a list": (
        {**GOOD, "fitness_history": [0.6, 0.98, 0.92], "metrics": LISTS},
        [
            "final_fitness is 0.91, but fitness_history ends at 0.92",
            "fitness_history ends at 0.92, but metrics.fitness_score ends at 0.91",
        ],
    ),
    "lists of different lengths": (
        {"metrics": {**LISTS, "profit_factor": [1.9, 2.4], "consistency": [0.9]}},
        [
            "metrics.fitness_score has 3 points, but metrics.profit_factor has 2",
            "metrics.fitness_score has 3 points, but metrics.consistency has 1",
        ],
    ),
    "one point beside three": (
        {"metrics": {**LISTS, "fitness_score": [0.91]}},
        [
            f"metrics.fitness_score has 1 point, but metrics.{name} has 3"
            for name in ("profit_factor", "consistency", "max_drawdown")
        ],
    ),
    "an empty list": (
        {"metrics": {**LISTS, "max_drawdown": []}},
        ["metrics.fitness_score has 3 points, but metrics.max_drawdown has 0"],
    ),
    "lists of different lengths beside figures": (
        {**GOOD, "metrics": {**LISTS, "profit_factor": [2.4]}},
        ["metrics.fitness_score has 3 points, but metrics.profit_factor has 1"],
    ),
    "a history beside the lists that ends elsewhere": (
        {"metrics": LISTS, "fitness_history": [0.5, 0.98, 0.99]},
        ["fitness_history ends at 0.99, but metrics.fitness_score ends at 0.91"],
    ),
    "a history beside the lists that is longer": (
        {"metrics": LISTS, "fitness_history": [0.4, 0.5, 0.98, 0.91]},
        ["metrics.fitness_score has 3 points, but fitness_history has 4"],
    ),
}


@pytest.mark.parametrize(("entry", "said"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradiction_is_told_with_both_places_and_both_values(entry: dict[str, Any], said: list[str]) -> None:
    """Whoever reads it knows where to look in the file, and what stands there."""
    model = judged(entry)
    assert list(model.contradictions) == said
    assert Flag.INCONSISTENT_FIGURES in model.flags
    assert model.classification is not APPROVED
    assert list(model.reasons[-len(said) :]) == [f"figures contradict each other: {each}" for each in said]


CONSISTENT: dict[str, dict[str, Any]] = {
    "figures alone": GOOD,
    "a history that ends at the final fitness": {**GOOD, "fitness_history": [0.5, 0.91]},
    "whole numbers": {**GOOD, "final_fitness": 1, "fitness_history": [0, 1]},
    "single precision": {**GOOD, "fitness_history": [0.5, 0.9100000262260437]},
    "seven printed digits": {**GOOD, "final_fitness": 0.9123457, "fitness_history": [0.91234567]},
    "a history that ends before its last point": {**GOOD, "fitness_history": [0.5, None]},
    "an empty history": {**GOOD, "fitness_history": []},
    "figures beside lists that end at them": {**GOOD, "metrics": LISTS},
    "figures beside a history and lists": {**GOOD, "fitness_history": LISTS["fitness_score"], "metrics": LISTS},
    "figures beside some of the lists": {**GOOD, "metrics": {"profit_factor": [2.0, 2.4]}},
    "figures beside other names": {**GOOD, "metrics": {"loss": [0.5, 0.4, 0.3], "fitness": 0.2}},
    "figures beside lists that are none": {**GOOD, "metrics": {"profit_factor": ["1", "2"], "consistency": [True]}},
    "lists": {"metrics": LISTS},
    "lists beside the same history": {"metrics": LISTS, "fitness_history": LISTS["fitness_score"]},
    "lists beside what is no history": {"metrics": LISTS, "fitness_history": "none"},
    "lists beside names that nobody judges": {"metrics": {**LISTS, "loss": [0.5]}},
    "training beside validation": {
        "metrics": {name: [9.0] for name in LISTS},
        "validation_metrics": LISTS,
    },
    "figures beside validation, and other training": {
        **GOOD,
        "metrics": {name: [9.0] for name in LISTS},
        "validation_metrics": LISTS,
    },
}


@pytest.mark.parametrize("entry", CONSISTENT.values(), ids=CONSISTENT)
def test_model_that_does_not_contradict_itself_is_not_flagged(entry: dict[str, Any]) -> None:
    """Rounding is no contradiction, nor is what is missing, unknown, or said of something else."""
    model = judged(entry)
    assert (model.classification, model.contradictions) == (APPROVED, ())
    assert Flag.INCONSISTENT_FIGURES not in model.flags


@pytest.mark.parametrize(("entry", "expected"), [(GOOD, REVIEW), (MIDDLING, REVIEW), (BAD, DROP)])
def test_inconsistent_figures_cap_at_review(entry: dict[str, Any], expected: Classification) -> None:
    """A person looks at what would have passed; what would have been dropped still is."""
    assert judged({**entry, "fitness_history": [0.99]}).classification is expected


def test_inconsistent_figures_stand_last_among_the_flags() -> None:
    """The bits of catalogs that are there keep their meaning."""
    assert tuple(Flag)[-1] is Flag.INCONSISTENT_FIGURES
    assert tuple(Flag).index(Flag.UNCALIBRATED_REWARD_SCALE) == 8


def test_figures_given_from_python_are_taken_as_they_are() -> None:
    """The function of the training notes has no file in which two places could disagree."""
    assert assess_model_quality(0.91, 2.4, 0.9, 0.04, [0.5, 0.93]).flags == []
    assert assess_model_quality(0.91, 2.4, 0.9, 0.04, []).flags == []


@pytest.mark.parametrize("history", [[], [None], [NAN, None, INF]])
def test_model_without_a_usable_history_is_remarked_and_judged(history: list[Any]) -> None:
    """Whether it was better before is not known: listed, and nothing else."""
    model = judged({**GOOD, "fitness_history": [*history, None]})
    assert (model.classification, model.flags, model.reasons) == (APPROVED, (), ())
    assert model.remarks == ("NO_HISTORY",)


def test_model_with_a_history_has_no_remark() -> None:
    """Nor does one whose history is in its lists."""
    assert judged({**GOOD, "fitness_history": [0.91]}).remarks == ()
    assert judged({"metrics": LISTS}).remarks == ()


@given(st.sampled_from([GOOD, MIDDLING, BAD]), st.lists(st.floats() | st.floats(0, 1) | st.none(), max_size=4))
def test_inconsistent_figures_never_better_a_class(entry: dict[str, Any], history: list[float | None]) -> None:
    """Whatever stands beside the figures, the class is theirs or a worse one."""
    order = list(Classification)
    with_history, alone = judged({**entry, "fitness_history": history}), judged(entry)
    assert order.index(with_history.classification) >= order.index(alone.classification)
    if with_history.classification is not alone.classification:
        assert Flag.INCONSISTENT_FIGURES in with_history.flags


@given(points, st.sampled_from([{}, {"reward_scale": 0.01}, {"validation_interval": 50}]))
def test_figures_at_the_peak_are_judged_as_if_they_were_final(course: list[Point], run: dict[str, Any]) -> None:
    """For any lists, class, values and bands there are those of a training that ended at the peak."""
    model = judged_series(course, **run)
    if not model.use_checkpoint:
        assert model.at_checkpoint is None
        return
    assert model.best_idx is not None
    if model.best_idx == len(course) - 1:
        assert model.at_checkpoint is None
        return
    ended_there = judged_series(course[: model.best_idx + 1], **run)
    assert model.at_checkpoint is not None
    # As text: NaN is not equal to itself.
    there = PointAssessment(ended_there.classification, ended_there.values, ended_there.bands)
    assert repr(model.at_checkpoint) == repr(there)


@given(points, points)
def test_class_of_the_last_figures_does_not_depend_on_the_figures_before(
    course: list[Point], before: list[Point]
) -> None:
    """An approved model stays approved by its last figures, whatever the peak was like."""
    assert judged_series([*before, *course[-1:]]).classification is judged_series(course).classification


@pytest.mark.parametrize(
    "lists",
    [
        {"profit_factor": [2.0, 2.4]},
        {"profit_factor": [1.1, 1.9, 2.4], "consistency": [0.6, 0.8, 0.9]},
        {name: values for name, values in LISTS.items() if name != "max_drawdown"},
    ],
)
def test_figures_at_the_peak_that_not_all_lists_tell_are_not_known(lists: dict[str, Any]) -> None:
    """A guess is worse than none."""
    history = [0.5, 0.98, 0.91]
    model = judged({**GOOD, "fitness_history": history, "metrics": lists})
    assert model.use_checkpoint
    assert model.at_checkpoint is None


def test_peak_figures_of_a_flat_model_are_those_of_its_lists() -> None:
    """The history may stand in either place."""
    others = {name: values for name, values in LISTS.items() if name != "fitness_score"}
    for entry in ({**GOOD, "metrics": LISTS}, {**GOOD, "fitness_history": [0.5, 0.98, 0.91], "metrics": others}):
        model = judged(entry)
        assert model.at_checkpoint is not None
        assert model.at_checkpoint.values == (0.98, 1.9, 0.8, 0.1)
        assert model.at_checkpoint.classification is REVIEW


@pytest.mark.parametrize("odd", [None, "1.9", True, [1.9], NAN])
def test_figure_at_the_peak_that_is_no_number_is_invalid_there(odd: Any) -> None:
    """What can't be judged is not deployed, at the peak as at the end."""
    model = judged({"metrics": {**LISTS, "profit_factor": [1.1, odd, 2.4]}})
    assert model.at_checkpoint is not None
    assert (model.at_checkpoint.classification, model.at_checkpoint.bands[1]) == (DROP, Band.INVALID)


@given(st.integers(0, 8), st.lists(st.floats(0, 1), min_size=9, max_size=9))
def test_lists_of_one_length_never_contradict_each_other(length: int, values: list[float]) -> None:
    """The layout of lists says each figure once."""
    assume(length)
    course = [(value, 2.0, 0.9, 0.05) for value in values[:length]]
    assert judged_series(course).contradictions == ()
