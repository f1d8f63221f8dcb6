"""The archive as a whole: a commit is in the index or did not happen, and the index follows the folders, always."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelwarden.archive.outcomes import AlreadyArchived, Archived, Postponed
from modelwarden.archive.publishing import Archive, Changes, NameTaken, Staged
from modelwarden.archive.record import RUN_FILES
from modelwarden.errors import RetryLater, StorageSuspect
from modelwarden.gate.gating import assess_summary
from modelwarden.gate.policy import Policy
from modelwarden.gate.run import RunRecord, Source, class_counts
from modelwarden.gate.summary import parse_summary
from modelwarden.pipeline.staging import run_files
from processes import DEADLINE, index_of
from summaries import GOOD, encoded, flat_summary

NAME = "20241224_153000"
OTHER = "20241225_000000"

ARCHIVING_PROCESS = """
import json, os, signal, sys
from modelwarden import TrainingArchiveManager
from modelwarden.archive import publishing
publishing.LOCK_TIMEOUT = 60.0
manager = TrainingArchiveManager(sys.argv[1], state_dir=sys.argv[2])
if sys.argv[3] == "dies":
    real_fsync = os.fsync
    def fsync(descriptor):
        if os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")).startswith("index.json"):
            os.kill(os.getpid(), signal.SIGKILL)
        real_fsync(descriptor)
    os.fsync = fsync
print("ready", flush=True)
for line in sys.stdin:
    print(manager.archive_training_run(json.loads(line)).timestamp, flush=True)
"""

READING_PROCESS = """
import json, os, sys
path, stop = sys.argv[1:]
looks, runs = 0, 0
print("ready", flush=True)
while not os.path.exists(stop):
    with open(path, "rb") as stream:
        now = len(json.load(stream)["runs"])
    assert now >= runs, f"{now} runs after {runs}"
    looks, runs = looks + 1, now
print(looks)
"""


class Other:
    """Another process with the archive open, that archives what it is told to."""

    def __init__(self, archive: Path, state: Path, manner: str = "lives") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", ARCHIVING_PROCESS, archive, state, manner],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        assert self.answer() == "ready"

    def tell(self, summary: dict[str, Any]) -> None:
        """Hand it a summary, without waiting for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(summary) + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        """What it says next: the run's name; "" when it has died."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        """Kill it where it still lives."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Other]]:
    """Start other processes on the archive; they end with the test."""
    others: list[Other] = []

    def start_one(manner: str = "lives") -> Other:
        others.append(Other(tmp_path / "archive", tmp_path / f"state{len(others)}", manner))
        return others[-1]

    yield start_one
    for other in others:
        other.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The archive directory."""
    return tmp_path / "archive"


@pytest.fixture
def opened(root: Path) -> Iterator[Callable[[], Archive]]:
    """Open the archive as a new object, reconciled as at a start; closed at the end."""
    archives: list[Archive] = []

    def open_one() -> Archive:
        archives.append(Archive(str(root), "0badcafe"))
        archives[-1].reconcile()
        return archives[-1]

    yield open_one
    for archive in archives:
        archive.close()


def staged(archive: Archive, name: str = NAME, run_name: str = "run", **fields: Any) -> Staged:
    """A staged run of a small summary; another `run_name` makes other bytes."""
    data = encoded(flat_summary(timestamp=name[:15], run_name=run_name, **fields))
    summary, policy = parse_summary(data), Policy.from_config()
    assessments = assess_summary(summary, policy)
    run = RunRecord(
        timestamp=name,
        run_name=run_name,
        archived_at="2024-12-24T16:00:00.000000Z",
        archived_by="host",
        daemon_id="0badcafe",
        source=Source("/watched/é \\xff.json", len(data), None),
        sha256=hashlib.sha256(data).hexdigest(),
        reward_scale=summary.reward_scale,
        policy=policy,
        **class_counts(assessments),
    )
    archive.tree.enter_staging()
    return Staged(archive.tree.stage(run_files(run, data, assessments)), run)


def commit(archive: Archive, *batch: Staged) -> list[object]:
    """The outcomes of a commit."""
    return list(archive.commit(batch)[0])


def names_in(root: Path) -> list[str]:
    """The runs that index.json lists, in its order."""
    return [run["timestamp"] for run in index_of(root)]


def rebuilt(root: Path, opened: Callable[[], Archive]) -> bytes:
    """What a rebuild from the folders alone makes of index.json."""
    opened().reconcile(rebuild=True)
    return (root / "index.json").read_bytes()


def half_made(root: Path) -> list[Path]:
    """What is left in anybody's staging, and markers."""
    return [
        *(each for each in root.glob(".staging/*/*") if each.is_dir()),
        *root.glob(".index.dirty"),
    ]


