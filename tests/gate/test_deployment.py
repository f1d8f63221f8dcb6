"""Only what was judged is deployed, and nobody is told to use what would not be approved, or does not exist."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwarden.gate.assessment import Assessment, Classification, Flag
from modelwarden.gate.deployment import advises_checkpoint, choose_checkpoint
from modelwarden.gate.gates import Better, Gate, JudgeAt
from modelwarden.gate.gating import assess_summary
from modelwarden.gate.policy import Policy
from modelwarden.gate.summary import parse_summary
from modelwarden.gate.wording import checkpoint_advice, peak_note
from summaries import BAD, GOOD, MIDDLING, encoded, flat_summary, series_summary

POLICY = Policy.from_config()
LAST = (0.9, 2.0, 0.9, 0.05)
MIDDLING_LAST = (0.6, 1.5, 0.7, 0.1)
BAD_LAST = (0.2, 0.8, 0.4, 0.3)
PEAK = (0.98, 2.5, 0.95, 0.02)
POOR_PEAK = (0.98, 1.1, 0.95, 0.02)
MIDDLING_PEAK = (0.98, 1.5, 0.8, 0.02)
NOT_KNOWN = "its other figures there are not known"
BELOW = "profit factor 1.10 < 1.30"

Point = tuple[float, float, float, float]


def of_points(*course: Point, **run: Any) -> Assessment:
    """A model in the layout of lists."""
    (model,) = assess_summary(parse_summary(encoded(series_summary({"A": course}, **run))), POLICY)
    return model


def of_figures(figures: dict[str, Any], **run: Any) -> Assessment:
    """A flat model."""
    (model,) = assess_summary(parse_summary(encoded(flat_summary({"A": figures}, **run))), POLICY)
    return model


def said(model: Assessment) -> tuple[str, str]:
    """The advice, and what is known of the checkpoint at the peak."""
    return tuple(checkpoint_advice(model, POLICY, quote="<{}>".format))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("course", "use", "note"),
    [
        ((PEAK, LAST), "use checkpoint 50 instead of the last", "its figures there: APPROVED"),
        ((POOR_PEAK, LAST), "", f"peaked at 50; its figures there: DROP ({BELOW})"),
        (
            (MIDDLING_PEAK, LAST),
            "",
            "peaked at 50; its figures there: REVIEW (profit factor 1.50 < 1.80, consistency 0.80 < 0.85)",
        ),
        ((PEAK, MIDDLING_LAST), "use checkpoint 50 instead of the last", "its figures there: APPROVED"),
        ((POOR_PEAK, MIDDLING_LAST), "", f"peaked at 50; its figures there: DROP ({BELOW})"),
        ((PEAK, BAD_LAST), "", "peaked at 50; its figures there: APPROVED"),
        ((POOR_PEAK, BAD_LAST), "", f"peaked at 50; its figures there: DROP ({BELOW})"),
        ((LAST, PEAK), "", ""),
        ((LAST, LAST), "", ""),
    ],
)
def test_advice_is_given_for_an_approved_point_alone(course: tuple[Point, ...], use: str, note: str) -> None:
    """A point that would not be APPROVED is told of, with what it lacks; a DROP model is told to use nothing."""
    assert said(of_points(*course, validation_interval=50)) == (use, note)


@pytest.mark.parametrize(
    ("figures", "use", "note"),
    [
        (GOOD, "use checkpoint 50 instead of the last", NOT_KNOWN),
        (MIDDLING, "use checkpoint 50 instead of the last", NOT_KNOWN),
        (BAD, "", f"peaked at 50; {NOT_KNOWN}"),
    ],
)
def test_advice_whose_figures_nobody_knows_says_so(figures: dict[str, Any], use: str, note: str) -> None:
    """A flat summary tells the fitness there and nothing more."""
    model = of_figures({**figures, "fitness_history": [0.99, figures["final_fitness"]]}, validation_interval=50)
    assert said(model) == (use, note)
    assert choose_checkpoint(model).is_last


def test_advice_names_the_validation_point_or_the_trainers_id() -> None:
    """As exactly as it is known; an id is quoted, for it is a stranger's text."""
    assert said(of_points(POOR_PEAK, LAST))[1].startswith("peaked at validation point 1; ")
    model = of_figures({**GOOD, "fitness_history": [0.99, 0.91], "checkpoints": ["best", "end"], "final_pf": 0.1})
    assert said(model)[1] == f"peaked at <best>; {NOT_KNOWN}"


