"""An archive that is not the one that the state knows: the daemon waits, says so, and concludes nothing from it."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from invariants import assert_archive_whole, snapshot
from modelwarden import TrainingArchiveManager
from modelwarden.errors import NotTheArchive
from processes import (
    Daemon,
    Site,
    destination,
    drop,
    index_of,
    make_site,
    modelwarden,
    outbox_of,
    running_daemon,
    until,
)
from summaries import encoded, random_summary

TEAM = destination("team", "json://127.0.0.1:9/hook", "APPROVED", "REVIEW", "DROP", "PROBLEM")
IDENTITY = ".archive.json"


class Place(Site):
    """A site whose archive goes away, while its state stays where it is."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, state_folder=folder / "state")

    @property
    def away(self) -> Path:
        """Where the archive is while it is away."""
        return self.folder / "away"

    def summary(self, seed: int) -> bytes:
        """A summary of its own."""
        return encoded(random_summary(seed, models=2, points=4))

    def archive_once(self) -> None:
        """Archive what is there."""
        done = modelwarden("run", "--once", "--no-courier", "--config", self.config)
        assert done.returncode == 0, done.stderr

    def table(self, question: str) -> list[tuple[object, ...]]:
        """Rows of the state file."""
        with closing(sqlite3.connect(self.state / "modelwarden.sqlite")) as connection:
            return connection.execute(question).fetchall()

    def remembered(self) -> list[list[tuple[object, ...]]]:
        """What an archive that is away may not change."""
        return [
            self.table(f"SELECT * FROM {name}") for name in ("files", "runs", "assessments", "missing", "identity")
        ] + [self.table("SELECT event, status FROM outbox WHERE kind = 'RUN'")]

    @contextmanager
    def daemon(self, *, ready: str | None = "ready") -> Iterator[Daemon]:
        """Run one."""
        log = self.folder / f"log-{len(list(self.folder.glob('log-*')))}"
        with running_daemon("--no-courier", "--config", self.config, log=log, ready=ready) as daemon:
            yield daemon


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An archive of two runs, one of whose sources is still there."""
    make_site(tmp_path, TEAM, intake='after_archive = "keep"\nscan_every_seconds = 0.5')
    text = (tmp_path / "config.toml").read_text(encoding="utf-8")
    (tmp_path / "config.toml").write_text('state_dir = "state"\n' + text, encoding="utf-8")
    place = Place(tmp_path)
    for seed in (1, 2):
        drop(place.summary(seed), place.out, f"{seed}.json")
    place.archive_once()
    (place.out / "1.json").unlink()
    return place


def nothing(place: Place) -> None:
    """There is no folder."""
    del place


def empty(place: Place) -> None:
    """An empty folder, as a mount point is."""
    place.archive.mkdir()


def another(place: Place) -> None:
    """An archive of somebody else's, with a run of the same name as one of ours."""
    with TrainingArchiveManager(place.archive, state_dir=place.folder / "other") as manager:
        manager.archive_training_run(random_summary(9, models=1) | {"timestamp": index_of(place.away)[0]["timestamp"]})


def older_copy(place: Place) -> None:
    """A copy without an identity that lacks a run, as it lies below a mount point when an archive got a disk."""
    shutil.copytree(place.away, place.archive)
    (place.archive / IDENTITY).unlink()
    shutil.rmtree(place.archive / index_of(place.away)[-1]["timestamp"])


IN_ITS_PLACE = [empty, *(pytest.param(each, marks=pytest.mark.cases) for each in (nothing, another, older_copy))]


@pytest.mark.parametrize("put", IN_ITS_PLACE)
def test_archive_that_goes_while_the_daemon_runs_is_waited_for(place: Place, put: object) -> None:
    """It says so once and tells the team; nothing is archived, written or forgotten; it goes on when it is back."""
    assert callable(put)
    with place.daemon() as daemon:
        place.archive.rename(place.away)
        put(place)
        there = snapshot(place.archive)
        daemon.wait_for("archive_away")
        remembered = place.remembered()
        drop(place.summary(3), place.out, "3.json")
        until(
            lambda: [row["kind"] for row in outbox_of(place.state)] == ["RUN", "RUN", "PROBLEM"], "the team to be told"
        )
        assert place.remembered() == remembered
        assert snapshot(place.archive) == there
        shutil.rmtree(place.archive, ignore_errors=True)
        place.away.rename(place.archive)
        daemon.wait_for("archive_back")
        until(lambda: len(index_of(place.archive)) == 3, "what came meanwhile to be archived")
        assert daemon.stop() == 0
    assert_archive_whole(place.archive, [place.summary(seed) for seed in (1, 2, 3)])
    assert len({row["event"] for row in outbox_of(place.state) if row["kind"] == "RUN"}) == 3


