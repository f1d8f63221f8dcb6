"""Power cuts, replayed: a disk as it was at any moment of a process's work, and the service started on what is left.

The rule: a cut leaves all that was written before the last flush, and of what was written behind it any blocks. From
each such disk the real start-up code must find everything that was claimed before the cut, whole and once.

Run as a program, in namespaces of its own, it tries one workload on one file system and prints what it found as JSON.
"""

import argparse
import gc
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Final, NamedTuple

from invariants import assert_archive_whole, assert_nothing_half_made, assert_run_whole, contents, sha256, snapshot
from modelwarden.archive.decisions import Fault, faults_in, read_all, read_head
from modelwarden.archive.pruned import read_pruned
from modelwarden.config import Settings, load_settings
from modelwarden.errors import ModelwardenError
from modelwarden.gate.timestamp import is_run_name
from modelwarden.wiring.pipeline import open_pipeline
from processes import Site, destination, index_of, make_site, outbox_of
from rigs.block_log import Epoch, Write, epochs_of, recorded_disk
from rigs.disk_images import FILE_SYSTEMS, FileSystem, make_image, memory_folder, mounted
from rigs.namespaces import end_with_the_test
from rigs.power_subject import WORKLOADS, Note, found, notes_of, source

BLOCK: Final = 4096
"""Bytes that a disk writes whole or not at all; a longer write can be torn between two of them."""

NEIGHBOUR_PAUSE: Final = 0.003
"""Seconds between two syncs of the neighbour."""

SUBJECT_SECONDS: Final = 60.0

FAILURES: Final = (AssertionError, ModelwardenError, OSError, ValueError, KeyError, sqlite3.Error)
"""How a check says no: its own words, the product's, the file system's, or those of what can't read the rest."""


def site_on_disk(folder: Path) -> Site:
    """Make one whose archive, with the state in it, is on the disk under trial; the sources are on another.

    The disk is to be mounted at `disk` below the folder. All that happens is owed to `team`.
    """
    nowhere = destination("team", "json://127.0.0.1:9/hook", "APPROVED", "REVIEW", "DROP", "REJECTED")
    return make_site(folder, nowhere, archive="disk/archive")


@dataclass(frozen=True)
class Recording:
    """What a subject did to a disk.

    Attributes:
        before: the disk before it.
        after: the disk at the end.
        epochs: what was written, flush by flush.
        notes: what the subject claimed, and when.
    """

    before: Path
    after: Path
    epochs: Sequence[Epoch]
    notes: Sequence[Note]

    def known_in(self, epoch: int) -> list[Note]:
        """What had been noted when the power was cut there: at the latest moment, just before the flush."""
        return [note for note in self.notes if note.at < self.epochs[epoch].end]


def record(kind: FileSystem, workload: str, site: Site, folder: Path, *, neighbour: bool) -> Recording:
    """Let a subject work on a new file system at the site's disk; return what it wrote there and what it claimed."""
    before, after, notes = folder / "before.img", folder / "after.img", folder / "notes"
    make_image(kind, before)
    _copy(before, after)
    for number, step in enumerate(WORKLOADS[workload]):
        for place, data in enumerate(step.sources(number)):
            source(site.out, number, place).write_bytes(data)
    with recorded_disk(after, folder / "record") as recorded:
        disk = folder / "disk"
        beside = _neighbour(disk / "neighbour") if neighbour else nullcontext()
        with mounted(kind, recorded.path, disk), beside:
            subprocess.run(
                [sys.executable, "-P", "-m", "rigs.power_subject"]
                + [str(each) for each in (site.config, workload, site.out, recorded.log, notes)],
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,
                timeout=SUBJECT_SECONDS,
                check=True,
            )
        return Recording(before, after, epochs_of(recorded.log), notes_of(notes))


@contextmanager
def _neighbour(path: Path) -> Iterator[None]:
    """While entered, somebody else writes and syncs: what the subject has not synced yet goes to the disk early."""
    stop = Event()

    def disturb() -> None:
        with path.open("wb", buffering=0) as stream:
            while not stop.wait(NEIGHBOUR_PAUSE):
                stream.write(b"neighbour")
                os.fsync(stream.fileno())

    thread = Thread(target=disturb)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class Cut(NamedTuple):
    """One state of a disk after a power cut.

    Attributes:
        epoch: whose writes were under way.
        kind: how those that landed were chosen.
        landed: them.
    """

    epoch: int
    kind: str
    landed: Sequence[Write]


