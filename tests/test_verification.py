"""Whatever was done to an archive behind modelwarden's back, `verify` says what and where, and nothing else."""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from commands import command
from invariants import contents
from modelwarden import TrainingArchiveManager
from modelwarden.archive.encoding import encode_assessments
from modelwarden.archive.publishing import Archive
from modelwarden.gate.timestamp import run_key
from modelwarden.state.cataloguing import WritableCatalog
from modelwarden.state.database import Database
from modelwarden.state.packing import packed_figures
from modelwarden.verification import Finding, Report, verify
from processes import drop, make_site, modelwarden, running_daemon
from summaries import GOOD, as_schema_1, encoded, flat_summary, judged_run, random_summary, series_summary

FIRST, SECOND, THIRD = "20250101_000000", "20250102_000000", "20250103_000000"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of three runs and a rejected file, and its state."""
    site = make_site(tmp_path)
    for seed, name in enumerate((FIRST, SECOND, THIRD)):
        drop(encoded(random_summary(seed, models=4) | {"timestamp": name}), site.out, f"{seed}.json")
    drop(b'{"models": []}', site.out, "bad.json")
    assert modelwarden("run", "--once", "--no-courier", "--config", site.config).returncode == 1, "a file was rejected"
    return site.archive


def verified(root: Path) -> Report:
    """What a verification says, without patience."""
    with (
        closing(Database(str(root / ".state"), "")) as database,
        closing(Archive(str(root), database.daemon_id)) as opened,
    ):
        return verify(opened, WritableCatalog(database), patience=0)


def assert_found(root: Path, where: str, what: str) -> Finding:
    """Exactly one finding: there, and that."""
    (finding,) = verified(root).findings
    assert finding.where == where
    assert what in finding.what
    assert finding.mend
    return finding


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file in place, as a hand would."""
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


def test_archive_as_it_was_written_is_right(archive: Path) -> None:
    """Nothing to say about three runs and a rejected file, and nothing changed by looking."""
    before = contents(archive)

    assert verified(archive) == Report(3, [])

    assert contents(archive) == before


@pytest.mark.parametrize("file", ["summary.json", "model_assessments.json", "recommendations.md"])
def test_missing_file_is_found(archive: Path, file: str) -> None:
    """A run has three files."""
    (archive / SECOND / file).unlink()

    assert_found(archive, SECOND, f"has no {file}")


def test_changed_summary_is_found_by_its_hash(archive: Path) -> None:
    """One byte is enough."""
    path = archive / SECOND / "summary.json"
    path.write_bytes(path.read_bytes() + b" ")

    assert_found(archive, SECOND, "as recorded")


def test_damaged_assessments_are_found(archive: Path) -> None:
    """A file that was cut off is no judgement."""
    path = archive / FIRST / "model_assessments.json"
    path.write_bytes(path.read_bytes()[:-40])

    assert_found(archive, FIRST, "model_assessments.json")


def test_model_approved_by_hand_is_found(archive: Path) -> None:
    """The summary's figures under the recorded policy must come to what is recorded."""

    def approve(document: dict[str, Any]) -> None:
        model = next(each for each in document["models"] if each["classification"] == "DROP")
        model |= {"classification": "APPROVED", "flags": []}
        document["approved_count"] += 1
        document["dropped_count"] -= 1

    edit(archive / SECOND / "model_assessments.json", approve)

    finding = next(each for each in verified(archive).findings if "is recorded as APPROVED" in each.what)
    assert finding.where == SECOND


