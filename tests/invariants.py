"""What must hold of every archive, whatever happened to the processes that made it."""

import hashlib
import json
import re
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from modelwarden.archive.publishing import Archive
from processes import Site, modelwarden, outbox_of

RUN_FILES = {"summary.json", "model_assessments.json", "recommendations.md"}
OWN_FILES = {"index.json", ".index.lock", ".index.written", ".archive.json"}
"""The files beside the runs."""
NOT_CONTENT = {".state", ".index.lock", ".index.written"}
"""What a start may touch without having changed anything."""


def sha256(data: bytes) -> str:
    """The identity of a summary."""
    return hashlib.sha256(data).hexdigest()


def assert_archive_whole(archive: Path, expected: Iterable[bytes] | None = None) -> list[dict[str, Any]]:
    """Every run complete, none twice, the index exactly the runs, and exactly the expected bytes; return the entries.

    Args:
        archive: the archive directory; its daemon may be running.
        expected: the bytes of every summary that is to be in it; None where that can't be known.
    """
    folders = sorted(entry for entry in archive.iterdir() if re.fullmatch(r"\d{8}_\d{6}(_\d+)?", entry.name))
    found = [assert_run_whole(folder) for folder in folders]
    assert len(set(found)) == len(found), "the same bytes are archived twice"

    index = (archive / "index.json").read_bytes()
    entries: list[dict[str, Any]] = json.loads(index, parse_constant=_refuse)["runs"]
    assert sorted(entry["timestamp"] for entry in entries) == [folder.name for folder in folders]
    in_index = {entry["timestamp"]: entry["sha256"] for entry in entries}
    assert in_index == {folder.name: digest for folder, digest in zip(folders, found, strict=True)}
    assert index == _reindexed(archive), "index.json is not what `reindex` writes"

    if expected is not None:
        assert sorted(found) == sorted(sha256(data) for data in expected)
    return entries


def assert_nothing_half_made(archive: Path) -> None:
    """No staged run, no temporary, no marker: for an archive whose daemons have all stopped."""
    left = [path for path in (archive / ".staging").rglob("*") if path.is_file()]
    left += [path for path in archive.iterdir() if path.is_file() and path.name not in OWN_FILES]
    assert left == []


def assert_second_start_changes_nothing(site: Site) -> None:
    """One more start, and a `reindex`, find nothing to do: archive, outbox and sources stay byte for byte."""
    before = contents(site.archive), outbox_of(site.state), snapshot(site.out)
    for command in (("run", "--once", "--no-courier"), ("reindex",)):
        result = modelwarden(*command, "--config", site.config)
        assert result.returncode == 0, result.stderr
    assert (contents(site.archive), outbox_of(site.state), snapshot(site.out)) == before


def assert_owed_once(site: Site, destination: str, expected: Iterable[bytes]) -> None:
    """Each run is owed to the destination exactly once."""
    owed = [row["event"] for row in outbox_of(site.state) if row["destination"] == destination]
    assert sorted(owed) == sorted(f"run:{sha256(data)[:16]}" for data in expected)


def snapshot(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Every file below the folder: mode, modification time in ns, digest. The state and the lock are left out."""
    files: dict[str, tuple[int, int, str]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        status = path.lstat()
        if name.parts[0] not in NOT_CONTENT and stat.S_ISREG(status.st_mode):
            files[str(name)] = status.st_mode, status.st_mtime_ns, sha256(path.read_bytes())
    return files


def contents(folder: Path) -> dict[str, str]:
    """The same without the times: an index that was written again with the same bytes did not change."""
    return {name: digest for name, (_, _, digest) in snapshot(folder).items()}


def assert_run_whole(folder: Path) -> str:
    assert {entry.name for entry in folder.iterdir()} == RUN_FILES, folder
    assessments = json.loads((folder / "model_assessments.json").read_bytes(), parse_constant=_refuse)
    digest = sha256((folder / "summary.json").read_bytes())
    assert assessments["sha256"] == digest, folder
    assert assessments["timestamp"] == folder.name
    counts = [assessments[count] for count in ("approved_count", "review_count", "dropped_count")]
    assert sum(counts) == len(assessments["models"]) > 0, folder
    report = (folder / "recommendations.md").read_text(encoding="utf-8")
    assert folder.name in report, folder
    assert digest in report, folder
    return digest


def _reindexed(archive: Path) -> bytes:
    """What is written as the index of a copy that has none, from the folders alone."""
    with TemporaryDirectory(dir=archive.parent) as scratch:
        copy = Path(scratch, "archive")
        shutil.copytree(archive, copy, ignore=shutil.ignore_patterns(".*", "index.json", "rejected"))
        rebuilt = Archive(str(copy), "test")
        rebuilt.reconcile(rebuild=True)
        rebuilt.close()
        return (copy / "index.json").read_bytes()


def _refuse(constant: str) -> float:
    raise AssertionError(f"{constant} is not strict JSON")
