"""A webhook over TLS: only the receiver that its URL names gets an event, and nobody else hears a byte of it."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from modelwarden.sinks.announcing import Asked
from modelwarden.sinks.protocol import Delivered, PerhapsDelivered, TryLater
from modelwarden.sinks.redactor import Redactor
from modelwarden.sinks.webhook import SIGNATURE, Webhook
from rigs.certificates import Authority
from servers import http_server

pytestmark = pytest.mark.delivery

EVENT = {"specversion": "1.0", "id": "run:1"}
SECRET = "c4nary-secret-of-the-webhook"


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The CA that this host trusts, and no other."""
    authority = Authority(tmp_path / "ca")
    for name, value in authority.trusted.items():
        monkeypatch.setenv(name, value)
    return authority


def webhook(port: int) -> Webhook:
    """A destination that leads to this host over TLS."""
    return Webhook(Asked("deploy", ("APPROVED",)), f"https://localhost:{port}/c4nary-path", SECRET, Redactor())


def test_receiver_with_its_own_certificate_gets_the_event(authority: Authority) -> None:
    """Signed, and encrypted on the way."""
    with http_server(tls=authority.served("localhost")) as server:
        assert webhook(server.port).send([EVENT], 5.0) == Delivered()
        (posted,) = server.accepted
    assert SIGNATURE in posted.headers


@pytest.mark.parametrize(
    "impostor",
    [
        lambda authority, _: authority.served("deploy.example"),
        lambda _, folder: Authority(folder, "Somebody else's CA").served("localhost"),
    ],
    ids=["of another host", "of another authority"],
)
def test_receiver_with_a_wrong_certificate_gets_nothing(
    authority: Authority, tmp_path: Path, impostor: Callable[[Authority, Path], ssl.SSLContext]
) -> None:
    """It is tried later, for the mistake may be mended; the reason says that it is the certificate, and no secret."""
    with http_server(tls=impostor(authority, tmp_path / "other")) as server:
        outcome = webhook(server.port).send([EVENT], 5.0)
        assert server.requests == []
    assert isinstance(outcome, TryLater)
    assert "certificate" in outcome.error.lower()
    assert "c4nary" not in outcome.error


def test_receiver_that_speaks_no_tls_gets_nothing(authority: Authority) -> None:
    """An answer in plain text is none."""
    del authority
    with http_server() as server:
        outcome = webhook(server.port).send([EVENT], 5.0)
        assert server.accepted == []
    assert isinstance(outcome, TryLater | PerhapsDelivered)
    assert "c4nary" not in outcome.error
