"""How far long work has come is shown to who waits at a terminal, and to nobody else; nothing of it stays behind."""

import os
import shutil
import sys
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from commands import command
from modelwarden.cli import progress
from modelwarden.cli.progress import Bar, shown
from summaries import GOOD, encoded, flat_summary, run_folder
from terminals import IMPATIENT, at_a_terminal, left_on_screen

RUNS = 300
"""So many that several processes read them."""

NAMES = [f"2024{1 + number // 28:02}{1 + number % 28:02}_000000" for number in range(RUNS)]
FILES = 5


class Terminal(StringIO):
    """Standard error at a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an archive of hundreds of runs, files that were rejected, and summaries that are in no archive."""
    folder = tmp_path_factory.mktemp("progress")
    for name in NAMES:
        run_folder(folder / "archive", flat_summary({"A": GOOD}, timestamp=name), name)
    (folder / "bad").mkdir()
    (folder / "new").mkdir()
    for number in range(FILES):
        (folder / "bad" / f"{number}.json").write_text(f'{{"models": {number}}}')
        (folder / "new" / f"{number}.json").write_bytes(encoded(flat_summary({"N": GOOD}, run_name=str(number))))
    where = ("--archive", folder / "archive")
    assert command("adopt", *where).code == 0
    assert command("archive", folder / "bad", *where).code == 1
    assert command("reindex", *where).code == 0
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return shutil.copytree(whole, tmp_path / "copy")


WORK = {
    "verify": (["verify"], "reading"),
    "verify, its second half": (["verify"], "comparing"),
    "reindex": (["reindex"], "reading"),
    "prune": (["prune", "--keep-last", "10"], "removing"),
    "export": (["export", "models.csv"], "exporting"),
    "check": (["check", *(f"new/{number}.json" for number in range(FILES))], "judging"),
    "archive": (["archive", "new"], "archiving"),
    "rejected retry": (["rejected", "retry", "--all"], "trying again"),
    "regate": (["regate", "--set", "approved_min_pf=2.6"], "judging again"),
}
"""What may take long, and what is said of it."""


@pytest.mark.parametrize("name", WORK)
def test_long_work_shows_how_far_it_is_and_leaves_nothing_of_that(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A bar that is full in the end and gone, with the cursor back; what was said is what is said without a bar."""
    words, what = WORK[name]
    monkeypatch.chdir(folder)
    where = [] if words[0] == "check" else ["--archive", "archive"]
    seen = at_a_terminal(*words, *where, how=IMPATIENT)
    assert what in seen
    assert "100%" in seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")
    screen = left_on_screen(seen)
    assert screen, "what was done is said"
    assert [line for line in screen if "%" in line or line.startswith((f"{what} ", "Traceback"))] == []


def test_lines_that_are_said_meanwhile_stay_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's line is printed above the bar, and the last one below all."""
    monkeypatch.chdir(folder)
    seen = at_a_terminal("archive", "new", "--archive", "archive", how=IMPATIENT, columns=200)
    *lines, last = left_on_screen(seen)
    assert [line.split(": ")[0] for line in lines] == [f"{folder}/new/{number}.json" for number in range(FILES)]
    assert last == f"{FILES} archived"


@pytest.mark.parametrize("words", [["archive", "new"], ["rejected", "retry", "--all"], ["export"]], ids=" ".join)
def test_file_that_takes_the_answer_gets_all_of_it_and_no_bar(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """`modelwarden archive old > log` at a terminal: the bar is on the screen, each line is in the file."""
    monkeypatch.chdir(folder)
    with Path("log").open("wb") as log:
        seen = at_a_terminal(*words, "--archive", "archive", how=IMPATIENT, stdout=log.fileno())
    written = Path("log").read_text()
    assert "\x1b" not in written
    assert len(written.splitlines()) == {"archive": FILES + 1, "rejected": FILES, "export": RUNS + 1}[words[0]]
    assert "%" in seen
    assert left_on_screen(seen) == []


def test_warning_that_comes_meanwhile_is_printed_above_the_bar(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of the log breaks no bar, and no bar hides it."""
    monkeypatch.chdir(folder)
    (folder / "archive" / "20230101_000000").mkdir()
    words = ["prune", "--keep-last", str(RUNS - 1), "--archive", "archive"]
    seen = at_a_terminal(*words, how=IMPATIENT, columns=200)
    assert seen.index("removing") < seen.index("foreign_folder_left_alone"), "the bar was there"
    screen = left_on_screen(seen)
    (warning,) = (line for line in screen if "foreign_folder_left_alone" in line)
    assert "%" not in warning
    assert screen[-1] == f"1 removed, {RUNS - 1} kept"


def test_rows_that_come_to_the_terminal_themselves_have_no_bar(whole: Path) -> None:
    """`modelwarden export` without a file: they are seen to come."""
    seen = at_a_terminal("export", "--archive", whole / "archive", how=IMPATIENT)
    assert len(seen.splitlines()) == RUNS + 1
    assert "\x1b" not in seen


def test_bar_comes_after_a_second_and_goes_with_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before; and an error between two steps takes it away, too."""
    terminal, seconds = Terminal(), [0.0]
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    bar = Bar("working", 4)

    def work() -> None:
        with bar:
            seconds[0] = 0.9
            bar.step()
            bar.alive()
            assert terminal.getvalue() == ""
            seconds[0] = 1.1
            bar.step()
            assert "50%" in terminal.getvalue()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert left_on_screen(terminal.getvalue()) == []
    before = terminal.getvalue()
    bar.step()
    assert (terminal.getvalue(), sys.stderr) == (before, terminal)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_values_pass_as_they_are(monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> None:
    """Whether a bar is shown or not; into a pipe there is none, however long it takes and whoever asks for colours."""
    stream = Terminal() if is_terminal else StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(shown(iter("abc"), None, "working")) == ["a", "b", "c"]
    with Bar("saving", 1) as bar:
        bar.step()
    assert ("working" in stream.getvalue(), "saving" in stream.getvalue()) == (is_terminal, is_terminal)
    assert bool(stream.getvalue()) is is_terminal


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_bar_heeds_what_the_terminal_can(whole: Path, environment: dict[str, str]) -> None:
    """No colour where none is wanted, no bar where the cursor can't be moved."""
    words = ["export", os.devnull, "--archive", str(whole / "archive")]
    seen = at_a_terminal(*words, how=IMPATIENT, environment=environment)
    assert "\x1b[3" not in seen
    assert ("exporting" in seen) is ("NO_COLOR" in environment)
