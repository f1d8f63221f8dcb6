"""`runs`, `show`, `approved` and `history` answer from the archive as it is now, and change nothing in it."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from answers import answer, assert_fits
from commands import Done, command
from modelwarden import TrainingArchiveManager
from modelwarden.gate.assessment import Classification, Flag, Remark
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
    """The answer as data; it is what the schema says of that command."""
    answer = json.loads(asked(archive, *arguments, "--json").out, parse_constant=pytest.fail)
    assert_fits(answer, arguments[0])
    return answer


def test_runs_are_listed_oldest_first_with_their_counts(archive: Path) -> None:
    """A row a run: its name, how many models of each class, the policy and the trainer's name for it."""
    done = asked(archive, "runs")
    assert done.lines[0].split() == ["run", "APPROVED", "REVIEW", "DROP", "policy", "archived", "run", "name"]
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
    assert done.lines[4] == "1 older run: --last 3 shows all"
    assert len(in_json(archive, "runs", "-n", "1")["runs"]) == 1


def test_runs_in_json_are_the_records(archive: Path) -> None:
    """--json has the fields of the index, for scripts."""
    rows = in_json(archive, "runs")["runs"]
    index = json.loads((archive / "index.json").read_bytes())["runs"]
    for row, entry in zip(rows, index, strict=True):
        shared = row.keys() & entry.keys()
        assert shared >= {"timestamp", "run_name", "archived_at", "sha256", "approved_count", "dropped_count", "policy"}
        assert {name: row[name] for name in shared - {"source"}} == {name: entry[name] for name in shared - {"source"}}


