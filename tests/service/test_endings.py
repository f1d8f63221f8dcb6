"""Which trainers' files are worth reading: cheap while they grow, read once where they are not final."""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from modelwarden.fingerprint import Fingerprint
from modelwarden.formats.description import Format
from modelwarden.formats.finality import Look, parse_condition
from modelwarden.intake.settling import Settling
from modelwarden.pipeline.policies import JudgedFolder
from modelwarden.service.endings import LONGEST_HEAD, Endings

LOG = Format("log", "Log", ("*",), "jsonl", ".", last_line='"done": true')
TABLE = replace(LOG, reader="csv", last_line="^([0-9]+),", goal="epochs: ([0-9]+)", goal_in="args.yaml")
CLOSED = replace(LOG, reader="json", last_line='"at": ([0-9]+)', goal='"count": ([0-9]+)')
PLAIN = Format("plain", "Plain", ("*",), "json", ".")
ROW = b'{"step": 1, "done": false}\n'


@dataclass
class Watched:
    """A file, and what waits for its end."""

    path: Path
    folder: JudgedFolder
    settling: Settling
    endings: Endings

    def look(self) -> Look | None:
        """See the file as the daemon does when a hint comes."""
        self.settling.seen(str(self.path), self.fingerprint, hinted=True, now=time.monotonic())
        self.settling.due(time.monotonic(), 10)
        return self.endings.look(str(self.path), self.folder)

    def goes_on(self) -> None:
        """It was read, and is not final."""
        self.endings.goes_on(str(self.path), self.fingerprint, self.folder)

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint.of(os.lstat(self.path))


def watched(tmp_path: Path, format_: Format, *final: str, settle: float = 0.0, ahead: float = 0.0) -> Watched:
    """A file of a folder; the clock may be ahead of the file's times."""
    settling = Settling(settle, 60.0)
    folder = JudgedFolder(str(tmp_path), ("*",), "p", format_, [*map(parse_condition, final)])
    path = tmp_path / "log"
    path.write_bytes(ROW)
    return Watched(path, folder, settling, Endings(settling, settle, lambda: time.time() + ahead))


def test_log_is_read_once_over_while_it_grows(tmp_path: Path) -> None:
    """A thousand looks read each byte once, and the line break before what came; the last look says to read."""
    log = watched(tmp_path, LOG, "complete")
    for _ in range(1000):
        with log.path.open("ab") as stream:
            stream.write(ROW)
        assert log.look() is None
    assert log.endings.bytes_read < log.path.stat().st_size + 1000
    with log.path.open("ab") as stream:
        stream.write(b'{"step": 2, "done": true}\n')
    assert log.look() is Look.READ_IF_COMPLETE


def test_row_that_comes_in_pieces_is_seen_whole(tmp_path: Path) -> None:
    """Its begin is remembered until it has an end."""
    log = watched(tmp_path, LOG, "complete")
    for piece in (b'{"step": 2, "do', b'ne": tr', b"ue}"):
        assert log.look() is None
        with log.path.open("ab") as stream:
            stream.write(piece)
    assert log.look() is Look.READ_IF_COMPLETE


def test_log_that_waits_for_quiet_is_not_read_at_all(tmp_path: Path) -> None:
    """Its figures tell."""
    log = watched(tmp_path, LOG, "quiet:30m")
    for _ in range(100):
        with log.path.open("ab") as stream:
            stream.write(ROW)
        assert log.look() is None
    assert log.endings.bytes_read == 0
    assert log.settling.next_look() == pytest.approx(time.monotonic() + 1800, abs=120)


def test_log_that_was_cut_is_read_from_its_begin(tmp_path: Path) -> None:
    """A file written anew is another."""
    log = watched(tmp_path, LOG, "complete")
    log.path.write_bytes(ROW * 100)
    assert log.look() is None
    log.path.write_bytes(b'{"done": true}\n')
    assert log.look() is Look.READ_IF_COMPLETE


