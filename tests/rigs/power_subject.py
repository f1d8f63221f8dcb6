"""The process whose power is cut: it archives step by step as the daemon does, and notes when it claimed what.

The rule: what is claimed is noted when the product's call has returned, with how much of the disk's log was written by
then; it must survive every power cut behind that place. Between two steps a person may give commands, which are the
command line's own.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Final
from unittest.mock import patch

import typer.main

from modelwarden.__main__ import command_line
from modelwarden.archive.decisions import read_all
from modelwarden.archive.outcomes import Archived, Rejected
from modelwarden.archive.publishing import Archive, Changes, Committed, Staged
from modelwarden.config import load_settings
from modelwarden.fingerprint import Fingerprint
from modelwarden.pipeline import crew
from modelwarden.pipeline.walk import Found, Pipeline
from modelwarden.pipeline.workers import Workers
from modelwarden.wiring.pipeline import open_pipeline
from processes import index_of
from summaries import encoded, random_summary


@dataclass(frozen=True)
class Step:
    """One batch.

    Attributes:
        count: summaries in it.
        models: in each of them; many make files of many blocks, few make such as btrfs keeps beside their names.
        rejected: whether it is one file that is no summary instead.
        starts: whether the service is started anew before it.
        command: what a person does instead, while the service is down: "review" or "prune".
    """

    count: int = 0
    models: int = 3
    rejected: bool = False
    starts: bool = False
    command: str = ""

    def sources(self, number: int) -> list[bytes]:
        """The files that a trainer left for it, each unlike all others."""
        if self.rejected:
            return [encoded({"models": [], "note": number})]
        return [
            encoded(random_summary(1000 * number + place, models=self.models, points=4)) for place in range(self.count)
        ]


WORKLOADS: Final[Mapping[str, Sequence[Step]]] = {
    # Each commit behind the second writes the tail of the index's spare and swaps it in.
    "alone": [
        Step(1),
        Step(1, models=60),
        Step(1),
        Step(1, rejected=True),
        Step(3, models=30),
        Step(1, starts=True),
        Step(1, models=60),
        Step(1),
    ],
    # Groups staged by workers, each with a commit of its own; an index of several blocks.
    # What people decided and removed, and runs between.
    "people": [
        Step(4),
        Step(command="review"),
        Step(1, starts=True),
        Step(command="review"),
        Step(command="prune"),
        Step(2, starts=True),
        Step(command="review"),
        Step(command="prune"),
        Step(1, starts=True),
    ],
    "backlog": [Step(40), Step(1), Step(3, models=30), Step(1), Step(1, rejected=True), Step(1, starts=True), Step(1)],
}

SMALL_GROUP: Final = 12
"""Summaries in a group here, so that a batch that is quick to check is a backlog."""


@dataclass(frozen=True)
class Note:
    """What the subject knew at a moment.

    Attributes:
        at: how long the disk's log was.
        step: the number of the step under way.
        there: the runs that the archive has from here on, sha256 by name; none where the step is about to begin.
        listed: those that are in index.json from here on.
        rejected: the identities of what was rejected.
        index: the inode of index.json once the step is done, else 0.
        going: the runs that may go from here on, sha256 by name.
        gone: those that are gone from here on.
        decided: the sha256 of the decisions' files that are there from here on.
    """

    at: int
    step: int
    there: Mapping[str, str]
    listed: Mapping[str, str]
    rejected: Sequence[str]
    index: int
    going: Mapping[str, str]
    gone: Sequence[str]
    decided: Sequence[str]


def notes_of(path: Path) -> list[Note]:
    """What the subject noted, in order."""
    return [Note(**json.loads(line)) for line in path.read_text().splitlines()]


def source(folder: Path, step: int, place: int) -> Path:
    """Where a trainer left a summary."""
    return folder / f"{step:02d}-{place:02d}.json"


def found(path: Path) -> Found:
    """A source as the daemon reads it."""
    return Found(str(path), path.read_bytes(), Fingerprint.of(path.stat()))


class _Notes:
    """Where the subject writes what it claims.

    Args:
        path: the file; not on the disk whose power is cut.
        log: the disk's.
    """

    def __init__(self, path: Path, log: Path) -> None:
        self._path = path
        self._log = log
        self.step = 0

    def add(
        self,
        there: Mapping[str, str],
        listed: Mapping[str, str] | None = None,
        rejected: Sequence[str] = (),
        index: int = 0,
        *,
        going: Mapping[str, str] | None = None,
        gone: Sequence[str] = (),
        decided: Sequence[str] = (),
    ) -> None:
        """Note a claim, as of now."""
        at = self._log.stat().st_size
        note = Note(at, self.step, there, listed or {}, rejected, index, going or {}, gone, decided)
        with self._path.open("a") as stream:
            stream.write(json.dumps(asdict(note)) + "\n")


def _note_commits(archive: Archive, notes: _Notes) -> None:
    """Have noted what a commit claims: runs are there once the archive was synced, in the index once it returns."""
    commit, sync = archive.commit, archive.tree.sync
    under_way: dict[str, str] = {}

    def noted_sync() -> None:
        sync()
        if under_way:
            there = {name: digest for name, digest in under_way.items() if os.path.isdir(archive.tree.path_of(name))}
            notes.add(there)

    def noted_commit(batch: Sequence[Staged]) -> tuple[list[Committed], Changes]:
        under_way.update((staged.run.timestamp, staged.run.sha256) for staged in batch)
        outcomes, changes = commit(batch)
        under_way.clear()
        runs = {each.run.timestamp: each.run.sha256 for each in outcomes if isinstance(each, Archived)}
        notes.add(runs, runs)
        return outcomes, changes

    archive.commit = noted_commit  # type: ignore[method-assign]
    archive.tree.sync = noted_sync  # type: ignore[method-assign]


def _take(pipeline: Pipeline, step: Step, folder: Path, notes: _Notes) -> None:
    notes.add({})
    runs: dict[str, str] = {}
    rejected: list[str] = []
    batch = [found(source(folder, notes.step, place)) for place in range(step.count)]
    for each, outcome in zip(batch, pipeline.process(batch, final=True), strict=True):
        match outcome:
            case Archived(run):
                runs[run.timestamp] = run.sha256
            case Rejected():
                rejected.append(hashlib.sha256(each.data).hexdigest()[:16])
            case _:
                raise AssertionError(f"step {notes.step}: {outcome}")
    notes.add(runs, runs, rejected, os.stat(os.path.join(pipeline.archive.root, "index.json")).st_ino)


KEPT: Final = 2
"""Runs that are kept where a person prunes."""


def _command(config: str, archive: Path, kind: str, notes: _Notes) -> None:
    """Let a person decide about a model of the oldest run, or remove all runs but the youngest."""
    runs = {run["timestamp"]: run["sha256"] for run in index_of(archive)}
    if kind == "review":
        notes.add({})
        symbol = f"SYM{len(read_all(str(archive))):03d}"
        words = ["review", min(runs), symbol, "--reject", "--reason", "seen", "--by", "me"]
    else:
        notes.add({}, going={name: runs[name] for name in sorted(runs)[:-KEPT]})
        words = ["prune", "--keep-last", str(KEPT)]
    with redirect_stdout(StringIO()):
        code = typer.main.get_command(command_line(words)).main([*words, "--config", config], standalone_mode=False)
    assert not code, f"{words} ended with {code}"
    decided = [each.digest for each in read_all(str(archive))]
    notes.add({}, gone=sorted(runs.keys() - {run["timestamp"] for run in index_of(archive)}), decided=decided)


def main(config: str, workload: str, folder: Path, notes: _Notes) -> None:
    """Take all steps of a workload."""
    with patch.multiple(crew, GROUP=SMALL_GROUP, BACKLOG=2 * SMALL_GROUP):  # fails if there are none of these names
        _take_all(config, workload, folder, notes)


def _take_all(config: str, workload: str, folder: Path, notes: _Notes) -> None:
    settings, _ = load_settings(config)
    steps = list(enumerate(WORKLOADS[workload]))
    starts = [number for number, step in steps if number == 0 or step.starts or step.command]
    for begin, end in zip(starts, [*starts[1:], len(steps)], strict=True):
        if steps[begin][1].command:
            notes.step = begin
            _command(config, Path(settings.archive_dir), steps[begin][1].command, notes)
            continue
        with closing(Workers(2)) as workers, open_pipeline(settings, announces=True, workers=workers) as pipeline:
            _note_commits(pipeline.archive, notes)
            pipeline.upkeep.recover()
            for number, step in steps[begin:end]:
                notes.step = number
                _take(pipeline, step, folder, notes)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), _Notes(Path(sys.argv[5]), Path(sys.argv[4])))
