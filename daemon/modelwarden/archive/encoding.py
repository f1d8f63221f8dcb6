"""What a run says of itself as bytes: model_assessments.json, and its line in index.json. Pure.

The rule: model_assessments.json holds all that the index and the catalog need, so both can be rebuilt from the
archive alone; what is written is strict JSON (figures that are not finite become null, with the reason in words).
Who only asks imports record.py alone, and does not wait for what writes.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from pydantic_core import to_json

from modelwarden.archive.model_line import model_lines
from modelwarden.archive.record import BEFORE_MODELS, OF_FORMATS, SCHEMA_VERSION, TIMESTAMP_AHEAD
from modelwarden.gate.assessment import Assessment
from modelwarden.gate.policy import Policy
from modelwarden.gate.run import RunRecord


def encode_assessments(run: RunRecord, assessments: Sequence[Assessment]) -> bytes:
    """model_assessments.json: the run's fields, then one line a model, so that grep and diff are of use."""
    head: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        **{name: value for name, value in run._asdict().items() if value is not None or name not in OF_FORMATS},
        "source": run.source._asdict(),
    }
    if run.is_ahead:
        head["remarks"] = [TIMESTAMP_AHEAD]
    fields = b",\n".join(
        b"  %s: %s" % (_json(name), _policy_json(run.policy) if name == "policy" else _json(value))
        for name, value in head.items()
    )
    models = b",\n    ".join(model_lines(assessments, run.policy))
    return b"{\n%s%s    %s\n  ]\n}\n" % (fields, BEFORE_MODELS, models)


@lru_cache(maxsize=64)
def _policy_json(policy: Policy) -> bytes:
    return _json(policy.as_json())


def encode_entry(run: RunRecord) -> bytes:
    """The run's line in index.json."""
    return _json(
        {
            "timestamp": run.timestamp,
            "run_name": run.run_name,
            "archived_at": run.archived_at,
            "source": run.source.path,
            "sha256": run.sha256,
            "models": run.models,
            "approved_count": run.approved_count,
            "review_count": run.review_count,
            "dropped_count": run.dropped_count,
            "policy": run.policy.id,
        }
    )


def _json(value: object) -> bytes:
    return to_json(value, inf_nan_mode="null")
