"""What a person decided about a model of a run, and what is in force of all that was decided. Pure.

The rule: a decision is about the bytes that were judged: it says nothing of a run that has the same name and others. Of
several about one model the last one counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from modelwarden.gate.assessment import Assessment, Checkpoint, Classification


class Verb(StrEnum):
    """What is decided: the model may be deployed, it may not, or nothing is decided any more."""

    APPROVE = "approve"
    REJECT = "reject"
    WITHDRAW = "withdraw"


SAID: Final[Mapping[Verb, str]] = {
    Verb.APPROVE: "approved",
    Verb.REJECT: "rejected",
    Verb.WITHDRAW: "undecided again",
}
"""What a model is after it."""

REVIEWED: Final = "REVIEWED"
"""What a destination asks for that wants to hear of decisions."""


class Decision(NamedTuple):
    """One decision, as its file says it.

    Attributes:
        number: its place among all decisions of the archive, from 1.
        run: the run's name.
        sha256: of the summary that was judged.
        symbol: the model.
        verb: what was decided.
        override: whether a model in DROP was approved, which has to be asked for.
        reason: why, in the person's words.
        by: who.
        decided_at: when, ISO 8601 in UTC.
        host: where.
        daemon_id: the state file whose owner announces it.
        policy: the id of the policy that judged the run.
        classification: the class that the model was given.
        checkpoint: what may be deployed by an approval, if its number is known.
        previous: sha256 of the decision's file before this one, "" for the first.
    """

    number: int
    run: str
    sha256: str
    symbol: str
    verb: Verb
    override: bool
    reason: str
    by: str
    decided_at: str
    host: str
    daemon_id: str
    policy: str
    classification: Classification
    checkpoint: Checkpoint | None
    previous: str


def in_force(decisions: Iterable[Decision], sha256: str) -> Mapping[str, Decision]:
    """By symbol the decision that counts about the models of a run of these bytes; none if it was withdrawn."""
    last: dict[str, Decision] = {}
    for decision in sorted(decisions, key=lambda each: each.number):
        if decision.sha256 == sha256:
            last[decision.symbol] = decision
    return {symbol: each for symbol, each in last.items() if each.verb is not Verb.WITHDRAW}


def deployable(models: Sequence[Assessment], decided: Mapping[str, Decision]) -> list[Assessment]:
    """The models that may be deployed: those that the gate or a person approved, but for those a person rejected."""
    return [
        model
        for model in models
        if (
            decided[model.symbol].verb is Verb.APPROVE
            if model.symbol in decided
            else model.classification is Classification.APPROVED
        )
    ]
