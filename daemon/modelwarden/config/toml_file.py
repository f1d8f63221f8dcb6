"""A TOML file with the line of every key, and all that keeps it from being read.

The rule: tomllib alone decides what a file means. The lines come from a scanner of our own, and count only if it found
the very keys that tomllib found; if not, there are no lines rather than wrong ones. No message repeats the file.
"""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

Place = tuple[str | int, ...]
"""Where a setting stands: keys, and positions in lists."""

MOST_FAULTS: Final = 20
"""Lines that can't be read are looked for as long as there are no more."""

_INSTEAD: Final = "modelwarden-unreadable-"
"""The table that takes what stands below a heading that can't be read."""

_LONG_QUOTES: Final = ('"""', "'''")


class Fault(NamedTuple):
    """A place where the file is not TOML.

    Attributes:
        line: counted from 1; None if it is not known.
        words: what is wrong there.
    """

    line: int | None
    words: str


class TomlFile(NamedTuple):
    """What could be read.

    Attributes:
        values: as tomllib gives them, without the lines that are faulty.
        lines: the line of each key and each item of a list.
        faults: what could not be read.
        unsure: keys whose values stand in faulty lines; None if more than single keys may be missing.
    """

    values: dict[str, Any]
    lines: Mapping[Place, int]
    faults: Sequence[Fault]
    unsure: frozenset[str] | None


def read_toml(data: bytes) -> TomlFile:
    """Read a TOML file as far as it can be read: a line that is wrong in itself is left out, and named."""
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        return _unread(Fault(data.count(b"\n", 0, error.start) + 1, "it is not UTF-8 text"))
    rows = text.split("\n")
    faults: list[Fault] = []
    unsure: set[str] | None = set()
    while True:
        try:
            values = tomllib.loads("\n".join(rows))
        except tomllib.TOMLDecodeError as error:
            line = _line_of(str(error), rows)
            if any(fault.line == line for fault in faults):  # it was left out, so it was not all that was wrong
                return _unread(*faults)
            row = rows[line - 1]
            is_heading = row.lstrip().startswith("[")
            is_of_the_row = is_heading or _is_wrong_alone(row) or _is_twice(str(error))
            faults.append(Fault(line, _words(str(error)) if is_of_the_row else "a list or table above is not closed"))
            if len(faults) >= MOST_FAULTS or not is_of_the_row or any(quotes in row for quotes in _LONG_QUOTES):
                return _unread(*faults)
            rows[line - 1] = f"[{_INSTEAD}{line}]" if is_heading else ""
            key = re.match(r"\s*([\w-]+)\s*(?:[=:]|$)", row)
            unsure = None if unsure is None or is_heading or key is None else unsure | {key[1]}
        except RecursionError:
            return _unread(*faults, Fault(None, "it is nested too deeply"))
        except ValueError:  # Python reads no integer of so many digits
            number = next((number for number, row in enumerate(rows, 1) if re.search(r"[0-9_]{4300}", row)), None)
            return _unread(*faults, Fault(number, "a number of too many digits"))
        else:
            return _read("\n".join(rows), values, faults, unsure)


def _read(text: str, values: dict[str, Any], faults: Sequence[Fault], unsure: set[str] | None) -> TomlFile:
    lines = _lines_of(text, values)
    for name in [each for each in values if each.startswith(_INSTEAD)]:
        del values[name]
    return TomlFile(values, lines, faults, None if unsure is None else frozenset(unsure))


def _unread(*faults: Fault) -> TomlFile:
    *others, last = faults
    words = f"{last.words}; the rest can't be looked at before this is right"
    return TomlFile({}, {}, [*others, last._replace(words=words)], None)


def _line_of(message: str, rows: Sequence[str]) -> int:
    """Tomllib tells the line in words alone; the end of the file is the last line that holds anything."""
    found = re.search(r"\(at line (\d+), column \d+\)$", message)
    if found is not None:
        return int(found[1])
    return max((number for number, row in enumerate(rows, 1) if row.strip()), default=1)


def _is_wrong_alone(row: str) -> bool:
    try:
        tomllib.loads(row)
    except (ValueError, RecursionError):
        return True
    return False


