"""What another policy would make of judged models: the gate's own verdict on each, counted."""

import math
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwarden.gate.assessment import CLASSIFICATIONS, Classification
from modelwarden.gate.gates import Better, Gate, Missing, Override
from modelwarden.gate.gating import judge
from modelwarden.gate.policy import Policy
from modelwarden.gate.soundness import PolicyError
from modelwarden.gate.what_if import Judged, sweep, try_policy, with_bound

TWO = Policy(
    gates=(
        Gate("loss", approve=0.3, review=0.5, better=Better.LOWER, least=0.0),
        Gate("gain", approve=2.0, review=1.0, infinity="review", missing=Missing.IGNORE),
    ),
    overrides=(
        Override(("B*",), approve={"loss": 0.2}),
        Override(("C",), approve={"gain": 4.0}, review={"gain": 3.0}),
    ),
)
FOUR = Policy.from_config()
FIGURES = st.none() | st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 0.0, 0.3, 0.5, 1.0, 2.0]) | st.floats(-1, 5)


def models(gates: int) -> st.SearchStrategy[list[Judged]]:
    """Models of runs with and without a reward scale, some of another program's metrics."""
    figures = st.tuples(*[FIGURES] * gates) | st.none()
    model = st.tuples(
        st.sampled_from(["A", "B1", "B2", "C"]),
        st.sampled_from([0, 1, 2]),
        figures,
        st.sampled_from([None, 0.001, 0.5]),
        st.booleans(),
    )
    return st.lists(model, max_size=30)


def one_by_one(judged: Sequence[Judged], policy: Policy) -> list[tuple[str, Classification, Classification]]:
    """Symbol, class before and class after of each model that the policy can judge."""
    found = []
    for symbol, code, values, scale, contradicted in judged:
        if values is not None:
            verdict = judge(values, None, None, scale, policy.for_symbol(symbol), contradicted=contradicted)
            found.append((symbol, CLASSIFICATIONS[code], verdict.classification))
    return found


@pytest.mark.parametrize(("policy", "gates"), [(TWO, 2), (FOUR, 4)])
def test_counts_are_those_of_judging_one_by_one(policy: Policy, gates: int) -> None:
    """Whatever the figures: classes, moves and symbols, and nothing is counted twice."""

    @given(models(gates))
    def holds(judged: list[Judged]) -> None:
        found = try_policy(judged, policy)
        expected = one_by_one(judged, policy)
        assert found.assessments == len(judged)
        assert found.foreign == len(judged) - len(expected)
        assert found.before == Counter(was for _, was, _ in expected)
        assert found.after == Counter(now for _, _, now in expected)
        assert found.symbols == Counter((symbol, (was, now)) for symbol, was, now in expected if was != now)
        assert found.changed == sum(found.symbols.values())

    holds()


@pytest.mark.parametrize(
    ("policy", "gates", "metric"), [(TWO, 2, "loss"), (TWO, 2, "gain"), (FOUR, 4, "profit_factor")]
)
@pytest.mark.parametrize("which", ["approve", "review"])
def test_sweep_counts_as_each_policy_would(policy: Policy, gates: int, metric: str, which: str) -> None:
    """One pass over the models comes to the same as trying every bound by itself."""
    bounds = [-1.0, 0.0, 0.25, 0.3, 0.5, 1.0, 1.3, 1.8, 2.0, 3.0]

    @given(models(gates))
    def holds(judged: list[Judged]) -> None:
        number, steps = sweep(judged, policy, metric, which, bounds)
        assert [step.bound for step in steps] == bounds
        assert number == sum(values is not None for _, _, values, _, _ in judged)
        for step in steps:
            if step.problem:
                with pytest.raises(PolicyError):
                    with_bound(policy, metric, which, step.bound)
                continue
            found = try_policy(judged, with_bound(policy, metric, which, step.bound))
            assert (Counter(step.after), step.changed, step.problem) == (found.after, found.changed, "")

    holds()


def test_gate_that_stands_alone_in_the_way_is_told() -> None:
    """Of a model that two gates keep out neither alone does; of a DROP those in REVIEW decide nothing."""
    judged: list[Judged] = [
        ("A", 0, (0.9, 1.5, 0.9, 0.05), None, False),  # the profit factor alone: REVIEW
        ("B", 0, (0.6, 1.5, 0.9, 0.05), None, False),  # two of them: REVIEW
        ("C", 0, (0.6, 1.0, 0.9, 0.05), None, False),  # the profit factor alone: DROP
        ("D", 0, (math.nan, 2.0, 0.9, 0.05), None, False),  # what can't be judged: DROP
        ("E", 0, (0.9, 2.0, 0.9, 0.05), 0.5, False),  # no gate, the reward scale: REVIEW
    ]
    found = try_policy(judged, FOUR)
    assert found.moves == {
        (Classification.APPROVED, Classification.REVIEW): 3,
        (Classification.APPROVED, Classification.DROP): 2,
    }
    gates = {metric: (each.review, each.drop, each.alone) for metric, each in found.gates.items()}
    assert gates == {
        "fitness": (1, 1, 1),
        "profit_factor": (2, 1, 2),
        "consistency": (0, 0, 0),
        "max_drawdown": (0, 0, 0),
    }
