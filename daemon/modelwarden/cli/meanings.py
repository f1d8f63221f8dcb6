"""What each class, flag and metric means, in a sentence or two for somebody who never read the manual.

The rule: the bounds are the policy's; no figure stands here that a setting can change.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from modelwarden.gate.assessment import Classification, Flag, Remark
from modelwarden.gate.gates import SEED_FLAGS, Better, Gate, Missing
from modelwarden.gate.policy import CALIBRATED_REWARD_SCALE, DEFAULT_NAME, Policy
from modelwarden.gate.thresholds import BOUND_NAMES, FRACTIONS


class Meaning(NamedTuple):
    """What a word means.

    Attributes:
        name: the word.
        kind: class, flag, remark or metric.
        text: what it says of a model.
        bounds: what it is held against, a line each.
        source: where the figures come from.
    """

    name: str
    kind: str
    text: str
    bounds: tuple[str, ...] = ()
    source: str = ""


_CLASSES: Final = {
    Classification.APPROVED: "Every metric is within its bound for APPROVED: the model may be deployed.",
    Classification.REVIEW: "No metric is beyond its bound for REVIEW, and not all are approved: a person decides.",
    Classification.DROP: "At least one metric is beyond its bound for REVIEW, or can't be judged: do not deploy it.",
}
_FLAGS: Final[Mapping[str, str]] = {
    Flag.FITNESS_DECLINE: "The model was better before: {history} ended too far {side} its best point. Its class stays "
    "what it is; the checkpoint at that point is recommended if its own figures allow it.",
    Flag.UNSTABLE_TRAINING: "On its way {history} {went} too far from its best so far. It warns, and changes nothing.",
    Flag.INVALID_METRIC: "A metric is missing, not a number, infinite or outside its domain. What can't be judged is "
    "not deployed: the model is DROP.",
    Flag.NO_LOSSES: "The profit factor is infinite: no trade in the validation lost. That is more often too few trades "
    "than a good model, so it is REVIEW at best.",
    Flag.UNCALIBRATED_REWARD_SCALE: "The summary names a reward_scale that the bounds were not calibrated for, so its "
    "drawdown can't be compared. REVIEW at best.",
    Flag.INCONSISTENT_FIGURES: "The summary says two different things of the model. Which of them is true nobody can "
    "tell here, so it is REVIEW at best.",
}
_REMARKS: Final = {
    Remark.NO_HISTORY: "The summary has no usable history of the model: whether it was better before is not known. It "
    "changes nothing.",
}
_DERIVED: Final = {
    Flag.FITNESS_DECLINE: "the model's history in the summary, against its final figure",
    Flag.UNSTABLE_TRAINING: "the model's history in the summary",
    Flag.UNCALIBRATED_REWARD_SCALE: "`reward_scale` of the summary",
    Flag.INCONSISTENT_FIGURES: "lists, histories and final figures of the model that should agree",
}


def meanings(policy: Policy) -> Iterator[Meaning]:
    """Every word that a run of this policy may say of a model."""
    for name, text in _CLASSES.items():
        yield Meaning(name.value, "class", text)
    for gate in policy.gates:
        yield _metric(gate, policy)
    of_gates = {str(gate.flag): gate for gate in policy.gates}
    own = [flag.value for flag in Flag if flag not in SEED_FLAGS.values() or flag.value in of_gates]
    infinite = [gate.infinity_flag for gate in policy.gates if gate.infinity]
    for flag in dict.fromkeys([*own, *of_gates, *map(str, infinite)]):
        if (found := meaning_of_flag(flag, policy)) is not None:
            yield found
    for remark, text in _REMARKS.items():
        yield Meaning(remark.value, "remark", text)


def meaning_of_flag(flag: str, policy: Policy) -> Meaning | None:
    """What a flag or a remark means where this policy judges; None if it has none of that name."""
    for gate in policy.gates:
        if gate.flag == flag:
            bound = f"{gate.label} {gate.signs[1]} {gate.review!r}"
            text = f"The {gate.label} is in its DROP band, so the model is DROP."
            return Meaning(flag, "flag", text, (f"{bound}{_setting(gate, policy, 1)}",), _where(gate))
    if flag in _REMARKS:
        return Meaning(flag, "remark", _REMARKS[Remark(flag)])
    if flag in _FLAGS:
        is_higher = policy.history_better is Better.HIGHER
        text = _FLAGS[flag].format(
            history=policy.history_label or "the history",
            side="below" if is_higher else "above",
            went="fell" if is_higher else "rose",
        )
        return Meaning(flag, "flag", text, tuple(_bound_of(Flag(flag), policy)), _DERIVED.get(Flag(flag), ""))
    for gate in policy.gates:
        if gate.infinity and gate.infinity_flag == flag:
            text = f"The {gate.label} is infinite{gate.infinity_means}: a person looks, so it is REVIEW at best."
            return Meaning(flag, "flag", text, (), _where(gate))
    return None


def _bound_of(flag: Flag, policy: Policy) -> Iterator[str]:
    names = FRACTIONS if policy.name == DEFAULT_NAME else ("decline", "oscillation")
    if flag is Flag.FITNESS_DECLINE:
        yield f"more than {policy.decline * 100:g} % of the best ({names[0]})"
    elif flag is Flag.UNSTABLE_TRAINING:
        yield f"more than {policy.oscillation * 100:g} % of the best so far ({names[1]})"
    elif flag is Flag.UNCALIBRATED_REWARD_SCALE:
        yield f"reward_scale {CALIBRATED_REWARD_SCALE!r}"


def _metric(gate: Gate, policy: Policy) -> Meaning:
    within = gate.signs[0]
    bounds = [
        f"APPROVED {within} {gate.approve!r}{_setting(gate, policy, 0)}",
        f"REVIEW {within} {gate.review!r}{_setting(gate, policy, 1)}",
    ]
    bounds += [
        f"for {', '.join(each.symbols)}: {', '.join(_overridden(each.approve, each.review, gate))}"
        for each in policy.overrides
        if gate.metric in each.approve or gate.metric in each.review
    ]
    missing = {
        Missing.DROP: "a model without it is DROP",
        Missing.REVIEW: "a model without it is REVIEW",
        Missing.IGNORE: "a model without it is judged by the others",
    }[gate.missing]
    text = f"{gate.label[:1].upper()}{gate.label[1:]}: {gate.better.value} is better; {missing}."
    return Meaning(gate.metric, "metric", text, tuple(bounds), _where(gate))


def _overridden(approve: Mapping[str, float], review: Mapping[str, float], gate: Gate) -> Iterator[str]:
    for name, bounds in (("APPROVED", approve), ("REVIEW", review)):
        if gate.metric in bounds:
            yield f"{name} {gate.signs[0]} {bounds[gate.metric]!r}"


def _setting(gate: Gate, policy: Policy, which: int) -> str:
    """What the bound is called in the settings, in brackets."""
    if policy.name != DEFAULT_NAME:
        return f' ({("approve", "review")[which]} in [[policy.gate]] of "{policy.name}")'
    names = dict(zip(SEED_FLAGS, BOUND_NAMES, strict=True))
    return f" ({names[gate.metric][which]} in [gate])" if gate.metric in names else ""


def _where(gate: Gate) -> str:
    lists = f"`{gate.series}` in `metrics` or `validation_metrics`: the last of a list"
    return f"`{gate.argument}` beside the symbol, or {lists}"
