"""E-mail as a team gets it: through a real mail server that wants TLS and a login, into a mailbox."""

import socket
from pathlib import Path
from typing import Any, Final

import pytest

from processes import destination, drop, make_site, outbox_of, running_daemon, until
from rigs import mail_server as mta
from rigs.certificates import Authority
from rigs.mail_server import mail_server
from rigs.private_network import PrivateNetwork, private_network
from summaries import GOOD, MIDDLING, encoded, flat_summary

pytestmark = pytest.mark.delivery

SECRET: Final = "c4nary-s3cret"
ALL: Final = ("APPROVED", "REVIEW", "DROP", "REJECTED", "PROBLEM")
HOST: Final = socket.gethostname()


def test_mail_lies_in_the_mailbox_with_a_text_and_a_page(tmp_path: Path) -> None:
    """One mail a run, its subject the title, to one recipient; both parts name the models as the trainer does."""
    authority = Authority(tmp_path / "ca")
    with (
        private_network(tmp_path / "net") as network,
        mail_server(network, authority, tmp_path / "mta") as server,
    ):
        site = make_site(tmp_path / "site", destination("mail", server.url(), *ALL))
        with running_daemon("--config", site.config, log=site.log, how=network.how, env=authority.trusted) as daemon:
            for run, symbol in (("20240101_000000", "RÖCKET🚀"), ("20240102_000000", "<b>&amp;</b>")):
                models = {symbol: GOOD, "SOSO": MIDDLING}
                drop(encoded(flat_summary(models, timestamp=run)), site.out, f"{run}.json")
                daemon.wait_for("message_delivered", int(run[7]))
            until(lambda: len(server.mails()) == 2, f"two mails; the server says\n{server.log.read_text()}")
            assert daemon.stop() == 0
        mails = {mail["Subject"].partition("run ")[2].split()[0]: mail for mail in server.mails()}
        for run, symbol in (("20240101_000000", "RÖCKET🚀"), ("20240102_000000", "<b>&amp;</b>")):
            mail = mails[run]
            title, _, mark = mail["Subject"].rpartition(" [")
            assert title == f"APPROVED 1 · REVIEW 1 · DROP 0: run {run} ({HOST})"
            assert mark.endswith("]")
            assert mail["To"] == mta.RECIPIENT
            assert mail["Cc"] is mail["Bcc"] is None
            assert mail["From"].addresses[0].addr_spec == "modelwarden@example.org"
            assert [part.get_content_type() for part in mail.walk()] == [
                "multipart/alternative",
                "text/plain",
                "text/html",
            ]
            plain, page = (mail.get_body((kind,)) for kind in ("plain", "html"))
            assert plain is not None
            assert page is not None
            assert symbol in plain.get_content()
            assert "SOSO" in plain.get_content()
            assert "<table" in page.get_content()
            assert symbol.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in page.get_content()


def test_mail_is_not_handed_to_a_server_whose_certificate_is_of_another_ca(tmp_path: Path) -> None:
    """Not even the login: the message stays owed, and neither its error nor the log has the secret."""
    authority, another = Authority(tmp_path / "ca"), Authority(tmp_path / "another", "Another CA")
    with (
        private_network(tmp_path / "net") as network,
        mail_server(network, another, tmp_path / "mta") as server,
    ):
        (row,), log = failed_send(tmp_path, network, server.url(f"warden:{SECRET}"), authority)
        assert server.mails() == []
        assert "lost connection after STARTTLS" in server.log.read_text()
    assert (row["status"], row["repeated"]) == ("pending", 0)
    assert row["last_error"]
    assert SECRET not in row["last_error"] + log


def test_mail_that_the_server_refuses_stays_owed_and_is_no_possible_repeat(tmp_path: Path) -> None:
    """It answered, so nothing is in doubt."""
    authority = Authority(tmp_path / "ca")
    with (
        private_network(tmp_path / "net") as network,
        mail_server(network, authority, tmp_path / "mta") as server,
    ):
        (row,), _ = failed_send(tmp_path, network, server.url(to="nobody@example.org"), authority)
        assert "reject" in server.log.read_text()
    assert (row["status"], row["repeated"]) == ("pending", 0)


def failed_send(
    folder: Path, network: PrivateNetwork, url: str, trusted: Authority
) -> tuple[list[dict[str, Any]], str]:
    """Let a daemon try it once; what its outbox and its log then hold."""
    site = make_site(folder / "site", destination("mail", url, *ALL), level="debug")
    with running_daemon("--config", site.config, log=site.log, how=network.how, env=trusted.trusted) as daemon:
        drop(encoded(flat_summary(timestamp="20240101_000000")), site.out)
        daemon.wait_for("message_not_delivered")
        assert daemon.stop() == 0
    return outbox_of(site.state), site.log.read_text()
