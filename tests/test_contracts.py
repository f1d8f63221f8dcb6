"""The import rules hold by default: each contract is broken on purpose in a copy, in a module that no rule names."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import modelwarden

ROOT = Path(__file__).parent.parent
PACKAGE = Path(modelwarden.__file__).parent
CONTRACTS = [
    contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
]

VIOLATIONS = {
    "Imports only go down the floors; folders on one floor do not know one another": [
        ("archive/new.py", "from modelwarden.state import database"),
        ("gate/new.py", "from modelwarden.archive import record"),
        ("new.py", ""),  # a module on no floor
    ],
    "The pure core does no I/O and has no clock": [
        ("gate/new.py", "import os"),
        ("intake/settling.py", "import time"),
        ("archive/report.py", "import sqlite3"),
        ("formats/normalising.py", "import subprocess"),
    ],
    "Only the command line and wiring read settings": [
        ("service/new.py", "from modelwarden.config import Settings"),
        ("courier/new.py", "from modelwarden import config"),
    ],
    "Only the config knows how settings are read": [("service/new.py", "import pydantic")],
    "Only the chat sink knows Apprise": [
        ("courier/new.py", "import apprise"),
        ("service/new.py", "from apprise import Apprise"),
        ("sinks/new.py", "import apprise"),
    ],
    "Only the mail's document knows Jinja2": [
        ("archive/report.py", "import jinja2"),
        ("courier/new.py", "from jinja2 import Environment"),
        ("sinks/chat/page.py", "from markupsafe import Markup"),
    ],
    "Only the webhook knows HTTP": [("courier/new.py", "import urllib3")],
    "Only the metrics' own modules know prometheus-client": [
        ("service/new.py", "from prometheus_client import Counter"),
        ("courier/new.py", "import prometheus_client"),
    ],
    "The courier knows a sink only by its protocol": [
        ("courier/new.py", "from modelwarden.sinks.chat import sink"),
        ("courier/new.py", "from modelwarden.sinks.redactor import Redactor"),
    ],
    "Only the watch knows watchdog": [("intake/new.py", "from watchdog.observers import Observer")],
    "Only the state knows SQLite": [("archive/new.py", "import sqlite3"), ("cli/new.py", "import sqlite3")],
    "Only the formats' worker knows jq, NumPy and YAML": [
        ("gate/new.py", "import jq"),
        ("formats/new.py", "import numpy"),
        ("pipeline/new.py", "import yaml"),
    ],
    "Who asks writes nothing": [
        ("questions.py", "from modelwarden.pipeline.walk import Pipeline"),
        ("archive/folders.py", "from modelwarden.archive.index import Index"),
        ("archive/decisions.py", "from modelwarden.archive.publishing import Archive"),
        ("archive/shelf.py", "import shutil"),
        ("state/reading.py", "from modelwarden.state.outbox import Outbox"),
        ("state/outbox_view.py", "import shutil"),
        ("questions.py", "import shutil"),
    ],
    "Only the doors know a terminal": [("service/new.py", "import rich"), ("manager.py", "import typer")],
}
"""By contract, modules and what they may not import; a module that is there already gets the line added."""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package and its contracts, free to be spoiled."""
    shutil.copytree(PACKAGE, tmp_path / "modelwarden", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """What the import linter says of the copy."""
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "pyproject.toml"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_every_contract_has_a_violation() -> None:
    """A new contract comes with what breaks it."""
    assert sorted(VIOLATIONS) == sorted(CONTRACTS)


def test_copy_keeps_all_contracts(copy: Path) -> None:
    """What breaks below is the violation, not the copy."""
    done = lint(copy)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("contract", "module", "line"),
    [(name, module, line) for name, lines in VIOLATIONS.items() for module, line in lines],
    ids=lambda value: value.replace(" ", "_")[:40] or "nothing",
)
def test_violation_breaks_its_contract(contract: str, module: str, line: str, copy: Path) -> None:
    """A module that no rule names is inside the rule."""
    with (copy / "modelwarden" / module).open("a", encoding="utf-8") as stream:
        stream.write(f"\n{line}\n")
    done = lint(copy)
    assert done.returncode == 1, done.stdout
    assert f"{contract} BROKEN" in done.stdout
