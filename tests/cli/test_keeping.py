"""`prune` and `export`: old runs go whole, what somebody relies on stays, and a notebook gets all of it."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from answers import assert_fits
from commands import command
from invariants import assert_archive_whole, snapshot
from modelwarden import TrainingArchiveManager
from modelwarden.gate.gates import Better, Gate
from modelwarden.gate.policy import Policy
from processes import Site, destination, drop, index_of, make_site, outbox_of, running_daemon
from summaries import BAD, GOOD, MIDDLING, encoded, flat_summary

TEAM = destination("team", "json://127.0.0.1:9/x", "APPROVED", "REVIEW", "DROP")
NAMES = [f"2025010{day}_000000" for day in range(1, 7)]
CLASSES = [GOOD, MIDDLING, BAD, MIDDLING, BAD, BAD]
"""Of the one model that each run has."""


def summary(number: int) -> dict[str, Any]:
    return flat_summary({"A": CLASSES[number]}, timestamp=NAMES[number])


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A daemon's place with six runs, whose sources are still watched; a message is owed about each."""
    site = make_site(tmp_path / "site", TEAM)
    for number in range(6):
        drop(encoded(summary(number)), site.out, f"{number}.json")
    assert command("run", "--once", "--no-courier", "--config", site.config).code == 0
    return site


def pruned(site: Site, *words: str, code: int = 0) -> Any:
    done = command("prune", *words, "--json", "--config", site.config)
    assert (done.code, done.err) == (code, "")
    answer = json.loads(done.out, parse_constant=pytest.fail)
    assert_fits(answer, "prune")
    return answer


def assert_follows(site: Site, kept: list[str]) -> None:
    """Archive, index, catalog and answers have these runs and no others, and nothing is found wrong."""
    assert [run["timestamp"] for run in index_of(site.archive)] == kept
    assert_archive_whole(site.archive, [encoded(summary(NAMES.index(name))) for name in kept])
    listed = json.loads(command("runs", "--json", "--config", site.config).out)["runs"]
    assert [run["run"] for run in listed] == kept
    assert command("verify", "--config", site.config).code == 0


def test_runs_that_no_rule_keeps_go_whole(site: Site) -> None:
    """By number, age, approval and review together; a start with the sources there brings none back."""
    decided = command("review", NAMES[1], "A", "--reject", "--reason", "x", "--config", site.config)
    assert decided.code == 0
    answer = pruned(site, "--keep-last", "2", "--keep-approved", "--keep-reviewed")
    assert answer["removed"] == [NAMES[2], NAMES[3]]
    assert {each["run"]: each["rules"] for each in answer["kept"]} == {
        NAMES[0]: ["approved"],
        NAMES[1]: ["reviewed"],
        NAMES[4]: ["last"],
        NAMES[5]: ["last"],
    }
    kept = [NAMES[0], NAMES[1], NAMES[4], NAMES[5]]
    assert_follows(site, kept)
    assert command("run", "--once", "--no-courier", "--config", site.config).code == 0
    assert_follows(site, kept)
    assert command("reindex", "--config", site.config).code == 0
    assert_follows(site, kept)
    assert len(list(site.out.iterdir())) == 6
    assert len(json.loads(command("audit", "--json", "--config", site.config).out)["decisions"]) == 1


def test_message_about_a_pruned_run_is_still_owed(site: Site) -> None:
    """What is owed is sent all the same."""
    before = outbox_of(site.state)
    pruned(site, "--keep-last", "1")
    assert [(row["event"], row["status"]) for row in outbox_of(site.state)] == [
        (row["event"], row["status"]) for row in before
    ]
    assert len(before) == 6


def test_dry_run_says_it_and_removes_nothing(site: Site) -> None:
    """The same answer, and no file is another."""
    before = snapshot(site.archive)
    answer = pruned(site, "--keep-last", "1", "--dry-run")
    assert (answer["dry_run"], answer["removed"]) == (True, NAMES[:5])
    assert snapshot(site.archive) == before
    shown = command("prune", "--keep-last", "1", "--dry-run", "--config", site.config)
    assert shown.lines[-1] == "5 would be removed, 1 kept"


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_prune_without_a_rule_is_refused(site: Site, words: list[str]) -> None:
    """The default keeps everything."""
    done = command("prune", *words, "--config", site.config)
    assert (done.code, done.out) == (2, "")
    assert "every run is kept" in done.err
    assert_follows(site, NAMES)


def test_prune_with_nothing_to_remove_says_no(site: Site) -> None:
    """Exit code 1; also a second time."""
    assert pruned(site, "--keep-last", "6", code=1)["removed"] == []
    pruned(site, "--keep-last", "3")
    assert pruned(site, "--keep-last", "3", code=1)["removed"] == []


