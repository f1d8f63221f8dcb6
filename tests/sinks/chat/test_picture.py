"""A picture goes with a message where somebody can see it, and never costs the message."""

import base64
import json
import logging
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from modelwarden.archive import histories
from modelwarden.archive.histories import read_histories
from modelwarden.archive.outcomes import Archived
from modelwarden.archive.publishing import Archive
from modelwarden.courier.delivery import Courier
from modelwarden.errors import RejectSummary, UnknownRun
from modelwarden.gate.policy import Policy
from modelwarden.pipeline.policies import Policies
from modelwarden.pipeline.walk import Found, Pipeline
from modelwarden.sinks.chat import picture
from modelwarden.sinks.chat.destinations import Destination
from modelwarden.sinks.chat.digest import RunNews
from modelwarden.sinks.chat.drawing import draw_apart
from modelwarden.sinks.chat.picture import Draw, Pictures
from modelwarden.sinks.chat.plot import fitness_plot
from modelwarden.sinks.chat.sink import chat_sinks
from modelwarden.state.database import Database
from modelwarden.state.messages import Route
from processes import outbox_of, until
from servers import HttpServer, Posted, http_server, smtp_server
from summaries import BAD, GOOD, MIDDLING, encoded, flat_summary, judged_run

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # Apprise's import

PNG = b"\x89PNG\r\n\x1a\n"
RISING = [0.5, 0.7, 0.8, 0.9, 0.91]
RUN = "20241224_153000"
ALL = ("APPROVED", "REVIEW", "DROP")


def summary_of(figures: Mapping[str, float] = GOOD, *symbols: str, **fields: Any) -> dict[str, Any]:
    """A run of models with those figures and a history each."""
    return flat_summary({each: {**figures, "fitness_history": RISING} for each in symbols or ("ABC",)}, **fields)


def news() -> RunNews:
    """What the courier knows of such a run: everything but the histories."""
    run, models = judged_run(summary_of())
    bare = [model._replace(history=()) for model in models]
    return RunNews(RUN, None, "trainer-7", "/report", run.counts, run.policy, bare)


def drawn_here(news: RunNews) -> bytes:
    """Drawn in this process, with histories as the archive has them."""
    return fitness_plot(news._replace(assessments=[each._replace(history=RISING) for each in news.assessments])) or b""


class Office:
    """An archive, a destination called `team` that wants all classes, and the courier to it; others where named."""

    def __init__(self, folder: Path, stack: ExitStack, *others: Route) -> None:
        self.state = folder / "state"
        self.folder = folder / "archive"
        self.now = 1_750_000_000.0  # after all runs of these tests
        self._stack = stack
        database = stack.enter_context(closing(Database(str(self.state), "2024-01-01T00:00:00Z")))
        archive = stack.enter_context(closing(Archive(str(self.folder), database.daemon_id)))
        self._pipeline = Pipeline(
            archive,
            database,
            Policies(Policy.from_config()),
            [Route("team", frozenset(ALL)), *others],
            owner=database.daemon_id,
            host="trainer-7",
            clock=lambda: self.now,
            deadline_seconds=48 * 3600,
        )
        stack.callback(self._pipeline.close)
        self._pipeline.upkeep.recover()

    def archive(self, *summaries: dict[str, Any]) -> None:
        """Archive summaries."""
        batch = [Found("", encoded(each), None) for each in summaries]
        assert all(isinstance(outcome, Archived) for outcome in self._pipeline.process(batch))

    def courier(
        self,
        url: str,
        *on: str,
        others: Sequence[Destination] = (),
        draw: Draw | None = None,
        timeout: float = 30.0,
        digest_above: int = 5,
    ) -> Courier:
        """A courier as it starts."""
        database = self._stack.enter_context(closing(Database(str(self.state), "2024-01-01T00:00:00Z")))
        return Courier(
            database,
            chat_sinks(
                [Destination("team", url, on or ALL), *others],
                database,
                lambda run: f"/archive/{run}",
                digest_above=digest_above,
                draw=draw or partial(draw_apart, partial(read_histories, str(self.folder))),
            ),
            send_timeout=timeout,
            clock=lambda: self.now,
            pace_clock=lambda: self.now,
        )


