"""`check` judges files without archiving them, and its exit code is the answer a script needs."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from answers import assert_fits
from commands import Done, command
from modelwarden.intake import reading
from modelwarden.intake.reading import Moving, Refused
from processes import drop, index_of, make_site, modelwarden
from summaries import BAD, GOOD, MIDDLING, encoded, flat_summary, series_summary

DATA = Path(__file__).parents[1] / "data"


def written(folder: Path, name: str, summary: dict[str, Any] | bytes) -> Path:
    path = folder / name
    path.write_bytes(summary if isinstance(summary, bytes) else encoded(summary))
    return path


@pytest.mark.parametrize(
    ("models", "code"),
    [
        ({"A": GOOD, "B": GOOD}, 0),
        ({"A": GOOD, "B": MIDDLING}, 1),
        ({"A": GOOD, "B": BAD}, 1),
        ({"A": MIDDLING}, 1),
        ({"A": GOOD | {"final_pf": float("nan")}}, 1),
    ],
)
def test_exit_code_says_whether_every_model_is_approved(tmp_path: Path, models: dict[str, Any], code: int) -> None:
    """0 where all are APPROVED, 1 where one is not: `modelwarden check f && deploy` is safe."""
    assert command("check", written(tmp_path, "a.json", flat_summary(models))).code == code


@pytest.mark.parametrize(
    "bad", [b"", b'{"models": [', b"[]", b'{"models": []}', b'{"models": [{"symbol": "A"}, {"symbol": "A"}]}', None]
)
def test_file_that_is_no_summary_is_bad_input(tmp_path: Path, bad: bytes | None) -> None:
    """2, one line on standard error that names the file, and the other files judged all the same."""
    good = written(tmp_path, "good.json", flat_summary({"A": GOOD}))
    path = tmp_path / "bad.json" if bad is None else written(tmp_path, "bad.json", bad)
    done = command("check", path, good)
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert line.startswith(f"modelwarden: {path}: ")
    assert done.lines[0] == f"{good}: 1 APPROVED, 0 REVIEW, 0 DROP"


def test_folder_is_bad_input(tmp_path: Path) -> None:
    """A folder is not a summary, and says so."""
    done = command("check", tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "is a folder" in done.err


def test_no_file_at_all_is_bad_input() -> None:
    """A glob that matched nothing does not pass as "all approved"."""
    assert command("check").code == 2


def test_table_has_a_row_a_model_with_class_figures_and_reason(tmp_path: Path) -> None:
    """In the summary's order: what each model is, its four figures, and why."""
    models = {"ZED": GOOD, "MID": MIDDLING, "LOW": BAD}
    done = command("check", written(tmp_path, "a.json", flat_summary(models)))
    assert done.lines[0] == f"{tmp_path}/a.json: 1 APPROVED, 1 REVIEW, 1 DROP"
    assert done.lines[1].split()[:6] == ["symbol", "class", "fitness", "PF", "cons.", "max"]
    rows = [line.split() for line in done.lines[3:6]]
    assert [row[:6] for row in rows] == [
        ["ZED", "APPROVED", "0.91", "2.4", "0.9", "0.04"],
        ["MID", "REVIEW", "0.6", "1.5", "0.7", "0.1"],
        ["LOW", "DROP", "0.2", "0.8", "0.4", "0.3"],
    ]
    assert "LOW_FITNESS" in done.lines[5]
    assert "HIGH_DRAWDOWN" in done.lines[5]


def test_checkpoint_is_named_where_one_is_recommended(tmp_path: Path) -> None:
    """The answer to "which checkpoint instead" stands in the row: (best_idx + 1) * validation_interval."""
    model = GOOD | {"fitness_history": [0.5, 1.2, 0.91]}
    done = command("check", written(tmp_path, "a.json", flat_summary({"A": model}, validation_interval=50)))
    assert "FITNESS_DECLINE" in done.lines[3]
    assert "checkpoint 100" in done.lines[3]


def files_in(done: Done) -> list[Any]:
    """What --json says of each file; it is as the schema has it."""
    answer = json.loads(done.out, parse_constant=pytest.fail)
    assert_fits(answer, "check")
    files: list[Any] = answer["files"]
    return files


