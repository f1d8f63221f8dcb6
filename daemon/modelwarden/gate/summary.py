"""From the bytes of a summary to its models, or the reason why not.

The rule: everything in a summary is data from a stranger. Whatever the bytes are, the outcome is a `Summary` or
a `RejectSummary` that names the place and what to do; never another exception, never a guess.
"""

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from modelwarden.errors import RejectSummary
from modelwarden.gate.assessment import Checkpoint
from modelwarden.gate.json_object import KeyTwice, join_place, kind_of, quote, read_object, shorten
from modelwarden.gate.policy import MetricGate, ModelGatingConfig, metric_gates
from modelwarden.gate.timestamp import EXPECTED, parse_timestamp

MAX_SYMBOL: Final = 128
"""Longest symbol and checkpoint id, in characters (gating rule: 1..128)."""

MAX_RUN_NAME: Final = 256
"""Longest run name, in characters."""

MAX_MODELS: Final = 20_000
"""Most models of one summary: each takes some 3 kB while it is judged, and a summary may be no bomb."""

MODEL_CONTAINERS: Final = ("models", "results", "symbols")
"""Where a summary may keep its models, in the order in which they are looked for."""

SERIES_CONTAINERS: Final = ("validation_metrics", "metrics")
"""Where a model may keep its lists over validation points. Validation first: a model that has both is judged
on what it did not train on."""

HISTORY_SERIES: Final = "fitness_score"
"""The list over validation points that is the fitness history."""

