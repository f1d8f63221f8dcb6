"""Delivery over real connections: what is owed arrives whole, once where nothing fails, and is never given up early."""

from collections.abc import Iterator, Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import apprise
import pytest

from modelwarden.archive.outcomes import Archived, Rejected
from modelwarden.archive.publishing import Archive
from modelwarden.courier.delivery import Courier
from modelwarden.courier.pacing import pause_after
from modelwarden.gate.policy import Policy
from modelwarden.pipeline.policies import Policies
from modelwarden.pipeline.walk import Found, Pipeline
from modelwarden.sinks.chat.destinations import Destination
from modelwarden.sinks.chat.sink import chat_sinks
from modelwarden.state.database import Database
from modelwarden.state.messages import Route
from modelwarden.state.outbox import Outbox
from processes import outbox_of
from servers import Answer, HttpServer, Posted, http_server, smtp_server, unused_port
from summaries import BAD, GOOD, MIDDLING, encoded, flat_summary

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # Apprise's import

EVERYTHING = ("APPROVED", "REVIEW", "DROP", "REJECTED")
HOUR = 3600.0
SECRET = "s3cr3t-t0ken-of-the-hook"


class Desk:
    """The daemon's side and the courier's side of one state file, on a clock that tests turn.

    Args:
        folder: holds the archive and the state.
        routes: the destinations and what they ask for; None for a command that decides on no messages.
    """

    def __init__(self, folder: Path, routes: dict[str, Sequence[str]] | None) -> None:
        self.state = folder / "state"
        self.now = 1_750_000_000.0  # after all runs of these tests
        self.database = Database(str(self.state), "2024-01-01T00:00:00Z")
        self.archive = Archive(str(folder / "archive"), self.database.daemon_id)
        self.pipeline = Pipeline(
            self.archive,
            self.database,
            Policies(Policy.from_config()),
            None if routes is None else [Route(name, frozenset(on)) for name, on in routes.items()],
            owner=self.database.daemon_id,
            host="trainer-7",
            clock=lambda: self.now,
            deadline_seconds=48 * HOUR,
        )
        self.pipeline.upkeep.recover()
        self._couriers: list[Database] = []

    def archives(self, *summaries: dict[str, Any]) -> list[str]:
        """Archive summaries as one batch; return the runs' names."""
        batch = [Found(f"/out/{position}.json", encoded(each), None) for position, each in enumerate(summaries)]
        names = []
        for outcome in self.pipeline.process(batch):
            assert isinstance(outcome, Archived)
            names.append(outcome.run.timestamp)
        return names

    def rejects(self, data: bytes, path: str = "/out/rejected.json") -> None:
        """Reject bytes that are no summary and stood still for long enough."""
        (outcome,) = self.pipeline.process([Found(path, data, None)], final=True)
        assert isinstance(outcome, Rejected)

    def courier(self, *destinations: Destination, digest_above: int = 5, timeout: float = 10.0) -> Courier:
        """A courier as it starts, with a connection of its own to the state file."""
        database = Database(str(self.state), "2024-01-01T00:00:00Z")
        self._couriers.append(database)
        courier = Courier(
            database,
            chat_sinks(
                destinations,
                database,
                lambda run: f"/archive/{run}/recommendations.md",
                digest_above=digest_above,
            ),
            send_timeout=timeout,
            clock=lambda: self.now,
            pace_clock=lambda: self.now,
        )
        courier.recover()
        return courier

    def rows(self) -> list[tuple[str, str, int]]:
        """Destination, status and attempts of every row, oldest first."""
        return [(row["destination"], row["status"], row["attempts"]) for row in outbox_of(self.state)]

    def close(self) -> None:
        """Give everything back."""
        self.pipeline.close()
        self.archive.close()
        for database in (self.database, *self._couriers):
            database.close()


@pytest.fixture
def server() -> Iterator[HttpServer]:
    """A server that takes everything."""
    with http_server() as server:
        yield server


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk with one destination, `team`, that asks for everything."""
    desk = Desk(tmp_path, {"team": EVERYTHING})
    yield desk
    desk.close()


def team(server: HttpServer, *on: str) -> Destination:
    """The destination `team` behind a server, with a secret in its URL."""
    return Destination("team", server.url(SECRET), on or EVERYTHING)


def part_of(mail: EmailMessage, kind: str) -> str:
    """The mail's text of that kind."""
    body = mail.get_body((kind,))
    assert body is not None
    return str(body.get_content())


