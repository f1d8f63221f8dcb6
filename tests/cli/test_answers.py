"""Answers as data: each command's is what the schema says, with times in ISO 8601 and a run called `run`."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from answers import assert_fits, validator
from commands import command, commands_below
from modelwarden import TrainingArchiveManager
from modelwarden.__main__ import command_line
from summaries import BAD, GOOD, MIDDLING, encoded, flat_summary
from trainers import FILES, TRAINERS

EVALS = str(TRAINERS / FILES["evals-json"][0])

ANSWERS = {
    "runs": ["runs"],
    "show": ["show", "latest", "A"],
    "approved": ["approved"],
    "history": ["history", "A"],
    "diff": ["diff"],
    "explain": ["explain", "fitness"],
    "review": ["review"],
    "audit": ["audit"],
    "regate": ["regate", "--set", "approved_min_pf=2.6"],
    "prune": ["prune", "--keep-last", "1", "--dry-run"],
    "export": ["export", "{folder}/models.csv"],
    "verify": ["verify"],
    "reindex": ["reindex"],
    "adopt": ["adopt"],
    "check": ["check", "{folder}/good.json"],
    "archive": ["archive", "{folder}/good.json"],
    "status": ["status"],
    "doctor": ["doctor"],
    "outbox": ["outbox"],
    "outbox retry": ["outbox", "retry", "99"],
    "outbox drop": ["outbox", "drop", "99"],
    "mute": ["mute", "audit", "--for", "2h"],
    "notify-test": ["notify-test", "audit"],
    "rejected": ["rejected"],
    "rejected show": ["rejected", "show", "{id}"],
    "rejected retry": ["rejected", "retry", "{id}"],
    "formats": ["formats"],
    "formats show": ["formats", "show", "keras"],
    "formats try": ["formats", "try", "evals-json", EVALS],
    "config check": ["config", "check", "{folder}/c.toml"],
    "config init": ["config", "init", "{folder}/new.toml"],
    "config show": ["config", "show"],
    "service install": ["service", "install", "--prefix", "{folder}/root"],
    "service remove": ["service", "remove", "--prefix", "{folder}/root"],
}
"""By command, as a person types it, a line that it answers with --json."""

SCHEMA_OF = {"rejected show": "rejected"}

WITHOUT_DATA = {
    "": "it prints its help",
    "config": "it prints its help",
    "service": "it prints its help",
    "run": "its log is JSON lines, as [log] says",
    "courier": "its log is JSON lines, as [log] says",
    "config example": "it prints a document: TOML",
    "config schema": "it prints a document: a JSON Schema",
    "man": "it prints a document: roff",
    "completion": "it prints a document: a shell's script",
    "complete": "a shell asks, and reads lines",
}
"""By command, as a person types it, why it has no --json."""

WITHOUT_ARCHIVE = {
    *("explain", "check", "formats", "formats show", "formats try"),
    *("config check", "config init", "service install", "service remove"),
}
WITH_SETTINGS = {"outbox retry", "outbox drop", "mute", "notify-test"}

SETTINGS = """
archive_dir = "archive"
[[notify.destination]]
name = "audit"
kind = "file"
path = "audit.jsonl"
"""

MOMENTS = {"since", "deadline", "source_mtime", "muted_until", "oldest_owed"}
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of two runs with a rejected file and a decision."""
    folder = tmp_path_factory.mktemp("answers")
    with TrainingArchiveManager(folder / "archive") as manager:
        for day in (1, 2):
            models = {"A": GOOD, "B": MIDDLING, "C": BAD}
            manager.archive_training_run(flat_summary(models, timestamp=f"2024010{day}_000000", run_name="nightly"))
    (folder / "good.json").write_bytes(encoded(flat_summary({"A": GOOD}, timestamp="20240101_000000")))
    (folder / "bad.json").write_text('{"models": 5}')
    (folder / "c.toml").write_text(SETTINGS)
    assert command("archive", folder / "bad.json", "--archive", folder / "archive").code == 1
    decide = ["review", "latest", "B", "--approve", "--reason", "looked at", "--by", "me"]
    assert command(*decide, "--archive", folder / "archive").code == 0
    return folder


def pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key with what stands under it, however deep."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from pairs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from pairs(inner)


def test_every_command_that_answers_in_json_is_looked_at() -> None:
    """A new one has a schema, and a line above; or a reason why its answer is no data."""
    every = dict(commands_below(typer.main.get_command(command_line())))
    answering = {words for words, each in every.items() if any("--json" in parameter.opts for parameter in each.params)}
    assert answering == set(ANSWERS)
    assert every.keys() - answering == set(WITHOUT_DATA)


@pytest.mark.parametrize("name", ANSWERS)
def test_answer_is_as_the_schema_has_it(folder: Path, name: str) -> None:
    """Strict JSON alone on standard output; moments are ISO 8601 in UTC; what names a run is a run's name."""
    (identity,) = [each.name for each in (folder / "archive" / "rejected").iterdir()]
    words = [each.format(folder=folder, id=identity) for each in ANSWERS[name]]
    where = ["--config", str(folder / "c.toml")] if name in WITH_SETTINGS else ["--archive", str(folder / "archive")]
    done = command(*words, "--json", *([] if name in WITHOUT_ARCHIVE else where))
    assert done.code in {0, 1} or (name, done.code) == ("status", 3)
    assert [line for line in done.err.splitlines() if "these units will not start it" not in line] == []
    answer = json.loads(done.out, parse_constant=pytest.fail)
    assert validator(SCHEMA_OF.get(name, name)).schema["$defs"][SCHEMA_OF.get(name, name)]
    assert answer["schema_version"] == 1
    assert_fits(answer, SCHEMA_OF.get(name, name))
    found = list(pairs(answer))
    moments = [value for key, value in found if key.endswith("_at") or key in MOMENTS]
    assert all(ISO.fullmatch(each) for each in moments if isinstance(each, str))
    assert all(re.fullmatch(r"\d{8}_\d{6}(_\d+)?", value) for key, value in found if key == "run" and value)
