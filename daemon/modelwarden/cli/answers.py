"""What `--json` prints: the one shape of a run, of a model and of each answer, as schemas/answers.schema.json has them.

The rule: strict JSON, the same key for the same thing in every answer, times in ISO 8601; a key that is there keeps its
meaning as long as `schema_version` is 1. A run is called `run` wherever it is named.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import typer

from modelwarden.archive.record import TIMESTAMP_AHEAD
from modelwarden.gate.assessment import Assessment, PointAssessment
from modelwarden.gate.policy import Policy
from modelwarden.gate.run import RunRecord
from modelwarden.gate.wording import checkpoint_advice

SCHEMA_VERSION: Final = 1
"""Of every answer."""


def print_answer(**fields: object) -> None:
    """Print an answer: the version of its form, then its fields."""
    print_json({"schema_version": SCHEMA_VERSION, **fields})


def print_json(value: object) -> None:
    """Print strict JSON, indented."""
    typer.echo(_json(value))


def _json(value: object) -> str:
    from pydantic_core import to_json  # noqa: PLC0415 - a table does not wait for it

    return to_json(value, indent=2, inf_nan_mode="null").decode()


def print_answer_as_it_comes(name: str, values: Iterable[object]) -> None:
    """Print an answer with one list that may be long: each value is printed as it comes, and nothing before the first.

    Who fails to get that one has printed no half of a document.
    """
    head = f'{{\n  "schema_version": {SCHEMA_VERSION},\n  "{name}": ['
    before = f"{head}\n    "
    is_empty = True
    for value in values:
        text = _json(value).replace("\n", "\n    ")
        typer.echo(f"{before}{text}", nl=False)
        before = ",\n    "
        is_empty = False
    typer.echo(f"{head}]\n}}" if is_empty else "\n  ]\n}")


def run_json(run: RunRecord) -> dict[str, Any]:
    """A run without its models."""
    return {
        "run": run.timestamp,
        "timestamp": run.timestamp,
        "run_name": run.run_name,
        "archived_at": run.archived_at,
        "archived_by": run.archived_by,
        "daemon_id": run.daemon_id,
        "source": run.source.path,
        "source_size": run.source.size,
        "source_mtime": run.source.mtime,
        "sha256": run.sha256,
        "reward_scale": run.reward_scale,
        "policy": run.policy.id,
        "approved_count": run.approved_count,
        "review_count": run.review_count,
        "dropped_count": run.dropped_count,
        "remarks": [TIMESTAMP_AHEAD] if run.is_ahead else [],
        "format": run.format,
        "original": run.original,
        "supersedes": run.supersedes,
    }


def model_json(model: Assessment, policy: Policy) -> dict[str, Any]:
    """A model: what decides, without the bounds."""
    there = model.at_checkpoint
    return {
        "symbol": model.symbol,
        "classification": model.classification,
        "flags": model.flags,
        "remarks": model.remarks,
        "use_checkpoint": model.use_checkpoint,
        "best_idx": model.best_idx,
        "checkpoint_update": model.checkpoint_update,
        "last_checkpoint": model.last_checkpoint,
        "checkpoint_advice": str(checkpoint_advice(model, policy)) or None,
        "at_checkpoint": None
        if there is None
        else {"classification": there.classification, "metrics": _figures(there, policy)},
        "metrics": _figures(model, policy),
        "bands": dict(zip(policy.metrics, model.bands, strict=True)),
        "others": model.others,
        "reasons": model.reasons,
    }


def _figures(judged: Assessment | PointAssessment, policy: Policy) -> Mapping[str, float | None]:
    return dict(zip(policy.metrics, judged.values, strict=True))


def bounds_json(policy: Policy) -> dict[str, Any]:
    """What each metric is held against."""
    return {
        gate.metric: {"better": gate.better.value, "approve": gate.approve, "review": gate.review}
        for gate in policy.gates
    }


def course_json(course: Sequence[float]) -> list[float | None]:
    """A history: null if a point is missing."""
    return [point if math.isfinite(point) else None for point in course]
