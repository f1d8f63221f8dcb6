"""JSON from a stranger: the one object in the bytes, or why there is none; and how what stands in it is put in words.

The rule: no key stands twice in one object, so that two readers can't read two things; and a reason quotes no more of
a stranger's text than a line shows, and none of it unescaped.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import jiter

from modelwarden.errors import Problem, RejectSummary

PROBLEMS_NAMED: Final = 20
"""How many problems of a file are named; of the others only the number is told."""

_SHOWN: Final = 40
"""How many characters of a stranger's text a reason quotes."""

_PLAIN: Final = {
    "expected ident": "expected null, true, false, NaN or Infinity",
    "EOF while parsing": "the file ends inside",
}
"""Words of the parser, for a person who writes no parsers."""


class NotJson(RejectSummary):
    """The bytes are not one JSON object. They may still be being written: a truncated object never parses."""


class KeyTwice(RejectSummary):
    """Objects have a key twice: a reader can't know which counts.

    Attributes:
        keys: the key of each of `problems`, whole.
    """

    # Only one argument without a default: a worker's errors are pickled, and made again from that one.
    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        hint: str = "",
        others: Sequence[Problem] = (),
        more: int = 0,
        keys: Sequence[str] = (),
    ) -> None:
        super().__init__(what, where=where, hint=hint, others=others, more=more)
        self.keys = keys


def read_object(data: bytes) -> Mapping[str, Any]:
    """The JSON object in the bytes.

    Raises:
        NotJson: they are not one (yet).
        KeyTwice: they are, and some object in it has a key twice.
    """
    document = read_json(data)
    if not isinstance(document, dict):
        raise NotJson(
            f"the top level is {kind_of(document)}, not an object",
            hint='write {"models": [...]}',
        )
    return document


def read_json(data: bytes) -> Any:
    """The JSON value in the bytes. Raises as `read_object`."""
    if not data:
        raise NotJson("the file is empty")
    try:
        return jiter.from_json(data.removeprefix(b"\xef\xbb\xbf"), catch_duplicate_keys=True)
    except ValueError as error:
        raise _why_not_json(data, str(error)) from None


def _why_not_json(data: bytes, message: str) -> RejectSummary:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:4]:
        return NotJson("the file is not UTF-8 (UTF-16, or zero bytes)", hint="write it as UTF-8")
    if message.startswith("Detected duplicate key"):
        return _which_key_twice(data, message)
    if message.startswith("recursion limit"):
        return NotJson(
            message.replace("recursion limit exceeded", "nested too deeply"),
            hint="a summary needs five levels",
        )
    several = message.startswith("trailing characters")
    for words, plain in _PLAIN.items():
        message = message.replace(words, plain)
    return NotJson(f"not JSON: {message}", hint="a summary is one JSON object, alone in its file" if several else "")


def _which_key_twice(data: bytes, message: str) -> RejectSummary:
    """The place of a key that an object has twice. A slow second reading, for files that are refused anyway."""
    place = message[message.rfind(" at line ") :]  # the key before it may be as long as the file
    try:
        found = _find_twice(json.loads(data.removeprefix(b"\xef\xbb\xbf"), object_pairs_hook=_object_of), "")
        named = list(islice(found, PROBLEMS_NAMED))
        more = sum(1 for _ in found)
    except (ValueError, RecursionError):  # which of the two readings gives up first is the Python's affair
        return NotJson(f"not JSON, and an object has a key twice{place}")
    if not named:
        return NotJson(f"an object has a key twice{place}")
    hint = "keep one: a reader can't know which counts"
    first, *others = [Problem(f"the key {quote(key)} stands twice in one object", where, hint) for where, key in named]
    return KeyTwice(
        first.what, where=first.where, hint=hint, others=others, more=more, keys=tuple(key for _, key in named)
    )


def _object_of(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    """The object; one that remembers only where it has something to remember, since there may be millions."""
    plain = dict(pairs)
    return plain if len(plain) == len(pairs) else _PairsObject(pairs)


class _PairsObject(dict[str, Any]):
    """A JSON object that remembers which of its keys came more than once."""

    def __init__(self, pairs: Iterable[tuple[str, Any]]) -> None:
        super().__init__()
        self.twice: dict[str, None] = {}
        for key, value in pairs:
            if key in self:
                self.twice[key] = None
            self[key] = value


def _find_twice(node: object, place: str) -> Iterator[tuple[str, str]]:
    """The place of each object that has a key twice, and that key."""
    inner: Iterable[tuple[Any, str]] = ()
    if isinstance(node, dict):
        if isinstance(node, _PairsObject):
            yield from ((place, key) for key in node.twice)
        inner = ((value, join_place(place, key)) for key, value in node.items() if isinstance(value, dict | list))
    elif isinstance(node, list):
        inner = ((value, f"{place}[{index}]") for index, value in enumerate(node) if isinstance(value, dict | list))
    for value, where in inner:
        yield from _find_twice(value, where)


def join_place(place: str, key: str) -> str:
    """The place of a key inside a place: plain where the key is a plain word, quoted where it is not."""
    if key.isascii() and key.isidentifier() and len(key) <= _SHOWN:
        return f"{place}.{key}" if place else key
    return f"{place}[{quote(key)}]"


def kind_of(value: object) -> str:  # noqa: PLR0911 - one return a kind
    """What a value is, in words: `a list`, `text "abc"`."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return "a number"
        case float():
            return f"the number {value!r}"
        case str():
            return f"text {quote(value)}"
        case list():
            return "a list"
        case _:
            return "an object"


def quote(text: str) -> str:
    """The beginning of a text, quoted; only ASCII, nothing of it can change a line or a terminal."""
    return json.dumps(shorten(text), ensure_ascii=True)


def shorten(text: str) -> str:
    """The beginning of a text."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
