"""A policy of any metrics: what it judges, what it refuses of itself, and that it survives being written down."""

import json
import math
import pickle
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwarden.gate.assessment import Assessment, Band, Classification, Flag
from modelwarden.gate.gates import Better, Gate, JudgeAt, Missing, Override
from modelwarden.gate.gating import assess, assess_summary
from modelwarden.gate.policy import Policy
from modelwarden.gate.soundness import PolicyError
from modelwarden.gate.summary import parse_summary
from modelwarden.gate.thresholds import ModelGatingConfig

LOSS = Gate("eval_loss", approve=0.35, review=0.50, better=Better.LOWER)
ACCURACY = Gate("eval_accuracy", approve=0.90, review=0.80, most=1.0)
LANGUAGE = Policy((LOSS, ACCURACY), history="eval_loss", name="language models")

WORST_FIRST = [Classification.DROP, Classification.REVIEW, Classification.APPROVED]
numbers = st.floats(-1e6, 1e6)
figures = st.none() | st.floats(allow_nan=True, allow_infinity=True)


@st.composite
def gates(draw: st.DrawFn, metric: str) -> Gate:
    """A row that does not contradict itself."""
    better = draw(st.sampled_from(Better))
    low, high = sorted((draw(numbers), draw(numbers)))
    infinity = draw(st.sampled_from(["", "review"]))
    return Gate(
        metric,
        approve=high if better is Better.HIGHER else low,
        review=low if better is Better.HIGHER else high,
        better=better,
        label=draw(st.sampled_from(["", "a label"])),
        least=draw(st.sampled_from([-1.7976931348623157e308, min(low, -5.0)])),
        most=1.7976931348623157e308 if infinity else draw(st.sampled_from([1.7976931348623157e308, max(high, 5.0)])),
        infinity=infinity,
        missing=draw(st.sampled_from(Missing)),
        flag=draw(st.sampled_from(["", "A_FLAG"])),
    )


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Any policy that is accepted."""
    names = draw(st.lists(st.sampled_from(["loss", "sharpe", "fitness", "a b", "größe"]), min_size=1, unique=True))
    rows = tuple(draw(gates(name)) for name in names)
    history = draw(st.sampled_from([None, *names, "other"]))
    overrides = []
    if draw(st.booleans()):
        row = rows[0]
        overrides.append(Override(("A*",), {row.metric: row.approve}, {row.metric: row.review}))
    return Policy(
        rows,
        history=history,
        name=draw(st.sampled_from(["default", "mine"])),
        better=Better.HIGHER if history == "other" else None,
        decline=draw(st.floats(0, 1)),
        oscillation=draw(st.floats(0, 1)),
        judge_at=draw(st.sampled_from(JudgeAt)) if history else JudgeAt.LAST,
        overrides=tuple(overrides),
    )


@given(policies(), st.data())
def test_class_is_the_worst_band(policy: Policy, data: st.DataObject) -> None:
    """For any policy and any figures: nothing that can't be judged, and nothing unjudged, is approved."""
    judged = assess({metric: data.draw(figures) for metric in policy.metrics}, policy=policy)
    bands = set(judged.bands) - {Band.IGNORED}
    if not bands or bands & {Band.DROP, Band.INVALID}:
        assert judged.classification is Classification.DROP
    elif Band.REVIEW in bands:
        assert judged.classification is Classification.REVIEW
    else:
        assert judged.classification is Classification.APPROVED


@given(policies(), st.data(), st.floats(0, 1e6))
def test_stricter_bound_never_betters_a_class(policy: Policy, data: st.DataObject, step: float) -> None:
    """Whoever raises what is asked for gets no model through that was not through before."""
    values = {metric: data.draw(figures) for metric in policy.metrics}
    gate = policy.gates[0]
    towards = step if gate.better is Better.HIGHER else -step
    bound = min(max(gate.approve + towards, gate.least), gate.most)
    stricter = Gate(
        gate.metric,
        bound,
        gate.review,
        gate.better,
        gate.label,
        gate.least,
        gate.most,
        gate.infinity,
        gate.missing,
        gate.flag,
    )
    other = Policy((stricter, *policy.gates[1:]), name=policy.name)
    before, after = (assess(values, policy=each).classification for each in (Policy(policy.gates), other))
    assert WORST_FIRST.index(after) <= WORST_FIRST.index(before)


