"""The command line as a whole: help that fits, errors that are one message, output for any locale and pipe."""

import json
import os
import re
import shlex
from importlib.metadata import version
from inspect import cleandoc
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from commands import command, commands_below
from modelwarden import Flag, TrainingArchiveManager
from modelwarden.__main__ import command_line
from modelwarden.cli.lines import cell_width
from modelwarden.gate.assessment import Remark
from processes import index_of, make_site, modelwarden
from summaries import BAD, GOOD, MIDDLING, encoded, flat_summary
from terminals import at_a_terminal

COMMANDS = [
    [],
    ["run"],
    ["archive"],
    ["status"],
    ["doctor"],
    ["check"],
    ["runs"],
    ["show"],
    ["approved"],
    ["history"],
    ["diff"],
    ["explain"],
    ["review"],
    ["audit"],
    ["regate"],
    ["prune"],
    ["export"],
    ["verify"],
    ["reindex"],
    ["adopt"],
    ["courier"],
    ["mute"],
    ["notify-test"],
    ["man"],
    ["completion"],
    ["rejected"],
    ["rejected", "show"],
    ["rejected", "retry"],
    ["formats"],
    ["formats", "show"],
    ["formats", "try"],
    ["outbox"],
    ["outbox", "retry"],
    ["outbox", "drop"],
    ["config"],
    ["config", "check"],
    ["config", "example"],
    ["config", "init"],
    ["config", "schema"],
    ["config", "show"],
    ["service"],
    ["service", "install"],
    ["service", "remove"],
]
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
MOON = "📈MOON"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of one run with symbols that are hard to print. Only looked at."""
    folder = tmp_path_factory.mktemp("command-line") / "archive"
    models: dict[str, dict[str, Any]] = {
        MOON: GOOD | {"fitness_history": [0.5, 1.2, 0.91]},
        "[red]x[/red]": BAD,
        "AAPL_1Hour_with_a_name_that_is_rather_long": MIDDLING,
        "[link=file:///etc/passwd]日本": BAD | {"final_pf": float("nan"), "fitness_history": [1.0, 0.1, 0.2]},
    }
    with TrainingArchiveManager(folder) as manager:
        manager.archive_training_run(flat_summary(models, run_name="nightly sweep of the whole universe, take two"))
    return folder


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_fits_a_terminal_of_80_columns(words: list[str]) -> None:
    """Every command explains itself within 80 columns and exits with 0."""
    result = CliRunner().invoke(command_line(), [*words, "--help"], env={"COLUMNS": "80"}, prog_name="modelwarden")
    assert result.exit_code == 0
    assert result.output.startswith("Usage: " + " ".join(["modelwarden", *words]))
    assert max(map(len, result.output.splitlines())) <= 80


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_short_option_gives_the_same_help(words: list[str]) -> None:
    """`-h` is what hands type."""
    short, long = (command(*words, option) for option in ("-h", "--help"))
    assert (short.code, short.out) == (0, long.out)


EVERY = dict(commands_below(typer.main.get_command(command_line())))
"""Every command, by what is typed after `modelwarden`."""


@pytest.mark.parametrize("words", EVERY)
def test_help_has_an_example_that_the_command_takes(words: str) -> None:
    """One or two: that command, or one below it, with options and values that it takes."""
    each = EVERY[words]
    paragraphs = f"{cleandoc(each.help)}\n\n{cleandoc(each.epilog or '')}".split("\n\n")
    examples = [text for text in paragraphs if text.startswith("Example: modelwarden ")]
    assert 1 <= len(examples) <= 2
    shown = command(*words.split(), "--help").out
    for example in examples:
        assert without_blanks(example) in without_blanks(shown)
        _, _, *typed = takewhile(lambda word: word not in {"|", ">"}, shlex.split(example))
        named = next(name for name in (" ".join(typed[:2]), typed[0]) if name in EVERY)
        assert named.split()[: len(words.split())] == words.split()
        EVERY[named].make_context(named, typed[len(named.split()) :])


def without_blanks(text: str) -> str:
    """A text without the blanks and the ends of lines in it."""
    return "".join(text.split())


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version_is_one_line(option: str) -> None:
    """What a report of a fault begins with."""
    assert command(option) == (0, f"modelwarden {version('modelwarden')}\n", "")


@pytest.mark.parametrize("arguments", [["nonsense"], ["runs", "--nonsense"], ["history"], ["runs", "--limit", "0"]])
def test_wrong_use_is_told_without_boxes(arguments: list[str]) -> None:
    """Plain lines, at a terminal as in a log."""
    done = command(*arguments)
    assert done.code == 2
    assert done.err.startswith("Usage: ")
    assert not set(done.err) & set("╭╮╰╯│─")


def test_help_lists_every_command_with_a_whole_sentence() -> None:
    """`modelwarden --help` is the table of contents: a line a command, none cut off."""
    result = CliRunner().invoke(command_line(), ["--help"], env={"COLUMNS": "80"})
    listed = re.findall(r"^  ([\w-]+)  +(.+)$", result.output.partition("Commands:")[2], re.MULTILINE)
    assert [name for name, _ in listed] == [words[0] for words in COMMANDS if len(words) == 1]


@pytest.mark.parametrize("words", [[], ["config"], ["formats"], ["outbox"], ["rejected"], ["service"]], ids=" ".join)
def test_help_cuts_no_sentence(words: list[str]) -> None:
    """The short help of each command fits its line; that of a group's, too."""
    output = CliRunner().invoke(command_line(), [*words, "--help"], env={"COLUMNS": "80"}).output
    assert "..." not in output.partition("Commands:")[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["--nonsense"],
        ["check"],
        ["check", "missing.json"],
        ["history"],
        ["show", "one", "two"],
        ["runs", "--limit", "0"],
        ["runs", "--limit", "many"],
        ["runs", "--config", "missing.toml"],
        ["run", "--once", "--config", "missing.toml"],
        ["courier", "--check", "--config", "missing.toml"],
        ["verify", "--config", "wrong.toml"],
        ["reindex", "--config", "wrong.toml"],
        ["config", "check", "wrong.toml"],
        ["config", "nonsense"],
    ],
    ids=" ".join,
)
def test_wrong_use_is_one_message_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """Whatever is wrong with a command line is said on standard error; standard output stays empty for pipes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.toml").write_text("archive_dir = 5\nwatch = 'x'\n")
    done = command(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err
    assert "Traceback" not in done.err
    assert os.listdir(tmp_path) == ["wrong.toml"]


@pytest.mark.parametrize("name", ["run", "courier"])
def test_service_with_wrong_settings_ends_with_78(tmp_path: Path, name: str) -> None:
    """By that code systemd knows that another start would be of no use (EX_CONFIG)."""
    done = command(name, "--config", tmp_path / "missing.toml")
    assert (done.code, done.out) == (78, "")
    assert "missing.toml" in done.err


def test_no_arguments_show_the_help() -> None:
    """`modelwarden` alone tells what there is."""
    done = command()
    assert done.code == 2
    assert "Commands:" in done.out + done.err


IN_THE_WAY = [
    (["runs"], "archive"),
    (["reindex"], "archive/.state"),
    (["run", "--once", "--watch", "out"], "archive"),
    (["run", "--once", "--watch", "out"], "archive/.state"),
]


@pytest.mark.parametrize(("arguments", "place"), IN_THE_WAY)
def test_file_in_the_place_of_a_folder_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], place: str
) -> None:
    """Where a folder should be and a file is, the file is named; no traceback."""
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    done = command(*arguments, "--archive", "archive")
    assert done.code == 2
    assert str(tmp_path / place) in done.err


def test_lock_of_the_daemon_that_cannot_be_opened_is_one_message(tmp_path: Path) -> None:
    """A lock file of another user (here: a folder of its name) is named; no traceback."""
    (tmp_path / "archive" / ".state" / "daemon.lock").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    done = command("run", "--once", "--watch", tmp_path / "out", "--archive", tmp_path / "archive")
    assert done.code == 2
    assert "daemon.lock" in done.err


def test_state_file_that_is_none_is_one_message(tmp_path: Path) -> None:
    """A damaged state file is named with what to do about it."""
    state = tmp_path / "archive" / ".state"
    state.mkdir(parents=True)
    (state / "modelwarden.sqlite").write_bytes(b"this is not a database, " * 100)
    done = command("reindex", "--archive", tmp_path / "archive")
    assert (done.code, done.out) == (2, "")
    assert f"{state}/modelwarden.sqlite: the state file can't be used" in done.err
    assert "move it away" in done.err


def test_output_is_utf_8_whatever_the_locale(archive: Path) -> None:
    """A symbol of any script comes out as it went in, under cron's locale too."""
    result = modelwarden("show", "--archive", archive, env=C_LOCALE)
    assert (result.returncode, result.stderr) == (0, "")
    assert MOON in result.stdout
    assert "日本" in result.stdout


