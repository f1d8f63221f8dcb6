"""What a stranger may leave in a watched folder: the inputs of the fuzz, by group.

The rule: an input says no more of its fate than gating.md promises; where the promise leaves it open, so does the
input. Groups are generators, so that no run of them holds all of its megabytes at once.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from enum import Enum, auto
from itertools import chain, count, islice
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from summaries import GOOD, encoded, flat_summary, random_summary, series_summary

MEGABYTE: Final = 1 << 20
A_DAY_IN_2024: Final = 1_735_054_200 * 10**9
"""A modification time, in ns."""


class Fate(Enum):
    """What is promised to become of an input."""

    ARCHIVED = auto()
    REJECTED = auto()
    EITHER = auto()


@dataclass(frozen=True)
class Input:
    """A file as a stranger leaves it.

    Attributes:
        data: its bytes.
        fate: what must become of it.
        place: where its fault is, as a reason's `where` has it; "" where that is not known beforehand.
        name: its name on disk, as `os.fsdecode` gives it.
        mtime: its modification time in ns.
        symbols: the symbols that the run must hold to the letter; None where that is not known beforehand.
    """

    data: bytes
    fate: Fate = Fate.EITHER
    place: str = ""
    name: str = "summary.json"
    mtime: int = A_DAY_IN_2024
    symbols: tuple[str, ...] | None = None

    def __str__(self) -> str:
        """Enough to walk it again: all of a short one, both ends of a long one."""
        data = self.data
        shown = repr(data) if len(data) <= _SHOWN else f"{data[:_SHOWN]!r} ... {data[-200:]!r} ({len(data)} bytes)"
        return f"{self.name!r} modified at {self.mtime} ns: {shown}"


_SHOWN: Final = 4_000

MODEL: Final[Mapping[str, Any]] = {
    "symbol": "AAPL",
    **GOOD,
    "fitness_history": [0.5, 0.99, 0.91],
    "checkpoints": [50, "best", 150],
    "validation_interval": 50,
    "note": {"by": ["a trainer"]},
}
RUN: Final[Mapping[str, Any]] = {
    "timestamp": "20241224_153000",
    "run_name": "nightly",
    "validation_interval": 25,
    "reward_scale": 0.001,
    "host": "gpu-1",
}
SERIES: Final[Mapping[str, Any]] = {
    "fitness_score": [0.5, 0.99, 0.91],
    "profit_factor": [1.0, 2.0, 2.4],
    "consistency": [0.7, 0.8, 0.9],
    "max_drawdown": [0.1, 0.05, 0.04],
}
WITHOUT_SYMBOL: Final = {name: value for name, value in MODEL.items() if name != "symbol"}
LAYOUTS: Final[Sequence[Mapping[str, Any]]] = (
    {**RUN, "models": [MODEL, {"symbol": "MSFT"}]},
    {"results": {"AAPL": WITHOUT_SYMBOL, "MSFT": {"symbol": "MSFT"}}},
    {"symbols": {"AAPL": {"metrics": SERIES, "checkpoints": [50, "best", 150]}}, "validation_interval": 25},
    {"results": [{"symbol": "AAPL", "validation_metrics": SERIES, "metrics": {"fitness_score": [0.1]}}]},
)
"""Both layouts as a list and keyed by symbol, with every field that is read."""


# -- Cut and damaged files --------------------------------------------------------------------------------------------


def truncations() -> Iterator[Input]:
    """Real-looking summaries cut at every byte: whatever stage of writing is seen, it is never taken for the whole."""
    points = [(0.5 + step / 100, 1.0 + step / 10, 0.6, 0.2 / (step + 1)) for step in range(12)]
    whole = [
        encoded(random_summary(7, models=3, points=20)),
        json.dumps(random_summary(8, models=2, points=10), indent=2).encode(),
        encoded(series_summary({"AAPL": points, "MSFT": points}, run_name="night", validation_interval=50)),
        b"\xef\xbb\xbf" + json.dumps(flat_summary({"日経 \N{ROCKET}": GOOD}), ensure_ascii=False).encode(),
    ]
    for data in whole:
        yield Input(data, Fate.ARCHIVED)
        for cut in range(len(data)):
            yield Input(data[:cut], Fate.REJECTED)


def bit_flips() -> Iterator[Input]:
    """A summary with one bit turned, for every bit: a disk, a memory, a wire."""
    data = encoded({**RUN, "models": [{**MODEL, "checkpoints": ["a", "b", "c"]}]})
    for position in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        yield Input(bytes(flipped))


# -- Every type in every field ----------------------------------------------------------------------------------------

_HOLE: Final = "\N{WHITE CIRCLE}"  # stands where the text of a value goes that json.dumps would not write
_HOLE_TEXT: Final = json.dumps(_HOLE).encode()

VALUES: Final = (
    *(b"null", b"true", b"false", b"0", b"-0", b"-0.0", b"1", b"0.5", b"-1", b"2", b"50", b"1e2", b"0.001"),
    *(b"1e308", b"1e309", b"-1e309", b"1e-400", b"5e-324", b"NaN", b"Infinity", b"-Infinity", b"1E+2"),
    *(b"9007199254740991", b"9007199254740993", b"9223372036854775808", b"18446744073709551616", b"20241224"),
    *(b"9" * 400, b"-" + b"9" * 400, b"9" * 4300, b"9" * 4301, b"9" * 50_000, b"0." + b"3" * 5_000, b"1e99999"),
    *(b'""', b'" "', b'"0.9"', b'"AAPL"', b'"MSFT"', b'"NaN"', b'"20241224_153000"', b'"2024-12-24T15:30:00Z"'),
    *(b'"' + b"a" * 128 + b'"', b'"' + b"a" * 129 + b'"', b'"' + b"a" * 257 + b'"', b'"../../etc/x"', b'"<b>x</b>"'),
    *(b'"\\u0000"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude80"', b'"\\u202e"', b'"\\u2028"', b'"\x01"'),
    *(b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\xae"', b'"\xf4\x90\x80\x80"', "日経 \N{ROCKET}".join('""').encode()),
    *(b"[]", b"[[]]", b"[null]", b"[NaN]", b"[true]", b'["a"]', b"[0.5, 0.9, 0.7]", b'[0.5, "x", 0.7]', b"[{}]"),
    *(b"[" + b"0.5, " * 999 + b"0.5]", b"[1, 2, 3]", b'["a", "b", "c"]', b"[9007199254740993, 1, 2]", b"[[[[[]]]]]"),
    *(b"{}", b'{"": {}}', b'{"a": null}', b'{"a": {}}', b'{"symbol": "A"}', b'{"a": {"symbol": "b"}}', b'{"a": 1}'),
    *(b'{"a": 1, "a": 2}', b'{"metrics": {}}', b'[{"symbol": "A"}]', b'[{"symbol": "A"}, {"symbol": "A"}]'),
    *(b"undefined", b"nan", b"+1", b"01", b".5", b"1.", b"'x'", b"0x10", b"1,", b"", b"//"),
)
"""Every JSON type, small and without measure, and what some writers take for JSON."""


def every_value_in_every_field() -> Iterator[Input]:
    """Each field of both layouts with each value, and the field left out."""
    for layout in LAYOUTS:
        for path, _ in _fields(layout):
            place = _place(path)
            with_hole = encoded(_replaced(layout, path, _HOLE))
            yield from (Input(with_hole.replace(_HOLE_TEXT, text), place=place) for text in VALUES)
            yield Input(encoded(_without(layout, path)), place=place)


def every_key_twice() -> Iterator[Input]:
    """Each field of both layouts written twice, with the same value."""
    for layout in LAYOUTS:
        for path, value in _fields(layout):
            if isinstance(key := path[-1], str):
                twice = b"%s, %s: %s" % (encoded(value), encoded_text(key), encoded(value))
                yield Input(encoded(_replaced(layout, path, _HOLE)).replace(_HOLE_TEXT, twice), Fate.REJECTED)


def _fields(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """The path of everything inside, with what stands there."""
    inside: Iterable[tuple[str | int, Any]]
    match node:
        case Mapping():
            inside = node.items()
        case list():
            inside = enumerate(node)
        case _:
            return
    for key, value in inside:
        yield (*path, key), value
        yield from _fields(value, (*path, key))


def _place(path: Sequence[str | int]) -> str:
    """The path as a reason writes it."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