def test_one_of_a_thing_is_told_as_one(tmp_path: Path) -> None:
    """Numbers and their nouns agree, whatever is counted."""
    folder = tmp_path / "archive"
    with TrainingArchiveManager(folder) as manager:
        manager.archive_training_run(
            flat_summary({"A": GOOD | {"fitness_history": [0.91]}}, timestamp="20240101_000000")
        )
        manager.archive_training_run(flat_summary({"A": MIDDLING}, timestamp="20240102_000000"))
    assert ": 1 model of another class, new or gone\n" in asked(folder, "diff").out
    assert ", 1 point\n" in asked(folder, "show", "20240101", "A").out
    assert "1 changes class\n" in asked(folder, "regate", "--set", "approved_min_pf=3").out
    assert "1 older run: --last 2 shows all\n" in asked(folder, "runs", "-n", "1").out


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
    assert [run["remarks"] for run in in_json(folder, "runs")["runs"]] == [[], ["TIMESTAMP_AHEAD"]]
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
        (checked,) = json.loads(command("check", "--json", archive / timestamp / "summary.json").out)["files"]
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
        "schema_version": 1,
        "run": "20240103_000000",
        "approved": ["A", STRANGE],
        "models": [
            {
                "symbol": "A",
                "checkpoint": 150,
                "point": 3,
                "is_last": True,
                "remark": "peaked at 100; its other figures there are not known",
                "review": None,
            },
            {"symbol": STRANGE, "checkpoint": None, "point": None, "is_last": True, "remark": None, "review": None},
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
    assert [{"reviewed_by": model.pop("review"), **model} for model in models] == [
        asdict(each) | {"remark": each.remark or None} for each in chosen
    ]
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
    (better,) = in_json(tmp_path / "archive", "history", "BETTER")["history"]
    assert better["checkpoint_advice"] == "use checkpoint 100 instead of the last; its figures there: APPROVED"
    assert better["at_checkpoint"] == {
        "classification": "APPROVED",
        "metrics": dict(zip(Policy.from_config().metrics, BETTER_POINT, strict=True)),
    }
    (lucky,) = in_json(tmp_path / "archive", "history", "LUCKY")["history"]
    assert lucky["at_checkpoint"]["classification"] == "DROP"
    (steady,) = in_json(tmp_path / "archive", "history", "STEADY")["history"]
    assert (steady["checkpoint_advice"], steady["at_checkpoint"], steady["last_checkpoint"]) == (None, None, 150)


def test_show_lists_what_cannot_be_known_beside_the_flags(archive: Path) -> None:
    """A model without a history is told from one that only rose."""
    rows = asked(archive, "show", "20240103_000000").lines[5:]
    assert ["NO_HISTORY" in row for row in rows] == [False, True, True]
    assert [model["remarks"] for model in in_json(archive, "show")["models"]] == [[], ["NO_HISTORY"], ["NO_HISTORY"]]


def test_approved_of_a_run_without_any_is_empty_and_no(archive: Path) -> None:
    """Nothing approved is an answer, not an error, and the answer is no."""
    assert command("approved", "20240102_000000", "--archive", archive) == (1, "", "")


def test_history_lists_a_symbol_over_the_runs_oldest_first(archive: Path) -> None:
    """How one model fared, run by run; runs without it are left out."""
    done = asked(archive, "history", "A")
    assert [line.split()[:2] for line in done.lines[2:5]] == [
        ["20240101_000000", "APPROVED"],
        ["20240102_000000", "REVIEW"],
        ["20240103_000000", "APPROVED"],
    ]
    assert [row["run"] for row in in_json(archive, "history", "B")["history"]] == ["20240101_000000", "20240103_000000"]
    assert [row["run"] for row in in_json(archive, "history", "A", "--limit", "1")["history"]] == ["20240103_000000"]


def test_history_finds_a_symbol_of_any_text(archive: Path) -> None:
    """A symbol is found as it is written, markup and emoji included."""
    (row,) = in_json(archive, "history", STRANGE)["history"]
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
        ["approved", "20250101"],
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
    assert [row["timestamp"] for row in in_json(own, "runs")["runs"]] == ["20240101_000000", "20240102_000000"]
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
        assert len(in_json(site.archive, "runs")["runs"]) == 3
        assert [each["run"] for each in in_json(site.archive, "history", "A")["history"]] == [
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
    classes = {each["run"]: each["classification"] for each in in_json(own, "history", "A")["history"]}
    assert classes == {"20240101_000000": "APPROVED", "20240102_000000": "DROP", "20240103_000000": "APPROVED"}
    assert [each["run"] for each in in_json(own, "history", "NEW")["history"]] == ["20240102_000000"]


def test_diff_of_the_last_two_runs_shows_what_changed(archive: Path) -> None:
    """Classes first to last, figures of both, models that came and went."""
    lines = asked(archive, "diff").lines
    assert lines[0] == "20240102_000000 -> 20240103_000000: 4 models of another class, new or gone"
    rows = {line.split("  ")[0].strip(): line for line in lines[3:]}
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


NAMED = {
    "20250101_000000": "nightly",
    "20250101_120000": "nightly",
    "20250102_000000": "weekly 学習",
    "20250102_000000_2": "20250101",
}


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of four runs with names; two of one second. Only looked at."""
    folder = tmp_path_factory.mktemp("named") / "archive"
    with TrainingArchiveManager(folder) as manager:
        for number, (timestamp, name) in enumerate(NAMED.items()):
            models: dict[str, dict[str, Any]] = {f"BTC{number}": GOOD, "ETH": BAD if number % 2 else GOOD}
            stamp = timestamp.removesuffix("_2")
            manager.archive_training_run(flat_summary(models, timestamp=stamp, run_name=name))
    return folder


MEANT = {
    "latest": "20250102_000000_2",
    "20250101_12": "20250101_120000",
    "2025-01-01T12": "20250101_120000",
    "2025-01-01 00:00": "20250101_000000",
    "20250102_000000": "20250102_000000",
    "weekly 学習": "20250102_000000",
    "20250102_000000_": "20250102_000000_2",
}


@pytest.mark.parametrize("state", [True, False], ids=["catalog", "folders"])
@pytest.mark.parametrize("text", MEANT)
def test_run_is_found_by_what_a_person_calls_it(named: Path, tmp_path: Path, text: str, state: bool) -> None:
    """`latest`, the beginning of a name, a date, the trainer's name: with the state and without it."""
    archive = named if state else Path(shutil.copytree(named, tmp_path / "copy"))
    if not state:
        shutil.rmtree(archive / ".state")
    assert in_json(archive, "show", text)["run"] == MEANT[text]
    assert in_json(archive, "approved", text)["run"] == MEANT[text]


@pytest.mark.parametrize("state", [True, False], ids=["catalog", "folders"])
@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("nightly", ["20250101_000000", "20250101_120000"]),
        ("2025-01-02", ["20250102_000000", "20250102_000000_2"]),
        # A trainer that calls its run like a day must not be taken for that day's run, nor the other way round.
        ("20250101", ["20250101_000000", "20250101_120000", "20250102_000000_2"]),
    ],
)
def test_name_that_fits_several_runs_is_refused_with_all_of_them(
    named: Path, tmp_path: Path, text: str, runs: list[str], state: bool
) -> None:
    """Exit code 2, and what there is to choose from."""
    archive = named if state else Path(shutil.copytree(named, tmp_path / "copy"))
    if not state:
        shutil.rmtree(archive / ".state")
    done = command("show", text, "--archive", archive)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"modelwarden: {archive}: {text!r} may mean {len(runs)} runs: {', '.join(runs)}\n"