def fail_fsync(context: pytest.MonkeyPatch, root: Path, what: str, code: int) -> None:
    """Let an fsync fail: of "the index", of "the archive" (the folder), or of the folder "after the index" changed."""
    real_fsync, before = os.fsync, (root / "index.json").stat().st_ino

    def fsync(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        match what:
            case "the index":
                fails = os.path.basename(path).startswith("index.json")
            case "the archive":
                fails = path == str(root)
            case _:
                fails = path == str(root) and (root / "index.json").stat().st_ino != before
        if fails:
            raise OSError(code, os.strerror(code))
        real_fsync(descriptor)

    context.setattr(os, "fsync", fsync)


def test_new_archive_gets_an_empty_index(root: Path, opened: Callable[[], Archive]) -> None:
    """Whoever reads index.json finds a document from the first start on."""
    opened()

    assert json.loads((root / "index.json").read_bytes()) == {"schema_version": 1, "runs": []}


def test_commit_of_one_run_is_a_folder_and_a_line_in_the_index(root: Path, opened: Callable[[], Archive]) -> None:
    """The run is in the archive with its three files, in the index with its figures, and nowhere half-made."""
    archive = opened()
    run = staged(archive)

    assert commit(archive, run) == [Archived(run.run)]

    assert sorted(os.listdir(root / NAME)) == sorted(RUN_FILES)
    assert index_of(root) == [
        {
            "timestamp": NAME,
            "run_name": "run",
            "archived_at": "2024-12-24T16:00:00.000000Z",
            "source": "/watched/é \\xff.json",
            "sha256": hashlib.sha256((root / NAME / "summary.json").read_bytes()).hexdigest(),
            "models": 3,
            "approved_count": 1,
            "review_count": 1,
            "dropped_count": 1,
            "policy": Policy.from_config().id,
        }
    ]
    assert half_made(root) == []


def test_commit_of_many_runs_indexes_each_oldest_first(root: Path, opened: Callable[[], Archive]) -> None:
    """One outcome a run, in the batch's order; the index in the order of time."""
    archive = opened()
    names = [f"202412{day:02d}_000000" for day in range(30, 0, -1)]
    batch = [staged(archive, name) for name in names]

    assert commit(archive, *batch) == [Archived(each.run) for each in batch]

    assert names_in(root) == sorted(names)
    assert archive.names() == sorted(names)
    assert len(archive) == 30


def test_commit_of_nothing_changes_nothing(root: Path, opened: Callable[[], Archive]) -> None:
    """An empty batch is no reason to write."""
    archive = opened()
    before = (root / "index.json").stat()

    outcomes, changes = archive.commit([])
    assert (outcomes, changes._replace(look=None)) == ([], Changes([], []))

    assert (root / "index.json").stat().st_ino == before.st_ino
    assert half_made(root) == []


def test_same_bytes_committed_again_are_a_duplicate_of_the_first(root: Path, opened: Callable[[], Archive]) -> None:
    """Whatever name the second was given, nothing is archived twice, and the staged copy is dropped."""
    archive = opened()
    commit(archive, staged(archive))

    assert commit(archive, staged(archive, f"{NAME}_2")) == [AlreadyArchived(NAME)]

    assert names_in(root) == [NAME]
    assert not (root / f"{NAME}_2").exists()
    assert half_made(root) == []


def test_same_bytes_twice_in_one_batch_are_archived_once(root: Path, opened: Callable[[], Archive]) -> None:
    """A twin is seen before anything is on disk."""
    archive = opened()
    first, twin = staged(archive), staged(archive, f"{NAME}_2")

    assert commit(archive, first, twin) == [Archived(first.run), AlreadyArchived(NAME)]

    assert names_in(root) == [NAME]
    assert half_made(root) == []


def test_same_bytes_archived_by_another_process_are_a_duplicate(root: Path, opened: Callable[[], Archive]) -> None:
    """The lock decides: what another published meanwhile is seen, and reported as a change."""
    late, early = opened(), opened()
    commit(early, staged(early))

    outcomes, changes = late.commit([staged(late)])

    assert outcomes == [AlreadyArchived(NAME)]
    assert (changes.appeared, changes.vanished) == ([NAME], [])
    assert names_in(root) == [NAME]


@pytest.mark.parametrize("by", ["run", "folder", "file", "link"])
def test_name_that_is_taken_is_left_to_its_owner(root: Path, opened: Callable[[], Archive], by: str) -> None:
    """The run is handed back to be named again; the others of the batch go on."""
    archive = opened()
    match by:
        case "run":
            commit(archive, staged(archive, run_name="the first"))
        case "folder":
            (root / NAME).mkdir()
        case "file":
            (root / NAME).write_bytes(b"theirs")
        case _:
            (root / NAME).symlink_to("nowhere")
    run, other = staged(archive), staged(archive, OTHER)

    assert commit(archive, run, other) == [NameTaken(run.run), Archived(other.run)]

    assert names_in(root) == ([NAME, OTHER] if by == "run" else [OTHER])
    assert half_made(root) == []


def test_run_whose_rename_is_refused_does_not_hold_up_the_others(root: Path, opened: Callable[[], Archive]) -> None:
    """The staged folder of one is gone: its source is still owed, the other run is archived."""
    archive = opened()
    lost, other = staged(archive), staged(archive, OTHER)
    shutil.rmtree(lost.folder)

    first, second = commit(archive, lost, other)

    assert isinstance(first, Postponed)
    assert second == Archived(other.run)
    assert names_in(root) == [OTHER]


@pytest.mark.parametrize("file", RUN_FILES)
def test_run_whose_file_was_removed_in_staging_is_begun_again(
    root: Path, opened: Callable[[], Archive], file: str
) -> None:
    """Somebody clears .staging away beside a daemon: no run is acknowledged that lacks a file, and none is left so."""
    archive = opened()
    harmed, other = staged(archive), staged(archive, OTHER)
    Path(harmed.folder, file).unlink()
    with pytest.raises(RetryLater, match="removed while it was staged"):
        commit(archive, harmed, other)
    assert half_made(root) == [root / ".index.dirty"]
    again = [staged(archive), staged(archive, OTHER)]

    assert commit(archive, *again) == [Archived(again[0].run), AlreadyArchived(OTHER)]

    assert names_in(root) == [NAME, OTHER]
    assert {each.name for each in (root / NAME).iterdir()} == set(RUN_FILES)
    assert half_made(root) == []


DAMAGES: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "emptied": lambda index: index.write_bytes(b""),
    "truncated": lambda index: index.write_bytes(index.read_bytes()[:-40]),
    "garbage": lambda index: index.write_bytes(b"\0\xff" * 100),
    "reformatted": lambda index: index.write_text(json.dumps(json.loads(index.read_bytes()), indent=2)),
}