_TWICE: Final = ("Cannot overwrite", "Cannot declare", "Cannot mutate", "Cannot redefine", "Duplicate")
_WORDS: Final = (
    *((begin, "set a second time; write each key and each [table] once") for begin in _TWICE),
    ("Invalid value", "no value that can be read; text stands in quotes, true and false in small letters"),
    ("Expected newline", "more than one value; text stands in quotes, each setting on a line of its own"),
    ("Expected '=' after", "no = between key and value"),
    ('Expected "=" after', "no = between key and value"),
    ("Expected ']]'", "a heading without its closing ]]"),
    ('Expected "]]"', "a heading without its closing ]]"),
    ("Expected ']'", "a heading without its closing ]"),
    ('Expected "]"', "a heading without its closing ]"),
    ("Unclosed array", "a list without its closing ], or without a comma between two of its items"),
    ("Unclosed inline table", "a table without its closing }, or without a comma between two of its keys"),
    ("Expected \"'", "text without its closing quote"),
    ("Unterminated string", "text without its closing quote"),
    ("Illegal character", "text without its closing quote, or a character that can't be written there"),
    ("Unescaped", "a backslash that means nothing; write two, or the text in '...'"),
    ("Invalid date", "a date or time that there is not"),
    ("Invalid initial character for a key", "no key that can be read"),
    ("Invalid statement", "neither a [table] nor key = value"),
)


def _words(message: str) -> str:
    return next((words for begin, words in _WORDS if message.startswith(begin)), "it can't be read")


def _is_twice(message: str) -> bool:
    return message.startswith(_TWICE)


def _lines_of(text: str, values: Mapping[str, Any]) -> Mapping[Place, int]:
    """The line of every place in the values; nothing if the scanner saw other places than tomllib."""
    try:
        found = _Scanner(text).lines()
        return found if found.keys() == set(_places(values)) else {}
    except (ValueError, IndexError, RecursionError):
        return {}


def _places(value: object, place: Place = ()) -> Iterator[Place]:
    if place:
        yield place
    inner: Iterator[tuple[str | int, object]] = iter(())
    if isinstance(value, dict):
        inner = iter(value.items())
    elif isinstance(value, list):
        inner = iter(enumerate(value))
    for key, each in inner:
        yield from _places(each, (*place, key))


_BLANK: Final = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_STRING: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{1,2})?' r"|'''.*?'''(?:'{1,2})?" r'|"(?:\\.|[^"\\])*"' r"|'[^']*'", re.DOTALL
)
_BARE_KEY: Final = re.compile(r"[\w-]+")
_BARE_VALUE: Final = re.compile(r"[^,\]}#\n]+")


class _Scanner:
    """Walks over a text that is known to be TOML and notes where each key and item stands."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ends = [found.start() for found in re.finditer("\n", text)]
        self._found: dict[Place, int] = {}
        self._tables: dict[Place, int] = {}  # how many tables an array of tables has so far

    def lines(self) -> dict[Place, int]:
        """All that stands in the text. Raises ValueError or IndexError if it is not understood."""
        table: Place = ()
        while self._skip():
            if self._text[self._at] == "[":
                table = self._heading()
            else:
                self._pair(table)
        return self._found

    def _skip(self) -> bool:
        """Go on to what counts; whether there is anything."""
        self._at = self._match(_BLANK).end()
        return self._at < len(self._text)

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise ValueError("not what was expected here")
        return found

    def _note(self, place: Place, line: int) -> None:
        for length in range(1, len(place) + 1):
            self._found.setdefault(place[:length], line)

    def _line(self) -> int:
        return bisect_right(self._ends, self._at - 1) + 1

    def _heading(self) -> Place:
        line = self._line()
        doubled = self._text.startswith("[[", self._at)
        self._at += 2 if doubled else 1
        self._skip()
        *above, last = self._key()
        self._skip()
        self._at += 2 if doubled else 1
        place: Place = ()
        for part in above:
            place = self._latest((*place, part))
        place = (*place, last)
        if doubled:
            self._tables[place] = self._tables.get(place, 0) + 1
        place = self._latest(place)
        self._note(place, line)
        return place

    def _latest(self, place: Place) -> Place:
        """The table that a heading means: of an array of tables, the last."""
        return (*place, self._tables[place] - 1) if place in self._tables else place

    def _key(self) -> list[str]:
        parts = []
        while True:
            if self._text[self._at] in "\"'":
                quoted = self._match(_STRING)
                parts.append(str(tomllib.loads(f"key = {quoted[0]}")["key"]))
                self._at = quoted.end()
            else:
                bare = self._match(_BARE_KEY)
                parts.append(bare[0])
                self._at = bare.end()
            self._skip()
            if self._text[self._at] != ".":
                return parts
            self._at += 1
            self._skip()

    def _pair(self, table: Place) -> None:
        line = self._line()
        place = (*table, *self._key())
        self._note(place, line)
        self._at += 1  # the =
        self._skip()
        self._value(place)

    def _value(self, place: Place) -> None:
        opening = self._text[self._at]
        if opening in "[{":
            self._at += 1
            position = 0
            while self._skip() and self._text[self._at] not in "]}":
                if opening == "{":
                    self._pair(place)
                else:
                    self._note((*place, position), self._line())
                    self._value((*place, position))
                    position += 1
                self._skip()
                if self._text[self._at] == ",":
                    self._at += 1
            self._at += 1
        else:
            self._at = self._match(_STRING if opening in "\"'" else _BARE_VALUE).end()