def test_history_says_what_it_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older runs, and those over which a course is not drawn; no line is left to the terminal to break."""
    with TrainingArchiveManager(tmp_path) as manager:
        for minute in range(45):
            manager.archive_training_run(flat_summary({"A": GOOD}, timestamp=f"20250101_00{minute:02d}00"))
    whole = asked(tmp_path, "history", "A").out
    assert "left out" not in whole
    assert "course over the last 40 runs\n" in whole
    monkeypatch.setattr("modelwarden.cli.comparing.width", lambda: 60)
    lines = asked(tmp_path, "history", "A", "--last", "44").lines
    assert "older runs are left out: --last 88 shows more" in lines
    (start,) = (at for at, line in enumerate(lines) if line.startswith("course over the last "))
    assert max(map(len, lines[start:])) <= 60
    assert len(lines[start + 1].split()[1]) == int(lines[start].split()[-2])


def test_name_that_fits_many_runs_is_refused_with_the_last_of_them(tmp_path: Path) -> None:
    """What is named is said to be a part."""
    with TrainingArchiveManager(tmp_path) as manager:
        for day in range(1, 13):
            manager.archive_training_run(flat_summary({"A": GOOD}, timestamp=f"202501{day:02d}_000000"))
    named = ", ".join(f"202501{day:02d}_000000" for day in range(3, 13))
    done = command("show", "2025", "--archive", tmp_path)
    assert done.err.endswith(f"'2025' may mean 12 runs: the last 10 of them are {named}\n")


def test_whole_name_of_a_run_that_is_gone_means_no_other(own: Path) -> None:
    """`_2` is another run: a script that names one which was removed gets an error, not that one's models."""
    with TrainingArchiveManager(own) as manager:
        manager.archive_training_run(flat_summary({"OTHER": GOOD}, timestamp="20240101_000000"))
    shutil.rmtree(own / "20240101_000000")
    assert (own / "20240101_000000_2").is_dir()
    assert command("approved", "20240101_000000", "--archive", own).code == 2


FILTERS: list[tuple[list[str], list[str]]] = [
    (["--since", "2025-01-02"], ["20250102_000000", "20250102_000000_2"]),
    (["--since", "2025-01-01T12:00:00"], ["20250101_120000", "20250102_000000", "20250102_000000_2"]),
    (["--symbol", "BTC1"], ["20250101_120000"]),
    (["--symbol", "BTC[23]"], ["20250102_000000", "20250102_000000_2"]),
    (["--symbol", "E*", "--class", "drop"], ["20250101_120000", "20250102_000000_2"]),
    (["--class", "DROP"], ["20250101_120000", "20250102_000000_2"]),
    (["--name", "nightly"], ["20250101_000000", "20250101_120000"]),
    (["--name", "*学習"], ["20250102_000000"]),
    (["--last", "1"], ["20250102_000000_2"]),
    (["--name", "night*", "--last", "1"], ["20250101_120000"]),
]


@pytest.mark.parametrize("state", [True, False], ids=["catalog", "folders"])
@pytest.mark.parametrize(("filters", "expected"), FILTERS, ids=" ".join)
def test_runs_can_be_asked_for_by_what_is_in_them(
    named: Path, tmp_path: Path, filters: list[str], expected: list[str], state: bool
) -> None:
    """Each filter, and several at once; what is hidden is counted among those that fit."""
    archive = named if state else Path(shutil.copytree(named, tmp_path / "copy"))
    if not state:
        shutil.rmtree(archive / ".state")
    answer = in_json(archive, "runs", *filters)
    assert [run["run"] for run in answer["runs"]] == expected
    hidden = {"1": len(NAMED) - 1}.get(filters[-1], 0) if filters[0] == "--last" else int("--last" in filters)
    assert answer["hidden"] == hidden