@pytest.fixture
def three_runs(opened: Callable[[], Archive]) -> Archive:
    """An archive with three runs, committed out of order, two under one timestamp."""
    archive = opened()
    commit(archive, staged(archive, OTHER))
    commit(archive, staged(archive, NAME), staged(archive, f"{NAME}_2", "other bytes"))
    return archive


STALE = b'{"schema_version": 1, "runs": [\n\n]}\n'
"""An index that reads well and lacks every run, as a backup put back by hand does."""


@pytest.mark.parametrize(
    "damage", [*DAMAGES.values(), lambda index: index.write_bytes(STALE)], ids=[*DAMAGES, "put back from a backup"]
)
def test_damaged_index_is_the_same_to_the_byte_after_a_start(
    root: Path, opened: Callable[[], Archive], three_runs: Archive, damage: Callable[[Path], object]
) -> None:
    """The index is derived: whatever happens to it, a start makes it again from the folders."""
    before = (root / "index.json").read_bytes()
    damage(root / "index.json")

    archive = opened()

    assert (root / "index.json").read_bytes() == before
    assert archive.names() == three_runs.names() == [NAME, f"{NAME}_2", OTHER]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_index_is_whole_again_after_the_next_commit(
    root: Path, opened: Callable[[], Archive], three_runs: Archive, damage: Callable[[Path], object]
) -> None:
    """A running daemon needs no restart to put right what a person did to the index."""
    damage(root / "index.json")

    commit(three_runs, staged(three_runs, "20241226_000000"))

    assert names_in(root) == [NAME, f"{NAME}_2", OTHER, "20241226_000000"]
    assert (root / "index.json").read_bytes() == rebuilt(root, opened)


