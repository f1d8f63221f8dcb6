"""The manual page: all of the commands, in a form that every man program reads without a complaint."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import typer

import modelwarden
from commands import command
from modelwarden.__main__ import command_line
from modelwarden.cli.manual import EXIT_CODES, escaped
from modelwarden.cli.tree import read_tree
from rigs.needs import needs

TREE = read_tree(typer.main.get_command(command_line()))
REFERENCE = (Path(__file__).parents[2] / "daemon" / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page() -> str:
    """The page as the command prints it."""
    done = command("man")
    assert (done.code, done.err) == (0, "")
    return done.out


@pytest.mark.parametrize(
    "reader",
    [["mandoc", "-Tlint"], ["groff", "-ww", "-man", "-Tascii"], ["man", "--warnings", "-l"]],
    ids=lambda reader: str(reader[0]),
)
def test_reader_of_manuals_has_nothing_to_complain_of(page: str, reader: list[str], tmp_path: Path) -> None:
    """Not even of style."""
    needs(commands=(reader[0],))
    file = tmp_path / "modelwarden.1"
    file.write_text(page)
    environment = os.environ | {"LC_ALL": "C", "MANPAGER": "cat"}
    done = subprocess.run([*reader, file], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert reader[0] != "mandoc" or done.stdout == ""


def test_page_as_it_is_read_has_every_command_option_and_sentence(page: str, tmp_path: Path) -> None:
    """What is on the screen can be typed: the hyphens are the keyboard's."""
    needs(commands=("groff",))
    file = tmp_path / "modelwarden.1"
    file.write_text(page)
    shown = subprocess.run(
        ["groff", "-man", "-Tutf8", "-P-cbou", "-rHY=0", "-rLL=1000n", file], capture_output=True, text=True, check=True
    ).stdout
    read = " ".join(shown.split())
    for each in TREE.all():
        assert " ".join(["modelwarden", *each.words]) in read
        for option in each.options:
            assert ", ".join(option.names) + (f" {option.value}" if option.value else "") in read
            assert option.help.replace("`", "") in read
        for text in (each.summary, *each.text):
            assert " ".join(text.replace("`", "").split()) in read


@pytest.mark.parametrize(
    "name",
    ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", '"EXIT STATUS"', "ENVIRONMENT", "FILES", '"SEE ALSO"'],
)
def test_page_has_the_section(page: str, name: str) -> None:
    """As man-pages(7) names them."""
    assert f"\n.SH {name}\n" in page


def test_page_is_ascii_and_no_hyphen_is_typographic(page: str) -> None:
    """But for the date in the first line."""
    assert page.isascii()
    assert re.findall(r"(?<!\\)-", page.partition("\n")[2]) == []


def test_exit_codes_are_those_of_the_reference() -> None:
    """The same rows in the same words."""
    text = REFERENCE.partition("## Exit codes")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    assert rows == [*EXIT_CODES]


def test_every_variable_that_is_read_is_named(page: str) -> None:
    """Whatever the package asks of the environment."""
    package = Path(modelwarden.__file__).parent
    texts = [file.read_text() for file in package.rglob("*.py")]
    asked = {name for text in texts for name in re.findall(r'environ(?:ment)?\.get\("(\w+)"', text)}
    assert "NOTIFY_SOCKET" in asked
    of_others = {"PATH", "TERM", "WATCHDOG_PID", "SOURCE_DATE_EPOCH"}
    assert [name for name in asked - of_others if name not in page] == []


def test_date_is_the_one_that_a_reproducible_build_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same page on every day."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert command("man").out.startswith(".TH MODELWARDEN 1 2023-11-14 ")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    assert command("man").code == 2


def test_text_is_never_a_request() -> None:
    """Whatever is in a help text."""
    assert escaped("a\\b-c 'd'") == r"a\eb\-c \(aqd\(aq"
    assert escaped("…") == r"\[u2026]"
