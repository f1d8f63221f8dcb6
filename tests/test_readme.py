"""The README says the truth: its examples run, its report is what the reporter writes, its commands exist."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from modelwarden.config import load_settings
from processes import modelwarden
from summaries import flat_summary

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
DATA = Path(__file__).parent / "data"


def blocks(language: str) -> list[str]:
    """The README's code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of somebody who did what the README says."""
    folder = tmp_path_factory.mktemp("readme")
    watched = folder / "in"
    watched.mkdir()
    (copied,) = re.findall(r"^cp tests/data/(\S+\.json) training_output/$", README, re.MULTILINE)
    (watched / copied).write_bytes((DATA / copied).read_bytes())
    done = modelwarden("run", "--once", "--watch", watched, "--archive", folder / "archive")
    assert done.returncode == 0, done.stderr
    return folder / "archive"


def test_report_in_readme_is_what_the_reporter_writes(archive: Path) -> None:
    """Every line of the sample report stands in the report of the summary that the README says to copy."""
    report = (archive / "20241224_153000" / "recommendations.md").read_text(encoding="utf-8").splitlines()
    sample = [line for line in blocks("markdown")[0].splitlines() if line.strip() not in {"", "..."}]
    assert [line for line in sample if line not in report] == []


def test_approved_models_in_readme_are_what_the_command_prints(archive: Path) -> None:
    """What a deploy script gets, to the character."""
    command, *printed = blocks("console")[0].splitlines()
    assert command == "$ .venv/bin/modelwarden approved --config config.example.toml | cat"
    assert modelwarden("approved", "--archive", archive).stdout.splitlines() == printed


@pytest.mark.parametrize("picture", re.findall(r"!\[[^]]+]\(([^)]+)\)", README))
def test_picture_in_readme_is_there_and_small(picture: str) -> None:
    """Kept in the checkout, and no burden to it."""
    data = (Path(__file__).parent.parent / picture).read_bytes()
    assert data.startswith((b"\x89PNG", b"<svg"))
    assert len(data) < 100_000


@pytest.mark.parametrize("example", blocks("json"))
def test_summary_examples_are_taken(example: str, tmp_path: Path) -> None:
    """Both layouts as the README shows them are summaries, and neither is bad input."""
    file = tmp_path / "summary.json"
    file.write_text(example)
    done = modelwarden("check", "--json", file)
    assert done.returncode in {0, 1}, done.stderr
    assert json.loads(done.stdout)["files"][0]["models"][0]["symbol"] == "AAPL"


def test_notify_example_is_taken(tmp_path: Path) -> None:
    """The destinations as the README shows them are settings that Apprise understands."""
    example = blocks("toml")[0]
    assert tomllib.loads(example)
    config = tmp_path / "config.toml"
    config.write_text(example)
    settings, _ = load_settings(str(config))
    assert [destination.name for destination in settings.notify.destination] == ["team", "risk desk"]


def test_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The API example runs as printed."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"summary_data": flat_summary()}
    exec(blocks("python")[0], names)
    assert "APPROVED: 1, REVIEW: 1, DROP: 1" in capsys.readouterr().out
    assert names["classification"] == "REVIEW"


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"^\| `modelwarden ([a-z-]+(?: check)?)", README, re.MULTILINE)))
)
def test_command_in_readme_exists(command: str) -> None:
    """Every command of the table answers --help."""
    words = ["config", "check"] if command == "config check" else [command.split(maxsplit=1)[0]]
    assert modelwarden(*words, "--help").returncode == 0


def test_commands_that_ask_and_paths_that_are_copied_exist() -> None:
    """What the README says to copy is there."""
    for path in re.findall(r"tests/data/\S+\.json", README):
        assert (Path(__file__).parent.parent / path).is_file(), path
