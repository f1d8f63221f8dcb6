"""index.json on disk: only the new tail is written, and no reader ever sees it."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from failing import fail_fsync
from modelwarden import durable
from modelwarden.archive.index_file import IndexFile
from modelwarden.errors import RetryLater, StorageSuspect

_HOLDS_A_LEASE = """
import fcntl, os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGURG})
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
signal.sigwait({signal.SIGURG})
"""


class Lines:
    """A file of lines in the manner of index.json, and what is known of the one on disk."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "index.json"
        self.spare = folder / "spare"
        self.file = IndexFile(str(self.path), str(self.spare), takes_turns=True)
        self.lines: list[bytes] = []

    @property
    def content(self) -> bytes:
        """All of it."""
        return b"".join(self.lines)

    def become(self, *lines: bytes) -> bytes:
        """Replace the file by one with these lines; return them in one."""
        same = next((n for n, (a, b) in enumerate(zip(self.lines, lines, strict=False)) if a != b), None)
        if same is None:
            same = min(len(self.lines), len(lines))
        self.lines = list(lines)
        self.file.replace(same, self._content_from)
        return self.content

    def grow(self, line: bytes) -> bytes:
        """Replace the file by one with one line more."""
        return self.become(*self.lines, line)

    def _content_from(self, first: int) -> tuple[int, bytes]:
        return sum(map(len, self.lines[:first])), b"".join(self.lines[first:])


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    """A folder without a file."""
    return Lines(tmp_path)


@pytest.fixture(params=["as this machine does it", "no swap", "no lease"])
def _every_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernel's help, and where the file system lacks one or the other."""

    def no_lease(*_: object) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    if request.param == "no swap":
        monkeypatch.setattr(durable, "_system_call", None)
    elif request.param == "no lease":
        monkeypatch.setattr("fcntl.fcntl", no_lease)


every_way = pytest.mark.usefixtures("_every_way")


@every_way
def test_file_has_the_new_content_after_each_replacement(lines: Lines) -> None:
    """Lines come at the end, in the middle and at the start, and go: the file is right each time."""
    for state in (
        b"",
        b"a",
        b"ab",
        b"abc",
        b"abXc",
        b"abXcd",
        b"Xcd",
        b"Xcde",
        b"Xcdef",
        b"X",
        b"",
        b"longer than all",
    ):
        lines.become(*(b"%d\n" % byte for byte in state))

        assert lines.path.read_bytes() == lines.content
        assert lines.file.is_current()


@every_way
def test_reader_keeps_the_content_it_began_with(lines: Lines) -> None:
    """A slow reader reads one state of the file from its first byte to its last, however often it is replaced."""
    readers: list[tuple[BinaryIO, bytes]] = []
    for number in range(6):
        content = lines.grow(b"line %d\n" % number)
        readers.append((lines.path.open("rb", buffering=0), content))

    for reader, content in readers:
        with reader:
            assert reader.read() == content


@every_way
def test_reader_that_has_read_half_gets_the_other_half_of_the_same(lines: Lines) -> None:
    """The file that it reads is never written to, not even when its turn would have come."""
    lines.grow(b"first\n")
    content = lines.grow(b"second\n")
    with lines.path.open("rb", buffering=0) as reader:
        half = reader.read(8)
        for number in range(4):
            lines.grow(b"line %d\n" % number)

        assert half + reader.read() == content
    assert lines.path.read_bytes() == lines.content