ONLY_LAST: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "interval": ({"fitness_history": [0.5, 0.8, 0.99]}, {"validation_interval": 50}, "150"),
    "own interval": ({"fitness_history": [0.5, 0.99], "validation_interval": 7}, {"validation_interval": 50}, "14"),
    "nothing known": ({"fitness_history": [0.5, 0.99]}, {}, "validation point 2"),
    "ids": ({"fitness_history": [0.5, 0.99], "checkpoints": ["a", "b"]}, {}, "<b>"),
    "one point": ({"fitness_history": [0.99]}, {"validation_interval": 50}, "50"),
    "one id for two points": (
        {"fitness_history": [0.5, 0.99, 0.91], "checkpoints": ["a", "best", "best"]},
        {},
        "<best>",
    ),
    "one number for two points": ({"fitness_history": [0.99, 0.91], "checkpoints": [7, 7]}, {}, "7"),
    "a number and its text": ({"fitness_history": [0.99, 0.91], "checkpoints": [7, "7"]}, {}, "7"),
    "lists": (
        {"metrics": {"fitness_score": [0.5, 0.99]}, "checkpoints": ["a", "b"]},
        {},
        "<b>",
    ),
}


@pytest.mark.parametrize(("entry", "run", "name"), ONLY_LAST.values(), ids=ONLY_LAST)
def test_advice_never_sends_to_the_last_checkpoint_instead_of_the_last(
    entry: dict[str, Any], run: dict[str, Any], name: str
) -> None:
    """Nobody can follow "use checkpoint 150 instead of the last" if 150 is the last."""
    model = of_figures({**GOOD, **entry}, **run)
    assert model.use_checkpoint
    assert said(model) == ("", f"peaked at {name}, its last checkpoint: there is no earlier one to use")
    assert choose_checkpoint(model).is_last


def test_peak_at_the_end_with_a_lower_final_figure_is_a_contradiction() -> None:
    """It is no decline of the training: the file says two things of its end."""
    model = of_figures({**GOOD, "fitness_history": [0.5, 0.99]}, validation_interval=50)
    assert Flag.INCONSISTENT_FIGURES in model.flags
    assert model.contradictions == ("final_fitness is 0.91, but fitness_history ends at 0.99",)


def test_peak_before_points_that_are_missing_is_advised() -> None:
    """The last checkpoint is that of the last point, whether its fitness is known or not."""
    model = of_figures({**GOOD, "fitness_history": [0.5, 0.99, None]}, validation_interval=50)
    assert said(model)[0] == "use checkpoint 100 instead of the last"
    assert model.last_checkpoint == 150


@pytest.mark.parametrize(
    ("model", "text", "chosen"),
    [
        (of_points(PEAK, LAST, validation_interval=50), "50", (50, 1, False)),
        (of_points(PEAK, LAST), "point 1", (None, 1, False)),
        (of_points(POOR_PEAK, LAST, validation_interval=50), "100", (100, 2, True)),
        (of_points(POOR_PEAK, LAST), "last", (None, 2, True)),
        (of_points(LAST, validation_interval=50), "50", (50, 1, True)),
        (of_figures(GOOD, validation_interval=50), "last", (None, None, True)),
        (of_figures({**GOOD, "fitness_history": [0.5, 0.91], "checkpoints": ["a", "b c"]}), "b c", ("b c", 2, True)),
    ],
)
def test_checkpoint_to_deploy_is_the_one_that_was_judged_approved(
    model: Assessment, text: str, chosen: tuple[int | str | None, int | None, bool]
) -> None:
    """The peak's if its figures are APPROVED, else the last; as text one word where the number is known."""
    assert (str(choose_checkpoint(model)), tuple(choose_checkpoint(model))) == (text, chosen)


