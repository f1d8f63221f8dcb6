"""What the benchmark feeds: summaries of 50 models, the bytes they become, and archives that have grown already."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from modelwarden.archive.encoding import encode_entry
from modelwarden.archive.index import Index
from modelwarden.gate.assessment import Assessment
from modelwarden.gate.gating import assess_summary
from modelwarden.gate.policy import Policy
from modelwarden.gate.run import RunRecord, Source, class_counts
from modelwarden.gate.summary import parse_summary
from modelwarden.pipeline.staging import run_files
from modelwarden.state.cataloguing import WritableCatalog
from modelwarden.state.database import Database
from modelwarden.state.rows import model_rows
from summaries import encoded, random_summary

TEMPLATES = 200
"""Distinct summaries that a grown archive is made of; each run has its own name, time and hash."""

_FIRST = datetime(2001, 1, 1, tzinfo=UTC)


def summary_bytes(seed: int, *, models: int = 50, year: int = 2024) -> bytes:
    """A summary whose timestamp follows from the seed; by default it is later than every grown archive's.

    And past: a run that is dated ahead costs a line in the log and an event more.
    """
    moment = datetime(year, 1, 1, tzinfo=UTC) + timedelta(seconds=seed)
    return encoded(random_summary(seed, models=models) | {"timestamp": f"{moment:%Y%m%d_%H%M%S}"})


def published_files(data: bytes) -> Mapping[str, bytes]:
    """The three files that a summary becomes."""
    record, assessments = _judged(data, Policy.from_config())
    return run_files(record, data, assessments)


def grow_whole_archive(archive: Path, runs: int) -> None:
    """The same of runs that are whole, each of its own bytes: what `verify` and `reindex` read."""
    archive.mkdir(parents=True)
    policy = Policy.from_config()
    with _tables(archive) as (catalog, index):
        for seed in range(runs):
            data = summary_bytes(seed, year=2001)
            record, assessments = _judged(data, policy)
            record = record._replace(sha256=sha256(data).hexdigest())
            folder = archive / record.timestamp
            folder.mkdir()
            for file, content in run_files(record, data, assessments).items():
                (folder / file).write_bytes(content)
            _enter(catalog, index, record, assessments)


def grow_archive(archive: Path, runs: int) -> None:
    """Make an archive, its index and its catalog of so many runs of 50 models. Not synced: it is scenery.

    The folders are scenery too: their files are not what the index and the catalog say of them.
    """
    archive.mkdir(parents=True)
    policy = Policy.from_config()
    templates = [_judged(encoded(random_summary(seed)), policy) for seed in range(TEMPLATES)]
    links = archive / ".links"
    links.mkdir()
    for number, (record, assessments) in enumerate(templates):
        for file, data in run_files(record, b"{}", assessments).items():
            (links / f"{number}-{file}").write_bytes(data)
    with _tables(archive) as (catalog, index):
        for record, assessments, template in _runs(runs, templates):
            folder = archive / record.timestamp
            folder.mkdir()
            for file in ("summary.json", "model_assessments.json", "recommendations.md"):
                _link(links / f"{template}-{file}", folder / file)
            _enter(catalog, index, record, assessments)


@contextmanager
def _tables(archive: Path) -> Iterator[tuple[WritableCatalog, Index]]:
    """The archive's catalog and index, written at the end."""
    database = Database(str(archive / ".state"), "2000-01-01T00:00:00Z")
    database.connection.execute("PRAGMA synchronous = OFF")
    index = Index(str(archive), str(archive / ".spare"))
    with database.transaction():
        yield WritableCatalog(database), index
    index.write()
    index.close()
    database.close()


def _enter(catalog: WritableCatalog, index: Index, record: RunRecord, assessments: list[Assessment]) -> None:
    catalog.add(record, model_rows(assessments), announced=True)
    index.add(record.timestamp, record.sha256, encode_entry(record))


def _runs(
    runs: int, templates: list[tuple[RunRecord, list[Assessment]]]
) -> Iterator[tuple[RunRecord, list[Assessment], int]]:
    for number in range(runs):
        record, assessments = templates[number % TEMPLATES]
        moment = _FIRST + timedelta(seconds=number)
        record = record._replace(timestamp=f"{moment:%Y%m%d_%H%M%S}", sha256=f"{number:064x}")
        yield record, assessments, number % TEMPLATES


def _link(template: Path, target: Path) -> None:
    """A hard link: the run's files are never read by what is measured, and 100,000 real ones are 8 GB."""
    try:
        os.link(template, target)
    except OSError:  # the file system's limit of links
        target.write_bytes(template.read_bytes())


def _judged(data: bytes, policy: Policy) -> tuple[RunRecord, list[Assessment]]:
    summary = parse_summary(data)
    assessments = assess_summary(summary, policy)
    record = RunRecord(
        timestamp=summary.timestamp or "20000101_000000",
        run_name=summary.run_name,
        archived_at="2026-01-01T00:00:00.000000Z",
        archived_by="bench",
        daemon_id="00000000",
        source=Source("/srv/training_output/training_summary.json", len(data), "2026-01-01T00:00:00.000000Z"),
        sha256="0" * 64,
        reward_scale=summary.reward_scale,
        policy=policy,
        **class_counts(assessments),
    )
    return record, assessments