def all_delivered(desk: Desk, courier: Courier) -> int:
    """Deliver at the destinations' pace until nothing waits for it; how many messages that were."""
    delivered = courier.deliver_due()
    while courier.is_paced():
        desk.now += 1
        delivered += courier.deliver_due()
    return delivered


def test_digest_of_a_run_arrives_whole(desk: Desk, server: HttpServer) -> None:
    """Title and text come as composed: counts, run, each model with its figures and bounds, any character."""
    desk.archives(
        flat_summary({"ROCKET🚀": GOOD, "MIDDLING": MIDDLING, "ÄÖÜ": BAD}, run_name="Nachtlauf für Ömer", run=1)
    )
    assert desk.courier(team(server, "APPROVED", "DROP")).deliver_due() == 1
    (message,) = server.accepted
    assert message.title == "APPROVED 1 · REVIEW 1 · DROP 1: run 20241224_153000 (trainer-7)"
    lines = message.text.splitlines()
    assert "APPROVED (1)" in lines
    approved, dropped = (line for line in lines if line.startswith("- "))
    assert approved.startswith("- ROCKET🚀: ")
    assert "0.91 >= 0.70" in approved
    assert dropped.startswith("- ÄÖÜ: ")
    assert "0.80 < 1.30" in dropped
    assert "run name: Nachtlauf für Ömer" in lines
    assert "host: trainer-7" in lines
    assert "report: /archive/20241224_153000/recommendations.md" in lines


@pytest.mark.parametrize(
    "symbol", ["<!channel> & <b>", "{0} %s %(x)d $HOME", "back\\nslash \\t", "*bold* _it_ `code` [a](b)", "a" * 128]
)
def test_symbol_arrives_as_it_is_written(desk: Desk, server: HttpServer, symbol: str) -> None:
    """Nothing in a symbol is markup, an escape or a format: plain text arrives as plain text."""
    desk.archives(flat_summary({symbol: GOOD}))
    desk.courier(team(server)).deliver_due()
    assert f"- {symbol}: fitness" in server.accepted[0].text


def test_destination_gets_only_what_it_asked_for(tmp_path: Path, server: HttpServer) -> None:
    """A run with nothing of what `on` names is silent; of others, only the classes asked for are listed."""
    desk = Desk(tmp_path, {"team": ["APPROVED"], "on call": ["REJECTED"]})
    desk.archives(flat_summary({"ONLY_BAD": BAD}), flat_summary({"BEST": GOOD, "WORST": BAD, "SO_SO": MIDDLING}))
    desk.rejects(b"[]")
    with http_server() as other:
        couriers = desk.courier(team(server, "APPROVED"), Destination("on call", other.url(), ["REJECTED"]))
        couriers.deliver_due()
        assert [message.title for message in other.accepted] == [
            'REJECTED: rejected.json: the top level is a list, not an object: write {"models": [...]} (trainer-7)'
        ]
    desk.close()
    (message,) = server.accepted
    assert "BEST" in message.text
    assert not {"WORST", "SO_SO"} & set(message.text.replace(":", " ").split())


def test_rejected_file_is_announced_once_with_its_reason(desk: Desk, server: HttpServer) -> None:
    """The message names the file, the reason and where the bytes are kept; the same bytes again are no news."""
    desk.rejects(b'{"models": []}', "/out/leer.json")
    desk.rejects(b'{"models": []}', "/out/copy.json")
    courier = desk.courier(team(server))
    courier.deliver_due()
    courier.deliver_due()
    (message,) = server.accepted
    why, kept = message.text.splitlines()
    assert why.startswith("/out/leer.json on trainer-7: ")
    assert "models" in why
    assert message.title == f"REJECTED: leer.json: {why.partition(': ')[2]} (trainer-7)"
    assert kept.startswith(f"kept in {desk.archive.root}/rejected/")


def test_file_name_with_a_newline_adds_no_line_to_the_message(desk: Desk, server: HttpServer) -> None:
    """A stranger's file name can't write lines of the message: what happened and the place are a line each."""
    desk.rejects(b"[]", "/out/x\nAPPROVED (1)\n- FAKE: deploy.json")
    desk.courier(team(server)).deliver_due()
    assert len(server.accepted[0].text.splitlines()) == 2


