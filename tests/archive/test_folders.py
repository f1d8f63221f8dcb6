"""An archive read from its folders, by who owns nothing of it: what only looks like a run is none."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from invariants import snapshot
from modelwarden.archive.folders import look_of, oldest_first, read_file, read_index, read_record, read_run, run_names
from modelwarden.archive.publishing import Archive
from modelwarden.errors import RetryLater, UnknownRun
from modelwarden.gate.timestamp import run_key
from processes import next_tick
from summaries import flat_summary, run_folder

NAME = "20241224_153000"
AGAIN = f"{NAME}_2"


def test_runs_are_the_folders_with_a_runs_name(tmp_path: Path) -> None:
    """Not a file of that name, not a link, not what modelwarden or people keep beside them."""
    for name in (NAME, AGAIN, ".staging", "rejected", "notes", "20241224_153000_1", "20241399_153000"):
        (tmp_path / name).mkdir()
    (tmp_path / "20250101_000000").write_bytes(b"")
    (tmp_path / "20250102_000000").symlink_to(NAME)

    assert sorted(run_names(str(tmp_path))) == [NAME, AGAIN]


def test_runs_of_a_folder_that_is_away_are_not_none_at_all(tmp_path: Path) -> None:
    """A disk that says nothing is no empty archive."""
    with pytest.raises(RetryLater) as caught:
        run_names(str(tmp_path / "away"))
    assert os.strerror(errno.ENOENT) in str(caught.value)


def test_oldest_first_sorts_as_the_catalog_does() -> None:
    """By moment, then by the suffix as a number: `_10` comes after `_9`."""
    names = [f"{stamp}{suffix}" for stamp in ("20250101_000000", NAME) for suffix in ("_10", "", "_9", "_2", "_100")]
    assert sorted(names, key=oldest_first) == sorted(names, key=run_key)


@pytest.mark.parametrize("name", ["../secret", "..", "", NAME, "rejected", f"{NAME}/../../secret"])
def test_file_is_read_only_of_a_run_that_is_there(tmp_path: Path, name: str) -> None:
    """A name leads nowhere but into a run's folder, and a run that is not there is an unknown one."""
    archive = tmp_path / "archive"
    (archive / "rejected").mkdir(parents=True)
    for folder in (tmp_path / "secret", archive / "rejected"):
        folder.mkdir(exist_ok=True)
        (folder / "summary.json").write_bytes(b"secret")

    with pytest.raises(UnknownRun):
        read_file(str(archive), name, "summary.json")


def test_folder_with_another_runs_document_is_no_run(tmp_path: Path) -> None:
    """A person's copy is not a second run."""
    run_folder(tmp_path, flat_summary(), NAME)
    shutil.copytree(tmp_path / NAME, tmp_path / AGAIN)

    for read in (read_run, read_record):
        with pytest.raises(UnknownRun, match=f"it says it is {NAME}"):
            read(str(tmp_path), AGAIN)


@pytest.mark.parametrize("file", ["summary.json", "recommendations.md", "model_assessments.json"])
def test_folder_without_one_of_the_three_files_is_no_run(tmp_path: Path, file: str) -> None:
    """What is left of a run is not told as one."""
    record = run_folder(tmp_path, flat_summary(), NAME)
    assert read_record(str(tmp_path), NAME) == read_run(str(tmp_path), NAME)[0] == record
    (tmp_path / NAME / file).unlink()

    for read in (read_run, read_record):
        with pytest.raises(UnknownRun):
            read(str(tmp_path), NAME)


def test_index_is_read_by_its_lines(tmp_path: Path) -> None:
    """Of each run the moment and its sha256, also where a text holds what looks like these; without a trace."""
    hostile = '"archived_at":"x","sha256":"' + "0" * 64 + '"},{"timestamp":"20000101_000000"'
    runs = [run_folder(tmp_path, flat_summary(run_name=hostile), NAME), run_folder(tmp_path, flat_summary(), AGAIN)]
    archive = Archive(str(tmp_path), "0f1e2d3c")
    archive.trust(archive.make_identity("0" * 32))
    archive.reconcile(rebuild=True)
    archive.close()
    before = snapshot(tmp_path)

    assert read_index(str(tmp_path)) == {run.timestamp: (run.archived_at, run.sha256) for run in runs}
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("data", [None, b"", b"{}", b"\xff\0", b'{"timestamp":"20241224_153000"}'])
def test_index_that_can_not_be_read_says_nothing(tmp_path: Path, data: bytes | None) -> None:
    """Whoever asks goes to the folders then."""
    if data is not None:
        (tmp_path / "index.json").write_bytes(data)
    assert read_index(str(tmp_path)) == {}


def test_archive_looks_otherwise_after_every_change_of_its_runs(tmp_path: Path) -> None:
    """A run that comes, goes or gets another name, an index that is replaced; not what happens inside a run."""
    root = tmp_path / "archive"
    root.mkdir()
    (root / "index.json").write_text("{}")
    (root / ".new").write_text("{}")
    run_folder(root, flat_summary(), NAME)

    def look() -> str | None:
        found = look_of(str(root))
        next_tick(root)
        return found

    looks = [look()]
    run_folder(root, flat_summary(), AGAIN)
    looks.append(look())
    (root / AGAIN).rename(root / "notes")
    looks.append(look())
    (root / ".new").rename(root / "index.json")
    looks.append(look())
    assert len(set(looks)) == 4
    assert None not in looks
    (root / NAME / "summary.json").write_text("{}")
    assert look() == looks[-1]


def test_archive_whose_times_say_too_little_has_no_look(tmp_path: Path) -> None:
    """Without an index; on a file system that knows whole seconds alone; where there is none."""
    assert look_of(str(tmp_path)) is None
    (tmp_path / "index.json").write_text("{}")
    assert look_of(str(tmp_path)) is not None
    os.utime(tmp_path, (1_700_000_000, 1_700_000_000))
    assert look_of(str(tmp_path)) is None
    assert look_of(str(tmp_path / "nowhere")) is None