def make_of_an_earlier_version(root: Path, name: str) -> None:
    """Rewrite a run as one with a drawdown of 500 %, judged by the first rule under bounds that are percentages."""
    summary = encoded(flat_summary({"A": {**GOOD, "final_max_dd": 5.0}}, timestamp=name))
    before = json.loads((root / name / "model_assessments.json").read_bytes())
    run, assessments = judged_run(json.loads(summary), timestamp=name)
    document = json.loads(encode_assessments(run, assessments))
    document |= {name: before[name] for name in ("archived_by", "daemon_id", "source", "archived_at")}
    as_schema_1(document, approved_max_drawdown=8.0, review_max_drawdown=15.0)
    document |= {"approved_count": 1, "dropped_count": 0, "sha256": hashlib.sha256(summary).hexdigest()}
    document["models"][0] |= {"classification": "APPROVED", "flags": [], "reasons": []}
    document["models"][0]["metrics"]["max_drawdown"] |= {"approve": 8.0, "review": 15.0, "band": "APPROVED"}
    (root / name / "summary.json").write_bytes(summary)
    (root / name / "model_assessments.json").write_text(json.dumps(document))
    report = (root / name / "recommendations.md").read_text().replace(before["sha256"], document["sha256"])
    (root / name / "recommendations.md").write_text(report)


def test_run_of_an_earlier_rule_is_judged_by_that_rule(archive: Path) -> None:
    """Bounds and figures that are refused today make no old run wrong; the catalog and the index take it too."""
    make_of_an_earlier_version(archive, SECOND)
    assert modelwarden("reindex", "--forget-missing", "--archive", archive).returncode == 0

    assert verified(archive) == Report(3, [])

    shown = json.loads(modelwarden("show", SECOND, "--json", "--archive", archive).stdout)
    assert shown["models"][0]["classification"] == "APPROVED"


def test_checkpoint_approved_by_hand_is_found(tmp_path: Path) -> None:
    """Somebody who wants a checkpoint deployed that was not approved stands out."""
    peak, last = (0.98, 1.1, 0.9, 0.04), (0.9, 2.0, 0.9, 0.05)
    with TrainingArchiveManager(tmp_path) as manager:
        name = manager.archive_training_run(series_summary({"A": [peak, last]}, validation_interval=50)).timestamp
    assert verified(tmp_path).findings == []

    def approve(document: dict[str, Any]) -> None:
        document["models"][0]["at_checkpoint"]["classification"] = "APPROVED"

    edit(tmp_path / name / "model_assessments.json", approve)

    assert any("APPROVED at its peak" in each.what for each in verified(tmp_path).findings)


def test_run_from_before_figures_were_held_against_each_other_is_right(tmp_path: Path) -> None:
    """A summary that would be flagged or refused today was not when it was archived: no finding, and it is asked of."""
    contradictory = {**GOOD, "fitness_history": [0.5, 0.93]}
    with TrainingArchiveManager(tmp_path) as manager:
        name = manager.archive_training_run(flat_summary({"A": GOOD})).timestamp
    data = encoded(flat_summary({"A\u200bB": contradictory}))
    (tmp_path / name / "summary.json").write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()

    def age(document: dict[str, Any]) -> None:
        as_schema_1(document)
        document["sha256"] = sha256
        (model,) = document["models"]
        model |= {"symbol": "A\u200bB", "best_idx": 1, "peak": 0.93, "decline": 0.02, "largest_fall": 0.0}

    edit(tmp_path / name / "model_assessments.json", age)
    report = tmp_path / name / "recommendations.md"
    report.write_text(f"{name} {sha256}")
    assert command("reindex", "--forget-missing", "--archive", tmp_path).code == 0

    assert verified(tmp_path).findings == []
    with TrainingArchiveManager(tmp_path) as manager:
        assert manager.get_approved_models(name) == ["A\u200bB"]
        (chosen,) = manager.get_approved_checkpoints(name)
    assert (chosen.checkpoint, chosen.is_last) == (None, True)


def test_model_of_an_earlier_rule_changed_by_hand_is_found(archive: Path) -> None:
    """What the first rule would not have said of the recorded figures stands out."""
    make_of_an_earlier_version(archive, SECOND)
    edit(
        archive / SECOND / "model_assessments.json",
        lambda document: document["models"][0]["metrics"]["max_drawdown"].update(value=20.0),
    )

    finding = next(each for each in verified(archive).findings if "is recorded as APPROVED" in each.what)
    assert finding.where == SECOND


