"""`prune` and `export`: old runs go whole, what somebody relies on stays, and a notebook gets all of it."""

import csv
import fcntl
import io
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from answers import answer, assert_fits
from commands import command
from invariants import assert_archive_whole, assert_run_whole, snapshot
from modelwarden import TrainingArchiveManager
from modelwarden.gate.gates import Better, Gate
from modelwarden.gate.policy import Policy
from processes import (
    Site,
    clean_environment,
    destination,
    drop,
    index_of,
    make_site,
    outbox_of,
    running_daemon,
    until,
)
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
    """It goes on and brings nothing back, also if a pruned summary is left again; who names it has it again."""
    with running_daemon("--config", site.config, "--no-courier", log=site.log) as daemon:
        pruned(site, "--keep-last", "2")
        new = flat_summary({"B": GOOD}, timestamp="20250201_000000")
        drop(encoded(new), site.out, "new.json")
        daemon.wait_for("run_archived", 1)
        assert [run["timestamp"] for run in index_of(site.archive)] == [*NAMES[4:], "20250201_000000"]
        again = drop(encoded(summary(0)), site.out, "again.json")
        (told,) = daemon.wait_for("pruned_left_alone")
        assert (told["path"], told["run"]) == (str(again), NAMES[0])
        assert told["hint"].endswith(f"modelwarden archive {again}")
        assert [run["timestamp"] for run in index_of(site.archive)] == [*NAMES[4:], "20250201_000000"]
        brought = command("archive", again, "--config", site.config)
        assert (brought.code, brought.lines[-1]) == (0, "1 archived")
        assert daemon.stop() == 0
    assert [run["timestamp"] for run in index_of(site.archive)] == [NAMES[0], *NAMES[4:], "20250201_000000"]
    assert command("verify", "--config", site.config).code == 0


@pytest.mark.parametrize(
    "rules",
    [["--keep-last", "2"], ["--keep-approved"], ["--keep-reviewed", "--keep-within", "1d"], ["--keep-within", "1s"]],
)
def test_dry_run_names_what_goes(site: Site, rules: list[str]) -> None:
    """What it says would be removed is what is removed, and what it says is kept is there, by the same rules."""
    assert command("review", NAMES[1], "A", "--approve", "--reason", "x", "--config", site.config).code == 0
    said = pruned(site, *rules, "--dry-run")
    done = pruned(site, *rules)
    assert (said.pop("dry_run"), done.pop("dry_run")) == (True, False)
    assert said == done
    assert [run["timestamp"] for run in index_of(site.archive)] == [each["run"] for each in done["kept"]]
    assert command("verify", "--config", site.config).code == 0


def test_archive_of_which_all_was_pruned_is_one_without_runs(site: Site) -> None:
    """Whoever asks is told so; the daemon goes on with it, and what was owed is still owed."""
    assert command("review", NAMES[1], "A", "--approve", "--reason", "x", "--config", site.config).code == 0
    owed = len(outbox_of(site.state))
    assert pruned(site, "--keep-within", "1s")["removed"] == NAMES
    for name, code in (("verify", 0), ("runs", 1), ("review", 1), ("approved", 2), ("audit", 0), ("export", 0)):
        done = command(name, "--config", site.config)
        assert (done.code, "Traceback" in done.err) == (code, False), name
    refused = command("review", NAMES[1], "A", "--reject", "--reason", "x", "--config", site.config)
    assert (refused.code, refused.out) == (2, "")
    drop(encoded(flat_summary({"B": GOOD}, timestamp="20250201_000000")), site.out, "new.json")
    assert command("run", "--once", "--no-courier", "--config", site.config).code == 0
    assert [run["timestamp"] for run in index_of(site.archive)] == ["20250201_000000"]
    assert len(outbox_of(site.state)) == owed + 1