@pytest.fixture
def office(tmp_path: Path, stack: ExitStack) -> Office:
    """An empty archive."""
    return Office(tmp_path, stack)


@pytest.fixture
def server(stack: ExitStack) -> HttpServer:
    """A server that takes everything."""
    return stack.enter_context(http_server())


def attached(posted: Posted) -> list[bytes]:
    """What came with a message to a `json://` server."""
    return [base64.b64decode(each["base64"]) for each in json.loads(posted.body)["attachments"]]


@pytest.mark.usefixtures("matplotlib")
def test_digest_of_a_run_with_approved_models_brings_their_plot(office: Office, server: HttpServer) -> None:
    """Read from the archived summary, drawn, attached as a PNG."""
    office.archive(summary_of())

    assert office.courier(server.url()).deliver_due() == 1

    (message,) = server.accepted
    (picture,) = attached(message)
    assert picture.startswith(PNG)
    assert "ABC" in message.text


@pytest.mark.usefixtures("matplotlib")
def test_mail_has_the_plot_beside_the_page(office: Office) -> None:
    """An attachment of its own, named and typed so that a client shows it."""
    office.archive(summary_of())
    with smtp_server() as mail:
        assert office.courier(mail.url("passw0rd")).deliver_due() == 1
        (arrived,) = mail.mails

    (picture,) = arrived.iter_attachments()
    assert (picture.get_filename(), picture.get_content_type()) == ("fitness.png", "image/png")
    assert picture.get_content().startswith(PNG)
    page = arrived.get_body(("html",))
    assert page is not None
    assert "ABC" in page.get_content()


@pytest.mark.parametrize(
    ("on", "summaries"),
    [
        (("DROP", "REVIEW"), [flat_summary({"ABC": {**GOOD, "fitness_history": RISING}, "XYZ": BAD})]),
        (ALL, [summary_of(BAD)]),
        (ALL, [summary_of(MIDDLING)]),
        (ALL, [flat_summary({"ABC": GOOD})]),
        (ALL, [summary_of(timestamp=f"2024010{day}_000000") for day in (1, 2)]),
    ],
    ids=["not asked for", "all dropped", "all in review", "no history", "many runs at once"],
)
def test_message_with_no_approved_model_to_show_has_no_plot(
    office: Office, server: HttpServer, on: tuple[str, ...], summaries: list[dict[str, Any]]
) -> None:
    """It is otherwise the same message."""
    office.archive(*summaries)

    assert office.courier(server.url(), *on, digest_above=1).deliver_due() == len(summaries)

    (message,) = server.accepted
    assert attached(message) == []


@pytest.mark.parametrize(
    ("url", "takes"),
    [
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7/#models", False),
        ("https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7QQ", False),
        ("slack://xoxb-123456789012-abcdefghijklmnopqrstuvwx/#models", True),
        ("gotify://127.0.0.1/abcdefghijklmno", False),
        ("mailtos://warden:passw0rd@example.org", True),
    ],
)
def test_picture_goes_where_the_service_takes_one(url: str, takes: bool) -> None:
    """Slack's webhooks say that they do, and leave it out with a warning: they don't."""
    assert Destination("team", url, ALL).takes_pictures is takes


def remove(run: Path) -> None:
    (run / "summary.json").unlink()


def empty(run: Path) -> None:
    (run / "summary.json").write_bytes(b"")


def another(run: Path) -> None:
    (run / "summary.json").write_bytes(encoded(summary_of(GOOD, "OTHER")))


def make_folder(run: Path) -> None:
    (run / "summary.json").unlink()
    (run / "summary.json").mkdir()


