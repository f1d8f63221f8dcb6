"""The walk: what is found becomes a run, a rejected file or waits, once each, whatever is refused on the way."""

import errno
import hashlib
import json
import math
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from failing import fail_fsync
from modelwarden import cores
from modelwarden.archive import publishing
from modelwarden.archive.index import IndexLock
from modelwarden.archive.outcomes import AlreadyArchived, Archived, Postponed, Pruned, Rejected, Unfinished
from modelwarden.archive.publishing import Archive, Changes, Line, Staged
from modelwarden.errors import RejectSummary, RetryLater
from modelwarden.fingerprint import Fingerprint
from modelwarden.gate.policy import Policy
from modelwarden.pipeline import crew, walk
from modelwarden.pipeline.crew import GROUP
from modelwarden.pipeline.policies import Policies
from modelwarden.pipeline.walk import Found, Pipeline
from modelwarden.state.database import Database
from modelwarden.state.ledger import Dealt
from modelwarden.state.messages import Route
from processes import index_of, outbox_of
from summaries import GOOD, encoded, flat_summary, random_summary

NAME = "20241224_153000"
NOW = 1_735_000_000.0
SLACK = Route("slack", frozenset({"APPROVED", "DROP", "REJECTED"}))
MAIL = Route("mail", frozenset({"REVIEW"}))


class Ground:
    """What a walk works on: archive, watched folder and state directories; what is opened is closed with the test."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.root = folder / "archive"
        self.out = folder / "out"
        self.out.mkdir()
        self.databases: list[Database] = []
        self._stack = stack

    def archive(
        self, database: Database, kind: type[Archive] = Archive, progress: Callable[[], object] = lambda: None
    ) -> Archive:
        """The archive, opened once more."""
        archive = kind(str(self.root), database.daemon_id, progress=progress)
        self._stack.callback(archive.close)
        return archive

    def database(self, state: str = "state") -> Database:
        """A state file, opened once more."""
        opened = Database(str(self.folder / state), "2024-12-24T15:30:00Z")
        self.databases.append(opened)
        return self._stack.enter_context(closing(opened))

    def pipeline(
        self,
        state: str = "state",
        routes: Sequence[Route] | None = (SLACK,),
        archive: type[Archive] = Archive,
        *,
        recover: bool = True,
        progress: Callable[[], object] = lambda: None,
    ) -> Pipeline:
        """A walk over the archive, as a start of the daemon opens it."""
        database = self.database(state)
        pipeline = Pipeline(
            self.archive(database, archive, progress),
            database,
            Policies(Policy.from_config()),
            routes,
            owner=database.daemon_id,
            host="trainer-7",
            clock=lambda: NOW,
            deadline_seconds=3600.0,
            progress=progress,
        )
        self._stack.callback(pipeline.close)
        if recover:
            pipeline.upkeep.recover()
        return pipeline

    def found(self, data: bytes, name: str = "summary.json", mtime: float | None = None) -> Found:
        """A file in the watched folder, as it was read."""
        path = os.path.join(self.out, name)
        Path(path).write_bytes(data)
        if mtime is not None:
            os.utime(path, (mtime, mtime))
        return Found(path, data, Fingerprint.of(os.stat(path)))

    def runs(self) -> list[str]:
        """The runs in index.json."""
        return [run["timestamp"] for run in index_of(self.root)]

    def owed(self, state: str = "state") -> list[tuple[str, str]]:
        """Event and destination of every row of the outbox."""
        return [(row["event"], row["destination"]) for row in outbox_of(self.folder / state)]

    def half_made(self) -> list[Path]:
        """What is staged and not published."""
        return [each for each in self.root.glob(".staging/*/*") if each.is_dir()]

    def rejected(self) -> list[Path]:
        """The folders of rejected files."""
        return list(self.root.glob("rejected/*"))


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    """Nothing on it yet."""
    with ExitStack() as stack:
        yield Ground(tmp_path, stack)


def event_of(data: bytes) -> str:
    """The event's id of the run of these bytes."""
    return f"run:{hashlib.sha256(data).hexdigest()[:16]}"


def memory(data: bytes) -> Found:
    """A summary handed over in memory."""
    return Found("", data, None)


def test_summary_becomes_a_run_that_is_archived_cataloged_and_owed(ground: Ground) -> None:
    """One walk does all of it: folder, index, catalog, ledger and outbox."""
    data = encoded(flat_summary(run_name="night", note="kept as it is"))
    pipeline, found = ground.pipeline(), ground.found(data)

    (outcome,) = pipeline.process([found])

    assert isinstance(outcome, Archived)
    assert outcome.run.timestamp == NAME
    assert [each.symbol for each in pipeline.recorder.catalog.assessments(NAME)] == ["GOOD", "MIDDLING", "BAD"]
    assert (ground.root / NAME / "summary.json").read_bytes() == data
    assert ground.runs() == [NAME]
    assert pipeline.recorder.catalog.names() == {NAME}
    assert found.fingerprint is not None
    assert pipeline.recorder.ledger.is_dealt_with(found.path, found.fingerprint)
    assert pipeline.recorder.ledger.run(found.path) is not None
    assert ground.owed() == [(event_of(data), "slack")]
    assert Path(found.path).read_bytes() == data


def test_run_says_where_it_came_from_and_who_archived_it(ground: Ground) -> None:
    """Path, size and time of the source, host, daemon, bytes and policy: in the run's own document."""
    data = encoded(flat_summary(run_name="night", reward_scale=0.01))
    pipeline = ground.pipeline()

    pipeline.process([ground.found(data, mtime=1_735_054_200.5)])

    run, _ = pipeline.archive.read(NAME)
    assert (run.run_name, run.archived_by, run.reward_scale) == ("night", "trainer-7", 0.01)
    assert run.archived_at == "2024-12-24T00:26:40.000000Z"
    assert run.source.path == str(ground.out / "summary.json")
    assert (run.source.size, run.source.mtime) == (len(data), "2024-12-24T15:30:00.500000Z")
    assert run.sha256 == hashlib.sha256(data).hexdigest()
    assert run.policy == Policy.from_config()
    assert run.daemon_id == ground.database().daemon_id