@contextmanager
def waiting_for_the_lock(site: Site, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """A command that has looked at the archive, and waits for its lock for as long as this is entered."""
    with (site.archive / ".index.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "modelwarden", *words, "--config", site.config],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env=clean_environment(),
        )

        def waits() -> bool:
            folder = Path(f"/proc/{process.pid}/fd")
            with suppress(OSError):  # a descriptor that was closed meanwhile
                return any(each.readlink().name == ".index.lock" for each in folder.iterdir())
            return False

        until(waits, "the command to wait for the lock")
        yield process


def test_run_that_somebody_decides_about_meanwhile_is_kept(site: Site, tmp_path: Path) -> None:
    """The rules are asked once more while nobody can decide: without that it would have gone."""
    twin = tmp_path / "twin"
    shutil.copytree(site.archive, twin, ignore=shutil.ignore_patterns(".state"))
    assert command("review", NAMES[1], "A", "--approve", "--reason", "x", "--archive", twin).code == 0
    with waiting_for_the_lock(site, "prune", "--keep-last", "1", "--keep-reviewed", "--json") as process:
        shutil.copytree(twin / "reviews", site.archive / "reviews")
    out, _ = process.communicate()
    answer = json.loads(out)
    assert (process.returncode, answer["removed"]) == (0, [NAMES[0], *NAMES[2:5]])
    assert {"run": NAMES[1], "rules": ["reviewed"]} in answer["kept"]
    assert_run_whole(site.archive / NAMES[1])


def test_run_that_goes_meanwhile_is_not_decided_about(site: Site) -> None:
    """Who looked at it before it went is told so, and there is no decision about what nobody has."""
    with waiting_for_the_lock(site, "review", NAMES[1], "A", "--approve", "--reason", "x") as process:
        (site.archive / NAMES[1]).rename(site.folder / "gone")
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert f"no run '{NAMES[1]}'" in err
    assert not (site.archive / "reviews").exists()


def lose_the_state(site: Site) -> None:
    shutil.rmtree(site.state)


def touch_the_sources(site: Site) -> None:
    for source in site.out.iterdir():
        source.touch()


def copy_the_sources(site: Site) -> None:
    for source in list(site.out.iterdir()):
        shutil.copy(source, site.out / f"copy-{source.name}")


@pytest.mark.parametrize("deed", [lose_the_state, touch_the_sources, copy_the_sources])
@pytest.mark.parametrize("reindexed", [True, False], ids=["reindex", "start"])
def test_pruned_run_stays_away_whatever_the_state_remembers(
    site: Site, deed: Callable[[Site], None], reindexed: bool
) -> None:
    """The archive itself says what was pruned, by its bytes; nothing is found wrong, and decisions stay."""
    decided = command("review", NAMES[0], "A", "--reject", "--reason", "x", "--config", site.config)
    assert decided.code == 0
    pruned(site, "--keep-last", "2")
    deed(site)
    if reindexed:
        assert command("reindex", "--config", site.config).code == 0
        assert command("verify", "--config", site.config).code == 0
    for _ in range(2):
        assert command("run", "--once", "--no-courier", "--config", site.config).code == 0
        assert_follows(site, NAMES[4:])
    assert len(json.loads(command("audit", "--json", "--config", site.config).out)["decisions"]) == 1


def test_run_that_was_brought_back_can_be_pruned_again(site: Site) -> None:
    """It is a run like any other: whole, announced to nobody a second time, and gone once no rule keeps it."""
    owed = len(outbox_of(site.state))
    for _ in range(2):
        pruned(site, "--keep-last", "5")
        assert_follows(site, NAMES[1:])
        assert command("archive", site.out / "0.json", "--config", site.config).code == 0
        assert_follows(site, NAMES)
    assert len(outbox_of(site.state)) == owed
    with TrainingArchiveManager(site.archive) as manager:
        pruned(site, "--keep-last", "5")
        assert manager.archive_training_run(summary(0)).timestamp == NAMES[0]


def test_other_state_of_the_archive_misses_nothing_that_was_pruned(site: Site, tmp_path: Path) -> None:
    """Another host had seen the runs: to it, too, they were removed on purpose."""
    other = make_site(tmp_path / "other", archive=str(site.archive))
    text = other.config.read_text()
    other.config.write_text(f'state_dir = "{tmp_path / "other" / "state"}"\n{text}')
    assert command("run", "--once", "--no-courier", "--config", other.config).code == 0
    pruned(site, "--keep-last", "2")
    assert command("verify", "--config", other.config).code == 1, "its catalog lags behind until it looks"
    assert command("run", "--once", "--no-courier", "--config", other.config).code == 0
    verified = command("verify", "--config", other.config)
    assert verified.code == 0, verified.out


@pytest.mark.parametrize("deed", ["removed", "damaged", "altered"])
def test_verify_sees_what_was_done_to_the_record(site: Site, deed: str) -> None:
    """A state that saw the record misses what it said, and has it recorded again; or lets go of it on purpose."""
    pruned(site, "--keep-last", "2")
    (record,) = (site.archive / "pruned").iterdir()
    if deed == "removed":
        record.unlink()
    else:
        record.write_bytes(b"{" if deed == "damaged" else record.read_bytes().replace(b'"runs"', b'"Runs"'))
    assert command("run", "--once", "--no-courier", "--config", site.config).code == 0
    found = command("verify", "--config", site.config)
    assert found.code == 1
    assert "4 that this state knows are not recorded" in " ".join(found.out.split())
    assert ("000001.json" in found.out) is (deed != "removed")
    if deed != "removed":
        record.unlink()
    assert command("reindex", "--config", site.config).code == 0
    assert_follows(site, NAMES[4:])
    lose_the_state(site)
    assert command("run", "--once", "--no-courier", "--config", site.config).code == 0
    assert_follows(site, NAMES[4:])


def test_record_that_was_removed_on_purpose_is_let_go_of(site: Site) -> None:
    """Who wants all of it again says so: from then on nothing is found, and what is left again is archived."""
    pruned(site, "--keep-last", "2")
    shutil.rmtree(site.archive / "pruned")
    done = command("reindex", "--forget-missing", "--config", site.config)
    assert (done.code, done.lines[-1]) == (0, "forgot 4 that are missing")
    assert_follows(site, NAMES[4:])
    touch_the_sources(site)
    assert command("run", "--once", "--no-courier", "--config", site.config).code == 0
    assert_follows(site, NAMES)


def test_source_of_a_pruned_run_is_not_deleted(tmp_path: Path) -> None:
    """`after_archive = "delete"` is about what is in the archive: of this there is no other copy."""
    site = make_site(tmp_path / "site", intake='after_archive = "delete"')
    for number in range(2):
        drop(encoded(summary(number)), site.out, f"{number}.json")
    assert command("run", "--once", "--no-courier", "--config", site.config).code == 0
    assert list(site.out.iterdir()) == []
    pruned(site, "--keep-last", "1")
    kept = drop(encoded(summary(0)), site.out, "0.json")
    assert command("run", "--once", "--no-courier", "--config", site.config).code == 0
    assert list(site.out.iterdir()) == [kept]
    assert_follows(site, [NAMES[1]])


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


def test_export_to_parquet_says_what_csv_says(archive: Path, tmp_path: Path) -> None:
    """Row for row, with types: numbers are numbers, a moment is one, what is missing is null and NaN is NaN."""
    nan = flat_summary({"A": GOOD | {"final_pf": float("nan")}, "日本": GOOD}, timestamp=NAMES[2])
    with TrainingArchiveManager(archive) as manager:
        manager.archive_training_run(nan)
    file = tmp_path / "x.parquet"
    assert command("export", file, "--format", "parquet", "--archive", archive).code == 0
    table = parquet.read_table(file)
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds["run"] == kinds["symbol"] == "string"
    assert kinds["archived_at"] == "timestamp[us, tz=UTC]"
    assert (kinds["deployable"], kinds["best_idx"], kinds["loss"], kinds["peak"]) == ("bool", "int64", *["double"] * 2)
    rows = table.to_pylist()
    assert [row["symbol"] for row in rows] == ["=1+1", 'B,"x"', "gpt", "A", "日本"]
    assert [row["loss"] for row in rows] == [None, None, 0.25, None, None]
    assert math.isnan(rows[3]["profit_factor"])
    assert rows[1]["profit_factor"] == math.inf
    assert rows[0]["deployable"] is True
    written = list(csv.DictReader(io.StringIO(command("export", "--archive", archive).out)))
    assert [[_as_in_csv(value) for value in row.values()] for row in rows] == [list(row.values()) for row in written]


def _as_in_csv(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case datetime():
            return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
        case str() if value.startswith("="):
            return f"'{value}"
        case _:
            return str(value)


def test_export_to_parquet_is_written_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows there are, in order, and none twice; an archive of none is a table without rows."""
    monkeypatch.setattr("modelwarden.cli.keeping.ROW_GROUP", 4)
    folder, file = tmp_path / "archive", tmp_path / "x.parquet"
    with TrainingArchiveManager(folder) as manager:
        assert command("export", file, "--format", "parquet", "--archive", folder).code == 0
        assert parquet.read_table(file).num_rows == 0
        for number in range(3):
            manager.archive_training_run(flat_summary({f"S{at}": GOOD for at in range(5)}, timestamp=NAMES[number]))
    assert command("export", file, "--format", "parquet", "--archive", folder).code == 0
    found = parquet.ParquetFile(file)
    assert [found.metadata.row_group(at).num_rows for at in range(found.num_row_groups)] == [4, 4, 4, 3]
    rows = [(row["run"], row["symbol"]) for row in found.read().to_pylist()]
    assert rows == [(name, f"S{at}") for name in NAMES[:3] for at in range(5)]


def test_export_to_parquet_that_cannot_be_done_says_why(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a file, without the folder, without the extra: one message, and no file."""
    for words, said in (((), "name one"), ((tmp_path / "no" / "x.parquet",), "can't write")):
        refused = command("export", *words, "--format", "parquet", "--archive", archive)
        assert (refused.code, refused.out) == (2, "")
        assert said in refused.err
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = command("export", tmp_path / "x.parquet", "--format", "parquet", "--archive", archive)
    assert (done.code, done.out) == (2, "")
    assert "pip install 'modelwarden[parquet]'" in done.err
    assert not (tmp_path / "x.parquet").exists()


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_export_tells_as_data_what_it_wrote(archive: Path, tmp_path: Path, form: str) -> None:
    """The table is in the file, and its size is told; without a file it would stand in the answer's place."""
    file = tmp_path / "out"
    found = answer("export", file, "--format", form, "--archive", archive)
    rows = list(csv.DictReader(io.StringIO(command("export", "--archive", archive).out)))
    assert (found["file"], found["written_as"], found["rows"]) == (str(file), form, len(rows))
    assert found["columns"] == list(rows[0])
    refused = command("export", "--json", "--archive", archive)
    assert (refused.code, refused.out) == (2, "")
    assert "name a file" in refused.err
