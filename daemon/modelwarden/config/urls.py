"""A destination's URL: where it stands, and the destination that it makes.

The rule: a URL is a secret. It is read here and handed on, and no message repeats it.
"""

import os
from typing import TYPE_CHECKING

from modelwarden.config.model import DestinationTable
from modelwarden.errors import StopService
from modelwarden.filesystems import show_path

if TYPE_CHECKING:
    from modelwarden.sinks.announcing import Target
    from modelwarden.sinks.chat.destinations import Destination
    from modelwarden.sinks.redactor import Redactor


def destination_of(table: DestinationTable, redactor: "Redactor") -> "Destination | Target":
    """One destination. Raises StopService if its settings can't be used: a URL can't be read or understood, say."""
    if table.kind == "file":
        from modelwarden.sinks.announcing import Asked  # noqa: PLC0415 - the courier's alone
        from modelwarden.sinks.file import EventFile  # noqa: PLC0415 - likewise

        asked = Asked(table.name, table.on, table.symbols, table.fallback or "", table.fallback_after)
        return EventFile(asked, table.path or "")
    from modelwarden.sinks.chat.destinations import Destination  # noqa: PLC0415 - heavy

    url, fallback = url_of(table), table.fallback or ""
    return Destination(table.name, url, table.on, table.symbols, fallback, table.fallback_after, redactor)


def url_of(table: DestinationTable) -> str:
    """The destination's URL: from the settings, a file of its own, or a systemd credential.

    Raises:
        StopService: the file can't be read or is empty, or there is no such credential.
    """
    if table.url is not None:
        return table.url.get_secret_value()
    where = f'destination "{table.name}"'
    path = table.url_file
    if path is None:
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if folder is None:
            raise StopService(
                f"its URL is the credential {table.url_credential}, and there are none",
                where=where,
                hint="LoadCredential= in the unit of modelwarden-courier",
            )
        path = os.path.join(folder, table.url_credential or "")
    try:
        with open(path, encoding="utf-8") as stream:
            url = stream.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise StopService(f"its URL can't be read from {show_path(path)} ({reason})", where=where) from None
    if not url:
        raise StopService(f"its URL can't be read: {show_path(path)} is empty", where=where)
    return url
