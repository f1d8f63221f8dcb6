"""Which checkpoint of an approved model goes to production.

The rule: only what was judged. An earlier checkpoint stands in for the last one if its own figures are APPROVED, and
for no other reason.
"""

from typing import NamedTuple

from modelwarden.gate.assessment import NOT_KEPT, Assessment, Checkpoint, Classification


class Choice(NamedTuple):
    """The checkpoint of an approved model that may be deployed.

    Attributes:
        checkpoint: its number or id, None if the summary does not let it be known.
        point: which validation point it is of, the first being 1; None if that is not known.
        is_last: whether it is the last one of the training.
    """

    checkpoint: Checkpoint | None
    point: int | None
    is_last: bool

    def __str__(self) -> str:
        """One word or two, also if the number is not known: `150`, `best.pt`, `last`, `point 3`."""
        if self.checkpoint is not None:
            return str(self.checkpoint)
        return "last" if self.is_last else f"point {self.point}"


def choose_checkpoint(assessment: Assessment) -> Choice:
    """What to deploy of an approved model.

    The checkpoint at the peak if FITNESS_DECLINE recommends it and its figures are APPROVED. Else the last: that is
    what made the model APPROVED, whereas of the other nobody knows it, or knows better.
    """
    if advises_checkpoint(assessment) and assessment.at_checkpoint is not None:
        return Choice(assessment.checkpoint_update, (assessment.best_idx or 0) + 1, is_last=False)
    last = assessment.last_checkpoint
    return Choice(None if last == NOT_KEPT else last, assessment.points or None, is_last=True)


def advises_checkpoint(assessment: Assessment) -> bool:
    """Whether a person is told to use the checkpoint at the peak instead of the last.

    Not for a model that is DROP, not for a point whose figures are known and not APPROVED, not if there is nothing
    before the last, and not for a checkpoint that is not there. If the other figures there are not known, the advice
    stands, and says so.
    """
    there = assessment.at_checkpoint
    return (
        assessment.use_checkpoint
        and assessment.classification is not Classification.DROP
        and (there is None or there.classification is Classification.APPROVED)
        and assessment.checkpoint_update != NOT_KEPT
        and not peaks_at_last(assessment)
    )


def peaks_at_last(assessment: Assessment) -> bool:
    """Whether the checkpoint at the peak is the last one, by its place in the history or by its name.

    A trainer may list one id for several points: of "best", "best" the first is the last.
    """
    checkpoint, last = assessment.checkpoint_update, assessment.last_checkpoint
    if assessment.points is not None and assessment.best_idx == assessment.points - 1:
        return True
    return checkpoint not in {None, NOT_KEPT} and last is not None and str(checkpoint) == str(last)
