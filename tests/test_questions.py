"""Questions are answered from the folders, whatever state there is, and asking changes nothing."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from invariants import snapshot
from modelwarden.errors import UnknownRun
from modelwarden.questions import Questions, asking
from summaries import BAD, GOOD, flat_summary, run_folder

OLD, MIDDLE, YOUNG = "20241222_000000", "20241223_000000", "20241224_000000"
NOW = datetime(2024, 12, 25, tzinfo=UTC).timestamp()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Three runs and a folder that only looks like one, without an index."""
    archive = tmp_path / "archive"
    run_folder(archive, flat_summary({"A": GOOD, "GONE": BAD}), OLD, archived_at="2024-12-24T03:00:00.000000Z")
    run_folder(archive, flat_summary({"A": GOOD}), MIDDLE, archived_at="2024-12-24T04:00:00.000000Z")
    run_folder(archive, flat_summary({"NEW": GOOD, "A": BAD}), YOUNG, archived_at="2099-01-01T00:00:00.000000Z")
    (archive / "20241225_000000").mkdir()
    return archive


def test_latest_is_the_run_archived_last_by_a_clock_that_can_be(archive: Path) -> None:
    """What was archived long after now, under a clock that was ahead, does not stay the latest for ever."""
    questions = Questions(str(archive))
    assert questions.latest(NOW) == questions.run(None, NOW).record.timestamp == MIDDLE
    assert questions.latest(datetime(2099, 1, 2, tzinfo=UTC).timestamp()) == YOUNG


def test_runs_are_the_youngest_by_name_and_count_the_others(archive: Path) -> None:
    """Shown oldest first; a folder that only looks like a run takes nobody's place."""
    runs = Questions(str(archive)).runs(2, NOW)
    assert [run.timestamp for run in runs.shown] == [MIDDLE, YOUNG]
    assert (runs.hidden, runs.latest) == (1, MIDDLE)


def test_comparison_has_what_changed_what_came_and_what_went(archive: Path) -> None:
    """In the later run's order, those that went last; a model that is the same in both is not in it."""
    questions = Questions(str(archive))

    def told(before: str | None, after: str) -> list[tuple[str, str | None, str | None]]:
        return [
            (each.symbol, each.before and each.before.classification, each.after and each.after.classification)
            for each in questions.compare(before, after, NOW).models
        ]

    assert told(OLD, YOUNG) == [("NEW", None, "APPROVED"), ("A", "APPROVED", "DROP"), ("GONE", "DROP", None)]
    assert told(None, MIDDLE) == [("GONE", "DROP", None)]
    with pytest.raises(UnknownRun, match="no run before"):
        questions.compare(None, OLD, NOW)


def test_history_without_a_state_is_read_from_the_folders(archive: Path) -> None:
    """Oldest first, and with a limit the youngest; asking makes neither state nor index."""
    before = snapshot(archive)
    with asking(str(archive), str(archive / ".state")) as questions:
        assert [each.run for each in questions.history("A")] == [OLD, MIDDLE, YOUNG]
        assert [each.run for each in questions.history("A", 1)] == [YOUNG]
        assert questions.history("nobody") == []
    assert snapshot(archive) == before