def put_back_by_rename(index: Path, backup: bytes) -> None:
    """As a restore does."""
    beside = index.with_name("restored")
    beside.write_bytes(backup)
    beside.rename(index)


def put_back_in_place(index: Path, backup: bytes) -> None:
    """As `cp` does: the same inode."""
    index.write_bytes(backup)


def put_back_with_its_times(index: Path, backup: bytes) -> None:
    """The same inode, and a modification time as if nothing had happened."""
    before = index.stat()
    index.write_bytes(backup)
    os.utime(index, ns=(before.st_atime_ns, before.st_mtime_ns))


def put_back_as_a_link(index: Path, backup: bytes) -> None:
    """A link to where the backup lies."""
    backup_file = index.parent.parent / "backup.json"
    backup_file.write_bytes(backup)
    index.unlink()
    index.symlink_to(backup_file)


RESTORES = (put_back_by_rename, put_back_in_place, put_back_with_its_times, put_back_as_a_link)


@pytest.mark.parametrize("put_back", RESTORES)
def test_older_index_put_back_between_commits_hides_and_doubles_no_run(
    root: Path, opened: Callable[[], Archive], three_runs: Archive, put_back: Callable[[Path, bytes], None]
) -> None:
    """It reads well and lacks what came since: nobody who holds the lock wrote it, so the folders are asked."""
    backup = (root / "index.json").read_bytes()
    commit(three_runs, staged(three_runs, "20241226_000000", "the last bytes"))

    put_back(root / "index.json", backup)
    outcomes, changes = three_runs.commit(
        [staged(three_runs, "20241227_000000"), staged(three_runs, "20241226_000000_2", "the last bytes")]
    )

    assert [type(outcome) for outcome in outcomes] == [Archived, AlreadyArchived]
    assert (changes.appeared, changes.vanished) == ([], [])
    assert names_in(root) == [NAME, f"{NAME}_2", OTHER, "20241226_000000", "20241227_000000"]
    assert not (root / "index.json").is_symlink()
    assert (root / "index.json").read_bytes() == rebuilt(root, opened)


@pytest.mark.parametrize("put_back", RESTORES)
def test_older_index_put_back_between_two_processes_hides_no_run(
    root: Path, opened: Callable[[], Archive], three_runs: Archive, put_back: Callable[[Path, bytes], None]
) -> None:
    """Also what another process published between two commits is found in the folders."""
    other = opened()
    backup = (root / "index.json").read_bytes()
    commit(other, staged(other, "20241226_000000", "the last bytes"))

    put_back(root / "index.json", backup)
    outcomes, changes = three_runs.commit([staged(three_runs, "20241226_000000_2", "the last bytes")])

    assert [type(outcome) for outcome in outcomes] == [AlreadyArchived]
    assert changes.appeared == ["20241226_000000"]
    assert (root / "index.json").read_bytes() == rebuilt(root, opened)