def test_model_of_an_old_record_is_deployed_from_its_last_checkpoint() -> None:
    """An old run has neither figures at the peak nor a last checkpoint; what it has is told as before."""
    model = of_points(PEAK, LAST, validation_interval=50)
    old = model._replace(points=None, last_checkpoint=None, at_checkpoint=None)
    assert tuple(choose_checkpoint(old)) == (None, None, True)
    assert said(old) == ("use checkpoint 50 instead of the last", NOT_KNOWN)


figures = st.floats(0, 3) | st.sampled_from([0.9, 2.0, 0.05, 0.98]) | st.floats()


@given(
    st.lists(st.tuples(figures, figures, figures, figures), min_size=1, max_size=6),
    st.sampled_from([{}, {"validation_interval": 50}, {"reward_scale": 0.5}]),
)
def test_advice_of_any_model_is_for_an_earlier_approved_point(course: list[Point], run: dict[str, Any]) -> None:
    """Of a model that is not dropped; what is deployed was judged APPROVED, whatever the figures are."""
    model = of_points(*course, **run)
    use, note = said(model)
    if use:
        assert advises_checkpoint(model)
        assert model.classification is not Classification.DROP
        assert model.best_idx is not None
        assert model.best_idx < len(course) - 1
        assert of_points(*course[: model.best_idx + 1], **run).classification is Classification.APPROVED
    assert bool(note) is model.use_checkpoint is bool(peak_note(model, POLICY))
    if model.classification is Classification.APPROVED:
        point = choose_checkpoint(model).point
        assert of_points(*course[:point], **run).classification is Classification.APPROVED


LOSS = Gate("loss", 0.3, 0.5, better=Better.LOWER)
ACCURACY = Gate("accuracy", 0.9, 0.8, most=1.0)


@pytest.mark.parametrize(
    "policy",
    [
        Policy((LOSS, ACCURACY), "loss", judge_at=JudgeAt.BEST),
        Policy((ACCURACY,), "loss", better=Better.LOWER, judge_at=JudgeAt.BEST),
    ],
)
@pytest.mark.parametrize(
    ("named", "checkpoint"), [({"validation_interval": 50}, 100), ({"checkpoints": ["a", "b", "c"]}, "b"), ({}, None)]
)
def test_model_judged_at_its_best_point_is_deployed_from_there(
    policy: Policy, named: dict[str, Any], checkpoint: object
) -> None:
    """What came after that point was judged by nobody: it is neither deployed nor a decline."""
    entry = {"metrics": {"loss": [0.6, 0.2, 0.9], "accuracy": [0.5, 0.95, 0.1]}, **named}
    (model,) = assess_summary(parse_summary(encoded({"models": {"A": entry}}), policy), policy)
    assert model.classification is Classification.APPROVED
    assert (model.decline, model.use_checkpoint) == (0.0, False)
    assert choose_checkpoint(model)[:2] == (checkpoint, 2)


def test_checkpoint_that_is_not_kept_is_never_advised() -> None:
    """Nobody can load it: it is told of, and the last one is what goes to production."""
    figures = GOOD | {"fitness_history": [0.95, 0.98, 0.91], "checkpoints": ["a", None, "c"]}
    model = of_figures(figures)
    assert model.use_checkpoint
    assert not advises_checkpoint(model)
    assert said(model) == ("", f"peaked at validation point 2, of which no checkpoint is kept; {NOT_KNOWN}")
    assert str(choose_checkpoint(model)) == "c"


def test_last_checkpoint_that_is_not_kept_has_no_name() -> None:
    """The model is the last one all the same; two that are not kept are not one."""
    model = of_figures(GOOD | {"fitness_history": [0.98, 0.95, 0.91], "checkpoints": [None, "b", None]})
    assert str(choose_checkpoint(model)) == "last"
    assert "there is no earlier one to use" not in said(model)[1]
