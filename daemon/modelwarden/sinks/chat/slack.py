"""A message to Slack whose title a phone shows, too.

The rule: what Apprise makes of a message stays as it is. It is all an attachment, of which a notification shows
nothing; Slack takes a notification's words from the top-level `text`, and shows those in the channel as well unless the
message has blocks. So it gets the title as its text, and a block that says who writes.
"""

from typing import Any

from apprise.plugins.slack import NotifySlack


class Slack(NotifySlack):  # type: ignore[no-untyped-call]
    """Apprise's Slack service, with a text for notifications."""

    def _send(self, url: str, payload: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(payload, dict) and (title := _title_of(payload)):
            sender = {"type": "plain_text", "text": self.app_id}
            payload = {"text": title, "blocks": [{"type": "context", "elements": [sender]}], **payload}
        return super()._send(url, payload, *args, **kwargs)  # type: ignore[no-untyped-call]


def _title_of(payload: dict[str, Any]) -> str:
    """The title in either of Apprise's forms, its `<`, `>` and `&` entities already; "" if there is none."""
    for attachment in payload.get("attachments", ()):
        headers = (block["text"]["text"] for block in attachment.get("blocks", ()) if block.get("type") == "header")
        if title := next(headers, attachment.get("title", "")):
            return str(title)
    return ""
