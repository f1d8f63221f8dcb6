"""What is in the daemon's metrics file: conventional names, the counts of calls, and nothing while there is nothing."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import readings
from modelwarden.errors import RetryLater, StorageSuspect
from modelwarden.service.metrics import Readings, Room
from modelwarden.service.metrics_export import WRITE_SECONDS, TextFile
from modelwarden.state.reading import Messages
from readings import QUIET, run_of


def samples(path: Path) -> Mapping[tuple[str, ...], float]:
    """Each sample of a file; see `readings.samples`."""
    return readings.samples(path.read_text(encoding="utf-8"), "/a", "daemon")


def test_what_was_called_is_counted(tmp_path: Path) -> None:
    """Runs, models by class, seconds, the other outcomes, and a disk in doubt."""
    file = TextFile(str(tmp_path / "m.prom"), "/a")
    file.archived(run_of(3, 2, 1), 0.02)
    file.archived(run_of(1, 0, 0), 7.0)
    file.came_to("rejected")
    file.came_to("postponed")
    file.refused(RetryLater("the disk is full"))
    file.refused(StorageSuspect("a sync failed"))
    file.stand(QUIET)

    found = samples(tmp_path / "m.prom")
    outcomes = {key[1]: value for key, value in found.items() if key[0] == "summaries_total"}
    assert outcomes == {"archived": 2, "already_archived": 0, "pruned": 0, "rejected": 1, "postponed": 1}
    classes = {key[1]: value for key, value in found.items() if key[0] == "models_total"}
    assert classes == {"APPROVED": 4, "REVIEW": 2, "DROP": 1}
    assert found["ready_to_archived_seconds_count",] == 2
    assert found["ready_to_archived_seconds_sum",] == pytest.approx(7.02)
    assert found["ready_to_archived_seconds_bucket", "0.025"] == 1
    assert found["ready_to_archived_seconds_bucket", "10.0"] == 2
    assert found["storage_suspect_total",] == 1


def test_how_it_stands_is_told(tmp_path: Path) -> None:
    """Each reading under its name; moments as seconds since the epoch."""
    file = TextFile(str(tmp_path / "m.prom"), "/a")
    file.stand(
        Readings(7, 2, False, False, 9, 1, 4, 1_700_000_000.5, Messages(3, 1, 1_600_000_000.0), {"state": Room(100, 7)})
    )
    found = samples(tmp_path / "m.prom")
    expected = {
        ("queue_files",): 7,
        ("unreadable_paths",): 2,
        ("watch_active",): 0,
        ("archive_available",): 0,
        ("archive_runs",): 9,
        ("watch_restarts_total",): 1,
        ("watch_overflows_total",): 4,
        ("last_archived_timestamp_seconds",): 1_700_000_000.5,
        ("outbox_messages", "owed"): 3,
        ("outbox_messages", "dead"): 1,
        ("outbox_oldest_owed_timestamp_seconds",): 1_600_000_000.0,
        ("disk_size_bytes", "state"): 100,
        ("disk_free_bytes", "state"): 7,
    }
    assert expected.items() <= found.items()


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    """No run yet, nothing owed, a state that can't be asked: no 0, which would be 1970 or a lie."""
    file = TextFile(str(tmp_path / "m.prom"), "/a")
    file.stand(QUIET._replace(messages=None))
    names = {key[0] for key in samples(tmp_path / "m.prom")}
    absent = {"last_archived_timestamp_seconds", "outbox_messages", "outbox_oldest_owed_timestamp_seconds"}
    assert not absent & names
    file.stand(QUIET)
    assert samples(tmp_path / "m.prom")["outbox_messages", "owed"] == 0


def test_file_is_readable_by_others_and_replaced_in_one_piece(tmp_path: Path) -> None:
    """Whatever the umask is, and without a trace; who has the old one open reads all of it."""
    path = tmp_path / "m.prom"
    before = os.umask(0o077)
    try:
        file = TextFile(str(path), "/a")
        file.stand(QUIET)
        with path.open(encoding="utf-8") as old:
            file.stand(QUIET._replace(waiting=5))
            text = old.read()
    finally:
        os.umask(before)
    assert text.endswith("\n")
    assert 'queue_files{archive="/a",process="daemon"} 0.0' in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["m.prom"]
    file.close()
    assert list(tmp_path.iterdir()) == []
    file.close()


def test_draft_that_somebody_else_put_there_is_not_followed(tmp_path: Path) -> None:
    """A link in its place leads to a file that stays as it is."""
    (tmp_path / "theirs").write_text("untouched", encoding="utf-8")
    (tmp_path / "m.prom.new").symlink_to(tmp_path / "theirs")
    TextFile(str(tmp_path / "m.prom"), "/a").stand(QUIET)
    assert (tmp_path / "theirs").read_text(encoding="utf-8") == "untouched"
    assert samples(tmp_path / "m.prom")


def test_file_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One warning for a trouble however often it is tried, a word when it is over, and no error."""
    path = tmp_path / "gone" / "m.prom"
    file = TextFile(str(path), "/a")
    with caplog.at_level("INFO", logger="modelwarden"):
        for _ in range(5):
            file.stand(QUIET)
        assert [record.message for record in caplog.records] == ["metrics_not_written"]
        assert str(path) in file.trouble
        path.parent.mkdir()
        file.stand(QUIET)
        file.stand(QUIET)
        assert file.trouble == ""
        path.unlink()
        path.mkdir()
        file.stand(QUIET)
    assert [record.message for record in caplog.records[1:]] == ["metrics_written", "metrics_not_written"]
    assert [each.name for each in path.parent.iterdir()] == ["m.prom"]


def test_file_is_due_at_once_and_then_from_time_to_time(tmp_path: Path) -> None:
    """However often the loop asks."""
    now = 100.0
    file = TextFile(str(tmp_path / "m.prom"), "/a", timer=lambda: now)
    assert file.is_due()
    file.stand(QUIET)
    now += WRITE_SECONDS - 1
    assert not file.is_due()
    now += 1
    assert file.is_due()


def test_archive_of_any_name_is_a_label(tmp_path: Path) -> None:
    """Quotes, backslashes and line breaks in it are no syntax."""
    path = tmp_path / "m.prom"
    TextFile(str(path), 'a"b\\c\nd').stand(QUIET)
    families = list(text_string_to_metric_families(path.read_text(encoding="utf-8")))
    assert {sample.labels["archive"] for family in families for sample in family.samples} == {'a"b\\c\nd'}
