"""The outbox: what is owed is owed once, a send that nobody saw end is repeated as such, and nothing is lost."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path

import pytest

from modelwarden.archive.publishing import Archive
from modelwarden.gate.policy import Policy
from modelwarden.gate.timestamp import run_key
from modelwarden.pipeline.policies import Policies
from modelwarden.pipeline.walk import Found, Pipeline
from modelwarden.state import outbox as outbox_module
from modelwarden.state.cataloguing import WritableCatalog
from modelwarden.state.database import Database
from modelwarden.state.messages import (
    BEGIN,
    DELIVER,
    DROP,
    FIND,
    GIVE_UP,
    LOSE,
    MOVES,
    PUT_OFF,
    RECOVER,
    RETRY,
    WITHDRAW,
    Event,
    Judged,
    Kind,
    Move,
    Noticed,
    Owed,
    Route,
    Status,
)
from modelwarden.state.outbox import NO_RUN, Outbox
from modelwarden.state.rows import model_rows
from summaries import encoded, flat_summary, judged_run

SLACK = Route("slack", frozenset({"APPROVED", "DROP", "REJECTED"}))
MAIL = Route("mail", frozenset({"APPROVED"}))
RUN_NAME = "20241224_153000_2"
RUN = Event("run:0123456789abcdef", Kind.RUN, ("APPROVED", "REVIEW"), Judged(run_key(RUN_NAME)))
REJECTED = Event("rejected:fedcba9876543210", Kind.REJECTED, (Kind.REJECTED,), Noticed("no models"))
NOW, DEADLINE = 1000.0, 2000.0

DYING_COURIER = """
import os, signal, sys
from modelwarden.state.database import Database
from modelwarden.state.outbox import Outbox
outbox = Outbox(Database(sys.argv[1], "2024-12-24T15:30:00Z"))
outbox.sending([row.id for row in outbox.due("slack", 1000.0)])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A new state file."""
    with closing(Database(str(tmp_path), "2024-12-24T15:30:00Z")) as opened:
        catalogue(opened, RUN_NAME)
        yield opened


def catalogue(database: Database, *names: str) -> None:
    """Put runs into the catalog."""
    for name in names:
        run, assessments = judged_run(flat_summary(), timestamp=name)
        with database.transaction():
            WritableCatalog(database).add(run, model_rows(assessments), announced=True)


@pytest.fixture
def outbox(database: Database) -> Outbox:
    """A new outbox."""
    return Outbox(database)


def owe(database: Database, *events: Event, routes: tuple[Route, ...] = (SLACK,), deadline: float = DEADLINE) -> int:
    """Owe events in a transaction; return how many rows that made."""
    with database.transaction():
        return Outbox(database).owe(events, routes, NOW, deadline)


def due(outbox: Outbox, now: float = NOW, *destinations: str) -> list[Owed]:
    """What is due, at every destination unless told otherwise."""
    rows = [row for each in destinations or ("slack", "mail") for row in outbox.due(each, now)]
    return sorted(rows, key=lambda row: row.id)


def ids(rows: list[Owed]) -> list[int]:
    """By which the outbox is told of them."""
    return [row.id for row in rows]


def begun(outbox: Outbox) -> list[int]:
    """Begin to send all that is due."""
    outbox.sending(rows := ids(due(outbox)))
    return rows


def standing(outbox: Outbox) -> dict[str, int]:
    """How many rows stand where, without the zeros."""
    return {status.value: count for status, count in outbox.counts().items() if count}


def test_event_is_owed_to_each_destination_that_asked_for_it(database: Database, outbox: Outbox) -> None:
    """One row an event and destination, and none for who asked for nothing of it."""
    assert owe(database, RUN, REJECTED, routes=(SLACK, MAIL)) == 3

    assert [(row.event, row.destination) for row in due(outbox)] == [
        (RUN.id, "slack"),
        (RUN.id, "mail"),
        (REJECTED.id, "slack"),
    ]


@pytest.mark.parametrize(
    ("on", "topics", "owed"),
    [
        ({"APPROVED"}, ("APPROVED",), 1),
        ({"APPROVED"}, ("REVIEW", "DROP"), 0),
        ({"APPROVED", "DROP"}, ("DROP",), 1),
        ({"APPROVED", "DROP"}, ("APPROVED", "DROP"), 1),
        (set(), ("APPROVED",), 0),
        ({"APPROVED"}, (), 0),
        ({"REJECTED"}, ("APPROVED",), 0),
    ],
)
def test_topics_decide_whether_a_destination_is_owed_an_event(
    database: Database, on: set[str], topics: tuple[str, ...], owed: int
) -> None:
    """A destination is owed what it asked for, once however many of its topics an event has."""
    event = RUN._replace(topics=topics)

    assert owe(database, event, routes=(Route("slack", frozenset(on)),)) == owed


@pytest.mark.parametrize("ending", ["pending", "sending", "delivered", "dead", "suppressed"])
def test_event_noticed_again_is_not_owed_again(database: Database, outbox: Outbox, ending: str) -> None:
    """Wherever its message stands by then, also under another payload or deadline."""
    owe(database, RUN)
    match ending:
        case "sending":
            begun(outbox)
        case "delivered":
            outbox.delivered(begun(outbox), NOW)
        case "dead":
            outbox.failed(begun(outbox), "gone", DEADLINE + 1)
        case "suppressed":
            outbox.drop(ids(due(outbox)), NOW)
        case _:
            assert ending == "pending"

    assert owe(database, RUN, deadline=DEADLINE + 5) == 0

    assert standing(outbox) == {ending: 1}


def test_event_noticed_again_is_owed_to_a_destination_that_is_new(database: Database) -> None:
    """A destination is its configured name: another name is another destination."""
    owe(database, RUN)

    assert owe(database, RUN, routes=(SLACK, MAIL)) == 1


def test_event_of_a_transaction_that_fails_is_not_owed(database: Database, outbox: Outbox) -> None:
    """A message stands or falls with the record of what it is about."""

    def fail() -> None:
        with database.transaction():
            outbox.owe([RUN], [SLACK], NOW, DEADLINE)
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    assert standing(outbox) == {}


def test_owed_message_says_all_that_a_courier_needs(database: Database, outbox: Outbox) -> None:
    """The run or the text; when it came and until when it is tried."""
    owe(database, RUN, REJECTED)

    about_run, about_file = due(outbox)

    assert (about_run.kind, about_run.payload) == (Kind.RUN, Judged(run_key(RUN_NAME)))
    assert (about_file.kind, about_file.payload) == (Kind.REJECTED, Noticed("no models"))
    assert {(row.attempts, row.repeated, row.created_at, row.deadline) for row in (about_run, about_file)} == {
        (0, False, NOW, DEADLINE)
    }


def test_message_whose_run_nobody_knows_is_dead_until_the_run_is_there_again(
    database: Database, outbox: Outbox
) -> None:
    """There is nothing left to say; with the run it can be said, for as long as at first."""
    with database.transaction():
        WritableCatalog(database).remove(RUN_NAME)
    owe(database, RUN, REJECTED)
    assert outbox.lose(ids(due(outbox))) == 1
    assert standing(outbox) == {"dead": 1, "pending": 1}

    catalogue(database, RUN_NAME)
    with database.transaction():
        outbox.revive(RUN.id, run_key(RUN_NAME), NOW + 5000)

    assert standing(outbox) == {"pending": 2}
    (found, _) = due(outbox, NOW + 5000)
    assert found.deadline == NOW + 5000 + DEADLINE - NOW


def make(move: Move, outbox: Outbox, database: Database, row: list[int]) -> None:
    """Do what makes this move."""
    doings: dict[Move, Callable[[], object]] = {
        BEGIN: lambda: outbox.sending(row),
        DELIVER: lambda: outbox.delivered(row, NOW),
        PUT_OFF: lambda: outbox.failed(row, "HTTP 500", NOW + 1),
        GIVE_UP: lambda: outbox.failed(row, "HTTP 404", NOW, is_final=True),
        LOSE: lambda: outbox.lose(row),
        FIND: lambda: outbox.revive(RUN.id, run_key(RUN_NAME), NOW),
        RETRY: lambda: outbox.retry(row, NOW, 60.0),
        DROP: lambda: outbox.drop(row, NOW),
        WITHDRAW: lambda: outbox.withdraw(RUN.id, "over", NOW),
    }
    with database.transaction() if move in {FIND, WITHDRAW} else nullcontext():
        (outbox.recover if move is RECOVER else doings[move])()


@pytest.mark.parametrize("before", Status)
@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.why)
def test_message_makes_the_moves_of_the_table_and_no_other(
    database: Database, outbox: Outbox, move: Move, before: Status
) -> None:
    """From each state each move: where the table has it the message gets there, else it stays."""
    owe(database, RUN)
    with database.transaction() as connection:
        connection.execute("UPDATE outbox SET status = ?, last_error = ?", (before, NO_RUN))
        if move is LOSE:
            connection.execute("DELETE FROM all_runs")

    make(move, outbox, database, [1])

    assert outbox.statuses([1]) == {1: move.after if before in move.before else before}


def test_table_of_moves_is_all_that_changes_a_state() -> None:
    """One statement in the whole product writes where a message stands, but for the one that adds it."""
    product = Path(outbox_module.__file__).parents[1]
    writers = [
        (path.name, line.strip())
        for path in product.rglob("*.py")
        if path.name != "database.py"
        for line in path.read_text("utf-8").splitlines()
        if "SET status" in line
    ]
    assert [name for name, _ in writers] == ["outbox.py"]
    assert {status for move in MOVES for status in (*move.before, move.after)} == set(Status)


@pytest.mark.parametrize(("destination", "count"), [("slack", 2), ("mail", 1), ("other", 0)])
def test_due_are_the_messages_of_the_destination_asked_for(
    database: Database, outbox: Outbox, destination: str, count: int
) -> None:
    """Rows of a destination that is not configured wait, whatever is asked."""
    owe(database, RUN, REJECTED, routes=(SLACK, MAIL))

    assert len(outbox.due(destination, NOW)) == count
    assert standing(outbox) == {"pending": 3}


def test_message_on_its_way_is_not_due(database: Database, outbox: Outbox) -> None:
    """Two couriers, or one that asks twice, never begin the same send."""
    owe(database, RUN)

    begun(outbox)

    assert due(outbox) == []
    assert standing(outbox) == {"sending": 1}


def test_delivered_message_is_never_due_again(database: Database, outbox: Outbox) -> None:
    """Delivered is the end of it."""
    owe(database, RUN)
    outbox.delivered(begun(outbox), NOW)

    assert outbox.recover() == 0
    assert due(outbox, 1e12) == []
    assert standing(outbox) == {"delivered": 1}


def test_failed_message_is_due_when_its_pause_is_over(database: Database, outbox: Outbox) -> None:
    """Not before, and with the attempt counted."""
    owe(database, RUN)
    outbox.failed(begun(outbox), "HTTP 500", NOW + 60)

    assert due(outbox, NOW + 59.9) == []
    assert [(row.attempts, row.repeated) for row in due(outbox, NOW + 60)] == [(1, False)]


@pytest.mark.parametrize(("next_at", "status"), [(DEADLINE, "pending"), (DEADLINE + 0.1, "dead")])
def test_failed_message_is_dead_when_its_next_try_lies_past_its_deadline(
    database: Database, outbox: Outbox, next_at: float, status: str
) -> None:
    """It stays in the table, to be seen and revived; it is not tried for ever."""
    owe(database, RUN)

    outbox.failed(begun(outbox), "HTTP 500", next_at)

    assert standing(outbox) == {status: 1}


def test_messages_that_fail_together_die_each_at_its_own_deadline(database: Database, outbox: Outbox) -> None:
    """One summary stands for several messages, and each keeps its own end."""
    owe(database, RUN, deadline=NOW + 10)
    owe(database, REJECTED, deadline=NOW + 100)

    outbox.failed(begun(outbox), "HTTP 500", NOW + 50)

    assert standing(outbox) == {"dead": 1, "pending": 1}
    assert [row.event for row in due(outbox, NOW + 50)] == [REJECTED.id]


def test_suppressed_message_is_never_due(database: Database, outbox: Outbox) -> None:
    """What need not be sent any more stays as a row and is not sent."""
    owe(database, RUN)

    outbox.drop(ids(due(outbox)), NOW)

    assert due(outbox, 1e12) == []
    assert standing(outbox) == {"suppressed": 1}


def test_send_that_nobody_saw_end_is_due_again_as_a_possible_repeat(tmp_path: Path) -> None:
    """A courier killed after `sending`: the message may be out or not, so it is sent again and says so."""
    with closing(Database(str(tmp_path), "2024-12-24T15:30:00Z")) as database:
        catalogue(database, RUN_NAME)
        owe(database, RUN, routes=(SLACK, MAIL))
    courier = subprocess.run([sys.executable, "-P", "-c", DYING_COURIER, tmp_path], check=False)
    assert courier.returncode == -signal.SIGKILL

    with closing(Database(str(tmp_path), "2024-12-24T15:30:00Z")) as database:
        outbox = Outbox(database)
        assert standing(outbox) == {"sending": 1, "pending": 1}

        assert outbox.recover() == 1
        assert outbox.recover() == 0

        assert [(row.destination, row.repeated, row.attempts) for row in due(outbox)] == [
            ("slack", True, 1),
            ("mail", False, 0),
        ]


def test_possible_repeat_stays_one_however_the_next_tries_end(database: Database, outbox: Outbox) -> None:
    """The doubt does not go away with a failure."""
    owe(database, RUN)
    begun(outbox)
    outbox.recover()

    outbox.failed(begun(outbox), "HTTP 500", NOW + 1)

    assert [(row.repeated, row.attempts) for row in due(outbox, NOW + 1)] == [(True, 2)]


def test_due_messages_come_oldest_first(database: Database, outbox: Outbox) -> None:
    """News in the order in which it happened."""
    names = {number: f"2024122{number}_000000" for number in (5, 3, 9, 1)}
    events = [RUN._replace(id=f"run:{number}", payload=Judged(run_key(name))) for number, name in names.items()]
    catalogue(database, *names.values())
    for event in events:
        owe(database, event)

    assert [row.event for row in due(outbox)] == [event.id for event in events]


def test_counts_have_every_status(outbox: Outbox) -> None:
    """A metric that is zero is there, too."""
    assert outbox.counts() == dict.fromkeys(Status, 0)


def test_forgotten_event_is_never_owed_again(database: Database, outbox: Outbox) -> None:
    """To nobody: not to who had it, nor to who is new; what is still open stays."""
    owe(database, RUN, REJECTED, routes=(SLACK, MAIL))
    outbox.delivered(begun(outbox), NOW)
    owe(database, RUN._replace(id="run:fedcba9876543210"))

    assert outbox.forget(NOW) == 0
    assert outbox.forget(NOW + 1) == 3
    assert outbox.forget(NOW + 1) == 0

    assert owe(database, RUN, REJECTED, routes=(SLACK, MAIL, Route("new", frozenset({"APPROVED"})))) == 0
    assert standing(outbox) == {"pending": 1}


def test_who_stood_in_is_remembered_as_long_as_the_first_one_is_owed_it(database: Database, outbox: Outbox) -> None:
    """Else it would be handed over anew."""
    owe(database, RUN)
    outbox.hand_over("slack", "mail", NOW, DEADLINE, owed_before=NOW)
    (stand_in,) = due(outbox, NOW, "mail")
    outbox.sending([stand_in.id])
    outbox.delivered([stand_in.id], NOW)

    assert outbox.forget(NOW + 1) == 0
    assert outbox.hand_over("slack", "mail", NOW, DEADLINE, owed_before=NOW) == 0

    outbox.delivered(begun(outbox), NOW)
    assert outbox.forget(NOW + 1) == 2


@pytest.mark.parametrize("lost", ["nothing", "catalog", "run", "index"])
def test_run_that_was_announced_and_forgotten_stays_silent(tmp_path: Path, lost: str) -> None:
    """Whatever is made again from the archive: over a start, a rebuild, a lost catalog, a folder that comes back."""
    now = [NOW]

    def host() -> Pipeline:
        database = Database(str(tmp_path / "state"), "2024-12-24T15:30:00Z")
        archive = Archive(str(tmp_path / "archive"), database.daemon_id)
        pipeline = Pipeline(
            archive,
            database,
            Policies(Policy.from_config()),
            [SLACK, MAIL],
            owner=database.daemon_id,
            host="trainer-7",
            clock=lambda: now[0],
            deadline_seconds=1000.0,
        )
        for each in (database.close, archive.close, pipeline.close):
            stack.callback(each)
        pipeline.upkeep.recover()
        return pipeline

    with ExitStack() as stack:
        first = host()
        data = encoded(flat_summary())
        first.process([Found("", data, None), Found("", b"[]", None)], final=True)
        first.recorder.outbox.delivered(begun(first.recorder.outbox), NOW)
        assert first.recorder.outbox.forget(NOW + 1) == 3
        folder = tmp_path / "archive" / "20241224_153000"
        match lost:
            case "catalog":
                with first.recorder.catalog._connection as connection:
                    connection.execute("DELETE FROM all_runs")
                    connection.execute("DELETE FROM assessments")
            case "run":
                folder.rename(tmp_path / "away")
                host()
                (tmp_path / "away").rename(folder)
            case "index":
                (tmp_path / "archive" / "index.json").unlink()
            case _:
                pass
        again = host()
        again.upkeep.rebuild()
        again.process([Found("", data, None), Found("", b"[]", None)], final=True)

        assert len(again.recorder.catalog) == 1
        assert standing(again.recorder.outbox) == {}


@pytest.mark.parametrize(
    ("ask", "plan"),
    [
        (lambda outbox: outbox.due("slack", NOW, 900.0, 6), ["outbox_standing (status=? AND destination=?)"]),
        (
            lambda outbox: outbox.due("slack", NOW, 900.0, 1, newest=True),
            ["outbox_standing (status=? AND destination=?)"],
        ),
        (lambda outbox: outbox.due("slack", NOW, 900.0, 6, hurried=True), ["outbox_hurried (destination=?)"]),
        (lambda outbox: list(outbox.rows(Status.DEAD, 50)), ["outbox_standing (status=?)"]),
        (lambda outbox: outbox.tallies(), ["COVERING INDEX outbox_standing"]),
        (lambda outbox: outbox.forget(NOW), ["outbox_ended (ended_at<?)"]),
        (lambda outbox: outbox.recover(), ["outbox_standing (status=?)"]),
    ],
    ids=["due", "newest", "hurried", "list", "tallies", "forget", "recover"],
)
def test_question_of_a_long_outbox_reads_what_it_needs(
    database: Database, outbox: Outbox, ask: Callable[[Outbox], object], plan: list[str]
) -> None:
    """By an index, and sorted by it: however many rows there are."""
    asked: list[str] = []
    database.connection.set_trace_callback(asked.append)
    ask(outbox)
    database.connection.set_trace_callback(None)
    statement = next(each for each in asked if "outbox" in each)
    details = [row[3] for row in database.connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
    assert any(part in detail for part in plan for detail in details), details
    assert not any("TEMP B-TREE" in detail for detail in details), details
    assert not any(detail.startswith("SCAN outbox") and "INDEX" not in detail for detail in details), details
