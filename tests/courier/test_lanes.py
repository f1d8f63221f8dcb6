"""Each destination has a lane: what one does to us, no other notices; a fallback stands in, a mute only delays."""

import re
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from modelwarden.archive.outcomes import Archived
from modelwarden.archive.publishing import Archive
from modelwarden.config import load_settings
from modelwarden.courier.delivery import Courier
from modelwarden.courier.pacing import GATHER_QUIET
from modelwarden.gate.policy import Policy
from modelwarden.pipeline.policies import Policies
from modelwarden.pipeline.walk import Found, Pipeline
from modelwarden.sinks.chat.destinations import Destination
from modelwarden.sinks.chat.sink import chat_sinks
from modelwarden.sinks.protocol import PerhapsDelivered
from modelwarden.state.database import Database
from modelwarden.state.messages import Event, Kind, Noticed, Route
from modelwarden.state.outbox import Outbox
from processes import outbox_of, until
from servers import Answer, HttpServer, http_server
from summaries import BAD, GOOD, encoded, flat_summary

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # Apprise's import

ALL = ("APPROVED", "REVIEW", "DROP", "REJECTED", "PROBLEM")
NEWS = ("APPROVED", "REVIEW", "DROP", "REJECTED")
"""All but what is told of a destination that fails."""

HOUR = 3600.0


class Office:
    """An archive with routes, and a courier on a clock that tests turn."""

    def __init__(self, folder: Path, stack: ExitStack, *routes: Route) -> None:
        self.state = folder / "state"
        self.now = 1_750_000_000.0  # after all runs of these tests
        self.stack = stack
        database = stack.enter_context(closing(Database(str(self.state), "2024-01-01T00:00:00Z")))
        archive = stack.enter_context(closing(Archive(str(folder / "archive"), database.daemon_id)))
        self.pipeline = Pipeline(
            archive,
            database,
            Policies(Policy.from_config()),
            routes,
            owner=database.daemon_id,
            host="trainer-7",
            clock=lambda: self.now,
            deadline_seconds=48 * HOUR,
        )
        stack.callback(self.pipeline.close)
        self.pipeline.upkeep.recover()
        self.outbox = Outbox(database)

    def archive(self, **fields: Any) -> None:
        """Archive a summary."""
        (outcome,) = self.pipeline.process([Found("", encoded(flat_summary(**fields)), None)])
        assert isinstance(outcome, Archived)

    def courier(self, *destinations: Destination, timeout: float = 10.0, gathers: bool = False) -> Courier:
        """A courier as it starts."""
        database = self.stack.enter_context(closing(Database(str(self.state), "2024-01-01T00:00:00Z")))
        courier = Courier(
            database,
            chat_sinks(destinations, database, lambda run: f"/archive/{run}", digest_above=5),
            send_timeout=timeout,
            gathers=gathers,
            clock=lambda: self.now,
            pace_clock=lambda: self.now,
        )
        courier.recover()
        return courier

    def standing(self) -> list[tuple[str, str]]:
        """Destination and status of every row."""
        return [(row["destination"], row["status"]) for row in outbox_of(self.state)]


@pytest.fixture
def server(stack: ExitStack) -> HttpServer:
    """A server that takes everything."""
    return stack.enter_context(http_server())


@pytest.fixture
def broken(stack: ExitStack) -> HttpServer:
    """A server that refuses everything."""
    broken = stack.enter_context(http_server())
    broken.answer = 500
    return broken


@pytest.mark.parametrize("fault", [Answer.HANG, Answer.TRICKLE])
def test_destination_that_hangs_holds_up_no_other(
    tmp_path: Path, stack: ExitStack, server: HttpServer, broken: HttpServer, fault: Answer
) -> None:
    """The healthy one is served while the other's send is still under way."""
    office = Office(tmp_path, stack, Route("hung", frozenset(ALL)), Route("healthy", frozenset(ALL)))
    office.archive()
    broken.answer = fault
    courier = office.courier(
        Destination("hung", broken.url(), ALL), Destination("healthy", server.url(), ALL), timeout=20
    )

    until(lambda: courier.step() or server.accepted, "the healthy destination's message")

    assert courier.is_sending(), "the other send has not ended"
    assert ("hung", "sending") in office.standing()
    broken.released.set()
    until(lambda: courier.step() * 0 or not courier.is_sending(), "the send to end")