def test_index_that_another_process_wrote_is_believed_as_it_is(
    opened: Callable[[], Archive], three_runs: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two daemons that take turns cost each other a read of the index, not of the archive: no look at the folders."""
    other = opened()
    commit(other, staged(other, "20241226_000000"))
    monkeypatch.setattr(three_runs.tree, "run_names", lambda: pytest.fail("the folders were listed"))

    _, changes = three_runs.commit([staged(three_runs, "20241227_000000", "more bytes")])

    assert changes.appeared == ["20241226_000000"]


def test_index_of_commits_in_any_order_is_what_a_rebuild_writes(
    root: Path, opened: Callable[[], Archive], three_runs: Archive
) -> None:
    """Byte for byte: nothing in the index comes from anywhere but the runs."""
    before = (root / "index.json").read_bytes()

    assert rebuilt(root, opened) == before
    assert three_runs.names() == names_in(root)


def test_reconcile_of_an_archive_in_order_writes_nothing(root: Path, three_runs: Archive) -> None:
    """A second start changes nothing."""
    before = (root / "index.json").stat()

    assert three_runs.reconcile()._replace(look=None) == Changes([], [])

    assert (root / "index.json").stat().st_ino == before.st_ino


@pytest.mark.usefixtures("three_runs")
def test_runs_deleted_by_hand_leave_the_index_at_the_next_start(root: Path, opened: Callable[[], Archive]) -> None:
    """The folders are the truth: what a person removed is not listed."""
    shutil.rmtree(root / f"{NAME}_2")

    archive = opened()

    assert archive.names() == names_in(root) == [NAME, OTHER]
    assert (root / "index.json").read_bytes() == rebuilt(root, opened)


def test_runs_deleted_by_hand_are_reported_as_vanished(root: Path, three_runs: Archive) -> None:
    """Whoever keeps a catalog learns what to take out of it."""
    shutil.rmtree(root / NAME)

    assert three_runs.reconcile()._replace(look=None) == Changes(appeared=[], vanished=[NAME], repaired=True)


def test_name_of_a_run_deleted_by_hand_can_be_taken_by_another(root: Path, three_runs: Archive) -> None:
    """The archive runs on while a person deletes a run and its training is done again."""
    shutil.rmtree(root / NAME)
    again = staged(three_runs, NAME, "trained again")

    assert commit(three_runs, again) == [Archived(again.run)]

    assert [run["run_name"] for run in index_of(root)] == ["trained again", "other bytes", "run"]


def test_bytes_of_a_run_deleted_by_hand_are_archived_again(root: Path, three_runs: Archive) -> None:
    """Nothing is called archived that the archive does not have."""
    shutil.rmtree(root / NAME)
    again = staged(three_runs, NAME)

    assert commit(three_runs, again) == [Archived(again.run)]

    assert (root / NAME / "summary.json").is_file()


@pytest.mark.usefixtures("three_runs")
def test_run_copied_in_by_hand_is_indexed_at_the_next_start(
    root: Path, tmp_path: Path, opened: Callable[[], Archive]
) -> None:
    """A run from a backup belongs to the archive as soon as it is there."""
    shutil.move(root / NAME, tmp_path / "backup")
    opened()
    shutil.copytree(tmp_path / "backup", root / NAME)

    assert opened().names() == [NAME, f"{NAME}_2", OTHER]
    assert (root / "index.json").read_bytes() == rebuilt(root, opened)


def hostile(document: dict[str, Any], **changes: Any) -> bytes:
    """A run's document with fields changed."""
    return json.dumps(document | changes).encode()


HOSTILE: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "no JSON": lambda _: b"{",
    "empty": lambda _: b"",
    "a list": lambda _: b"[]",
    "null": lambda _: b"null",
    "no fields": lambda _: b"{}",
    "another run's name": lambda document: hostile(document, timestamp=OTHER),
    "a name that is a path": lambda document: hostile(document, timestamp="../../outside"),
    "a policy without a metric": lambda document: hostile(
        document, policy={**document["policy"], "gates": [document["policy"]["gates"][0] | {"metric": None}]}
    ),
    "a policy of text": lambda document: hostile(document, policy="strict"),
    "models that are none": lambda document: hostile(document, models=[1, 2]),
    "an unknown class": lambda document: hostile(
        document, models=[document["models"][0] | {"classification": "MAYBE"}]
    ),
    "a threshold beyond floats": lambda document: hostile(
        document, policy={**document["policy"], "gates": [document["policy"]["gates"][0] | {"approve": 10**400}]}
    ),
    "bytes that are no text": lambda document: hostile(document, sha256=[]),
    "bytes that are a number": lambda document: hostile(document, sha256=5),
    "counts that are text": lambda document: hostile(document, approved_count="many"),
    "counts that are lists": lambda document: hostile(document, approved_count=[]),
    "a source that is a number": lambda document: hostile(document, source={"path": 5, "size": "x", "mtime": []}),
    "a run name that is a list": lambda document: hostile(document, run_name=[]),
}


