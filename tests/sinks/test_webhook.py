"""The webhook sink: signed CloudEvents, and an answer that decides whether one is sent again."""

import json
import re
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from modelwarden.errors import StopService
from modelwarden.sinks.announcing import Asked
from modelwarden.sinks.protocol import Delivered, Delivery, PerhapsDelivered, Refused, TryLater
from modelwarden.sinks.redactor import Redactor
from modelwarden.sinks.webhook import SIGNATURE, Webhook, signature_of
from processes import drop, make_site, modelwarden, outbox_of
from servers import Answer, HttpServer, http_server, unused_port
from summaries import GOOD, encoded, flat_summary

SECRET = "c4nary-secret-of-the-webhook"
GUIDE = Path(__file__).parents[2] / "daemon" / "README.md"
EVENT = {"specversion": "1.0", "id": "run:1"}


@pytest.fixture
def server() -> Iterator[HttpServer]:
    """A receiver that takes everything."""
    with http_server() as server:
        yield server


def webhook(url: str, secret: str = SECRET) -> Webhook:
    """A destination that leads there."""
    return Webhook(Asked("deploy", ("APPROVED",)), url, secret, Redactor())


def url_of(server: HttpServer) -> str:
    return f"http://127.0.0.1:{server.port}/c4nary-t0ken-12345"


def post(server: HttpServer, answer: int | Answer, **headers: str) -> Delivery:
    """What comes of one event that is answered so."""
    server.answer, server.headers = answer, {name.replace("_", "-"): value for name, value in headers.items()}
    return webhook(url_of(server)).send([EVENT], 1.0)


@pytest.fixture
def is_genuine() -> Callable[[str, bytes, bytes], bool]:
    """The guide's own example."""
    (example,) = re.findall(r"```python\n(import hashlib.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Callable[[str, bytes, bytes], bool]] = {}
    exec(example, names)
    return names["is_genuine"]


def test_run_arrives_signed_as_the_guide_checks_it(
    tmp_path: Path, server: HttpServer, is_genuine: Callable[[str, bytes, bytes], bool]
) -> None:
    """From a file to a request: what a deploy pipeline needs, and proof of who sent it; no secret anywhere."""
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    secret.chmod(0o600)
    table = f'[[notify.destination]]\nname = "deploy"\nkind = "webhook"\nurl = "{url_of(server)}"\n'
    site = make_site(tmp_path / "site", f'{table}secret_file = "{secret}"\non = ["APPROVED"]\n')
    drop(encoded(flat_summary({"BTC": GOOD}, timestamp="20240101_000000")), site.out)
    said = ""
    for arguments in (["run", "--once", "--no-courier"], ["courier", "--drain"], ["config", "show"]):
        done = modelwarden(*arguments, "--config", site.config)
        assert done.returncode == 0, done.stderr
        said += done.stdout + done.stderr
    (posted,) = server.requests
    assert posted.headers["Content-Type"].startswith("application/cloudevents+json")
    event = json.loads(posted.body)
    assert (event["specversion"], event["type"]) == ("1.0", "io.modelwarden.run.judged.v1")
    assert event["subject"] == "20240101_000000"
    (model,) = event["data"]["models"]
    assert (model["symbol"], model["classification"]) == ("BTC", "APPROVED")
    header = posted.headers[SIGNATURE]
    assert is_genuine(header, posted.body, SECRET.encode())
    assert not is_genuine(header, posted.body + b" ", SECRET.encode())
    assert not is_genuine(header, posted.body, b"another")
    assert not is_genuine(signature_of(b"old", SECRET.encode(), int(time.time()) - 600), b"old", SECRET.encode())
    assert "c4nary" not in said
    assert [row["status"] for row in outbox_of(site.state)] == ["delivered"]


@pytest.mark.parametrize("status", [200, 201, 204])
def test_2xx_is_delivered(server: HttpServer, status: int) -> None:
    """It was taken."""
    assert post(server, status) == Delivered()


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422])
def test_other_4xx_is_refused_for_good(server: HttpServer, status: int) -> None:
    """No later try would be taken."""
    assert post(server, status) == Refused(f"it answered {status}")


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_busy_receiver_is_tried_later_when_it_asks(server: HttpServer, status: int) -> None:
    """In seconds or as a date; what can't be read asks for nothing."""
    assert post(server, status, Retry_After="120") == TryLater(f"it answered {status}", 120.0)
    outcome = post(server, status, Retry_After=formatdate(time.time() + 100, usegmt=True))
    assert isinstance(outcome, TryLater)
    assert 0 < outcome.pause <= 101
    assert post(server, status, Retry_After="soon") == TryLater(f"it answered {status}")


