"""A mail as a server gets it, parsed as a mail program would: its parts, its headers, its picture."""

import re
from email.message import EmailMessage
from html import unescape

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelwarden.sinks.chat.destinations import Destination
from modelwarden.sinks.chat.digest import Message, RunNews, many_runs_message, problem_message, run_message, series_of
from modelwarden.sinks.chat.page import Page, shown
from modelwarden.sinks.protocol import Delivered
from pages import html_of
from servers import SmtpServer, smtp_server
from summaries import BAD, GOOD, flat_summary, judged_run, random_summary

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # Apprise's import

ALL = ("APPROVED", "REVIEW", "DROP")
PNG = b"\x89PNG\r\n\x1a\n and the rest"


def news_of(timestamp: str = "20241224_153000", run_name: str | None = "nightly 2024-12-24") -> RunNews:
    """What the courier would know of a run of three models."""
    run, models = judged_run(flat_summary({"AAPL": GOOD, "RÖCKET🚀": GOOD, "MSFT": BAD}, timestamp=timestamp))
    series = series_of(run_name, "/out/s.json")
    return RunNews(timestamp, run_name, "trainer-7", f"/a/{timestamp}", run.counts, run.policy, models, series)


def received(server: SmtpServer, *messages: Message, query: str = "") -> list[EmailMessage]:
    """The mails that come of these messages."""
    destination = Destination("mail", server.url("passw0rd") + query, ALL)
    for message in messages:
        assert destination.send(message, 30) == Delivered()
    return server.mails[-len(messages) :]


def part(mail: EmailMessage, kind: str) -> str:
    """The text or the page of a mail."""
    found = mail.get_body((kind,))
    assert found is not None
    return str(found.get_content()).replace("\r\n", "\n").removesuffix("\n")