_BIDI_CONTROLS: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_FORBIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""What takes no room on a screen: Unicode's Default_Ignorable_Code_Point, the annotation marks and the empty Braille
cell. Two names that differ by one of these look the same to everybody."""
_DEFAULT_GATES: Final = metric_gates(ModelGatingConfig())
_FLAT_FIELDS: Final = frozenset(gate.argument for gate in _DEFAULT_GATES)


class Model(NamedTuple):
    """One model as the trainer reported it.

    Attributes:
        symbol: 1..128 characters, none of them a control character or invisible. As the trainer wrote it.
        values: the final figure per metric gate, in the table's order; None where missing.
        history: fitness over the validation points; NaN where a point is missing or null.
        checkpoints: the trainer's own checkpoint ids, one a point of the history, or None.
        validation_interval: updates between two points, the model's own or the run's, or None.
    """

    symbol: str
    values: tuple[float | None, ...]
    history: Sequence[float]
    checkpoints: Sequence[Checkpoint] | None
    validation_interval: int | None


@dataclass(frozen=True, slots=True)
class Summary:
    """One training run as the trainer reported it.

    Attributes:
        models: at least one, each with its own symbol, in the order of the file.
        timestamp: `YYYYMMDD_HHMMSS`, or None where the summary names none.
        run_name: the trainer's name for the run, or None.
        reward_scale: what the drawdown proxy was computed with, or None where the summary is silent.
    """

    models: tuple[Model, ...]
    timestamp: str | None
    run_name: str | None
    reward_scale: float | None


def parse_summary(data: bytes, gates: Sequence[MetricGate] = _DEFAULT_GATES) -> Summary:
    """Given a summary's bytes, return its models and run fields.

    Raises:
        NotJson: the bytes are not one JSON object (they may be unfinished).
        RejectSummary: they are one, and it is not a summary.
    """
    try:
        document = read_object(data)
    except KeyTwice as error:
        if error.where in MODEL_CONTAINERS:  # models keyed by symbol
            raise _symbol_twice(error.key) from None
        raise
    timestamp = _optional_text(document, "timestamp")
    if timestamp is not None and parse_timestamp(timestamp) is None:
        raise RejectSummary(
            f"{quote(timestamp)} is not a timestamp",
            where="timestamp",
            hint=f"{EXPECTED}; leave it out to use the file's name or time",
        )
    return Summary(
        models=_read_models(document, gates),
        timestamp=parse_timestamp(timestamp) if timestamp is not None else None,
        run_name=_run_name(document),
        reward_scale=_reward_scale(document),
    )


def _read_models(document: Mapping[str, Any], gates: Sequence[MetricGate]) -> tuple[Model, ...]:
    container = _model_container(document)
    interval = _interval(document.get("validation_interval"), "validation_interval")
    entries = document[container]
    if len(entries) > MAX_MODELS:
        raise RejectSummary(
            f"{len(entries)} models, more than {MAX_MODELS}", where=container, hint="split the run into several"
        )
    named: Iterable[tuple[str, str | None, Any]]
    if isinstance(entries, dict):
        named = ((join_place(container, key), key, entry) for key, entry in entries.items())
    else:
        named = ((f"{container}[{index}]", None, entry) for index, entry in enumerate(entries))
    models = [_read_model(entry, place, key, gates, interval) for place, key, entry in named]
    if not models:
        raise RejectSummary("no models", where=container, hint="a summary needs at least one")
    _check_each_its_own(models)
    return tuple(models)


def _check_each_its_own(models: Iterable[Model]) -> None:
    """No symbol twice, nor two that Unicode takes for the same text (NFC). Upper and lower case differ.

    One symbol alone is kept as it is written: what it is called in the archive is what the trainer called it.
    """
    seen: dict[str, str] = {}
    for model in models:
        symbol = model.symbol
        form = symbol if symbol.isascii() else unicodedata.normalize("NFC", symbol)
        if form in seen:
            raise _symbol_twice(symbol) if seen[form] == symbol else _twins(seen[form], symbol)
        seen[form] = symbol


def _model_container(document: Mapping[str, Any]) -> str:
    present = [name for name in MODEL_CONTAINERS if isinstance(document.get(name), list | dict)]
    # A trainer may list its symbols as text beside the results; only objects are models.
    holding = [name for name in present if any(isinstance(entry, dict) for entry in _entries(document[name]))]
    match holding or present:
        case []:
            raise RejectSummary(
                "no models",
                hint='keep them in "models", "results" or "symbols", as a list or an object keyed by symbol',
            )
        case [one]:
            return one
        case [first, second, *_]:
            raise RejectSummary(f"both {first} and {second} could hold the models", hint="keep one of them")
        case _:
            raise AssertionError("a list is empty, has one element or more")


def _entries(container: Any) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


def _read_model(
    entry: Any,
    place: str,
    key: str | None,
    gates: Sequence[MetricGate],
    run_interval: int | None,
) -> Model:
    if not isinstance(entry, dict):
        raise RejectSummary(f"expected an object, got {kind_of(entry)}", where=place)
    symbol = _symbol(entry, place, key)
    series = _series(entry, place)
    if series is None:
        history = _history(entry.get("fitness_history"), place, "fitness_history")
        values = tuple([_number_at(entry, gate.argument, place) for gate in gates])
    else:
        name, lists = series
        inner = f"{place}.{name}"
        history = _history(lists.get(HISTORY_SERIES), inner, HISTORY_SERIES)
        values = tuple([_last(lists, gate.series, inner) for gate in gates])
    own_interval = entry.get("validation_interval")
    return Model(
        symbol=symbol,
        values=values,
        history=history,
        checkpoints=_checkpoints(entry.get("checkpoints"), len(history), place),
        validation_interval=run_interval
        if own_interval is None
        else _interval(own_interval, f"{place}.validation_interval"),
    )


def _symbol(entry: Mapping[str, Any], place: str, key: str | None) -> str:
    symbol = entry.get("symbol")
    if symbol is None:
        symbol = key
    if symbol is None:
        raise RejectSummary("missing", where=f"{place}.symbol", hint="every model needs its own symbol")
    if not isinstance(symbol, str):
        raise RejectSummary(f"expected text, got {kind_of(symbol)}", where=f"{place}.symbol")
    if key is not None and symbol != key:
        raise RejectSummary(
            f"says {quote(symbol)}, but the model stands under {quote(key)}",
            where=f"{place}.symbol",
            hint="one of the two is wrong",
        )
    _check_name(symbol, f"{place}.symbol")
    return symbol


def _symbol_twice(symbol: str) -> RejectSummary:
    name = shorten(symbol) if symbol.isprintable() else quote(symbol)
    return RejectSummary(f"two models are called {name}", hint=f"give each its own symbol, such as {name}_1Hour")


def _twins(one: str, other: str) -> RejectSummary:
    """Both as escapes: as they stand, nobody could tell one from the other."""
    return RejectSummary(
        f"two models have names that look the same: {json.dumps(one)} and {json.dumps(other)}",
        hint="write names in one form of Unicode (NFC), and give each model its own",
    )


def _series(entry: Mapping[str, Any], place: str) -> tuple[str, Mapping[str, Any]] | None:
    """The model's object of lists and its name, or None where the model is in the flat layout."""
    if not _FLAT_FIELDS.isdisjoint(entry):
        return None
    for name in SERIES_CONTAINERS:
        lists = entry.get(name)
        if isinstance(lists, dict):
            return name, lists
        if lists is not None:
            raise RejectSummary(f"expected an object of lists, got {kind_of(lists)}", where=f"{place}.{name}")
    return None


