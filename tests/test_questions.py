"""Questions about an archive: what the catalog answers at once is what the folders say, whatever was done to them."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from invariants import snapshot
from modelwarden import TrainingArchiveManager
from modelwarden.archive.folders import look_of
from modelwarden.errors import UnknownRun
from modelwarden.questions import Questions, asking
from modelwarden.state.catalog import Catalog
from modelwarden.state.database import Database
from processes import modelwarden, next_tick
from summaries import BAD, GOOD, MIDDLING, flat_summary, run_folder

DAYS = ["20250101_000000", "20250102_000000", "20250103_000000"]
OLD, MIDDLE, YOUNG = "20241222_000000", "20241223_000000", "20241224_000000"
NOW = datetime(2024, 12, 25, tzinfo=UTC).timestamp()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of three runs, the first of which was archived last, and its state."""
    root = tmp_path / "archive"
    with TrainingArchiveManager(root) as manager:
        for day, models in zip(
            [*DAYS[1:], DAYS[0]], [{"A": GOOD}, {"A": BAD, "B": GOOD}, {"A": MIDDLING}], strict=True
        ):
            manager.archive_training_run(flat_summary(models, timestamp=day))
    next_tick(root)
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


def test_run_that_was_damaged_in_place_is_in_no_answer_after_a_reindex(archive: Path, questions: Questions) -> None:
    """Once a look at the whole archive has seen it: it is no run, in the catalog's answers neither."""
    (archive / DAYS[1] / "model_assessments.json").write_bytes(b"{}")
    assert modelwarden("reindex", "--archive", archive).returncode == 0

    assert DAYS[1] not in [each.run for each in questions.history("A")]
    assert answers(questions) == answers(Questions(str(archive)))


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


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Three runs and a folder that only looks like one, without an index."""
    archive = tmp_path / "archive"
    run_folder(archive, flat_summary({"A": GOOD, "GONE": BAD}), OLD, archived_at="2024-12-24T03:00:00.000000Z")
    run_folder(archive, flat_summary({"A": GOOD}), MIDDLE, archived_at="2024-12-24T04:00:00.000000Z")
    run_folder(archive, flat_summary({"NEW": GOOD, "A": BAD}), YOUNG, archived_at="2099-01-01T00:00:00.000000Z")
    (archive / "20241225_000000").mkdir()
    return archive


def test_latest_is_the_run_archived_last_by_a_clock_that_can_be(folders: Path) -> None:
    """What was archived long after now, under a clock that was ahead, does not stay the latest for ever."""
    questions = Questions(str(folders))
    assert questions.latest(NOW) == questions.run(None, NOW).record.timestamp == MIDDLE
    assert questions.latest(datetime(2099, 1, 2, tzinfo=UTC).timestamp()) == YOUNG


def test_runs_are_the_youngest_by_name_and_count_the_others(folders: Path) -> None:
    """Shown oldest first; a folder that only looks like a run takes nobody's place."""
    runs = Questions(str(folders)).runs(2, NOW)
    assert [run.timestamp for run in runs.shown] == [MIDDLE, YOUNG]
    assert (runs.hidden, runs.latest) == (1, MIDDLE)


def test_comparison_has_what_changed_what_came_and_what_went(folders: Path) -> None:
    """In the later run's order, those that went last; a model that is the same in both is not in it."""
    questions = Questions(str(folders))

    def told(before: str | None, after: str) -> list[tuple[str, str | None, str | None]]:
        return [
            (each.symbol, each.before and each.before.classification, each.after and each.after.classification)
            for each in questions.compare(before, after, NOW).models
        ]

    assert told(OLD, YOUNG) == [("NEW", None, "APPROVED"), ("A", "APPROVED", "DROP"), ("GONE", "DROP", None)]
    assert told(None, MIDDLE) == [("GONE", "DROP", None)]
    with pytest.raises(UnknownRun, match="no run before"):
        questions.compare(None, OLD, NOW)


def test_history_without_a_state_is_read_from_the_folders(folders: Path) -> None:
    """Oldest first, and with a limit the youngest; asking makes neither state nor index."""
    before = snapshot(folders)
    with asking(str(folders), str(folders / ".state")) as questions:
        assert [each.run for each in questions.history("A")] == [OLD, MIDDLE, YOUNG]
        assert [each.run for each in questions.history("A", 1)] == [YOUNG]
        assert questions.history("nobody") == []
    assert snapshot(folders) == before
