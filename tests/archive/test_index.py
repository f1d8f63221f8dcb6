"""index.json as a file: framed, oldest first, read back to the byte or not at all, and changed under one lock."""

import errno
import json
import os
import subprocess
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwarden.archive.index import Index, IndexLock
from modelwarden.errors import RetryLater, StorageSuspect
from processes import running_program

LOCKING_PROCESS = """
import sys
from modelwarden.archive.index import IndexLock
with IndexLock(sys.argv[1]).held(10):
    print("locked", flush=True)
    sys.stdin.read()
"""


def lock_held_by_another_process(root: Path) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """Another process holds the archive's lock."""
    return running_program(LOCKING_PROCESS, root, says="locked")


def new_index(root: Path) -> Index:
    """An index that has read nothing yet, with a place for its spare file."""
    spare = root / f"spare-{os.urandom(4).hex()}"
    return Index(str(root), str(spare))


def line(name: str, sha256: str) -> bytes:
    """An entry with as much as the index itself reads of it."""
    return json.dumps({"timestamp": name, "source": "a,b\n]}", "sha256": sha256}).encode()


def filled(root: Path, *names: str) -> Index:
    """An index on disk with these runs, added in this order; a run's sha256 is its name backwards."""
    index = new_index(root)
    for name in names:
        index.add(name, name[::-1], line(name, name[::-1]))
    index.write()
    return index


THREE = ("20241224_153000", "20241225_000000", "20241226_000000")


def test_empty_index_is_a_document_without_runs(tmp_path: Path) -> None:
    """An archive without runs has an index that says so."""
    filled(tmp_path)

    assert json.loads((tmp_path / "index.json").read_bytes()) == {"schema_version": 1, "runs": []}


def test_written_index_is_json_with_one_line_a_run(tmp_path: Path) -> None:
    """Any JSON reader reads it; grep and diff are of use."""
    filled(tmp_path, *THREE)

    data = (tmp_path / "index.json").read_bytes()
    assert [run["timestamp"] for run in json.loads(data)["runs"]] == list(THREE)
    assert [text for text in data.splitlines() if b"timestamp" in text] == [
        line(name, name[::-1]) + (b"" if name == THREE[-1] else b",") for name in THREE
    ]


