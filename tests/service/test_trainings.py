"""Trainers' files on their way: what changes while it is read is read again, and is neither a run nor rejected."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from changing import once_read
from modelwarden.errors import RejectSummary
from modelwarden.fingerprint import Fingerprint
from modelwarden.formats.description import Format
from modelwarden.formats.finality import parse_condition
from modelwarden.formats.readers import members_of
from modelwarden.gate.policy import Policy
from modelwarden.gate.thresholds import ModelGatingConfig
from modelwarden.intake.reading import Whole, read_whole
from modelwarden.intake.settling import Settling
from modelwarden.pipeline.policies import JudgedFolder, Policies
from modelwarden.pipeline.walk import Found
from modelwarden.service.endings import Endings
from modelwarden.service.trainings import Trainings
from processes import until

PROGRAM = "{models: [{symbol: stem, metrics: {fitness_score: .x}}], complete: true}"
MANY = Format("many", "Many", ("*.json",), "json", PROGRAM)
BESIDE = Format(
    "beside",
    "Beside",
    ("log.json",),
    "zip",
    '{models: [{symbol: "m", metrics: {fitness_score: .["log.json"].x}}], complete: true}',
    together=("*.yaml",),
)
QUIET = 0.3


@dataclass
class Host:
    """A folder, and what looks at its files."""

    folder: JudgedFolder
    settling: Settling
    trainings: Trainings
    rejected: list[RejectSummary] = field(default_factory=list)

    def see(self, *paths: Path) -> None:
        """As a scan does."""
        for path in paths:
            self.settling.seen(str(path), Fingerprint.of(os.lstat(path)), hinted=True, now=time.monotonic())

    def turn(self) -> Sequence[Found]:
        """As the main loop does."""
        for path in self.settling.due(time.monotonic(), 10):
            self.trainings.take(path, self.folder)
        made = self.trainings.go_on()
        self.trainings.see_late()
        return made

    def made(self) -> Found:
        """The run that comes of the files."""
        [found] = until(self.turn, "a run")
        return found


@contextmanager
def host(folder: Path, format_: Format, final: str, group: str = "") -> Iterator[Host]:
    """A host whose rejected files are kept."""
    settling = Settling(0.05, 0.0)  # what does not parse is given up at once
    judged = JudgedFolder(str(folder), format_.names, "p", format_, (parse_condition(final),), group=group)
    policy = Policy.from_config(ModelGatingConfig())
    policies = Policies(policy, (Policy(policy.gates, name="p"),), (judged,))
    rejected: list[RejectSummary] = []

    def read(path: str) -> Found:
        reading = read_whole(path, 10_000)
        assert isinstance(reading, Whole)
        return Found(path, reading.data, reading.fingerprint)

    trainings = Trainings(
        settling,
        Endings(settling, 0.05),
        policies,
        read,
        lambda _, error: rejected.append(error),
        lambda _path, _fingerprint: False,
        lambda: None,
        10_000,
    )
    try:
        yield Host(judged, settling, trainings, rejected)
    finally:
        trainings.close()


@pytest.mark.parametrize("final", [f"quiet:{QUIET}s", f"complete and quiet:{QUIET}s"])
def test_group_that_changes_while_it_is_read_is_read_again(
    final: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for its quiet once more; the run has the bytes that all files had at once, and nothing is rejected."""
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    for path in (first, second):
        path.write_bytes(b'{"x": 1}')
    changed_at: list[float] = []

    def write() -> None:
        for path in (first, second):
            path.write_bytes(b'{"x": 2}')
        changed_at.append(time.time())

    was_changed = once_read(monkeypatch, "groups", first, write)
    with host(tmp_path, MANY, final, group=".") as here:
        here.see(first, second)
        found = here.made()
    assert was_changed()
    assert dict(members_of(found.data)) == {"a.json": b'{"x": 2}', "b.json": b'{"x": 2}'}
    assert dict(found.members) == {str(path): Fingerprint.of(os.lstat(path)) for path in (first, second)}
    assert time.time() - changed_at[0] >= QUIET
    assert here.rejected == []


def test_file_beside_a_log_that_changes_while_they_are_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are one run as well."""
    log, first, second = tmp_path / "log.json", tmp_path / "a.yaml", tmp_path / "b.yaml"
    log.write_bytes(b'{"x": 1}')
    for path in (first, second):
        path.write_bytes(b"x: 1\n")

    def write() -> None:
        for path in (first, second):
            path.write_bytes(b"x: 2\n")

    was_changed = once_read(monkeypatch, "trainers", first, write)
    with host(tmp_path, BESIDE, "complete") as here:
        here.see(log)
        found = here.made()
    assert was_changed()
    files = {"log.json": b'{"x": 1}', "a.yaml": b"x: 2\n", "b.yaml": b"x: 2\n"}
    assert dict(members_of(found.data)) == files
    assert here.rejected == []


def test_log_that_changes_while_what_lies_beside_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own bytes were read first."""
    log, beside = tmp_path / "log.json", tmp_path / "a.yaml"
    log.write_bytes(b'{"x": 1}')
    beside.write_bytes(b"x: 1\n")
    was_changed = once_read(monkeypatch, "trainers", beside, lambda: log.write_bytes(b'{"x": 2}'))
    with host(tmp_path, BESIDE, "complete") as here:
        here.see(log)
        found = here.made()
    assert was_changed()
    assert dict(members_of(found.data))["log.json"] == b'{"x": 2}'
    assert here.rejected == []
