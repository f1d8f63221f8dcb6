"""Root among an archive that is another's: what it would write there, the daemon of its owner could not change."""

import json
import os
from pathlib import Path

import pytest

from commands import command
from modelwarden import TrainingArchiveManager
from modelwarden.__main__ import COMMANDS
from modelwarden.errors import StopService
from processes import Site, drop, index_of, make_site, modelwarden, running_daemon
from rigs.needs import needs
from summaries import GOOD, encoded, flat_summary

OWNER = 54_321
FILE = '[[notify.destination]]\nname = "audit"\nkind = "file"\npath = "{}/audit.jsonl"\non = ["APPROVED"]\n'

WRITING = {
    "run": [["run"], ["run", "--once"], ["run", "--no-courier"]],
    "courier": [["courier"], ["courier", "--drain"]],
    "reindex": [["reindex"], ["reindex", "--forget-missing"]],
    "adopt": [["adopt"]],
    "verify": [["verify"]],
    "mute": [["mute", "audit", "--for", "1h"]],
    "outbox": [["outbox", "retry"], ["outbox", "drop", "1"]],
    "notify-test": [["notify-test"]],
    "archive": [["archive", "{folder}/out/summary.json"]],
    "review": [["review", "20240101_000000", "AAPL", "--reject", "--reason", "no"]],
    "rejected": [["rejected", "retry", "--all"]],
    "prune": [["prune", "--keep-last", "1"]],
}
"""What opens the state, the archive or a destination's file to write."""

ASKING = {
    "status": ["status"],
    "doctor": ["doctor"],
    "check": ["check", "{folder}/out/summary.json"],
    "runs": ["runs"],
    "show": ["show"],
    "approved": ["approved"],
    "history": ["history", "AAPL"],
    "diff": ["diff", "20240101_000000", "20240102_000000"],
    "explain": ["explain", "LOW_PF"],
    "audit": ["audit"],
    "outbox": ["outbox"],
    "regate": ["regate", "--set", "approved_min_pf=2.0"],
    "export": ["export", "{elsewhere}/models.csv"],
    "formats": ["formats"],
    "config": ["config", "check"],
    "complete": ["complete", "--", "RUN", "", "show"],
}
OF_NO_ARCHIVE = {"service", "man", "completion"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A place with two runs, a rejected file and a delivered message, all of it another user's."""
    needs(root=True)
    folder = tmp_path_factory.mktemp("owner")
    site = make_site(folder, FILE.format(folder))
    for day in (1, 2):
        drop(encoded(flat_summary({"AAPL": GOOD}, timestamp=f"2024010{day}_000000")), site.out, f"{day}.json")
    drop(b'{"models": []}', site.out, "bad.json")
    done = modelwarden("run", "--once", "--config", site.config)
    assert done.returncode == 1, done.stderr  # one was rejected
    (site.out / "summary.json").write_bytes(encoded(flat_summary({"AAPL": GOOD}, timestamp="20240103_000000")))
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, OWNER, OWNER)
    (folder / "audit.jsonl").unlink()
    return site


def all_of(site: Site) -> dict[str, tuple[int, int, int]]:
    """Each file and folder, with its owner, its size and its time."""
    found = {}
    for path in [site.folder, *site.folder.rglob("*")]:
        status = path.lstat()
        found[str(path)] = (status.st_uid, status.st_size, status.st_mtime_ns)
    return found


def test_every_command_either_writes_or_asks() -> None:
    """A new command comes with its line in one of the tables above."""
    assert {*WRITING, *ASKING, *OF_NO_ARCHIVE} == {*COMMANDS}


@pytest.mark.parametrize("words", [each for forms in WRITING.values() for each in forms], ids=" ".join)
def test_root_writes_nothing_to_what_is_anothers(site: Site, words: list[str]) -> None:
    """It is told who may, and not a byte changes."""
    before = all_of(site)
    done = command(*[word.format(folder=site.folder) for word in words], "--config", site.config)
    assert done.code == 2
    assert f"belongs to #{OWNER}, who could not change what root writes there: run this as its owner" in done.err
    assert f"`sudo -u '#{OWNER}' modelwarden" in done.err  # a shell takes what follows a bare # for a comment
    assert all_of(site) == before


@pytest.mark.parametrize("words", [*ASKING.values()], ids=" ".join)
def test_root_may_ask_and_leaves_no_trace(site: Site, words: list[str], tmp_path: Path) -> None:
    """Questions are for everybody who may read."""
    before = all_of(site)
    words = [word.format(folder=site.folder, elsewhere=tmp_path) for word in words]
    done = command(*words, *(["--config"] if words[0] != "complete" else ["-c"]), site.config)
    assert done.code in {0, 1, 3}, done.err
    assert "belongs to" not in done.err
    assert all_of(site) == before


def test_doctor_that_sends_makes_no_file_of_roots(site: Site) -> None:
    """A destination's file is the service's too."""
    before = all_of(site)
    assert command("doctor", "--send", "--config", site.config).code == 2
    assert all_of(site) == before


def test_root_has_no_python_api_there_either(site: Site) -> None:
    """An error that a program can catch."""
    before = all_of(site)
    with pytest.raises(StopService, match="belongs to"):
        TrainingArchiveManager(site.archive)
    assert all_of(site) == before


def test_root_in_its_own_archive_is_like_anybody(tmp_path: Path) -> None:
    """A watched folder that is another's is no reason."""
    needs(root=True)
    site = make_site(tmp_path)
    os.chown(site.out, OWNER, OWNER)
    drop(encoded(flat_summary({"AAPL": GOOD})), site.out)
    with running_daemon("--config", site.config, log=site.log) as daemon:
        daemon.wait_for("run_archived")
    assert len(index_of(site.archive)) == 1
    assert json.loads(modelwarden("status", "--json", "--config", site.config).stdout)["runs"] == 1
