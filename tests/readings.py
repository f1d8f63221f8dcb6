"""Metrics for tests: a quiet daemon's readings, a run that is only counted, and a parser of what was told."""

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from modelwarden.gate.policy import Policy
from modelwarden.gate.run import RunRecord, Source
from modelwarden.gate.thresholds import ModelGatingConfig
from modelwarden.service.metrics import Readings
from modelwarden.state.reading import Messages

QUIET = Readings(
    waiting=0,
    unseen=0,
    is_watching=True,
    has_archive=True,
    runs=0,
    losses=0,
    overflows=0,
    last_archived=None,
    messages=Messages(0, 0, None),
    rooms={},
)


def run_of(approved: int, review: int, dropped: int) -> RunRecord:
    """A run with so many models a class."""
    return RunRecord(
        timestamp="20241224_153000",
        run_name=None,
        archived_at="2024-12-24T15:30:00.000000Z",
        archived_by="host",
        daemon_id="00000000",
        source=Source("", 0, None),
        sha256="",
        reward_scale=None,
        policy=Policy.from_config(ModelGatingConfig()),
        approved_count=approved,
        review_count=review,
        dropped_count=dropped,
    )


def samples(text: str, archive: str, process: str) -> Mapping[tuple[str, ...], float]:
    """Each sample by its name without the prefix and its labels' values, but for the two that all have."""
    found = {}
    for family in text_string_to_metric_families(text):
        for name, labels, value, *_ in family.samples:
            assert name.startswith("modelwarden_")
            assert (labels.pop("archive"), labels.pop("process")) == (archive, process)
            found[name.removeprefix("modelwarden_"), *labels.values()] = value
    return found