def test_runs_within_a_time_are_kept_by_their_timestamps(tmp_path: Path) -> None:
    """As `runs` lists them, not by when they were brought in."""
    young = f"{datetime.now(UTC) - timedelta(days=2):%Y%m%d_%H%M%S}"
    with TrainingArchiveManager(tmp_path / "archive") as manager:
        for name in ("20200101_000000", young):
            manager.archive_training_run(flat_summary({"A": BAD}, timestamp=name))
    done = command("prune", "--keep-within", "3d", "--json", "--archive", tmp_path / "archive")
    assert json.loads(done.out)["removed"] == ["20200101_000000"]
    for wrong in ("3", "x", "-1d", ""):
        refused = command("prune", "--keep-within", wrong, "--archive", tmp_path / "archive")
        assert (refused.code, refused.out) == (2, "")


def test_run_that_a_person_approved_is_kept_as_approved(site: Site) -> None:
    """Somebody deploys from it."""
    assert command("review", NAMES[3], "A", "--approve", "--reason", "x", "--config", site.config).code == 0
    assert pruned(site, "--keep-last", "1", "--keep-approved")["removed"] == [NAMES[1], NAMES[2], NAMES[4]]


def test_prune_beside_a_running_daemon(site: Site) -> None:
    """It goes on, brings nothing back, and takes a pruned summary in again if it is left again on purpose."""
    with running_daemon("--config", site.config, "--no-courier", log=site.log) as daemon:
        pruned(site, "--keep-last", "2")
        new = flat_summary({"B": GOOD}, timestamp="20250201_000000")
        drop(encoded(new), site.out, "new.json")
        daemon.wait_for("run_archived", 1)
        assert [run["timestamp"] for run in index_of(site.archive)] == [*NAMES[4:], "20250201_000000"]
        drop(encoded(summary(0)), site.out, "again.json")
        daemon.wait_for("run_archived", 2)
        assert daemon.stop() == 0
    assert [run["timestamp"] for run in index_of(site.archive)] == [NAMES[0], *NAMES[4:], "20250201_000000"]
    assert command("verify", "--config", site.config).code == 0


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Runs of two policies, figures that are not finite, symbols that a spreadsheet would run."""
    folder = tmp_path / "archive"
    with TrainingArchiveManager(folder) as manager:
        odd = {"=1+1": GOOD, 'B,"x"': MIDDLING | {"final_pf": float("inf")}}
        manager.archive_training_run(flat_summary(odd, timestamp=NAMES[0], run_name="日本", validation_interval=50))
    llm = Policy((Gate("loss", approve=0.3, review=0.5, better=Better.LOWER),), name="llm")
    with TrainingArchiveManager(folder, policy=llm) as manager:
        manager.archive_training_run(flat_summary({"gpt": {"final_loss": 0.25}}, timestamp=NAMES[1]))
    command("review", NAMES[0], 'B,"x"', "--approve", "--reason", "ok", "--by", "me", "--archive", folder)
    return folder


def test_export_has_a_row_a_run_and_model(archive: Path, tmp_path: Path) -> None:
    """Every metric of every policy a column; what may be deployed, and who says so."""
    done = command("export", "--archive", archive)
    assert (done.code, done.err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [(row["run"], row["symbol"], row["deployable"], row["reviewed_by"]) for row in rows] == [
        (NAMES[0], "'=1+1", "true", ""),
        (NAMES[0], 'B,"x"', "true", "me"),
        (NAMES[1], "gpt", "true", ""),
    ]
    assert [row["loss"] for row in rows] == ["", "", "0.25"]
    assert rows[1]["profit_factor"] == "inf"
    assert rows[0]["run_name"] == "日本"
    assert command("export", tmp_path / "out.csv", "--archive", archive).code == 0
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == done.out
    refused = command("export", tmp_path / "no" / "out.csv", "--archive", archive)
    assert (refused.code, refused.out) == (2, "")
    assert "can't write" in refused.err


def test_export_to_parquet_has_types(archive: Path, tmp_path: Path) -> None:
    """Numbers are numbers, what is missing is null; without the extra the message says what to install."""
    refused = command("export", "--format", "parquet", "--archive", archive)
    assert (refused.code, refused.out) == (2, "")
    try:
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        done = command("export", tmp_path / "x.parquet", "--format", "parquet", "--archive", archive)
        assert (done.code, done.out) == (2, "")
        assert "pip install 'modelwarden[parquet]'" in done.err
        return
    assert command("export", tmp_path / "x.parquet", "--format", "parquet", "--archive", archive).code == 0
    table = parquet.read_table(tmp_path / "x.parquet").to_pylist()
    assert [row["symbol"] for row in table] == ["=1+1", 'B,"x"', "gpt"]
    assert [row["loss"] for row in table] == [None, None, 0.25]
    assert table[0]["deployable"] is True