def test_batch_of_every_kind_gives_each_its_own_outcome(ground: Ground) -> None:
    """One bad file in a batch costs the others nothing; outcomes come in the batch's order."""
    pipeline = ground.pipeline()
    old = encoded(flat_summary(timestamp="20240101_000000"))
    pipeline.process([ground.found(old, "old.json")])
    data = encoded(flat_summary())

    outcomes = pipeline.process(
        [
            ground.found(b'{"models": [', "unfinished.json"),
            ground.found(data, "new.json"),
            ground.found(b'{"models": []}', "empty.json"),
            ground.found(old, "copy.json"),
            ground.found(data, "twin.json"),
        ]
    )

    assert [type(outcome) for outcome in outcomes] == [Unfinished, Archived, Rejected, AlreadyArchived, AlreadyArchived]
    assert outcomes[3:] == [AlreadyArchived("20240101_000000"), AlreadyArchived(NAME)]
    assert ground.runs() == ["20240101_000000", NAME]


def test_batch_of_nothing_is_nothing(ground: Ground) -> None:
    """No summaries, no outcomes, no run."""
    assert ground.pipeline().process([]) == []


@pytest.mark.parametrize("apart", [True, False], ids=["in two batches", "in one batch"])
def test_same_bytes_twice_are_one_run_and_both_files_are_dealt_with(ground: Ground, apart: bool) -> None:
    """A copy, or a file written again: the ledger notes the path, nothing is archived or announced twice."""
    data = encoded(flat_summary())
    pipeline = ground.pipeline()
    first, second = ground.found(data, "first.json"), ground.found(data, "second.json")

    outcomes = [*pipeline.process([first]), *pipeline.process([second])] if apart else pipeline.process([first, second])

    assert isinstance(outcomes[0], Archived)
    assert outcomes[1] == AlreadyArchived(NAME)
    assert ground.runs() == [NAME]
    assert ground.owed() == [(event_of(data), "slack")]
    for found in (first, second):
        assert found.fingerprint is not None
        assert pipeline.recorder.ledger.is_dealt_with(found.path, found.fingerprint)
        assert pipeline.recorder.ledger.run(found.path) is not None


@pytest.mark.parametrize("apart", [True, False], ids=["in two batches", "in one batch"])
def test_same_timestamp_gets_a_suffix_in_the_name_and_in_the_files(ground: Ground, apart: bool) -> None:
    """`_2` is not only the folder's name: document, report and index all say it."""
    pipeline = ground.pipeline()
    batch = [ground.found(encoded(flat_summary(run_name=f"run {number}")), f"{number}.json") for number in range(3)]

    for part in [[each] for each in batch] if apart else [batch]:
        pipeline.process(part)

    names = [NAME, f"{NAME}_2", f"{NAME}_3"]
    assert ground.runs() == names
    for number, name in enumerate(names):
        document = json.loads((ground.root / name / "model_assessments.json").read_bytes())
        assert (document["timestamp"], document["run_name"]) == (name, f"run {number}")
        assert (ground.root / name / "recommendations.md").read_text("utf-8").startswith(f"# Run {name}\n")
    assert pipeline.recorder.catalog.names() == set(names)


def test_name_that_a_foreign_folder_has_is_passed_over(ground: Ground) -> None:
    """What people put into the archive keeps its name and its content."""
    pipeline = ground.pipeline()
    (ground.root / NAME).mkdir()
    (ground.root / NAME / "notes").write_bytes(b"theirs")

    pipeline.process([ground.found(encoded(flat_summary()))])

    assert ground.runs() == [f"{NAME}_2"]
    assert os.listdir(ground.root / NAME) == ["notes"]


def test_name_that_another_process_takes_first_is_left_to_it(ground: Ground) -> None:
    """Named, staged, and then somebody else's: the run is rendered again under the next name."""
    other = ground.pipeline("other")

    class Overtaken(Archive):
        """An archive in which another process commits just before this one does."""

        def commit(self, batch: Sequence[publishing.Staged]) -> tuple[list[publishing.Committed], Changes]:
            other.process([memory(encoded(flat_summary(run_name="theirs")))])
            return super().commit(batch)

    pipeline = ground.pipeline(archive=Overtaken)

    (outcome,) = pipeline.process([memory(encoded(flat_summary(run_name="mine")))])

    assert isinstance(outcome, Archived)
    assert outcome.run.timestamp == f"{NAME}_2"
    assert [run["run_name"] for run in index_of(ground.root)] == ["theirs", "mine"]
    assert (ground.root / f"{NAME}_2" / "recommendations.md").read_text("utf-8").startswith(f"# Run {NAME}_2\n")
    assert pipeline.recorder.catalog.names() == {NAME, f"{NAME}_2"}
    assert ground.half_made() == []


@pytest.mark.parametrize("before", [0, 2], ids=["nothing_was_pruned_before", "others_were_pruned_before"])
@pytest.mark.parametrize("on_purpose", [False, True], ids=["found", "named"])
def test_run_that_another_archives_and_somebody_prunes_meanwhile_comes_back_only_on_purpose(
    ground: Ground, on_purpose: bool, before: int
) -> None:
    """It was staged when nobody had it: left alone like any that was pruned, and the others of its batch are not."""
    other = ground.pipeline("other")
    data, mate = encoded(flat_summary()), encoded(flat_summary(timestamp="20240101_000000"))
    for number in range(before):
        (gone,) = other.process([memory(encoded(flat_summary(run_name=f"old {number}")))])
        assert isinstance(gone, Archived)
        assert [*other.upkeep.prune([gone.run.timestamp], lambda _: False)] == [gone.run.timestamp]

    class Overtaken(Archive):
        """An archive in which another process publishes the same just before this one does, and it is pruned."""

        def commit(self, batch: Sequence[publishing.Staged]) -> tuple[list[publishing.Committed], Changes]:
            assert [type(each) for each in other.process([memory(data)])] == [Archived]
            assert [*other.upkeep.prune([NAME], lambda _: False)] == [NAME]
            return super().commit(batch)

    pipeline = ground.pipeline(archive=Overtaken)
    found = ground.found(data)

    outcome, beside = pipeline.process([found, memory(mate)], on_purpose=on_purpose)

    assert isinstance(beside, Archived)
    assert found.fingerprint is not None
    assert pipeline.recorder.ledger.is_dealt_with(found.path, found.fingerprint)
    assert ground.half_made() == []
    if on_purpose:
        assert isinstance(outcome, Archived)
        assert ground.runs() == ["20240101_000000", NAME]
    else:
        assert outcome == Pruned(NAME)
        assert ground.runs() == ["20240101_000000"]
        assert ground.owed() == [(event_of(mate), "slack")]
        assert not (ground.root / NAME).exists()
        pipeline.upkeep.recover()
        assert pipeline.process([found]) == [Pruned(NAME)]