def test_delivered_message_is_never_sent_again(desk: Desk, server: HttpServer) -> None:
    """Not by the same courier, nor by those started after it, nor after the archive was reconciled again."""
    desk.archives(flat_summary())
    for _ in range(3):
        courier = desk.courier(team(server))
        courier.deliver_due()
        courier.deliver_due()
        desk.pipeline.upkeep.recover()
        desk.now += HOUR
    assert len(server.requests) == 1
    assert desk.rows() == [("team", "delivered", 1)]


@pytest.mark.parametrize(("runs", "messages"), [(5, 5), (6, 1), (30, 1)])
def test_more_runs_than_digest_above_are_one_message(desk: Desk, server: HttpServer, runs: int, messages: int) -> None:
    """Up to five runs owed at once are told one by one, more are one message that stands for all of them."""
    names = desk.archives(*(flat_summary({f"SYM{run}": GOOD}, run=run) for run in range(runs)))
    courier = desk.courier(team(server))
    assert all_delivered(desk, courier) == runs
    assert courier.pending() == 0
    assert len(server.accepted) == messages
    if messages == 1:
        (message,) = server.accepted
        assert message.title == f"APPROVED {runs} · REVIEW 0 · DROP 0: {runs} runs (trainer-7)"
        assert all(name in message.text for name in names[:20])
    else:
        assert [message.title.split(" ")[-2] for message in server.accepted] == names


def test_many_rejected_files_are_one_message(desk: Desk, server: HttpServer) -> None:
    """Rejected files are bundled like runs."""
    for number in range(7):
        desk.rejects(f"[{number}]".encode(), f"/out/{number}.json")
    desk.courier(team(server)).deliver_due()
    names = ", ".join(f"{number}.json" for number in range(7))
    assert server.titles() == [f"REJECTED: 7 summaries: {names} (trainer-7)"]
    assert all(f"/out/{number}.json on trainer-7: " in server.accepted[0].text for number in range(7))


@pytest.mark.parametrize("answer", [500, 503, 429, 404, 302, 301, Answer.CLOSE], ids=str)
def test_failed_message_is_tried_again_later(desk: Desk, server: HttpServer, answer: int | Answer) -> None:
    """Anything but a success is a failure: it is tried after a pause of at most five seconds, and then arrives once.

    Only where no answer came at all it may have arrived before, and says so.
    """
    desk.archives(flat_summary())
    courier = desk.courier(team(server))
    server.answer = answer
    assert courier.deliver_due() == 0
    assert not courier.hung
    assert desk.rows() == [("team", "pending", 1)]
    (row,) = outbox_of(desk.state)
    assert desk.now <= row["next_at"] <= desk.now + 5
    assert row["last_error"]
    assert SECRET not in row["last_error"]
    server.answer = 200
    desk.now += 5
    assert courier.deliver_due() == 1
    assert len(server.requests) == 2
    mark = "(possible repeat) " if answer is Answer.CLOSE else ""
    assert server.titles() == [f"{mark}APPROVED 1 · REVIEW 1 · DROP 1: run 20241224_153000 (trainer-7)"]
    assert desk.rows() == [("team", "delivered", 2)]


def test_redirect_is_not_followed(desk: Desk, server: HttpServer) -> None:
    """A POST that is redirected becomes a GET elsewhere: nothing was delivered, and nobody else is asked."""
    desk.archives(flat_summary())
    with http_server() as elsewhere:
        server.answer, server.location = 302, f"http://127.0.0.1:{elsewhere.port}/login"
        assert desk.courier(team(server)).deliver_due() == 0
        assert elsewhere.requests == []
    assert [request.method for request in server.requests] == ["POST"]


def test_unreachable_destination_is_tried_again_later(desk: Desk) -> None:
    """Nobody listens: the message stays owed, and its error names no secret."""
    desk.archives(flat_summary())
    url = f"json://user:{SECRET}@127.0.0.1:{unused_port()}/{SECRET}?key={SECRET}"
    assert desk.courier(Destination("team", url, EVERYTHING)).deliver_due() == 0
    (row,) = outbox_of(desk.state)
    assert (row["status"], row["attempts"]) == ("pending", 1)
    assert row["last_error"]
    assert SECRET not in row["last_error"]
    assert not row["repeated"], "nothing was handed over"