def test_mail_has_the_text_as_it_is_and_the_page_beside_it() -> None:
    """Who reads plain text reads what a chat does, not a page without its marks."""
    message = run_message(news_of(), ALL)._replace(mark="a1b2c3d4")
    with smtp_server() as server:
        (mail,) = received(server, message)
    assert [each.get_content_type() for each in mail.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    assert part(mail, "plain") == message.body
    assert part(mail, "html") == html_of(message).removesuffix("\n")
    assert mail["Subject"] == f"{message.title} [a1b2c3d4]"


def test_picture_is_inside_the_page_and_nothing_is_fetched() -> None:
    """The page shows it where it says, by an id of the mail's own; its words are there without it."""
    caption = "Fitness of approved models: AAPL 0.91"
    message = run_message(news_of(), ALL)._replace(mark="a1b2c3d4", picture=PNG, caption=caption)
    with smtp_server() as server:
        (mail,) = received(server, message)
    assert mail.get_content_type() == "multipart/related"
    (picture,) = mail.iter_attachments()
    assert picture.get_content() == PNG
    assert (picture.get_content_type(), picture.get_filename()) == ("image/png", "fitness.png")
    assert picture.get_content_disposition() == "inline"
    page = part(mail, "html")
    (source,) = re.findall(r'<img src="([^"]+)"', page)
    assert picture["Content-ID"] == f"<{source.removeprefix('cid:')}>"
    assert f'alt="{caption}"' in page
    assert unescape(page).count(caption) == 2
    assert part(mail, "plain") == message.body


def test_headers_say_that_a_machine_wrote_and_what_it_belongs_to() -> None:
    """No out-of-office note answers, a filter finds the list, a mail program gathers the runs of one series."""
    first, second = (run_message(news_of(each), ALL) for each in ("20241224_153000", "20241225_153000"))
    other = run_message(news_of(run_name="weekly"), ALL)
    problem = problem_message(["no space left\nhost: trainer-7"])
    bundle = many_runs_message([news_of(), news_of("20241225_153000")], ALL)
    with smtp_server() as server:
        mails = received(server, first, second, other, problem, bundle)
    for mail in mails:
        assert mail["Auto-Submitted"] == "auto-generated"
        assert mail["List-Id"] == "modelwarden <modelwarden.example.org>"
        assert re.fullmatch(r"<[^<>@\s]+@example\.org>", mail["References"])
        assert mail["In-Reply-To"] == mail["References"]
        assert mail["X-Application"] == "modelwarden"
        assert mail["From"].addresses[0].display_name == "modelwarden"
    one, another, weekly, trouble, both = (mail["References"] for mail in mails)
    assert one == another == both
    assert len({one, weekly, trouble}) == 3
    assert len({mail["Message-ID"] for mail in mails}) == 5


def test_repeat_of_a_mail_has_its_id_and_another_event_has_not() -> None:
    """A mail server that knows an id may keep one of two; what says something else is another mail."""
    message = run_message(news_of(), ALL)._replace(mark="a1b2c3d4")
    again = run_message(news_of(), ALL, repeated=True)._replace(mark="a1b2c3d4", picture=PNG)
    more = run_message(news_of(), ("DROP",))._replace(mark="a1b2c3d4")
    with smtp_server() as server:
        first, second, third, fourth = received(server, message, again, more, message._replace(mark="b2c3d4e5"))
    assert first["Message-ID"] == second["Message-ID"]
    assert len({each["Message-ID"] for each in (first, third, fourth)}) == 3


def test_header_of_the_url_outranks_the_same_of_ours_and_adds_others() -> None:
    """An operator who needs another list's name has it."""
    query = "&+List-Id=trading%20%3Ctrading.example.org%3E&+X-Team=risk&reply=risk@example.org"
    with smtp_server() as server:
        (mail,) = received(server, run_message(news_of(), ALL), query=query)
    assert mail.get_all("List-Id") == ["trading <trading.example.org>"]
    assert mail["X-Team"] == "risk"
    assert mail["Reply-To"] == "risk@example.org"


def test_copy_that_the_url_names_is_sent() -> None:
    """A URL may name the one recipient as a copy alone: the sender, whom Apprise then names first, is sent nothing.

    A server that refuses the one of two has taken the mail for the other, who would get each try.
    """
    with smtp_server() as server:
        url = server.url("passw0rd").replace("to=team", "cc=team")
        assert Destination("mail", url, ALL).send(run_message(news_of(), ALL), 30) == Delivered()
        (mail,) = server.mails
        (recipients,) = server.recipients
    assert (mail["To"], mail["Cc"]) == ("modelwarden@example.org", "team@example.org")
    assert recipients == ["team@example.org"]


def test_mail_server_that_looks_at_a_mail_for_long_gets_it_once() -> None:
    """A send has as long as the settings say, whatever the library would wait: else it would come again and again."""
    with smtp_server() as server:
        server.thinks = 1.0
        (mail,) = received(server, Message("title", "text"), query="&cto=0.2")
        assert server.mails == [mail]


def test_mail_that_was_taken_is_delivered_whether_the_server_says_goodbye_or_not() -> None:
    """What comes after that is not waited for: a send cut short there would repeat a mail that was taken."""
    with smtp_server() as server:
        server.says_goodbye = False
        assert Destination("mail", server.url("passw0rd"), ALL).send(Message("title", "text"), 5) == Delivered()
    assert len(server.mails) == 1


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(words, words)
def test_whatever_a_summary_says_arrives_as_it_is(title: str, body: str) -> None:
    """Any character of any script, long lines, dots and trailing spaces: in no header and in no part is one lost."""
    title = " ".join(shown(title).split()) or "x"
    body = "\n".join(shown(line) for line in body.split("\n"))
    page = Page(("PROBLEM",), title, texts=(f".\n{body} .\nFrom here", "\n".join(["é" * 500] * 6)), texts_total=2)
    message = Message(f"T{title}", page.texts[0], page)
    with smtp_server() as server:
        (mail,) = received(server, message)
    assert mail["Subject"] == message.title
    assert part(mail, "plain") == message.body
    assert part(mail, "html") == html_of(message).removesuffix("\n")


def test_page_of_a_large_run_is_whole_where_the_text_is_cut() -> None:
    """What a chat has no room for, a mail has."""
    run, models = judged_run(random_summary(7, models=60, points=4))
    models = [model._replace(symbol=f"{model.symbol}{'x' * 100}") for model in models]
    news = RunNews(run.timestamp, None, "trainer-7", "/a/r", run.counts, run.policy, models)
    message = run_message(news, ALL)
    with smtp_server() as server:
        (mail,) = received(server, message)
    assert part(mail, "html").count('scope="row"') > message.body.count("\n- ")
    assert len(message.body) <= 3000


@pytest.mark.parametrize(
    ("run_name", "series"),
    [
        ("nightly-ppo", "nightly-ppo"),
        ("nightly-ppo-17", "nightly-ppo"),
        ("nightly_20241224_153000", "nightly"),
        ("nightly 2024-12-24T15:30:00Z", "nightly"),
        ("ppo-v2", "ppo-v2"),
        ("run42", "run42"),
        ("20241224", "20241224"),
        ("", "/out"),
        (None, "/out"),
    ],
)
def test_series_is_the_name_without_what_counts_the_runs(run_name: str | None, series: str) -> None:
    """Or the folder that its summary came from."""
    assert series_of(run_name, "/out/s.json") == series