@pytest.mark.parametrize("status", [102, 103, 502, 504])
def test_answer_that_is_not_the_receivers_leaves_open_whether_it_was_taken(server: HttpServer, status: int) -> None:
    """What comes before an answer, and what a gateway says in its place: the next says that it may be a repeat."""
    outcome = post(server, status)
    assert isinstance(outcome, PerhapsDelivered)
    assert outcome.error == f"it answered {status}"


def test_redirect_is_not_followed(server: HttpServer) -> None:
    """A signed event goes nowhere else."""
    assert isinstance(post(server, 302), TryLater)
    assert isinstance(post(server, 307), TryLater)
    assert len(server.requests) == 2


@pytest.mark.parametrize("answer", [Answer.HANG, Answer.CLOSE])
def test_lost_answer_is_perhaps_delivered(server: HttpServer, answer: Answer) -> None:
    """Nobody knows; the next says that it may be a repeat. No token is told."""
    outcome = post(server, answer)
    assert isinstance(outcome, PerhapsDelivered)
    assert "c4nary" not in outcome.error


def test_receiver_that_is_not_there_is_tried_later() -> None:
    """Nothing was taken."""
    outcome = webhook(f"http://127.0.0.1:{unused_port()}/c4nary-t0ken-12345").send([EVENT], 1.0)
    assert isinstance(outcome, TryLater)
    assert "c4nary" not in outcome.error


def test_refused_event_is_dead_at_once_and_the_next_is_sent(tmp_path: Path, server: HttpServer) -> None:
    """It is shown in the outbox; what stands behind it need not wait."""
    table = f'[[notify.destination]]\nname = "deploy"\nkind = "webhook"\nurl = "{url_of(server)}"\n'
    site = make_site(tmp_path / "site", f'{table}secret = "{SECRET}"\non = ["APPROVED"]\n')
    for day in (1, 2):
        summary = flat_summary({f"SYM{day}": GOOD}, timestamp=f"2024010{day}_000000")
        drop(encoded(summary), site.out, f"{day}.json")
    assert modelwarden("run", "--once", "--no-courier", "--config", site.config).returncode == 0
    answers = iter([422])
    server.answer = lambda _posted: next(answers, 200)
    modelwarden("courier", "--drain", "--config", site.config)
    assert [row["status"] for row in outbox_of(site.state)] == ["dead", "delivered"]


@pytest.mark.parametrize(
    "url",
    ["http://deploy.example.com/", "https://", "ftp://127.0.0.1/", "https://user:passw0rd@host/", "https://[::1/", "x"],
)
def test_url_that_would_leak_or_lead_nowhere_stops_the_start(url: str) -> None:
    """Plain HTTP is for this host alone; the URL is not told."""
    with pytest.raises(StopService, match="deploy") as caught:
        webhook(url)
    assert "passw0rd" not in str(caught.value)


def test_short_secret_stops_the_start() -> None:
    """One that can be guessed signs nothing; it is not told."""
    with pytest.raises(StopService, match="deploy") as caught:
        webhook("https://deploy.example.com/", "c4nary")
    assert "c4nary" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            'url = "https://deploy.example.com/"\n',
            "needs one of secret, secret_file and secret_credential",
        ),
        (f'secret = "{SECRET}"\n', "needs one of url, url_file and url_credential, and has none"),
        (f'url = "http://deploy.example.com/"\nsecret = "{SECRET}"\n', "its URL is http://"),
        (f'url = "https://deploy.example.com/"\nsecret = "{SECRET}"\npath = "x"\n', 'kind = "webhook"'),
    ],
)
def test_settings_that_are_no_webhook_are_refused(tmp_path: Path, settings: str, words: str) -> None:
    """By what is missing, and without the secret."""
    site = make_site(tmp_path, f'[[notify.destination]]\nname = "deploy"\nkind = "webhook"\n{settings}')
    done = modelwarden("config", "check", site.config)
    assert done.returncode == 2
    assert words in done.stderr
    assert "c4nary" not in done.stderr
