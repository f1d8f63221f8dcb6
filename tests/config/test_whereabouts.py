"""Where the archive lies: the same answer as the whole settings give, sooner."""

from pathlib import Path

import pytest

from commands import command
from modelwarden.config import Settings, Whereabouts, find_archive, load_settings
from modelwarden.config.whereabouts import KNOWN
from modelwarden.errors import StopService

pytestmark = pytest.mark.usefixtures("no_settings")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_setting_is_known_by_its_first_word() -> None:
    """A setting that comes to be must not send every question the long way."""
    assert set(Settings.model_fields) == KNOWN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "archive_dir = 'a'\nstate_dir = '../b'\n",
        "archive_dir = '/srv//a/../b/'\r\n[log]\r\nlevel = 'info'\r\n",
        "archive_dir = '~/x'\n",
        "\ufeffarchive_dir = 'bom'\n",
        "[[watch]]\npath = 'w'\n",
    ],
)
@pytest.mark.parametrize("archive", [None, "typed", "/typed/../absolute"])
@pytest.mark.parametrize("variables", [{}, {"MODELWARDEN_ARCHIVE_DIR": "of/variable", "MODELWARDEN_STATE_DIR": "s"}])
def test_answer_is_that_of_the_whole_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, archive: str | None, variables: dict[str, str]
) -> None:
    """Whatever names the two: the option, a variable, the file, from wherever it is read, or nobody."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    config = tmp_path / "etc" / "c.toml"
    config.parent.mkdir()
    config.write_text(text, newline="")
    settings, _ = load_settings(str(config), archive=archive)
    assert find_archive(str(config), archive) == Whereabouts(settings.archive_dir, settings.state_dir)


@pytest.mark.parametrize(
    "text",
    [
        "archiv_dir = 'a'\n",
        "archive_dir = 5\n",
        "archive_dir = ''\n",
        "archive_dir = '$HOME/a'\n",
        "state_dir = 'http://x'\n",
        "archive_dir = 'a'\n[log\n",
        "no toml",
    ],
)
def test_doubt_about_the_two_is_told_as_the_whole_settings_tell_it(text: str) -> None:
    """A misspelt archive_dir must not lead to another archive."""
    Path("c.toml").write_text(text)
    with pytest.raises(StopService) as whole:
        load_settings("c.toml")
    with pytest.raises(StopService) as asked:
        find_archive("c.toml", None)
    assert str(asked.value) == str(whole.value)


@pytest.mark.parametrize("name", ["MODELWARDEN_ARCHIVEDIR", "modelwarden_archiv_dir"])
def test_misspelt_variable_is_told(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A variable of ours that sets nothing is a mistake."""
    monkeypatch.setenv(name, "x")
    with pytest.raises(StopService, match="there is no such setting"):
        find_archive(None, None)


def test_question_is_answered_whatever_is_wrong_with_what_it_does_not_need() -> None:
    """A mistake in a destination keeps nobody from looking at the archive; `config check` tells it."""
    Path("c.toml").write_text("archive_dir = 'here'\n[[notify.destination]]\nname = 'a'\nurl = 'nosuch://x'\n")
    done = command("runs", "--config", "c.toml")
    assert "here: no archive there" in done.err
    assert command("config", "check", "c.toml").code == 2