@pytest.mark.delivery
def test_service_that_takes_its_time_is_waited_for(desk: Desk, server: HttpServer) -> None:
    """As long as a send may take: given up after the library's own 4 s, it would be sent the same again and again."""
    desk.archives(flat_summary())

    def slowly(_posted: Posted) -> int:
        server.released.wait(apprise.URLBase.socket_read_timeout + 0.5)
        return 200

    server.answer = slowly
    assert desk.courier(team(server)).deliver_due() == 1
    assert len(server.requests) == 1


def test_failure_is_tried_once_not_once_a_message(desk: Desk, server: HttpServer) -> None:
    """What waits behind a message that failed would fail alike: one try, then a pause for all of them."""
    desk.archives(*(flat_summary({f"SYM{run}": GOOD}, run=run) for run in range(4)))
    server.answer = 500
    courier = desk.courier(team(server))
    courier.deliver_due()
    assert len(server.requests) == 1
    assert [attempts for _, _, attempts in desk.rows()] == [1, 0, 0, 0]
    server.answer = 200
    desk.now += 5
    assert all_delivered(desk, courier) == 4


def test_failing_destination_does_not_keep_another_waiting(tmp_path: Path, server: HttpServer) -> None:
    """Destinations are delivered to independently."""
    desk = Desk(tmp_path, {"a": EVERYTHING, "b": EVERYTHING, "c": EVERYTHING})
    desk.archives(flat_summary())
    with http_server() as failing:
        failing.answer = 500
        destinations = [Destination(name, (failing if name == "b" else server).url(), EVERYTHING) for name in "abc"]
        assert desk.courier(*destinations).deliver_due() == 2
    assert desk.rows() == [("a", "delivered", 1), ("b", "pending", 1), ("c", "delivered", 1)]
    desk.close()


@pytest.mark.parametrize("answer", [Answer.HANG, Answer.TRICKLE], ids=str)
@pytest.mark.parametrize("name", ["a first", "z last"])
def test_hanging_destination_is_timed_out_and_the_others_get_theirs(
    tmp_path: Path, server: HttpServer, name: str, answer: Answer
) -> None:
    """Whether a server says nothing or trickles, the send ends at its deadline and says that the process must."""
    desk = Desk(tmp_path, {name: EVERYTHING, "m middle": EVERYTHING})
    desk.archives(flat_summary())
    with http_server() as hanging:
        hanging.answer = answer
        destinations = Destination(name, hanging.url(), EVERYTHING), Destination("m middle", server.url(), EVERYTHING)
        courier = desk.courier(*destinations, timeout=0.2)
        assert courier.deliver_due() == 1
        assert courier.hung
    assert len(server.accepted) == 1
    assert {row["destination"]: row["status"] for row in outbox_of(desk.state)} == {
        name: "pending",
        "m middle": "delivered",
    }
    desk.close()


def test_send_that_nobody_saw_end_is_repeated_and_says_so(desk: Desk, server: HttpServer) -> None:
    """A courier that died between `sending` and the result leaves a message that may have arrived."""
    desk.archives(flat_summary())
    outbox = Outbox(desk.database)
    outbox.sending([row.id for row in outbox.due("team", desk.now)])
    assert desk.rows() == [("team", "sending", 1)]
    desk.courier(team(server)).deliver_due()
    assert server.titles() == ["(possible repeat) APPROVED 1 · REVIEW 1 · DROP 1: run 20241224_153000 (trainer-7)"]
    assert desk.rows() == [("team", "delivered", 2)]


@pytest.mark.parametrize(
    ("attempts", "longest"), [(1, 5), (2, 10), (3, 20), (8, 640), (9, 900), (10, 900), (2000, 900)]
)
def test_pause_grows_to_a_quarter_of_an_hour_with_full_jitter(attempts: int, longest: float) -> None:
    """The pause lies anywhere between nothing and an exponential bound, so that many hosts don't try in step."""
    pauses = [pause_after(attempts) for _ in range(300)]
    assert 0 <= min(pauses) < longest / 4
    assert longest * 3 / 4 < max(pauses) <= longest


