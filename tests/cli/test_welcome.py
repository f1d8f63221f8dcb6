"""The first lines of `run`: for a person at a terminal, and for nobody else."""

import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from commands import command
from processes import clean_environment, make_site, modelwarden, until
from summaries import GOOD, encoded, flat_summary


def shown_at_a_terminal(
    *arguments: str | os.PathLike[str], cwd: Path, until_shown: str, environment: Mapping[str, str] | None = None
) -> str:
    """What a command shows on a terminal of 80 columns until these words come, and after Ctrl-C; without colours."""
    ours, theirs = pty.openpty()
    shown = b""

    def read() -> bool:
        nonlocal shown
        if select.select([ours], [], [], 0.05)[0]:
            shown += os.read(ours, 65_536)
        return until_shown.encode() in shown

    try:
        with subprocess.Popen(
            [sys.executable, "-P", "-m", "modelwarden", *arguments],
            cwd=cwd,
            env=clean_environment({"TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1", **(environment or {})}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        ) as process:
            until(lambda: read() or process.poll() is not None, f"{until_shown!r} at the terminal")
            process.send_signal(signal.SIGINT)
            until(lambda: read() is None or process.poll() is not None, "the end")
            read()
    finally:
        os.close(ours)
        os.close(theirs)
    assert until_shown.encode() in shown, shown.decode()
    return shown.decode().replace("\r\n", "\n")


def welcome(shown: str) -> list[str]:
    """The lines before the first event."""
    return re.split(r"^\d\d:\d\d:\d\d ", shown, maxsplit=1, flags=re.MULTILINE)[0].splitlines()


def test_first_lines_tell_a_person_what_happens_here(tmp_path: Path) -> None:
    """What is watched, where it is archived, which policy judges, who is told, how to stop it, what to do next."""
    (tmp_path / "c.toml").write_text('archive_dir = "a"\n[[watch]]\npath = "out"\n')
    lines = welcome(shown_at_a_terminal("run", "--config", "c.toml", cwd=tmp_path, until_shown="ready"))
    text = "\n".join(lines)
    policy = next(line for line in command("config", "check", tmp_path / "c.toml").lines if line.startswith("policy"))
    for words in (
        f"watches   {tmp_path}/out (not there yet: make it)",
        f"archive   {tmp_path}/a",
        f"policy    {policy.split()[1]}: ",
        "tells     nobody yet",
        "settings  c.toml",
        "Ctrl-C stops it",
    ):
        assert words in text
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 80
    assert re.search(r"fitness >= 0\.7\b", text)
    assert lines[0].startswith("modelwarden ")


def test_command_that_is_named_works_as_it_stands(tmp_path: Path) -> None:
    """Copied into another terminal it asks the same archive."""
    site = make_site(tmp_path)
    (site.out / "a.json").write_bytes(encoded(flat_summary({"A": GOOD})))
    for options in (["--config", "config.toml"], ["--watch", "out"], ["--watch", "out", "--archive", "an archive"]):
        shown = shown_at_a_terminal("run", *options, cwd=tmp_path, until_shown="run_archived")
        named = next(line for line in welcome(shown) if " runs" in line and line.startswith("  "))
        program, *words = shlex.split(named)
        assert program == "modelwarden"
        result = modelwarden(*words, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert "20241224_153000" in result.stdout


def test_command_that_is_named_needs_no_variable_of_another_terminal(tmp_path: Path) -> None:
    """If the environment names the settings, the command to ask with names them itself."""
    site = make_site(tmp_path, watch='[[watch]]\npath = "out"\n[[watch]]\npath = "out"\npatterns = ["b"]\n')
    (site.out / "a.json").write_bytes(encoded(flat_summary({"A": GOOD})))
    environment = {"MODELWARDEN_CONFIG": str(site.config)}
    shown = shown_at_a_terminal("run", cwd=tmp_path, until_shown="run_archived", environment=environment)
    assert f"  modelwarden runs --config {site.config}\n" in shown
    assert "Leave a summary in a watched folder." in shown


def test_log_for_machines_has_events_alone(tmp_path: Path) -> None:
    """In a pipe, and with `format = "json"` at a terminal, every line is an event."""
    site = make_site(tmp_path)
    piped = modelwarden("run", "--once", "--config", site.config)
    assert all(line.startswith("{") for line in piped.stderr.splitlines())
    site.config.write_text(site.config.read_text().replace("[log]", '[log]\nformat = "json"'))
    shown = shown_at_a_terminal("run", "--config", site.config, cwd=tmp_path, until_shown='"ready"')
    assert all(line.startswith("{") for line in shown.replace("^C", "").splitlines() if line)


@pytest.mark.parametrize("text", ["[log]\nlevel = 5\n"])
def test_start_that_is_refused_has_no_first_lines(tmp_path: Path, text: str) -> None:
    """Who is told what is wrong is not told what happens."""
    (tmp_path / "c.toml").write_text(text)
    shown = shown_at_a_terminal("run", "--config", "c.toml", cwd=tmp_path, until_shown="every setting")
    assert shown.startswith("modelwarden: c.toml: the settings are wrong:")
    assert "watches" not in shown
