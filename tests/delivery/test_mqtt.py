"""A third kind of service, which speaks neither HTTP nor SMTP: a message to a broker, heard by who has subscribed."""

import socket
from pathlib import Path
from typing import Any, Final

import pytest

from processes import destination, drop, make_site, outbox_of, running_daemon, until
from rigs.broker import Broker, broker
from summaries import GOOD, encoded, flat_summary

pytestmark = pytest.mark.delivery

SECRET: Final = "c4nary-s3cret"
HOST: Final = socket.gethostname()


def test_subscriber_hears_all_that_was_owed_while_the_broker_was_gone(tmp_path: Path) -> None:
    """Title and text: the broker has to acknowledge each, so that none is called delivered that it never took."""
    with broker(tmp_path / "broker", SECRET) as far:
        site = make_site(tmp_path / "site", destination("models", far.url(SECRET), "APPROVED"))
        with running_daemon("--config", site.config, log=site.log) as daemon:
            drop(encoded(flat_summary({"RÖCKET🚀": GOOD}, timestamp="20240101_000000")), site.out)
            (first,) = until(far.heard, "the message")
            daemon.wait_for("message_delivered")
            far.stop()
            drop(encoded(flat_summary({"SECOND": GOOD}, timestamp="20240102_000000")), site.out)
            daemon.wait_for("message_not_delivered")
            assert [row["status"] for row in outbox_of(site.state)] == ["delivered", "pending"]
            far.start()
            daemon.wait_for("message_delivered", 2, seconds=90)
            assert daemon.stop() == 0
        assert first["topic"] == "models"
        assert first["qos"] == 1
        title, *text = first["payload"].splitlines()
        assert title == f"APPROVED 1 · REVIEW 0 · DROP 0: run 20240101_000000 ({HOST})"
        assert text[0] == "APPROVED (1)"
        assert text[1].startswith("- RÖCKET🚀: fitness 0.91")
        assert [each["payload"].splitlines()[2].partition(":")[0] for each in far.heard()] == ["- RÖCKET🚀", "- SECOND"]
    assert SECRET not in site.log.read_text()


def test_message_that_the_broker_does_not_take_is_not_delivered(tmp_path: Path) -> None:
    """A login that is refused closes the connection after the message was written to it."""
    with broker(tmp_path / "broker", SECRET) as far:
        (row,), log = _failed_send(tmp_path, far, "an0ther-s3cret")
        assert far.heard() == []
    assert row["status"] == "pending"
    assert row["last_error"]
    assert "an0ther-s3cret" not in row["last_error"] + log


def _failed_send(folder: Path, far: Broker, password: str) -> tuple[list[dict[str, Any]], str]:
    quick = "[notify]\nsend_timeout_seconds = 2\n"
    site = make_site(folder / "site", destination("models", far.url(password), "APPROVED"), quick, level="debug")
    with running_daemon("--config", site.config, log=site.log) as daemon:
        drop(encoded(flat_summary(timestamp="20240101_000000")), site.out)
        daemon.wait_for("message_not_delivered")
        assert daemon.stop() == 0
    return outbox_of(site.state), site.log.read_text()
