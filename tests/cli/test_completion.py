"""Half typed words are completed from the archive, and nothing is ever said while somebody types."""

from pathlib import Path

import pytest
from typer._completion_classes import BashComplete
from typer.main import get_command

from modelwarden import TrainingArchiveManager
from modelwarden.__main__ import command_line
from summaries import BAD, GOOD, flat_summary


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of two runs. Only looked at."""
    folder = tmp_path_factory.mktemp("completion") / "archive"
    with TrainingArchiveManager(folder) as manager:
        manager.archive_training_run(flat_summary({"OLD": GOOD}, timestamp="20240101_000000", run_name="nightly 学習"))
        manager.archive_training_run(flat_summary({"[red]x": GOOD, "📈": BAD}, timestamp="20240102_000000"))
    return folder


def completed(*words: str, archive: Path) -> list[str]:
    """What a shell is offered for the last of these words."""
    question, *rest, incomplete = words
    where = [] if question == "explain" else ["--archive", str(archive)]
    shell = BashComplete(get_command(command_line()), {}, "modelwarden", "_MODELWARDEN_COMPLETE")
    return [item.value for item in shell.get_completions([question, *where, *rest], incomplete)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["show", "la"], ["latest"]),
        (["show", "2024"], ["20240102_000000", "20240101_000000"]),
        (["approved", ""], ["latest", "20240102_000000", "20240101_000000"]),
        (["diff", "20240101", "20240101"], ["20240101_000000"]),
        (["show", "latest", "[r"], ["[red]x"]),
        (["show", "20240101", ""], ["OLD"]),
        (["history", ""], ["OLD", "[red]x", "📈"]),
        (["runs", "--symbol", "O"], ["OLD"]),
        (["runs", "--name", "n"], ["nightly 学習"]),
        (["explain", "HIGH"], ["HIGH_DRAWDOWN"]),
        (["explain", "max"], ["max_drawdown"]),
        (["show", "nothing"], []),
        (["show", "nothing", ""], []),
    ],
    ids=str,
)
@pytest.mark.usefixtures("no_settings")
def test_half_typed_word_is_completed(archive: Path, words: list[str], expected: list[str]) -> None:
    """Names of runs, symbols, the trainer's names, and words that can be explained."""
    assert completed(*words, archive=archive) == expected


@pytest.mark.parametrize("words", [["show", "2"], ["history", "A"], ["runs", "--symbol", ""], ["runs", "--name", ""]])
def test_completion_is_silent_if_nothing_can_be_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """No archive there: no offer, and no message in the middle of a line."""
    assert completed(*words, archive=tmp_path / "nowhere") == []
    assert capfd.readouterr() == ("", "")
