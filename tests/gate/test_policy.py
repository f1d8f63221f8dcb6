"""A policy is a table that never contradicts itself, and its id names its thresholds and nothing else."""

import json
import math
import pickle
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import to_json

from modelwarden.gate.assessment import Band
from modelwarden.gate.gates import Better, Gate, Override
from modelwarden.gate.policy import Policy
from modelwarden.gate.thresholds import ModelGatingConfig

pure = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

DEFAULTS = {
    "approved_min_fitness": 0.70,
    "approved_min_pf": 1.8,
    "approved_min_consistency": 0.85,
    "approved_max_drawdown": 0.08,
    "review_min_fitness": 0.50,
    "review_min_pf": 1.3,
    "review_min_consistency": 0.65,
    "review_max_drawdown": 0.15,
    "fitness_decline_threshold": 0.05,
    "fitness_oscillation_threshold": 0.10,
}
BOUNDS = [
    ("approved_min_fitness", "review_min_fitness"),
    ("approved_min_pf", "review_min_pf"),
    ("approved_min_consistency", "review_min_consistency"),
    ("approved_max_drawdown", "review_max_drawdown"),
]


@st.composite
def configs(draw: st.DrawFn) -> ModelGatingConfig:
    """Any config that is in order: bounds inside their domains, REVIEW never stricter than APPROVED."""
    anything = st.floats(allow_nan=False, allow_infinity=False)
    shares = st.floats(0, 1)
    fitness, factor, consistency, drawdown = (
        sorted((draw(numbers), draw(numbers))) for numbers in (anything, anything, shares, shares)
    )
    return ModelGatingConfig(
        approved_min_fitness=fitness[1],
        review_min_fitness=fitness[0],
        approved_min_pf=factor[1],
        review_min_pf=factor[0],
        approved_min_consistency=consistency[1],
        review_min_consistency=consistency[0],
        approved_max_drawdown=drawdown[0],
        review_max_drawdown=drawdown[1],
        fitness_decline_threshold=draw(shares),
        fitness_oscillation_threshold=draw(shares),
    )


def test_config_without_arguments_has_the_calibrated_thresholds() -> None:
    """Whoever sets nothing is judged by the figures of the training notes."""
    assert asdict(ModelGatingConfig()) == DEFAULTS


def test_gates_of_the_defaults_are_the_four_metrics_in_order() -> None:
    """The table has a row for each metric of the rule, with its bounds and its better side."""
    rows = [(gate.metric, gate.better, gate.approve, gate.review) for gate in Policy.from_config().gates]
    assert rows == [
        ("fitness", Better.HIGHER, 0.70, 0.50),
        ("profit_factor", Better.HIGHER, 1.8, 1.3),
        ("consistency", Better.HIGHER, 0.85, 0.65),
        ("max_drawdown", Better.LOWER, 0.08, 0.15),
    ]
    assert Policy.from_config().metrics == ("fitness", "profit_factor", "consistency", "max_drawdown")


@pytest.mark.parametrize("field", DEFAULTS)
def test_threshold_set_in_the_config_is_the_one_that_judges(field: str) -> None:
    """Each of the ten names fills its own place of the policy and no other."""
    changed = DEFAULTS[field] * 1.01
    policy = Policy.from_config(ModelGatingConfig(**{field: changed}))
    bounds = [bound for gate in policy.gates for bound in (gate.approve, gate.review)]
    places = [
        *(name for pair in BOUNDS for name in pair),
        "fitness_decline_threshold",
        "fitness_oscillation_threshold",
    ]
    found = dict(zip(places, [*bounds, policy.decline, policy.oscillation], strict=True))
    assert found == DEFAULTS | {field: changed}


@pytest.mark.parametrize(("approve", "review"), BOUNDS)
def test_config_with_review_stricter_than_approve_is_refused(approve: str, review: str) -> None:
    """A table in which REVIEW asks for more than APPROVED would judge by accident: both names and values are told."""
    strict, loose = (0.31, 0.42) if approve == "approved_max_drawdown" else (0.42, 0.31)
    with pytest.raises(ValueError, match="stricter") as refused:
        ModelGatingConfig(**{approve: loose, review: strict})
    for part in (approve, repr(loose), review, repr(strict)):
        assert part in str(refused.value)


@pytest.mark.parametrize(("approve", "review"), BOUNDS)
def test_config_both_bounds_equal_is_accepted_and_has_no_review_band(approve: str, review: str) -> None:
    """Equal bounds are no contradiction: a metric is then approved or dropped."""
    policy = Policy.from_config(ModelGatingConfig(**{approve: 0.5, review: 0.5}))
    gate = policy.gates[BOUNDS.index((approve, review))]
    inside, outside = (0.4, 0.6) if gate.better is Better.LOWER else (0.6, 0.4)
    assert [gate.band(value) for value in (inside, 0.5, outside)] == [Band.APPROVED, Band.APPROVED, Band.DROP]


