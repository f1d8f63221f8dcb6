"""A destination's URL and secret: where they stand, and the destination that they make.

The rule: a URL is a secret, too. Both are read here and handed on, and no message repeats them.
"""

import os
from typing import TYPE_CHECKING

from pydantic import SecretStr

from modelwarden.config.model import DestinationTable
from modelwarden.errors import StopService
from modelwarden.filesystems import show_path

if TYPE_CHECKING:
    from modelwarden.sinks.announcing import Asked, Target
    from modelwarden.sinks.chat.destinations import Destination
    from modelwarden.sinks.redactor import Redactor


def destination_of(table: DestinationTable, redactor: "Redactor") -> "Destination | Target":
    """One destination. Raises StopService if its settings can't be used: a URL can't be read or understood, say."""
    if table.kind == "file":
        from modelwarden.sinks.file import EventFile  # noqa: PLC0415 - the courier's alone

        return EventFile(_asked(table), table.path or "")
    if table.kind == "webhook":
        from modelwarden.sinks.webhook import Webhook  # noqa: PLC0415 - likewise

        return Webhook(_asked(table), url_of(table), _secret_of(table), redactor)
    from modelwarden.sinks.chat.destinations import Destination  # noqa: PLC0415 - heavy

    url, fallback = url_of(table), table.fallback or ""
    return Destination(table.name, url, table.on, table.symbols, fallback, table.fallback_after, redactor)


def url_of(table: DestinationTable) -> str:
    """The destination's URL: from the settings, a file of its own, or a systemd credential.

    Raises:
        StopService: the file can't be read or is empty, or there is no such credential.
    """
    return _told(table, "URL", table.url, table.url_file, table.url_credential)


def _secret_of(table: DestinationTable) -> str:
    """What its requests are signed with, likewise."""
    return _told(table, "secret", table.secret, table.secret_file, table.secret_credential)


def _asked(table: DestinationTable) -> "Asked":
    from modelwarden.sinks.announcing import Asked  # noqa: PLC0415 - the courier's alone

    return Asked(table.name, table.on, table.symbols, table.fallback or "", table.fallback_after)


def _told(table: DestinationTable, what: str, text: SecretStr | None, path: str | None, credential: str | None) -> str:
    if text is not None:
        return text.get_secret_value()
    where = f'destination "{table.name}"'
    if path is None:
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if folder is None:
            raise StopService(
                f"its {what} is the credential {credential}, and there are none",
                where=where,
                hint="LoadCredential= in the unit of modelwarden-courier",
            )
        path = os.path.join(folder, credential or "")
    try:
        with open(path, encoding="utf-8") as stream:
            told = stream.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise StopService(f"its {what} can't be read from {show_path(path)} ({reason})", where=where) from None
    if not told:
        raise StopService(f"its {what} can't be read: {show_path(path)} is empty", where=where)
    return told