def spoil(root: Path, spoiled: Callable[[dict[str, Any]], bytes]) -> None:
    """Change a run's document behind the archive's back."""
    document = root / NAME / "model_assessments.json"
    document.write_bytes(spoiled(json.loads(document.read_bytes())))
    (root / "index.json").unlink()


@pytest.mark.usefixtures("three_runs")
@pytest.mark.parametrize("spoiled", HOSTILE.values(), ids=HOSTILE)
def test_folder_that_only_looks_like_a_run_is_left_alone(
    root: Path, opened: Callable[[], Archive], spoiled: Callable[[dict[str, Any]], bytes]
) -> None:
    """A damaged or strange document costs its own run, never the start; the folder stays as it is."""
    spoil(root, spoiled)

    assert opened().names() == names_in(root) == [f"{NAME}_2", OTHER]
    assert sorted(os.listdir(root / NAME)) == sorted(RUN_FILES)


@pytest.mark.usefixtures("three_runs")
@pytest.mark.parametrize("file", RUN_FILES)
def test_folder_that_lacks_a_file_is_no_run(root: Path, opened: Callable[[], Archive], file: str) -> None:
    """A half-copied run is not listed until it is whole."""
    shutil.move(root / NAME / file, root / "aside")
    (root / "index.json").unlink()
    assert opened().names() == [f"{NAME}_2", OTHER]

    shutil.move(root / "aside", root / NAME / file)

    assert opened().names() == [NAME, f"{NAME}_2", OTHER]


def test_commit_killed_before_its_index_is_finished_by_the_next_one(
    root: Path, opened: Callable[[], Archive], start: Callable[..., Other]
) -> None:
    """The run is in the archive and its writer dead: whichever process takes the lock next brings the index up."""
    archive = opened()
    dying = start("dies")
    dying.tell(flat_summary(timestamp=NAME))
    assert dying.answer() == ""
    assert dying.process.wait(DEADLINE) == -signal.SIGKILL
    assert (root / NAME).is_dir()
    assert names_in(root) == []

    outcomes, changes = archive.commit([run := staged(archive, OTHER)])

    assert outcomes == [Archived(run.run)]
    assert changes._replace(look=None) == Changes(appeared=[NAME], vanished=[], repaired=True)
    assert names_in(root) == [NAME, OTHER]
    assert (root / "index.json").read_bytes() == rebuilt(root, opened)
    assert not (root / ".index.dirty").exists()


def test_process_killed_before_its_index_is_finished_by_the_next_start(
    root: Path, opened: Callable[[], Archive], start: Callable[..., Other]
) -> None:
    """The same at a start, and the same bytes are then known."""
    dying = start("dies")
    dying.tell(summary := flat_summary(timestamp=NAME))
    assert dying.process.wait(DEADLINE) == -signal.SIGKILL

    archive = opened()

    assert archive.names() == names_in(root) == [NAME]
    assert archive.find(hashlib.sha256(encoded(summary)).hexdigest()) == NAME
    assert list(root.glob("*.dirty")) == []


def test_two_processes_that_take_turns_index_every_run_once(
    root: Path, opened: Callable[[], Archive], start: Callable[..., Other]
) -> None:
    """Each sees what the other published, and neither forgets any of it."""
    two = [start(), start()]
    names = []
    for turn in range(10):
        two[turn % 2].tell(flat_summary(timestamp=NAME, run_name=f"turn {turn}"))
        names.append(two[turn % 2].answer())

    assert names == [NAME, *(f"{NAME}_{suffix}" for suffix in range(2, 11))]
    assert names_in(root) == names
    assert (root / "index.json").read_bytes() == rebuilt(root, opened)


