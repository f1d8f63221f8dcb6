"""A destination is one recipient, and a send that fails says why without a word of its URL."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from modelwarden.errors import StopService
from modelwarden.sinks.chat.destinations import Destination
from modelwarden.sinks.chat.digest import Message, RunNews, Severity, problem_message, rejected_message, run_message
from modelwarden.sinks.chat.page import Page
from modelwarden.sinks.protocol import Delivered, PerhapsDelivered, TryLater
from servers import Answer, http_server, smtp_server, unused_port
from summaries import BAD, GOOD, MIDDLING, flat_summary, judged_run

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # Apprise's import

MAIL = "mailtos://warden:c4naryPassw0rd@mail.example.com"
SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7"


@pytest.mark.parametrize(
    "url",
    [
        f"{MAIL}/one@example.org/two@example.org",
        f"{MAIL}?to=one@example.org,two@example.org",
        f"{MAIL}?to=one@example.org%2C%20two@example.org",
        f"{MAIL}?to=one@example.org, two@example.org",
        f"{MAIL}?to=one@example.org&cc=two@example.org",
        f"{MAIL}?to=one@example.org&bcc=two@example.org",
        f"{MAIL}/one@example.org?to=two@example.org",
        f"{SLACK}/#one/#two",
        "tgram://123456789:alphanumericabcdefghijklmnopqrstuv/1/2",
    ],
)
def test_url_of_several_recipients_is_refused_by_name(url: str) -> None:
    """A message could reach one and not the other, and be repeated to the first; the URL is not shown."""
    with pytest.raises(StopService) as caught:
        Destination("the team", url, ["DROP"])

    assert caught.value.where == 'destination "the team"'
    assert "several recipients" in caught.value.what
    assert "destination of its own" in caught.value.hint
    assert not any(part in str(caught.value) for part in ("c4nary", "example", "T1JJ", "alphanumeric"))


@pytest.mark.parametrize(
    "url",
    [
        MAIL,
        f"{MAIL}/one@example.org",
        f"{MAIL}?to=one@example.org",
        f"{MAIL}?to=One%20Person%20%3Cone@example.org%3E",
        f"{MAIL}?bcc=",
        SLACK,
        f"{SLACK}/#one",
        "json://127.0.0.1/a/b,c",
    ],
)
def test_url_of_one_recipient_is_taken(url: str) -> None:
    """However it is written."""
    Destination("team", url, ["DROP"])


def test_two_urls_in_one_are_refused() -> None:
    """Apprise would take them for two services."""
    with pytest.raises(StopService, match="not one that Apprise understands"):
        Destination("team", "json://127.0.0.1/a, json://127.0.0.1/b", ["DROP"])


def test_recipient_that_is_no_address_is_refused_at_start() -> None:
    """Apprise leaves it out, and every mail would fail."""
    with pytest.raises(StopService, match="no mail address"):
        Destination("team", f"{MAIL}?to=not-an-address", ["DROP"])


@pytest.mark.parametrize(
    ("url", "unencrypted"),
    [
        ("mailto://warden:passw0rd@mail.example.com", True),
        ("mailto://warden:passw0rd@192.0.2.1?from=a@example.org", True),
        ("mailtos://warden:passw0rd@mail.example.com?mode=insecure", True),
        ("mailtos://warden:passw0rd@mail.example.com", False),
        ("mailto://warden:passw0rd@mail.example.com?mode=starttls", False),
        ("mailto://warden:passw0rd@gmail.com", False),
        ("mailto://warden:passw0rd@127.0.0.1?from=a@example.org", False),
        ("mailto://warden:passw0rd@localhost?from=a@example.org", False),
        ("json://127.0.0.1", False),
    ],
)
def test_mail_that_goes_unencrypted_is_known(url: str, unencrypted: bool) -> None:
    """By what Apprise will do, not by how the URL begins; a mail server of the same host is no network."""
    assert Destination("team", url, ["DROP"]).goes_unencrypted() is unencrypted


def test_event_s_mark_is_in_a_mail_s_subject_and_in_no_other_title() -> None:
    """In a mail box repeats are found by it; a chat's line is for people."""
    message = Message("DROP 1: run X", "text", Page(("DROP 1",), "run X"), mark="a1b2c3d4")
    with smtp_server() as mail, http_server() as chat:
        assert Destination("mail", mail.url("passw0rd"), ["DROP"]).send(message, 30) == Delivered()
        assert Destination("chat", chat.url(), ["DROP"]).send(message, 30) == Delivered()

    assert [each["Subject"] for each in mail.mails] == ["DROP 1: run X [a1b2c3d4]"]
    assert chat.titles() == ["DROP 1: run X"]


SUMMARIES = {
    "all approved": ({"A": GOOD}, "success"),
    "a review": ({"A": GOOD, "B": MIDDLING}, "info"),
    "a drop": ({"A": GOOD, "B": MIDDLING, "C": BAD}, "warning"),
}


def run_with(models: Mapping[str, Any], on: Sequence[str] = ("APPROVED", "REVIEW", "DROP")) -> Message:
    """The message about a run of these models."""
    run, assessments = judged_run(flat_summary(models))
    return run_message(RunNews(run.timestamp, None, "t", "/r", run.counts, run.policy, assessments), on)