def test_counts_that_are_not_the_models_are_found(archive: Path) -> None:
    """The counts are what people read first."""
    edit(archive / THIRD / "model_assessments.json", lambda document: document.update(approved_count=99))

    assert_found(archive, THIRD, "counts")


def test_report_of_another_run_is_found(archive: Path) -> None:
    """A report copied over another would send somebody to the wrong model."""
    shutil.copy(archive / FIRST / "recommendations.md", archive / SECOND / "recommendations.md")

    assert_found(archive, SECOND, "recommendations.md")


def test_run_copied_under_another_name_is_found(archive: Path) -> None:
    """It says itself what it is called."""
    shutil.copytree(archive / FIRST, archive / "20260101_000000")

    assert_found(archive, "20260101_000000", f"says it is {FIRST}")


@pytest.mark.parametrize("data", [None, b"", b"{}", b'{"schema_version": 1, "runs": []}'])
def test_index_missing_or_damaged_is_found(archive: Path, data: bytes | None) -> None:
    """An index that nobody wrote like this is no index."""
    (archive / "index.json").unlink()
    if data is not None:
        (archive / "index.json").write_bytes(data)

    assert_found(archive, "index.json", "missing")


def test_edited_line_of_the_index_is_found(archive: Path) -> None:
    """Deployment scripts read the index: what it says must be what the files say."""
    path = archive / "index.json"
    path.write_bytes(path.read_bytes().replace(b'"models":4', b'"models":5', 1))

    assert_found(archive, FIRST, "its line in index.json")


def test_run_moved_away_is_found_in_index_and_catalog(archive: Path) -> None:
    """Both still name it."""
    shutil.move(archive / SECOND, archive.parent / "elsewhere")

    in_index, missing = verified(archive).findings

    assert (in_index.where, in_index.what) == (SECOND, "is in index.json and not there")
    assert missing.where == SECOND
    assert missing.what.startswith("is missing: sha256 ")


def test_catalog_with_another_figure_is_found(archive: Path) -> None:
    """`history` and `approved` answer from it."""
    with closing(Database(str(archive / ".state"), "")) as database, database.transaction():
        database.connection.execute(
            "UPDATE assessments SET figures = ? WHERE position = 2 AND run = ?",
            (packed_figures((1.9, 2.0, 0.9, 0.05)), run_key(SECOND)),
        )

    assert_found(archive, SECOND, "catalog has other figures")


def test_catalog_that_lacks_a_run_is_found_and_reindex_mends_it(archive: Path) -> None:
    """What a finding says mends it does."""
    with closing(Database(str(archive / ".state"), "")) as database, database.transaction():
        WritableCatalog(database).remove(THIRD)

    finding = assert_found(archive, THIRD, "is not in the catalog")

    assert "modelwarden reindex" in finding.mend
    assert modelwarden("reindex", "--archive", archive).returncode == 0
    assert verified(archive).findings == []


def test_marker_of_a_commit_that_died_is_found(archive: Path) -> None:
    """Beside it nothing else is believed to be final."""
    (archive / ".index.dirty").touch()

    assert_found(archive, ".index.dirty", "did not end")


def test_rejected_file_with_other_bytes_is_found(archive: Path) -> None:
    """What was refused is kept as it was found."""
    (shelf,) = (archive / "rejected").iterdir()
    (shelf / "as_found").write_bytes(b"something else")

    assert_found(archive, f"rejected/{shelf.name}", "other bytes")


def test_foreign_things_in_the_archive_are_no_finding(archive: Path) -> None:
    """People unzip things here."""
    (archive / "notes.txt").write_text("mine")
    (archive / "old runs").mkdir()

    assert verified(archive).findings == []