@pytest.mark.parametrize("names", [(), THREE[:1], THREE])
def test_loaded_index_is_what_was_written_to_the_byte(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Reading and writing change nothing."""
    filled(tmp_path, *names)
    before = (tmp_path / "index.json").read_bytes()
    index = new_index(tmp_path)

    assert index.load()
    index.write()

    assert (tmp_path / "index.json").read_bytes() == before
    assert index.names() == list(names)
    assert [index.find(name[::-1]) for name in names] == list(names)
    assert len(index) == len(names)


def test_runs_are_listed_oldest_first_and_suffixes_by_number(tmp_path: Path) -> None:
    """Whatever the order in which they came, and `_10` after `_9`."""
    ordered = ["20231231_235959", "20240101_000000", *(f"20240101_000000_{suffix}" for suffix in range(2, 12))]

    index = filled(tmp_path, *reversed(ordered))

    assert index.names() == ordered
    document = json.loads((tmp_path / "index.json").read_bytes())
    assert [run["timestamp"] for run in document["runs"]] == ordered


def test_discarded_run_leaves_nothing_behind(tmp_path: Path) -> None:
    """Its name, its line and its bytes are forgotten, the others stay."""
    index = filled(tmp_path, *THREE)

    index.discard(THREE[1])
    index.write()
    after = (tmp_path / "index.json").read_bytes()

    assert index.names() == [THREE[0], THREE[2]]
    assert THREE[1] not in index
    assert index.find(THREE[1][::-1]) is None
    filled(tmp_path, THREE[0], THREE[2])
    assert (tmp_path / "index.json").read_bytes() == after


def test_same_bytes_under_two_names_are_found_under_the_one_that_stays(tmp_path: Path) -> None:
    """Removing one of two runs of the same bytes does not hide the other."""
    index = new_index(tmp_path)
    for name in THREE[:2]:
        index.add(name, "same", line(name, "same"))

    index.discard(THREE[1])

    assert index.find("same") == THREE[0]


GOOD = b'{"schema_version": 1, "runs": [\n' + line(THREE[0], "a") + b",\n" + line(THREE[1], "b") + b"\n]}\n"
UNREADABLE = {
    "empty": b"",
    "first byte": GOOD[:1],
    "without its end": GOOD[:-1],
    "cut in a line": GOOD[:60],
    "cut at a line": GOOD[: GOOD.index(b",\n")],
    "zeros": bytes(len(GOOD)),
    "garbage": b"\xff\xfe not json",
    "another version": GOOD.replace(b'"schema_version": 1', b'"schema_version": 2'),
    "reformatted": json.dumps(json.loads(GOOD), indent=2).encode(),
    "compacted": json.dumps(json.loads(GOOD), separators=(",", ":")).encode(),
    "a run twice": GOOD.replace(THREE[1].encode(), THREE[0].encode()),
    "a line cut inside": GOOD.replace(b'"sha256"', b'"sha'),
    "a line without its bytes": GOOD.replace(b'"sha256": "b"', b'"sha255": "b"'),
    "a line that is a list": GOOD.replace(line(THREE[1], "b"), b"[]"),
    "a line that is null": GOOD.replace(line(THREE[1], "b"), b"null"),
    "bytes that are no text": GOOD.replace(b'"sha256": "b"', b'"sha256": []'),
    "a name that is a path": GOOD.replace(THREE[1].encode(), b"../../outside"),
    "a name that is a number": GOOD.replace(b'"%s"' % THREE[1].encode(), b"5"),
    "a line break more": GOOD + b"\n",
    "another end": GOOD[:-1] + b" ",
    "twice": GOOD + GOOD,
    "a blank line": GOOD.replace(b",\n", b",\n,\n"),
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE)
def test_index_that_is_not_what_is_written_here_is_not_believed(tmp_path: Path, data: bytes) -> None:
    """Torn, edited or strange: the answer is no, and nothing of it is taken over."""
    (tmp_path / "index.json").write_bytes(data)
    index = new_index(tmp_path)

    assert not index.load()
    assert (index.names(), len(index), index.find("a")) == ([], 0, None)


@pytest.mark.parametrize("name", [b'"../../outside"', b"5", b"null", b'"notes"'])
def test_lone_line_with_a_name_that_is_none_is_not_believed(tmp_path: Path, name: bytes) -> None:
    """A name from index.json is checked like any other, also where there is nothing to compare it with."""
    entry = line(THREE[0], "a").replace(b'"%s"' % THREE[0].encode(), name)
    (tmp_path / "index.json").write_bytes(b'{"schema_version": 1, "runs": [\n' + entry + b"\n]}\n")
    index = new_index(tmp_path)

    assert not index.load()
    assert index.names() == []


def test_index_out_of_order_is_not_believed(tmp_path: Path) -> None:
    """It is not what `write` writes, so it must not stay."""
    first, second = line(THREE[0], "a"), line(THREE[1], "b")
    (tmp_path / "index.json").write_bytes(b'{"schema_version": 1, "runs": [\n' + second + b",\n" + first + b"\n]}\n")

    assert not new_index(tmp_path).load()


names = st.sampled_from([*THREE, f"{THREE[1]}_2", f"{THREE[1]}_10"])
steps = st.lists(
    st.tuples(names, st.sampled_from(["toggle"] * 4 + ["write"] * 3 + ["changed by another"])), min_size=5, max_size=40
)


def toggle(index: Index, runs: dict[str, str], name: str, sha256: str) -> None:
    """Take the run out where it is there, else add it, in the index and in what it should hold."""
    if name in runs:
        index.discard(name)
        del runs[name]
    else:
        index.add(name, sha256, line(name, sha256))
        runs[name] = sha256


def test_index_after_any_changes_is_what_a_new_one_writes(tmp_path: Path) -> None:
    """Runs come and go anywhere in time, others write between: byte for byte what the runs alone make."""
    number = count()

    @settings(max_examples=60, deadline=None)
    @given(steps)
    def check(steps: list[tuple[str, str]]) -> None:
        folder, beside = tmp_path / f"{next(number)}", tmp_path / f"{next(number)}"
        folder.mkdir()
        beside.mkdir()
        index = filled(folder)
        runs: dict[str, str] = {}
        on_disk = dict(runs)
        for name, step in [*steps, (THREE[0], "write")]:
            sha256 = f"{next(number)}"
            match step:
                case "toggle":
                    toggle(index, runs, name, sha256)
                case "write":
                    index.write()
                    on_disk = dict(runs)
                case _:
                    other = new_index(folder)
                    assert other.load()
                    toggle(other, on_disk, name, sha256)
                    other.write()
                    assert not index.is_current()
                    assert index.load()
                    runs = dict(on_disk)
            alone = new_index(beside)
            for each, its_bytes in on_disk.items():
                alone.add(each, its_bytes, line(each, its_bytes))
            alone.write()
            assert (folder / "index.json").read_bytes() == (beside / "index.json").read_bytes()

    check()


def test_missing_index_is_not_there(tmp_path: Path) -> None:
    """No file, no runs, no error."""
    index = new_index(tmp_path)

    assert not index.load()
    assert index.names() == []


def test_index_that_can_not_be_read_is_tried_again_later(tmp_path: Path) -> None:
    """A refusal of the disk is not taken for an empty archive."""
    (tmp_path / "index.json").mkdir()

    with pytest.raises(RetryLater, match=r"index\.json: can't read"):
        new_index(tmp_path).load()


def test_index_is_current_after_a_write_and_after_a_load(tmp_path: Path) -> None:
    """Who wrote or read it last need not read it again."""
    writer, reader = filled(tmp_path, *THREE), new_index(tmp_path)
    assert not reader.is_current()

    reader.load()

    assert writer.is_current()
    assert reader.is_current()


@pytest.mark.parametrize("change", ["replaced", "same bytes replaced", "appended", "deleted"])
def test_index_that_somebody_changed_is_not_current(tmp_path: Path, change: str) -> None:
    """Any change of the file by another hand is seen."""
    index = filled(tmp_path, *THREE)
    path = tmp_path / "index.json"
    match change:
        case "replaced":
            filled(tmp_path, *THREE[:1])
        case "same bytes replaced":
            filled(tmp_path, *THREE)
        case "appended":
            path.write_bytes(path.read_bytes() + b" ")
        case _:
            path.unlink()

    assert not index.is_current()


@pytest.mark.parametrize(("code", "kind"), [(errno.ENOSPC, RetryLater), (errno.EIO, StorageSuspect)])
def test_index_that_can_not_be_written_stands_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    """The old index is there whole, and the object in memory does not claim to be it."""
    index = filled(tmp_path, *THREE[:1])
    before = (tmp_path / "index.json").read_bytes()
    index.add(THREE[1], "b", line(THREE[1], "b"))

    def refuse(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)

    with pytest.raises(kind):
        index.write()

    assert (tmp_path / "index.json").read_bytes() == before
    assert not index.is_current()


def test_lock_held_by_another_process_is_named_and_never_broken(tmp_path: Path) -> None:
    """Who waits too long learns which file is locked and how to find the holder, however old the lock is."""
    with lock_held_by_another_process(tmp_path) as process:
        os.utime(tmp_path / ".index.lock", (0, 0))

        with pytest.raises(RetryLater) as caught, IndexLock(str(tmp_path)).held(0.05):
            pass

        assert process.poll() is None
    assert caught.value.where == str(tmp_path / ".index.lock")
    assert "fuser" in caught.value.hint


def test_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    """The dead hold nothing, and the lock's file may stay."""
    with lock_held_by_another_process(tmp_path) as process:
        process.kill()
        process.wait()

        with IndexLock(str(tmp_path)).held(0.05):
            pass


def test_lock_is_given_back_when_the_work_fails(tmp_path: Path) -> None:
    """An error under the lock does not lock the archive."""

    def fail() -> None:
        with IndexLock(str(tmp_path)).held(0.05):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with IndexLock(str(tmp_path)).held(0.05):
        pass


def test_lock_on_a_file_system_without_locks_is_refused_not_faked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that guards nothing is worse than none: the archive waits and says why."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", no_locks)

    with pytest.raises(RetryLater, match="can't lock"), IndexLock(str(tmp_path)).held(0.05):
        pass