@given(policies())
def test_policy_survives_being_written_down(policy: Policy) -> None:
    """As JSON in a run, and on its way to another process: the same policy under the same id."""
    for again in (Policy.from_json(json.loads(json.dumps(policy.as_json()))), pickle.loads(pickle.dumps(policy))):
        assert again == policy
        assert again.id == policy.id
        assert again.as_json() == policy.as_json()


@given(st.data())
def test_id_tells_policies_apart_by_anything_that_decides(data: st.DataObject) -> None:
    """Two that judge differently are never called alike."""
    one, other = data.draw(policies()), data.draw(policies())
    assert (one == other) == (one.id == other.id)


def test_default_policy_is_the_configs() -> None:
    """The seed's ten names make the policy `default`, and its gates are rows like all others."""
    policy = Policy.from_config(ModelGatingConfig(approved_min_fitness=0.8))
    assert (policy.name, policy.history, policy.gates[0].approve) == ("default", "fitness", 0.8)
    assert Policy(policy.gates, history="fitness") == policy


def judged(models: dict[str, Any], policy: Policy = LANGUAGE) -> dict[str, Assessment]:
    """The assessments of a summary's models by symbol."""
    summary = parse_summary(json.dumps({"models": models}).encode(), policy)
    return {each.symbol: each for each in assess_summary(summary, policy)}


def test_any_metric_is_read_in_each_layout() -> None:
    """Final fields, numbers in an object, lists over validation points."""
    models = judged(
        {
            "flat": {"final_eval_loss": 0.3, "final_eval_accuracy": 0.95, "eval_loss_history": [0.9, 0.3]},
            "numbers": {"metrics": {"eval_loss": 0.3, "eval_accuracy": 0.95}, "eval_loss_history": [0.9, 0.3]},
            "lists": {"metrics": {"eval_loss": [0.9, 0.3], "eval_accuracy": [0.5, 0.95]}},
        }
    )
    for symbol, model in models.items():
        assert (model.values, model.classification) == ((0.3, 0.95), Classification.APPROVED), symbol
        assert (list(model.history), model.best_idx, model.peak) == ([0.9, 0.3], 1, 0.3), symbol


def test_lower_is_better_turns_the_course_round() -> None:
    """The peak is the earliest lowest point; a decline is a rise above it, and so is what is called unstable."""
    (model,) = judged({"A": {"metrics": {"eval_loss": [0.5, 0.2, 0.2, 0.3], "eval_accuracy": [0.95] * 4}}}).values()
    assert (model.best_idx, model.peak) == (1, 0.2)
    assert model.decline == pytest.approx(0.5)
    assert model.flags == (Flag.FITNESS_DECLINE, Flag.UNSTABLE_TRAINING)
    assert model.use_checkpoint
    assert model.at_checkpoint is not None
    assert model.at_checkpoint.values == (0.2, 0.95)
    assert model.reasons == (
        "final eval loss is 50.00 % (more than 5.00 %) above its lowest",
        "eval loss rose by 50.00 % (more than 10.00 %) in training",
    )


def test_figure_beyond_its_bound_has_the_gates_own_flag_and_sentence() -> None:
    """By default LOW_ or HIGH_ and the name."""
    (model,) = judged({"A": {"final_eval_loss": 0.7, "final_eval_accuracy": 0.5}}).values()
    assert model.flags == ("HIGH_EVAL_LOSS", "LOW_EVAL_ACCURACY")
    assert model.reasons[0] == "eval loss 0.70 > 0.50, the bound of REVIEW"


def test_figure_outside_its_domain_says_what_is_wrong() -> None:
    """95 for an accuracy is a percentage."""
    (model,) = judged({"A": {"final_eval_loss": 0.3, "final_eval_accuracy": 95}}).values()
    assert (model.classification, model.flags) == (Classification.DROP, (Flag.INVALID_METRIC,))
    assert model.reasons == ("eval accuracy 95 is above 1, the most that it can be: is it a percentage?",)


