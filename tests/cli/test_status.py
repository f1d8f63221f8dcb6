"""`status`: what a daemon says of itself, and what needs a person, from outside and without a socket."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from invariants import snapshot
from modelwarden.filesystems import is_held
from modelwarden.service.standing import Standing, StandingFile, read_standing
from processes import Site, destination, drop, make_site, modelwarden, outbox_of, running_daemon, until
from servers import HttpServer, http_server
from summaries import encoded, flat_summary


@pytest.fixture
def server() -> Iterator[HttpServer]:
    """A server that takes everything."""
    with http_server() as server:
        yield server


def status(site: Site) -> tuple[int, dict[str, Any]]:
    """The exit code, and what is said as JSON."""
    done = modelwarden("status", "--json", "--config", site.config)
    return done.returncode, json.loads(done.stdout)


def test_daemon_that_is_well_says_so(tmp_path: Path, server: HttpServer) -> None:
    """Since when, which folders, the last run, and nothing that needs a person."""
    site = make_site(tmp_path, destination("team", server.url("x"), "APPROVED"))
    with running_daemon("--config", site.config, log=site.log) as daemon:
        daemon.wait_for("courier_ready")
        drop(encoded(flat_summary()), site.out)
        daemon.wait_for("message_delivered")
        code, said = status(site)
        shown = modelwarden("status", "--config", site.config)

        assert (code, shown.returncode) == (0, 0)
        assert (said["running"], said["pid"]) == (True, daemon.process.pid)
        assert (said["runs"], said["latest"]["timestamp"]) == (1, "20241224_153000")
        assert (said["folders"], said["watching"], said["waiting"]) == ([str(site.out)], True, 0)
        assert (said["courier_running"], said["messages"]["owed"], said["troubles"]) == (True, 0, [])
        assert "running since" in shown.stdout
        assert "APPROVED 1, REVIEW 1, DROP 1" in shown.stdout
        assert all(len(line) <= 80 or "/" in line for line in shown.stdout.splitlines())

    code, said = status(site)
    assert (code, said["running"], said["runs"]) == (3, False, 1)
    (trouble,) = said["troubles"]
    assert "not running" in trouble


def test_daemon_that_was_killed_is_not_running(tmp_path: Path) -> None:
    """What it said last is not believed: its lock went with it."""
    site = make_site(tmp_path)
    with running_daemon("--config", site.config, log=site.log) as daemon:
        daemon.wait_for("ready")
        assert status(site)[0] == 0
        daemon.process.kill()
        daemon.process.wait()
        assert status(site)[0] == 3


def test_archive_that_is_away_and_back_is_said(tmp_path: Path) -> None:
    """What keeps the daemon from its work, while it does."""
    site = make_site(tmp_path, watch=f'state_dir = "{tmp_path / "state"}"\n[[watch]]\npath = "out"\n')
    with running_daemon("--config", site.config, log=site.log) as daemon:
        drop(encoded(flat_summary()), site.out)
        daemon.wait_for("run_archived")
        site.archive.rename(tmp_path / "away")
        until(lambda: "the archive is away" in str(status(site)[1]["troubles"]), "the daemon's own word")
        assert status(site)[0] == 1
        (tmp_path / "away").rename(site.archive)
        until(lambda: status(site)[0] == 0, "the trouble's end")


def test_message_that_was_given_up_needs_a_person(tmp_path: Path, server: HttpServer) -> None:
    """Exit code 1, and what to do; a rejected file of today is counted."""
    site = make_site(tmp_path, destination("team", server.url("x"), "APPROVED"))
    drop(encoded(flat_summary()), site.out)
    drop(b"[]", site.out, "broken.json")
    with running_daemon("--no-courier", "--config", site.config, log=site.log) as daemon:
        daemon.wait_for("run_archived")
        daemon.wait_for("summary_rejected")
        (row,) = outbox_of(site.state)
        assert status(site)[1]["messages"] == {"owed": 1, "oldest_owed": status_moment(row), "dead": 0}
        said = status(site)[1]
        assert (said["rejected_today"], said["courier_running"]) == (1, False)
        assert any("no courier is running" in each for each in said["troubles"])


def status_moment(row: dict[str, Any]) -> str:
    """When a message came, as it is said."""
    return f"{datetime.fromtimestamp(row['created_at'], UTC):%Y-%m-%dT%H:%M:%SZ}"


def test_asking_changes_nothing(tmp_path: Path) -> None:
    """Neither where nothing was ever started nor in an archive."""
    site = make_site(tmp_path)
    before = snapshot(tmp_path)
    code, said = status(site)
    assert (code, said["runs"]) == (3, None)
    assert snapshot(tmp_path) == before


def test_standing_is_written_if_it_is_new_and_read_as_it_was_written(tmp_path: Path) -> None:
    """A name of any bytes comes back; the same again touches nothing; what is no standing is none."""
    file = tmp_path / "standing.json"
    standing = Standing(7, "2026-01-01T00:00:00Z", ("/out/\u00e9",), True, 3, 1, "the disk is full")
    writer = StandingFile(str(tmp_path))
    writer.write(standing)
    assert read_standing(str(tmp_path)) == standing
    inode = file.stat().st_ino
    writer.write(standing)
    assert file.stat().st_ino == inode
    for wrong in ("", "[]", "{}", '{"pid": 1, "folders": 2}'):
        file.write_text(wrong)
        assert read_standing(str(tmp_path)) is None
    StandingFile(str(tmp_path / "nowhere")).write(standing)  # no error: the work goes on


def test_lock_that_nobody_has_is_not_held(tmp_path: Path) -> None:
    """Nor one that was never made; and nobody makes it by asking."""
    assert not is_held(str(tmp_path / "daemon.lock"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "daemon.lock").touch()
    assert not is_held(str(tmp_path / "daemon.lock"))