@pytest.mark.usefixtures("matplotlib")
@pytest.mark.parametrize("harm", [remove, empty, another, make_folder])
def test_message_of_a_run_that_was_harmed_goes_without_a_plot(office: Office, server: HttpServer, harm: Any) -> None:
    """The catalog has all that the text says."""
    office.archive(summary_of())
    harm(office.folder / RUN)

    assert office.courier(server.url()).deliver_due() == 1

    (message,) = server.accepted
    assert attached(message) == []
    assert "ABC" in message.text
    assert [row["status"] for row in outbox_of(office.state)] == ["delivered"]


@pytest.mark.usefixtures("matplotlib")
def test_archive_that_hangs_costs_the_plot_and_not_the_message(office: Office, server: HttpServer) -> None:
    """As a network file system does whose server is gone; the second message does not even wait for the plot."""
    office.archive(summary_of(timestamp="20240101_000000"), summary_of(timestamp="20240102_000000"))
    released, asked = threading.Event(), []

    def hang(news: RunNews) -> bytes:
        asked.append(news.timestamp)
        released.wait()
        return b""

    courier = office.courier(server.url(), draw=hang, timeout=3.0)
    assert courier.deliver_due() == 2

    assert not courier.hung
    assert [attached(message) for message in server.accepted] == [[], []]
    assert asked == ["20240101_000000"]
    released.set()


@pytest.mark.usefixtures("matplotlib")
def test_picture_under_way_holds_up_no_other_destination(tmp_path: Path, stack: ExitStack, server: HttpServer) -> None:
    """It is drawn on the way to its own destination: who wants none is told meanwhile."""
    office = Office(tmp_path, stack, Route("desk", frozenset({"DROP"})))
    office.archive(flat_summary({"ABC": {**GOOD, "fitness_history": RISING}, "XYZ": BAD}))
    released = threading.Event()

    def hang(news: RunNews) -> bytes:
        released.wait()
        return drawn_here(news)

    desk = stack.enter_context(http_server())
    courier = office.courier(server.url(), others=[Destination("desk", desk.url(), ["DROP"])], draw=hang, timeout=1000)
    until(lambda: (courier.step(), desk.accepted)[1], "the desk's message")

    assert (server.requests, courier.is_sending()) == ([], True)
    released.set()
    until(lambda: (courier.step(), server.accepted)[1], "the team's message")
    assert [bool(attached(message)) for message in (*desk.accepted, *server.accepted)] == [False, True]


@pytest.mark.usefixtures("matplotlib")
def test_picture_that_is_late_keeps_none_waiting() -> None:
    """While it hangs the others go without, at once; once it is through they wait their turn as before."""
    asked: list[str] = []
    gates = [threading.Event(), threading.Event()]
    drawn: list[bytes] = []

    def draw_late(news: RunNews) -> bytes:
        asked.append(news.timestamp)
        if len(asked) <= 2:
            gates[len(asked) - 1].wait()
        return drawn_here(news)

    pictures = Pictures(draw_late)

    def draw() -> None:
        threading.Thread(target=lambda: drawn.append(pictures.of(news(), 1000)), daemon=True).start()

    assert pictures.of(news(), 0.01) == b""
    draw()
    until(lambda: drawn == [b""], "the one that does not wait")

    gates[0].set()
    until(lambda: pictures._turn.acquire(blocking=False), "the late one to be through")
    pictures._turn.release()
    draw()
    until(lambda: len(asked) == 2, "the next to be under way")
    draw()
    gates[1].set()
    until(lambda: len(drawn) == 3, "both")
    assert all(each.startswith(PNG) for each in drawn[1:])


