"""`runs`, `show`, `approved` and `history` answer from the archive as it is now, and change nothing in it."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from commands import Done, command
from modelwarden import TrainingArchiveManager
from modelwarden.gate.policy import Policy
from processes import drop, make_site, running_daemon
from summaries import BAD, GOOD, MIDDLING, encoded, flat_summary, series_summary

LONGEST = "S" * 128
STRANGE = "[red]x[/red] 📈 日本"
RUNS: dict[str, dict[str, dict[str, Any]]] = {
    "20240101_000000": {"A": GOOD, "B": BAD},
    "20240102_000000": {"A": MIDDLING, LONGEST: BAD | {"fitness_history": [1.0, 0.1, 0.2]}},
    "20240103_000000": {"A": GOOD | {"fitness_history": [0.5, 1.2, 0.91]}, STRANGE: GOOD, "B": MIDDLING},
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of three runs; the youngest has a name. Only looked at."""
    folder = tmp_path_factory.mktemp("asking") / "archive"
    with TrainingArchiveManager(folder) as manager:
        for timestamp, models in RUNS.items():
            name = {"run_name": "nightly [bold]sweep[/bold]"} if timestamp == max(RUNS) else {}
            manager.archive_training_run(flat_summary(models, timestamp=timestamp, validation_interval=50, **name))
    return folder


@pytest.fixture
def own(archive: Path, tmp_path: Path) -> Path:
    """A copy of that archive, to change."""
    return Path(shutil.copytree(archive, tmp_path / "archive"))


def asked(archive: Path, *arguments: str) -> Done:
    done = command(*arguments, "--archive", archive)
    assert (done.code, done.err) == (0, "")
    return done


def in_json(archive: Path, *arguments: str) -> Any:
    return json.loads(asked(archive, *arguments, "--json").out, parse_constant=pytest.fail)


def test_runs_are_listed_oldest_first_with_their_counts(archive: Path) -> None:
    """A row a run: its name, how many models of each class, the policy and the trainer's name for it."""
    done = asked(archive, "runs")
    assert done.lines[0].split() == ["run", "APPROVED", "REVIEW", "DROP", "policy", "run", "name"]
    assert [line.split()[:4] for line in done.lines[2:]] == [
        ["20240101_000000", "1", "0", "1"],
        ["20240102_000000", "0", "1", "1"],
        ["20240103_000000", "2", "1", "0"],
    ]
    assert done.lines[-1].endswith("nightly [bold]sweep[/bold]")


def test_runs_limit_keeps_the_youngest_and_says_what_is_hidden(archive: Path) -> None:
    """A long archive shows its end, and how to see the rest."""
    done = asked(archive, "runs", "--limit", "2")
    assert [line.split()[0] for line in done.lines[2:4]] == ["20240102_000000", "20240103_000000"]
    assert done.lines[4] == "1 older runs: --limit 3 shows all"
    assert len(in_json(archive, "runs", "-n", "1")) == 1


def test_runs_in_json_are_the_records(archive: Path) -> None:
    """--json has the fields of the index, for scripts."""
    rows = in_json(archive, "runs")
    index = json.loads((archive / "index.json").read_bytes())["runs"]
    for row, entry in zip(rows, index, strict=True):
        shared = row.keys() & entry.keys()
        assert shared >= {"timestamp", "run_name", "archived_at", "sha256", "approved_count", "dropped_count", "policy"}
        assert {name: row[name] for name in shared - {"source"}} == {name: entry[name] for name in shared - {"source"}}


def test_show_without_a_name_is_the_youngest_run(archive: Path) -> None:
    """The question asked most needs no argument."""
    assert asked(archive, "show").out == asked(archive, "show", "20240103_000000").out
    assert in_json(archive, "show")["timestamp"] == "20240103_000000"


