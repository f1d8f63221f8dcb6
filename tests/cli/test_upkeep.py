"""`reindex` makes what is derived again from the truth; `config check` tells what the settings come to."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from commands import command
from modelwarden import TrainingArchiveManager
from processes import modelwarden
from summaries import GOOD, flat_summary

SECRET = "slack://T0KENA/T0KENB/T0KENC"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    with TrainingArchiveManager(folder) as manager:
        for day in (1, 2, 3):
            manager.archive_training_run(flat_summary({f"S{day}": GOOD}, timestamp=f"2024010{day}_000000"))
    return folder


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    "damage", ["none", "deleted", "a line less", "a wrong count", b"", b"garbage", b'{"schema_version": 1, "runs": []}']
)
def test_reindex_writes_the_index_byte_for_byte_whatever_it_was(archive: Path, damage: bytes | str) -> None:
    """Good, empty, wrong or gone: after `reindex` the index is what the archive says."""
    index = archive / "index.json"
    before = index.read_bytes()
    if damage == "deleted":
        index.unlink()
    elif damage == "a line less":
        index.write_bytes(b"".join(line for line in before.splitlines(keepends=True) if b"20240102" not in line))
    elif damage == "a wrong count":
        index.write_bytes(before.replace(b'"approved_count":1', b'"approved_count":7'))
        assert index.read_bytes() != before
    elif isinstance(damage, bytes):
        index.write_bytes(damage)
    done = command("reindex", "--archive", archive)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"3 runs in {archive}/index.json and in the catalog\n"
    assert index.read_bytes() == before


def test_reindex_forgets_what_is_gone_and_finds_what_came(archive: Path) -> None:
    """The folders are the truth: a run that was deleted leaves the index and the catalog."""
    shutil.rmtree(archive / "20240102_000000")
    assert command("reindex", "--archive", archive).out.startswith("2 runs ")
    assert b"20240102" not in (archive / "index.json").read_bytes()
    assert command("history", "S2", "--archive", archive).code == 2


def test_reindex_without_a_state_file_makes_one(archive: Path) -> None:
    """A lost state is made again from the archive."""
    shutil.rmtree(archive / ".state")
    assert command("reindex", "--archive", archive).code == 0
    assert command("approved", "20240101_000000", "--archive", archive).out == "S1\n"


def test_reindex_puts_a_catalog_right_that_says_something_else(archive: Path) -> None:
    """The catalog is made again row for row, whatever its rows say."""
    with closing(sqlite3.connect(archive / ".state" / "modelwarden.sqlite", isolation_level=None)) as connection:
        connection.execute("UPDATE runs SET approved_count = 7")
        connection.execute("UPDATE assessments SET symbol = 'X'")
    assert command("reindex", "--archive", archive).code == 0
    assert [row["approved_count"] for row in json.loads(command("runs", "--json", "--archive", archive).out)] == [
        1,
        1,
        1,
    ]
    assert command("approved", "--archive", archive).out == "S3\n"


def test_reindex_leaves_foreign_folders_alone(archive: Path) -> None:
    """What people put into an archive stays, and is no run."""
    (archive / "notes").mkdir()
    (archive / "20240104_000000").mkdir()
    (archive / "20240104_000000" / "mine.txt").write_text("mine")
    assert command("reindex", "--archive", archive).out.startswith("3 runs ")
    assert (archive / "20240104_000000" / "mine.txt").read_text() == "mine"


def test_config_check_prints_what_the_settings_come_to(tmp_path: Path) -> None:
    """A person sees the resolved folders and the policy before anything is started."""
    path = written(tmp_path / "c.toml", 'archive_dir = "a"\n[[watch]]\npath = "out"\npatterns = ["*.json", "*.jsn"]\n')
    done = command("config", "check", path)
    assert (done.code, done.err) == (0, "")
    assert done.lines[0] == f"{path}: right"
    values = dict(line.split(maxsplit=1) for line in done.lines[3:])
    assert values["watch"] == f"{tmp_path}/out (*.json, *.jsn)"
    assert values["archive_dir"] == f"{tmp_path}/a"
    assert values["state_dir"] == f"{tmp_path}/a/.state"
    assert len(values["policy"]) == 8


def test_config_check_takes_the_file_as_other_commands_do(tmp_path: Path) -> None:
    """As an argument or with --config, it is the same question."""
    path = written(tmp_path / "c.toml", "")
    assert command("config", "check", path) == command("config", "check", "--config", path)


def test_config_check_changes_nothing(tmp_path: Path) -> None:
    """Checking makes no folder, not even one that `create` asks for."""
    path = written(tmp_path / "c.toml", 'archive_dir = "a"\n[[watch]]\npath = "out"\ncreate = true\n')
    command("config", "check", path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.toml"]


def test_config_check_names_all_that_is_wrong(tmp_path: Path) -> None:
    """Exit code 2, nothing on standard output, every problem in one message."""
    path = written(tmp_path / "c.toml", 'archive_dir = 3\n[log]\nlevel = "loud"\n[gate]\nreview_min_pf = 9\n')
    done = command("config", "check", path)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"modelwarden: {path}: ")
    assert all(each in done.err for each in ("archive_dir = 3", "log.level = 'loud'", "review_min_pf = 9"))


def test_config_check_refuses_a_url_that_apprise_does_not_understand_without_showing_it(tmp_path: Path) -> None:
    """The destination is named, the URL is not."""
    text = '[[notify.destination]]\nname = "team"\nurl = "nosuchservice://T0KENA/T0KENB"\n'
    result = modelwarden("config", "check", written(tmp_path / "c.toml", text))
    assert result.returncode == 2
    assert 'destination "team"' in result.stderr
    assert "T0KEN" not in result.stdout + result.stderr


def test_config_check_shows_destinations_without_their_urls(tmp_path: Path) -> None:
    """Who is told of what, and no secret; a file with a secret that everybody may read is remarked on."""
    path = written(tmp_path / "c.toml", f'[[notify.destination]]\nname = "team"\nurl = "{SECRET}"\non = ["REVIEW"]\n')
    path.chmod(0o644)
    result = modelwarden("config", "check", path)
    assert result.returncode == 0
    assert "team: REVIEW" in result.stdout
    assert "T0KEN" not in result.stdout + result.stderr
    assert "everybody can read it" in result.stderr