@pytest.mark.usefixtures("matplotlib")
def test_pictures_are_drawn_one_at_a_time() -> None:
    """Two lanes that want one at once both get it: the second waits for its turn."""
    inside, most = [], []

    def count(_news: RunNews) -> bytes:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()
        return PNG

    pictures = Pictures(count)
    drawn: list[bytes] = []
    threads = [threading.Thread(target=lambda: drawn.append(pictures.of(news(), 30))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert drawn == [PNG] * 4
    assert max(most) == 1


def test_no_matplotlib_is_said_once_and_nothing_is_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is an extra: an operator who wants pictures reads how, and nobody else is bothered."""
    monkeypatch.setattr(picture, "find_spec", lambda _: None)
    caplog.set_level(logging.DEBUG, "modelwarden")
    read: list[str] = []

    def draw(news: RunNews) -> bytes:
        read.append(news.timestamp)
        return PNG

    pictures = Pictures(draw)

    assert [pictures.of(news(), 30) for _ in range(3)] == [b""] * 3

    assert read == []
    (record,) = caplog.records
    assert (record.getMessage(), record.levelno) == ("no_pictures", logging.INFO)
    assert "plots" in record.__dict__["hint"]


def test_matplotlib_that_is_broken_is_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found, and not to be imported, as after half an upgrade."""
    monkeypatch.setattr(picture, "find_spec", lambda _: object())
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert Pictures(drawn_here).of(news(), 30) == b""


@pytest.mark.usefixtures("matplotlib")
def test_service_that_refuses_the_plot_gets_the_message_without(office: Office, server: HttpServer) -> None:
    """Every other try goes without it, marked as a possible repeat: the text may have come before the picture."""
    office.archive(summary_of())
    server.answer = lambda posted: 413 if attached(posted) else 200
    courier = office.courier(server.url())

    assert courier.deliver_due() == 0
    office.now += 5
    assert courier.deliver_due() == 1

    assert [bool(attached(request)) for request in server.requests] == [True, False]
    assert server.accepted[0].title.startswith("(possible repeat) APPROVED 1")
    assert [(row["status"], row["attempts"]) for row in outbox_of(office.state)] == [("delivered", 2)]


@pytest.mark.usefixtures("matplotlib")
def test_plot_is_there_again_after_an_outage(office: Office, server: HttpServer) -> None:
    """A server that was down for two tries gets it with the third."""
    office.archive(summary_of())
    courier = office.courier(server.url())
    server.answer = 500
    for _ in range(2):
        courier.deliver_due()
        office.now += 10
    server.answer = 200

    assert courier.deliver_due() == 1

    assert [bool(attached(request)) for request in server.requests] == [True, False, True]


def test_histories_are_those_of_the_summary(office: Office) -> None:
    """By symbol, point for point."""
    office.archive(flat_summary({"A": {**GOOD, "fitness_history": RISING}, "B": BAD}))
    found = read_histories(str(office.folder), RUN, Policy.from_config())
    assert {symbol: list(history) for symbol, history in found.items()} == {"A": RISING, "B": []}


@pytest.mark.parametrize(("limit", "read"), [(0, True), (1, False)])
def test_summary_that_is_too_large_for_a_picture_is_not_parsed(
    office: Office, monkeypatch: pytest.MonkeyPatch, limit: int, read: bool
) -> None:
    """The courier's memory is bounded by the bound on a summary's bytes."""
    office.archive(summary_of())
    size = (office.folder / RUN / "summary.json").stat().st_size
    monkeypatch.setattr(histories, "MOST_BYTES", size - limit)
    assert bool(read_histories(str(office.folder), RUN, Policy.from_config())) is read


@pytest.mark.parametrize("name", ["../secret", "/etc", "", ".staging", "20241224"])
def test_name_that_is_no_run_s_reads_nothing(office: Office, name: str) -> None:
    """Nothing but a run's own folder is ever opened."""
    with pytest.raises(UnknownRun):
        read_histories(str(office.folder), name, Policy.from_config())


def test_summary_that_somebody_spoiled_is_an_error_and_no_histories(office: Office) -> None:
    """For the caller to leave the picture out."""
    office.archive(summary_of())
    empty(office.folder / RUN)
    with pytest.raises(RejectSummary):
        read_histories(str(office.folder), RUN, Policy.from_config())