def test_run_dated_ahead_is_marked_and_is_not_the_latest_for_ever(tmp_path: Path) -> None:
    """A trainer's clock of 2099 hides no later run: what is asked without a name is what was archived last."""
    folder = tmp_path / "archive"
    with TrainingArchiveManager(folder) as manager:
        manager.archive_training_run(flat_summary({"OLD": GOOD}, timestamp="20990101_000000"))
        assert in_json(folder, "show")["timestamp"] == "20990101_000000"
        manager.archive_training_run(flat_summary({"NEW": GOOD}, timestamp="20240101_000000"))
        assert manager.get_approved_models() == ["NEW"]
    assert asked(folder, "approved").lines == ["NEW\tlast"]
    assert asked(folder, "show").lines[0].startswith("20240101_000000: ")
    listed = asked(folder, "runs")
    assert listed.lines[3].endswith("(dated ahead)")
    assert listed.lines[4] == "archived last: 20240101_000000; `show` and `approved` mean it if no run is named"
    assert [run["remarks"] for run in in_json(folder, "runs")] == [[], ["TIMESTAMP_AHEAD"]]
    assert asked(folder, "show", "20990101_000000").lines[2].startswith("dated ahead: ")
    assert "**dated ahead**" in asked(folder, "show", "20990101_000000", "--report").out
    assert json.loads((folder / "20990101_000000" / "model_assessments.json").read_bytes())["remarks"] == [
        "TIMESTAMP_AHEAD"
    ]
    assert "remarks" not in json.loads((folder / "20240101_000000" / "model_assessments.json").read_bytes())
    before = (folder / "index.json").read_bytes()
    asked(folder, "reindex")
    assert (folder / "index.json").read_bytes() == before
    assert command("verify", "--archive", folder).code == 0


def test_show_has_every_model_with_class_figures_and_reason(archive: Path) -> None:
    """Lines about the run, then a row a model in the summary's order."""
    done = asked(archive, "show", "20240103_000000")
    head, (_, *rows) = done.lines[:3], done.lines[4:]
    assert head[0] == "20240103_000000: 2 APPROVED, 1 REVIEW, 0 DROP"
    assert head[1] == "run name: nightly [bold]sweep[/bold]"
    assert head[2].startswith("policy ")
    assert [line.split()[0] for line in rows] == ["A", "[red]x[/red]", "B"]
    assert "checkpoint 100" in rows[0]


def test_show_in_json_agrees_with_check(archive: Path) -> None:
    """What the archive remembers of a model is what `check` says of the archived bytes."""
    for timestamp in RUNS:
        (checked,) = json.loads(command("check", "--json", archive / timestamp / "summary.json").out)
        shown = in_json(archive, "show", timestamp)
        assert shown["models"] == checked["models"]
        assert shown["policy"] == checked["policy"]


def test_report_is_printed_as_it_stands(archive: Path) -> None:
    """--report is recommendations.md byte for byte."""
    report = (archive / "20240103_000000" / "recommendations.md").read_text(encoding="utf-8")
    assert asked(archive, "show", "--report").out == report


def test_approved_prints_symbol_and_checkpoint_a_line(archive: Path) -> None:
    """`modelwarden approved | while read -r symbol checkpoint` has both, in the summary's order.

    A peaked at 100, but what else it was there is not known: the last checkpoint is the one that was judged.
    """
    assert asked(archive, "approved").out == f"A\t150\n{STRANGE}\tlast\n"
    assert asked(archive, "approved", "20240101_000000").out == "A\tlast\n"
    assert in_json(archive, "approved") == {
        "run": "20240103_000000",
        "approved": ["A", STRANGE],
        "models": [
            {
                "symbol": "A",
                "checkpoint": 150,
                "point": 3,
                "is_last": True,
                "remark": "peaked at 100; its other figures there are not known",
            },
            {"symbol": STRANGE, "checkpoint": None, "point": None, "is_last": True, "remark": None},
        ],
    }


def test_approved_with_names_prints_the_symbols_alone(archive: Path) -> None:
    """`for symbol in $(modelwarden approved --names)` gets symbols and nothing else."""
    assert asked(archive, "approved", "--names").out == f"A\n{STRANGE}\n"


GOOD_POINT, BETTER_POINT = (0.9, 2.4, 0.9, 0.04), (0.98, 2.5, 0.95, 0.02)
DECLINING = {
    "BETTER": [(0.5, 1.0, 0.5, 0.2), BETTER_POINT, GOOD_POINT],  # peaked where all was good
    "LUCKY": [(0.98, 1.1, 0.9, 0.04), GOOD_POINT, GOOD_POINT],  # peaked where the profit factor was not
    "STEADY": [GOOD_POINT, GOOD_POINT, GOOD_POINT],
}


