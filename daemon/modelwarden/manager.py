"""The Python API of the training notes: `TrainingArchiveManager`, over the same parts as the daemon.

The rule: a summary handed over here takes the same walk as one found in a folder; there is no second way into the
archive.
"""

import json
import os
import socket
import time
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self

from modelwarden.archive.outcomes import AlreadyArchived, Archived, Postponed, Pruned, Rejected, Unfinished
from modelwarden.archive.publishing import Archive
from modelwarden.filesystems import insist_on_owner
from modelwarden.gate.assessment import Assessment, Checkpoint, Classification, Remark, finite_or_none
from modelwarden.gate.deployment import choose_checkpoint
from modelwarden.gate.policy import Policy
from modelwarden.gate.run import RunRecord
from modelwarden.gate.thresholds import ModelGatingConfig
from modelwarden.gate.wording import peak_note
from modelwarden.pipeline.policies import Policies
from modelwarden.pipeline.walk import Found, Pipeline
from modelwarden.questions import Questions
from modelwarden.state.database import Database

API_OWNER: Final = "api"
"""The `daemon_id` of a run that was archived by a call: no daemon announces it, since the caller has the result."""


@dataclass(frozen=True, slots=True)
class ArchivedRun:
    """What `archive_training_run` returns.

    Attributes:
        timestamp: the run's name in the archive, `YYYYMMDD_HHMMSS` with `_2`... if two collide.
        approved_count: models that may be deployed.
        review_count: models that a person decides on.
        dropped_count: models that must not be deployed.
        path: the run's folder.
    """

    timestamp: str
    approved_count: int
    review_count: int
    dropped_count: int
    path: str


@dataclass(frozen=True, slots=True)
class SymbolAssessment:
    """One symbol's assessment in one run, as `get_symbol_history` lists them.

    Attributes:
        timestamp: the run's name.
        symbol: the model's name.
        classification: APPROVED, REVIEW or DROP; compares equal to its name.
        flags: see gate.assessment.Flag.
        use_checkpoint: whether an earlier checkpoint is recommended.
        best_idx: index of the peak of the fitness history, or None.
        checkpoint_update: the checkpoint at that peak, if it is known.
        metrics: the final figure by metric, one a gate of the run's policy; None if missing or not a number.
        reasons: sentences that name the figures which decided.
        remarks: what changes nothing and should be known; see gate.assessment.Remark.
        at_checkpoint: the class that the figures at the recommended checkpoint come to; None if none is recommended,
            or if those figures are not known.
    """

    timestamp: str
    symbol: str
    classification: Classification
    flags: tuple[str, ...]
    use_checkpoint: bool
    best_idx: int | None
    checkpoint_update: Checkpoint | None
    metrics: Mapping[str, float | None]
    reasons: tuple[str, ...]
    remarks: tuple[Remark, ...] = ()
    at_checkpoint: Classification | None = None


@dataclass(frozen=True, slots=True)
class ApprovedModel:
    """An approved model and its checkpoint to deploy, as `get_approved_checkpoints` lists them.

    Attributes:
        symbol: the model's name.
        checkpoint: its number, or the trainer's id; None if the summary does not let it be known.
        point: which validation point it is of, the first being 1; None if that is not known.
        is_last: whether it is the last of the training. It is, unless an earlier one is recommended whose own figures
            are APPROVED.
        remark: what is to be known of the checkpoint at the peak of a model that declined, else "".
        reviewed_by: who approved it, if a person did and was asked for; None if the gate alone says so.
    """

    symbol: str
    checkpoint: Checkpoint | None
    point: int | None
    is_last: bool
    remark: str
    reviewed_by: str | None = None


