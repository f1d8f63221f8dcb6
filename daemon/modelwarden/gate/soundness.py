"""Whether a policy contradicts itself: every reason at once, each with its place.

The rule: what judges wrongly, or never, is refused before it judges anything. What a run recorded is not asked.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from modelwarden.gate.assessment import Flag
from modelwarden.gate.gates import (
    LARGEST_FIGURE,
    SEED_FLAGS,
    Better,
    Gate,
    JudgeAt,
    Override,
    is_finite,
    is_stricter,
    with_bounds,
)
from modelwarden.gate.thresholds import no_fraction

if TYPE_CHECKING:
    from modelwarden.gate.policy import Policy

LONGEST_NAME: Final = 64
"""Characters of a metric's, a label's and a policy's name: they stand in tables and messages."""

MOST_GATES: Final = 32
"""Rows of a policy: as many as a person can still look over."""

Place = tuple[str | int, ...]
"""Where in a policy something stands: ("gate", 0, "review")."""


class PolicyError(ValueError):
    """A policy contradicts itself.

    Attributes:
        problems: every reason, each with its place in the policy.
    """

    def __init__(self, problems: Sequence[tuple[Place, str]]) -> None:
        super().__init__("; ".join(said for _, said in problems))
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type["PolicyError"], tuple[Sequence[tuple[Place, str]]]]:
        """What another process gets."""
        return PolicyError, (self.problems,)


_RESERVED_FLAGS: Final = frozenset(Flag) - frozenset(SEED_FLAGS.values())
"""What says something else of a model than that a figure is in the DROP band."""


def problems_of(policy: "Policy") -> Iterator[tuple[Place, str]]:
    """Every reason why a policy can't judge, with its place."""
    if said := _unfit_name(policy.name):
        yield ("name",), f"the policy's name {said}"
    if not policy.gates:
        yield ("gate",), "a policy needs a gate: a metric with its bounds"
    if len(policy.gates) > MOST_GATES:
        yield ("gate",), f"{len(policy.gates)} gates, more than {MOST_GATES}"
    seen: set[str] = set()
    for at, gate in enumerate(policy.gates):
        if gate.metric in seen:
            yield ("gate", at, "metric"), f"{gate.metric} has a gate already"
        seen.add(gate.metric)
        for name, said in _problems_of_gate(gate):
            yield ("gate", at, name), said
    yield from _problems_of_history(policy)
    for at, override in enumerate(policy.overrides):
        for name, said in _problems_of_override(override, {gate.metric: gate for gate in policy.gates}):
            yield ("override", at, name), said


def _problems_of_gate(gate: Gate) -> Iterator[tuple[str, str]]:
    if said := _unfit_name(gate.metric):
        yield "metric", f"a metric's name {said}"
        return
    if said := _unfit_name(gate.label):
        yield "label", f"the label of {gate.metric} {said}"
    if said := _unfit_name(gate.flag):
        yield "flag", f"the flag of {gate.metric} {said}"
    elif gate.flag in _RESERVED_FLAGS:
        yield "flag", f"{gate.flag} says something else already: give {gate.metric} a flag of its own"
    if gate.infinity not in {"", "review"}:
        yield "infinity", f'infinity = {gate.infinity!r}: "review" is all that it can be'
    if gate.infinity and gate.most not in {LARGEST_FIGURE, math.inf}:
        yield "infinity", f"{gate.metric} can't be infinite if the most that it can be is {gate.most:g}"
    for name in ("approve", "review", "least", "most"):
        value = getattr(gate, name)
        if not is_finite(value) and not (name == "most" and gate.infinity and value == math.inf):
            yield name, f"{name} = {value!r} of {gate.metric} is not a finite number"
            return
    if gate.least > gate.most:
        yield "least", f"least = {gate.least!r} of {gate.metric} is more than most = {gate.most!r}"
        return
    yield from _problems_of_bounds(gate)


def _problems_of_bounds(gate: Gate) -> Iterator[tuple[str, str]]:
    for name, value in (("approve", gate.approve), ("review", gate.review)):
        if not gate.least <= value <= gate.most:
            yield name, f"{name} = {value!r} of {gate.metric} {gate.hint_outside(value)}"
    if is_stricter(gate.review, gate.approve, gate.better):
        yield "review", f"review = {gate.review!r} of {gate.metric} is stricter than approve = {gate.approve!r}"


def _problems_of_history(policy: "Policy") -> Iterator[tuple[Place, str]]:
    gate = next((gate for gate in policy.gates if gate.metric == policy.history), None)
    if policy.history is not None:
        if said := _unfit_name(policy.history):
            yield ("history",), f"the history's metric {said}"
        elif gate is None and policy.better is None:
            yield ("history",), f'no gate says which way {policy.history} improves: give better = "higher" or "lower"'
        elif gate is not None and policy.better not in {None, gate.better}:
            yield ("better",), f"better = {policy.better} contradicts the gate of {policy.history}"
    elif policy.better is not None:
        yield ("better",), "better is the history's direction, and there is no history"
    if policy.judge_at is JudgeAt.BEST and policy.history is None:
        yield ("judge_at",), 'judge_at = "best" needs a history'
    for name in ("decline", "oscillation"):
        value = getattr(policy, name)
        if not is_finite(value):
            yield (name,), f"{name} = {value!r} is not a finite number"
        elif value < 0 or (policy.history_better is Better.HIGHER and value > 1):
            yield (name,), f"{name} = {value!r} {no_fraction(value)}"


def _problems_of_override(override: Override, gates: Mapping[str, Gate]) -> Iterator[tuple[str, str]]:
    if not override.symbols or not all(override.symbols):
        yield "symbols", "an override needs the symbols that it is for"
    if not override.approve and not override.review:
        yield "approve", "an override needs a bound"
    unusable = [*_unusable_bounds(override, gates)]
    yield from unusable
    if unusable:
        return
    for gate in with_bounds([*gates.values()], override):
        if gate.metric in override.approve or gate.metric in override.review:
            for name, said in _problems_of_bounds(gate):
                yield (name if gate.metric in getattr(override, name) else _OTHER_BOUND[name]), said


def _unusable_bounds(override: Override, gates: Mapping[str, Gate]) -> Iterator[tuple[str, str]]:
    for name, bounds in (("approve", override.approve), ("review", override.review)):
        for metric, bound in bounds.items():
            if metric not in gates:
                yield name, f"{metric} has no gate that could be overridden"
            elif not is_finite(bound):
                yield name, f"{name} = {bound!r} of {metric} is not a finite number"


_OTHER_BOUND: Final = {"approve": "review", "review": "approve"}


def _unfit_name(name: object) -> str:
    """Why a name is none, as the end of a sentence; "" if it is one."""
    if not isinstance(name, str):
        return "is no text"
    if not 1 <= len(name) <= LONGEST_NAME:
        return f"has {len(name)} characters: 1 to {LONGEST_NAME} are allowed"
    if not name.isprintable() or name != name.strip():
        return "holds what can't be seen"
    return ""