def test_destinations_that_hang_hold_up_no_other_however_many(
    tmp_path: Path, stack: ExitStack, server: HttpServer, broken: HttpServer
) -> None:
    """More of them than the library would send to at once: no send waits for another's end."""
    names = [f"hung {number}" for number in range(40)]
    office = Office(tmp_path, stack, *(Route(name, frozenset(ALL)) for name in (*names, "healthy")))
    office.archive()
    broken.answer = Answer.HANG
    hung = [Destination(name, broken.url(), ALL) for name in names]
    courier = office.courier(*hung, Destination("healthy", server.url(), ALL), timeout=20)

    until(lambda: courier.step() * 0 or server.accepted, "the healthy destination's message")

    broken.released.set()
    until(lambda: courier.step() * 0 or not courier.is_sending(), "the sends to end")
    assert ("healthy", "delivered") in office.standing()


def test_send_that_never_comes_back_is_given_up_and_ends_the_courier(
    tmp_path: Path, stack: ExitStack, server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that ignores its own timeout is out-waited; the row is owed again, as a possible repeat."""
    office = Office(tmp_path, stack, Route("team", frozenset(ALL)))
    office.archive()
    destination = Destination("team", server.url(), ALL)
    released = threading.Event()
    monkeypatch.setattr(destination, "send", lambda *_: released.wait())
    monkeypatch.setattr("modelwarden.courier.delivery.OVERTIME", 0.0)
    courier = office.courier(destination, timeout=0.2)

    until(lambda: courier.step() * 0 or courier.hung, "the courier to see that it hangs")

    assert not courier.is_sending()
    (row,) = outbox_of(office.state)
    assert (row["status"], row["repeated"]) == ("pending", 1)
    released.set()


def test_destination_that_hung_is_tried_ever_more_rarely(
    tmp_path: Path, stack: ExitStack, broken: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each hung send costs a courier its life; the pauses grow all the same, from one courier to the next."""
    monkeypatch.setattr("modelwarden.courier.pacing.random.uniform", lambda _low, high: high)
    office = Office(tmp_path, stack, Route("hung", frozenset(ALL)))
    office.archive()
    broken.answer = Answer.HANG
    pauses = []
    for _ in range(4):
        courier = office.courier(Destination("hung", broken.url(), ALL), timeout=0.1)
        courier.deliver_due()
        assert courier.hung
        (row,) = outbox_of(office.state)
        pauses.append(row["next_at"] - office.now)
        office.now = row["next_at"]

    assert pauses == [5, 10, 20, 40]


def test_courier_with_a_hung_send_serves_the_others_under_way(
    tmp_path: Path, stack: ExitStack, server: HttpServer, broken: HttpServer
) -> None:
    """It ends itself only when nothing is: until then nobody waits for that, and the hung one is not tried again."""
    names = ("hung", "slow", "healthy")
    office = Office(tmp_path, stack, *(Route(name, frozenset(ALL)) for name in names))
    office.archive()
    broken.answer = Answer.TRICKLE
    slow = stack.enter_context(http_server())
    slow.answer = Answer.HANG
    hung, *others = (
        Destination(name, server.url(), ALL) for name, server in zip(names, (broken, slow, server), strict=True)
    )
    courier = office.courier(hung, *others, timeout=20)
    no_answer = PerhapsDelivered("no answer", is_hung=True)
    courier._lanes["hung"].sink.prepare = lambda *_: lambda _: no_answer  # type: ignore[method-assign]
    until(
        lambda: courier.step() * 0 or (courier.hung and ("healthy", "delivered") in office.standing()),
        "a send to hang, and the first message to be delivered",  # taken is not enough: an hour later it is a hung one
    )

    office.now += HOUR
    office.archive(run=2, timestamp="20250102_000000")
    until(lambda: courier.step() * 0 or len(server.accepted) == 2, "the next message of the healthy one")

    assert courier.is_sending(), "the slow one has not ended"
    assert courier.hung
    assert ("hung", "sending") not in office.standing()
    slow.released.set()
    until(lambda: courier.step() * 0 or not courier.is_sending(), "the send to end")


def test_library_that_raises_is_a_send_that_failed(
    tmp_path: Path, stack: ExitStack, server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its text is redacted like any other error."""
    office = Office(tmp_path, stack, Route("team", frozenset(ALL)))
    office.archive()
    destination = Destination("team", server.url("t0p-s3cret-path"), ALL)

    def fail(*_: object) -> None:
        raise ValueError("bad t0p-s3cret-path")

    monkeypatch.setattr(destination, "send", fail)
    office.courier(destination).deliver_due()

    (row,) = outbox_of(office.state)
    assert (row["status"], row["last_error"]) == ("pending", "ValueError: bad ***")


def test_secret_of_one_destination_is_hidden_in_the_errors_of_another(server: HttpServer) -> None:
    """A library's log lines know no bounds: what one lane says may be caught by another."""
    server.answer = 404
    first = Destination("first", server.url("f1rst-s3cret"), ALL)
    second = Destination("second", server.url("s3cond-s3cret"), ALL, redactor=first.redact)

    assert first.redact("f1rst-s3cret and s3cond-s3cret") == "*** and ***"
    assert second.redact is first.redact


def test_fallback_stands_in_when_the_first_has_failed_for_long_enough(
    tmp_path: Path, stack: ExitStack, server: HttpServer, broken: HttpServer
) -> None:
    """Not before, once, with what the first would have said, although the fallback itself asked for nothing of it."""
    office = Office(tmp_path, stack, Route("team", frozenset({"APPROVED"})), Route("mail", frozenset({"REJECTED"})))
    office.archive()
    team = Destination("team", broken.url(), ("APPROVED",), fallback="mail", fallback_after=HOUR)
    courier = office.courier(team, Destination("mail", server.url(), ("REJECTED",)))

    courier.deliver_due()
    assert office.standing() == [("team", "pending")]
    assert server.accepted == []

    office.now += HOUR
    courier.deliver_due()
    courier.deliver_due()

    assert office.standing() == [("team", "pending"), ("mail", "delivered")]
    (message,) = server.accepted
    assert "GOOD" in message.text
    office.now += HOUR
    courier.deliver_due()
    assert len(server.accepted) == 1


def test_fallback_stands_in_for_a_message_that_died(
    tmp_path: Path, stack: ExitStack, server: HttpServer, broken: HttpServer
) -> None:
    """Given up by one, it is not lost."""
    office = Office(tmp_path, stack, Route("team", frozenset(ALL)))
    office.archive()
    team = Destination("team", broken.url(), ALL, fallback="mail", fallback_after=1000 * HOUR)
    courier = office.courier(team, Destination("mail", server.url(), NEWS))
    office.now += 49 * HOUR

    courier.deliver_due()
    courier.deliver_due()

    assert office.standing() == [("team", "dead"), ("mail", "delivered")]


def test_fallback_that_had_the_run_itself_delivers_for_another(
    tmp_path: Path, stack: ExitStack, server: HttpServer, broken: HttpServer
) -> None:
    """In a message of its own, which says for whom, and names what that one asked for and nothing else."""
    desk = Route("desk", frozenset({"DROP"}), ("BTC*",))
    office = Office(tmp_path, stack, Route("team", frozenset({"APPROVED", "DROP"})), desk)
    many = {f"AAA{number:02d}": BAD for number in range(30)}
    office.archive(models=many | {"BTCUSD": BAD})
    courier = office.courier(
        Destination("team", server.url(), ("APPROVED", "DROP")),
        Destination("desk", broken.url(), ("DROP",), ("BTC*",), fallback="team", fallback_after=HOUR),
    )
    courier.deliver_due()
    (own,) = server.accepted
    assert "BTCUSD" not in own.text, "thirty others stand before it"

    office.now += HOUR
    courier.deliver_due()
    courier.deliver_due()

    (_, stand_in) = server.accepted
    assert stand_in.title == "APPROVED 0 · REVIEW 0 · DROP 1: run 20241224_153000 (trainer-7), for desk"
    first, _, heading, model, *_ = stand_in.text.splitlines()
    assert first == "for desk, which can't be reached"
    assert heading == "DROP (1)"
    assert model.startswith("- BTCUSD: ")
    assert "AAA" not in stand_in.text


def test_alert_of_the_readme_s_risk_desk_arrives_by_its_fallback(
    tmp_path: Path, stack: ExitStack, server: HttpServer, broken: HttpServer
) -> None:
    """The example as it is printed, but for where it sends to: what the desk asked for reaches the team by name."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```toml\n([^`]*fallback[^`]*)^```$", readme, re.MULTILINE)
    (tmp_path / "config.toml").write_text(example)
    settings, _ = load_settings(str(tmp_path / "config.toml"))
    tables = settings.notify.destination
    office = Office(tmp_path, stack, *(Route(each.name, frozenset(each.on), each.symbols) for each in tables))
    office.archive(models={f"AAPL{number}": BAD for number in range(30)} | {"ETHUSD": BAD, "BTCUSD": GOOD})
    courier = office.courier(
        *(
            Destination(
                each.name,
                (broken if each.fallback else server).url(),
                each.on,
                each.symbols,
                each.fallback or "",
                each.fallback_after,
            )
            for each in tables
        )
    )
    courier.deliver_due()
    assert "ETHUSD" not in server.accepted[0].text
    office.now += 2 * HOUR
    courier.deliver_due()
    courier.deliver_due()

    (_, alert) = (posted for posted in server.accepted if not posted.title.startswith("PROBLEM"))
    assert alert.title.endswith(", for risk desk")
    assert alert.text.startswith("for risk desk, which can't be reached\n\nDROP (1)\n- ETHUSD: ")


def test_fallback_of_two_stands_in_for_each_of_them(
    tmp_path: Path, stack: ExitStack, server: HttpServer, broken: HttpServer
) -> None:
    """Two messages, each for one of them: also where many are bundled, no message mixes them or the fallback's own."""
    routes = [Route("a", frozenset({"DROP"})), Route("b", frozenset({"APPROVED"})), Route("team", frozenset(NEWS))]
    office = Office(tmp_path, stack, *routes)
    for run in range(7):
        office.archive(run=run, timestamp=f"2025010{run + 1}_000000")
    courier = office.courier(
        Destination("a", broken.url(), ("DROP",), fallback="team", fallback_after=HOUR),
        Destination("b", broken.url(), ("APPROVED",), fallback="team", fallback_after=HOUR),
        Destination("team", server.url(), NEWS),
    )
    office.outbox.mute("team", office.now + 2 * HOUR)
    office.now += HOUR
    courier.deliver_due()
    office.now += 2 * HOUR
    for _ in range(5):
        courier.deliver_due()
        office.now += 1

    texts = {posted.title.partition(": ")[2]: posted.text for posted in server.accepted}
    assert len(server.accepted) == 3
    own, for_a, for_b = (texts[f"7 runs (trainer-7){whom}"] for whom in ("", ", for a", ", for b"))
    assert "can't be reached" not in own
    assert "APPROVED (7)" in for_b
    assert "APPROVED (7)" not in for_a
    assert "DROP (7)" in for_a


def test_fallback_of_a_fallback_says_for_whom_it_was_first(
    tmp_path: Path, stack: ExitStack, server: HttpServer, broken: HttpServer
) -> None:
    """Along the chain, over a restart; what each owed of its own is a message of its own; nothing comes back."""
    office = Office(tmp_path, stack, Route("a", frozenset({"DROP"})), Route("b", frozenset({"APPROVED"})))
    office.archive()
    lanes = (
        Destination("a", broken.url(), ("DROP",), fallback="b", fallback_after=HOUR),
        Destination("b", broken.url(), ("APPROVED",), fallback="c", fallback_after=HOUR),
        Destination("c", server.url(), ("REJECTED",), fallback="a", fallback_after=HOUR),
    )
    for _ in range(6):
        office.now += HOUR
        courier = office.courier(*lanes)  # a new one each time
        courier.deliver_due()
        courier.deliver_due()

    assert sorted(posted.title.partition(", ")[2] for posted in server.accepted) == ["for a", "for b"]
    assert {"GOOD" in posted.text: posted.text.splitlines()[0] for posted in server.accepted} == {
        False: "for a, which can't be reached",
        True: "for b, which can't be reached",
    }
    owed = sorted((row["destination"], row["stands_for"], row["status"]) for row in outbox_of(office.state))
    assert owed == [
        ("a", "", "pending"),
        ("b", "", "pending"),
        ("b", "a", "pending"),
        ("c", "a", "delivered"),
        ("c", "b", "delivered"),
    ]


def test_fallback_stands_in_for_what_waits_behind_a_message_that_fails(
    tmp_path: Path, stack: ExitStack, server: HttpServer, broken: HttpServer
) -> None:
    """The oldest is tried again and again; the others waited as long, and would fail alike."""
    office = Office(tmp_path, stack, Route("team", frozenset(ALL)))
    for run in range(3):
        office.archive(run=run, timestamp=f"2025010{run + 1}_000000")
    team = Destination("team", broken.url(), ALL, fallback="mail", fallback_after=HOUR)
    courier = office.courier(team, Destination("mail", server.url(), NEWS))
    office.now += HOUR
    courier.deliver_due()
    courier.deliver_due()

    assert sorted(posted.title.split()[-4] for posted in server.accepted) == [
        f"2025010{run}_000000" for run in (1, 2, 3)
    ]


def test_destination_that_recovers_delivers_what_the_fallback_did(
    tmp_path: Path, stack: ExitStack, server: HttpServer, broken: HttpServer
) -> None:
    """At least once: who stood in cannot unsay it and says it no second time, and the first one is owed it still."""
    office = Office(tmp_path, stack, Route("team", frozenset(ALL)))
    office.archive()
    team = Destination("team", broken.url(), ALL, fallback="mail", fallback_after=HOUR)
    courier = office.courier(team, Destination("mail", server.url(), NEWS))
    for _ in range(3):
        office.now += HOUR
        courier.deliver_due()
    broken.answer = 200
    office.now += HOUR
    courier.deliver_due()
    courier.deliver_due()

    assert office.standing() == [("team", "delivered"), ("mail", "delivered")]
    assert len(server.accepted) == len(broken.accepted) == 1


def test_retry_by_hand_is_tried_at_once_and_once(tmp_path: Path, stack: ExitStack, broken: HttpServer) -> None:
    """Told by the state file, from another process; the others stay in peace, no pause of theirs ends or grows."""
    office = Office(tmp_path, stack, Route("team", frozenset(ALL)))
    for run in range(3):
        office.archive(run=run, timestamp=f"2025010{run + 1}_000000")
    courier = office.courier(Destination("team", broken.url(), ALL))
    courier.deliver_due()
    office.now += 5
    until(lambda: courier.deliver_due() * 0 or len(broken.requests) == 2, "the second try")
    office.now = outbox_of(office.state)[0]["next_at"] - 0.001
    courier.deliver_due()
    assert len(broken.requests) == 2, "the destination is left in peace"

    assert office.outbox.retry([3], office.now, 48 * HOUR) == 1
    for _ in range(5):
        courier.deliver_due()

    assert len(broken.requests) == 3
    assert "20250103" in broken.requests[-1].title
    rows = outbox_of(office.state)
    assert [row["attempts"] for row in rows] == [2, 0, 1]
    assert rows[2]["next_at"] == pytest.approx(rows[0]["next_at"])

    broken.answer = 200
    office.outbox.retry([3], office.now, 48 * HOUR)
    office.now += 1  # by now everything may be tried
    for _ in range(5):
        courier.deliver_due()
        office.now += 1
    assert {status for _, status in office.standing()} == {"delivered"}


def test_many_retried_by_hand_keep_the_pace_of_their_destination(
    tmp_path: Path, stack: ExitStack, broken: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three at once, then one a second, as ever."""
    monkeypatch.setattr("modelwarden.courier.pacing.random.uniform", lambda _low, high: high)
    office = Office(tmp_path, stack, Route("team", frozenset(ALL)))
    for run in range(5):
        office.archive(run=run, timestamp=f"2025010{run + 1}_000000")
    courier = office.courier(Destination("team", broken.url(), ALL))
    courier.deliver_due()
    office.outbox.retry([1, 2, 3, 4, 5], office.now, 48 * HOUR)
    for _ in range(5):
        courier.deliver_due()
    assert len(broken.requests) == 3
    office.now += 1
    for _ in range(5):
        courier.deliver_due()
    assert len(broken.requests) == 4


def test_mute_is_stronger_than_a_retry(tmp_path: Path, stack: ExitStack, server: HttpServer) -> None:
    """Who asked for peace has it."""
    office = Office(tmp_path, stack, Route("team", frozenset(ALL)))
    office.archive()
    office.outbox.mute("team", office.now + HOUR)
    office.outbox.retry([1], office.now, 48 * HOUR)
    courier = office.courier(Destination("team", server.url(), ALL))
    courier.deliver_due()
    assert server.requests == []


def problems_told(server: HttpServer) -> list[str]:
    """What a server was told of troubles, without the time and the host."""
    titles = [posted.title for posted in server.accepted if posted.title.startswith("PROBLEM")]
    return [title.partition(": ")[2].partition(" since")[0].partition(" (")[0] for title in titles]


def test_destination_that_fails_for_long_is_told_to_the_others_once(
    tmp_path: Path, stack: ExitStack, server: HttpServer, broken: HttpServer
) -> None:
    """After `fallback_after`, over restarts; its end once; never to itself, nor to who asked for no problems."""
    routes = [Route("desk", frozenset(ALL)), Route("team", frozenset(ALL)), Route("quiet", frozenset({"DROP"}))]
    office = Office(tmp_path, stack, *routes)
    quiet = stack.enter_context(http_server())
    lanes = (
        Destination("desk", broken.url(), ALL, fallback_after=HOUR),
        Destination("team", server.url(), ALL, fallback_after=HOUR),
        Destination("quiet", quiet.url(), ("DROP",), fallback_after=HOUR),
    )
    office.archive()
    office.courier(*lanes).deliver_due()
    assert problems_told(server) == []
    for _ in range(4):
        office.now += HOUR
        courier = office.courier(*lanes)
        courier.deliver_due()
        courier.deliver_due()
    assert problems_told(server) == ["desk can't be reached"]
    (problem,) = (posted for posted in server.accepted if posted.title.startswith("PROBLEM"))
    assert "500" in problem.text
    assert "modelwarden outbox" in problem.text

    broken.answer = 200
    for _ in range(3):
        office.now += HOUR
        courier = office.courier(*lanes)
        courier.deliver_due()
        courier.deliver_due()

    assert problems_told(server) == ["desk can't be reached", "desk is reached again"]
    assert problems_told(broken) == problems_told(quiet) == []


def test_destination_that_gave_a_message_up_is_a_problem_at_once(
    tmp_path: Path, stack: ExitStack, server: HttpServer, broken: HttpServer
) -> None:
    """Also where it may fail for longer than that."""
    office = Office(tmp_path, stack, Route("desk", frozenset({"DROP"})))
    office.archive()
    office.now += 49 * HOUR
    courier = office.courier(
        Destination("desk", broken.url(), ("DROP",), fallback_after=1000 * HOUR),
        Destination("team", server.url(), ("PROBLEM",), fallback_after=HOUR),
    )
    courier.deliver_due()
    courier.deliver_due()
    assert ("desk", "dead") in office.standing()
    (problem,) = server.accepted
    assert "given up" in problem.text


def test_destinations_that_all_failed_and_recover_hear_little(
    tmp_path: Path, stack: ExitStack, broken: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that was away: what was not told yet when it was over is not told at all; nobody hears of itself."""
    monkeypatch.setattr("modelwarden.courier.pacing.random.uniform", lambda _low, high: high)
    names = [f"d{number}" for number in range(10)]
    office = Office(tmp_path, stack, *(Route(name, frozenset(ALL)) for name in names))
    office.archive()
    fallbacks = [*names[1:], ""]
    courier = office.courier(
        *(
            Destination(name, broken.url(name), ALL, fallback=fallback, fallback_after=3 * HOUR)
            for name, fallback in zip(names, fallbacks, strict=True)
        )
    )
    for _ in range(8):
        office.now += HOUR
        courier.deliver_due()
    assert {row["status"] for row in outbox_of(office.state)} == {"pending"}
    broken.answer = 200
    for _ in range(60):
        office.now += 1 if broken.accepted else HOUR
        courier.deliver_due()

    assert {row["status"] for row in outbox_of(office.state)} == {"delivered", "suppressed"}
    for row in outbox_of(office.state):
        assert row["kind"] != "PROBLEM" or f":{row['destination']}:" not in row["event"]
    told = [posted for posted in broken.accepted if posted.title.partition("PROBLEM: ")[1]]
    assert len(told) <= 3 * len(names)


def test_what_was_delivered_long_ago_is_forgotten_a_few_at_a_time(
    tmp_path: Path, stack: ExitStack, server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the courier, beside its work."""
    monkeypatch.setattr("modelwarden.state.outbox.FORGOTTEN_AT_ONCE", 2)
    monkeypatch.setattr("modelwarden.courier.delivery.FORGOTTEN_AT_ONCE", 2)
    office = Office(tmp_path, stack, Route("team", frozenset(ALL)))
    for run in range(5):
        office.archive(run=run, timestamp=f"2025010{run + 1}_000000")
    courier = office.courier(Destination("team", server.url(), ALL))
    for _ in range(5):
        courier.deliver_due()
        office.now += 1
    office.now += 89 * 24 * HOUR
    courier.step()
    assert len(outbox_of(office.state)) == 5
    office.now += 2 * 24 * HOUR
    left = []
    for _ in range(4):
        courier.step()
        left.append(len(outbox_of(office.state)))
    assert left == [3, 1, 0, 0]


def test_stop_between_two_lanes_begins_nothing_more(tmp_path: Path, stack: ExitStack, server: HttpServer) -> None:
    """However many destinations are owed something."""
    names = [f"d{number}" for number in range(20)]
    office = Office(tmp_path, stack, *(Route(name, frozenset(ALL)) for name in names))
    office.archive()
    courier = office.courier(*(Destination(name, server.url(), ALL) for name in names))
    courier.step(lambda: True)
    assert not courier.is_sending()
    asked = iter([False, False, False])
    courier.step(lambda: next(asked, True))
    until(lambda: courier._record_ended() * 0 or not courier.is_sending(), "the sends to end")
    assert len(server.accepted) == 3


def test_muted_destination_is_sent_all_of_it_afterwards(tmp_path: Path, stack: ExitStack, server: HttpServer) -> None:
    """A mute delays and never drops, however long it lasts."""
    office = Office(tmp_path, stack, Route("team", frozenset(ALL)))
    office.archive()
    office.outbox.mute("team", office.now + 100 * HOUR)
    courier = office.courier(Destination("team", server.url(), ALL))

    assert courier.deliver_due() == 0
    office.now += 99 * HOUR
    assert courier.deliver_due() == 0

    office.now += 2 * HOUR
    server.answer = 500
    courier.deliver_due()
    assert office.standing() == [("team", "pending")], "the first try after a long mute must not be the last"
    server.answer = 200
    office.now += HOUR
    assert courier.deliver_due() == 1


def test_mute_of_one_leaves_the_others_alone(tmp_path: Path, stack: ExitStack, server: HttpServer) -> None:
    """It has a name."""
    office = Office(tmp_path, stack, Route("a", frozenset(ALL)), Route("b", frozenset(ALL)))
    office.archive()
    office.outbox.mute("a", office.now + HOUR)

    office.courier(*(Destination(name, server.url(name), ALL) for name in "ab")).deliver_due()

    assert office.standing() == [("a", "pending"), ("b", "delivered")]


def test_destination_hears_only_of_the_symbols_that_it_asked_for(
    tmp_path: Path, stack: ExitStack, server: HttpServer
) -> None:
    """Rows and texts alike: what others hear of is not even counted."""
    office = Office(
        tmp_path,
        stack,
        Route("btc", frozenset({"APPROVED"}), ("BTC*",)),
        Route("eth", frozenset({"APPROVED"}), ("ETH*",)),
    )
    data = encoded(flat_summary({"BTCUSD": GOOD, "ETHUSD": BAD, "XRPUSD": GOOD}))
    office.pipeline.process([Found("", data, None)])
    assert office.standing() == [("btc", "pending")], "an ETH model that was dropped is no news of APPROVED"

    office.courier(Destination("btc", server.url(), ("APPROVED",), ("BTC*",))).deliver_due()

    (message,) = server.accepted
    assert message.title.startswith("APPROVED 1 · REVIEW 0 · DROP 0")
    assert "BTCUSD" in message.text
    assert "XRPUSD" not in message.text


def test_problem_arrives_with_its_text(tmp_path: Path, stack: ExitStack, server: HttpServer) -> None:
    """Where it was asked for, and nowhere else."""
    office = Office(tmp_path, stack, Route("team", frozenset(ALL)), Route("runs", frozenset({"APPROVED"})))
    office.pipeline.recorder.announce(
        Event("problem:x:1", Kind.PROBLEM, (Kind.PROBLEM,), Noticed("the disk is full\nmake room"))
    )

    office.courier(
        Destination("team", server.url(), ALL), Destination("runs", server.url(), ("APPROVED",))
    ).deliver_due()

    (message,) = server.accepted
    assert message.title.startswith("PROBLEM: the disk is full")
    assert "make room" in message.text


def test_many_that_still_come_are_gathered_into_one_message(
    tmp_path: Path, stack: ExitStack, server: HttpServer
) -> None:
    """Few are told at once, each; more wait until no more come, a minute at most."""
    office = Office(tmp_path, stack, Route("team", frozenset(ALL)))
    courier = office.courier(Destination("team", server.url(), ALL), gathers=True)
    for number in range(30):
        for each in range(6):
            office.archive(run=f"{number}-{each}", timestamp=f"202501{number + 1:02d}_00000{each}")
        office.now += 1
        courier.deliver_due()
    assert server.accepted == []

    office.now += GATHER_QUIET
    courier.deliver_due()
    assert ["180 runs" in message.title for message in server.accepted] == [True]

    office.archive(run="one more", timestamp="20250301_000000")
    courier.deliver_due()
    assert "run 20250301_000000" in server.accepted[-1].title


def test_open_breaker_tries_the_destination_once_a_pause(tmp_path: Path, stack: ExitStack, broken: HttpServer) -> None:
    """New messages wait behind the one that failed; no flood of tries."""
    office = Office(tmp_path, stack, Route("team", frozenset(ALL)))
    courier = office.courier(Destination("team", broken.url(), ALL))
    for run in range(4):
        office.archive(run=run, timestamp=f"2025010{run + 1}_000000")
        courier.deliver_due()

    assert 1 <= len(broken.requests) <= 4
    before = len(broken.requests)
    for _ in range(20):
        courier.deliver_due()
    assert len(broken.requests) <= before + 1


def test_stop_waits_for_no_send_longer_than_it_is_told(tmp_path: Path, stack: ExitStack, broken: HttpServer) -> None:
    """Whatever hangs: the row stands as being sent, and the next courier repeats it."""
    office = Office(tmp_path, stack, Route("team", frozenset(ALL)))
    office.archive()
    broken.answer = Answer.HANG
    courier = office.courier(Destination("team", broken.url(), ALL), timeout=30)
    courier.step()
    began = time.monotonic()

    courier.finish(0.2)

    assert time.monotonic() - began < 20  # far below the send's own time
    assert courier.is_sending()
    assert office.standing() == [("team", "sending")]