UNFINISHED = [b"", b"{", b'{"models": [{"symbol"', b"\xff\xfe{\0}\0", b"[]", b"null", b"not json", b"\0" * 100]


@pytest.mark.parametrize("data", UNFINISHED)
def test_bytes_that_are_no_json_object_yet_leave_no_trace(ground: Ground, data: bytes) -> None:
    """Whoever read them decides how long to wait: nothing is kept, noted or announced."""
    pipeline, found = ground.pipeline(), ground.found(data)

    (outcome,) = pipeline.process([found])

    assert isinstance(outcome, Unfinished)
    assert outcome.reason
    assert found.fingerprint is not None
    assert not pipeline.recorder.ledger.is_dealt_with(found.path, found.fingerprint)
    assert (ground.runs(), ground.rejected(), ground.owed()) == ([], [], [])


@pytest.mark.parametrize("data", UNFINISHED)
def test_bytes_that_stay_no_json_object_are_rejected_once(ground: Ground, data: bytes) -> None:
    """Given up at last: kept with the reason, announced once, however often they are found again."""
    pipeline = ground.pipeline()

    for name in ("a.json", "b.json", "a.json"):
        (outcome,) = pipeline.process([ground.found(data, name)], final=True)
        assert isinstance(outcome, Rejected)

    (folder,) = ground.rejected()
    assert (folder / "as_found").read_bytes() == data
    assert ground.owed() == [(f"rejected:{hashlib.sha256(data).hexdigest()[:16]}", "slack")]


def test_object_that_is_no_summary_is_kept_as_found_with_the_reason(ground: Ground) -> None:
    """The bytes, untouched, and a document that says what, where, when and from where."""
    data = b'{"models": [{"symbol": "A", "final_pf": "high"}]}\n'
    pipeline, found = ground.pipeline(), ground.found(data)

    (outcome,) = pipeline.process([found])

    digest = hashlib.sha256(data).hexdigest()
    folder = ground.root / "rejected" / digest[:16]
    assert isinstance(outcome, Rejected)
    assert "models[0].final_pf" in outcome.reason
    assert (folder / "as_found").read_bytes() == data
    document = json.loads((folder / "reason.json").read_bytes())
    assert document["reason"] == outcome.reason
    assert document["where"] == "models[0].final_pf"
    assert (document["path"], document["sha256"], document["size"]) == (found.path, digest, len(data))
    assert document["rejected_at"] == "2024-12-24T00:26:40.000000Z"
    assert found.fingerprint is not None
    assert pipeline.recorder.ledger.is_dealt_with(found.path, found.fingerprint)
    assert pipeline.recorder.ledger.run(found.path) is None
    assert Path(found.path).read_bytes() == data


def test_rejected_file_is_announced_to_who_asked_for_it_with_its_reason(ground: Ground) -> None:
    """The message has the path, the reason and where the bytes are kept."""
    ground.pipeline(routes=(SLACK, MAIL)).process([ground.found(b'{"models": []}')])

    (row,) = outbox_of(ground.folder / "state")
    assert (row["kind"], row["destination"], row["run"]) == ("REJECTED", "slack", None)
    for part in (str(ground.out / "summary.json"), "no models", str(ground.root / "rejected")):
        assert part in row["payload"]


def test_rejected_file_found_again_after_a_restart_is_not_announced_again(ground: Ground) -> None:
    """The same bytes under another name, another day: one event."""
    data = b'{"models": []}'
    ground.pipeline().process([ground.found(data, "a.json")])

    ground.pipeline().process([ground.found(data, "b.json")])

    assert len(ground.owed()) == len(ground.rejected()) == 1


@pytest.mark.parametrize("state", ["the same", "a new one"])
def test_run_dated_ahead_is_archived_and_announced_as_a_problem_once(ground: Ground, state: str) -> None:
    """From its summary, its file's name or the file's time: nothing is lost, and a person hears of the clock once."""
    desk = Route("desk", frozenset({"PROBLEM"}))
    ahead = [
        ground.found(encoded(flat_summary(timestamp="2099-01-01T00:00:00Z")), "a.json"),
        ground.found(encoded(flat_summary({"B": GOOD}, timestamp=None)), "training_summary_20991231_000000.json"),
        ground.found(encoded(flat_summary({"C": GOOD}, timestamp=None)), "c.json")._replace(
            fingerprint=Fingerprint(1, 2, 3, 4_102_444_800_000_000_000, 5)
        ),
    ]
    inside = ground.found(encoded(flat_summary({"D": GOOD}, timestamp="20241225_002600")), "d.json")

    outcomes = ground.pipeline(routes=(desk,)).process([*ahead, inside])

    assert all(isinstance(outcome, Archived) for outcome in outcomes)
    names = ["20990101_000000", "20991231_000000", "21000101_000000"]
    ground.pipeline("state" if state == "the same" else "other", routes=(desk,)).process([*ahead, inside])
    owed = [row for folder in ("state", "other") for row in outbox_of(ground.folder / folder)]
    assert sorted(row["event"] for row in owed) == [f"problem:ahead:{name}:trainer-7" for name in names]
    assert all("dated more than a day ahead" in row["payload"] for row in owed)


def test_part_of_a_file_too_large_is_kept_with_the_given_reason(ground: Ground) -> None:
    """Whoever read it says why; the walk keeps and announces it like any other."""
    pipeline, found = ground.pipeline(), ground.found(b"{" + b" " * 1000)

    outcome = pipeline.reject(found.path, found.data[:10], found.fingerprint, RejectSummary("1001 bytes, too many"))

    assert outcome.reason == "1001 bytes, too many"
    (folder,) = ground.rejected()
    assert (folder / "as_found").read_bytes() == found.data[:10]
    assert len(ground.owed()) == 1
    assert found.fingerprint is not None
    assert pipeline.recorder.ledger.is_dealt_with(found.path, found.fingerprint)


def test_two_files_too_large_that_begin_alike_are_rejected_as_two(ground: Ground) -> None:
    """What differs may lie behind the part that is kept: each of another size is announced."""
    pipeline = ground.pipeline()
    for name, length in (("a.json", 1000), ("b.json", 1001), ("again.json", 1000)):
        found = ground.found(b"{" + b" " * length, name)
        pipeline.reject(found.path, found.data[:10], found.fingerprint, RejectSummary("too many bytes"))

    assert len(ground.rejected()) == len(ground.owed()) == 2