def _replaced(layout: Mapping[str, Any], path: Sequence[str | int], value: Any) -> dict[str, Any]:
    """The layout with another value at the path."""
    document: dict[str, Any] = deepcopy(dict(layout))
    _parent(document, path)[path[-1]] = value
    return document


def _without(layout: Mapping[str, Any], path: Sequence[str | int]) -> dict[str, Any]:
    """The layout without what stands at the path."""
    document: dict[str, Any] = deepcopy(dict(layout))
    del _parent(document, path)[path[-1]]
    return document


def _parent(document: Any, path: Sequence[str | int]) -> Any:
    for key in path[:-1]:
        document = document[key]
    return document


def encoded_text(text: str) -> bytes:
    """The text as JSON, in ASCII."""
    return json.dumps(text).encode()


# -- Hostile text -----------------------------------------------------------------------------------------------------

PATHS: Final = (
    *(
        "../../etc/x",
        "..",
        ".",
        "/",
        "//",
        "/etc/passwd",
        "../index.json",
        "a/../../b",
        "..\\..\\x",
        "C:\\x",
        "~",
        "~root",
    ),
    *(".staging", ".index.lock", "index.json", "rejected", "rejected/0", ".state", "20240101_000000/../../x", "CON"),
    *("file:///etc/passwd", "%2e%2e%2fetc", "..%00/x", "....//....//etc", "-rf", "--help", "*", "?", "a" * 128),
)
"""What could lead out of a folder, or to another file in it."""

