"""Reading never blocks, follows no link, holds no more than the cap, and takes only a file that stood still."""

import os
import socket
import threading
import tracemalloc
from pathlib import Path

import jiter
import pytest

from modelwarden.fingerprint import Fingerprint
from modelwarden.intake import reading
from modelwarden.intake.reading import (
    Gone,
    Moving,
    NotAFile,
    Refused,
    TooDense,
    TooLarge,
    Whole,
    memory_of,
    read_whole,
)
from summaries import encoded, random_summary

CAP = 64 * 1024 * 1024
MIB = 1024 * 1024


@pytest.mark.parametrize("size", [0, 1, 4096, MIB - 1, MIB, MIB + 1, 3 * MIB + 17])
def test_file_that_stands_still_is_read_whole(tmp_path: Path, size: int) -> None:
    """All bytes come back, whatever the size, with the fingerprint of the file they were read from."""
    path = tmp_path / "a.json"
    data = os.urandom(size)
    path.write_bytes(data)
    assert read_whole(str(path), CAP) == Whole(data, Fingerprint.of(os.stat(path)))


@pytest.mark.parametrize("size", [100, MIB - 1])
def test_file_that_the_system_hands_out_in_pieces_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """read(2) may return less than was asked for (FUSE and network file systems do): the rest is asked for too."""
    path = tmp_path / "a.json"
    data = os.urandom(size)
    path.write_bytes(data)
    read = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, length: read(descriptor, min(length, 1 + size // 7)))
    assert read_whole(str(path), CAP) == Whole(data, Fingerprint.of(os.stat(path)))


@pytest.mark.parametrize("size", [10, MIB])
def test_file_of_exactly_the_cap_is_read(tmp_path: Path, size: int) -> None:
    """The cap is the largest size that is still taken."""
    path = tmp_path / "a.json"
    path.write_bytes(b"x" * size)
    assert isinstance(read_whole(str(path), size), Whole)
    assert isinstance(read_whole(str(path), size - 1), TooLarge)


def test_file_over_the_cap_is_not_held_in_memory(tmp_path: Path) -> None:
    """Of a file of ten gigabytes no more than its head is kept, and no more than the cap is ever read."""
    path = tmp_path / "huge.json"
    with path.open("wb") as stream:
        stream.write(b'{"models"')
        stream.truncate(10 * 1024 * MIB)
    tracemalloc.start()
    try:
        reading = read_whole(str(path), 4 * MIB)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(reading, TooLarge)
    assert reading.head.startswith(b'{"models"')
    assert len(reading.head) <= MIB
    assert reading.fingerprint == Fingerprint.of(os.stat(path))
    assert peak < 16 * MIB


def test_large_file_is_held_once(tmp_path: Path) -> None:
    """Its bytes are not copied: memory is what it has, and a little."""
    path = tmp_path / "large.json"
    path.write_bytes(b"x" * (20 * MIB))
    tracemalloc.start()
    try:
        assert isinstance(read_whole(str(path), CAP), Whole)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 22 * MIB


SHAPES = {
    "numbers": b"1.5",
    "whole numbers": b"123456",
    "objects": b"{}",
    "lists": b"[]",
    "lists in lists": b"[1]",
    "small objects": b'{"a":1.5}',
    "texts": b'"%d"',
    "long texts": b'"%0100d"',
}


@pytest.mark.parametrize("shape", SHAPES)
def test_memory_that_a_file_takes_is_estimated_from_its_bytes(shape: str) -> None:
    """Not less than two thirds of what it comes to, and not more than three times as much."""
    value = SHAPES[shape]
    data = b"[" + b",".join(value % at if b"%" in value else value for at in range(50_000)) + b"]"
    tracemalloc.start()
    try:
        document = jiter.from_json(data, catch_duplicate_keys=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(document) == 50_000
    assert peak * 2 / 3 < memory_of(data) < peak * 3


def test_file_of_too_many_values_is_not_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has all its bytes, and the reason says how much memory it would take."""
    monkeypatch.setattr(reading, "LEAST_MEMORY", 8 * MIB)
    path = tmp_path / "dense.json"
    data = b"[" + b"{}," * 100_000 + b"{}]"
    path.write_bytes(data)
    dense = read_whole(str(path), MIB)
    assert dense == TooDense(data, Fingerprint.of(os.stat(path)))
    assert isinstance(dense, TooDense)
    reason = str(dense.error(MIB))
    assert reason.startswith("looking into it takes some 14 MiB of memory, more than 8")
    assert "max_bytes" in reason
    assert isinstance(read_whole(str(path), 4 * MIB), Whole), "max_bytes allows it"


def test_what_trainers_write_is_looked_into_up_to_the_cap(tmp_path: Path) -> None:
    """Sixty megabytes of figures as a trainer writes them are no bomb."""
    model = encoded(random_summary(1, models=1, points=500)).removesuffix(b"]}") + b","
    path = tmp_path / "large.json"
    path.write_bytes((model * (CAP // len(model) + 1))[:CAP])
    assert isinstance(read_whole(str(path), CAP), Whole)


def test_cap_holds_for_a_file_that_grows_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer faster than the reader ends the read at the cap, not at the end of the disk."""
    path = tmp_path / "growing.json"
    path.write_bytes(b"x" * 10)
    handed_out = 0
    read = os.read

    def read_and_grow(descriptor: int, length: int) -> bytes:
        nonlocal handed_out
        data = read(descriptor, length)
        handed_out += len(data)
        with path.open("ab") as stream:
            stream.write(b"y" * MIB)
        return data

    monkeypatch.setattr(os, "read", read_and_grow)
    assert read_whole(str(path), 3 * MIB) == Moving()
    assert 0 < handed_out <= 3 * MIB + 1


@pytest.mark.parametrize("change", ["grown", "cut", "rewritten", "rewritten in the old size"])
def test_file_that_changes_during_the_read_is_moving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Bytes that are half old and half new are never taken for a summary."""
    path = tmp_path / "a.json"
    path.write_bytes(b"x" * 1000)
    os.utime(path, ns=(0, 1_000_000_000))
    new = {"grown": b"x" * 2000, "cut": b"x" * 10, "rewritten": b"y" * 900, "rewritten in the old size": b"y" * 1000}
    read = os.read

    def read_and_change(descriptor: int, length: int) -> bytes:
        data = read(descriptor, length)
        path.write_bytes(new[change])
        return data

    monkeypatch.setattr(os, "read", read_and_change)
    assert read_whole(str(path), CAP) == Moving()


def test_file_replaced_during_the_read_gives_the_old_one_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename over the name does not mix two files; the fingerprint says whose bytes they are."""
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    old = os.stat(path)
    read = os.read

    def read_and_replace(descriptor: int, length: int) -> bytes:
        data = read(descriptor, length)
        (tmp_path / "new").write_bytes(b"new")
        (tmp_path / "new").rename(path)
        monkeypatch.setattr(os, "read", read)
        return data

    monkeypatch.setattr(os, "read", read_and_replace)
    reading = read_whole(str(path), CAP)
    assert isinstance(reading, Whole)
    assert reading.data == b"old"
    assert reading.fingerprint[1] == old.st_ino
    assert reading.fingerprint != Fingerprint.of(os.stat(path))


def test_missing_file_is_gone(tmp_path: Path) -> None:
    """A file that went away before it was ready is no error; nor is one whose folder became a file."""
    (tmp_path / "file").write_bytes(b"")
    assert read_whole(str(tmp_path / "missing.json"), CAP) == Gone()
    assert read_whole(str(tmp_path / "file" / "a.json"), CAP) == Gone()


@pytest.mark.parametrize("target", ["there.json", "nowhere", "link.json", "/etc/passwd"])
def test_link_is_not_followed(tmp_path: Path, target: str) -> None:
    """A link, wherever it points, is not a summary."""
    (tmp_path / "there.json").write_bytes(b"{}")
    (tmp_path / "link.json").symlink_to(target)
    assert read_whole(str(tmp_path / "link.json"), CAP) == NotAFile("a symbolic link")


def test_fifo_without_and_with_a_writer_does_not_block(tmp_path: Path) -> None:
    """A FIFO called *.json never holds the daemon up, and nothing is taken out of it."""
    fifo = tmp_path / "fifo.json"
    os.mkfifo(fifo)
    assert read_whole(str(fifo), CAP) == NotAFile("a FIFO")
    descriptor = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(descriptor, b"{}")
        assert read_whole(str(fifo), CAP) == NotAFile("a FIFO")
        assert os.read(descriptor, 10) == b"{}"
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero", "/dev/tty"])
def test_device_is_not_read(device: str) -> None:
    """A device is not a summary, endless ones included."""
    assert read_whole(device, CAP) in (NotAFile("a device"), Refused("Permission denied"))


def test_socket_and_folder_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no regular file by the time it is read is passed by."""
    (tmp_path / "folder.json").mkdir()
    assert read_whole(str(tmp_path / "folder.json"), CAP) == NotAFile("a folder")
    monkeypatch.chdir(tmp_path)  # a socket's path may have 107 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.json")
        assert read_whole(str(tmp_path / "socket.json"), CAP) == NotAFile("a socket")


def test_name_that_the_system_refuses_is_refused_with_its_reason(tmp_path: Path) -> None:
    """What the system says no to is told apart from what is not there: it may be readable later."""
    assert read_whole(str(tmp_path / ("x" * 300)), CAP) == Refused("File name too long")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_file_without_the_right_to_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    """A right that is missing is said, and the file stays owed."""
    path = tmp_path / "a.json"
    path.write_bytes(b"{}")
    path.chmod(0)
    assert read_whole(str(path), CAP) == Refused("Permission denied")


def test_reading_leaves_no_descriptor_open(tmp_path: Path) -> None:
    """Every way out of a read gives its descriptor back."""
    (tmp_path / "a.json").write_bytes(b"{}")
    os.mkfifo(tmp_path / "fifo.json")
    (tmp_path / "link.json").symlink_to("a.json")
    before = sorted(os.listdir("/proc/self/fd"))
    for name in ("a.json", "fifo.json", "link.json", "missing.json", "."):
        read_whole(str(tmp_path / name), CAP)
        read_whole(str(tmp_path / name), 1)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_appended_file_is_whole_or_moving_but_never_cut(tmp_path: Path) -> None:
    """Against a writer at full speed every read that counts ends where the file ended at that moment."""
    path = tmp_path / "a.json"
    path.write_bytes(b"")
    stop = threading.Event()

    def write() -> None:
        with path.open("ab", buffering=0) as stream:
            while not stop.is_set() and stream.tell() < 4 * MIB:
                stream.write(b"0123456789abcdef" * 64)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(200):
            match read_whole(str(path), CAP):
                case Whole(data, fingerprint):
                    assert len(data) == fingerprint[2]
                case other:
                    assert other == Moving()
    finally:
        stop.set()
        writer.join()
    assert isinstance(read_whole(str(path), CAP), Whole)