def test_message_is_given_up_after_its_deadline(desk: Desk, server: HttpServer) -> None:
    """Tried until 48 hours have passed, then dead: kept with its last error, and never tried again."""
    desk.archives(flat_summary())
    courier = desk.courier(team(server))
    server.answer = 500
    desk.now += 47 * HOUR
    courier.deliver_due()
    assert desk.rows() == [("team", "pending", 1)]
    desk.now += 2 * HOUR
    courier.deliver_due()
    assert desk.rows() == [("team", "dead", 2)]
    desk.now += HOUR
    courier.deliver_due()
    assert len(server.requests) == 2
    assert "500" in outbox_of(desk.state)[0]["last_error"]


@pytest.fixture
def torn(desk: Desk) -> tuple[Path, Path]:
    """A desk with two runs owed, the first of which was taken out of the archive; where it is, and where it was."""
    gone, _ = desk.archives(flat_summary({"GONE": GOOD}), flat_summary({"STAYS": GOOD}, timestamp="20250101_000000"))
    was = Path(desk.archive.root, gone)
    away = was.rename(Path(desk.archive.root, "taken out"))
    desk.pipeline.upkeep.recover()
    return away, was


@pytest.mark.usefixtures("torn")
def test_run_that_was_removed_is_announced_all_the_same(desk: Desk, server: HttpServer) -> None:
    """What was owed is said, and that the run is not there any more; then nothing is kept of it."""
    all_delivered(desk, desk.courier(team(server)))

    told, _ = [each.body.decode() for each in server.accepted]
    assert "GONE" in told
    assert "the run is not in the archive any more" in told
    assert [status for _, status, _ in desk.rows()] == ["delivered", "delivered"]
    desk.pipeline.upkeep.recover()
    assert desk.pipeline.recorder.catalog.removed() == []


def test_run_that_was_removed_while_its_name_went_to_another_is_told_as_itself(
    desk: Desk, server: HttpServer, torn: tuple[Path, Path]
) -> None:
    """Two messages, each with its own figures, under one name."""
    (again,) = desk.archives(flat_summary({"OTHER": GOOD}))
    assert again == torn[1].name

    all_delivered(desk, desk.courier(team(server)))

    first, _, last = [each.body.decode() for each in server.accepted]
    assert "GONE" in first
    assert "OTHER" not in first
    assert "OTHER" in last
    assert "GONE" not in last


def test_message_whose_run_nobody_knows_holds_up_no_other(desk: Desk, server: HttpServer) -> None:
    """It is dead, and says why, until the run is there again; what can be said is said."""
    desk.archives(flat_summary({"LOST": GOOD}), flat_summary({"STAYS": GOOD}, timestamp="20250101_000000"))
    with desk.database.transaction() as connection:
        connection.execute("DELETE FROM all_runs WHERE timestamp = '20241224_153000'")

    all_delivered(desk, desk.courier(team(server)))

    assert server.titles() == ["APPROVED 1 · REVIEW 0 · DROP 0: run 20250101_000000 (trainer-7)"]
    assert [(row["status"], row["last_error"]) for row in outbox_of(desk.state)] == [
        ("dead", "its run is not in the archive"),
        ("delivered", None),
    ]
    desk.pipeline.upkeep.recover()
    all_delivered(desk, desk.courier(team(server)))
    assert server.titles()[1:] == ["APPROVED 1 · REVIEW 0 · DROP 0: run 20241224_153000 (trainer-7)"]


@pytest.mark.parametrize("hours", [1, 60])
def test_run_that_comes_back_is_announced_once(
    desk: Desk, server: HttpServer, torn: tuple[Path, Path], hours: float
) -> None:
    """Told before or after it came back, within the message's time or beyond it: once."""
    away, was = torn
    courier = desk.courier(team(server))
    if hours > 1:
        all_delivered(desk, courier)
    desk.now += hours * HOUR

    away.rename(was)
    desk.pipeline.upkeep.recover()
    desk.pipeline.upkeep.recover()
    all_delivered(desk, courier)

    assert sorted(title.partition(": ")[2] for title in server.titles()) == [
        f"run {was.name} (trainer-7)",
        "run 20250101_000000 (trainer-7)",
    ]
    assert [status for _, status, _ in desk.rows()] == ["delivered", "delivered"]