@pytest.mark.parametrize("put", IN_ITS_PLACE)
def test_archive_that_is_not_there_at_the_start_is_waited_for(place: Place, put: object) -> None:
    """The same for a daemon that starts before its disk is mounted; it tells systemd that it is up, and waits."""
    assert callable(put)
    place.archive.rename(place.away)
    put(place)
    there, remembered = snapshot(place.archive), place.remembered()
    drop(place.summary(3), place.out, "3.json")
    with place.daemon(ready=None) as daemon:
        (event,) = daemon.wait_for("archive_away")
        assert "modelwarden adopt" in event["reason"]
        until(lambda: len(outbox_of(place.state)) == 3, "the team to be told")
        assert place.remembered() == remembered
        assert snapshot(place.archive) == there
        assert place.archive.exists() == (put is not nothing)
        shutil.rmtree(place.archive, ignore_errors=True)
        place.away.rename(place.archive)
        daemon.wait_for("ready")
        until(lambda: len(index_of(place.archive)) == 3, "what came meanwhile to be archived")
        assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("command", "put"), [("runs", empty), ("show", nothing), ("verify", another), ("reindex", older_copy)]
)
def test_question_about_another_archive_is_refused(place: Place, command: str, put: object) -> None:
    """A clear error; nothing is dropped from the catalog, and nothing written."""
    assert callable(put)
    place.archive.rename(place.away)
    put(place)
    there, remembered = snapshot(place.archive), place.remembered()

    done = modelwarden(command, "--config", place.config)

    assert (done.returncode, done.stdout) == (2, "")
    assert str(place.archive) in done.stderr
    assert "Traceback" not in done.stderr
    assert place.remembered() == remembered
    assert snapshot(place.archive) == there


def test_python_api_on_another_archive_is_refused(place: Place) -> None:
    """Nothing is put into it."""
    place.archive.rename(place.away)
    empty(place)
    remembered = place.remembered()

    with pytest.raises(NotTheArchive, match="modelwarden adopt"):
        TrainingArchiveManager(place.archive, state_dir=place.state)

    assert list(place.archive.iterdir()) == []
    assert place.remembered() == remembered


def test_run_once_without_its_archive_ends_and_says_so(place: Place) -> None:
    """It waits for nobody; exit code 1, and the problem is owed."""
    place.archive.rename(place.away)
    done = modelwarden("run", "--once", "--no-courier", "--config", place.config)
    assert done.returncode == 1
    assert "archive_away" in done.stderr
    assert [row["kind"] for row in outbox_of(place.state)] == ["RUN", "RUN", "PROBLEM"]


def test_adopt_makes_another_folder_the_archive_of_a_waiting_daemon(place: Place) -> None:
    """The old disk is lost: what is still in the watched folder is archived again and not announced again."""
    with place.daemon() as daemon:
        place.archive.rename(place.away)
        daemon.wait_for("archive_away")
        done = modelwarden("adopt", "--config", place.config)
        assert done.returncode == 0, done.stderr
        assert "2 runs that this state knows are not in it" in done.stdout
        daemon.wait_for("archive_back")
        until(lambda: len(index_of(place.archive)) == 1, "the source that is there to be archived again")
        assert daemon.stop() == 0
    assert [row["kind"] for row in outbox_of(place.state)] == ["RUN", "RUN", "PROBLEM"]
    assert_archive_whole(place.archive, [place.summary(2)])
    assert (place.archive / IDENTITY).read_bytes() != (place.away / IDENTITY).read_bytes()
    verified = modelwarden("verify", "--config", place.config, "--json")
    assert verified.returncode == 1
    lost = next(each for each in index_of(place.away) if each["source"].endswith("1.json"))
    for known in (lost["timestamp"], lost["sha256"], lost["source"]):
        assert known in verified.stdout

    assert modelwarden("reindex", "--forget-missing", "--config", place.config).returncode == 0

    assert modelwarden("verify", "--config", place.config).returncode == 0