class TrainingArchiveManager:
    """An archive, to put runs into and to ask questions of.

    Args:
        archive_dir: the archive; made if missing.
        config: thresholds of the default policy; the calibrated ones if None.
        state_dir: where the catalog is kept; `.state` in the archive if None.
        policy: what judges instead of the default policy.

    Raises:
        TypeError: both a config and a policy are given.
        StopService: the state file can't be used, or root would write to what is another's.
        RetryLater: the archive is locked by another process for too long, or the disk refused.
    """

    def __init__(
        self,
        archive_dir: str | os.PathLike[str] = "training_archives",
        config: ModelGatingConfig | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        *,
        policy: Policy | None = None,
    ) -> None:
        if config is not None and policy is not None:
            raise TypeError("give a config, which makes the default policy, or a policy: not both")
        root = os.path.abspath(archive_dir)
        state = os.path.join(root, ".state") if state_dir is None else os.path.abspath(state_dir)
        insist_on_owner(root, state)
        held = ExitStack()
        self._give_back = weakref.finalize(self, held.close)
        database = Database(state, datetime.now(UTC).isoformat(timespec="seconds"))
        held.callback(database.close)
        self._archive = Archive(root, database.daemon_id)
        held.callback(self._archive.close)
        self._pipeline = Pipeline(
            self._archive,
            database,
            Policies(policy or Policy.from_config(config)),
            routes=None,
            owner=API_OWNER,
            host=socket.gethostname(),
            clock=time.time,
            deadline_seconds=0.0,
        )
        held.callback(self._pipeline.close)
        self._pipeline.upkeep.recover()
        self._questions = Questions(root, database)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the state file and the staging folder back. Also happens when the object is no longer used."""
        self._give_back()

    def archive_training_run(self, summary: Mapping[str, Any]) -> ArchivedRun:
        """Judge a training run and archive it. The same summary again returns the run that it is already.

        Args:
            summary: the run as a trainer would write it to a file, in either layout. Numbers of numeric libraries
                are taken as numbers.

        Raises:
            RejectSummary: it is not a summary; the message names the place.
            RetryLater: the lock or the disk is in the way; nothing is half done.
            TypeError: it holds something that JSON can't.
        """
        data = json.dumps(summary, ensure_ascii=False, default=_plain).encode("utf-8", "surrogatepass")
        (outcome,) = self._pipeline.process([Found("", data, None)], final=True, on_purpose=True)
        match outcome:
            case Archived(run):
                return self._archived(run)
            case AlreadyArchived(name) | Pruned(name):
                return self._archived(self._archive.read(name)[0])
            case Rejected(error) | Unfinished(error):
                raise error
            case Postponed(error):
                raise error

    def get_approved_models(self, timestamp: str | None = None, *, reviewed: bool = False) -> list[str]:
        """The symbols that a run approved, in the summary's order; the run that was archived last if none is named.

        Args:
            timestamp: the run's name.
            reviewed: whether what people decided counts: with those that they approved, without those they rejected.

        Raises:
            UnknownRun: the archive has no such run, or none at all; or a decision's file is damaged.
        """
        return [each.symbol for each in self.get_approved_checkpoints(timestamp, reviewed=reviewed)]

    def get_approved_checkpoints(self, timestamp: str | None = None, *, reviewed: bool = False) -> list[ApprovedModel]:
        """The same models, each with its checkpoint to deploy.

        Args:
            timestamp: the run's name.
            reviewed: as for `get_approved_models`.

        Raises:
            UnknownRun: the archive has no such run, or none at all; or a decision's file is damaged.
        """
        run = self._questions.run(timestamp, time.time())
        decided = self._questions.decided(run.record) if reviewed else {}
        return [
            ApprovedModel(
                model.symbol,
                *choose_checkpoint(model),
                peak_note(model, run.record.policy),
                decided[model.symbol].by if model.symbol in decided else None,
            )
            for model in run.deployable(decided)
        ]

    def get_symbol_history(self, symbol: str) -> list[SymbolAssessment]:
        """A symbol's assessments over all runs, oldest first; empty for a symbol that no run has."""
        return [_symbol_assessment(*each) for each in self._questions.history(symbol)]

    def _archived(self, run: RunRecord) -> ArchivedRun:
        return ArchivedRun(
            run.timestamp,
            run.approved_count,
            run.review_count,
            run.dropped_count,
            self._archive.tree.path_of(run.timestamp),
        )


def _symbol_assessment(name: str, assessment: Assessment, policy: Policy) -> SymbolAssessment:
    return SymbolAssessment(
        timestamp=name,
        symbol=assessment.symbol,
        classification=assessment.classification,
        flags=assessment.flags,
        use_checkpoint=assessment.use_checkpoint,
        best_idx=assessment.best_idx,
        checkpoint_update=assessment.checkpoint_update,
        metrics=dict(zip(policy.metrics, map(finite_or_none, assessment.values), strict=True)),
        reasons=assessment.reasons,
        remarks=assessment.remarks,
        at_checkpoint=None if assessment.at_checkpoint is None else assessment.at_checkpoint.classification,
    )


def _plain(value: object) -> object:
    """A mapping as a dict, a numeric library's scalar or array as plain numbers."""
    if isinstance(value, Mapping):
        return dict(value)
    for conversion in ("tolist", "item"):
        method = getattr(value, conversion, None)
        if callable(method):
            plain: object = method()
            return plain
    raise TypeError(f"a summary can't hold {type(value).__name__}: JSON has no such thing")