@pytest.mark.parametrize(
    ("timestamp", "name", "mtime", "run"),
    [
        ("20240506_070809", "s_20230101_000000.json", 0.0, "20240506_070809"),
        ("2024-05-06T07:08:09", "s.json", 0.0, "20240506_070809"),
        ("2024-05-06T07:08:09+02:00", "s.json", 0.0, "20240506_050809"),
        (None, "training_summary_20230102_030405.json", 0.0, "20230102_030405"),
        (None, "s_20231399_000000_20230102_030405.json", 0.0, "20230102_030405"),
        (None, "s.json", 1_735_054_200.0, NAME),
        (None, "s_2023.json", -86_400.0, "19691231_000000"),
    ],
)
def test_timestamp_is_the_summarys_else_the_names_else_the_files(
    ground: Ground, timestamp: str | None, name: str, mtime: float, run: str
) -> None:
    """In this order; what a summary says in another form never reaches a path."""
    ground.pipeline().process([ground.found(encoded(flat_summary(timestamp=timestamp)), name, mtime)])

    assert ground.runs() == [run]


def test_timestamp_of_a_summary_in_memory_without_one_is_now(ground: Ground) -> None:
    """There is no file to ask."""
    ground.pipeline().process([memory(encoded(flat_summary(timestamp=None)))])

    assert ground.runs() == ["20241224_002640"]


@pytest.mark.parametrize("timestamp", ["../../outside", "yesterday", "20241399_000000", "", 20241224])
def test_timestamp_that_is_none_is_rejected_and_says_what_was_expected(ground: Ground, timestamp: object) -> None:
    """Never a guess, never a path."""
    (outcome,) = ground.pipeline().process(
        [ground.found(encoded(flat_summary(timestamp=None) | {"timestamp": timestamp}))]
    )

    assert isinstance(outcome, Rejected)
    assert "YYYYMMDD_HHMMSS" in outcome.reason
    assert ground.runs() == []


@pytest.mark.parametrize(
    "name",
    [b"\xff\xfe.json", b"new\nline.json", "r\u00e9sum\u00e9.json".encode(), b"`*<!channel>.json"],
)
def test_source_of_any_name_is_archived_and_known_again(ground: Ground, name: bytes) -> None:
    """A name is bytes: shown as text that a person can tell, known again to the byte."""
    found = ground.found(encoded(flat_summary()), os.fsdecode(name))

    (outcome,) = ground.pipeline().process([found])

    assert isinstance(outcome, Archived)
    shown = os.fsencode(found.path).decode("utf-8", "backslashreplace")
    assert index_of(ground.root)[0]["source"] == shown
    assert found.fingerprint is not None
    assert ground.pipeline().recorder.ledger.is_dealt_with(found.path, found.fingerprint)


@pytest.mark.parametrize("figure", [1, 3], ids=["inode of 64 bits", "mtime in the year 2400"])
def test_source_of_any_file_system_is_archived(ground: Ground, figure: int) -> None:
    """Some number inodes with all 64 bits, and a file's time may lie beyond 2262."""
    data = encoded(flat_summary())
    device, inode, size, mtime, ctime = [
        13_569_465_600_000_000_000 if place == figure else number for place, number in enumerate((1, 2, 3, 4, 5))
    ]

    (outcome,) = ground.pipeline().process(
        [Found("/out/summary.json", data, Fingerprint(device, inode, size, mtime, ctime))]
    )

    assert isinstance(outcome, Archived)
    assert len(ground.owed()) == 1


def test_checkpoint_beyond_any_update_does_not_stop_the_daemon(ground: Ground) -> None:
    """Whatever a summary says: archived or rejected, never an error of ours, least of all at the next start."""
    model = {**GOOD, "fitness_history": [number / 2000 for number in range(1100)]}

    (outcome,) = ground.pipeline().process(
        [ground.found(encoded(flat_summary({"A": model}, validation_interval=2**53)))]
    )

    assert isinstance(outcome, Archived | Rejected)
    ground.pipeline()


def test_message_is_owed_by_the_classes_a_run_has(ground: Ground) -> None:
    """A destination that asked for REVIEW alone hears of runs with a model in REVIEW, and of no other."""
    good, all_classes = flat_summary({"A": GOOD}), flat_summary(timestamp="20241225_000000")

    ground.pipeline(routes=(SLACK, MAIL)).process([memory(encoded(good)), memory(encoded(all_classes))])

    assert sorted(ground.owed()) == sorted(
        [(event_of(encoded(good)), "slack"), *((event_of(encoded(all_classes)), name) for name in ("slack", "mail"))]
    )


def archive_and_die(ground: Ground, *summaries: dict[str, Any], state: str = "state") -> None:
    """What a process leaves that dies between the index and the transaction: runs nobody recorded."""
    scratch = ground.pipeline(state, recover=False)
    database = ground.folder / state / "modelwarden.sqlite"
    before = ground.folder / f"{state} before"
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(before)) as copy:
        source.backup(copy)
    scratch.upkeep.recover()
    scratch.process([memory(encoded(summary)) for summary in summaries])
    with closing(sqlite3.connect(before)) as source, closing(sqlite3.connect(database)) as target:
        source.backup(target)
    before.unlink()


def test_unrecorded_run_is_recorded_and_owed_at_the_next_start(ground: Ground) -> None:
    """A crash between the index and the transaction: the start finishes it, once."""
    archive_and_die(ground, summary := flat_summary())
    assert ground.runs() == [NAME]
    assert ground.owed() == []

    pipeline = ground.pipeline()
    ground.pipeline()

    assert pipeline.recorder.catalog.names() == {NAME}
    assert [each.symbol for each in pipeline.recorder.catalog.assessments(NAME)] == ["GOOD", "MIDDLING", "BAD"]
    assert ground.owed() == [(event_of(encoded(summary)), "slack")]


def test_unrecorded_run_is_known_when_its_file_is_found_again(ground: Ground) -> None:
    """Its source is still in the folder: dealt with as archived, not archived twice."""
    summary = flat_summary()
    archive_and_die(ground, summary)

    assert ground.pipeline().process([ground.found(encoded(summary))]) == [AlreadyArchived(NAME)]

    assert ground.runs() == [NAME]
    assert ground.owed() == [(event_of(encoded(summary)), "slack")]