def choose_cuts(recording: Recording, quota: int, seed: int) -> list[Cut]:
    """Up to so many cuts, spread evenly over what the subject noted, by a chance that the seed fixes; in order of time.

    All writes of an epoch and nothing of the next are one state: it is tried as the latter, with more claimed by then.
    """
    chance = random.Random(seed)
    last = len(recording.epochs) - 1
    stages: dict[int, list[tuple[int, str]]] = {}
    for number, epoch in enumerate(recording.epochs):
        if not epoch.writes and number != last:
            continue  # nothing was under way
        kinds = ["none"]
        if len(blocks_of(epoch.writes)) > 1:
            kinds += 2 * ["prefix", "but one", "random"]
        if number == last:
            kinds.append("all")
        stages.setdefault(len(recording.known_in(number)), []).extend((number, kind) for kind in kinds)
    for candidates in stages.values():
        chance.shuffle(candidates)
    chosen: list[tuple[int, str]] = []
    while len(chosen) < quota and any(stages.values()):
        chosen += [candidates.pop() for candidates in stages.values() if candidates]
    return [
        Cut(number, kind, _landed(recording.epochs[number].writes, kind, chance))
        for number, kind in sorted(chosen[:quota])
    ]


def _landed(writes: Sequence[Write], kind: str, chance: random.Random) -> Sequence[Write]:
    blocks = blocks_of(writes)
    match kind:
        case "none":
            return ()
        case "all":
            return blocks
        case "prefix":
            return blocks[: chance.randrange(1, len(blocks))]
        case "but one":
            missing = chance.randrange(len(blocks))
            return blocks[:missing] + blocks[missing + 1 :]
        case _:
            return [block for block in blocks if chance.random() < 0.5]


def blocks_of(writes: Sequence[Write]) -> list[Write]:
    """The writes, each cut where the disk's blocks begin."""
    blocks = []
    for offset, data in writes:
        begin = 0
        while begin < len(data):
            end = begin + BLOCK - (offset + begin) % BLOCK
            blocks.append(Write(offset + begin, data[begin:end]))
            begin = end
    return blocks


class Replay:
    """The disk as it was at any epoch, each cut on a copy of its own.

    Args:
        recording: what to replay; it is replayed forwards only.
        folder: for the images.
    """

    def __init__(self, recording: Recording, folder: Path) -> None:
        self._recording = recording
        self._done = 0
        self._base = folder / "base.img"
        self._cut = folder / "cut.img"
        _copy(recording.before, self._base)

    def image_of(self, cut: Cut) -> Path:
        """An image of the disk after the cut; the next call overwrites it."""
        self._advance(cut.epoch)
        _copy(self._base, self._cut)
        _apply(cut.landed, self._cut)
        return self._cut

    def finish(self) -> None:
        """Replay what is left. Raises AssertionError where that is not the disk that the subject left."""
        self._advance(len(self._recording.epochs))
        same = subprocess.run(["cmp", self._base, self._recording.after], check=False, stdout=sys.stderr)
        assert same.returncode == 0, "the log is not all that was written"

    def _advance(self, epoch: int) -> None:
        for each in self._recording.epochs[self._done : epoch]:
            _apply(each.writes, self._base)
        self._done = epoch


def _apply(writes: Sequence[Write], image: Path) -> None:
    descriptor = os.open(image, os.O_WRONLY)
    try:
        for offset, data in writes:
            os.pwrite(descriptor, data, offset)
    finally:
        os.close(descriptor)


def _copy(image: Path, target: Path) -> None:
    """Copy an image; its holes stay holes."""
    with image.open("rb") as reading, target.open("wb") as writing:
        writing.truncate(os.fstat(reading.fileno()).st_size)
        place = 0
        while True:
            try:
                place = os.lseek(reading.fileno(), place, os.SEEK_DATA)
            except OSError:  # no more data
                return
            end = os.lseek(reading.fileno(), place, os.SEEK_HOLE)
            os.lseek(writing.fileno(), place, os.SEEK_SET)
            while place < end:
                place += os.sendfile(writing.fileno(), reading.fileno(), place, end - place)


