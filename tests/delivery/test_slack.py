"""Slack, played under its own name by a server that refuses what Slack refuses: daemon, courier and TLS are real.

The rule: a message that the stand-in refuses is a failure of every test here, whatever it was about.
"""

import json
import socket
from collections.abc import Iterator
from typing import Final, NamedTuple

import pytest

from processes import Daemon, Site, destination, drop, make_site, running_daemon, until
from rigs import slack
from rigs.certificates import Authority
from rigs.private_network import private_network
from servers import HttpServer, Posted, http_server
from summaries import BAD, GOOD, MIDDLING, encoded, flat_summary

pytestmark = pytest.mark.delivery

HOST: Final = socket.gethostname()
ALL: Final = ("APPROVED", "REVIEW", "DROP", "REJECTED", "PROBLEM")
TOKENS: Final = "T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"

FORMS: Final = {"attachment": f"slack://{TOKENS}/#models", "blocks": f"slack://{TOKENS}/#models?blocks=yes"}
"""The two forms in which Apprise writes to a webhook, by the name of a destination."""

HOSTILE: Final = (
    *("<!channel>", "<!here|all>", "<!subteam^S012345>", "<@U024BE7LH>", "<#C024BE7LR>"),
    *(
        "<https://evil.example|the report>",
        "<mailto:a@b.example|a>",
        "&lt;!channel&gt;",
        "a&b",
        "<b>x</b>",
        "<",
        "]]>&",
    ),
    *("*bold* _it_ ~no~ `code`", "```fence", "> quote", "@channel", "@here", ":tada:", "quote\"'"),
)
"""Symbols that would do something in Slack, or to what is shown there."""


class Channel(NamedTuple):
    """A daemon that writes to Slack in both forms, and what Slack got."""

    site: Site
    daemon: Daemon
    server: HttpServer

    def read_of(self, words: str) -> list[slack.Read]:
        """What can be read about something, once both forms of it were taken."""

        def taken() -> list[slack.Read]:
            found = [read for read in map(slack.read, self.server.accepted) if words in read.title]
            return found if len(found) >= len(FORMS) else []

        try:
            return until(taken, f"messages about {words}")
        except AssertionError as error:
            refused = [list(slack.violations(each)) for each in self.server.requests]
            raise AssertionError(f"{error}; Slack found: {refused}") from None


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Channel]:
    """Eight runs wait when the daemon starts for the first time."""
    folder = tmp_path_factory.mktemp("slack")
    authority = Authority(folder / "ca")
    with private_network(folder / "net") as network:
        network.name(slack.HOST)
        with http_server(network.listener(443), authority.served(slack.HOST)) as server:
            server.answer, server.says = slack.answer, slack.TAKEN
            site = make_site(folder / "site", *(destination(name, url, *ALL) for name, url in FORMS.items()))
            for number in range(8):
                models = {f"{symbol} {number}": GOOD for symbol in HOSTILE}
                drop(encoded(flat_summary(models, timestamp=f"2024010{number + 1}_000000")), site.out, f"{number}.json")
            with running_daemon(
                "--config", site.config, log=site.log, how=network.how, env=authority.trusted
            ) as daemon:
                daemon.wait_for("message_delivered", len(FORMS))
                yield Channel(site, daemon, server)
                assert daemon.stop() == 0
            assert server.requests == server.accepted, "Slack refused something"


def test_many_runs_are_one_message_that_slack_takes(channel: Channel) -> None:
    """One a form, for the eight that waited; the approved models stand first, as they are called."""
    for message in channel.read_of("8 runs"):
        assert message.title == f"APPROVED {8 * len(HOSTILE)} · REVIEW 0 · DROP 0: 8 runs ({HOST})"
        assert message.text.startswith(f"APPROVED ({8 * len(HOSTILE)})\n- <!channel> 0: run 20240101_000000")
    assert len(channel.read_of("8 runs")) == len(FORMS)


def test_names_from_a_summary_are_shown_and_never_live(channel: Channel) -> None:
    """Mentions, links, entities and controls: the reader sees the very characters, Slack sees nothing to act on."""
    for number in range(0, len(HOSTILE), 10):
        symbols = HOSTILE[number : number + 10]
        timestamp = f"2024020{number // 10 + 1}_000000"
        models = dict(zip(symbols, [GOOD, MIDDLING, BAD] * 4, strict=False))
        run_name = "<!everyone> <https://evil.example|deploy> & &amp; done"
        drop(
            encoded(flat_summary(models, timestamp=timestamp, run_name=run_name)), channel.site.out, f"{timestamp}.json"
        )
        for message in channel.read_of(timestamp):
            named = [line[2:].partition(": fitness")[0] for line in message.text.splitlines() if line.startswith("- ")]
            assert sorted(named) == sorted(symbols)
            assert f"run name: {run_name}\n" in message.text


