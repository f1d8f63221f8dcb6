"""Cases 1 to 16 of watching: however a file comes to be there, and whatever it is, it is dealt with once and whole.

The rule: every test runs a real daemon that finds files by events (its timer is set far away), and ends with all that
was left held to "once" (see rigs.watched).
"""

import json
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest

from invariants import sha256
from processes import until
from rigs.launching import traced, wait_for_strace
from rigs.mounts import ext4_image, private_mounts
from rigs.needs import needs
from rigs.watched import Watched, watching
from summaries import GOOD, encoded, flat_summary

pytestmark = pytest.mark.cases

MAX_BYTES = 1 << 20
"""The cap on a file where one passes it; so much of it is kept."""


SUMMARIES = 200
"""So many are left under one name, one after the other."""


def looks(watched: Watched, path: Path, count: int) -> None:
    """Wait until the daemon has looked at an unfinished file that often."""
    until(lambda: len(watched.logged("not_ready", path)) >= count, f"{count} looks at {path.name}")


def some_scans(watched: Watched) -> None:
    """Wait until the daemon has walked its folder three times more: longer than a file must stand still."""
    watched.latest.wait_for("scanned", len(watched.latest.events("scanned")) + 3)


def test_case_01_written_in_chunks_over_seconds_is_archived_once(tmp_path: Path) -> None:
    """A writer that takes its time, looked at after each of ten chunks, is archived, whole, after the last one."""
    with watching(tmp_path) as watched:
        data = watched.summary()
        path = watched.site.out / "summary.json"
        step = len(data) // 10 + 1
        with path.open("wb", buffering=0) as stream:
            for chunk in range(10):
                looks(watched, path, chunk)
                stream.write(data[chunk * step : (chunk + 1) * step])
        (entry,) = watched.archived(data)
        assert (watched.site.archive / entry["timestamp"] / "summary.json").read_bytes() == data