@pytest.mark.parametrize(
    ("missing", "classification", "band"),
    [
        (Missing.DROP, Classification.DROP, Band.INVALID),
        (Missing.REVIEW, Classification.REVIEW, Band.REVIEW),
        (Missing.IGNORE, Classification.APPROVED, Band.IGNORED),
    ],
)
def test_missing_metric_is_what_its_gate_says(missing: Missing, classification: Classification, band: Band) -> None:
    """Dropped, looked at by a person, or judged by the others."""
    policy = Policy((LOSS, Gate("eval_accuracy", 0.9, 0.8, missing=missing)), history="eval_loss")
    (model,) = judged({"A": {"final_eval_loss": 0.3}}, policy).values()
    assert (model.classification, model.bands[1]) == (classification, band)
    said = {Missing.DROP: ("eval accuracy is missing",), Missing.REVIEW: ("eval accuracy is missing: a person looks",)}
    assert model.reasons == said.get(missing, ())


def test_model_of_which_nothing_was_judged_is_never_approved() -> None:
    """Every metric may be missing, and all are: that says nothing good of a model."""
    policy = Policy((Gate("x", 1.0, 0.0, missing=Missing.IGNORE),))
    model = assess({}, policy=policy)
    assert (model.classification, model.flags) == (Classification.DROP, (Flag.INVALID_METRIC,))
    assert "no figure that a gate judges" in model.reasons[0]


def test_nan_is_not_missing() -> None:
    """A gate that lets a metric be missing does not let it be NaN."""
    policy = Policy((LOSS, Gate("x", 1.0, 0.0, missing=Missing.IGNORE)))
    assert assess({"eval_loss": 0.1, "x": math.nan}, policy=policy).classification is Classification.DROP


@pytest.mark.parametrize("better", Better)
def test_infinity_that_means_something_is_for_a_person(better: Better) -> None:
    """Whichever way the metric improves; minus infinity never is."""
    bounds = (1.0, 0.5) if better is Better.HIGHER else (0.5, 1.0)
    policy = Policy((Gate("x", *bounds, better=better, infinity="review"),))
    model = assess({"x": math.inf}, policy=policy)
    assert (model.classification, model.flags) == (Classification.REVIEW, ("INFINITE_X",))
    assert assess({"x": -math.inf}, policy=policy).classification is Classification.DROP


def test_best_point_is_judged_if_the_policy_says_so() -> None:
    """For trainers that restore the best checkpoint: its figures are those that count, and nothing declined."""
    lists = {"eval_loss": [0.5, 0.3, 0.6], "eval_accuracy": [0.5, 0.95, 0.2]}
    best = Policy((LOSS, ACCURACY), history="eval_loss", judge_at=JudgeAt.BEST)
    (model,) = judged({"A": {"metrics": lists}}, best).values()
    assert (model.values, model.classification) == ((0.3, 0.95), Classification.APPROVED)
    assert Flag.FITNESS_DECLINE not in model.flags
    (last,) = judged({"A": {"metrics": lists}}).values()
    assert (last.values, last.classification) == ((0.6, 0.2), Classification.DROP)


def test_best_point_that_a_list_does_not_have_is_missing() -> None:
    """A list of another length tells nothing of it: no other point stands for it."""
    best = Policy((LOSS, ACCURACY), history="eval_loss", judge_at=JudgeAt.BEST)
    (model,) = judged({"A": {"metrics": {"eval_loss": [0.5, 0.3, 0.6], "eval_accuracy": [0.95]}}}, best).values()
    assert model.values == (0.3, None)
    assert model.classification is Classification.DROP