def test_older_backup_is_completed_from_the_sources_that_are_there(place: Place) -> None:
    """Same identity, runs missing: what can be archived again is, and no message goes out twice."""
    for run in index_of(place.archive):
        shutil.rmtree(place.archive / run["timestamp"])
    (place.archive / "index.json").unlink()

    with place.daemon():
        until(lambda: len(index_of(place.archive)) == 1, "the source that is there to be archived again")

    assert_archive_whole(place.archive, [place.summary(2)])
    assert [row["kind"] for row in outbox_of(place.state)] == ["RUN", "RUN"]
    verified = modelwarden("verify", "--config", place.config)
    assert verified.returncode == 1
    assert "1.json" in verified.stdout
    drop(place.summary(1), place.out, "again.json")
    place.archive_once()
    assert modelwarden("verify", "--config", place.config).returncode == 0
    assert [row["kind"] for row in outbox_of(place.state)] == ["RUN", "RUN"]


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"{"), lambda path: path.write_bytes(b"")])
def test_identity_lost_in_an_archive_that_has_every_run_is_made_again(place: Place, harm: object) -> None:
    """The same id as before: other states know it too."""
    assert callable(harm)
    before = (place.archive / IDENTITY).read_bytes()
    harm(place.archive / IDENTITY)

    place.archive_once()

    assert (place.archive / IDENTITY).read_bytes() == before


def test_archive_and_state_from_before_there_were_identities_are_taken(place: Place) -> None:
    """An upgrade asks nobody."""
    (place.archive / IDENTITY).unlink()
    with closing(sqlite3.connect(place.state / "modelwarden.sqlite")) as connection, connection:
        connection.execute("UPDATE identity SET archive_id = NULL")

    place.archive_once()

    assert (place.archive / IDENTITY).exists()
    assert place.table("SELECT archive_id IS NULL FROM identity") == [(0,)]


@pytest.mark.parametrize("put", [nothing, another])
def test_upgrade_while_the_archive_is_away_takes_nothing_else(place: Place, put: object) -> None:
    """A state that knows runs takes no archive that has none of them."""
    assert callable(put)
    with closing(sqlite3.connect(place.state / "modelwarden.sqlite")) as connection, connection:
        connection.execute("UPDATE identity SET archive_id = NULL")
    place.archive.rename(place.away)
    put(place)
    remembered = place.remembered()

    assert modelwarden("run", "--once", "--no-courier", "--config", place.config).returncode == 1

    assert place.remembered() == remembered


def test_states_that_start_at_once_on_a_new_archive_agree_on_its_identity(tmp_path: Path) -> None:
    """One makes it, and all remember that one."""
    archive = tmp_path / "archive"
    places = []
    for number in range(3):
        folder = tmp_path / str(number)
        make_site(folder, archive=str(archive))
        text = (folder / "config.toml").read_text(encoding="utf-8")
        (folder / "config.toml").write_text('state_dir = "state"\n' + text, encoding="utf-8")
        places.append(Place(folder))
    with places[0].daemon(), places[1].daemon(), places[2].daemon():
        pass
    known = {place.table("SELECT archive_id FROM identity")[0][0] for place in places}
    assert len(known) == 1
    assert str(known.pop()) in (archive / IDENTITY).read_text()


def test_start_that_may_not_make_an_archive_makes_none(tmp_path: Path) -> None:
    """For a state in the archive, which vanishes with it: `create_archive = false`, and `adopt` makes the first."""
    site = make_site(tmp_path)
    site.config.write_text("create_archive = false\n" + site.config.read_text(encoding="utf-8"), encoding="utf-8")
    site.archive.mkdir()

    refused = modelwarden("run", "--once", "--config", site.config)

    assert refused.returncode == 2
    assert "modelwarden adopt" in refused.stderr
    assert list(site.archive.iterdir()) == []
    assert modelwarden("adopt", "--config", site.config).returncode == 0
    assert modelwarden("run", "--once", "--config", site.config).returncode == 0
