"""What the settings' destinations lead to.

The rule: Apprise is imported where a destination is made, and nowhere before: it costs a quarter of a second.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from modelwarden.config import Settings, destination_of

if TYPE_CHECKING:
    from modelwarden.sinks.announcing import Target
    from modelwarden.sinks.chat.destinations import Destination

UNENCRYPTED_HINT: Final = "its mail and its password cross the network as plain text: write mailtos:// for mailto://"


def destinations_of(settings: Settings) -> Sequence["Destination | Target"]:
    """What the configured destinations lead to. Imports Apprise, which costs a quarter of a second.

    Raises:
        StopService: a URL can't be read, or Apprise does not understand it, or a file can't be written; the message
            names the destination.
    """
    from modelwarden.sinks.redactor import Redactor  # noqa: PLC0415 - brings the courier along

    redactor = Redactor()
    return [destination_of(each, redactor) for each in settings.notify.destination]