class Verdict:
    """What must hold of an archive after a cut.

    Args:
        site: where it is.
        settings: of its service.
        known: what the subject had noted by then.
    """

    def __init__(self, site: Site, settings: Settings, known: Sequence[Note]) -> None:
        self._site = site
        self._settings = settings
        self._there = {name: digest for note in known for name, digest in note.there.items()}
        self._in_index = {name: digest for note in known for name, digest in note.listed.items()}
        self._gone_digests: set[str] = set()  # what was pruned, as of the first start
        self._kept = {identity for note in known for identity in note.rejected}
        self._begun = sorted({note.step for note in known})
        self._going = {name: digest for note in known for name, digest in note.going.items()}
        self._gone = {name for note in known for name in note.gone}
        self._decided = {digest for note in known for digest in note.decided}
        self._there = {name: digest for name, digest in self._there.items() if name not in self._going}
        self._in_index = {name: digest for name, digest in self._in_index.items() if name not in self._going}

    def reach(self) -> None:
        """Look at what the cut left, start twice, and go on where the subject was. Raise where anything is wrong."""
        self._look()
        self._start()
        self._start_again_and_go_on()
        self._lose_the_state()

    def _look(self) -> None:
        """Before any start: what readers find is whole, and what was claimed is in sight."""
        runs, listed = self._runs(), self._listed()
        assert listed.items() <= runs.items(), "index.json lists what is not there"
        assert self._there.items() <= runs.items(), "an acknowledged run is not there"
        assert self._in_index.items() <= listed.items(), "an acknowledged run is not in index.json"
        assert self._kept <= self._rejected(), "a rejected file that was acknowledged is not there"
        self._look_at_what_people_did(runs)

    def _look_at_what_people_did(self, runs: Mapping[str, str]) -> None:
        """What was decided is there, what was pruned is not, and nothing is half."""
        assert not self._gone & runs.keys(), "a run that was pruned is there"
        kept = read_all(str(self._site.archive))
        assert [each.problem for each in kept] == [""] * len(kept), "a decision is half"
        assert self._decided <= {each.digest for each in kept}, "a decision that was acknowledged is not there"
        assert all(fault.is_derived for fault in self._faults()), "the chain of decisions is broken"
        record = read_pruned(str(self._site.archive))
        assert not any(each.problem for each in record), "the record of pruned runs is half"

    def _start(self) -> None:
        with open_pipeline(self._settings, announces=True) as pipeline:
            pipeline.upkeep.recover()
            cataloged = pipeline.recorder.catalog.names()
        runs = self._runs()
        assert self._there.items() <= runs.items(), "an acknowledged run is gone after the start"
        assert self._listed() == runs, "index.json is not what the archive holds after the start"
        assert cataloged == runs.keys(), "the catalog is not what the archive holds after the start"
        assert self._gone.isdisjoint(runs), "a run that was pruned came back"
        owed = {*runs.values(), *self._going.values()}  # also what is gone by now
        assert self._owed("run:") == sorted(f"run:{digest[:16]}" for digest in owed), "a run is not owed once"
        self._gone_digests = set(self._going.values()) - set(runs.values())
        self._look_at_what_people_did(runs)

    def _start_again_and_go_on(self) -> None:
        """A second start changes nothing; then all sources that had been there are dealt with, each once."""
        site = self._site
        before = contents(site.archive), outbox_of(site.state)
        expected: list[bytes] = []
        with open_pipeline(self._settings, announces=True) as pipeline:
            pipeline.upkeep.recover()
            assert (contents(site.archive), outbox_of(site.state)) == before, "a second start changed something"
            for step in self._begun:
                sources = [found(path) for path in sorted(site.out.glob(f"{step:02d}-*"))]
                expected += [each.data for each in sources]
                known = pipeline.recorder.ledger.is_dealt_with
                pipeline.process(
                    [each for each in sources if each.fingerprint is None or not known(each.path, each.fingerprint)],
                    final=True,
                )
        summaries = [data for data in expected if b'"models": []' not in data]
        rejected = sorted(sha256(data)[:16] for data in expected if data not in summaries)
        assert_archive_whole(site.archive, [data for data in summaries if sha256(data) not in self._gone_digests])
        assert self._faults() == [], "the chain's head lags behind after a start"
        assert_nothing_half_made(site.archive)
        assert sorted(self._rejected()) == rejected, "what was rejected is not kept"
        assert self._owed("run:") == sorted(f"run:{sha256(data)[:16]}" for data in summaries), "a run is not owed once"
        assert self._owed("rejected:") == [f"rejected:{identity}" for identity in rejected], "an alert is not owed once"

    def _lose_the_state(self) -> None:
        """A new state knows what was pruned by the archive alone: with all sources there, none of it comes back."""
        if not self._going:
            return
        before = self._runs()
        shutil.rmtree(self._site.state)
        with open_pipeline(self._settings, announces=True) as pipeline:
            pipeline.upkeep.recover()
            pipeline.process([found(path) for path in sorted(self._site.out.iterdir())], final=True)
        after = self._runs()
        assert before.items() <= after.items(), "a run is gone with the state"
        assert self._gone.isdisjoint(after), "a run that was pruned came back with a new state"
        assert self._gone_digests.isdisjoint(after.values()), "a run that was pruned came back with a new state"

    def _faults(self) -> list[Fault]:
        root = str(self._site.archive)
        return list(faults_in(read_all(root), read_head(root)))

    def _runs(self) -> Mapping[str, str]:
        """The archive's runs, sha256 by name; each must be whole, and none twice."""
        archive = self._site.archive
        folders = [entry for entry in archive.iterdir() if is_run_name(entry.name)] if archive.exists() else []
        runs = {folder.name: assert_run_whole(folder) for folder in folders}
        assert len(set(runs.values())) == len(runs), "the same bytes are archived twice"
        return runs

    def _listed(self) -> Mapping[str, str]:
        """The runs in index.json, sha256 by name; it must parse."""
        return {entry["timestamp"]: entry["sha256"] for entry in index_of(self._site.archive)}

    def _rejected(self) -> set[str]:
        """The identities of what is kept as rejected; each must be whole."""
        folders = list(self._site.archive.glob("rejected/*"))
        for folder in folders:
            assert sha256((folder / "as_found").read_bytes())[:16] == folder.name, f"{folder} is not what was found"
            json.loads((folder / "reason.json").read_bytes())
        return {folder.name for folder in folders}

    def _owed(self, prefix: str) -> list[str]:
        return sorted(row["event"] for row in outbox_of(self._site.state) if row["event"].startswith(prefix))