def test_symbol_of_any_script_can_be_asked_for_whatever_the_locale(archive: Path) -> None:
    """`history 📈MOON` finds under cron's locale what `show` prints there."""
    result = modelwarden("history", MOON, "--archive", archive, env=C_LOCALE)
    assert result.returncode == 0, result.stderr
    assert "20241224_153000" in result.stdout


def test_symbol_that_is_not_text_is_one_message(archive: Path) -> None:
    """An argument that is not UTF-8 names no symbol, and that is all."""
    assert command("history", os.fsdecode(b"\xff"), "--archive", archive).code == 2


@pytest.fixture(scope="module")
def shown(archive: Path) -> str:
    """What `show` shows at a terminal of 80 columns."""
    return at_a_terminal("show", "--archive", archive)


def plain(shown: str) -> list[str]:
    """The lines without colours and without blanks at their ends."""
    return [re.sub(r"\x1b\[[\d;]*m", "", line).rstrip() for line in shown.splitlines()]


def test_symbol_with_markup_is_printed_literally_at_a_terminal(shown: str) -> None:
    """What a stranger wrote is text: not a colour, not a link."""
    assert "\x1b[" in shown
    assert "[red]x[/red]" in shown
    assert "\x1b]8;" not in shown


def test_show_fits_a_terminal_of_80_columns(shown: str) -> None:
    """At a terminal the lines and the table are no wider than the terminal, and nothing in them is cut off."""
    assert max(map(len, plain(shown))) <= 80
    assert "…" not in shown