MARKUP: Final = (
    *("<script>alert(1)</script>", "<!--", "--><b>", "<https://example.org>", "https://example.org", "<!channel>"),
    *("[click](https://example.org)", "![x](https://example.org/x.png)", "[x]: https://example.org", "@everyone"),
    *("**bold**", "_em_", "~~gone~~", "# heading", "## APPROVED (9): may be deployed", "- item", "1. item", "> quote"),
    *("---", "===", "| a | b |", "|---|---|", "`", "``", "a`b", "`code`", "``` x", "\\`", "\\", "&lt;b&gt;", "a  "),
    *(
        "$(reboot)",
        "`reboot`",
        "{{ 7 * 7 }}",
        "${HOME}",
        "{0}",
        "%s%s%n",
        "'; DROP TABLE runs; --",
        '"',
        "'",
        " a",
        " ",
    ),
    *("```\n# x\n```", "a\n\n# heading", "a\r\n- item", "a\n===", "x\n<b>"),
)
"""What would be something else than text to a reader of Markdown, HTML, a shell, a template or SQL."""

ODD_CHARACTERS: Final = (
    *(
        "\0",
        "a\0b",
        "\x01",
        "\x07",
        "\x08",
        "\t",
        "\n",
        "\r",
        "\x1b[2J",
        "\x1b]0;x\x07",
        "\x7f",
        "\x80",
        "\x85",
        "\x9b1m",
    ),
    *("\u061c", "\u200e", "\u200f", "\u202a", "\u202e", "evil\u202egpj.exe", "\u2066a\u2069", "\u2028", "\u2029"),
    *(
        "\u200b",
        "\u200d",
        "\ufeff",
        "\ufff9",
        "\u00ad",
        "\u034f",
        "\ue000",
        "\ufdd0",
        "\uffff",
        "\U000e0041",
        "\U0010ffff",
    ),
    *(
        "e\N{COMBINING ACUTE ACCENT}",
        "a" + "\u0300" * 100,
        "日経225",
        "שקל",
        "\N{ROCKET}",
        "\U0001f469\u200d\U0001f680",
        "ﷺ",
    ),
    *("\ud800", "\udc00", "a\ud83d", "\udc80", "\udfff\ud800"),
)
"""Control characters, writing directions, marks, private and lone halves."""

INVISIBLE: Final = (
    *("\u00ad", "\u034f", "\u115f", "\u180b", "\u200b", "\u200c", "\u200d", "\u2060", "\u2064", "\u2800", "\u3164"),
    *("\ufe00", "\ufe0f", "\ufeff", "\uffa0", "\ufff9", "\U000e0001", "\U000e0041", "\U000e0100"),
)
"""What takes no room on a screen."""