def test_log_that_was_written_anew_and_is_longer_is_seen_whole(tmp_path: Path) -> None:
    """Its last line began before what was seen of the one that was there."""
    log = watched(tmp_path, LOG, "complete")
    log.path.write_bytes(ROW * 100)
    assert log.look() is None
    log.path.write_bytes(b'{"done": true, "and": "' + b"x" * len(ROW) * 100 + b'"}\n')
    assert log.look() is Look.READ_IF_COMPLETE


def test_log_that_goes_up_to_a_number_is_read_when_its_last_line_is_there(tmp_path: Path) -> None:
    """Or one short of it, for some count from 0. Until then it costs the row, and the beginning of the file beside."""
    log = watched(tmp_path, TABLE, "complete")
    head = b"task: detect\nepochs: 1001\n" + b"#" * 2 * LONGEST_HEAD
    log.path.with_name("args.yaml").write_bytes(head)
    log.path.write_bytes(b"epoch,loss\n")
    for epoch in range(1000):
        with log.path.open("ab") as stream:
            stream.write(b"%d,0.5\n" % epoch)
        assert log.look() is None
    assert log.endings.bytes_read - 1000 * LONGEST_HEAD < log.path.stat().st_size + 1000
    with log.path.open("ab") as stream:
        stream.write(b"1000,0.5\n")
    assert log.look() is Look.READ_IF_COMPLETE


def test_log_whose_number_stands_beyond_what_is_looked_at_is_read_for_what_it_says(tmp_path: Path) -> None:
    """A long file beside costs a read; it does not make the run late. In a short one the number is not to be found."""
    log = watched(tmp_path, TABLE, "complete")
    beside = log.path.with_name("args.yaml")
    beside.write_bytes(b"#" * LONGEST_HEAD + b"\nepochs: 5\n")
    log.path.write_bytes(b"epoch,loss\n4,0.5\n")
    assert log.look() is Look.READ_IF_COMPLETE
    beside.write_bytes(b"task: detect\n")
    log.path.write_bytes(b"epoch,loss\n4,0.25\n")
    assert log.look() is None


def test_document_that_is_closed_behind_each_row_is_seen_row_by_row(tmp_path: Path) -> None:
    """The brackets are written over: they are no last line, and the number stands in the document's own beginning."""
    log = watched(tmp_path, CLOSED, "complete")
    log.path.write_bytes(b'{"count": 500, "note": "%s", "rows": [\n]}' % (b"#" * LONGEST_HEAD))
    for at in range(499):
        append_row(log.path, at)
        assert log.look() is None
    assert log.endings.bytes_read - 499 * LONGEST_HEAD < log.path.stat().st_size + 499 * len("\n,\n]}")
    append_row(log.path, 499)
    assert log.look() is Look.READ_IF_COMPLETE


def append_row(path: Path, at: int) -> None:
    """A row of a document that stays one."""
    with path.open("r+b") as stream:
        stream.seek(-3, os.SEEK_END)
        stream.write(b'%s\n{"at": %d}\n]}' % (b"," * (at > 0), at))


@pytest.mark.parametrize(
    ("beside", "look"),
    [
        (None, None),
        (b"epochs: null\n", None),
        (b"epochs: 9\n", None),
        (b"epochs: 4\n", Look.READ_IF_COMPLETE),
        (b"epochs: 3\n", Look.READ_IF_COMPLETE),
    ],
)
def test_log_whose_goal_is_not_told_goes_on(beside: bytes | None, look: Look | None, tmp_path: Path) -> None:
    """Without the file, or without the number in it, no last line is the last."""
    log = watched(tmp_path, TABLE, "complete")
    log.path.write_bytes(b"3,0.5\n")
    if beside is not None:
        log.path.with_name("args.yaml").write_bytes(beside)
    assert log.look() is look


def test_log_whose_goal_can_not_be_read_is_read_to_say_why(tmp_path: Path) -> None:
    """No link is followed, and nobody waits at a pipe."""
    log = watched(tmp_path, TABLE, "complete")
    log.path.write_bytes(b"3,0.5\n")
    beside = log.path.with_name("args.yaml")
    beside.symlink_to("/dev/zero")
    assert log.look() is Look.READ_IF_COMPLETE
    beside.unlink()
    os.mkfifo(beside)
    assert log.look() is Look.READ_IF_COMPLETE


