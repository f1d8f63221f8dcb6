"""Questions about an archive: what the catalog answers at once is what the folders say, whatever was done to them."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from modelwarden import TrainingArchiveManager
from modelwarden.archive.folders import look_of
from modelwarden.errors import UnknownRun
from modelwarden.questions import Questions, asking
from modelwarden.state.catalog import Catalog
from modelwarden.state.database import Database
from summaries import BAD, GOOD, MIDDLING, flat_summary

DAYS = ["20250101_000000", "20250102_000000", "20250103_000000"]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of three runs, the first of which was archived last, and its state."""
    root = tmp_path / "archive"
    with TrainingArchiveManager(root) as manager:
        for day, models in zip(
            [*DAYS[1:], DAYS[0]], [{"A": GOOD}, {"A": BAD, "B": GOOD}, {"A": MIDDLING}], strict=True
        ):
            manager.archive_training_run(flat_summary(models, timestamp=day))
    return root


@pytest.fixture
def questions(archive: Path) -> Iterator[Questions]:
    """Its questions, with the catalog."""
    with asking(str(archive), str(archive / ".state")) as questions:
        yield questions


def answers(questions: Questions) -> dict[str, Any]:
    """All that can be asked without a run's name, as far as there is an answer."""
    now = time.time()

    def of(ask: Callable[[], object]) -> object:
        try:
            return ask()
        except UnknownRun as error:
            return type(error)

    return {
        "runs": of(lambda: questions.runs(2, now)),
        "all": of(lambda: questions.runs(100, now)),
        "latest": of(lambda: questions.latest(now)),
        "run": of(lambda: questions.run(None, now)),
        "history": of(lambda: questions.history("A")),
        "last": of(lambda: questions.history("A", 1)),
        "comparison": of(lambda: questions.compare(None, None, now)),
        "earlier": of(lambda: questions.compare(None, DAYS[2], now)),
    }


def is_asked(archive: Path) -> bool:
    """Whether the catalog answers: it has all of the archive as it looks."""
    with closing(Database(str(archive / ".state"), "")) as database:
        return Catalog(database).look() == look_of(str(archive))


def copy_of_a_run(archive: Path) -> None:
    shutil.copytree(archive / DAYS[0], archive / "20250104_000000")
    path = archive / "20250104_000000" / "model_assessments.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"timestamp": "20250104_000000", "sha256": "0" * 64}))


DEEDS: dict[str, Callable[[Path], object]] = {
    "nothing": os.listdir,
    "a run is removed": lambda archive: shutil.rmtree(archive / DAYS[1]),
    "the latest is removed": lambda archive: shutil.rmtree(archive / DAYS[0]),
    "a run is copied in": copy_of_a_run,
    "a run is renamed": lambda archive: (archive / DAYS[2]).rename(archive / "notes"),
    "index.json is removed": lambda archive: (archive / "index.json").unlink(),
    "index.json is replaced": lambda archive: (archive / "index.json").write_text("{}"),
    "all is removed": lambda archive: list(map(shutil.rmtree, archive.glob("2025*"))),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_answers_by_catalog_are_those_by_folder(archive: Path, questions: Questions, deed: str) -> None:
    """What somebody does to the folders by hand is seen at once; the catalog answers only of what it knows whole."""
    assert is_asked(archive)

    DEEDS[deed](archive)

    assert is_asked(archive) == (deed == "nothing")
    assert answers(questions) == answers(Questions(str(archive)))


def test_answers_of_three_runs_are_right(questions: Questions) -> None:
    """The latest is what was archived last; runs and a history go by name."""
    found = answers(questions)

    assert (found["latest"], found["run"].record.timestamp) == (DAYS[0], DAYS[0])
    assert [run.timestamp for run in found["runs"].shown] == DAYS[1:]
    assert (found["runs"].hidden, found["all"].hidden) == (1, 0)
    assert [each.run for each in found["history"]] == DAYS
    assert found["comparison"] is UnknownRun  # nothing is before the first
    assert [(each.symbol, each.is_of_class) for each in found["earlier"].models] == [("A", True), ("B", True)]


def test_catalog_answers_again_once_the_state_has_seen_what_changed(archive: Path) -> None:
    """A run that was removed by hand, then a start: all of it is known again."""
    shutil.rmtree(archive / DAYS[1])
    assert not is_asked(archive)

    with TrainingArchiveManager(archive):
        assert is_asked(archive)


def test_archive_of_another_process_is_answered_by_folder(archive: Path, questions: Questions, tmp_path: Path) -> None:
    """What another state's process archived is not in this catalog, and in every answer."""
    with TrainingArchiveManager(archive, state_dir=tmp_path / "other") as manager:
        manager.archive_training_run(flat_summary({"A": GOOD}, timestamp="20250105_000000"))

    assert not is_asked(archive)
    assert questions.latest(time.time()) == "20250105_000000"
    assert len(questions.history("A")) == 4


def test_run_that_could_not_be_catalogued_is_in_every_answer(archive: Path) -> None:
    """A run whose folder was damaged when the state was made: the catalog never claims to have it all."""
    damaged = archive / DAYS[0] / "model_assessments.json"
    whole = damaged.read_bytes()
    shutil.rmtree(archive / ".state")
    damaged.write_bytes(b"{}")
    with TrainingArchiveManager(archive):
        pass
    damaged.write_bytes(whole)

    with asking(str(archive), str(archive / ".state")) as questions:
        assert questions.latest(time.time()) == DAYS[0]
        assert answers(questions) == answers(Questions(str(archive)))