def test_severity_goes_to_the_service_with_who_writes() -> None:
    """A service shows it as a colour or a sound; what was not asked for does not alarm."""
    messages = [(run_with(models), severity) for models, severity in SUMMARIES.values()]
    messages += [
        (run_with(SUMMARIES["a drop"][0], ("APPROVED",)), "success"),
        (run_with(SUMMARIES["a drop"][0], ("REVIEW",)), "info"),
        (rejected_message(["x"]), "failure"),
        (problem_message(["x"]), "failure"),
        (Message("TEST", "text"), "info"),
    ]
    with http_server() as server:
        destination = Destination("team", server.url(), ["DROP"])
        for message, _ in messages:
            assert destination.send(message, 30) == Delivered()
    assert [json.loads(each.body)["type"] for each in server.accepted] == [severity for _, severity in messages]
    assert {each.headers["User-Agent"] for each in server.accepted} == {"modelwarden"}


@pytest.mark.parametrize("query", ["", "?blocks=yes"])
def test_slack_gets_the_title_as_the_text_of_a_notification(query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A phone shows the top-level text; the channel shows it once, as the attachment's title, beside its colour."""
    message = Message("DROP 1: run <!channel> & X", "a text", severity=Severity.WARNING)
    with http_server() as server:
        server.says = b"ok"
        monkeypatch.setattr("apprise.plugins.slack.NotifySlack.webhook_url", f"http://127.0.0.1:{server.port}/services")
        assert Destination("team", f"{SLACK}/#x{query}", ["DROP"]).send(message, 30) == Delivered()
    payload = json.loads(server.accepted[0].body)
    assert payload["text"] == "DROP 1: run &lt;!channel&gt; &amp; X"
    assert [block["type"] for block in payload["blocks"]] == ["context"], "else the text is shown a second time"
    (attachment,) = payload["attachments"]
    assert attachment["color"] == "#CACF29"
    assert json.dumps(attachment).count("&lt;!channel&gt;") == 1


@pytest.mark.parametrize("call", ["@everyone", "@HERE", "a@everyone", "@trader", "<@123>", '<at user_id="all">'])
def test_symbol_calls_nobody_in_a_chat(call: str) -> None:
    """Discord, Mattermost, Telegram and others call people by plain text: a space that nobody sees breaks that."""
    message = Message(f"DROP 1: run {call}", f"- {call}: a text")
    with http_server() as server:
        assert Destination("team", server.url(), ["DROP"]).send(message, 30) == Delivered()
    (posted,) = server.accepted
    for told, text in ((posted.title, message.title), (posted.text, message.body)):
        assert call not in told
        assert told.replace("\N{ZERO WIDTH SPACE}", "") == text


def test_symbol_with_an_at_inside_stays_as_it_is() -> None:
    """An exchange's name behind it calls nobody, and is to be copied; nor does anything in a mail."""
    message = Message("DROP 1: run BTC@binance", "- BTC@binance: a text")
    with http_server() as server, smtp_server() as mail:
        assert Destination("team", server.url(), ["DROP"]).send(message, 30) == Delivered()
        called = message._replace(title="DROP 1: run @everyone", body="@everyone")
        assert Destination("mail", mail.url("passw0rd"), ["DROP"]).send(called, 30) == Delivered()
    assert (server.accepted[0].title, server.accepted[0].text) == (message.title, message.body)
    assert (mail.mails[0]["Subject"], mail.mails[0].get_content().strip()) == (called.title, called.body)


@pytest.mark.parametrize("status", [103, 502, 504])
def test_answer_that_is_not_the_services_leaves_open_whether_it_was_taken(status: int) -> None:
    """What comes before an answer, and what a gateway says in its place: the next says that it may be a repeat."""
    with http_server() as server:
        server.answer = status
        outcome = Destination("team", server.url(), ["DROP"]).send(Message("title", "text"), 30)
    assert isinstance(outcome, PerhapsDelivered)
    assert str(status) in outcome.error


@pytest.fixture
def quiet() -> Iterator[None]:
    """Library loggers afterwards as they were: a destination makes them as the courier has them."""
    loggers = [logging.getLogger(name) for name in ("apprise", "urllib3", "requests", "matplotlib")]
    before = [(logger.level, logger.handlers, logger.propagate) for logger in loggers]
    yield
    for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers, logger.propagate = handlers, propagate


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("json://warden:c4naryPassw0rd@127.0.0.1:{unused}/c4nary-t0ken", "Connection refused"),
        ("jsons://warden:c4naryPassw0rd@127.0.0.1:{http}/c4nary-t0ken", "SSL"),
        ("mailto://warden:c4naryPassw0rd@127.0.0.1:{unused}?from=a@example.org", "Connection refused"),
    ],
)
def test_connection_that_failed_says_why(url: str, cause: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Refused, or no TLS: what to do differs; nothing of the URL is in it, nor on standard error."""
    with http_server() as server:
        server.answer = Answer.CLOSE
        url = url.format(unused=unused_port(), http=server.port)
        outcome = Destination("team", url, ["DROP"]).send(Message("title", "text"), 10)
    assert isinstance(outcome, TryLater | PerhapsDelivered)
    assert cause in outcome.error
    assert outcome.error.count("(") == outcome.error.count(")")
    assert "c4nary" not in outcome.error
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("quiet")
def test_cause_of_one_failure_is_not_told_of_the_next() -> None:
    """Each send has its own, also where two are under way at once."""
    message = Message("title", "text")
    with http_server() as server:
        server.answer = 500
        gone = Destination("gone", f"json://127.0.0.1:{unused_port()}/", ["DROP"])
        there = Destination("there", server.url(), ["DROP"])
        with ThreadPoolExecutor() as pool:
            outcomes = list(pool.map(lambda each: each.send(message, 10), [gone, there] * 4))
    for refused, answered in zip(outcomes[::2], outcomes[1::2], strict=True):
        assert isinstance(refused, TryLater)
        assert isinstance(answered, TryLater)
        assert "Connection refused" in refused.error
        assert "500" in answered.error
        assert "refused" not in answered.error