def _last(lists: Mapping[str, Any], name: str, place: str) -> float | None:
    points = lists.get(name)
    if points is None:
        return None
    if not isinstance(points, list):
        raise RejectSummary(f"expected a list of numbers, got {kind_of(points)}", where=f"{place}.{name}")
    if not points:
        return None
    last = points[-1]
    return last if type(last) is float else _number(last, f"{place}.{name}[{len(points) - 1}]")


def _history(points: Any, place: str, name: str) -> Sequence[float]:
    if points is None:
        return ()
    if not isinstance(points, list):
        raise RejectSummary(f"expected a list of numbers, got {kind_of(points)}", where=f"{place}.{name}")
    if set(map(type, points)) <= {float}:
        return points
    numbers = (_number(point, f"{place}.{name}[{index}]") for index, point in enumerate(points))
    return [math.nan if number is None else number for number in numbers]


def _checkpoints(ids: Any, points: int, place: str) -> Sequence[Checkpoint] | None:
    if ids is None:
        return None
    where = f"{place}.checkpoints"
    if not isinstance(ids, list):
        raise RejectSummary(f"expected a list of checkpoint ids, got {kind_of(ids)}", where=where)
    if len(ids) != points:
        raise RejectSummary(
            f"{len(ids)} ids for {points} points of fitness history", where=where, hint="give one id a point"
        )
    for index, checkpoint in enumerate(ids):
        if isinstance(checkpoint, str):
            _check_name(checkpoint, f"{where}[{index}]")
        elif isinstance(checkpoint, bool) or not isinstance(checkpoint, int):
            raise RejectSummary(
                f"expected a whole number or text, got {kind_of(checkpoint)}", where=f"{where}[{index}]"
            )
        elif not 0 <= checkpoint <= _MAX_INTEGER:
            raise RejectSummary("expected a number from 0 to 2^53", where=f"{where}[{index}]")
    return ids


_MAX_INTEGER: Final = 2**53
"""Largest whole number that every JSON reader keeps exactly."""


_LONGEST_INTERVAL: Final = 10**9
"""Updates between two validation points; times the points of the largest file it still fits 64 bits."""


def _interval(value: Any, where: str) -> int | None:
    number = _number(value, where)
    if number is None:
        return None
    if not (1 <= number <= _LONGEST_INTERVAL and number.is_integer()):  # NaN fails both
        raise RejectSummary(
            f"{value!r} is not a whole number of updates" if math.isfinite(number) else "not a finite number",
            where=where,
            hint="give the updates between two validation points, such as 50",
        )
    return int(number)


def _reward_scale(document: Mapping[str, Any]) -> float | None:
    scale = _number(document.get("reward_scale"), "reward_scale")
    if scale is not None and not math.isfinite(scale):
        raise RejectSummary(f"{scale} is not a finite number", where="reward_scale", hint="leave it out if unknown")
    return scale


def _run_name(document: Mapping[str, Any]) -> str | None:
    name = _optional_text(document, "run_name")
    if name is not None:
        _check_text(name, "run_name", MAX_RUN_NAME)
    return name


def _optional_text(document: Mapping[str, Any], name: str) -> str | None:
    text = document.get(name)
    if text is not None and not isinstance(text, str):
        raise RejectSummary(
            f"expected text, got {kind_of(text)}", where=name, hint=EXPECTED if name == "timestamp" else ""
        )
    return text


def _check_name(name: str, where: str) -> None:
    """Of a model or a checkpoint: what people and scripts tell apart, so that nothing in it may be out of sight."""
    _check_text(name, where, MAX_SYMBOL)
    if not name.isascii() and (found := _INVISIBLE.search(name)) is not None:
        called = unicodedata.name(found[0], "character")
        raise RejectSummary(
            f"character {found.start()} is the invisible {called} (U+{ord(found[0]):04X})",
            where=where,
            hint="leave it out: names that differ by it look the same",
        )


def _check_text(text: str, where: str, longest: int) -> None:
    if not 1 <= len(text) <= longest:
        raise RejectSummary(f"has {len(text)} characters", where=where, hint=f"1 to {longest} are allowed")
    if text.isprintable():
        return
    for index, character in enumerate(text):
        if unicodedata.category(character) in _FORBIDDEN_CATEGORIES or character in _BIDI_CONTROLS:
            raise RejectSummary(
                f"character {index} is the control character U+{ord(character):04X}",
                where=where,
                hint="leave it out",
            )


def _number_at(entry: Mapping[str, Any], name: str, place: str) -> float | None:
    value = entry.get(name)
    return value if type(value) is float else _number(value, f"{place}.{name}")


def _number(value: Any, where: str) -> float | None:
    """The number as a float; None for null or missing. A whole number beyond floats is infinite."""
    if value is None or type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise RejectSummary(f"expected a number, got {kind_of(value)}", where=where)
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
