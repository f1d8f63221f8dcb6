"""A policy fitted to a format: what was open is closed, and no bound is changed."""

from dataclasses import replace

from modelwarden.formats.description import Format, MetricRule
from modelwarden.formats.fitting import disagreements, fitted
from modelwarden.formats.normalising import DIVERGED
from modelwarden.gate.assessment import Band
from modelwarden.gate.gates import Better, Gate
from modelwarden.gate.policy import Policy

FORMAT = Format(
    "plain",
    "Plain",
    ("*",),
    "json",
    ".",
    metrics=(MetricRule("loss", Better.LOWER, sound=True), MetricRule("acc", Better.HIGHER, 0.0, 1.0)),
)
POLICY = Policy((Gate("acc", 0.9, 0.8),), name="test")


def test_open_domain_is_the_formats() -> None:
    """92 is no accuracy, whatever the policy leaves open; what it closes stays."""
    assert fitted(POLICY, FORMAT).gates[0].band(92.0) is Band.INVALID
    own = Policy((Gate("acc", 0.9, 0.8, most=100.0),), name="test")
    assert fitted(own, FORMAT).gates[0].band(92.0) is Band.APPROVED


def test_bounds_and_all_else_stay() -> None:
    """A fitted policy is the policy."""
    both = fitted(POLICY, FORMAT)
    assert (both.gates[0].approve, both.gates[0].review, both.name) == (0.9, 0.8, "test")
    assert replace(both, gates=POLICY.gates, recorded=True) == POLICY


def test_diverged_figures_have_a_gate() -> None:
    """One that a model may lack, and none where the format knows of no such figure."""
    gate = fitted(POLICY, FORMAT).gates[1]
    assert (gate.metric, gate.band(None), gate.band(0.0), gate.band(1.0)) == (
        DIVERGED,
        Band.IGNORED,
        Band.APPROVED,
        Band.DROP,
    )
    assert fitted(POLICY, replace(FORMAT, metrics=())) == POLICY


def test_fitted_twice_is_fitted_once() -> None:
    """Nothing is added again."""
    once = fitted(POLICY, FORMAT)
    assert fitted(once, FORMAT).id == once.id


def test_fitted_policy_survives_its_record() -> None:
    """It is what the run records and is read back with."""
    once = fitted(POLICY, FORMAT)
    assert Policy.from_json(once.as_json()).id == once.id != POLICY.id


def test_direction_that_contradicts_the_format_is_told() -> None:
    """A loss that were better when higher would approve the worst."""
    wrong = Policy((Gate("loss", 0.9, 0.8), Gate("acc", 0.9, 0.8)), history="loss", name="test")
    [(at, said)] = disagreements(wrong, FORMAT)
    assert at == 0
    assert said == "loss of plain is better lower, and this gate says higher"
    ungated = Policy((Gate("acc", 0.9, 0.8),), history="loss", better=Better.HIGHER, name="test")
    [(at, said)] = disagreements(ungated, FORMAT)
    assert at is None
    assert 'say better = "lower"' in said
    assert [*disagreements(POLICY, FORMAT)] == []