@pytest.mark.parametrize("interval", [{"validation_interval": 50}, {}])
def test_approved_has_the_peaks_checkpoint_only_if_approved_there(tmp_path: Path, interval: dict[str, Any]) -> None:
    """What a deploy script loads was judged, and was judged APPROVED; the one at a better fitness need not be."""
    with TrainingArchiveManager(tmp_path / "archive") as manager:
        run = manager.archive_training_run(series_summary(DECLINING, **interval))
        chosen = manager.get_approved_checkpoints(run.timestamp)
        assert manager.get_approved_models(run.timestamp) == list(DECLINING)
    known = bool(interval)
    lines = (
        ("BETTER\t100", "LUCKY\t150", "STEADY\t150") if known else ("BETTER\tpoint 2", "LUCKY\tlast", "STEADY\tlast")
    )
    assert asked(tmp_path / "archive", "approved").lines == list(lines)
    models = in_json(tmp_path / "archive", "approved")["models"]
    assert models == [asdict(each) | {"remark": each.remark or None} for each in chosen]
    assert [(each.checkpoint, each.point, each.is_last) for each in chosen] == [
        (100 if known else None, 2, False),
        (150 if known else None, 3, True),
        (150 if known else None, 3, True),
    ]
    peaks = ("100", "50") if known else ("validation point 2", "validation point 1")
    assert [each.remark for each in chosen] == [
        f"peaked at {peaks[0]}; its figures there: APPROVED",
        f"peaked at {peaks[1]}; its figures there: DROP (profit factor 1.10 < 1.30)",
        "",
    ]


def test_show_check_and_history_tell_of_a_peak_that_was_not_approved(tmp_path: Path) -> None:
    """The same words everywhere, no instruction among them."""
    data = encoded(series_summary(DECLINING, validation_interval=50, timestamp="20240103_000000"))
    (tmp_path / "a.json").write_bytes(data)
    with TrainingArchiveManager(tmp_path / "archive") as manager:
        manager.archive_training_run(json.loads(data))
    for done in (
        command("check", tmp_path / "a.json"),
        asked(tmp_path / "archive", "show"),
        asked(tmp_path / "archive", "history", "LUCKY"),
    ):
        (line,) = [line for line in done.lines if "peaked" in line]
        assert line.endswith("; peaked at 50; its figures there: DROP (profit factor 1.10 < 1.30)")
        assert "use checkpoint 50" not in done.out
    (better,) = in_json(tmp_path / "archive", "history", "BETTER")
    assert better["checkpoint_advice"] == "use checkpoint 100 instead of the last; its figures there: APPROVED"
    assert better["at_checkpoint"] == {
        "classification": "APPROVED",
        "metrics": dict(zip(Policy.from_config().metrics, BETTER_POINT, strict=True)),
    }
    (lucky,) = in_json(tmp_path / "archive", "history", "LUCKY")
    assert lucky["at_checkpoint"]["classification"] == "DROP"
    (steady,) = in_json(tmp_path / "archive", "history", "STEADY")
    assert (steady["checkpoint_advice"], steady["at_checkpoint"], steady["last_checkpoint"]) == (None, None, 150)


def test_show_lists_what_cannot_be_known_beside_the_flags(archive: Path) -> None:
    """A model without a history is told from one that only rose."""
    rows = asked(archive, "show", "20240103_000000").lines[5:]
    assert ["NO_HISTORY" in row for row in rows] == [False, True, True]
    assert [model["remarks"] for model in in_json(archive, "show")["models"]] == [[], ["NO_HISTORY"], ["NO_HISTORY"]]


def test_approved_of_a_run_without_any_is_empty(archive: Path) -> None:
    """Nothing approved is an answer, not an error."""
    assert asked(archive, "approved", "20240102_000000").out == ""


def test_history_lists_a_symbol_over_the_runs_oldest_first(archive: Path) -> None:
    """How one model fared, run by run; runs without it are left out."""
    done = asked(archive, "history", "A")
    assert [line.split()[:2] for line in done.lines[2:]] == [
        ["20240101_000000", "APPROVED"],
        ["20240102_000000", "REVIEW"],
        ["20240103_000000", "APPROVED"],
    ]
    assert [row["run"] for row in in_json(archive, "history", "B")] == ["20240101_000000", "20240103_000000"]
    assert [row["run"] for row in in_json(archive, "history", "A", "--limit", "1")] == ["20240103_000000"]


def test_history_finds_a_symbol_of_any_text(archive: Path) -> None:
    """A symbol is found as it is written, markup and emoji included."""
    (row,) = in_json(archive, "history", STRANGE)
    assert row["symbol"] == STRANGE
    assert "20240103_000000" in asked(archive, "history", STRANGE).out