@pytest.mark.parametrize(
    "filters", [["--symbol", "NONE"], ["--class", "REVIEW"], ["--since", "2030-01-01"], ["--symbol", "\udcff"]]
)
def test_runs_of_which_none_fits_is_no(named: Path, filters: list[str]) -> None:
    """A sentence for a person, an empty list for a machine, exit code 1 for both."""
    shown = command("runs", *filters, "--archive", named)
    asked_in_json = command("runs", *filters, "--json", "--archive", named)
    assert (shown.code, shown.out, asked_in_json.code) == (1, "no run is what was asked for\n", 1)
    assert json.loads(asked_in_json.out)["runs"] == []


@pytest.mark.parametrize("since", ["yesterday", "7x", "", "99999999999w", "2024-13-01"])
def test_since_that_is_no_moment_is_one_message(named: Path, since: str) -> None:
    """What was given, and what can be."""
    done = command("runs", "--since", since, "--archive", named)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"modelwarden: --since {since!r}: is no date and no age: give a date")


def test_show_can_be_sorted_and_narrowed(archive: Path) -> None:
    """By symbol, class or a metric, the best first, what can't be judged last; one class alone."""

    def symbols(*words: str) -> list[str]:
        return [model["symbol"] for model in in_json(archive, "show", "20240103", *words)["models"]]

    assert symbols() == ["A", STRANGE, "B"]
    assert symbols("--sort", "symbol") == ["A", "B", STRANGE]
    assert symbols("--sort", "max_drawdown")[-1] == "B"
    assert symbols("--sort", "PF")[-1] == "B"
    assert symbols("--class", "review") == ["B"]
    assert command("show", "--class", "DROP", "--archive", archive).code == 1
    refused = command("show", "--sort", "beauty", "--archive", archive)
    assert (refused.code, refused.out) == (2, "")
    assert "there are symbol, class, fitness" in refused.err


def test_show_of_a_model_has_bounds_words_and_course(tmp_path: Path) -> None:
    """Each figure between its bounds, each flag in words, where it peaked and what to use."""
    points = [(0.5, 1.0, 0.5, 0.2), *[BETTER_POINT] * 3, GOOD_POINT, GOOD_POINT]
    with TrainingArchiveManager(tmp_path) as manager:
        manager.archive_training_run(
            series_summary({STRANGE: points}, validation_interval=50, timestamp="20250101_000000")
        )
    lines = asked(tmp_path, "show", "latest", STRANGE).lines
    assert lines[0] == f"{STRANGE}: APPROVED in run 20250101_000000"
    bars = [line for line in lines if "┊" in line]
    assert len(bars) == 4
    assert all(line.count("●") == 1 and line.rindex("┊") < line.index("●") for line in bars), "in the right third"
    (course,) = [at for at, line in enumerate(lines) if line.startswith("course")]
    assert lines[course].endswith("0.5 -> 0.9, 6 points")
    assert lines[course + 1].index("▲") == 12 + 1, "below the second point"
    assert "peak 0.98 at point 2, checkpoint 100: use this one" in lines[course + 1]
    assert "FITNESS_DECLINE" in lines
    assert any("was better before" in line for line in lines)
    answer = in_json(tmp_path, "show", "latest", STRANGE)
    (model,) = answer["models"]
    assert model["course"] == [point[0] for point in points]
    assert model["bounds"]["max_drawdown"] == {"better": "lower", "approve": 0.08, "review": 0.15}
    assert list(model["meanings"]) == model["flags"] == ["FITNESS_DECLINE"]


