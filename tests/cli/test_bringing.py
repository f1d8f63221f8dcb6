"""`archive`: old summaries are brought in by the daemon's own way, beside a running one, and nobody is told unasked."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from answers import assert_fits
from commands import command
from invariants import assert_archive_whole, snapshot
from processes import Site, destination, drop, index_of, make_site, outbox_of, running_daemon
from summaries import GOOD, encoded, flat_summary, random_summary
from trainers import FILES, TRAINERS

TEAM = destination("team", "json://127.0.0.1:9/x", "APPROVED", "REVIEW", "DROP", "REJECTED")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A daemon's place; nothing has come yet."""
    return make_site(tmp_path / "site", TEAM)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder of old summaries, some of them below it, one of them no summary, one that is no file."""
    folder = tmp_path / "old"
    for below in ("0", "1"):
        (folder / below).mkdir(parents=True)
    for number in range(5):
        drop(encoded(random_summary(number, models=3, points=3)), folder / str(number % 2), f"{number}.json")
    drop(b'{"models": 5}', folder, "none.json")
    drop(b"notes", folder, "notes.txt")
    (folder / "link.json").symlink_to(folder / "0" / "0.json")
    return folder


def brought(site: Site, *words: str | Path, code: int = 0) -> Any:
    done = command("archive", *words, "--json", "--config", site.config)
    assert (done.code, done.err) == (code, "")
    answer = json.loads(done.out, parse_constant=pytest.fail)
    assert_fits(answer, "archive")
    return {Path(each["file"]).name: each for each in answer["files"]}


def test_folder_is_brought_in_whole_and_nobody_is_told(site: Site, old: Path) -> None:
    """Files below it too; what is no summary goes to the shelf; the sources stay; a start announces nothing."""
    before = snapshot(old)
    found = brought(site, old, code=1)
    assert {name: each["outcome"] for name, each in found.items()} == {
        **{f"{number}.json": "archived" for number in range(5)},
        "none.json": "rejected",
    }
    assert snapshot(old) == before
    assert_archive_whole(site.archive, [encoded(random_summary(number, models=3, points=3)) for number in range(5)])
    assert len(list((site.archive / "rejected").iterdir())) == 1
    assert command("run", "--once", "--no-courier", "--config", site.config).code == 0
    assert outbox_of(site.state) == []
    assert command("verify", "--config", site.config).code == 0


def test_same_files_again_are_archived_already(site: Site, old: Path) -> None:
    """Twice on one line, and another time: one run."""
    file = old / "0" / "0.json"
    assert brought(site, file, file)["0.json"]["outcome"] == "archived"
    again = brought(site, file)["0.json"]
    assert again["outcome"] == "already archived"
    assert [run["timestamp"] for run in index_of(site.archive)] == [again["run"]]
    done = command("archive", file, "--config", site.config)
    assert done.lines == [f"{file}: archived already, as {again['run']}", "1 already archived"]


def test_notify_tells_as_of_new_runs(site: Site, old: Path) -> None:
    """Once, whoever starts afterwards."""
    assert command("archive", old / "0", "--notify", "--config", site.config).code == 0
    owed = [row["event"] for row in outbox_of(site.state)]
    assert len(owed) == len(set(owed)) == 3
    assert command("run", "--once", "--no-courier", "--config", site.config).code == 0
    assert [row["event"] for row in outbox_of(site.state)] == owed


def test_import_beside_a_running_daemon_loses_and_doubles_nothing(site: Site, old: Path) -> None:
    """Both publish at once, also the same bytes."""
    ours = [encoded(random_summary(number, models=3, points=3)) for number in range(5)]
    theirs = [encoded(random_summary(number, models=3, points=3)) for number in range(100, 110)]
    with running_daemon("--config", site.config, "--no-courier", log=site.log) as daemon:
        for number, data in enumerate((*theirs, ours[0])):
            drop(data, site.out, f"{number}.json")
        brought(site, old, code=1)
        daemon.wait_for("run_archived", 10)
        assert daemon.stop() == 0
    assert command("run", "--once", "--no-courier", "--config", site.config).code == 0
    assert_archive_whole(site.archive, [*ours, *theirs])
    assert command("verify", "--config", site.config).code == 0


def test_archive_below_the_folder_is_not_brought_into_itself(site: Site) -> None:
    """`archive .` beside the archive takes what trainers left, and nothing of its own."""
    drop(encoded(flat_summary({"A": GOOD})), site.out, "a.json")
    found = brought(site, site.folder)
    assert list(found) == ["a.json"]
    assert list(brought(site, site.folder)) == ["a.json"]
    assert len(index_of(site.archive)) == 1


def test_other_archive_is_brought_in_by_its_summaries(site: Site, tmp_path: Path) -> None:
    """Of each of its runs the trainer's file, and nothing else that lies there."""
    other = make_site(tmp_path / "other")
    drop(encoded(flat_summary({"A": GOOD})), other.out, "a.json")
    assert command("run", "--once", "--config", other.config).code == 0
    found = brought(site, other.archive)
    assert {name: each["outcome"] for name, each in found.items()} == {"summary.json": "archived"}