SIZES: Final = ("", "a" * 129, "a" * 256, "a" * 257, "\N{ROCKET}" * 128, "\N{ROCKET}" * 129, "`" * 128, "<" * 128)
TEXTS: Final = (*PATHS, *MARKUP, *ODD_CHARACTERS, *(f"A{each}B" for each in INVISIBLE), *SIZES)

_serial = count()


def hostile_text() -> Iterator[Input]:
    """Every hostile text as symbol, key, run name, timestamp, checkpoint and field; plain and escaped."""
    for text in TEXTS:
        for place, document, symbols in _documents_about(text):
            for ascii_only in (True, False):
                document["serial"] = next(_serial)  # so that no two are the same bytes
                data = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
                if place == "timestamp":
                    yield Input(data, Fate.REJECTED, place)
                elif symbols is None:
                    yield Input(data)
                else:
                    yield Input(data, _fate_of_symbol(text), symbols=symbols)
    for text in PATHS:  # a path is a good name of a symbol, of a run, of a checkpoint
        yield Input(encoded(_about(text, GOOD, text)), Fate.ARCHIVED, symbols=(text,))


def _documents_about(text: str) -> Iterator[tuple[str, dict[str, Any], tuple[str, ...] | None]]:
    """Place, document and the symbols where they are this text."""
    declining = {**GOOD, "fitness_history": [0.99, 0.91], "checkpoints": [text, "last"]}
    yield "symbol", flat_summary({text: GOOD}), (text,)
    yield "key", {"results": {text: GOOD}}, (text,)
    yield "run_name", flat_summary({"A": GOOD}, run_name=text), None
    yield "timestamp", flat_summary({"A": GOOD}, timestamp=text), None
    yield "checkpoints", flat_summary({"A": declining}), None
    yield "field", flat_summary({"A": {**GOOD, f"_{text}": text}}, **{f"_{text}": text}), None
    yield "all", _about(text, declining, text), None


def _about(symbol: str, figures: Mapping[str, Any], run_name: str) -> dict[str, Any]:
    return flat_summary({symbol: figures}, run_name=run_name, serial=next(_serial))


def _fate_of_symbol(text: str) -> Fate:
    """Any text of 1..128 characters without control characters and invisible ones is a symbol.

    Of private and unassigned characters nothing is promised.
    """
    if not 1 <= len(text) <= 128 or any(ord(each) < 32 or 0x7F <= ord(each) < 0xA0 for each in text):
        return Fate.REJECTED
    if any(each in text for each in INVISIBLE):
        return Fate.REJECTED
    return Fate.ARCHIVED if text.isprintable() else Fate.EITHER


def odd_names_and_times() -> Iterator[Input]:
    """Good summaries and bad ones under names and with times that nobody would give a file, if not to do harm."""
    names = [
        *(os.fsdecode(text.replace("/", "\\").encode("utf-8", "surrogatepass")) for text in TEXTS if "\0" not in text),
        *(os.fsdecode(name) for name in (b"\xff\xfe.json", b"a\nb.json", b"\x80", b"-", b"\xed\xa0\x80.json", b" ")),
        *("training_summary_20241224_153000.json", "20241399_000000.json", "20240230_000000_20240101_000000.json"),
        *(
            "9" * 200 + ".json",
            "\uff12\uff10\uff12\uff14\uff11\uff12\uff12\uff14_153000.json",
            "00000000_000000",
            "99991231_235959.json",
        ),
    ]
    for name in filter(None, names):
        for data in (encoded({"models": [{**GOOD, "symbol": "A", "serial": next(_serial)}]}), b"{%d" % next(_serial)):
            yield Input(
                data, Fate.REJECTED if data.startswith(b"{") and data[1:2] != b'"' else Fate.ARCHIVED, name=name
            )
    for mtime in (
        0,
        1,
        -1,
        -(10**18),
        2**31 * 10**9,
        2**62,
        253_402_300_800 * 10**9,
        -62_135_596_801 * 10**9,
        2**63 - 1,
    ):
        data = encoded({"models": [{**GOOD, "symbol": "A"}], "serial": next(_serial)})
        yield Input(data, Fate.ARCHIVED, mtime=mtime)
        yield Input(b"[%d" % next(_serial), Fate.REJECTED, mtime=mtime)


