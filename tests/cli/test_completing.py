"""Completion in real shells: commands, options, files and names; a hostile name is a word and nothing else."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from commands import command
from modelwarden import TrainingArchiveManager
from processes import clean_environment, modelwarden
from rigs.needs import needs
from summaries import GOOD, flat_summary

HOSTILE = ["$(touch made)", "`touch made`", "a b", "x;touch made", "\\$(touch made)", "'quote", '"', "*", "-n", "~root"]
SHELLS = ["bash", "zsh", "fish"]

BASH = """
compopt() {{ echo "compopt $*"; }}
. {script}
COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_modelwarden
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
ZSH = """
compdef() {{ :; }}
compadd() {{ shift; print -rl -- "$@"; }}
_describe() {{ local each; for each in "${{(@P)4}}"; do print -r -- "${{each%%:*}}"; done; }}
_files() {{ print -r -- files "$@"; }}
. {script}
words=({words}) CURRENT=$#words PREFIX=$words[-1]
_modelwarden
"""
FISH = """
source {script}
complete -C {line} | string replace -r '\\t.*' ''
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs; the symbols of the second are an attempt on whoever completes them."""
    folder = tmp_path_factory.mktemp("completing") / "archive"
    models: dict[str, dict[str, Any]] = dict.fromkeys(["AAPL", "AMZN", *HOSTILE], GOOD)
    with TrainingArchiveManager(folder) as manager:
        manager.archive_training_run(flat_summary({"OLD": GOOD}, timestamp="20240101_000000"))
        manager.archive_training_run(flat_summary(models, timestamp="20240102_000000"))
    return folder


def completed(shell: str, folder: Path, *typed: str) -> list[str]:
    """What the shell offers for the last word of a line that was typed."""
    needs(commands=(shell,))
    script = folder / f"completion.{shell}"
    script.write_text(command("completion", shell).out)
    words = shlex.join(["modelwarden", *typed])
    line = "'" + words.replace(" ''", " ") + "'"
    text = {"bash": BASH, "zsh": ZSH, "fish": FISH}[shell].format(script=script, words=words, line=line)
    quiet = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        [shell, *quiet, "-c", text],
        cwd=folder,
        env=clean_environment({"PATH": path, "HOME": str(folder)}),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("shell", SHELLS)
def test_command_is_completed(shell: str, tmp_path: Path) -> None:
    """By its beginning, and a group's below the group."""
    assert {"run", "runs"} <= {*completed(shell, tmp_path, "ru")}
    assert {"check", "example", "show"} <= {*completed(shell, tmp_path, "config", "")}
    assert "install" not in completed(shell, tmp_path, "config", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_hidden_command_is_not_offered(shell: str, tmp_path: Path) -> None:
    """What the script itself calls is no person's."""
    assert "complete" not in completed(shell, tmp_path, "comple")


@pytest.mark.parametrize("shell", SHELLS)
def test_option_is_completed(shell: str, tmp_path: Path) -> None:
    """Those of the command, long and short."""
    offered = completed(shell, tmp_path, "service", "install", "--")
    assert {"--prefix", "--user", "--dry-run"} <= {*offered}
    assert "--config" not in offered


@pytest.mark.parametrize("shell", SHELLS)
def test_run_is_completed(shell: str, archive: Path) -> None:
    """Of the archive that is named on the line; the youngest first, where the shell keeps an order."""
    offered = completed(shell, archive.parent, "show", "--archive", "archive", "2024")
    assert {"20240101_000000", "20240102_000000"} == {*offered}


@pytest.mark.parametrize("shell", SHELLS)
def test_file_is_completed_after_the_option(shell: str, tmp_path: Path) -> None:
    """What --config wants is a file, --archive a folder."""
    (tmp_path / "settings.toml").touch()
    (tmp_path / "setting").mkdir()
    for option, kind in (("--config", "file"), ("--archive", "folder")):
        offered = completed(shell, tmp_path, "runs", option, "sett")
        match shell:
            case "bash":
                assert offered[0] == ("compopt -o default" if kind == "file" else "compopt -o dirnames")
            case "zsh":
                assert offered == ["files" if kind == "file" else "files -/"]
            case _:
                assert ("settings.toml" in offered) == (kind == "file")
                assert "setting/" in offered


@pytest.mark.parametrize("shell", SHELLS)
def test_hostile_symbol_is_a_word_and_runs_nothing(shell: str, archive: Path) -> None:
    """Neither while it is completed nor when the line is run: bash puts it on the line quoted."""
    offered = completed(shell, archive.parent, "history", "--archive", "archive", "")
    assert not (archive.parent / "made").exists()
    if shell == "bash":
        echo = "\n".join(f"printf '%s\\n' {word}" for word in offered)
        shown = subprocess.run(["bash", "-c", echo], cwd=archive.parent, capture_output=True, text=True, check=True)
        offered = shown.stdout.splitlines()
        assert not (archive.parent / "made").exists()
    assert {"AAPL", "AMZN", *HOSTILE} - {"-n"} <= {*offered}


@pytest.mark.parametrize("shell", SHELLS)
def test_archive_that_is_not_there_offers_nothing_in_silence(shell: str, tmp_path: Path) -> None:
    """Nor settings that are wrong: somebody is in the middle of a line."""
    (tmp_path / "wrong.toml").write_text("nonsense = 1")
    for line in (["show", "--archive", "nowhere", "2"], ["mute", "--config", "wrong.toml", "t"]):
        assert [word for word in completed(shell, tmp_path, *line) if word] == []


@pytest.mark.parametrize("kind", ["RUN", "SYMBOL", "DEST", "nonsense"])
def test_names_that_cannot_be_told_are_none_and_no_error(kind: str, tmp_path: Path) -> None:
    """Exit code 0 and not a word, whatever is wrong."""
    (tmp_path / "archive").mkdir()
    for place in ("archive", "nowhere"):
        done = command("complete", "--", kind, "", "show", "--archive", tmp_path / place)
        assert (done.code, done.out, done.err) == (0, "", "")


def test_destination_is_named_as_in_the_settings(tmp_path: Path) -> None:
    """Without its URL."""
    config = tmp_path / "config.toml"
    config.write_text('[[notify.destination]]\nname = "risk desk"\nurl = "json://localhost/secret"\non = ["DROP"]\n')
    config.chmod(0o600)
    done = command("complete", "--", "DEST", "ri", "mute", "-c", config)
    assert (done.code, done.out, done.err) == (0, "risk desk\n", "")


def test_shell_that_there_is_no_script_for_is_refused() -> None:
    """With those that there are."""
    done = command("completion", "tcsh")
    assert done.code == 2
    assert "fish" in done.err


def test_names_for_a_reader_that_goes_away_are_no_error(archive: Path) -> None:
    """As of every command."""
    done = modelwarden("complete", "--", "RUN", "", "show", "--archive", archive)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["20240102_000000", "20240101_000000"]