@pytest.mark.parametrize("arguments", [["runs"], ["history", MOON]], ids=" ".join)
def test_other_tables_fit_a_terminal_of_80_columns(archive: Path, arguments: list[str]) -> None:
    """The lists over runs fit too."""
    shown = at_a_terminal(*arguments, "--archive", archive)
    assert max(map(len, plain(shown))) <= 80
    assert "20241224_153000" in shown
    assert "…" not in shown


QUESTIONS = [
    ["runs"],
    ["show"],
    ["show", "latest", MOON],
    ["show", "latest", "[red]x[/red]"],
    ["approved"],
    ["history", MOON],
    ["diff", "latest", "latest"],
    ["explain"],
    ["explain", "INCONSISTENT_FIGURES"],
    ["review"],
    ["audit"],
    ["regate", "--set", "approved_min_pf=2.6"],
    ["regate", "--sweep", "approved_max_drawdown=0:1:0.1"],
]


@pytest.mark.parametrize("columns", [60, 80, 140])
@pytest.mark.parametrize("arguments", QUESTIONS, ids=" ".join)
def test_answers_fit_a_terminal_and_break_no_word(archive: Path, arguments: list[str], columns: int) -> None:
    """No line is wider than the terminal, no flag is cut in two, and nothing is cut off."""
    where = [] if arguments[0] == "explain" else ["--archive", str(archive)]
    lines = plain(at_a_terminal(*arguments, *where, columns=columns))
    assert max(map(cell_width, lines)) <= columns
    assert "…" not in "".join(lines)
    words = {word.strip(";.,:()") for line in lines for word in line.split()}
    capitals = {word for word in words if re.fullmatch("[A-Z]+(_[A-Z]+)+", word)}
    assert capitals <= {*Flag, *Remark}


