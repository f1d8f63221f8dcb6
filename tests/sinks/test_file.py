"""The file sink: each event that is owed is a line of a file that others may rotate, and that a crash may tear."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from modelwarden.errors import StopService
from modelwarden.sinks.announcing import Asked
from modelwarden.sinks.file import EventFile
from modelwarden.sinks.protocol import Delivered, TryLater
from processes import drop, make_site, modelwarden, outbox_of
from summaries import BAD, GOOD, encoded, flat_summary

ALL = ("APPROVED", "REVIEW", "DROP", "REJECTED", "PROBLEM")


def table(path: Path, more: str = "") -> str:
    """A destination that is a file."""
    return f'[[notify.destination]]\nname = "audit"\nkind = "file"\npath = "{path}"\non = {json.dumps(ALL)}\n{more}'


def lines(path: Path) -> list[dict[str, Any]]:
    """The events of the file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def file_at(path: Path) -> EventFile:
    return EventFile(Asked("audit", ALL), str(path))


def test_run_and_rejected_file_are_a_line_each(tmp_path: Path) -> None:
    """What was judged, by what, and which checkpoint: as the settings ask, in an object that says what it is."""
    audit = tmp_path / "audit.jsonl"
    site = make_site(tmp_path / "site", table(audit, 'symbols = ["BTC*"]\n'))
    summary = flat_summary({"BTC": GOOD, "ETH": GOOD, "BTC2": BAD}, timestamp="20240101_000000")
    drop(encoded(summary), site.out)
    drop(b"no summary", site.out, "strange.json")
    modelwarden("run", "--once", "--no-courier", "--config", site.config)  # exit code 1: a file was rejected
    for _ in range(2):
        done = modelwarden("courier", "--drain", "--config", site.config)
        assert done.returncode == 0, done.stderr
    events = {event["type"]: event for event in lines(audit)}
    assert sorted(events) == ["io.modelwarden.file.rejected.v1", "io.modelwarden.run.judged.v1"]
    assert len(lines(audit)) == 2
    judged = events["io.modelwarden.run.judged.v1"]
    assert judged["subject"] == judged["data"]["run"] == "20240101_000000"
    assert judged["id"] == f"run:{judged['data']['sha256'][:16]}"
    assert sum(judged["data"]["counts"].values()) == 3
    assert [model["symbol"] for model in judged["data"]["models"]] == ["BTC", "BTC2"]
    assert stat.S_IMODE(audit.stat().st_mode) & ~0o640 == 0
    assert {row["status"] for row in outbox_of(site.state)} == {"delivered"}


def test_file_that_was_rotated_is_made_again(tmp_path: Path) -> None:
    """Who renames it keeps the old lines; new ones go to the configured path."""
    path = tmp_path / "audit.jsonl"
    file = file_at(path)
    assert file.send([{"id": "1"}], 1) == Delivered()
    path.rename(tmp_path / "audit.1")
    assert file.send([{"id": "2"}, {"id": "3"}], 1) == Delivered()
    assert [event["id"] for event in lines(path)] == ["2", "3"]
    assert [event["id"] for event in lines(tmp_path / "audit.1")] == ["1"]


def test_line_that_a_crash_tore_spoils_no_other(tmp_path: Path) -> None:
    """What was half written stands alone."""
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b'{"id": "0"}\n{"id":')
    assert file_at(path).send([{"id": "1"}], 1) == Delivered()
    assert path.read_bytes() == b'{"id": "0"}\n{"id":\n{"id":"1"}\n'


def test_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried later, and what was written of it is taken back."""
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b'{"id": "0"}\n')
    write, parts = os.write, iter([5])

    def fill_up(descriptor: int, data: bytes) -> int:
        if (part := next(parts, 0)) == 0:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:part])

    monkeypatch.setattr(os, "write", fill_up)
    assert isinstance(file_at(path).send([{"id": "1"}], 1), TryLater)
    assert path.read_bytes() == b'{"id": "0"}\n'


def test_pipe_in_its_place_holds_nobody_up(tmp_path: Path) -> None:
    """A file that became something else is tried later."""
    path = tmp_path / "audit.jsonl"
    file = file_at(path)
    os.mkfifo(path)
    assert isinstance(file.send([{"id": "1"}], 1), TryLater)


@pytest.mark.parametrize("path", ["missing/audit.jsonl", "."])
def test_path_that_can_be_no_file_stops_the_start(tmp_path: Path, path: str) -> None:
    """By the destination's name, before anything is owed."""
    with pytest.raises(StopService, match="audit"):
        file_at(tmp_path / path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ('kind = "file"\n', "needs a path"),
        ('kind = "file"\npath = "a.jsonl"\nurl = "json://127.0.0.1/"\n', 'not for a destination of kind = "file"'),
        ('url = "json://127.0.0.1/"\npath = "a.jsonl"\n', 'not for a destination of kind = "chat"'),
        ('kind = "fiel"\npath = "a.jsonl"\n', "did you mean file?"),
    ],
)
def test_settings_of_another_kind_are_refused(tmp_path: Path, settings: str, words: str) -> None:
    """Each complaint once, by its place."""
    site = make_site(tmp_path, f'[[notify.destination]]\nname = "audit"\n{settings}')
    done = modelwarden("config", "check", site.config)
    assert done.returncode == 2
    assert words in done.stderr