def test_case_02_writer_that_stalls_past_the_settle_time_is_not_rejected(tmp_path: Path) -> None:
    """Half a file that stands still longer than `settle_seconds` is waited for, and archived when it is finished."""
    with watching(tmp_path) as watched:
        data = watched.summary()
        path = watched.site.out / "summary.json"
        with path.open("wb", buffering=0) as stream:
            stream.write(data[: len(data) // 2])
            looks(watched, path, 4)  # each a settle time after the last
            stream.write(data[len(data) // 2 :])
        watched.archived(data)
        assert watched.logged("summary_rejected", path) == []


def test_case_03_file_of_zero_bytes_is_archived_when_it_is_filled(tmp_path: Path) -> None:
    """An empty file is no summary yet: nothing is said of it, and what is written into it later is a run."""
    with watching(tmp_path) as watched:
        data = watched.summary()
        path = watched.site.out / "summary.json"
        path.touch()
        looks(watched, path, 2)
        path.write_bytes(data)
        watched.archived(data)
        assert watched.logged("summary_rejected", path) == []


@pytest.mark.parametrize("temporary", [".summary.json", "summary.json.tmp", "summary.json.part", "summary.json~"])
def test_case_04_renamed_from_a_temporary_name_is_archived_by_its_own(tmp_path: Path, temporary: str) -> None:
    """A file that is whole under a temporary name is not looked at before it has its own, whatever patterns take."""
    watched = Watched(tmp_path, watch='[[watch]]\npath = "out"\npatterns = ["*"]\n', scan_every=0.2)
    with watched.daemon():
        data = watched.summary()
        path = watched.site.out / temporary
        path.write_bytes(data)
        some_scans(watched)
        path.rename(watched.site.out / "summary.json")
        (entry,) = watched.archived(data)
        assert entry["source"] == str(watched.site.out / "summary.json")
        watched.caught_up()
        assert f'"{path}"' not in watched.latest.log.read_text()
    watched.assert_once()


def test_case_05_renamed_in_from_an_unwatched_folder_is_archived_once(tmp_path: Path) -> None:
    """A file that arrives finished, without ever being written here, is a run."""
    with watching(tmp_path) as watched:
        data = watched.summary()
        outside = tmp_path / "finished.json"
        outside.write_bytes(data)
        outside.rename(watched.site.out / "summary.json")
        watched.archived(data)


def test_case_06_renamed_over_an_archived_name_is_a_second_run(tmp_path: Path) -> None:
    """A trainer that replaces its summary by a new one gets a run for each; the first one stays as it was."""
    with watching(tmp_path) as watched:
        first, second = watched.summary(), watched.summary()
        watched.drop(first)
        (one,) = watched.archived(first)
        watched.drop(second)
        (two,) = watched.archived(second)
        assert one["source"] == two["source"]


def test_summary_renamed_over_a_name_being_deleted_is_archived(tmp_path: Path) -> None:
    """A trainer whose next summary comes the moment the last one is archived loses none of them to its removal."""
    with watching(tmp_path, intake='after_archive = "delete"') as watched:
        index = watched.site.archive / "index.json"

        def is_listed(digest: bytes) -> bool:
            return index.exists() and digest in index.read_bytes()

        for _ in range(SUMMARIES):
            data = watched.summary()
            watched.drop(data)
            until(partial(is_listed, sha256(data).encode()), "the summary to be archived", tick=0)
        until(lambda: not list(watched.site.out.iterdir()), "the sources to be gone")


def test_case_07_hard_link_made_and_temporary_unlinked_is_archived_once(tmp_path: Path) -> None:
    """A file published by link and unlink makes no event of a writer that closes it, and is a run all the same."""
    with watching(tmp_path) as watched:
        data = watched.summary()
        temporary = watched.site.out / "summary.json.tmp"
        temporary.write_bytes(data)
        os.link(temporary, watched.site.out / "summary.json")
        temporary.unlink()
        watched.archived(data)


def test_case_08_two_hard_links_to_one_file_are_archived_once(tmp_path: Path) -> None:
    """One file under two names is one summary; both names are known."""
    with watching(tmp_path) as watched:
        data = watched.summary()
        outside = tmp_path / "outside.json"
        outside.write_bytes(data)
        links = [watched.site.out / name for name in ("a.json", "b.json")]
        for link in links:
            os.link(outside, link)
        watched.archived(data)
        until(lambda: watched.known_paths() >= set(map(str, links)), "both names to be known")


@contextmanager
def times_in_nanoseconds(folder: Path) -> Iterator[Watched]:
    yield Watched(folder)


@contextmanager
def times_in_seconds(folder: Path) -> Iterator[Watched]:
    """An ext4 with inodes of 128 bytes, as one that was once an ext3: there is no room for fractions of a second."""
    with private_mounts() as mounts:
        watched = Watched(folder, mounts=mounts, state_beside=True)
        mounts.ext4(ext4_image(folder / "disk", 8, "-I", "128"), folder / "out")
        yield watched


@pytest.mark.parametrize(
    "place",
    [
        times_in_nanoseconds,
        times_in_seconds,
    ],
    ids=lambda place: place.__name__,
)
def test_case_09_rewritten_with_size_and_time_restored_is_a_second_run(
    tmp_path: Path, place: Callable[[Path], AbstractContextManager[Watched]]
) -> None:
    """In place, too, new content is new content, however soon it comes and however alike the file looks."""
    with place(tmp_path) as watched:
        with watched.daemon():
            for attempt in range(5):
                first = watched.summary(note="first_")
                second = watched.expect(first.replace(b"first_", b"second"))
                until(lambda: time.time() % 1 < 0.2, "a second to begin, for both to be written in it")
                path = watched.drop(first, f"{attempt}.json")
                watched.archived(first)
                before = path.stat()
                with path.open("r+b") as stream:
                    stream.write(second)
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
                after = path.stat()
                watched.archived(second)
                assert after.st_size == before.st_size
                assert after.st_mtime_ns == before.st_mtime_ns
                if before.st_ctime_ns % 10**9 or before.st_ctime_ns == after.st_ctime_ns:
                    break  # the machine was quick enough, or the times are fine enough for it not to matter
        watched.assert_once()


def test_case_10_touched_file_is_nothing_new(tmp_path: Path) -> None:
    """A new time without new content makes no run, neither now nor after a restart."""
    watched = Watched(tmp_path)
    with watched.daemon():
        data = watched.summary()
        path = watched.drop(data)
        watched.archived(data)
        os.utime(path)
        watched.caught_up()
        with path.open("ab"):  # opened for writing, closed, nothing written: an event
            os.utime(path)
        watched.caught_up()
        assert len(watched.logged("run_archived", path)) == 1
    with watched.daemon():
        os.utime(path)
    assert watched.logged("run_archived", path) == []
    watched.assert_once()


def test_case_11_changed_during_the_read_is_discarded_and_read_again(tmp_path: Path) -> None:
    """Bytes of a file that changed between the looks before and after the read are never archived."""
    watched = Watched(tmp_path)
    old = encoded(flat_summary({"OLD": GOOD}, timestamp="20240101_000000"))
    new = watched.summary()
    path = watched.drop(old)
    report = tmp_path / "strace"
    pause = ("-e", "inject=read:delay_exit=1000000:when=1")  # the bytes are read, and the daemon does not know yet
    with watched.daemon(how=traced(report, "-P", str(path), "-e", "trace=read", *pause)):
        wait_for_strace(report, "DELAYED")
        path.write_bytes(new)
        watched.archived(new)
        assert report.read_text().count("read(") >= 2
    watched.assert_once()


def test_case_12_gone_before_it_is_ready_leaves_nothing_but_a_debug_line(tmp_path: Path) -> None:
    """A file that was taken away unfinished is no run, no rejection and no warning."""
    with watching(tmp_path, reject_after=1) as watched:
        path = watched.site.out / "summary.json"
        path.write_bytes(b'{"models": [')
        looks(watched, path, 1)
        path.unlink()
        watched.caught_up()
        about_it = [event for event in watched.latest.events() if str(path) in json.dumps(event)]
        assert {event["level"] for event in about_it} == {"debug"}
        assert [event["event"] for event in about_it if event["event"] != "not_ready"] == ["gone_before_ready"]


def test_case_13_permanently_malformed_is_rejected_once_with_a_reason(tmp_path: Path) -> None:
    """What never parses is kept with its reason and announced once, across a restart too; corrected, it is a run."""
    watched = Watched(tmp_path, reject_after=1)
    bad = watched.rubbish(b'{"models": [{"symbol": "AAPL", "final_fitness": ')
    with watched.daemon():
        path = watched.drop(bad)
        until(lambda: watched.logged("summary_rejected", path), "the rejection")
        kept = watched.site.archive / "rejected" / sha256(bad)[:16]
        assert (kept / "as_found").read_bytes() == bad
        reason = json.loads((kept / "reason.json").read_bytes())
        assert reason["path"] == str(path)
        assert "JSON" in reason["reason"]
    with watched.daemon():
        os.utime(path)  # looked at again, and known
        watched.caught_up()
        corrected = watched.summary()
        watched.drop(corrected)
        watched.archived(corrected)
    watched.assert_once()


def deeply_nested() -> bytes:
    return b'{"models": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def deeply_nested_objects() -> bytes:
    return b'{"a":' * 100_000 + b"1" + b"}" * 100_000


def huge_integer() -> bytes:
    return b'{"models": [{"symbol": "A", "final_fitness": ' + b"9" * 500_000 + b"}]}"


def duplicate_keys() -> bytes:
    return b'{"models": [{"symbol": "A", "final_fitness": 0.1, "final_fitness": 0.9}]}'


def lone_surrogate() -> bytes:
    return b'{"models": [{"symbol": "\\ud800", "final_fitness": 0.9}]}'


def nul_bytes() -> bytes:
    return b"\0" * 4096


def nul_in_a_symbol() -> bytes:
    return encoded(flat_summary({"A\0B": GOOD}))


def utf_16() -> bytes:
    return encoded(flat_summary()).decode().encode("utf-16")


HOSTILE: list[tuple[Callable[[], bytes], str]] = [
    (deeply_nested, "nested too deeply at line 1"),
    (deeply_nested_objects, "nested too deeply at line 1"),
    (huge_integer, "number out of range at line 1"),
    (duplicate_keys, 'models[0]: the key "final_fitness" stands twice'),
    (lone_surrogate, "hex escape at line 1"),
    (nul_bytes, "zero bytes"),
    (nul_in_a_symbol, "models[0].symbol"),
    (utf_16, "UTF-16"),
]
"""Contents, and what a reason must say of each."""


def peak_memory(pid: int) -> int:
    """The most memory that a process ever had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def test_case_14_hostile_content_is_rejected_in_bounded_memory(tmp_path: Path) -> None:
    """Too large, too deep, not a number, not text: each is one rejection that says what is wrong, and costs little."""
    with watching(tmp_path, reject_after=1, intake=f"max_bytes = {MAX_BYTES}\n") as watched:
        watched.caught_up()
        before = peak_memory(watched.latest.process.pid)
        words_of = {watched.drop(watched.rubbish(make()), f"{make.__name__}.json"): words for make, words in HOSTILE}
        large = watched.site.out / "oversize.json"
        with large.open("wb") as stream:
            stream.truncate(1 << 30)
        watched.rubbish(bytes(MAX_BYTES))
        words_of[large] = f"{1 << 30} bytes, more than max_bytes = {MAX_BYTES}"
        watched.latest.wait_for("summary_rejected", len(words_of))
        for path, words in words_of.items():
            (event,) = watched.logged("summary_rejected", path)
            assert words in event["reason"]
            assert len(event["reason"]) < 500
        assert peak_memory(watched.latest.process.pid) - before < 64 * MAX_BYTES


@pytest.mark.parametrize("name", [b"caf\xe9.json", b"two\nlines.json", b"\x1b[31m.json"])
def test_case_15_file_name_that_is_no_text_or_no_line_is_archived(tmp_path: Path, name: bytes) -> None:
    """A name on disk is bytes, and any of them is archived, found or heard of; in the log it is one plain line."""
    watched = Watched(tmp_path)
    found, heard = watched.summary(), watched.summary()
    watched.drop(found, os.fsdecode(name))
    with watched.daemon():
        watched.archived(found)
        watched.drop(heard, os.fsdecode(b"later-" + name))
        watched.archived(heard)
        assert all(line.isprintable() for line in watched.latest.log.read_text().splitlines())
    watched.assert_once()


def make_fifo(path: Path, _outside: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path, _outside: Path) -> None:
    folder = os.open(path.parent, os.O_PATH)  # a socket's name must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)


def make_device(path: Path, _outside: Path) -> None:
    needs(root=True)
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero: has no end


def make_folder(path: Path, _outside: Path) -> None:
    path.mkdir()


def make_dangling_link(path: Path, _outside: Path) -> None:
    path.symlink_to("nowhere.json")


def make_escaping_link(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def make_link_to_a_folder(path: Path, outside: Path) -> None:
    path.symlink_to(outside.parent)


def make_link_to_itself(path: Path, _outside: Path) -> None:
    path.symlink_to(path)


ODD = [
    make_fifo,
    make_socket,
    make_device,
    make_folder,
    make_dangling_link,
    make_escaping_link,
    make_link_to_a_folder,
    make_link_to_itself,
]


@pytest.mark.parametrize("make", ODD, ids=lambda make: make.__name__.removeprefix("make_"))
def test_case_16_what_is_no_regular_file_never_blocks_and_is_left_alone(
    tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    """Found at the start or made later, nothing but a regular file is waited for; what stands beside it is archived."""
    outside = tmp_path / "outside.json"
    outside.write_bytes(encoded(flat_summary({"OUTSIDE": GOOD})))
    watched = Watched(tmp_path, scan_every=0.2)
    make(watched.site.out / "early.json", outside)
    with watched.daemon():
        make(watched.site.out / "late.json", outside)
        some_scans(watched)
        watched.caught_up()
        odd = {str(watched.site.out / name) for name in ("early.json", "late.json")}
        told = [event for event in watched.latest.events() if odd & {event.get("path"), event.get("source")}]
        leads_out = make in (make_escaping_link, make_link_to_a_folder)
        assert {event["event"] for event in told} == ({"links_not_followed"} if leads_out else set())
        assert sum(event["links"] for event in told) == 2 * leads_out, "once each; one scan may find both"
    watched.assert_once()