@pytest.mark.parametrize(
    "question",
    [
        ["show", "20240101_000001"],
        ["show", "../archive/20240101_000000"],
        ["show", ""],
        ["show", "20240101_000000\n"],
        ["show", "rejected", "--report"],
        ["approved", "20240101"],
        ["history", "NOBODY"],
        ["history", "a"],
    ],
)
def test_question_about_what_is_not_there_is_one_message(archive: Path, question: list[str]) -> None:
    """An unknown run or symbol ends with 2 and one line that names it and the archive."""
    done = command(*question, "--archive", archive)
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith(f"modelwarden: {archive}: no run")
    assert repr(question[1]) in line


@pytest.mark.parametrize("question", ["show", "approved"])
def test_question_about_an_empty_archive_is_one_message(tmp_path: Path, question: str) -> None:
    """Where nothing was archived yet, that is said."""
    (tmp_path / "archive").mkdir()
    done = command(question, "--archive", tmp_path / "archive")
    assert (done.code, done.out) == (2, "")
    assert "the archive has no runs" in done.err


@pytest.mark.parametrize("question", [["runs"], ["show"], ["approved"], ["history", "A"], ["reindex"]])
def test_question_about_a_missing_archive_makes_none(tmp_path: Path, question: list[str]) -> None:
    """A misspelt --archive is an error, and no empty archive stands there afterwards."""
    done = command(*question, "--archive", tmp_path / "misspelt")
    assert done.code == 2
    assert str(tmp_path / "misspelt") in done.err
    assert os.listdir(tmp_path) == []


def contents(archive: Path) -> Iterator[tuple[str, int, int, bytes]]:
    """Every file of the archive but the state's, with inode, time and bytes."""
    for path in sorted(archive.rglob("*")):
        if path.is_file() and ".state" not in path.parts and path.name != ".index.lock":
            yield str(path), path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()


def test_asking_changes_nothing_in_the_archive(own: Path) -> None:
    """However much is asked, no file of the archive is written, not even with the same bytes."""
    before = list(contents(own))
    for question in (["runs"], ["show"], ["show", "--report"], ["approved"], ["history", "A"]):
        asked(own, *question)
    assert list(contents(own)) == before


def test_run_that_came_by_other_hands_is_in_the_answer(own: Path, tmp_path: Path) -> None:
    """The archive is the truth: a run that another machine put there is found without being told."""
    with TrainingArchiveManager(tmp_path / "other") as manager:
        manager.archive_training_run(flat_summary({"NEW": GOOD}, timestamp="20250101_000000"))
    shutil.copytree(tmp_path / "other" / "20250101_000000", own / "20250101_000000")
    assert asked(own, "approved").out == "NEW\tlast\n"


def test_run_that_was_removed_is_not_in_the_answer(own: Path) -> None:
    """A run that a person deleted is gone from every answer."""
    shutil.rmtree(own / "20240103_000000")
    assert [row["timestamp"] for row in in_json(own, "runs")] == ["20240101_000000", "20240102_000000"]
    assert command("history", STRANGE, "--archive", own).code == 2


def test_questions_are_answered_while_a_daemon_works(tmp_path: Path) -> None:
    """It has the state file open, and its log lies beside it."""
    site = make_site(tmp_path)
    with running_daemon("--config", site.config, "--no-courier", log=site.log) as daemon:
        for number in range(3):
            data = encoded(flat_summary({"A": GOOD}, timestamp=f"2024010{number + 1}_000000"))
            drop(data, site.out, f"{number}.json")
        daemon.wait_for("run_archived", 3)
        assert (site.state / "modelwarden.sqlite-wal").exists()
        assert len(in_json(site.archive, "runs")) == 3
        assert [each["run"] for each in in_json(site.archive, "history", "A")] == [
            "20240101_000000",
            "20240102_000000",
            "20240103_000000",
        ]
        assert daemon.stop() == 0


@pytest.mark.parametrize("spoil", [b"", b"no database", None], ids=["empty", "garbage", "folder"])
def test_state_that_cannot_be_read_does_not_change_the_answers(own: Path, archive: Path, spoil: bytes | None) -> None:
    """The folders say the same."""
    shutil.rmtree(own / ".state")
    (own / ".state").mkdir()
    state = own / ".state" / "modelwarden.sqlite"
    state.mkdir() if spoil is None else state.write_bytes(spoil)
    for question in (["runs"], ["show"], ["approved"], ["history", "A"], ["diff"]):
        assert asked(own, *question).out == asked(archive, *question).out