@pytest.mark.parametrize("field", DEFAULTS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "0.7", None, [0.7]])
def test_config_threshold_that_is_no_finite_number_is_refused_by_name(field: str, value: Any) -> None:
    """NaN would compare False with everything: no model could ever miss such a bound."""
    with pytest.raises(ValueError, match=f"^{field} = .* is not a finite number$"):
        ModelGatingConfig(**{field: value})


@pytest.mark.parametrize("field", DEFAULTS)
def test_config_whole_number_beyond_floats_is_refused_by_name(field: str) -> None:
    """TOML and JSON know no largest integer; the refusal is the same as for infinity."""
    with pytest.raises(ValueError, match=field):
        ModelGatingConfig(**{field: 10**400})


@pytest.mark.parametrize(
    ("field", "value", "hint"),
    [
        ("approved_min_consistency", 85.0, "85.0 is outside 0..1: is it a percentage?"),
        ("review_min_consistency", -0.1, "-0.1 is outside 0..1: is it a percentage?"),
        ("approved_max_drawdown", -0.08, "-0.08 is negative: give the size of the fall"),
        ("review_max_drawdown", -0.15, "-0.15 is negative: give the size of the fall"),
        ("approved_max_drawdown", 8, "8 is outside 0..1: is it a percentage?"),
        ("review_max_drawdown", 15.0, "15.0 is outside 0..1: is it a percentage?"),
        ("review_max_drawdown", math.nextafter(1.0, 2.0), "1.0000000000000002 is outside 0..1: is it a percentage?"),
        ("fitness_decline_threshold", 5, "5 is outside 0..1: is it a percentage?"),
        ("fitness_oscillation_threshold", 10.0, "10.0 is outside 0..1: is it a percentage?"),
        ("fitness_decline_threshold", -0.05, "-0.05 is negative"),
        ("fitness_oscillation_threshold", -0.1, "-0.1 is negative"),
    ],
)
def test_config_threshold_outside_its_domain_is_refused_with_the_reason(field: str, value: float, hint: str) -> None:
    """A bound that no figure can meet, or every figure meets, is a typing error and said to be one."""
    with pytest.raises(ValueError, match=field) as refused:
        ModelGatingConfig(**{field: value})
    assert f"{field} = {hint}" in str(refused.value)


def test_config_with_several_faults_names_all_of_them() -> None:
    """Whoever sets up a host corrects everything in one go."""
    with pytest.raises(ValueError, match="approved_min_pf") as refused:
        ModelGatingConfig(approved_min_pf=1.0, fitness_decline_threshold=-1.0, approved_min_consistency=85.0)
    for field in ("approved_min_pf", "review_min_pf", "fitness_decline_threshold", "approved_min_consistency"):
        assert field in str(refused.value)


@pytest.mark.parametrize(
    "field", [name for name in DEFAULTS if "drawdown" in name or "consistency" in name or "threshold" in name]
)
def test_config_fraction_of_one_is_accepted(field: str) -> None:
    """1.0 is the largest fraction: whoever wants no bound on a drawdown, or no such flag, can say so."""
    loosest = {"approved_max_drawdown": {"review_max_drawdown": 1.0}}
    strictest = {"review_min_consistency": {"approved_min_consistency": 1.0}}
    ModelGatingConfig(**{field: 1.0} | loosest.get(field, {}) | strictest.get(field, {}))


def test_policy_id_is_eight_hex_digits() -> None:
    """The id is short enough for a table and made of nothing that a path or markup could trip over."""
    identity = Policy.from_config().id
    assert len(identity) == 8
    assert set(identity) <= set("0123456789abcdef")


@pytest.mark.parametrize("field", DEFAULTS)
def test_policy_id_one_threshold_changed_by_the_least_is_another(field: str) -> None:
    """Two policies that could judge differently never share an id, however near they are."""
    nearest = math.nextafter(DEFAULTS[field], math.inf)
    assert Policy.from_config(replace(ModelGatingConfig(), **{field: nearest})).id != Policy.from_config().id


def test_policy_id_whole_number_and_the_same_float_are_one_policy() -> None:
    """A TOML file may say 2 or 2.0: what judges alike is called alike."""
    whole = ModelGatingConfig(approved_min_pf=2, review_min_pf=1, approved_min_consistency=1)
    point = ModelGatingConfig(approved_min_pf=2.0, review_min_pf=1.0, approved_min_consistency=1.0)
    assert Policy.from_config(whole) == Policy.from_config(point)
    assert Policy.from_config(whole).id == Policy.from_config(point).id