@pytest.mark.parametrize(
    ("timestamp", "symbol"),
    [
        pytest.param("20240301_000000", "PLAIN{:03d}", id="plain"),
        pytest.param("20240302_000000", "<&>" * 9 + "{:03d}", id="entities"),
        pytest.param("20240303_000000", "🚀" * 60 + "{:03d}", id="wide"),
    ],
)
def test_run_of_500_models_is_cut_to_what_slack_takes(channel: Channel, timestamp: str, symbol: str) -> None:
    """What was left out is counted, also where every character of a name is sent as an entity."""
    models = {symbol.format(number): (GOOD, MIDDLING, BAD)[number % 3] for number in range(500)}
    summary = flat_summary(models, timestamp=timestamp, run_name="&" * 256)
    drop(encoded(summary), channel.site.out, f"{timestamp}.json")
    for message in channel.read_of(timestamp):
        assert message.title == f"APPROVED 167 · REVIEW 167 · DROP 166: run {timestamp} ({HOST})"
        named = sum(line.startswith("- ") for line in message.text.splitlines())
        left_out = [int(line.split()[2]) for line in message.text.splitlines() if line.startswith("… and ")]
        assert named + sum(left_out) == 500
        assert named >= 3


def test_phone_shows_the_title_and_the_channel_shows_it_once(channel: Channel) -> None:
    """Slack takes a notification's words from the top-level text, in which nothing is live either."""
    drop(encoded(flat_summary({"A": GOOD}, timestamp="20240401_000000")), channel.site.out, "phone.json")
    for message in channel.read_of("20240401_000000"):
        assert message.notification == message.title
        assert not message.shown_twice


def test_rejected_file_with_a_hostile_name_is_announced(channel: Channel) -> None:
    """A file's name and the reason are from outside as well."""
    drop(b'{"models": {"<!channel>": 5}}', channel.site.out, "<!channel> & <@U024BE7LH>.json")
    for message in channel.read_of("REJECTED"):
        name = "<!channel> & <@U024BE7LH>.json"
        assert message.title.startswith(f"REJECTED: {name}: ")
        assert message.text.startswith(f"{channel.site.out}/{name} on {HOST}: ")


def _posted(payload: object, path: str = f"/services/{TOKENS}", **headers: str) -> Posted:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Posted("POST", path, {"Content-Type": "application/json"} | headers, body)


def _block(kind: str, text: str, form: str = "plain_text") -> dict[str, object]:
    return {"type": kind, "text": {"type": form, "text": text}}


REFUSED: Final = {
    "no_json": _posted(b"payload"),
    "a_form": _posted({"text": "x"}, **{"Content-Type": "application/x-www-form-urlencoded"}),
    "nothing_to_show": _posted({"mrkdwn": False}),
    "not_a_webhook": _posted({"text": "x"}, "/services/elsewhere"),
    "long_header": _posted({"blocks": [_block("header", "x" * 151)]}),
    "marked_up_header": _posted({"blocks": [_block("header", "x", "mrkdwn")]}),
    "long_section": _posted({"attachments": [{"blocks": [_block("section", "x" * 3001)]}]}),
    "empty_section": _posted({"blocks": [_block("section", "")]}),
    "many_blocks": _posted({"blocks": [_block("section", "x")] * 51}),
    "unknown_block": _posted({"blocks": [_block("table", "x")]}),
    "long_context": _posted({"blocks": [{"type": "context", "elements": [{"type": "mrkdwn", "text": "x"}] * 11}]}),
    "many_attachments": _posted({"attachments": [{"text": "x"}] * 101}),
    "mention": _posted({"attachments": [{"title": "x", "text": "for <!channel>"}]}),
    "mention_in_the_title": _posted({"attachments": [{"title": "<@U024BE7LH>", "text": "x"}]}),
    "link": _posted({"text": "<https://evil.example|here>"}),
    "bare_ampersand": _posted({"text": "a & b"}),
    "names_looked_for": _posted({"text": "@channel", "link_names": 1}),
}


@pytest.mark.parametrize("posted", [pytest.param(posted, id=name) for name, posted in REFUSED.items()])
def test_stand_in_refuses_what_slack_refuses(posted: Posted) -> None:
    """Else the tests above would prove nothing; at each limit itself the same message is taken."""
    assert slack.answer(posted) in {400, 404}


def test_stand_in_takes_what_is_at_every_limit() -> None:
    """A rig that refuses more than Slack would hide what arrives."""
    blocks = [_block("header", "x" * 150), *[_block("section", "&lt;" * 750)] * 49]
    context = {"type": "context", "elements": [{"type": "plain_text", "text": "x"}] * 10}
    for payload in (
        {"text": "a &amp; b"},
        {"blocks": blocks},
        {"blocks": [context]},
        {"attachments": [{"text": "x"}] * 100},
    ):
        assert slack.answer(_posted(payload)) == 200