def timestamps() -> Iterator[Input]:
    """Moments in every notation, some of them days that never were."""
    dates = (
        *("2024-12-24", "20241224", "2024-W52-2", "2024W522", "2024-359", "2024-12", "0001-01-01", "9999-12-31"),
        *("2024-02-30", "2023-02-29", "2024-13-01", "0000-01-01", "24-12-24", "12/24/2024", "+002024-12-24"),
        "\uff12\uff10\uff12\uff14-12-24",
    )
    times = (
        *("", "T15:30:00", " 15:30", "T15", "T153000", "_153000", "T24:00:00", "T23:59:60", "T15:30:00.123456789"),
        *("T00:00:00,5", "t15:30:00", "T25:00", "T15:30:0", "/../../x", "\n", "T23:59:59.9999999"),
    )
    zones = ("", "Z", "z", "+00:00", "+02:00", "-23:59", "+24:00", "+14:00:59", " UTC", "+02", "-00:00:00.000001", "\0")
    for date in dates:
        for time in times:
            for zone in zones:
                yield Input(encoded(flat_summary({"A": GOOD}, timestamp=date + time + zone)), place="timestamp")


# -- Structure and size -----------------------------------------------------------------------------------------------


def deep_nesting() -> Iterator[Input]:
    """Lists and objects inside one another up to 100,000 times, closed or not, wherever a value may stand."""
    good = encoded(flat_summary({"A": GOOD}))[1:-1]
    for depth in (1, 2, 5, 50, 150, *range(190, 206), 500, 990, 1_000, 5_000, 20_000, 100_000):
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]"), (b"[0.5,", b"]")):
            nest = opening * depth + b"1" + closing * depth
            open_nest = opening * depth
            for text in (
                nest,
                open_nest,
                b"{%s,%s" % (good, open_nest),
                b'{%s,"x":%s}' % (good, nest),
                b'{"x":%s,%s}' % (nest, good),
                b'{"models":%s}' % nest,
                b'{"models":[{"symbol":"A","final_pf":%s}]}' % nest,
                b'{"models":[{"symbol":"A","fitness_history":%s}]}' % nest,
                b'{"models":{"A":{"metrics":{"fitness_score":%s}}}}' % nest,
                b'{"models":[{"symbol":%s}]}' % nest,
                b'{"x":1,"x":2,"y":%s}' % nest,
                b'{"x":{"y":1,"y":2},"z":%s}' % nest,
                b'{"x":%s,"y":1,"y":2}' % nest,
            ):
                yield Input(text)


def foreign_encodings() -> Iterator[Input]:
    """UTF-16, UTF-32, byte order marks, zero bytes, and files that are no text at all."""
    for layout in LAYOUTS:
        text = json.dumps({**layout, "run_name": "日経 \N{ROCKET}"}, ensure_ascii=False)
        for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "utf-7", "gb18030"):
            yield Input(text.encode(encoding), Fate.EITHER if encoding == "utf-7" else Fate.REJECTED)
        data = text.encode()
        yield Input(b"\xef\xbb\xbf" + data, Fate.ARCHIVED)
        yield Input(b" \t\r\n" + data + b" \r\n\t", Fate.ARCHIVED)
        zeros = (data + b"\0", b"\0" + data, data[:50] + b"\0" + data[50:], data + b"\0" * 4096, b"\0" * len(data))
        marks = (b"\xef\xbb\xbf" * 2 + data, b"\xef\xbb\xbf", b"\xef\xbb", data + b"\xef\xbb\xbf", b"\xfe\xff" + data)
        twice = (data + data, data + b"\n" + data, data[:-1], data + b"}", b"[" + data + b"]", data + b",", b"(" + data)
        foreign = (
            b"\x1f\x8b\x08\x00" + data,
            b"PK\x03\x04" + data,
            b"%PDF-1.7" + data,
            b"\x89PNG\r\n\x1a\n",
            b"\x7fELF",
        )
        yield from (Input(each, Fate.REJECTED) for each in (*zeros, *marks, *twice, *foreign))