@pytest.mark.parametrize("kind", ["missing", "link", "pipe", "socket"])
def test_what_is_no_file_is_told_and_never_blocks(site: Site, tmp_path: Path, kind: str) -> None:
    """A name that is not there, a link, a pipe that nobody writes to."""
    path = tmp_path / "x.json"
    if kind == "link":
        path.symlink_to("/etc/passwd")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        path = Path("/dev/null")
    done = command("archive", path, "--config", site.config)
    assert done.code == (2 if kind == "missing" else 1)
    assert "Traceback" not in done.err
    assert str(path) in done.out + done.err


def test_name_that_is_not_text_is_brought_in(site: Site, tmp_path: Path) -> None:
    """Shown so that a person can tell it."""
    path = tmp_path / os.fsdecode(b"caf\xe9.json")
    path.write_bytes(encoded(flat_summary({"A": GOOD})))
    done = command("archive", path, "--config", site.config)
    assert (done.code, done.err) == (0, "")
    assert r"caf\xe9.json: archived as" in done.out


def test_empty_folder_is_no_mistake(site: Site, tmp_path: Path) -> None:
    """Nothing was there to archive."""
    (tmp_path / "empty").mkdir()
    done = command("archive", tmp_path / "empty", "--config", site.config)
    assert (done.code, done.out) == (0, "no file is there\n")
    shutil.rmtree(tmp_path / "empty")


POLICY = """
[[policy]]
name = "any"
history = "{metric}"
[[policy.gate]]
metric = "{metric}"
better = "lower"
approve = 1e9
review = 1e9
"""
EVALS = TRAINERS / FILES["evals-json"][0]


def trainers_site(folder: Path, name: str, metric: str, *more: str) -> Site:
    """A watched folder with a format, and a policy that approves whatever its one metric is."""
    watch = "\n".join(["[[watch]]", 'path = "out"', f'format = "{name}"', 'policy = "any"', *more, ""])
    return make_site(folder, POLICY.format(metric=metric), watch=watch)