def test_run_of_the_python_api_is_right(tmp_path: Path) -> None:
    """Whoever archived it."""
    with TrainingArchiveManager(tmp_path) as manager:
        manager.archive_training_run(flat_summary(timestamp=FIRST))

    assert verified(tmp_path) == Report(1, [])


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Path]:
    """An archive whose daemon has a backlog."""
    site = make_site(tmp_path)
    with running_daemon("--config", site.config, log=site.log) as daemon:
        for seed in range(300):
            drop(encoded(random_summary(seed, models=2) | {"timestamp": None}), site.out, f"{seed}.json")
        daemon.wait_for("run_archived", 20)
        yield site.archive


def test_verify_beside_a_busy_daemon_finds_nothing_wrong(busy: Path) -> None:
    """A commit under way is waited for, and no lock is held."""
    result = modelwarden("verify", "--archive", busy)

    assert result.returncode == 0, result.stdout + result.stderr


def test_command_says_what_is_wrong_and_exits_1(archive: Path) -> None:
    """For a person a table, for a script JSON; the exit code for both."""
    assert modelwarden("verify", "--archive", archive).returncode == 0
    (archive / FIRST / "summary.json").write_bytes(b"{}")

    shown, asked = modelwarden("verify", "--archive", archive), modelwarden("verify", "--archive", archive, "--json")

    assert (shown.returncode, asked.returncode) == (1, 1)
    assert FIRST in shown.stdout
    assert "1 finding" in shown.stdout
    document = json.loads(asked.stdout)
    assert document["runs"] == 3
    assert [finding["where"] for finding in document["findings"]] == [FIRST]


@pytest.fixture
def staged(archive: Path) -> Iterator[Path]:
    """Three folders of owners that no state has: one whose process lives, one whose died, one without a lock."""
    for name in ("0a0a0a0a-living", "0b0b0b0b-dead", "0c0c0c0c-bare"):
        run = archive / ".staging" / name / "0123456789abcdef"
        run.mkdir(parents=True)
        (run / "summary.json").write_bytes(b"x" * 1000)
    (archive / ".staging" / "0b0b0b0b-dead" / "lock").touch()
    with (archive / ".staging" / "0a0a0a0a-living" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield archive / ".staging"


def left(staging: Path) -> set[str]:
    """The folders of those three that are there."""
    return {each.name for each in staging.iterdir() if each.name.startswith("0")} & {
        "0a0a0a0a-living",
        "0b0b0b0b-dead",
        "0c0c0c0c-bare",
    }


def test_staged_runs_of_an_owner_that_is_gone_are_found_and_removed(archive: Path, staged: Path) -> None:
    """A state file replaced after a SIGKILL leaves them, reindex removes them; who holds its lock is left alone."""
    findings = verified(archive).findings
    assert [(each.where, each.what) for each in findings] == [
        (f".staging/{name}", "left by a process that is gone: 1 staged runs, 1000 bytes")
        for name in ("0b0b0b0b-dead", "0c0c0c0c-bare")
    ]
    assert all("modelwarden reindex" in each.mend for each in findings)
    assert not (staged / "0c0c0c0c-bare" / "lock").exists(), "verifying changes nothing"

    assert modelwarden("reindex", "--archive", archive).returncode == 0

    assert left(staged) == {"0a0a0a0a-living"}
    assert verified(archive).findings == []


def test_staged_runs_on_a_mount_without_locks_are_left_to_a_person(
    archive: Path, staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that could be had says nothing of a daemon on another host."""
    monkeypatch.setattr("modelwarden.verification.doubt_of_locks", lambda _: "cifs may keep locks to this host")
    monkeypatch.setattr("modelwarden.pipeline.upkeep.doubt_of_locks", lambda _: "cifs may keep locks to this host")
    findings = verified(archive).findings
    assert len(findings) == 2
    assert all("when no host has this archive open" in each.mend for each in findings)

    assert command("reindex", "--archive", archive).code == 0

    assert left(staged) == {"0a0a0a0a-living", "0b0b0b0b-dead", "0c0c0c0c-bare"}
