"""A daemon whose disk has bad blocks for a while: which syncs failed, what it said, and what is on the disk afterwards.

The rule: what counts is what can be read after the file system was unmounted and mounted again; before that a reader
sees pages that may never have reached the disk.

Run as a program, in namespaces of its own, it plays one trouble on one file system and prints what it found as JSON.
"""

import argparse
import json
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from invariants import assert_archive_whole, assert_nothing_half_made, assert_owed_once, sha256
from processes import Daemon, Site, drop, index_of, outbox_of, running_daemon, until
from rigs.block_log import Fault, recorded_disk
from rigs.disk_images import FILE_SYSTEMS, FileSystem, make_image, memory_folder, mounted
from rigs.launching import traced
from rigs.namespaces import end_with_the_test
from rigs.power_cuts import FAILURES, site_on_disk
from summaries import encoded, random_summary

MODELS: Final = 40
"""In every summary: no file of a run is so small that btrfs keeps it in the folder's own blocks."""

NOTE: Final = "these bytes can't be written"
RUN: Final = "20241224_153000"
WRITTEN_AT: Final = 1_735_000_000_123_456_789
"""When the victim's source was modified, in ns: text that only the state's file has."""

VICTIM: Final = encoded(random_summary(0, models=MODELS) | {"timestamp": RUN, "note": NOTE})


class Trouble(NamedTuple):
    """What goes wrong with the disk.

    Attributes:
        fault: the writes that fail.
        gives_up: whether the file system then takes no more writes until it is mounted again.
    """

    fault: Fault
    gives_up: bool


TROUBLES: Final[Mapping[str, Trouble]] = {
    "summary": Trouble(Fault(NOTE), gives_up=False),
    "index": Trouble(Fault(f'"timestamp":"{RUN}"', without=('"daemon_id"',)), gives_up=False),
    "state": Trouble(Fault(f":{len(VICTIM)}:{WRITTEN_AT}:"), gives_up=False),
    "folder": Trouble(Fault(RUN, without=("sha256", NOTE)), gives_up=True),
    "disk": Trouble(Fault(""), gives_up=True),
}
"""A bad block in one run's data, in the index's, in the state's, in the archive folder's own, or everywhere."""

EARLIER: Final = 9
"""Runs archived before the fault: enough for an index that btrfs keeps in blocks of its own."""


class Sync(NamedTuple):
    """A sync that strace saw.

    Attributes:
        path: of the file.
        failed: whether it did.
        again: whether one of the same file had failed before. A file created anew under the name is another.
    """

    path: str
    failed: bool
    again: bool


class Findings(NamedTuple):
    """What came of one trouble.

    Attributes:
        refused: writes that the disk refused.
        reasons: what the daemon said when it postponed the file.
        errors: tracebacks of its own that it logged.
        claimed_meanwhile: whether the run was claimed before the blocks were well.
        failed: paths of the syncs that failed, relative to the archive.
        tried_again: those of them that were synced once more as the same file.
        wrong: what is not as it must be after the disk was mounted again; "" where all is.
    """

    refused: int
    reasons: Sequence[str]
    errors: Sequence[str]
    claimed_meanwhile: bool
    failed: Sequence[str]
    tried_again: Sequence[str]
    wrong: str


def play(kind: FileSystem, trouble: Trouble, folder: Path) -> Findings:
    """Archive some runs, let blocks fail while one more arrives, mend them, and look."""
    earlier = [encoded(random_summary(number, models=MODELS)) for number in range(1, EARLIER + 1)]
    with memory_folder(folder):
        site = site_on_disk(folder)
        image, disk = folder / "disk.img", folder / "disk"
        make_image(kind, image)
        with recorded_disk(image, folder / "record") as recorded:
            for number, data in enumerate(earlier):  # before the start: they are one batch
                drop(data, site.out, f"{number}.json")
            with mounted(kind, recorded.path, disk), _daemon(site, "first") as daemon:
                daemon.wait_for("run_archived", EARLIER)
                recorded.fail(trouble.fault)
                _drop_victim(site)
                until(lambda: daemon.events("postponed") or _is_known(site), "the file to be postponed, or not")
                claimed = _is_known(site)
                if not trouble.gives_up:
                    recorded.mend()
                    until(lambda: _is_known(site), "the run to be archived")
                reasons = [event["reason"] for event in daemon.events("postponed")]
                errors = [event["exception"] for event in daemon.events() if "exception" in event]
                daemon.stop()
            if trouble.gives_up:
                recorded.mend()
                with mounted(kind, recorded.path, disk), _daemon(site, "second") as daemon:
                    until(lambda: _is_known(site), "the run to be archived")
                    daemon.stop()
            refused = recorded.refused()
            with mounted(kind, recorded.path, disk):
                wrong = _what_is_wrong(site, [*earlier, VICTIM])
        syncs = [sync for trace in sorted(folder.glob("trace-*")) for sync in _syncs(trace.read_text(), site.archive)]
    return Findings(
        refused,
        reasons,
        errors,
        claimed,
        sorted({sync.path for sync in syncs if sync.failed}),
        sorted({sync.path for sync in syncs if sync.again}),
        wrong,
    )