def test_run_under_the_name_of_another_is_not_taken_for_it(own: Path, tmp_path: Path) -> None:
    """The catalog has the old one: its history is the folder's all the same."""
    with TrainingArchiveManager(tmp_path / "other") as manager:
        manager.archive_training_run(flat_summary({"A": BAD, "NEW": GOOD}, timestamp="20240102_000000"))
    shutil.rmtree(own / "20240102_000000")
    shutil.copytree(tmp_path / "other" / "20240102_000000", own / "20240102_000000")
    (own / "index.json").unlink()
    shutil.copy(tmp_path / "other" / "index.json", own / "index.json")
    classes = {each["run"]: each["classification"] for each in in_json(own, "history", "A")}
    assert classes == {"20240101_000000": "APPROVED", "20240102_000000": "DROP", "20240103_000000": "APPROVED"}
    assert [each["run"] for each in in_json(own, "history", "NEW")] == ["20240102_000000"]


def test_diff_of_the_last_two_runs_shows_what_changed(archive: Path) -> None:
    """Classes first to last, figures of both, models that came and went."""
    lines = asked(archive, "diff").lines
    assert lines[0] == "20240102_000000 -> 20240103_000000: 4 models of another class, new or gone"
    rows = {line.split("   ")[0].strip(): line for line in lines[3:]}
    assert "REVIEW -> APPROVED" in rows["A"]
    assert "fitness 0.6 -> 0.91" in rows["A"]
    assert "REVIEW, new" in rows["B"]
    assert "DROP, gone" in rows[LONGEST]


def test_diff_of_two_named_runs_is_the_same_either_way_round(archive: Path) -> None:
    """The first is before."""
    forth = in_json(archive, "diff", "20240101_000000", "20240103_000000")
    back = in_json(archive, "diff", "20240103_000000", "20240101_000000")
    assert (forth["before"]["timestamp"], forth["after"]["timestamp"]) == ("20240101_000000", "20240103_000000")
    classes = {each["symbol"]: (each["before"] or {}).get("classification") for each in forth["models"]}
    assert classes == {STRANGE: None, "B": "DROP"}, "A has the same class and figures in both"
    assert {each["symbol"] for each in back["models"]} == {each["symbol"] for each in forth["models"]}


def test_diff_without_an_earlier_run_says_so(tmp_path: Path) -> None:
    """One run has nothing to be held against."""
    with TrainingArchiveManager(tmp_path / "archive") as manager:
        manager.archive_training_run(flat_summary(timestamp="20240101_000000"))
    done = command("diff", "--archive", tmp_path / "archive")
    assert (done.code, done.out) == (2, "")
    assert "there is no run before 20240101_000000" in done.err


@pytest.mark.parametrize("lost", ["index.json", ".state"])
def test_lost_index_or_state_does_not_change_the_answers(own: Path, archive: Path, lost: str) -> None:
    """Both are derived: the same questions get the same answers without them."""
    path = own / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    for question in (["runs"], ["show"], ["history", "A"]):
        assert asked(own, *question).out == asked(archive, *question).out


@pytest.mark.parametrize("question", [["runs"], ["show", "20240102_000000"]])
def test_table_that_is_no_terminal_has_one_line_a_row(archive: Path, question: list[str]) -> None:
    """`| grep` and `| awk` get whole rows: nothing is cut or folded, however long a symbol or a reason is."""
    rows = asked(archive, *question).lines
    expected = len(RUNS) if question == ["runs"] else len(RUNS["20240102_000000"])
    assert len(rows[rows.index(next(line for line in rows if set(line) == {"─"})) + 1 :]) == expected


def test_long_run_name_is_not_folded(tmp_path: Path) -> None:
    """The longest name that a run may have stands on its row."""
    with TrainingArchiveManager(tmp_path) as manager:
        manager.archive_training_run(flat_summary({"A": GOOD}, run_name="n" * 256))
    assert asked(tmp_path, "runs").lines[-1].endswith("n" * 256)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_archive_that_may_only_be_read_can_be_asked(own: Path) -> None:
    """Somebody who is not the service's user asks the archive too: it is readable, and asking changes nothing."""
    folders = [own, *(path for path in own.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o500)
    try:
        assert asked(own, "approved").out == f"A\t150\n{STRANGE}\tlast\n"
    finally:
        for folder in folders:
            folder.chmod(0o700)
