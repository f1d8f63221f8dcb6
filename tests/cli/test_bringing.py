"""`archive`: old summaries are brought in by the daemon's own way, beside a running one, and nobody is told unasked."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from answers import assert_fits
from commands import command
from invariants import assert_archive_whole, snapshot
from processes import Site, destination, drop, index_of, make_site, outbox_of, running_daemon
from summaries import GOOD, encoded, flat_summary, random_summary

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