def large() -> Iterator[Input]:
    """10 MB of one thing, very many models, very long histories."""
    ten = 10 * MEGABYTE
    text = b"a" * ten
    good = b'"models":[{"symbol":"A","final_pf":1}]'
    yield Input(b'{"models":[{"symbol":"%s","final_pf":1}]}' % text, Fate.REJECTED, "models[0].symbol")
    yield Input(b'{"models":{"%s":{"final_pf":1}}}' % text, Fate.REJECTED)
    yield Input(b'{"run_name":"%s",%s}' % (text, good), Fate.REJECTED, "run_name")
    yield Input(b'{"timestamp":"%s",%s}' % (text, good), Fate.REJECTED, "timestamp")
    yield Input(b'{"reward_scale":"%s",%s}' % (text, good), Fate.REJECTED, "reward_scale")
    yield Input(
        b'{"models":[{"symbol":"A","fitness_history":[1],"checkpoints":["%s"]}]}' % text,
        Fate.REJECTED,
        "models[0].checkpoints[0]",
    )
    yield Input(b'{"note":"%s",%s}' % (text, good), Fate.ARCHIVED, symbols=("A",))
    yield Input(b'{"%s":1,"%s":2,%s}' % (text, text, good), Fate.REJECTED)
    yield Input(b'{"a":1,"a":2,"note":"%s",%s}' % (text, good), Fate.REJECTED)
    yield Input(b'{%s,"x":%s}' % (good, b"9" * ten), Fate.REJECTED)
    yield Input(b"{%s}%s" % (good, b" " * ten), Fate.ARCHIVED, symbols=("A",))
    yield from (Input(byte * ten, Fate.REJECTED) for byte in (b"\0", b" ", b"[", b"{", b'"', b"9", b"\xff", b"\\"))
    names = [f"SYM{number}" for number in range(5_000)]
    yield Input(encoded({"models": [{"symbol": name, **GOOD} for name in names]}), Fate.ARCHIVED, symbols=tuple(names))
    yield Input(
        encoded({"results": {name: {"metrics": SERIES} for name in names}}), Fate.ARCHIVED, symbols=tuple(names)
    )
    yield Input(encoded({"models": [{"symbol": name} for name in [*names, "SYM7"]]}), Fate.REJECTED)
    history = [round(0.5 + (point * 7919 % 1000) / 3000, 4) for point in range(300_000)]
    yield Input(encoded(flat_summary({"A": {**GOOD, "fitness_history": history}})), Fate.ARCHIVED, symbols=("A",))
    long = dict.fromkeys(SERIES, history)
    yield Input(encoded({"results": {"A": {"metrics": long}}}), Fate.ARCHIVED, symbols=("A",))
    yield Input(
        encoded(flat_summary({"A": {**GOOD, "fitness_history": [*history, "x"]}})),
        Fate.REJECTED,
        "models[0].fitness_history[300000]",
    )


# -- Drawn by chance --------------------------------------------------------------------------------------------------

_any_number = st.floats() | st.integers(-(10**400), 10**400)
_any_text = st.text(max_size=12) | st.sampled_from(TEXTS)
_any_json = st.recursive(
    st.none() | st.booleans() | _any_number | _any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_any_text, inner, max_size=3),
    max_leaves=4,
)
_one_in_forty = st.sampled_from([True] + [False] * 39)