def test_reader_never_waits_for_a_writer_that_was_stopped(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the swap on nobody holds a lease on what readers open: they would wait until the kernel breaks it, 45 s."""
    content = b""
    for number in range(3):
        content = lines.grow(b"line %d\n" % number)
    opened: list[bytes] = []

    def open_at_once(at: str) -> None:
        descriptor = os.open(lines.path, os.O_RDONLY | os.O_NONBLOCK)  # refused, where one without would wait
        opened.append(at.encode() + os.read(descriptor, 1000))
        os.close(descriptor)

    real_swap, real_sync = durable.swap_or_rename, durable.sync_folder

    def swap(new: str, name: str) -> bool:
        open_at_once("before the swap: ")
        swapped = real_swap(new, name)
        open_at_once("after it: ")
        return swapped

    def sync(path: str) -> None:
        open_at_once("at the sync: ")
        real_sync(path)

    monkeypatch.setattr(durable, "swap_or_rename", swap)
    monkeypatch.setattr(durable, "sync_folder", sync)
    new = lines.grow(b"the last\n")

    assert opened == [b"before the swap: " + content, b"after it: " + new, b"at the sync: " + new]


def test_write_of_another_right_after_the_swap_is_not_taken_for_ours(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another hand's file is seen as one, however soon it comes."""
    lines.grow(b"first\n")
    real_sync = durable.sync_folder

    def sync(path: str) -> None:
        real_sync(path)
        lines.path.write_bytes(b"by hand\n")

    monkeypatch.setattr(durable, "sync_folder", sync)
    lines.grow(b"second\n")

    assert not lines.file.is_current()
    assert not lines.file.was_written_under_the_lock()


def test_hard_link_to_the_file_keeps_its_bytes(lines: Lines) -> None:
    """A backup by hard links (cp -al, rsync --link-dest) is of that day, and stays so."""
    content = lines.grow(b"first\n")
    backup = lines.path.with_name("backup")
    os.link(lines.path, backup)

    for number in range(3):
        lines.grow(b"line %d\n" % number)

    assert backup.read_bytes() == content


def test_two_files_take_turns(lines: Lines) -> None:
    """In the steady state no third file is made: the point of it all."""
    lines.grow(b"first\n")
    lines.grow(b"second\n")
    files = {lines.path.stat().st_ino, lines.spare.stat().st_ino} if lines.spare.exists() else set[int]()
    if not files:
        pytest.skip("this file system can't swap two files")

    for number in range(4):
        lines.grow(b"line %d\n" % number)
        assert {lines.path.stat().st_ino, lines.spare.stat().st_ino} == files


def test_spare_that_was_removed_by_hand_is_made_again(lines: Lines) -> None:
    """A person who tidies up the staging does not stop the index."""
    lines.grow(b"first\n")
    lines.grow(b"second\n")
    lines.spare.unlink(missing_ok=True)

    lines.grow(b"third\n")

    assert lines.path.read_bytes() == b"first\nsecond\nthird\n"


def test_dropped_spare_is_gone_and_not_missed(lines: Lines) -> None:
    """After the drop the next replacement writes all of it."""
    lines.grow(b"first\n")
    lines.grow(b"second\n")

    lines.file.drop_spare()

    assert not lines.spare.exists()
    lines.grow(b"third\n")
    assert lines.path.read_bytes() == b"first\nsecond\nthird\n"


def test_spare_of_a_file_that_somebody_else_replaced_is_not_used(lines: Lines, tmp_path: Path) -> None:
    """Read anew and its spare dropped, the file goes on from what the other wrote."""
    lines.grow(b"first\n")
    lines.grow(b"second\n")
    (tmp_path / "theirs").write_bytes(b"theirs\n")
    (tmp_path / "theirs").rename(lines.path)
    assert not lines.file.is_current()

    lines.file.drop_spare()
    assert lines.file.read() == b"theirs\n"
    lines.lines = [b"theirs\n"]
    lines.grow(b"mine\n")

    assert lines.path.read_bytes() == b"theirs\nmine\n"


@every_way
@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize(("code", "kind"), [(errno.EIO, StorageSuspect), (errno.ENOSPC, RetryLater)])
def test_replacement_that_can_not_be_synced_leaves_the_old_content(
    lines: Lines, monkeypatch: pytest.MonkeyPatch, before: int, code: int, kind: type[Exception]
) -> None:
    """The file that failed is no spare: it is thrown away, never synced again; the next try makes a new one."""
    for number in range(before):
        lines.grow(b"line %d\n" % number)
    old = lines.content
    with monkeypatch.context() as context:
        fail_fsync(context, lambda path: os.path.basename(path) == "spare", code)
        with pytest.raises(kind):
            lines.grow(b"lost\n")
    assert (lines.path.read_bytes() if lines.path.exists() else b"") == old
    assert not lines.file.is_current()
    assert not lines.spare.exists()

    lines.lines.pop()
    lines.grow(b"found\n")

    assert lines.path.read_bytes() == old + b"found\n"


@every_way
def test_replacement_whose_folder_can_not_be_synced_is_not_claimed(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old or new, nobody knows what a power cut would leave: the storage is suspect, and the file not current."""
    lines.grow(b"first\n")
    lines.grow(b"second\n")
    with monkeypatch.context() as context:
        fail_fsync(context, lambda path: path == str(lines.path.parent), errno.EIO)
        with pytest.raises(StorageSuspect):
            lines.grow(b"third\n")

    assert not lines.file.is_current()
    lines.grow(b"fourth\n")
    assert lines.path.read_bytes() == lines.content


def test_file_is_synced_while_it_has_no_name_that_readers_know(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are on disk before the swap, the swap before the call returns."""
    for number in range(3):
        old = lines.grow(b"line %d\n" % number)
    steps: list[tuple[str, bool]] = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        steps.append((name, lines.path.read_bytes() == old))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)

    lines.grow(b"new\n")

    assert steps == [("spare", True), (lines.path.parent.name, False)]


def test_pipe_in_its_place_is_refused_at_once(lines: Lines) -> None:
    """Nobody waits under the lock for its other end."""
    os.mkfifo(lines.path)

    with pytest.raises(RetryLater, match="is no file"):
        lines.file.read()


def test_lease_of_another_on_it_is_waited_for(lines: Lines) -> None:
    """A file server may hold one: it is told, gives way, and the file is read."""
    lines.grow(b"first\n")
    server = subprocess.Popen([sys.executable, "-c", _HOLDS_A_LEASE, lines.path], stdout=subprocess.PIPE)
    with server:
        assert server.stdout is not None
        server.stdout.readline()

        assert lines.file.read() == b"first\n"

    assert server.returncode == 0
