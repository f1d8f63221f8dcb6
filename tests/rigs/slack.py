"""Slack's side of an incoming webhook: what it takes, what it refuses, and what a reader then sees.

The rule: a limit stands here with the words of Slack's documentation of it, and one that is passed is refused as Slack
does, so that a message that is too long is one that never arrives.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from html import unescape
from typing import Any, Final, NamedTuple

from servers import Posted

HOST: Final = "hooks.slack.com"

PATH: Final = re.compile(r"/services/T[A-Z0-9]+/B?[A-Z0-9]+/[A-Za-z0-9]+")
"""docs.slack.dev/messaging/sending-messages-using-incoming-webhooks: the URL that a workspace gives out."""

MOST_BLOCKS: Final = 50
"""reference/block-kit/blocks: "You can include up to 50 blocks in each message"."""

LONGEST_HEADER: Final = 150
"""reference/block-kit/blocks/header-block: "Maximum length for the text in this field is 150 characters"."""

LONGEST_SECTION: Final = 3000
"""reference/block-kit/blocks/section-block: "Maximum length for the text in this field is 3000 characters"."""

MOST_ELEMENTS: Final = 10
"""reference/block-kit/blocks/context-block: "Maximum number of items is 10"."""

MOST_ATTACHMENTS: Final = 100
"""reference/methods/chat.postMessage, too_many_attachments: "A message can have a maximum of 100"."""

_KINDS_OF_TEXT: Final = frozenset({"plain_text", "mrkdwn"})

_LIVE: Final = re.compile(r"<[^<>]*>")
"""messaging/formatting-message-text: what stands between angle brackets is a mention or a link, or an attempt at one;
`&`, `<` and `>` of a text are to be sent as entities."""

_BARE: Final = re.compile(r"&(?!lt;|gt;|amp;)|[<>]")


TAKEN: Final = b"ok"
"""What the body of a 200 says; whoever posts may look for it."""


class Read(NamedTuple):
    """A message as it stands in the channel.

    Attributes:
        title: its headline.
        text: all below it, entities decoded.
        notification: what a phone shows of it: the top-level text, and never an attachment.
        shown_twice: whether that text stands in the channel too: without blocks it does.
    """

    title: str
    text: str
    notification: str
    shown_twice: bool


def answer(posted: Posted) -> int:
    """The status that Slack answers with."""
    if posted.method != "POST" or not PATH.fullmatch(posted.path):
        return 404  # no_service
    return 400 if list(violations(posted)) else 200


def violations(posted: Posted) -> Iterator[str]:
    """What Slack would refuse, or what a reader would find live that was meant to be read."""
    if not posted.headers.get("Content-Type", "").startswith("application/json"):
        yield "invalid_payload: the form is JSON, and the header must say so"
    try:
        payload = json.loads(posted.body)
    except ValueError:
        yield "invalid_payload: no JSON"
        return
    if not isinstance(payload, dict) or not payload.keys() & {"text", "blocks", "attachments"}:
        yield "no_text"
        return
    attachments = payload.get("attachments", [])
    if len(attachments) > MOST_ATTACHMENTS:
        yield "too_many_attachments"
    for carrier in (payload, *attachments):
        yield from _of_blocks(carrier.get("blocks", []))
    if payload.get("link_names") or payload.get("parse", "none") != "none":
        yield "live: names and links are looked for in the text"
    yield from (f"live: {_LIVE.findall(text) or text[:80]}" for text in _texts(payload) if _BARE.search(text))


def read(posted: Posted) -> Read:
    """What a person sees of it, in either form that Apprise sends."""
    payload = json.loads(posted.body)
    (attachment,) = payload["attachments"]
    if blocks := attachment.get("blocks"):
        header, section = (next(each for each in blocks if each["type"] == kind) for kind in ("header", "section"))
        title, text = header["text"]["text"], section["text"]["text"]
    else:
        title, text = attachment["title"], attachment["text"]
    notification = payload.get("text", "")
    return Read(
        unescape(title), unescape(text), unescape(notification), bool(notification and not payload.get("blocks"))
    )


def _of_blocks(blocks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if len(blocks) > MOST_BLOCKS:
        yield f"invalid_blocks: {len(blocks)} blocks"
    for block in blocks:
        yield from _of_block(block)


def _of_block(block: Mapping[str, Any]) -> Iterator[str]:
    match block.get("type"):
        case "header":
            yield from _of_text(block["text"], LONGEST_HEADER, {"plain_text"})
        case "section":
            yield from _of_text(block["text"], LONGEST_SECTION, _KINDS_OF_TEXT)
        case "context":
            if len(block["elements"]) > MOST_ELEMENTS:
                yield "invalid_blocks: a context of more than 10 elements"
            for each in block["elements"]:
                if each["type"] != "image":
                    yield from _of_text(each, LONGEST_SECTION, _KINDS_OF_TEXT)
        case "divider" | "image" | "actions" | "rich_text":
            return
        case other:
            yield f"invalid_blocks: no block is called {other}"


def _of_text(text: Mapping[str, Any], longest: int, kinds: frozenset[str] | set[str]) -> Iterator[str]:
    if text["type"] not in kinds:
        yield f"invalid_blocks: {text['type']} is no text for this block"
    if not 1 <= len(text["text"]) <= longest:
        yield f"invalid_blocks: {len(text['text'])} characters, of {longest}"


def _texts(node: Any) -> Iterator[str]:
    """Everything in a payload that is shown to a reader."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name in {"text", "title", "footer", "pretext", "fallback", "alt_text"} and isinstance(value, str):
                yield value
            else:
                yield from _texts(value)
    elif isinstance(node, list):
        for each in node:
            yield from _texts(each)
