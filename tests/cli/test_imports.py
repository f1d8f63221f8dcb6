"""A question is answered at once: what it does not need is not imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from modelwarden import TrainingArchiveManager
from processes import clean_environment
from summaries import GOOD, MIDDLING, flat_summary

SLOW = {
    *("pydantic", "pydantic_core", "apprise", "jinja2", "structlog", "watchdog", "filelock", "urllib3", "asyncio"),
    *("rich.console", "jq", "numpy", "matplotlib", "importlib.metadata", "modelwarden.wiring"),
    *("modelwarden.config.model", "modelwarden.pipeline", "modelwarden.service"),
}
"""What takes a tenth of the time in which a person expects the first line, and more."""

DAEMON = {"apprise", "structlog", "watchdog", "filelock", "modelwarden.pipeline", "modelwarden.wiring.pipeline"}
"""What a daemon is made of, and a question about the settings is not."""

SETTINGS = "archive_dir = 'archive'\n[[notify.destination]]\nname = 'team'\nurl = 'json://127.0.0.1:1'\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with settings that name a destination, and an archive of two runs."""
    folder = tmp_path_factory.mktemp("imports")
    with TrainingArchiveManager(folder / "archive") as manager:
        for day in (1, 2):
            manager.archive_training_run(flat_summary({"A": GOOD, "B": MIDDLING}, timestamp=f"2024010{day}_000000"))
    (folder / "c.toml").write_text(SETTINGS)
    return folder


def imported(folder: Path, *words: str) -> set[str]:
    """Every module that a command needed."""
    body = (
        "import json, sys; from modelwarden.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.stderr.write(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", body, *words],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    return set(json.loads(done.stderr))


@pytest.mark.parametrize(
    "words",
    [
        ["runs"],
        ["show"],
        ["show", "latest", "A"],
        ["approved"],
        ["history", "A"],
        ["diff"],
        ["review"],
        ["audit"],
        ["rejected"],
        ["export"],
    ],
    ids=" ".join,
)
def test_question_imports_nothing_that_it_does_not_need(site: Path, words: list[str]) -> None:
    """Neither the settings' model nor what delivers, watches or writes, although the settings name a destination."""
    assert imported(site, *words, "--config", "c.toml") & SLOW == set()


@pytest.mark.parametrize("kind", ["RUN", "SYMBOL", "RUN+SYMBOL", "ID"])
def test_completion_of_the_archives_names_imports_as_little(site: Path, kind: str) -> None:
    """Somebody is in the middle of a line."""
    assert imported(site, "complete", kind, "", "--", "show", "--config", "c.toml") & SLOW == set()


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["outbox"],
        ["mute", "team", "--for", "0"],
        ["config", "show"],
        ["prune", "--keep-last", "9", "--dry-run"],
        ["explain", "fitness"],
        ["formats"],
    ],
    ids=" ".join,
)
def test_question_about_the_settings_imports_no_daemon(site: Path, words: list[str]) -> None:
    """What needs the settings reads them, and neither opens the pipeline nor judges a URL."""
    found = imported(site, *words, "--config", "c.toml")
    assert found & DAEMON == set()


def test_doctor_says_all_else_before_it_waits_for_apprise(site: Path, tmp_path: Path) -> None:
    """What it finds without asking a destination comes at once, and nothing of the daemon is imported for it."""
    (tmp_path / "apprise.py").write_text("import sys\nprint('LOADED', *sys.modules, flush=True)\nraise ImportError\n")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "modelwarden", "doctor", "--config", "c.toml"],
        cwd=site,
        env=clean_environment() | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said, found = done.stdout.split("LOADED", 1)
    said_of = [line.split()[1].rstrip(":") for line in said.splitlines() if line.startswith(("good", "WRONG"))]
    assert said_of[:3] == ["settings", "watched", "inotify"]
    assert said_of[-1] == "clock"
    assert set(found.split()) & DAEMON == {"apprise"}