class Result(NamedTuple):
    """What a trial found.

    Attributes:
        epochs: between flushes, on the whole.
        states: tried, by kind.
        violations: what was wrong, and where.
        turns: how often index.json became again what it had been two steps before: the spare was used.
        seconds: it all took.
    """

    epochs: int
    states: Mapping[str, int]
    violations: Sequence[str]
    turns: int
    seconds: float


def try_cuts(
    kind: FileSystem, workload: str, folder: Path, *, quota: int, seed: int, neighbour: bool, first: bool
) -> Result:
    """Record a workload on a file system, then start from what each cut leaves.

    Args:
        kind: the file system.
        workload: the subject's.
        folder: everything goes below it; lies in memory meanwhile.
        quota: how many cuts at most.
        seed: of the choice.
        neighbour: whether somebody syncs beside the subject.
        first: whether to end with the first violation.
    """
    began = time.monotonic()
    states: Counter[str] = Counter()
    violations: list[str] = []
    with memory_folder(folder):
        site = site_on_disk(folder)
        settings, _ = load_settings(str(site.config))
        recording = record(kind, workload, site, folder, neighbour=neighbour)
        sources = snapshot(site.out)
        replay = Replay(recording, folder)
        for cut in choose_cuts(recording, quota, seed):
            states[cut.kind] += 1
            known = recording.known_in(cut.epoch)
            with mounted(kind, replay.image_of(cut), folder / "disk"):
                if (wrong := _what_is_wrong(Verdict(site, settings, known))) is not None:
                    step = known[-1].step if known else "none"
                    violations.append(f"epoch {cut.epoch} of {len(recording.epochs)}, {cut.kind}, step {step}: {wrong}")
            if violations and first:
                break
        replay.finish()
        assert snapshot(site.out) == sources, "a source was touched"
    indexes = [note.index for note in recording.notes if note.index]
    turns = sum(early == late for early, late in zip(indexes, indexes[2:], strict=False))
    return Result(len(recording.epochs), states, violations, turns, time.monotonic() - began)


def _what_is_wrong(verdict: Verdict) -> str | None:
    try:
        verdict.reach()
    except FAILURES as error:
        wrong = f"{type(error).__name__}: {error}".partition("\n")[0]
    else:
        return None
    gc.collect()  # what the failure left open would keep the disk busy
    return wrong


def main() -> None:
    """Try what the command line says."""
    parser = argparse.ArgumentParser(description="Cut the power of one workload on one file system.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("file_system", choices=FILE_SYSTEMS)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--states", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--neighbour", action="store_true", help="somebody else syncs meanwhile")
    parser.add_argument("--first", action="store_true", help="end with the first violation")
    given = parser.parse_args()
    end_with_the_test()
    result = try_cuts(
        FILE_SYSTEMS[given.file_system],
        given.workload,
        given.folder,
        quota=given.states,
        seed=given.seed,
        neighbour=given.neighbour,
        first=given.first,
    )
    print(json.dumps(result._asdict()))  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