@pytest.mark.parametrize("wide", [60, 80])
def test_model_fits_a_narrow_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wide: int) -> None:
    """The bar goes if there is no room for it; figures and bounds stay beside one another, and a course stays whole."""
    points = [(0.5, 1.0, 0.5, 0.2), *[BETTER_POINT] * 40, GOOD_POINT, GOOD_POINT]
    with TrainingArchiveManager(tmp_path) as manager:
        manager.archive_training_run(series_summary({"A": points}, timestamp="20250101_000000"))
    monkeypatch.setattr("modelwarden.cli.model_card.width", lambda: wide)
    lines = asked(tmp_path, "show", "latest", "A").lines
    assert max(map(len, lines)) <= wide
    assert any(line.split()[-4:] == [">=", "1.3", ">=", "1.8"] for line in lines)
    assert sum("┊" in line for line in lines) == (4 if wide == 80 else 0)
    assert any("0.5 -> 0.9, 43 points" in line for line in lines)


@pytest.mark.parametrize("spoiled", [None, b"", b"{}", b"\xff"])
def test_model_is_shown_without_its_course_if_the_summary_is_spoiled(own: Path, spoiled: bytes | None) -> None:
    """What was judged is known all the same."""
    summary = own / "20240103_000000" / "summary.json"
    summary.unlink() if spoiled is None else summary.write_bytes(spoiled)
    done = command("show", "20240103", "A", "--archive", own)
    assert done.code == (0 if spoiled is not None else 2)
    assert "course" not in done.out


def test_model_that_the_run_has_not_is_one_message(archive: Path) -> None:
    """Which run, which symbol, what to do."""
    done = command("show", "latest", "NOBODY", "--archive", archive)
    assert (done.code, done.out) == (2, "")
    assert "run 20240103_000000 has no model called 'NOBODY'" in done.err


EXPLAINED = ["FITNESS_DECLINE", "low_pf", "max_drawdown", "Profit Factor", "APPROVED", "NO_HISTORY"]


@pytest.mark.parametrize("word", EXPLAINED)
def test_word_is_explained_with_its_bound(word: str) -> None:
    """Flags, metrics, classes and remarks, however they are written; a bound names its setting."""
    done = command("explain", word)
    assert (done.code, done.err) == (0, "")
    assert done.lines[0].lower().startswith(word.lower().replace(" ", "_"))
    answer = json.loads(command("explain", word, "--json").out)
    assert_fits(answer, "explain")
    (found,) = answer["words"]
    if found["kind"] in {"flag", "metric"}:
        assert any("(" in bound for bound in found["bounds"])


def test_word_that_is_none_is_answered_with_different_ones_that_are_near(tmp_path: Path) -> None:
    """Each policy has the classes: a suggestion stands once all the same."""
    config = tmp_path / "config.toml"
    gate = '[[policy.gate]]\nmetric = "loss"\nbetter = "lower"\napprove = 0.3\nreview = 0.5\n'
    config.write_text("".join(f'[[policy]]\nname = "{name}"\n{gate}' for name in ("llm", "vision")))
    done = command("explain", "drops", "--config", config)
    assert done.code == 2
    assert done.err.count("DROP") == 1


def test_every_flag_is_explained() -> None:
    """Without a word all of them; no flag of the gate lacks words."""
    answer = json.loads(command("explain", "--json").out)
    assert_fits(answer, "explain")
    assert {each["name"] for each in answer["words"]} >= {*Flag, *Remark, *Classification}


def test_explanation_has_the_bounds_of_the_settings(tmp_path: Path) -> None:
    """A team's own bound and a policy's own metric; another policy by its name."""
    config = tmp_path / "config.toml"
    config.write_text(
        "[gate]\napproved_min_pf = 2.5\n"
        '[[policy]]\nname = "llm"\nhistory = "loss"\n'
        '[[policy.gate]]\nmetric = "loss"\nbetter = "lower"\napprove = 0.3\nreview = 0.5\n'
        '[[policy.gate]]\nmetric = "fitness"\napprove = 9.0\nreview = 1.0\n'
    )
    assert "APPROVED >= 2.5 (approved_min_pf in [gate])" in command("explain", "profit_factor", "-c", config).out
    assert 'loss > 0.5 (review in [[policy.gate]] of "llm")' in command("explain", "HIGH_LOSS", "-c", config).out
    assert ">= 0.7 " in command("explain", "fitness", "-c", config).out
    assert ">= 9.0 " in command("explain", "fitness", "--policy", "llm", "-c", config).out
    refused = command("explain", "fitness", "--policy", "x", "-c", config)
    assert (refused.code, refused.out) == (2, "")