def test_last_override_that_fits_a_symbol_counts() -> None:
    """Its bounds judge, are named in the sentences, and concern no other model."""
    policy = Policy(
        (LOSS, ACCURACY),
        history="eval_loss",
        overrides=(
            Override(("*",), {"eval_loss": 0.1}),
            Override(("tiny-*",), {"eval_loss": 0.45}, {"eval_loss": 0.6}),
        ),
    )
    figures = {"final_eval_loss": 0.4, "final_eval_accuracy": 0.95}
    models = judged({"tiny-1": figures, "big": figures}, policy)
    assert models["tiny-1"].classification is Classification.APPROVED
    assert models["big"].classification is Classification.REVIEW
    assert models["big"].reasons == ("eval loss 0.40 > 0.10, the bound of APPROVED",)


def test_figures_without_a_gate_are_kept_and_judge_nothing() -> None:
    """Final fields, numbers and lists; 64 at most; what is no number is left out."""
    (model,) = judged(
        {
            "A": {
                "metrics": {"eval_loss": [0.3], "eval_accuracy": 0.95, "perplexity": [9, 1.3], "note": "x", "n": None},
                "final_tokens": 10**6,
            }
        }
    ).values()
    assert model.classification is Classification.APPROVED
    assert model.others == {"tokens": 1e6, "perplexity": 1.3}
    many = {"eval_loss": 0.3, "eval_accuracy": 0.95} | {f"m{number}": number for number in range(1000)}
    (model,) = judged({"A": {"metrics": many}}).values()
    assert len(model.others) == 64


def test_contradiction_is_found_for_any_metric() -> None:
    """What a summary says twice and differently of a fifth metric is for a person, too."""
    (model,) = judged(
        {"A": {"final_eval_loss": 0.3, "final_eval_accuracy": 0.95, "metrics": {"eval_accuracy": 0.5}}}
    ).values()
    assert (model.classification, model.flags) == (Classification.REVIEW, (Flag.INCONSISTENT_FIGURES,))
    assert "final_eval_accuracy is 0.95, but metrics.eval_accuracy is 0.5" in model.contradictions[0]


FORGIVING = Policy((LOSS, replace(ACCURACY, missing=Missing.IGNORE)), history="eval_loss")


@pytest.mark.parametrize("listed", [[0.95, 0.2], 0.2])
def test_figure_that_stands_in_the_lists_alone_is_not_missing(listed: Any) -> None:
    """A model may have some final figures beside the symbol, and others in its lists: a bad one is never overlooked."""
    entry = {"final_eval_loss": 0.3, "metrics": {"eval_accuracy": listed}}
    (model,) = judged({"A": entry}, FORGIVING).values()
    assert (model.values, model.classification) == ((0.3, 0.2), Classification.DROP)
    assert model.others == {}


def test_null_beside_a_list_is_judged_by_it_and_looked_at() -> None:
    """Null is how some write NaN: what the list ends at may be an older figure, and may be a bad one."""
    for listed, expected in ((0.95, Classification.REVIEW), (0.2, Classification.DROP)):
        entry = {"final_eval_loss": 0.3, "final_eval_accuracy": None, "metrics": {"eval_accuracy": [listed]}}
        (model,) = judged({"A": entry}, FORGIVING).values()
        assert model.classification is expected
        assert f"final_eval_accuracy is null, but metrics.eval_accuracy ends at {listed}" in model.contradictions[0]


def test_figures_of_both_layouts_are_judged_at_the_best_point() -> None:
    """The list has the figure there; the final figure is what the trainer says of the model that it restored."""
    best = Policy((LOSS, ACCURACY), history="eval_loss", judge_at=JudgeAt.BEST)
    entry = {"final_eval_accuracy": 0.95, "metrics": {"eval_loss": [0.5, 0.3, 0.6]}}
    (model,) = judged({"A": entry}, best).values()
    assert (model.values, model.classification) == ((0.3, 0.95), Classification.APPROVED)
    ended = {"final_eval_loss": 0.3, "metrics": {"eval_accuracy": [0.95, None]}}  # and the last point has no figure
    accuracy = Policy((LOSS, ACCURACY), history="eval_accuracy", judge_at=JudgeAt.BEST)
    (model,) = judged({"A": ended}, accuracy).values()
    assert (model.values, model.classification) == ((0.3, 0.95), Classification.APPROVED)


