"""A policy fitted to a format: what is known of the format's metrics goes into the policy's rows. Pure.

The rule: a bound of the policy is never changed. What is added only closes what was open: a domain, and a gate for
figures that must be finite and are not, so that a diverged run is approved on nothing.
"""

from collections.abc import Iterator
from dataclasses import replace

from modelwarden.formats.description import Format
from modelwarden.formats.normalising import DIVERGED
from modelwarden.gate.gates import LARGEST_FIGURE, Better, Gate, Missing
from modelwarden.gate.policy import Policy

FLAG = "DIVERGED"


def fitted(policy: Policy, format_: Format) -> Policy:
    """The policy that judges the format's files."""
    gates = [_closed(gate, format_) for gate in policy.gates]
    if any(rule.sound for rule in format_.metrics) and DIVERGED not in policy.metrics:
        gates.append(
            Gate(
                metric=DIVERGED,
                approve=0.0,
                review=0.0,
                better=Better.LOWER,
                label="diverged figures",
                missing=Missing.IGNORE,
                flag=FLAG,
            )
        )
    return replace(policy, gates=tuple(gates), recorded=True)


def _closed(gate: Gate, format_: Format) -> Gate:
    rule = format_.rule_of(gate.metric)
    if rule is None:
        return gate
    return replace(
        gate,
        least=rule.least if gate.least == -LARGEST_FIGURE else gate.least,
        most=rule.most if gate.most == LARGEST_FIGURE else gate.most,
    )


def disagreements(policy: Policy, format_: Format) -> Iterator[tuple[int | None, str]]:
    """Where a policy takes a metric to improve the other way than it does: its gate's place, or None: the history's."""
    for at, gate in enumerate(policy.gates):
        rule = format_.rule_of(gate.metric)
        if rule is not None and rule.better is not None and rule.better is not gate.better:
            yield at, f"{gate.metric} of {format_.name} is better {rule.better}, and this gate says {gate.better}"
    if policy.history is None or policy.history_position is not None:
        return
    rule = format_.rule_of(policy.history)
    if rule is not None and rule.better is not None and rule.better is not policy.history_better:
        yield None, f'{policy.history} of {format_.name} is better {rule.better}: say better = "{rule.better}"'
