"""A mail as a person's mail program wants it, handed over on Apprise's own connection.

The rule: text and page are the message's own, and nothing is fetched: a picture comes along and stands where the page
has it. The headers say that nobody wrote this, what it belongs to, and by which list it comes: no out-of-office note
answers it, a mail program gathers what belongs together, a filter finds it.
"""

import smtplib
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.header import Header
from email.message import Message as Part
from email.mime.image import MIMEImage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import format_datetime, formataddr, make_msgid
from hashlib import sha256
from typing import Any

from apprise.exception import AppriseException
from apprise.plugins.email import NotifyEmail
from apprise.plugins.email.smtp import SMTP_EXCEPTIONS, AppriseSMTPController

from modelwarden.sinks.chat.digest import PICTURE_FILE, Message
from modelwarden.sinks.chat.document import Picture, render_html


class Mail(NotifyEmail):  # type: ignore[no-untyped-call]
    """Apprise's e-mail service, but for what a mail is made of. To one recipient, and not signed or encrypted.

    Attributes:
        message: what `send` sends: Apprise hands down no more of it than a title and a body.
    """

    message: Message = Message("", "")

    def send(self, body: str, title: str = "", *_args: Any, **_kwargs: Any) -> bool:
        """Hand the mail to the server; False if it did not take it. Apprise's log says why."""
        del body  # the message has it
        apprise: Any = self  # which declares few types
        apprise.throttle()
        (recipient,) = apprise.targets
        mail = self._mail(title, recipient)
        try:
            with _Connection(
                host=apprise.smtp_host,
                port=apprise.port,
                secure_mode=apprise.secure_mode,
                user=apprise.user,
                password=apprise.password,
                verify_certificate=apprise.verify_certificate,
                # smtplib has one timeout for all, and a server may look at a mail for long before it takes it.
                socket_connect_timeout=max(apprise.socket_connect_timeout, apprise.socket_read_timeout),
            ) as server:
                # One alone, or a server could take it for the one and refuse the other: the first would get each try.
                recipients = [*apprise.cc, *apprise.bcc] or [recipient[1]]
                is_taken = server.sendmail(apprise.from_addr[1], recipients, mail.as_string())
        except (OSError, smtplib.SMTPException, RuntimeError, AppriseException) as error:
            is_taken = False
            apprise.logger.debug("Socket Exception: %s", error)  # in Apprise's own form, which is looked for
        if not is_taken:
            apprise.logger.warning("The mail server did not take the mail.")
        return is_taken

    def _mail(self, title: str, recipient: tuple[str, str]) -> Part:
        apprise: Any = self
        name, sender = apprise.from_addr
        mail = _content(self.message)
        headers = {"X-Application": apprise.app_id, **dict(_headers(self.message, sender, recipient[1]))}
        for each, value in (headers | apprise.headers).items():  # the URL's own (`?+X-Name=value`) outrank these
            mail[each] = _header(value)
        mail["Subject"] = _header(title)
        mail["From"] = formataddr((name or apprise.app_id, sender))
        mail["To"] = formataddr((recipient[0] or "", recipient[1]))
        mail["Date"] = format_datetime(datetime.now(UTC))
        for each, addresses in (("Cc", apprise.cc), ("Reply-To", apprise.reply_to)):
            if addresses:
                mail[each] = ", ".join(formataddr((apprise.names.get(one) or "", one)) for one in sorted(addresses))
        return mail


class _Connection(AppriseSMTPController):
    """Apprise's connection, but that its end is not waited for.

    What the server took stays taken, and a goodbye that never comes would make a repeat of it.
    """

    def __exit__(self, *_error: object) -> None:
        connection: Any = self._socket  # which Apprise declares as None
        with suppress(*SMTP_EXCEPTIONS):
            connection.putcmd("quit")
        connection.close()


def _content(message: Message) -> Part:
    """Text alone, or text and page, and the picture that the page shows."""
    text = MIMEText(message.body, "plain", "utf-8")
    if message.page is None:
        return text
    picture_id = f"fitness.{message.mark or 'run'}@modelwarden"
    shown = Picture(f"cid:{picture_id}", message.caption) if message.picture else None
    both = MIMEMultipart("alternative", None, [text, MIMEText(render_html(message.page, shown), "html", "utf-8")])
    if not message.picture:
        return both
    picture = MIMEImage(message.picture, "png")
    picture["Content-ID"] = f"<{picture_id}>"
    picture.add_header("Content-Disposition", "inline", filename=PICTURE_FILE)
    return MIMEMultipart("related", None, [both, picture])


def _headers(message: Message, sender: str, recipient: str) -> Iterator[tuple[str, str]]:
    domain = sender.rpartition("@")[2]
    yield "Auto-Submitted", "auto-generated"  # RFC 3834: who answers by machine does not answer this
    yield "X-Auto-Response-Suppress", "All"  # the same for Exchange
    yield "List-Id", f"modelwarden <modelwarden.{domain}>"
    if message.mark:  # a repeat is the same mail, and a server that knows it may keep one
        yield "Message-ID", f"<{message.mark}.{_digest(recipient, message.body)}.modelwarden@{domain}>"
    else:
        yield "Message-ID", make_msgid(domain=domain)
    if message.thread:  # a message that never was, to which all of them are answers
        first = f"<{_digest(message.thread)}.modelwarden@{domain}>"
        yield "In-Reply-To", first
        yield "References", first


def _digest(*texts: str) -> str:
    return sha256("\0".join(texts).encode()).hexdigest()[:16]


def _header(value: str) -> Any:
    return value if value.isascii() else Header(value, "utf-8")