def test_older_index_put_back_is_made_anew_though_its_names_are_right(
    root: Path, opened: Callable[[], Archive], tmp_path: Path
) -> None:
    """The names do not tell that one became another run: who missed that does not believe what it remembers either."""
    one, other = opened(), opened()
    commit(one, staged(one, run_name="first"))
    commit(other, staged(other, f"{NAME}_2", run_name="second"))
    shutil.copy2(root / "index.json", tmp_path / "older.json")
    shutil.rmtree(root / NAME)
    commit(one, staged(one, run_name="in its place"))
    shutil.copy2(tmp_path / "older.json", root / "index.json")

    outcomes = commit(other, staged(other, f"{NAME}_7", run_name="in its place"), staged(other, OTHER, run_name="new"))

    assert [type(outcome) for outcome in outcomes] == [AlreadyArchived, Archived]
    assert (root / "index.json").read_bytes() == rebuilt(root, opened)


def test_two_processes_at_once_index_every_run_once(
    root: Path, opened: Callable[[], Archive], start: Callable[..., Other]
) -> None:
    """The same timestamps from both at the same time: every run gets a name of its own; common bytes are one run."""
    two = [start(), start()]
    for turn in range(10):
        for number, process in enumerate(two):
            process.tell(flat_summary(timestamp=NAME, run_name=f"{number}: {turn}"))
            process.tell(flat_summary(timestamp=OTHER, run_name=f"common: {turn}"))
    answers = [[process.answer() for _ in range(20)] for process in two]

    listed = Counter(run["run_name"] for run in index_of(root))
    assert listed == Counter(
        [f"{number}: {turn}" for number in range(2) for turn in range(10)] + [f"common: {turn}" for turn in range(10)]
    )
    assert sorted(names_in(root)) == sorted({name for each in answers for name in each})
    assert (root / "index.json").read_bytes() == rebuilt(root, opened)
    assert half_made(root) == []


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("what", ["the archive", "the index"])
def test_commit_that_can_not_be_synced_is_found_by_the_next_try(
    root: Path, opened: Callable[[], Archive], monkeypatch: pytest.MonkeyPatch, what: str, code: int
) -> None:
    """The folder or the index could not be put on disk: no outcome, the old index; trying again loses nothing."""
    archive = opened()
    before = (root / "index.json").read_bytes()
    with monkeypatch.context() as context:
        fail_fsync(context, root, what, code)
        with pytest.raises(StorageSuspect if code == errno.EIO else RetryLater):
            archive.commit([staged(archive), staged(archive, OTHER)])
    assert (root / "index.json").read_bytes() == before
    assert archive.names() == []

    outcomes, changes = archive.commit([staged(archive), staged(archive, OTHER)])

    assert outcomes == [AlreadyArchived(NAME), AlreadyArchived(OTHER)]
    assert changes.appeared == names_in(root) == [NAME, OTHER]
    assert half_made(root) == []