def test_run_of_another_daemon_is_cataloged_and_not_announced(ground: Ground) -> None:
    """Whoever archived it announces it: on a shared archive no message is sent twice."""
    ground.pipeline("theirs").process([memory(encoded(flat_summary()))])

    pipeline = ground.pipeline("ours")

    assert pipeline.recorder.catalog.names() == {NAME}
    assert ground.owed("ours") == []
    assert len(ground.owed("theirs")) == 1


def test_run_of_another_daemon_seen_in_a_batch_is_not_announced(ground: Ground) -> None:
    """It is cataloged, the same without a restart: the next batch brings it along."""
    ours, theirs = ground.pipeline("ours"), ground.pipeline("theirs")
    theirs.process([memory(encoded(flat_summary()))])

    ours.process([memory(encoded(mine := flat_summary(timestamp="20250101_000000")))])

    assert ours.recorder.catalog.names() == {NAME, "20250101_000000"}
    assert ground.owed("ours") == [(event_of(encoded(mine)), "slack")]


@pytest.mark.parametrize("ask", ["recover", "rebuild"])
def test_command_upon_an_unrecorded_run_leaves_the_message_to_the_daemon(ground: Ground, ask: str) -> None:
    """A question on the command line records the run; the daemon's next start owes the message, once."""
    archive_and_die(ground, summary := flat_summary())
    asking = ground.pipeline(routes=None)
    if ask == "rebuild":
        asking.upkeep.rebuild()
    assert asking.recorder.catalog.names() == {NAME}
    assert ground.owed() == []

    ground.pipeline()
    ground.pipeline()

    assert ground.owed() == [(event_of(encoded(summary)), "slack")]


def test_state_file_that_was_lost_is_made_again_without_old_messages(ground: Ground) -> None:
    """The catalog is back, row for row, and nobody hears of old runs again."""
    first = ground.pipeline()
    first.process([memory(encoded(random_summary(seed, models=3))) for seed in range(5)])
    before = [
        (first.recorder.catalog.run(name), first.recorder.catalog.assessments(name)) for name in first.archive.names()
    ]
    for file in (ground.folder / "state").iterdir():
        file.unlink()

    pipeline = ground.pipeline()

    assert [
        (pipeline.recorder.catalog.run(name), pipeline.recorder.catalog.assessments(name)) for name in ground.runs()
    ] == before
    assert len(before) == 5
    assert ground.owed() == []


def test_start_without_changes_changes_nothing(ground: Ground) -> None:
    """A hundred restarts send nothing new and write nothing."""
    ground.pipeline().process([memory(encoded(flat_summary())), memory(b"{}")])
    index, owed = (ground.root / "index.json").stat(), ground.owed()

    for _ in range(3):
        ground.pipeline()

    assert (ground.root / "index.json").stat().st_mtime_ns == index.st_mtime_ns
    assert ground.owed() == owed
    assert len(owed) == 2


@pytest.mark.parametrize("rebuilder", [None, (SLACK, MAIL)], ids=["by a command", "by the daemon"])
def test_rebuild_owes_nothing_for_runs_that_were_announced(ground: Ground, rebuilder: Sequence[Route] | None) -> None:
    """A destination that is new hears of what comes, not of the archive's whole past, also after `reindex`."""
    ground.pipeline(routes=(SLACK,)).process([memory(encoded(random_summary(seed, models=9))) for seed in range(3)])
    owed = ground.owed()
    assert len(owed) == 3

    ground.pipeline(routes=rebuilder).upkeep.rebuild()
    ground.pipeline(routes=(SLACK, MAIL))

    assert ground.owed() == owed


def test_start_with_a_new_destination_owes_it_nothing_of_the_past(ground: Ground) -> None:
    """The same without a rebuild."""
    ground.pipeline(routes=(SLACK,)).process([memory(encoded(flat_summary()))])

    ground.pipeline(routes=(SLACK, MAIL))

    assert [destination for _, destination in ground.owed()] == ["slack"]


def test_rebuild_makes_index_and_catalog_again_whatever_they_say(ground: Ground) -> None:
    """An index edited by hand and a catalog that lost rows: both are as the folders have it."""
    pipeline = ground.pipeline()
    pipeline.process([memory(encoded(random_summary(seed, models=3))) for seed in range(3)])
    before = (ground.root / "index.json").read_bytes()
    (ground.root / "index.json").write_bytes(before.replace(b'"models":3', b'"models":4'))
    with closing(ground.database()) as database, database.transaction():
        database.connection.execute("DELETE FROM assessments")

    pipeline.upkeep.rebuild()

    assert (ground.root / "index.json").read_bytes() == before
    assert [len(pipeline.recorder.catalog.assessments(name)) for name in ground.runs()] == [3, 3, 3]