def record(site: Site, run: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((site.archive / run / "model_assessments.json").read_text(encoding="utf-8"))
    return document


def test_folder_of_a_trainers_files_is_read_by_its_format(tmp_path: Path) -> None:
    """As the daemon does: the trainer's bytes are kept, other files are left alone, and the daemon finds it done."""
    site = trainers_site(tmp_path / "site", "evals-json", "eval_logloss")
    target = site.out / "seed1" / EVALS.name
    target.parent.mkdir(parents=True)
    shutil.copy(EVALS, target)
    drop(encoded(flat_summary({"A": GOOD})), site.out, "config.json")
    found = brought(site, site.out)
    assert {name: each["outcome"] for name, each in found.items()} == {EVALS.name: "archived"}
    run = found[EVALS.name]["run"]
    kept = record(site, run)
    assert (kept["format"], kept["policy"]["name"]) == ("evals-json", "any")
    assert (site.archive / run / kept["original"]).read_bytes() == EVALS.read_bytes()
    with running_daemon("--config", site.config, log=tmp_path / "log", cwd=site.folder) as daemon:
        daemon.stop()
    assert len(index_of(site.archive)) == 1


def test_training_that_goes_on_is_left_alone_unless_it_is_named(tmp_path: Path) -> None:
    """What a folder happens to hold waits for its end; who names a file means it as it is."""
    site = trainers_site(tmp_path / "site", "evals-json", "eval_logloss", 'final = "quiet:9d"')
    site.out.mkdir(exist_ok=True)
    target = site.out / EVALS.name
    target.write_bytes(EVALS.read_bytes())
    found = brought(site, site.out, code=1)
    assert found[EVALS.name]["outcome"] == "not archived"
    assert found[EVALS.name]["said"] == "not now: its training goes on: name the file itself to archive it as it is"
    assert brought(site, target)[EVALS.name]["outcome"] == "archived"


def test_named_format_reads_files_that_nobody_watches(tmp_path: Path) -> None:
    """With a policy by its name; of a folder those that the format takes, and a file whatever it is called."""
    site = trainers_site(tmp_path / "site", "hf-trainer", "eval_logloss")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shutil.copy(EVALS, folder)
    drop(b"{}", folder, "notes.json")
    told = ("--format", "evals-json", "--policy", "any")
    found = brought(site, folder, *told)
    assert {name: each["outcome"] for name, each in found.items()} == {EVALS.name: "archived"}
    other = folder / "other.txt"
    other.write_bytes(EVALS.read_bytes().replace(b"0.", b"0.1", 1))
    assert brought(site, other, *told)["other.txt"]["outcome"] == "archived"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--format", "no-such"), "--format: there is no format 'no-such': `modelwarden formats` lists them"),
        (("--policy", "no-such"), "--policy: there is no policy 'no-such': the settings have default, any"),
        (
            ("--format", "keras", "--policy", "any"),
            (
                "--format: the policy 'any' does not go with it: val_accuracy of keras is better higher, and this gate "
                "says lower: name another policy with --policy"
            ),
        ),
    ],
)
@pytest.mark.parametrize("command_", ["archive", "check"])
def test_format_or_policy_that_is_none_is_bad_input(
    tmp_path: Path, command_: str, words: Sequence[str], said: str
) -> None:
    """Before a file is read."""
    site = make_site(tmp_path / "site", POLICY.format(metric="val_accuracy"))
    done = command(command_, EVALS, *words, "--config", site.config)
    assert (done.code, done.out, done.err) == (2, "", f"modelwarden: {said}\n")


def test_check_reads_by_a_named_format(tmp_path: Path) -> None:
    """As `archive` would, and nothing is kept."""
    site = trainers_site(tmp_path / "site", "hf-trainer", "eval_logloss")
    done = command("check", EVALS, "--format", "evals-json", "--policy", "any", "--config", site.config)
    assert (done.code, done.err) == (0, "")
    assert "1 APPROVED" in done.out


def test_retry_reads_a_trainers_file_by_the_format_that_was_set_since(tmp_path: Path) -> None:
    """The mend is the one that the reason named: a format for the folder."""
    site = make_site(tmp_path / "site")
    site.out.mkdir(exist_ok=True)
    target = site.out / EVALS.name
    target.write_bytes(EVALS.read_bytes())
    assert brought(site, target, code=1)[EVALS.name]["outcome"] == "rejected"
    with_format = trainers_site(tmp_path / "site", "evals-json", "eval_logloss")
    done = command("rejected", "retry", "--all", "--config", with_format.config)
    assert (done.code, done.err) == (0, "")
    assert ": archived as " in done.out
    assert command("rejected", "--config", with_format.config).out == "nothing was rejected\n"