def test_commit_that_another_finished_is_known_to_who_began_it(
    root: Path, opened: Callable[[], Archive], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It failed, and its marker is gone by the next try: neither its own runs nor others' are archived again."""
    archive, other = opened(), opened()
    with monkeypatch.context() as context:
        fail_fsync(context, root, "the index", errno.ENOSPC)
        with pytest.raises(RetryLater):
            archive.commit([staged(archive)])
    commit(other, staged(other, OTHER))
    assert half_made(root) == []

    outcomes, changes = archive.commit([staged(archive, OTHER), staged(archive)])

    assert outcomes == [AlreadyArchived(OTHER), AlreadyArchived(NAME)]
    assert changes.appeared == names_in(root) == [NAME, OTHER]


def test_commit_whose_index_can_not_be_claimed_tells_its_runs_later(
    root: Path, opened: Callable[[], Archive], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last sync fails: the index names the runs, nobody was told; the next try tells, so that none goes unheard."""
    archive = opened()
    with monkeypatch.context() as context:
        fail_fsync(context, root, "after the index", errno.EIO)
        with pytest.raises(StorageSuspect):
            archive.commit([staged(archive)])

    outcomes, changes = archive.commit([staged(archive)])

    assert outcomes == [AlreadyArchived(NAME)]
    assert changes.appeared == names_in(root) == [NAME]


def test_commit_that_can_not_write_its_marker_changes_nothing(
    root: Path, opened: Callable[[], Archive], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the marker nobody could finish the work of the dead, so nothing is renamed."""
    archive = opened()
    real_open = os.open

    def refuse(path: str, *arguments: Any, **options: Any) -> int:
        if os.path.basename(path) == ".index.dirty":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return real_open(path, *arguments, **options)

    batch = [staged(archive)]
    with monkeypatch.context() as context:
        context.setattr(os, "open", refuse)
        with pytest.raises(RetryLater):
            archive.commit(batch)

    assert not (root / NAME).exists()
    assert half_made(root) == []


def test_runs_of_others_seen_by_a_commit_that_failed_are_told_by_the_next(
    root: Path, opened: Callable[[], Archive], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever keeps a catalog misses no run of another process because the disk was full just then."""
    archive, other = opened(), opened()
    commit(other, staged(other))
    with monkeypatch.context() as context:
        fail_fsync(context, root, "the index", errno.ENOSPC)
        with pytest.raises(RetryLater):
            archive.commit([staged(archive, OTHER)])

    _, changes = archive.commit([staged(archive, OTHER)])

    assert changes.appeared == [NAME, OTHER]


def test_steps_of_a_commit_are_rename_then_sync_then_index(
    root: Path, opened: Callable[[], Archive], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive's folder is synced before the index names the run, and again after: no power cut undoes either."""
    archive = opened()
    batch = [staged(archive)]
    steps: list[str] = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        kind = "folder" if os.readlink(f"/proc/self/fd/{descriptor}") == str(root) else "file"
        state = "indexed" if NAME in names_in(root) else "renamed" if (root / NAME).is_dir() else "staged"
        steps.append(f"{kind}, run {state}")
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)

    commit(archive, *batch)

    assert steps == ["folder, run renamed", "file, run renamed", "folder, run indexed"]


def test_readers_never_see_a_torn_index_while_runs_are_committed(
    root: Path, tmp_path: Path, opened: Callable[[], Archive]
) -> None:
    """A thread and a process read without the lock during 50 commits: always JSON, and never fewer runs."""
    archive = opened()
    stop, torn, looks = threading.Event(), list[Exception](), Counter[str]()

    def read() -> None:
        while not stop.is_set():
            try:
                json.loads((root / "index.json").read_bytes())
            except (OSError, ValueError) as error:
                torn.append(error)
            looks["thread"] += 1

    thread = threading.Thread(target=read)
    with subprocess.Popen(
        [sys.executable, "-c", READING_PROCESS, root / "index.json", tmp_path / "stop"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        thread.start()
        for number in range(50):
            commit(archive, staged(archive, f"20250101_0000{number:02d}", f"run {number}"))
        stop.set()
        thread.join()
        (tmp_path / "stop").touch()
        looks["process"] = int(process.stdout.read())

    assert process.returncode == 0
    assert torn == []
    assert len(names_in(root)) == 50
    assert min(looks["thread"], looks["process"]) > 0


def test_foreign_things_in_the_archive_are_left_alone(root: Path, opened: Callable[[], Archive]) -> None:
    """People unzip things here: nothing of theirs is listed, changed or removed."""
    archive = opened()
    (root / "notes.txt").write_bytes(b"mine")
    (root / "20230101_000000").mkdir()
    (root / "20230101_000000" / "summary.json").write_bytes(b"{}")
    (root / "old runs").mkdir()

    commit(archive, staged(archive, models={"A": GOOD}))

    assert opened().names() == [NAME]
    assert (root / "notes.txt").read_bytes() == b"mine"
    assert os.listdir(root / "20230101_000000") == ["summary.json"]