def test_rebuild_by_all_cores_makes_the_same_index_and_catalog(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run is read once, by another process, and comes to where it belongs."""
    monkeypatch.setattr(cores, "MANY", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    pipeline = ground.pipeline()
    pipeline.process([memory(encoded(random_summary(seed, models=3))) for seed in range(40)])
    before, owed = (ground.root / "index.json").read_bytes(), ground.owed()
    rows = {name: pipeline.recorder.catalog.rows(name) for name in ground.runs()}
    (ground.root / "index.json").unlink()
    with closing(ground.database()) as database, database.transaction():
        database.connection.execute("DELETE FROM assessments WHERE position = 1")

    pipeline.upkeep.rebuild()

    assert (ground.root / "index.json").read_bytes() == before
    assert {name: pipeline.recorder.catalog.rows(name) for name in ground.runs()} == rows
    assert ground.owed() == owed


def test_rebuild_finds_a_name_that_is_another_run_by_now(ground: Ground) -> None:
    """A folder was replaced by hand: the catalog has what is there, and what was there is missing."""
    pipeline, other = ground.pipeline(), encoded(random_summary(1, models=2) | {"timestamp": NAME})
    before = encoded(flat_summary())
    pipeline.process([memory(before)])
    elsewhere = ground.pipeline("elsewhere", recover=False)
    shutil.rmtree(ground.root / NAME)
    elsewhere.process([memory(other)])

    pipeline.upkeep.rebuild()

    assert len(pipeline.recorder.catalog.rows(NAME)) == 2
    assert [each.sha256 for each in pipeline.recorder.catalog.missing()] == [hashlib.sha256(before).hexdigest()]


def test_run_that_changes_after_it_was_read_again_is_read_under_the_lock(ground: Ground) -> None:
    """What was read before the lock counts only as long as the file is the same."""

    class Edited(Archive):
        """An archive in which somebody renames a trainer's run just before the lock is taken."""

        def reconcile(self, *, rebuild: bool = False, lines: Mapping[str, Line] = MappingProxyType({})) -> Changes:
            file = Path(self.root, NAME, "model_assessments.json")
            file.write_bytes(file.read_bytes().replace(b'"run_name": null', b'"run_name": "edited"'))
            return super().reconcile(rebuild=rebuild, lines=lines)

    ground.pipeline().process([memory(encoded(flat_summary()))])

    ground.pipeline(archive=Edited, recover=False).upkeep.rebuild()

    assert index_of(ground.root)[0]["run_name"] == "edited"


def test_run_deleted_by_hand_leaves_the_catalog_at_the_next_start(ground: Ground) -> None:
    """The folders are the truth for the catalog, too."""
    ground.pipeline().process(
        [memory(encoded(flat_summary())), memory(encoded(flat_summary(timestamp="20250101_000000")))]
    )
    shutil.rmtree(ground.root / NAME)

    pipeline = ground.pipeline()

    assert pipeline.recorder.catalog.names() == {"20250101_000000"}
    assert ground.runs() == ["20250101_000000"]


def test_run_deleted_by_hand_is_archived_again_with_its_file(ground: Ground) -> None:
    """Nothing is called archived that the archive does not have."""
    pipeline, data = ground.pipeline(), encoded(flat_summary())
    pipeline.process([ground.found(data)])
    shutil.rmtree(ground.root / NAME)

    (outcome,) = pipeline.process([ground.found(data, "again.json")])

    assert isinstance(outcome, Archived)
    assert (ground.root / NAME / "summary.json").read_bytes() == data


def test_run_deleted_by_hand_and_trained_again_is_archived_once(ground: Ground) -> None:
    """The daemon runs on; the new run takes the name of the one that is gone."""
    pipeline = ground.pipeline()
    pipeline.process([memory(encoded(flat_summary(run_name="first")))])
    shutil.rmtree(ground.root / NAME)

    (outcome,) = pipeline.process([memory(encoded(flat_summary(run_name="second")))])

    assert isinstance(outcome, Archived)
    assert [(run["timestamp"], run["run_name"]) for run in index_of(ground.root)] == [(NAME, "second")]


@pytest.mark.parametrize("looks", ["commit", "recover", "rebuild"])
def test_name_that_became_another_run_is_that_run_in_the_catalog(ground: Ground, looks: str) -> None:
    """A run is its bytes: the catalog follows another daemon, at a commit and at a start; the old run is missing."""
    data = encoded(flat_summary(run_name="first"))
    first = ground.pipeline()
    first.process([memory(data)])
    second = ground.pipeline("state2")
    shutil.rmtree(ground.root / NAME)
    second.process([memory(encoded(flat_summary(run_name="second")))])

    if looks == "commit":
        first.process([memory(encoded(flat_summary(timestamp="20250101_000000")))])
    else:
        getattr(first.upkeep, looks)()

    assert (run := first.recorder.catalog.run(NAME)) is not None
    assert (run.run_name, run.sha256) == ("second", index_of(ground.root)[0]["sha256"])
    assert [missing.sha256 for missing in first.recorder.catalog.missing()] == [hashlib.sha256(data).hexdigest()]
    assert event_of(encoded(flat_summary(run_name="second"))) not in [event for event, _ in ground.owed()]


def test_run_archived_again_under_another_name_is_not_archived_again(ground: Ground) -> None:
    """It was deleted by hand: the name that is gone does not hide the one that is there."""
    pipeline, data = ground.pipeline(), encoded(flat_summary(timestamp=None))
    pipeline.process([ground.found(data, f"first_{NAME}.json")])
    shutil.rmtree(ground.root / NAME)
    pipeline.process([ground.found(data, "second_20250101_000000.json")])

    (outcome,) = pipeline.process([ground.found(data, "third_20260101_000000.json")])

    assert outcome == AlreadyArchived("20250101_000000")
    assert sorted(each.name for each in ground.root.glob("2*")) == ["20250101_000000"]


@pytest.mark.parametrize("ask", ["recover", "rebuild"])
def test_command_beside_a_working_daemon_takes_nothing_out_of_the_catalog(ground: Ground, ask: str) -> None:
    """A run that is published while a command looks stays cataloged, so that its message is not called moot."""
    daemon = ground.pipeline()

    class Overtaken(Archive):
        """An archive in which the daemon works as soon as the command has looked."""

        def reconcile(self, *, rebuild: bool = False, lines: Mapping[str, Line] = MappingProxyType({})) -> Changes:
            changes = super().reconcile(rebuild=rebuild, lines=lines)
            daemon.process([memory(encoded(flat_summary()))])
            return changes

    command = ground.pipeline(routes=None, archive=Overtaken, recover=False)

    command.upkeep.recover() if ask == "recover" else command.upkeep.rebuild()

    assert ground.runs() == [NAME]
    assert daemon.recorder.catalog.names() == {NAME}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("file", ["summary.json", "model_assessments.json", "recommendations.md"])
def test_run_that_can_not_be_staged_is_postponed_and_succeeds_later(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, file: str, code: int
) -> None:
    """The disk refuses any of the three files: nothing half-made, nothing noted, the source still owed."""
    pipeline, found = ground.pipeline(), ground.found(encoded(flat_summary()))
    with monkeypatch.context() as context:
        fail_fsync(context, lambda path: os.path.basename(path) == file, code)
        (outcome,) = pipeline.process([found])
    assert isinstance(outcome, Postponed)
    assert found.fingerprint is not None
    assert not pipeline.recorder.ledger.is_dealt_with(found.path, found.fingerprint)
    assert (ground.runs(), ground.half_made(), ground.owed()) == ([], [], [])

    (outcome,) = pipeline.process([found])

    assert isinstance(outcome, Archived)
    assert (ground.runs(), len(ground.owed())) == ([NAME], 1)


def test_run_that_can_not_be_staged_does_not_hold_up_the_others(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One summary too large for the disk, the others archived."""
    pipeline = ground.pipeline()
    large = encoded(flat_summary(note="x" * 5000))
    real_write = os.write

    def write(descriptor: int, data: memoryview) -> int:
        if len(data) > 5000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real_write(descriptor, data)

    with monkeypatch.context() as context:
        context.setattr(os, "write", write)
        outcomes = pipeline.process(
            [memory(large), memory(encoded(flat_summary({"A": GOOD}, timestamp="20250101_000000")))]
        )

    assert [type(outcome) for outcome in outcomes] == [Postponed, Archived]
    assert ground.runs() == ["20250101_000000"]
    assert ground.half_made() == []


@pytest.mark.parametrize("what", ["the archive", "the index"])
def test_run_that_can_not_be_committed_is_postponed_and_found_later(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Renamed and not acknowledged: the next try finds it by its bytes, records it and owes its message once."""
    pipeline, found = ground.pipeline(), ground.found(data := encoded(flat_summary()))
    with monkeypatch.context() as context:
        fail_fsync(
            context,
            lambda path: path == str(ground.root) if what == "the archive" else "index.json" in os.path.basename(path),
            errno.ENOSPC,
        )
        (outcome,) = pipeline.process([found])
    assert isinstance(outcome, Postponed)
    assert (ground.runs(), ground.half_made(), ground.owed()) == ([], [], [])

    outcomes = [*pipeline.process([found]), *pipeline.process([found])]

    assert outcomes == [AlreadyArchived(NAME)] * 2
    assert ground.runs() == [NAME]
    assert pipeline.recorder.catalog.names() == {NAME}
    assert ground.owed() == [(event_of(data), "slack")]


def test_run_whose_index_can_not_be_claimed_is_recorded_by_the_next_try(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very last sync fails: postponed, then archived, cataloged and owed without a restart."""
    pipeline, data = ground.pipeline(), encoded(flat_summary())
    before = (ground.root / "index.json").stat().st_ino
    with monkeypatch.context() as context:
        fail_fsync(
            context,
            lambda path: path == str(ground.root) and (ground.root / "index.json").stat().st_ino != before,
            errno.EIO,
        )
        (outcome,) = pipeline.process([memory(data)])
    assert isinstance(outcome, Postponed)

    assert pipeline.process([memory(data)]) == [AlreadyArchived(NAME)]

    assert pipeline.recorder.catalog.names() == {NAME}
    assert ground.owed() == [(event_of(data), "slack")]


def test_batch_that_finds_the_lock_held_is_postponed_whole(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process has the archive: nothing happened, nothing is half-made, the next try succeeds."""
    monkeypatch.setattr(publishing, "LOCK_TIMEOUT", 0.05)
    pipeline = ground.pipeline()
    batch = [memory(encoded(flat_summary(run_name=f"run {number}"))) for number in range(3)]
    with IndexLock(str(ground.root)).held(1.0):
        outcomes = pipeline.process(batch)
    assert [type(outcome) for outcome in outcomes] == [Postponed] * 3
    assert all(".index.lock" in str(outcome.error) for outcome in outcomes if isinstance(outcome, Postponed))
    assert (ground.runs(), ground.half_made()) == ([], [])

    assert [type(outcome) for outcome in pipeline.process(batch)] == [Archived] * 3
    assert ground.runs() == [NAME, f"{NAME}_2", f"{NAME}_3"]


def busy(ground: Ground) -> sqlite3.Connection:
    """Another process that holds the state file, and a database that does not wait long for it."""
    ground.databases[-1].connection.execute("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(ground.folder / "state" / "modelwarden.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_run_that_can_not_be_recorded_is_not_called_done(ground: Ground) -> None:
    """Only when the transaction has committed is a source done: until then it is postponed."""
    pipeline, found = ground.pipeline(), ground.found(encoded(flat_summary()))
    with closing(busy(ground)):
        (outcome,) = pipeline.process([found])

    assert isinstance(outcome, Postponed)


def test_run_that_could_not_be_recorded_is_owed_by_the_next_try(ground: Ground) -> None:
    """A state file that was busy costs a pause, not a message: the run is recorded then, too."""
    pipeline, found = ground.pipeline(), ground.found(data := encoded(flat_summary()))
    with closing(busy(ground)):
        pipeline.process([found])

    pipeline.process([found])

    assert found.fingerprint is not None
    assert pipeline.recorder.ledger.is_dealt_with(found.path, found.fingerprint)
    assert pipeline.recorder.catalog.names() == {NAME}
    assert ground.owed() == [(event_of(data), "slack")]


def test_rejection_that_can_not_be_recorded_is_not_called_done(ground: Ground) -> None:
    """The bytes are kept, the message is not owed yet: postponed, and announced by the next try."""
    pipeline, found = ground.pipeline(), ground.found(b'{"models": []}')
    with closing(busy(ground)):
        (outcome,) = pipeline.process([found])
    assert isinstance(outcome, Postponed)

    pipeline.process([found])

    assert len(ground.owed()) == 1


def test_rejected_file_that_can_not_be_kept_is_postponed_with_the_rest(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No reason is given away without the bytes: the next try keeps them."""
    pipeline, found = ground.pipeline(), ground.found(b'{"models": []}')
    with monkeypatch.context() as context:
        fail_fsync(context, lambda path: os.path.basename(path) == "as_found", errno.ENOSPC)
        (outcome,) = pipeline.process([found])
    assert isinstance(outcome, Postponed)
    assert (ground.rejected(), ground.owed()) == ([], [])

    (outcome,) = pipeline.process([found])

    assert isinstance(outcome, Rejected)
    assert (len(ground.rejected()), len(ground.owed())) == (1, 1)


def test_batch_that_ends_before_it_is_published_leaves_nothing_staged(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full must not fill further with every try."""
    pipeline = ground.pipeline()
    batch = [memory(encoded(flat_summary())), memory(b'{"models": []}')]
    with monkeypatch.context() as context:
        fail_fsync(context, lambda path: os.path.basename(path) == "as_found", errno.ENOSPC)
        outcomes = pipeline.process(batch)
        pipeline.close()  # whatever is still being staged ends here
    assert [type(outcome) for outcome in outcomes] == [Postponed, Postponed]

    assert ground.half_made() == []


def test_staging_removed_by_hand_does_not_stop_the_walk(ground: Ground) -> None:
    """A person who tidies up costs nothing."""
    pipeline = ground.pipeline()
    pipeline.process([memory(encoded(flat_summary()))])
    shutil.rmtree(ground.root / ".staging")

    (outcome,) = pipeline.process([memory(encoded(flat_summary(timestamp="20250101_000000")))])

    assert isinstance(outcome, Archived)
    assert ground.runs() == [NAME, "20250101_000000"]


def test_file_forgotten_is_looked_at_again(ground: Ground) -> None:
    """What left the ledger is not dealt with any more; its bytes are still known."""
    pipeline, found = ground.pipeline(), ground.found(encoded(flat_summary()))
    pipeline.process([found])

    pipeline.recorder.forget([found.path])

    assert found.fingerprint is not None
    assert not pipeline.recorder.ledger.is_dealt_with(found.path, found.fingerprint)
    assert pipeline.process([found]) == [AlreadyArchived(NAME)]


def test_figures_that_json_can_not_hold_are_null_in_what_is_written(ground: Ground) -> None:
    """A trainer writes NaN and Infinity: its bytes are kept as they are, and any reader reads the documents."""
    model = {**GOOD, "final_fitness": math.nan, "final_pf": math.inf, "fitness_history": [0.5, math.nan]}
    data = encoded(flat_summary({"A": model}))
    ground.pipeline().process([ground.found(data)])

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for name in (f"{NAME}/model_assessments.json", "index.json"):
        json.loads((ground.root / name).read_bytes(), parse_constant=refuse)
    assert (ground.root / NAME / "summary.json").read_bytes() == data


def test_walk_over_an_archive_that_can_not_be_locked_at_start_says_so(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start waits for the lock and then tells who is in the way; it does not go on without."""
    monkeypatch.setattr(publishing, "LOCK_TIMEOUT", 0.05)
    pipeline = ground.pipeline(recover=False)

    with IndexLock(str(ground.root)).held(1.0), pytest.raises(RetryLater, match=r"\.index\.lock"):
        pipeline.upkeep.recover()


def test_long_work_is_seen_to_go_on(ground: Ground) -> None:
    """A backlog, and a start that reads an archive whose index and state are lost: a sign each group, and each run."""
    seen: list[None] = []
    pipeline = ground.pipeline(progress=lambda: seen.append(None))
    runs = 2 * GROUP + 1
    pipeline.process([memory(encoded(random_summary(seed, models=1))) for seed in range(runs)])
    assert len(seen) >= 3

    (ground.root / "index.json").unlink()
    seen.clear()
    ground.pipeline("another", progress=lambda: seen.append(None))
    assert len(seen) >= 2 * runs  # read into the index, and into the catalog


def test_old_summaries_are_committed_in_larger_groups(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a commit writes much of index.json anew, more runs share it; else the groups are small."""
    monkeypatch.setattr(crew, "MUCH", 40_000)
    batches: list[int] = []
    pipeline = ground.pipeline()
    commit = pipeline.archive.commit

    def noted(batch: Sequence[Staged]) -> object:
        batches.append(len(batch))
        return commit(batch)

    monkeypatch.setattr(pipeline.archive, "commit", noted)

    def process(year: int, count: int = 2 * GROUP) -> list[int]:
        batches.clear()
        names = [f"{year}0101_00{number // 60:02}{number % 60:02}" for number in range(count)]
        summaries = [random_summary(year * 1000 + number, models=1) for number in range(count)]
        pipeline.process(
            [memory(encoded(each | {"timestamp": name})) for each, name in zip(summaries, names, strict=True)]
        )
        return list(batches)

    assert process(2020) == [GROUP, GROUP]
    assert process(2001) == [GROUP, GROUP], "nobody knew before"
    assert process(2000) == [2 * GROUP]
    assert process(2021, 1) == [1]
    assert process(2022, 1) == [1], "both files that take turns are whole again"
    assert process(2023) == [GROUP, GROUP]


def test_refused_file_is_not_held_by_its_reason(ground: Ground) -> None:
    """What was parsed of it is let go of with the refusal: an outcome may be kept for a while."""
    pipeline = ground.pipeline()
    (outcome,) = pipeline.process([ground.found(encoded({"models": "none", "more": [1] * 100}))])
    assert isinstance(outcome, Rejected)
    assert (outcome.error.__traceback__, outcome.error.__context__) == (None, None)


def sync_threads() -> list[str]:
    """The threads that wait for disks."""
    return [each.name for each in threading.enumerate() if each.name.startswith("sync")]


def test_threads_of_much_work_end_with_it_and_come_again(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the second quiet look: the first may lie between two batches. Little work is not worth while."""
    pipeline = ground.pipeline()
    batches = [
        [ground.found(encoded(random_summary(10 * at + n, models=1)), f"{at}{n}") for n in range(4)] for at in (0, 1)
    ]
    for batch in batches:
        assert all(isinstance(each, Archived) for each in pipeline.process(batch))
        assert sync_threads()
        pipeline.rest()
        pipeline.rest()
        assert sync_threads()
        monkeypatch.setattr(walk, "MUCH_WORK", 10)
        pipeline.rest()
        assert sync_threads() == []
        monkeypatch.undo()


def test_rest_between_two_batches_gives_nothing_back(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backlog goes on: its threads are needed."""
    monkeypatch.setattr(walk, "MUCH_WORK", 10)
    pipeline = ground.pipeline()
    for at in range(3):
        pipeline.process([ground.found(encoded(random_summary(10 * at + n, models=1)), f"{at}{n}") for n in range(4)])
        pipeline.rest()
        assert sync_threads()
    pipeline.rest()
    assert sync_threads() == []


def test_group_of_files_supersedes_the_last_of_their_runs_by_number(ground: Ground) -> None:
    """Ten runs may have one timestamp: `_10` comes after `_9`, whatever the letters say."""
    pipeline = ground.pipeline()
    files = [ground.found(b"{}", f"trial-{number}.json") for number in range(2)]
    members = tuple((each.path, each.fingerprint) for each in files if each.fingerprint is not None)
    earlier = [f"20241224_153000_{suffix}" for suffix in (9, 10)]
    rows = [Dealt(*member, "0" * 64, run, None) for member, run in zip(members, earlier, strict=True)]
    pipeline.recorder.record(rows)
    summary = encoded(flat_summary({"A": GOOD}))

    [outcome] = pipeline.process([files[0]._replace(data=b"all", summary=summary, name="all.zip", members=members)])

    assert isinstance(outcome, Archived)
    assert outcome.run.supersedes == "20241224_153000_10"
