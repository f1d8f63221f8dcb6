"""Events go to standard error: JSON lines for machines, readable lines at a terminal, and nothing else in between."""

import json
import os
import pty
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from processes import clean_environment

C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def program(body: str, *, level: str = "info", format: str = "auto") -> list[str]:  # noqa: A002 - the setting's name
    """A process that configures its log as the commands do, then runs the body."""
    head = (
        "import logging, os, sys\n"
        "from modelwarden.log import log\n"
        "from modelwarden.service.logs import configure_logs\n"
        "from modelwarden.streams import use_utf8\n"
        f"use_utf8()\nconfigure_logs({level!r}, {format!r})\n"
    )
    return [sys.executable, "-P", "-c", head + body]


def logged(body: str, env: dict[str, str] | None = None, **settings: str) -> list[dict[str, Any]]:
    """The events that the body logs where standard error is no terminal; each line must be one."""
    result = subprocess.run(
        program(body, **settings),
        env=clean_environment(env),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    assert result.stdout == ""
    return [json.loads(line) for line in result.stderr.splitlines()]


def _without_wishes(extra: dict[str, str]) -> dict[str, str]:
    """An environment in which nobody asks for colours, or for none, but by `extra`."""
    return {name: value for name, value in clean_environment().items() if not name.endswith("_COLOR")} | extra


def at_a_terminal(body: str, env: dict[str, str] | None = None, **settings: str) -> str:
    """What the body shows if standard error is a terminal."""
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            program(body, **settings),
            env=_without_wishes({"TERM": "xterm"} | (env or {})),
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            timeout=60,
            check=True,
        )
        return os.read(ours, 65_536).decode()
    finally:
        os.close(ours)
        os.close(theirs)


def test_event_is_one_json_line_with_its_keys() -> None:
    """A log collector gets the event's name, level and time, and every key with its own type."""
    (event,) = logged('log.info("run_archived", run="20240101_000000", approved=3, seconds=0.5, again=False)')
    stamp = datetime.fromisoformat(event.pop("timestamp"))
    assert stamp.utcoffset() is not None
    assert event == {
        "event": "run_archived",
        "level": "info",
        "run": "20240101_000000",
        "approved": 3,
        "seconds": 0.5,
        "again": False,
    }


def test_level_decides_what_is_said() -> None:
    """Everything below the level is left out, at the level and above is said."""
    levels = ["debug", "info", "warning", "error"]
    body = (
        f"for level in {levels}:\n    configure_logs(level)\n"
        "    log.debug(level); log.info(level); log.warning(level); log.error(level)"
    )
    said = [(event["event"], event["level"]) for event in logged(body)]
    assert said == [(level, each) for number, level in enumerate(levels) for each in levels[number:]]


def test_exception_stays_on_its_line() -> None:
    """A traceback is a key of the event, so that one event is one line whatever happened."""
    (event,) = logged('try: 1 / 0\nexcept ZeroDivisionError: log.exception("batch_failed", files=["a"])')
    assert (event["event"], event["level"], event["files"]) == ("batch_failed", "error", ["a"])
    assert "ZeroDivisionError: division by zero" in event["exception"]


@pytest.mark.parametrize("env", [{}, C_LOCALE], ids=["utf-8", "C locale"])
def test_text_of_strangers_stays_data(env: dict[str, str]) -> None:
    """Whatever a name or a reason holds, and whatever the locale: one line of JSON that gives it back."""
    texts = ["two\nlines", '"quoted" \\ {braces} %s %(event)s', "日本📈", "\x1b[31mred", "caf\udce9"]
    events = logged(f'for text in {texts!a}: log.warning("unreadable", path=text)', env)
    assert [event["path"] for event in events] == texts


def test_warning_of_python_is_an_event() -> None:
    """A library that warns through Python's `warnings` does not break the lines."""
    (event,) = logged("import warnings; warnings.warn('two\\nlines', RuntimeWarning)")
    assert event["level"] == "warning"
    assert "two\nlines" in event["warning"]


def test_configuring_twice_says_everything_once() -> None:
    """A second configuration replaces the first."""
    assert len(logged('configure_logs("info", "json"); log.info("once")')) == 1


def test_terminal_shows_colours_and_no_json() -> None:
    """A person at a terminal sees the event, its keys and colours."""
    shown = at_a_terminal('log.warning("postponed", path="a.json")')
    assert "postponed" in shown
    assert "a.json" in shown
    assert "\x1b[" in shown
    assert "{" not in shown


@pytest.mark.parametrize(
    ("env", "coloured"),
    [
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, True),
        ({"TERM": "dumb"}, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True),
    ],
)
def test_colours_at_a_terminal_are_as_the_environment_asks(env: dict[str, str], coloured: bool) -> None:
    """NO_COLOR, a dumb terminal and FORCE_COLOR mean here what they mean elsewhere; the words stay."""
    shown = at_a_terminal('log.warning("postponed", path="a.json")', env)
    assert "postponed" in shown
    assert "a.json" in shown
    assert ("\x1b" in shown) is coloured


@pytest.mark.parametrize(("env", "coloured"), [({}, False), ({"FORCE_COLOR": "1"}, True)])
def test_readable_lines_in_a_pipe_have_colours_only_on_demand(env: dict[str, str], coloured: bool) -> None:
    """A pager that knows colours is told so with FORCE_COLOR."""
    result = subprocess.run(
        program('log.info("ready", runs=3)', format="console"),
        env=_without_wishes({"TERM": "xterm"} | env),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ("\x1b" in result.stderr) is coloured


def test_format_overrides_what_standard_error_is() -> None:
    """`json` at a terminal is JSON; `console` in a file is readable and without colours."""
    assert json.loads(at_a_terminal('log.info("ready")', format="json"))["event"] == "ready"
    result = subprocess.run(
        program('log.info("ready", runs=3)', format="console"),
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "ready" in result.stderr
    assert "runs=3" in result.stderr
    assert "\x1b[" not in result.stderr


def test_library_use_without_configuration_is_quiet(tmp_path: Path) -> None:
    """`import modelwarden` and archiving a run prints nothing: the program decides how its log looks."""
    body = (
        "import sys; from modelwarden import TrainingArchiveManager\n"
        "with TrainingArchiveManager(sys.argv[1]) as manager:\n"
        "    manager.archive_training_run({'models': [{'symbol': 'A', 'final_fitness': 0.9}]})\n"
    )
    result = subprocess.run(
        [sys.executable, "-P", "-c", body, str(tmp_path / "archive")],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (result.stdout, result.stderr) == ("", "")
