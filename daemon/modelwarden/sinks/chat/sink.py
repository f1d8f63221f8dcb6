"""The chat sink: one message that a person reads for what is owed, with a picture if the service takes one.

The rule: composing reads the state and is done on the courier's thread; the picture and the send share the time of one
send, and a picture never costs a message.
"""

import time
from collections.abc import Callable, Sequence

from modelwarden.sinks.chat.composing import Composer
from modelwarden.sinks.chat.destinations import Destination
from modelwarden.sinks.chat.picture import SHARE, Draw, Pictures
from modelwarden.sinks.chat.plot import caption_of
from modelwarden.sinks.protocol import Bundling, Call, Delivery, Sink
from modelwarden.state.catalog import Catalog
from modelwarden.state.database import Database
from modelwarden.state.messages import Bundle


class ChatSink(Sink):
    """One destination of Apprise's.

    Args:
        destination: the service.
        composer: composes messages; one for all, since many are told the same.
        pictures: draws them; None for messages without.
        digest_above: more messages than this owed at once become one.
    """

    def __init__(
        self, destination: Destination, composer: Composer, pictures: Pictures | None, digest_above: int
    ) -> None:
        super().__init__(
            destination.name,
            tuple(destination.on),
            destination.symbols,
            destination.fallback,
            destination.fallback_after,
        )
        self.bundling = Bundling(digest_above, gathers=True)
        self._destination = destination
        self._composer = composer
        self._pictures = pictures

    def start_over(self) -> None:
        """Let go of the runs that were loaded."""
        self._composer.start_over()

    def prepare(self, bundle: Bundle, asked: Sink) -> Call | None:
        """The message that stands for these, ready to be sent; None if a run of theirs is not known."""
        takes_pictures = self._destination.takes_pictures
        composed = self._composer.compose(bundle, asked.on, asked.symbols, takes_pictures=takes_pictures)
        if composed is None:
            return None
        message, pictured = composed

        def send(seconds: float) -> Delivery:
            end = time.monotonic() + seconds
            whole = message
            if pictured is not None and self._pictures is not None:
                picture = self._pictures.of(pictured, SHARE * seconds)
                whole = message._replace(picture=picture, caption=caption_of(pictured) if picture else "")
            return self._destination.send(whole, end - time.monotonic())

        return send

    def test(self, seconds: float) -> Delivery:
        """Send a message that is about no run."""
        return self._destination.test(seconds)

    def redact(self, text: str) -> str:
        """The text without what may be secret."""
        return self._destination.redact(text)

    def goes_unencrypted(self) -> bool:
        """Whether mail to it, and the password for it, crosses a network as plain text."""
        return self._destination.goes_unencrypted()


def chat_sinks(
    destinations: Sequence[Destination],
    database: Database,
    report_path: Callable[[str], str],
    *,
    digest_above: int,
    draw: Draw | None = None,
) -> list[Sink]:
    """The sinks of these services, which share what they load and draw.

    Args:
        destinations: the services.
        database: the open state file.
        report_path: from a run's name to the path of its report.
        digest_above: more messages than this owed to one at once become one.
        draw: draws the picture of a run; None for messages without pictures.
    """
    composer = Composer(Catalog(database), report_path)
    pictures = None if draw is None else Pictures(draw)
    return [ChatSink(each, composer, pictures, digest_above) for each in destinations]