@pytest.mark.parametrize(("word", "hint"), [("FITNES_DECLINE", "FITNESS_DECLINE"), ("\x1b[31m", "lists them")])
def test_unknown_word_is_one_message_with_what_was_meant(word: str, hint: str) -> None:
    """A slip of the hand is recognised."""
    done = command("explain", word)
    assert (done.code, done.out) == (2, "")
    assert hint in done.err
    assert "\x1b" not in done.err


def test_history_has_a_sparkline_for_each_metric(archive: Path) -> None:
    """The course over the runs at a glance, with the bound of APPROVED."""
    lines = asked(archive, "history", "A").lines
    (fitness,) = [line for line in lines if line.startswith("fitness")]
    assert fitness == "fitness  █▁█  0.91 -> 0.91  (APPROVED >= 0.7)"
    assert sum("(APPROVED" in line for line in lines) == 4


@pytest.mark.usefixtures("matplotlib")
def test_history_is_drawn_as_a_png(archive: Path, tmp_path: Path) -> None:
    """A picture of any symbol, and a sentence that says where it is; a place that can't be written to is told."""
    for symbol in ("A", STRANGE):
        done = asked(archive, "history", symbol, "--png", str(tmp_path / "out.png"))
        assert done.out.startswith(f"{tmp_path}/out.png: ")
        assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    refused = command("history", "A", "--png", tmp_path / "no" / "out.png", "--archive", archive)
    assert (refused.code, refused.out) == (2, "")
    assert "can't write" in refused.err


def test_diff_tells_better_from_worse(tmp_path: Path) -> None:
    """Class changes first; each figure in the column that says which way it went, for lower is better too."""
    before = {"MIXED": GOOD, "FELL": GOOD, "SAME": GOOD, "NAN": GOOD | {"final_pf": float("nan")}}
    after: dict[str, dict[str, Any]] = {
        "MIXED": GOOD | {"final_fitness": 0.95, "final_max_dd": 0.05},
        "NAN": GOOD,
        "SAME": GOOD,
        "FELL": BAD,
    }
    with TrainingArchiveManager(tmp_path) as manager:
        manager.archive_training_run(flat_summary(before, timestamp="20250101_000000"))
        manager.archive_training_run(flat_summary(after, timestamp="20250102_000000"))
    answer = in_json(tmp_path, "diff")
    assert [(each["symbol"], each["changed_class"]) for each in answer["models"]] == [
        ("NAN", True),
        ("FELL", True),
        ("MIXED", False),
    ]
    by_symbol = {each["symbol"]: (each["better"], each["worse"]) for each in answer["models"]}
    assert by_symbol["MIXED"] == (["fitness"], ["max_drawdown"])
    assert by_symbol["NAN"] == (["profit_factor"], [])
    assert by_symbol["FELL"] == ([], ["fitness", "profit_factor", "consistency", "max_drawdown"])
    (mixed,) = [line for line in asked(tmp_path, "diff").lines if line.startswith("MIXED")]
    assert mixed.split("  ")[-2:] == ["fitness 0.91 -> 0.95", "max DD 0.04 -> 0.05"]
    assert asked(tmp_path, "diff", "20250102", "20250102").lines[-1] == (
        "every model has the same class and the same figures"
    )


@pytest.mark.parametrize(
    "words", [["runs"], ["show"], ["approved"], ["history", "A"], ["diff"], ["show", "latest", "A"]]
)
def test_answer_in_a_pipe_has_no_escape(archive: Path, words: list[str]) -> None:
    """Plain text for scripts and logs, and times as a machine reads them."""
    done = asked(archive, *words)
    assert "\x1b" not in done.out
    assert " ago" not in done.out


@pytest.mark.parametrize("symbol", [[], ["A"]], ids=["all", "one"])
def test_report_is_in_the_answer_if_it_is_to_be_data(archive: Path, symbol: list[str]) -> None:
    """`--report --json` is one document, with the report in it."""
    report = (archive / "20240103_000000" / "recommendations.md").read_text(encoding="utf-8")
    assert answer("show", "latest", *symbol, "--report", "--archive", archive)["report"] == report
