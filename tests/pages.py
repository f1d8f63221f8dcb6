"""The page of a message as a mail shows it."""

from modelwarden.sinks.chat.digest import Message
from modelwarden.sinks.chat.document import render_html


def html_of(message: Message) -> str:
    """The document without a picture."""
    assert message.page is not None
    return render_html(message.page)