def test_log_at_its_goal_stands_still_before_it_is_read(tmp_path: Path) -> None:
    """The checkpoint of its last row comes after it; a log that says by itself that it is done waits for nothing."""
    log = watched(tmp_path, TABLE, "complete", settle=1000.0)
    log.path.with_name("args.yaml").write_bytes(b"epochs: 3\n")
    log.path.write_bytes(b"3,0.5\n")
    assert log.look() is None
    assert log.settling.next_look() == pytest.approx(time.monotonic() + 1000, abs=120)
    done = watched(tmp_path, LOG, "complete", settle=1000.0)
    done.path.write_bytes(b'{"done": true}\n')
    assert done.look() is Look.READ_IF_COMPLETE


def test_log_that_goes_on_after_it_was_read_is_not_looked_through_again(tmp_path: Path) -> None:
    """Where its last line began is remembered."""
    log = watched(tmp_path, LOG, "complete")
    log.path.write_bytes(ROW * 1000)
    assert log.look() is None
    with log.path.open("ab") as stream:
        stream.write(b'{"done": true}\n')
    assert log.look() is Look.READ_IF_COMPLETE
    log.goes_on()
    before = log.endings.bytes_read
    with log.path.open("ab") as stream:
        stream.write(ROW)
    assert log.look() is None
    assert log.endings.bytes_read - before < 100


def test_file_that_was_quiet_before_the_daemon_is_read(tmp_path: Path) -> None:
    """Its times tell how long it stood."""
    assert watched(tmp_path, LOG, "quiet:30m", ahead=3600.0).look() is Look.READ


def test_file_that_is_not_final_is_not_read_again(tmp_path: Path) -> None:
    """Until it is another."""
    file = watched(tmp_path, PLAIN, "complete")
    assert file.look() is Look.READ_IF_COMPLETE
    file.goes_on()
    assert file.look() is None
    assert file.endings.is_waiting(str(file.path), file.fingerprint)
    assert len(file.settling) == 0
    file.path.write_bytes(ROW * 2)
    assert file.look() is Look.READ_IF_COMPLETE


def test_file_that_is_not_final_is_looked_at_when_it_may_be_quiet(tmp_path: Path) -> None:
    """The other condition counts then, whatever the file says."""
    file = watched(tmp_path, PLAIN, "complete", "quiet:30m")
    assert file.look() is Look.READ_IF_COMPLETE
    file.goes_on()
    assert file.settling.next_look() == pytest.approx(time.monotonic() + 1800, abs=120)
    later = watched(tmp_path, PLAIN, "complete", "quiet:30m", ahead=3600.0)
    assert later.look() is Look.READ


def test_file_that_moves_is_not_read_for_its_end(tmp_path: Path) -> None:
    """A trainer that writes the whole file at each step would have it read at each."""
    file = watched(tmp_path, PLAIN, "complete", settle=1000.0)
    assert file.look() is None
    assert file.settling.next_look() == pytest.approx(time.monotonic() + 1000, abs=120)


def test_marker_counts_if_it_is_no_older(tmp_path: Path) -> None:
    """The one of an earlier run says nothing."""
    file = watched(tmp_path, PLAIN, "marker:done")
    assert file.look() is None
    marker = file.path.with_name("done")
    for when, look in ((1.0, None), (time.time() + 10, Look.READ)):
        marker.write_bytes(b"")
        os.utime(marker, (when, when))
        assert file.look() is look


def test_file_that_is_gone_is_let_go(tmp_path: Path) -> None:
    """Nothing waits for it."""
    file = watched(tmp_path, PLAIN, "complete")
    file.goes_on()
    fingerprint = file.fingerprint
    file.path.unlink()
    assert file.endings.look(str(file.path), file.folder) is None
    assert not file.endings.is_waiting(str(file.path), fingerprint)