def test_message_of_a_run_archived_again_has_its_new_name(
    desk: Desk, server: HttpServer, torn: tuple[Path, Path]
) -> None:
    """The trainer's file came again while something else had the run's name."""
    _, was = torn
    was.mkdir()
    (again,) = desk.archives(flat_summary({"GONE": GOOD}))
    assert again == f"{was.name}_2"

    all_delivered(desk, desk.courier(team(server)))

    assert f"run {again}" in server.titles()[0]
    assert [status for _, status, _ in desk.rows()] == ["delivered", "delivered"]


def test_destination_that_left_the_settings_waits(tmp_path: Path, server: HttpServer) -> None:
    """Rows of a destination without a URL are neither sent nor lost; it comes back and gets them."""
    desk = Desk(tmp_path, {"team": EVERYTHING, "former": EVERYTHING})
    desk.archives(flat_summary())
    assert desk.courier(team(server)).deliver_due() == 1
    assert desk.rows() == [("team", "delivered", 1), ("former", "pending", 0)]
    assert desk.courier(Destination("former", server.url(), EVERYTHING)).deliver_due() == 1
    desk.close()


@pytest.mark.parametrize("rebuilt", [False, True])
def test_destination_that_is_new_is_owed_nothing_old(tmp_path: Path, rebuilt: bool) -> None:
    """Runs archived before a destination was named are no news to it, whether `reindex` ran meanwhile or not."""
    before = Desk(tmp_path, {})
    before.archives(flat_summary())
    before.close()
    if rebuilt:
        reindex = Desk(tmp_path, None)
        reindex.pipeline.upkeep.rebuild()
        reindex.close()
    after = Desk(tmp_path, {"team": EVERYTHING})
    assert after.rows() == []
    after.close()


def test_mail_arrives_whole(desk: Desk) -> None:
    """Over a real SMTP server, with a login: a page with a table, a plain text beside it, any character."""
    desk.archives(flat_summary({"ROCKET🚀 <b>&amp;</b>": GOOD, "ÄÖÜ": BAD}, run_name="Nachtlauf für Ömer"))
    with smtp_server() as server:
        assert desk.courier(Destination("team", server.url("pass%20w0rd"), EVERYTHING)).deliver_due() == 1
        assert server.logins == [("warden", "pass w0rd")]
        (mail,) = server.mails
    title, _, mark = mail["Subject"].rpartition(" ")
    assert title == "APPROVED 1 · REVIEW 0 · DROP 1: run 20241224_153000 (trainer-7)"
    assert mark == f"[{desk.archive.read('20241224_153000')[0].sha256[:8]}]", "the run's, as index.json has it"
    assert mail["To"] == "team@example.org"
    page, plain = part_of(mail, "html"), part_of(mail, "plain")
    assert "<table" in page
    assert "ROCKET🚀 &lt;b&gt;&amp;amp;&lt;/b&gt;" in page, "nothing of a summary is markup"
    assert "0.80" in page
    for text in (page, plain):
        assert "ÄÖÜ" in text
        assert "Nachtlauf für Ömer" in text
        assert "/archive/20241224_153000/recommendations.md" in text


def test_refused_mail_is_tried_again_and_its_error_names_no_secret(desk: Desk) -> None:
    """A mail server that is not there: owed, and neither the password nor the address is in the error."""
    desk.archives(flat_summary())
    url = f"mailto://warden:{SECRET}@127.0.0.1:{unused_port()}?mode=insecure&from=a@example.org&to={SECRET}@example.org"
    assert desk.courier(Destination("team", url, EVERYTHING)).deliver_due() == 0
    (row,) = outbox_of(desk.state)
    assert (row["status"], row["attempts"]) == ("pending", 1)
    assert row["last_error"]
    assert SECRET not in row["last_error"]


def test_second_mail_follows_the_first_within_the_time_of_a_send(desk: Desk) -> None:
    """A healthy server is never timed out, and nobody behind it kept waiting, for a pause of the library's own."""
    desk.archives(flat_summary({"FIRST": GOOD}), flat_summary({"SECOND": GOOD}))
    with smtp_server() as server:
        courier = desk.courier(Destination("team", server.url("passw0rd"), EVERYTHING), timeout=2)
        assert courier.deliver_due() == 2
        assert not courier.hung
        assert len(server.mails) == 2
