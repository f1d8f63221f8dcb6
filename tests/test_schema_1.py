"""An archive of 1,000 runs and its state, made by the last version of schema 1, read by this one: nothing is lost."""

import json
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from commands import command
from invariants import sha256
from processes import index_of, modelwarden, outbox_of
from summaries import GOOD, encoded, flat_summary

MADE = Path(__file__).parent / "data" / "archive_of_schema_1.tar.xz"
NEW_SINCE = {"checkpoint_advice"}
"""What is worded anew: since then the figures at the recommended checkpoint are judged, too."""


class Old(NamedTuple):
    """Where the archive lies, and what was answered of it."""

    folder: Path
    config: Path
    answers: dict[str, Any]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive, the state and the answers, as they were made; nobody may write there."""
    folder = tmp_path_factory.mktemp("schema-1")
    with tarfile.open(MADE) as tar:
        tar.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # type: ignore[arg-type]
    return folder


@pytest.fixture
def old(unpacked: Path, tmp_path: Path) -> Iterator[Old]:
    """A copy to work with."""
    folder = shutil.copytree(unpacked, tmp_path / "copy")
    (folder / "in").mkdir()
    config = folder / "config.toml"
    config.write_text(
        f'archive_dir = "{folder}/archive"\nstate_dir = "{folder}/state"\n[[watch]]\npath = "{folder}/in"\n'
        "[intake]\nsettle_seconds = 0.1\n"
        '[[notify.destination]]\nname = "team"\nurl = "json://127.0.0.1:9/"\non = ["APPROVED", "REJECTED"]\n'
    )
    config.chmod(0o600)
    yield Old(folder, config, json.loads((folder / "answers.json").read_text(encoding="utf-8")))
    shutil.rmtree(folder)  # a few thousand files


def files_of(archive: Path) -> dict[str, str]:
    """Each file of each run with the sha256 of its bytes, and the index."""
    found = {str(file.relative_to(archive)): sha256(file.read_bytes()) for file in archive.glob("2*/*")}
    return found | {"index.json": sha256((archive / "index.json").read_bytes())}


def said_now(out: str, words: str) -> Any:
    """An answer; lists stood alone then, and stand under the name of the question now."""
    answer = json.loads(out)
    question = words.partition(" ")[0]
    return answer[question] if question in {"runs", "history"} else answer


def assert_still_said(now: Any, then: Any, where: str) -> None:
    """All that was said then is said now, in the same words; more may be said."""
    if isinstance(then, dict):
        for key in then.keys() - NEW_SINCE:
            assert_still_said(now[key], then[key], f"{where}.{key}")
    elif isinstance(then, list):
        assert len(now) == len(then), where
        for at, (each_now, each_then) in enumerate(zip(now, then, strict=True)):
            assert_still_said(each_now, each_then, f"{where}[{at}]")
    else:
        assert now == then, where


def test_every_answer_is_what_it_was(old: Old) -> None:
    """The runs, the approved models, some runs whole, and each symbol's history."""
    assert len(old.answers["runs --limit 2000"]) == 1000
    for words, then in old.answers.items():
        done = command(*words.split(" "), "--json", "--config", old.config)
        assert done.code in {0, 1}, done.err  # 1: nothing is approved
        assert_still_said(said_now(done.out, words), then, words)


def test_answers_from_a_state_made_anew_are_the_same(old: Old) -> None:
    """What the old files say is enough: the state may be lost."""
    shutil.rmtree(old.folder / "state")
    for words, then in old.answers.items():
        done = command(*words.split(" "), "--json", "--config", old.config)
        assert done.code in {0, 1}, done.err  # 1: nothing is approved
        assert_still_said(said_now(done.out, words), then, words)


def test_rebuilt_index_and_every_file_are_the_same_bytes(old: Old) -> None:
    """Nothing of the archive changes by being read."""
    archive = old.folder / "archive"
    before = files_of(archive)
    (archive / "index.json").unlink()
    assert command("reindex", "--config", old.config).code == 0
    assert files_of(archive) == before


def test_verify_finds_nothing_wrong(old: Old) -> None:
    """Each run is held against the policy that it recorded, by the rule of then."""
    assert command("reindex", "--config", old.config).code == 0
    done = command("verify", "--config", old.config)
    assert done.code == 0, done.out
    assert "1,000 runs" in done.out


def test_start_announces_nothing_again_and_keeps_what_is_owed_and_muted(old: Old) -> None:
    """The state file is brought up to date in place."""

    def told() -> tuple[list[Any], list[Any]]:
        rows = [(row["id"], row["event"], row["destination"], row["status"]) for row in outbox_of(old.folder / "state")]
        with closing(sqlite3.connect(old.folder / "state" / "modelwarden.sqlite")) as connection:
            return rows, connection.execute("SELECT * FROM mutes").fetchall()

    before = told()
    assert len(before[0]) > 50
    assert [mute[0] for mute in before[1]] == ["team"]
    assert modelwarden("run", "--once", "--no-courier", "--config", old.config).returncode == 0
    assert told() == before


def test_new_run_beside_the_old_ones_loses_nothing(old: Old) -> None:
    """Schema 1 and 2 in one archive: a rebuild has all of both, and the symbol's history goes on."""
    archive = old.folder / "archive"
    before = files_of(archive)
    (old.folder / "in" / "new.json").write_bytes(encoded(flat_summary({"AAPL": GOOD}, timestamp="20250101_000000")))
    assert modelwarden("run", "--once", "--no-courier", "--config", old.config).returncode == 0
    index = (archive / "index.json").read_bytes()
    shutil.rmtree(old.folder / "state")
    assert command("reindex", "--config", old.config).code == 0
    assert (archive / "index.json").read_bytes() == index
    assert len(index_of(archive)) == 1001
    after = files_of(archive)
    assert {name: digest for name, digest in before.items() if name != "index.json"}.items() <= after.items()
    history = json.loads(command("history", "AAPL", "--limit", "2000", "--json", "--config", old.config).out)["history"]
    assert history[-1]["run"] == "20250101_000000"
    assert_still_said(history[-51:-1], old.answers["history AAPL"][-50:], "history")
    assert command("verify", "--config", old.config).code == 0