def test_json_holds_every_file_and_model(tmp_path: Path) -> None:
    """--json is one strict JSON document, a file each, with figures, flags and reasons."""
    models: dict[str, dict[str, Any]] = {
        "A": GOOD | {"fitness_history": [0.5, 1.2, 0.91]},
        "B": BAD | {"final_pf": float("nan")},
    }
    one = written(tmp_path, "one.json", flat_summary(models, validation_interval=50))
    two = written(tmp_path, "two.json", series_summary({"C": [(0.9, 2.0, 0.9, 0.05)]}))
    done = command("check", "--json", one, two)
    assert done.code == 1
    first, second = files_in(done)
    assert (first["file"], second["file"]) == (str(one), str(two))
    assert first["policy"] == second["policy"]
    a, b = first["models"]
    assert (a["symbol"], a["classification"], a["use_checkpoint"], a["checkpoint_update"]) == (
        "A",
        "APPROVED",
        True,
        100,
    )
    assert a["flags"] == ["FITNESS_DECLINE", "UNSTABLE_TRAINING"]
    assert a["metrics"] == {"fitness": 0.91, "profit_factor": 2.4, "consistency": 0.9, "max_drawdown": 0.04}
    assert b["classification"] == "DROP"
    assert b["metrics"]["profit_factor"] is None
    assert "INVALID_METRIC" in b["flags"]
    assert all(isinstance(reason, str) for reason in b["reasons"])
    assert [model["symbol"] for model in second["models"]] == ["C"]


def test_json_of_bad_input_is_still_json(tmp_path: Path) -> None:
    """A script that parses the output of --json can do so whatever the files were."""
    bad = {"models": [{"symbol": "A", "final_pf": "x"}, {"final_pf": 2}], "run_name": 7}
    good = written(tmp_path, "good.json", flat_summary({"A": GOOD}))
    half, worse = written(tmp_path, "a.json", b"{"), written(tmp_path, "b.json", encoded(bad))
    done = command("check", "--json", half, good, worse)
    assert (done.code, done.err) == (2, "")
    cut, judged, wrong = files_in(done)
    assert (cut["file"], cut["more"], len(cut["problems"])) == (f"{tmp_path}/a.json", 0, 1)
    assert "not JSON" in cut["reason"]
    assert judged["models"][0]["classification"] == "APPROVED"
    assert [each["where"] for each in wrong["problems"]] == ["models[0].final_pf", "models[1].symbol", "run_name"]
    assert wrong["reason"].splitlines()[0] == 'models[0].final_pf: expected a number, got text "x"'


def test_each_problem_of_a_bad_file_is_a_line_with_its_name(tmp_path: Path) -> None:
    """All that is wrong at once, in lines that a script can take apart; what is not named is counted."""
    models = [{"symbol": f"S{index}", "final_pf": "x"} for index in range(23)]
    path = written(tmp_path, "a.json", encoded({"models": models}))
    done = command("check", path)
    assert (done.code, done.out) == (2, "")
    lines = done.err.splitlines()
    assert all(line.startswith(f"modelwarden: {path}: ") for line in lines)
    assert [line.removeprefix(f"modelwarden: {path}: ") for line in lines] == [
        *(f'models[{index}].final_pf: expected a number, got text "x"' for index in range(20)),
        "and 3 more",
    ]


BAD_FILES = {
    "empty": b"",
    "cut": b'{"models": [',
    "utf16": '{"models": []}'.encode("utf-16"),
    "lines": b"{}\n{}\n",
    "list": b"[]",
    "foreign": b'{"results": {"arc": {"acc,none": 0.5}}}',
    "twice": b'{"models": [{"symbol": "A", "final_pf": 1, "final_pf": 2}]}',
    "deep": b'{"models": ' * 1_000,
    "large": b'{"models": [' + b" " * 100_000 + b"]}",
    "wrong": encoded(
        {"models": [{"symbol": f"S{index}", "final_pf": "x"} for index in range(50)], "timestamp": "never"}
    ),
}


def test_check_and_the_daemon_say_the_same_of_every_bad_file(tmp_path: Path) -> None:
    """One reason, word for word, by the same limit on bytes: what passes the check is archived, and nothing else is."""
    site = make_site(tmp_path, intake="max_bytes = 50_000")
    for name, data in BAD_FILES.items():
        drop(data, site.out, f"{name}.json")
    drop(b"\xef\xbb\xbf" + encoded(flat_summary({"A": GOOD})), site.out, "bom.json")
    assert modelwarden("run", "--once", "--no-courier", "--config", site.config).returncode == 1
    kept = [json.loads(path.read_bytes()) for path in (site.archive / "rejected").glob("*/reason.json")]
    files = sorted(site.out.iterdir())

    done = command("check", "--json", "--config", site.config, *files)

    assert done.code == 2
    checked = {each["file"]: (each["reason"], each["problems"], each["more"]) for each in files_in(done)[1:]}
    assert checked == {each["path"]: (each["reason"], each["problems"], each["more"]) for each in kept}
    assert len(checked) == len(BAD_FILES)
    assert command("check", "--config", site.config, site.out / "bom.json").code == 0
    assert [entry["source"] for entry in index_of(site.archive)] == [str(site.out / "bom.json")]