def _mostly(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What belongs there, and now and then anything: a document of nothing but faults stops at the first."""
    return _one_in_forty.flatmap(lambda anything: _any_json if anything else usual)


_name = _mostly(st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1, max_size=6))
_number = _mostly(st.floats(0, 1) | st.sampled_from((0, 1, 2.5, None, float("nan"), float("inf"))))
_points = _mostly(st.lists(_number, max_size=6))
_series = st.fixed_dictionaries({}, optional=dict.fromkeys(SERIES, _points))
_flat_model: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(GOOD, _number),
        "fitness_history": _points,
        "validation_interval": _mostly(st.integers(1, 100)),
        "metrics": _any_json,
    },
)
_series_model: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {}, optional={name: _mostly(_series) for name in ("metrics", "validation_metrics")}
)
_keyed = st.dictionaries(
    _name.filter(lambda name: isinstance(name, str)), _mostly(_flat_model | _series_model), min_size=1, max_size=3
)
_listed = st.lists(st.tuples(_name, _flat_model | _series_model), min_size=1, max_size=3).map(
    lambda models: [{"symbol": name, **model} for name, model in models]
)
_near_summaries = st.tuples(
    st.sampled_from(("models", "results", "symbols")),
    _mostly(_keyed | _listed),
    st.fixed_dictionaries(
        {},
        optional={
            "timestamp": _mostly(st.datetimes().map(lambda moment: moment.isoformat())),
            "run_name": _name,
            "validation_interval": _mostly(st.integers(1, 1000)),
            "reward_scale": _mostly(st.sampled_from([0.001, 0.01])),
            "x": _any_json,
        },
    ),
    st.booleans(),
).map(lambda parts: _dumped({parts[0]: parts[1], **parts[2]}, ascii_only=parts[3]))


def _dumped(document: object, *, ascii_only: bool) -> bytes:
    return json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


_GOOD_DATA: Final = encoded(LAYOUTS[0])
_splices = st.lists(
    st.tuples(
        st.integers(0, len(_GOOD_DATA)),
        st.integers(0, 40),
        st.binary(max_size=6)
        | st.sampled_from(VALUES)
        | st.sampled_from((b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\")),
    ),
    min_size=1,
    max_size=4,
)


def _spliced(splices: Sequence[tuple[int, int, bytes]]) -> bytes:
    """A good summary with pieces cut out of it and others put in."""
    data = bytearray(_GOOD_DATA)
    for start, length, piece in splices:
        data[start : start + length] = piece
    return bytes(data)


def _drawn(strategy: st.SearchStrategy[bytes], examples: int) -> Callable[[], Iterator[Input]]:
    """A group of so many examples. Hypothesis only draws here: what fails is named by its bytes, not made smaller."""

    def group() -> Iterator[Input]:
        found: list[bytes] = []

        @settings(
            max_examples=examples,
            phases=[Phase.generate],
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def collect(data: bytes) -> None:
            found.append(data)

        collect()
        yield from map(Input, found)

    return group


GROUPS: Final[Mapping[str, Callable[[], Iterator[Input]]]] = {
    "truncations": truncations,
    "bit-flips": bit_flips,
    "every-value-in-every-field": every_value_in_every_field,
    "every-key-twice": every_key_twice,
    "hostile-text": hostile_text,
    "odd-names-and-times": odd_names_and_times,
    "timestamps": timestamps,
    "deep-nesting": deep_nesting,
    "foreign-encodings": foreign_encodings,
    "large": large,
    "drawn-near-summaries": _drawn(_near_summaries, 3_000),
    "drawn-splices": _drawn(_splices.map(_spliced), 3_000),
    "drawn-bytes": _drawn(
        st.binary(max_size=300) | st.binary(max_size=60).map(lambda data: b'{"models":[' + data), 500
    ),
}
"""Every group by name."""

LEAST: Final = 20_000
"""Fewer different inputs than this are no fuzz."""

LEAST_OF_GROUP: Final[Mapping[str, int]] = {
    "truncations": 3_000,
    "bit-flips": 2_900,
    "every-value-in-every-field": 6_000,
    "every-key-twice": 48,
    "hostile-text": 1_800,
    "odd-names-and-times": 290,
    "timestamps": 3_000,
    "deep-nesting": 1_400,
    "foreign-encodings": 110,
    "large": 25,
    "drawn-near-summaries": 1_500,
    "drawn-splices": 2_500,
    "drawn-bytes": 450,
}
"""How many different inputs each group has at the least; of the drawn ones some are drawn twice."""


def a_few_of_each() -> Iterator[Input]:
    """Some of every group whose inputs are small and the same in every run."""
    steps: Mapping[Callable[[], Iterator[Input]], int] = {
        truncations: 60,
        bit_flips: 60,
        every_value_in_every_field: 43,  # shares no factor with the values of a field: comes by all
        every_key_twice: 5,
        hostile_text: 5,
        odd_names_and_times: 9,
        timestamps: 60,
        foreign_encodings: 6,
    }
    return chain.from_iterable(islice(group(), 0, None, step) for group, step in steps.items())