def test_policy_id_order_of_the_recorded_thresholds_does_not_matter() -> None:
    """A record whose keys another tool sorted is still the same policy."""
    assert Policy.from_thresholds(dict(reversed(list(DEFAULTS.items())))).id == Policy.from_thresholds(DEFAULTS).id


@pure
@given(configs())
def test_policy_from_recorded_thresholds_has_the_same_bounds(config: ModelGatingConfig) -> None:
    """A run of schema 1 can be judged again by exactly what judged it: its record is complete."""
    policy, again = Policy.from_config(config), Policy.from_thresholds(asdict(config))
    assert [(gate.metric, gate.approve, gate.review) for gate in again.gates] == [
        (gate.metric, gate.approve, gate.review) for gate in policy.gates
    ]
    assert (again.decline, again.oscillation) == (policy.decline, policy.oscillation)
    assert again.id != policy.id, "its rule is another"


@pytest.mark.parametrize(
    "recorded",
    [
        {"approved_min_fitness": "0.7"},
        {"approved_min_fitness": None},
        {"approved_min_sharpe": 1.0},
        {"approved_min_pf": 1.0, "review_min_pf": 1.3},
    ],
)
def test_policy_from_thresholds_that_are_not_ours_is_refused(recorded: dict[str, Any]) -> None:
    """A record that was tampered with is an error to report, never half a policy."""
    with pytest.raises((ValueError, TypeError)):
        Policy.from_thresholds(recorded)


PERCENTAGES = {**DEFAULTS, "approved_max_drawdown": 8.0, "review_max_drawdown": 15.0, "fitness_decline_threshold": 5.0}


def test_recorded_policy_is_read_with_bounds_refused_today() -> None:
    """Stricter rules for new settings take no old run away, and it is judged again as it was."""
    policy = Policy.from_thresholds(PERCENTAGES, rule=1)
    assert [policy.gates[3].band(drawdown) for drawdown in (8.0, 15.0, 16.0)] == [Band.APPROVED, Band.REVIEW, Band.DROP]
    with pytest.raises(ValueError, match="approved_max_drawdown"):
        ModelGatingConfig(**PERCENTAGES)


def test_policy_of_another_rule_has_another_id() -> None:
    """What judges differently is called differently; the runs there are keep the id that their index entries name."""
    assert Policy.from_thresholds(DEFAULTS, rule=1).id == "24e76465"
    assert Policy.from_thresholds(DEFAULTS, rule=1).id != Policy.from_config().id
    assert pickle.loads(pickle.dumps(Policy.from_thresholds(DEFAULTS, rule=1))).rule == 1


@pure
@given(configs(), st.one_of(st.none(), st.floats()))
def test_band_of_any_figure_under_any_policy_is_the_one_the_bounds_say(
    config: ModelGatingConfig, value: float | None
) -> None:
    """Bounds are inclusive and compared exactly; what can't be judged is INVALID, whatever the policy."""
    for gate in Policy.from_config(config).gates:
        assert gate.band(value) is _expected_band(gate.metric, gate.approve, gate.review, value)


def _expected_band(name: str, approve: float, review: float, value: float | None) -> Band:
    if value is None or math.isnan(value) or value == -math.inf:
        return Band.INVALID
    if value == math.inf:
        return Band.REVIEW if name == "profit_factor" else Band.INVALID
    if (name == "consistency" and not 0 <= value <= 1) or (name == "max_drawdown" and not 0 <= value <= 1):
        return Band.INVALID
    sign = -1 if name == "max_drawdown" else 1
    if sign * value >= sign * approve:
        return Band.APPROVED
    return Band.REVIEW if sign * value >= sign * review else Band.DROP


def test_policy_with_whole_numbers_and_infinity_comes_back_the_same() -> None:
    """Otherwise a rebuilt index would name another id than the run's first entry did."""
    written = Policy(
        (Gate("factor", 2, 1, infinity="review", most=math.inf),), overrides=(Override(("A",), {"factor": 3}),)
    )
    again = Policy.from_json(json.loads(to_json(written.as_json(), inf_nan_mode="null")))
    assert (again, again.id) == (written, written.id)


@pytest.mark.parametrize(("metric", "label"), [("eval_loss", "eval loss"), ("_step_", "step"), ("_", "_")])
def test_gate_without_a_label_is_called_by_its_metric(metric: str, label: str) -> None:
    """Every metric that may be named can be spoken of."""
    assert Policy((Gate(metric, 1.0, 0.5),)).gates[0].label == label