def test_what_is_no_regular_file_is_bad_input_and_never_blocks(tmp_path: Path) -> None:
    """As the daemon has it: a FIFO, a socket, a device and a link are no summaries, whatever comes out of them."""
    good = written(tmp_path, "good.json", flat_summary({"A": GOOD}))
    os.mkfifo(tmp_path / "fifo.json")
    (tmp_path / "link.json").symlink_to("good.json")
    (tmp_path / "nowhere.json").symlink_to("nowhere")
    for name, said in {
        "fifo.json": "is a FIFO",
        "link.json": f"is a symbolic link: the daemon follows none; check {good}",
        "nowhere.json": "is a symbolic link",
        "/dev/zero": "is a device",
        "missing.json": "there is no such file",
        "good.json/missing.json": "there is no such file",
    }.items():
        done = command("check", tmp_path / name)
        assert (done.code, done.out) == (2, "")
        assert said in done.err


def test_file_without_the_right_to_read_it_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own reason is told."""
    path = written(tmp_path, "a.json", flat_summary())
    monkeypatch.setattr(reading, "read_whole", lambda *_: Refused("Permission denied"))
    done = command("check", path)
    assert (done.code, done.err) == (2, f"modelwarden: {path}: can't be read (Permission denied)\n")


def test_file_that_goes_on_changing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file under a writer's hands is not judged by half, and holds nobody up for ever."""
    monkeypatch.setattr(reading, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(reading, "read_whole", lambda *_: Moving())
    done = command("check", written(tmp_path, "a.json", flat_summary()))
    assert done.code == 2
    assert "changes while it is read" in done.err


def test_thresholds_of_the_config_judge(tmp_path: Path) -> None:
    """A team's own thresholds count, and the policy's id tells that they did."""
    path = written(tmp_path, "a.json", flat_summary({"A": GOOD}))
    config = tmp_path / "config.toml"
    config.write_text("[gate]\napproved_min_fitness = 0.95\n")
    strict = command("check", "--json", "--config", config, path)
    usual = command("check", "--json", path)
    assert (strict.code, usual.code) == (1, 0)
    assert files_in(strict)[0]["policy"] != files_in(usual)[0]["policy"]


def test_wrong_config_is_bad_input(tmp_path: Path) -> None:
    """A judgement by thresholds that nobody understood is none."""
    config = tmp_path / "config.toml"
    config.write_text("[gate]\napproved_min_fitness = 0.1\n")
    done = command("check", "-c", config, written(tmp_path, "a.json", flat_summary()))
    assert (done.code, done.out) == (2, "")
    assert "approved_min_fitness = 0.1" in done.err


def test_check_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No archive, no state, no changed file: judging is looking."""
    path = written(tmp_path, "a.json", flat_summary())
    monkeypatch.chdir(tmp_path)
    before = os.stat(path)
    command("check", path)
    command("check", "--json", "a.json")
    assert os.listdir(tmp_path) == ["a.json"]
    assert os.stat(path).st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("name", sorted(path.name for path in DATA.glob("*.json")))
def test_ready_made_summaries_can_be_checked(name: str) -> None:
    """The summaries that come with the sources are good ones to try the command on."""
    done = command("check", DATA / name)
    assert done.code in (0, 1)
    assert done.err == ""


def test_file_whose_name_is_not_text_is_judged(tmp_path: Path) -> None:
    """A name that is not UTF-8 is shown so that a person can tell it."""
    path = written(tmp_path, os.fsdecode(b"caf\xe9.json"), flat_summary({"A": GOOD}))
    done = command("check", path)
    assert done.code == 0
    assert r"caf\xe9.json: 1 APPROVED" in done.out


def test_file_whose_name_is_not_text_is_judged_in_json(tmp_path: Path) -> None:
    """--json does not fail over a name that is not UTF-8."""
    path = written(tmp_path, os.fsdecode(b"caf\xe9.json"), flat_summary({"A": GOOD}))
    done = command("check", "--json", path)
    assert done.code == 0
    (judged,) = files_in(done)
    assert judged["file"].endswith(r"caf\xe9.json")
    assert judged["models"][0]["symbol"] == "A"