@pytest.fixture(scope="module")
def unruly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with files on its shelf whose names and bytes are as wide and as strange as can be."""
    folder = tmp_path_factory.mktemp("unruly")
    names = ("n" * 200, "bad \x1b[31m" + "日本語" * 12, "a b " * 30 + "c")
    (folder / "in").mkdir()
    for number, name in enumerate(names):
        (folder / "in" / f"{name}.json").write_text(f"{number} {'w' * 5000}\nline\x1b[2J\n")
    (folder / "in" / "good.json").write_bytes(encoded(flat_summary({"x" * 128: GOOD, "日本" * 30: GOOD})))
    assert modelwarden("archive", folder / "in", "--archive", folder / "archive").returncode == 1
    return folder


@pytest.mark.parametrize("columns", [60, 80, 140])
@pytest.mark.parametrize(
    "arguments",
    [
        ["rejected"],
        ["rejected", "show", "{id}"],
        ["archive", "{folder}/in"],
        ["check", "{folder}/in/good.json", "{folder}/in/" + "n" * 200 + ".json"],
        ["show", "latest", "x" * 128],
        ["show", "latest", "q" * 4000],
        ["show", "\x1b[31m" * 1000],
        ["runs", "--since", "yesterday at half past five, or a little later than that"],
        ["prune", "--keep-last", "1", "--dry-run"],
        ["verify"],
        ["status"],
        ["doctor"],
        ["formats"],
    ],
    ids=lambda words: " ".join(words)[:30],
)
def test_no_screen_is_wider_than_the_terminal(unruly: Path, arguments: list[str], columns: int) -> None:
    """Whatever the names are; what is wrong is told in lines, too; and only colours are escapes."""
    identity = min(each.name for each in (unruly / "archive" / "rejected").iterdir())
    words = [each.format(id=identity, folder=unruly) for each in arguments]
    where = [] if words[0] in {"formats", "check"} else ["--archive", str(unruly / "archive")]
    shown = at_a_terminal(*words, *where, columns=columns)
    lines = plain(shown)
    assert max(map(cell_width, lines)) <= columns
    assert "\x1b" not in "".join(lines)
    assert len(lines) < 80


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_had_without(archive: Path, environment: dict[str, str]) -> None:
    """NO_COLOR and a terminal that has none."""
    assert "\x1b" in at_a_terminal("show", "--archive", archive)
    assert "\x1b" not in at_a_terminal("show", "--archive", archive, environment=environment)


@pytest.mark.parametrize("arguments", [["runs"], ["approved"]], ids=" ".join)
def test_person_is_told_ages(archive: Path, arguments: list[str]) -> None:
    """How long ago, not a date to reckon with."""
    shown = at_a_terminal("runs", "--archive", archive)
    assert re.search(r"\d+ (s|min) ago|just now", shown)
    assert arguments


def test_long_answer_goes_through_the_pager_of_the_environment(archive: Path) -> None:
    """$PAGER gets what is longer than the screen, colours included, and nothing else does."""
    pager = {"PAGER": "sed s/^/paged:/"}
    shown = at_a_terminal("explain", environment=pager)
    assert shown.count("paged:") == len(shown.splitlines()) > 24
    assert "\x1b[" in shown
    assert "paged:" not in at_a_terminal("runs", "--archive", archive, environment=pager)


@pytest.mark.parametrize("pager", ["", "cat", "no-such-pager", "'"])
def test_answer_is_shown_without_a_pager_that_works(pager: str) -> None:
    """None, cat, one that is not there, and one that can't be read: the answer is printed."""
    shown = at_a_terminal("explain", environment={"PAGER": pager})
    assert "NO_HISTORY" in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("words", [["show"], ["runs", "--json"], ["export"], ["explain"], ["--help"]], ids=" ".join)
def test_reader_that_goes_away_is_no_error(archive: Path, words: list[str]) -> None:
    """`modelwarden runs | head -1`: no complaint, and no exit code that would say no."""
    where = [] if words[0] in {"explain", "--help"} else ["--archive", str(archive)]
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        result = modelwarden(*words, *where, stdout=theirs)
    finally:
        os.close(theirs)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("words", [["show"], ["runs", "--json"], ["export"], ["explain"], ["--help"]], ids=" ".join)
def test_output_that_cannot_be_written_is_one_message(archive: Path, words: list[str]) -> None:
    """A full disk under standard output is said in a sentence, and the exit code is no success, however short it is."""
    where = [] if words[0] in {"explain", "--help"} else ["--archive", str(archive)]
    with open("/dev/full", "wb") as full:
        result = modelwarden(*words, *where, stdout=full.fileno())
    assert result.returncode == 74
    assert "No space left on device" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [["runs"], ["show"], ["approved"], ["history", MOON]])
def test_json_is_strict_json_in_utf_8(archive: Path, arguments: list[str]) -> None:
    """--json parses with any reader: no NaN, no markup, the symbols as they are."""
    done = command(*arguments, "--json", "--archive", archive)
    assert (done.code, done.err) == (0, "")
    json.loads(done.out, parse_constant=pytest.fail)
    assert arguments == ["runs"] or MOON in done.out


@pytest.mark.parametrize(("data", "code"), [(encoded(flat_summary({"A": GOOD})), 0), (b'{"models": []}', 1)])
def test_once_deals_with_what_is_there_and_tells_of_rejections(tmp_path: Path, data: bytes, code: int) -> None:
    """`run --once` is the daemon for the end of a training script: 0, or 1 where something was no summary."""
    site = make_site(tmp_path)
    (site.out / "a.json").write_bytes(data)
    result = modelwarden("run", "--once", "--config", site.config)
    assert (result.returncode, result.stdout) == (code, "")
    assert len(index_of(site.archive)) == 1 - code


def test_once_with_a_missing_folder_is_no_success(tmp_path: Path) -> None:
    """`run --once --watch typo` has looked at nothing: that is not the same as "nothing there"."""
    assert modelwarden("run", "--once", "--watch", "typo", "--archive", "archive", cwd=tmp_path).returncode != 0
