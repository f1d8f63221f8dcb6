"""What must be recorded is kept until a transaction has taken it: nothing is lost and nothing is owed twice."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from modelwarden.archive.publishing import Changes
from modelwarden.errors import RetryLater, UnknownRun
from modelwarden.fingerprint import Fingerprint
from modelwarden.gate.assessment import Assessment
from modelwarden.gate.run import RunRecord
from modelwarden.pipeline.recording import Recorder, RunWithRows
from modelwarden.state.database import Database
from modelwarden.state.ledger import Dealt
from modelwarden.state.messages import Route
from modelwarden.state.rows import model_rows
from processes import outbox_of
from summaries import BAD, GOOD, flat_summary, judged_run

NAME = "20241224_153000"
OTHER = "20250101_000000"
SLACK = Route("slack", frozenset({"APPROVED"}))
MAIL = Route("mail", frozenset({"APPROVED"}))
FILE = Dealt("/out/summary.json", Fingerprint(1, 2, 3, 4, 5), "ab" * 32, NAME, None)


class Records:
    """A state file, and an archive of as many runs as a test says."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self.database = database
        self.archive: dict[str, tuple[RunRecord, Sequence[Assessment]]] = {}

    def recorder(self, *routes: Route, asks: bool = False) -> Recorder:
        """A recorder, as each process has one; one that only asks has no say in what is announced."""
        return Recorder(self.database, self.read, None if asks else routes, lambda: 1000.0, 3600.0)

    def run(self, name: str = NAME, *, foreign: bool = False) -> RunWithRows:
        """Archive a run of this state's owner, or of somebody else's."""
        run, assessments = judged_run(flat_summary(run_name=name), timestamp=name)
        owner = "f0f0f0f0" if foreign else self.database.daemon_id
        self.archive[name] = run._replace(daemon_id=owner), assessments
        return self.archive[name][0], model_rows(assessments)

    def read(self, name: str) -> tuple[RunRecord, Sequence[Assessment]]:
        """What the archive has of a run."""
        try:
            return self.archive[name]
        except KeyError:
            raise UnknownRun(name) from None

    def owed(self) -> list[str]:
        """The destinations of the outbox's rows."""
        return [row["destination"] for row in outbox_of(self.folder)]

    def busy(self) -> sqlite3.Connection:
        """Another process that holds the state file; this one does not wait long for it."""
        self.database.connection.execute("PRAGMA busy_timeout = 10")
        other = sqlite3.connect(self.database.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        return other


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    """A new state file."""
    with closing(Database(str(tmp_path), "2024-12-24T15:30:00Z")) as database:
        yield Records(tmp_path, database)


def test_run_published_just_now_is_cataloged_and_owed_with_its_file(records: Records) -> None:
    """One transaction: catalog, outbox and ledger."""
    recorder = records.recorder(SLACK, MAIL)
    recorder.note(Changes(), [records.run()])

    assert recorder.record([FILE]) == 2

    assert recorder.catalog.names() == {NAME}
    assert records.owed() == ["slack", "mail"]
    assert recorder.ledger.is_dealt_with(FILE.path, FILE.fingerprint)


@pytest.mark.parametrize(("foreign", "owed"), [(False, ["slack"]), (True, [])])
def test_run_that_appeared_is_owed_where_this_state_s_owner_archived_it(
    records: Records, foreign: bool, owed: list[str]
) -> None:
    """A crash is finished; what others archived is theirs to tell."""
    records.run(foreign=foreign)
    recorder = records.recorder(SLACK)

    recorder.note(Changes(appeared=[NAME]))
    recorder.record()

    assert recorder.catalog.names() == {NAME}
    assert records.owed() == owed


def test_run_that_the_disk_refuses_to_read_is_recorded_once_it_can_be_read(
    records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the others nor it itself suffer: they are recorded now, it is asked for again, and told of once."""
    records.run()
    records.run(OTHER)
    refused = {OTHER}

    def read(name: str) -> tuple[RunRecord, Sequence[Assessment]]:
        if name in refused:
            raise RetryLater("can't read (Input/output error)")
        return records.read(name)

    recorder = Recorder(records.database, read, [SLACK], lambda: 1000.0, 3600.0)
    recorder.note(Changes(appeared=[NAME, OTHER]))
    for _ in range(2):
        recorder.catch_up()
        assert recorder.catalog.names() == {NAME}
    assert [record.message for record in caplog.records].count("run_unreadable") == 1

    refused.clear()
    recorder.catch_up()

    assert recorder.catalog.names() == {NAME, OTHER}
    assert records.owed() == ["slack", "slack"]


def test_run_is_logged_as_archived_once_however_it_comes_to_be_recorded(
    records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    """Published just now, or found after a failure between its rename and its record; another's never."""
    caplog.set_level("INFO")
    recorder = records.recorder(SLACK)
    recorder.note(Changes(), [records.run()])
    recorder.record()
    records.run(OTHER)
    records.run(f"{OTHER}_2", foreign=True)
    for _ in range(2):
        recorder.note(Changes(appeared=[OTHER, f"{OTHER}_2"]))
        recorder.record()

    archived = [vars(record)["run"] for record in caplog.records if record.message == "run_archived"]
    assert archived == [NAME, OTHER]


def test_run_that_a_busy_state_refused_is_recorded_by_the_next_try(records: Records) -> None:
    """A pause, and nothing lost: runs of every kind, those that vanished, and their messages once."""
    recorder = records.recorder(SLACK)
    recorder.note(Changes(), [records.run(OTHER)])
    recorder.record()
    recorder.note(Changes(appeared=[f"{NAME}_2"], vanished=[OTHER]), [records.run()])
    records.run(f"{NAME}_2")
    with closing(records.busy()), pytest.raises(RetryLater):
        recorder.record([FILE])
    assert not recorder.ledger.is_dealt_with(FILE.path, FILE.fingerprint)
    assert recorder.catalog.names() == {OTHER}

    assert recorder.record() == 2
    assert recorder.record() == 0

    assert recorder.catalog.names() == {NAME, f"{NAME}_2"}
    assert len(records.owed()) == 3


def test_run_expected_again_is_owed_once(records: Records) -> None:
    """However often it is noticed, also by a destination that came later."""
    for routes in ((SLACK,), (SLACK,), (SLACK, MAIL)):
        recorder = records.recorder(*routes)
        recorder.note(Changes(appeared=[NAME]), [records.run()])
        recorder.record()

    assert records.owed() == ["slack"]


def test_run_that_a_question_came_upon_is_owed_by_the_daemon(records: Records) -> None:
    """Who only asks records the run and decides nothing; the daemon's next transaction owes it."""
    records.run()
    asking = records.recorder(asks=True)
    asking.note(Changes(appeared=[NAME]))
    assert asking.record() == 0

    assert records.recorder(SLACK).record() == 1

    assert records.owed() == ["slack"]


def test_run_that_the_python_api_archived_itself_is_owed_to_nobody(records: Records) -> None:
    """It carries another owner than the daemon's: its caller knows of it."""
    asking = records.recorder(asks=True)
    asking.note(Changes(), [records.run(foreign=True)])
    asking.record()

    assert records.recorder(SLACK).record() == 0

    assert records.owed() == []


def test_run_that_can_not_be_read_does_not_hold_up_the_others(records: Records) -> None:
    """One damaged document costs its own row, and is not asked for again and again."""
    recorder = records.recorder(SLACK)
    records.run(OTHER)

    recorder.note(Changes(appeared=[NAME, OTHER]))
    recorder.record()

    assert recorder.catalog.names() == {OTHER}


def test_run_that_vanished_and_appeared_is_there(records: Records) -> None:
    """Moved away and back: the last state counts."""
    recorder = records.recorder()
    recorder.note(Changes(), [records.run()])
    recorder.record()

    recorder.note(Changes(vanished=[NAME]))
    recorder.note(Changes(appeared=[NAME]))
    recorder.record()

    assert recorder.catalog.names() == {NAME}


def test_run_that_vanished_before_it_was_recorded_is_not_there(records: Records) -> None:
    """It was published, the state file was busy, and a person deleted the run meanwhile."""
    recorder = records.recorder()
    recorder.note(Changes(), [records.run()])

    recorder.note(Changes(vanished=[NAME]))
    recorder.record()

    assert recorder.catalog.names() == set()


def test_rejected_bytes_are_owed_once_with_their_file(records: Records) -> None:
    """The first time they are found; every path of theirs is dealt with."""
    recorder = records.recorder(Route("slack", frozenset({"REJECTED"})))
    other = FILE._replace(path="/out/copy.json", run=None, reason="no models")

    assert recorder.reject("0123456789abcdef", "2024-12-24T15:30:00Z", FILE.path, "no models", "text", [FILE])
    assert not recorder.reject("0123456789abcdef", "2024-12-25T15:30:00Z", other.path, "no models", "text", [other])

    assert records.owed() == ["slack"]
    assert recorder.ledger.is_dealt_with(FILE.path, FILE.fingerprint)
    assert recorder.ledger.is_dealt_with(other.path, other.fingerprint)


def test_rejected_bytes_that_a_busy_state_refused_are_new_next_time(records: Records) -> None:
    """No message is lost to a pause."""
    recorder = records.recorder(Route("slack", frozenset({"REJECTED"})))
    arguments = ("0123456789abcdef", "2024-12-24T15:30:00Z", FILE.path, "no models", "text", [FILE])
    with closing(records.busy()), pytest.raises(RetryLater):
        recorder.reject(*arguments)
    assert not recorder.ledger.is_dealt_with(FILE.path, FILE.fingerprint)

    assert recorder.reject(*arguments)

    assert records.owed() == ["slack"]


def test_transaction_with_nothing_to_record_is_none(records: Records) -> None:
    """A batch of unfinished files waits for nobody who holds the state file."""
    recorder = records.recorder(SLACK)

    with closing(records.busy()):
        assert recorder.record() == 0


def test_run_in_which_nothing_changed_is_not_owed_to_who_asked_for_changes(records: Records) -> None:
    """Decided when it is recorded, also by symbol; the first run of a symbol is no change."""
    asked = frozenset({"CHANGED"})
    recorder = records.recorder(Route("all", asked), Route("msft", asked, ("MSFT",)), Route("aapl", asked, ("AAPL",)))
    for name, models in (
        ("20241201_000000", {"AAPL": GOOD, "MSFT": GOOD}),
        ("20241202_000000", {"AAPL": GOOD, "MSFT": GOOD}),
        ("20241203_000000", {"AAPL": GOOD, "MSFT": BAD}),
    ):
        run, assessments = judged_run(flat_summary(models), timestamp=name)
        records.archive[name] = run._replace(daemon_id=records.database.daemon_id, sha256=name * 4), assessments
        recorder.note(Changes([name], []))
        recorder.record()
        if name != "20241203_000000":
            assert records.owed() == []
    assert records.owed() == ["all", "msft"]


def test_nobody_who_asks_for_changes_costs_no_look_for_them(records: Records) -> None:
    """A burst of thousands is recorded as fast as before."""
    statements: list[str] = []
    records.run()
    recorder = records.recorder(SLACK)
    recorder.note(Changes([NAME], []))
    records.database.connection.set_trace_callback(statements.append)
    recorder.record()
    assert records.owed() == ["slack"]
    assert not [each for each in statements if "spans" in each]
