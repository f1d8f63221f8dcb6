"""A mail server as a team runs one: Postfix, which speaks to nobody without TLS and puts mail into a maildir.

The rule: it is the distribution's own program in the rig's network and mounts, with settings of its own. Its queue, its
state and its mailboxes are tmpfs, and the machine's mail is not touched.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Final

from processes import DIES_WITH_US
from rigs.certificates import Authority
from rigs.needs import needs
from rigs.private_network import PrivateNetwork

HOST: Final = "mail.example.org"
PORT: Final = 587
SENDER: Final = "modelwarden@example.org"
RECIPIENT: Final = "team@example.org"

_BOXES: Final = Path("/var/mail")
_NOBODY: Final = 65534

_SETTINGS: Final = f"""
compatibility_level = 3.6
myhostname = {HOST}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_recipient_restrictions = reject_unauth_destination
virtual_mailbox_domains = example.org
virtual_mailbox_base = {_BOXES}
virtual_mailbox_maps = inline:{{ {{ {RECIPIENT} = team/ }} }}
virtual_uid_maps = static:{_NOBODY}
virtual_gid_maps = static:{_NOBODY}
alias_maps =
alias_database =
smtpd_tls_security_level = encrypt
maillog_file_prefixes = /
"""

_SERVICES: Final = f"""
{PORT}   inet         n  -  n  -     -  smtpd
cleanup  unix         n  -  n  -     0  cleanup
qmgr     unix         n  -  n  300   1  qmgr
tlsmgr   unix         -  -  n  1000? 1  tlsmgr
rewrite  unix         -  -  n  -     -  trivial-rewrite
bounce   unix         -  -  n  -     0  bounce
defer    unix         -  -  n  -     0  bounce
trace    unix         -  -  n  -     0  bounce
error    unix         -  -  n  -     -  error
retry    unix         -  -  n  -     -  error
proxymap unix         -  -  n  -     -  proxymap
anvil    unix         -  -  n  -     1  anvil
virtual  unix         -  n  n  -     -  virtual
postlog  unix-dgram   n  -  n  -     1  postlogd
"""
"""What takes a mail and puts it into a mailbox; nothing that sends one on."""


_TOGETHER: Final = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", '"$@"; exit', "sh")
"""Its processes leave those that started them, and who changes rights forgets to die with a parent: in a process
namespace of their own they all end with its first one, a shell that does neither.
"""


class MailServer:
    """The server, running.

    Attributes:
        log: what it says of each session.
    """

    def __init__(self, network: PrivateNetwork, log: Path) -> None:
        self._box = network.seen(_BOXES) / "team"
        self.log = log

    def url(self, login: str = "", to: str = RECIPIENT) -> str:
        """The Apprise URL that leads here."""
        return f"mailtos://{login}{'@' if login else ''}{HOST}:{PORT}?from={SENDER}&to={to}&smtp={HOST}"

    def mails(self) -> list[EmailMessage]:
        """What lies in the team's mailbox, oldest first."""
        files = sorted(self._box.glob("new/*"), key=lambda file: file.stat().st_mtime_ns)
        return [message_from_bytes(file.read_bytes(), policy=policy.default) for file in files]


@contextmanager
def mail_server(network: PrivateNetwork, authority: Authority, folder: Path) -> Iterator[MailServer]:
    """Start the server, certified by that CA; it ends with the test."""
    needs(root=True, commands=("postfix", "install", "unshare"))
    network.name(HOST)
    for mount in (Path("/var/spool"), Path("/var/lib/postfix"), _BOXES):
        network.tmpfs(mount)
    network.run("install", "-d", "/var/spool/postfix")
    network.run("install", "-d", "-o", "postfix", "/var/lib/postfix")
    network.run("install", "-d", "-o", str(_NOBODY), _BOXES / "team")
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = authority.certify(HOST)
    log = folder / "postfix.log"
    (folder / "main.cf").write_text(
        f"{_SETTINGS}maillog_file = {log}\nsmtpd_tls_chain_files = {folder / 'chain.pem'}\n", encoding="ascii"
    )
    (folder / "master.cf").write_text(_SERVICES)
    (folder / "chain.pem").write_text(key.read_text() + certificate.read_text())
    process = subprocess.Popen(
        [*network.how, *DIES_WITH_US, *_TOGETHER, "postfix", "-c", folder, "start-fg"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        network.wait_for_server(PORT, process, log)
        yield MailServer(network, log)
    finally:
        process.kill()
        process.wait()