def _drop_victim(site: Site) -> None:
    temporary = site.out / ".victim.tmp"
    temporary.write_bytes(VICTIM)
    os.utime(temporary, ns=(WRITTEN_AT, WRITTEN_AT))
    temporary.rename(site.out / "victim.json")


def _is_known(site: Site) -> bool:
    """Whether the victim is in the index, and its message owed: the end of its way."""
    digest = sha256(VICTIM)
    try:
        listed = {entry["sha256"] for entry in index_of(site.archive)}
        owed = {row["event"] for row in outbox_of(site.state)}
    except (OSError, sqlite3.Error):  # a file system that gave itself up: nobody can read it either
        return False
    return digest in listed and f"run:{digest[:16]}" in owed


@contextmanager
def _daemon(site: Site, name: str) -> Iterator[Daemon]:
    """The daemon, its syncs on record."""
    how = traced(site.folder / f"trace-{name}", "-y", "-e", "trace=openat,fsync,fdatasync")
    with running_daemon("--no-courier", "--config", site.config, log=site.log, how=how) as daemon:
        yield daemon


def _what_is_wrong(site: Site, expected: Sequence[bytes]) -> str:
    try:
        assert_archive_whole(site.archive, expected)
        assert_nothing_half_made(site.archive)
        assert_owed_once(site, "team", expected)
    except FAILURES as error:
        return f"{type(error).__name__}: {error}"
    return ""


_CALL: Final = re.compile(
    r"(?P<thread>\d+) +(?:(?P<name>openat|fsync|fdatasync)\((?P<given>.*?)|<\.\.\. (?P<resumed>\w+) resumed>.*?)"
    r"(?:(?P<unfinished> <unfinished \.\.\.>)|\) += (?P<result>-?\d+)(?:<(?P<opened>[^>]*)>)?.*)"
)


def _syncs(trace: str, archive: Path) -> Iterator[Sync]:
    """The syncs of files below the archive but the state's, which SQLite syncs again after it wrote all of it again."""
    begun: dict[str, tuple[str, str]] = {}  # thread -> the call that waits, and what it was given
    suspect: set[str] = set()
    for line in trace.splitlines():
        call = _CALL.fullmatch(line)
        if call is None:
            continue
        if call["unfinished"]:
            begun[call["thread"]] = call["name"], call["given"]
            continue
        name, given = begun.pop(call["thread"]) if call["resumed"] else (call["name"], call["given"])
        if name == "openat":
            if "O_EXCL" in given and call["opened"]:
                suspect.discard(call["opened"])
            continue
        path = given.partition("<")[2].rstrip(">")
        if f"{path}/".startswith(f"{archive}/") and not path.startswith(f"{archive}/.state/"):
            failed = call["result"] != "0"
            yield Sync(os.path.relpath(path, archive), failed, again=path in suspect)
            if failed:
                suspect.add(path)


def main() -> None:
    """Play what the command line says."""
    parser = argparse.ArgumentParser(description="Let blocks fail under a daemon for a while.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("file_system", choices=FILE_SYSTEMS)
    parser.add_argument("trouble", choices=TROUBLES)
    given = parser.parse_args()
    end_with_the_test()
    print(json.dumps(play(FILE_SYSTEMS[given.file_system], TROUBLES[given.trouble], given.folder)._asdict()))  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