def test_reward_scale_concerns_policies_that_gate_the_drawdown() -> None:
    """It is what the drawdown is a proxy with."""
    summary = parse_summary(
        b'{"reward_scale": 5, "models": [{"symbol": "A", "final_eval_loss": 0.3, "final_eval_accuracy": 0.95}]}',
        LANGUAGE,
    )
    assert assess_summary(summary, LANGUAGE)[0].classification is Classification.APPROVED


@pytest.mark.parametrize(
    ("arguments", "places"),
    [
        ({"gates": ()}, [("gate",)]),
        ({"gates": (LOSS, LOSS)}, [("gate", 1, "metric")]),
        ({"gates": (Gate("x", 1.0, 2.0),)}, [("gate", 0, "review")]),
        ({"gates": (Gate("x", 1.0, 2.0, Better.LOWER), Gate("y", 2.0, 1.0, Better.LOWER))}, [("gate", 1, "review")]),
        ({"gates": (Gate("x", 2.0, 1.0, most=1.5),)}, [("gate", 0, "approve")]),
        ({"gates": (Gate("x", 0.5, -1.0, least=0.0),)}, [("gate", 0, "review")]),
        ({"gates": (Gate("x", math.nan, 0.0),)}, [("gate", 0, "approve")]),
        ({"gates": (Gate("x", 1.0, cast("float", "0")),)}, [("gate", 0, "review")]),
        ({"gates": (Gate("x", 1.0, 0.0, most=math.inf),)}, [("gate", 0, "most")]),
        ({"gates": (Gate("x", 1.0, 0.0, most=5.0, infinity="review"),)}, [("gate", 0, "infinity")]),
        ({"gates": (Gate("x", 1.0, 0.0, infinity="drop"),)}, [("gate", 0, "infinity")]),
        ({"gates": (Gate("x", 1.0, 0.0, flag="INVALID_METRIC"),)}, [("gate", 0, "flag")]),
        ({"gates": (Gate("", 1.0, 0.0),)}, [("gate", 0, "metric")]),
        ({"gates": (Gate("x\n", 1.0, 0.0),)}, [("gate", 0, "metric")]),
        ({"history": "other"}, [("history",)]),
        ({"history": "eval_loss", "better": Better.HIGHER}, [("better",)]),
        ({"better": Better.HIGHER}, [("better",)]),
        ({"judge_at": JudgeAt.BEST}, [("judge_at",)]),
        ({"decline": -0.1}, [("decline",)]),
        ({"oscillation": 5.0}, [("oscillation",)]),
        ({"name": ""}, [("name",)]),
        ({"overrides": (Override(("*",), {"sharpe": 1.0}),)}, [("override", 0, "approve")]),
        ({"overrides": (Override((), {"eval_loss": 0.1}),)}, [("override", 0, "symbols")]),
        ({"overrides": (Override(("*",)),)}, [("override", 0, "approve")]),
        ({"overrides": (Override(("*",), {"eval_loss": 0.9}),)}, [("override", 0, "approve")]),
        ({"overrides": (Override(("*",), {}, {"eval_loss": 0.1}),)}, [("override", 0, "review")]),
        ({"overrides": (Override(("*",), {"eval_accuracy": 95.0}),)}, [("override", 0, "approve")]),
        ({"history": "other", "decline": 7.0, "name": " x"}, [("name",), ("history",), ("decline",)]),
    ],
)
def test_policy_that_contradicts_itself_is_refused_with_every_reason(
    arguments: dict[str, Any], places: list[tuple[str | int, ...]]
) -> None:
    """Each reason with its place; the sentences stand in the error's text."""
    with pytest.raises(PolicyError) as caught:
        Policy(**({"gates": (LOSS, ACCURACY)} | arguments))
    assert [place for place, _ in caught.value.problems] == places
    assert all(said in str(caught.value) for _, said in caught.value.problems)
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems


def test_history_for_a_policy_that_has_none_is_refused() -> None:
    """Nobody takes it for judged."""
    with pytest.raises(PolicyError, match="has no history"):
        assess({"x": 1.0}, [0.5], Policy((Gate("x", 1.0, 0.0),)))
