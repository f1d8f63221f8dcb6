"""From the bytes of a summary to its models, or the reason why not.

The rule: everything in a summary is data from a stranger. Whatever the bytes are, the outcome is a `Summary` or
a `RejectSummary` that names the place and what to do; never another exception, never a guess.
"""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from modelwarden.errors import Problem, RejectSummary
from modelwarden.gate.assessment import NOT_KEPT, Checkpoint
from modelwarden.gate.foreign import Foreign, foreign, has_known_metric, what_it_holds
from modelwarden.gate.json_object import PROBLEMS_NAMED, KeyTwice, join_place, kind_of, quote, read_object, shorten
from modelwarden.gate.policy import Policy
from modelwarden.gate.series import (
    Fields,
    Lists,
    contradictions_of_figures,
    contradictions_of_lists,
    fields_of,
    number_list,
    other_figures,
)
from modelwarden.gate.timestamp import EXPECTED, parse_timestamp

MAX_SYMBOL: Final = 128
"""Longest symbol and checkpoint id, in characters (gating rule: 1..128)."""

MAX_RUN_NAME: Final = 256
"""Longest run name, in characters."""

MAX_MODELS: Final = 20_000
"""Most models of one summary: each takes some 3 kB while it is judged, and a summary may be no bomb."""

PROBLEMS_COUNTED: Final = 100_000
"""How many more are counted: a file may be made of nothing else."""

MODEL_CONTAINERS: Final = ("models", "results", "symbols")
"""Where a summary may keep its models, in the order in which they are looked for."""

SERIES_CONTAINERS: Final = ("validation_metrics", "metrics")
"""Where a model may keep its lists over validation points. Validation first: a model that has both is judged
on what it did not train on."""

_BIDI_CONTROLS: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_FORBIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""What takes no room on a screen: Unicode's Default_Ignorable_Code_Point, the annotation marks and the empty Braille
cell. Two names that differ by one of these look the same to everybody."""
_DEFAULT: Final = Policy.from_config()


_NO_OTHERS: Final[Mapping[str, float]] = {}


class Model(NamedTuple):
    """One model as the trainer reported it.

    Attributes:
        symbol: 1..128 characters, none of them a control character or invisible. As the trainer wrote it.
        values: the final figure per metric gate, in the table's order; None where missing.
        history: the history's metric over the validation points; NaN where a point is missing or null.
        checkpoints: the trainer's own checkpoint ids, one a point of the history, or None; NOT_KEPT for one that it
            does not have any more.
        validation_interval: updates between two points, the model's own or the run's, or None.
        lists: its figures over the validation points, as the trainer wrote them, or None.
        contradictions: what the summary says of it twice, and differently: both places and both values, a text each.
        is_flat: whether `values` were given as such, and not as the last of lists.
        others: the final figures of metrics that no gate names.
    """

    symbol: str
    values: tuple[float | None, ...]
    history: Sequence[float]
    checkpoints: Sequence[Checkpoint] | None
    validation_interval: int | None
    lists: Lists | None = None
    contradictions: tuple[str, ...] = ()
    is_flat: bool = True
    others: Mapping[str, float] = _NO_OTHERS


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


Refuse = Callable[[RejectSummary], None]
"""What becomes of a problem: it is raised, or it is taken down and the reading goes on without what is wrong."""


def parse_summary(data: bytes, policy: Policy = _DEFAULT) -> Summary:
    """Given a summary's bytes, return its models and run fields, with the figures that the policy asks for.

    Raises:
        NotJson: the bytes are not one JSON object (they may be unfinished).
        RejectSummary: they are one, and it is not a summary; the error names all that is wrong.
    """
    try:
        document = read_object(data)
    except KeyTwice as error:
        if all(problem.where not in MODEL_CONTAINERS for problem in error.problems):
            raise
        raise _keys_twice(error) from None  # models keyed by symbol
    fields = fields_of(policy)
    try:
        return _read(document, fields, _raise)
    except Foreign:
        raise
    except RejectSummary:
        raise _all_problems(document, fields) from None


def _raise(error: RejectSummary) -> None:
    raise error


class _Problems:
    """Takes problems down: the first PROBLEMS_NAMED in full, of the others their number."""

    def __init__(self) -> None:
        self.named: list[Problem] = []
        self.more = 0

    def __call__(self, error: RejectSummary) -> None:
        if len(self.named) < PROBLEMS_NAMED:
            self.named += error.problems
        elif self.more < PROBLEMS_COUNTED:
            self.more += 1
        else:
            raise _TooMany


class _TooMany(Exception):
    """Enough problems were counted."""


def _all_problems(document: Mapping[str, Any], fields: Fields) -> RejectSummary:
    """All that is wrong with a summary. A slow second reading, for summaries that are refused anyway."""
    problems = _Problems()
    is_all = True
    try:
        _read(document, fields, problems)
    except Foreign as error:  # whose file it is matters more than all that it lacks
        return error
    except _TooMany:
        is_all = False
    (what, where, hint), *others = problems.named
    return RejectSummary(what, where=where, hint=hint, others=others, more=problems.more, is_all=is_all)


def _read(document: Mapping[str, Any], fields: Fields, refuse: Refuse) -> Summary:
    """The summary, without what `refuse` took down instead of raising it."""
    return Summary(
        timestamp=_timestamp(document, refuse),
        models=_read_models(document, fields, refuse),
        run_name=_run_name(document, refuse),
        reward_scale=_reward_scale(document, refuse),
    )


def _timestamp(document: Mapping[str, Any], refuse: Refuse) -> str | None:
    written = _optional_text(document, "timestamp", refuse)
    if written is None:
        return None
    timestamp = parse_timestamp(written)
    if timestamp is None:
        refuse(
            RejectSummary(
                f"{quote(written)} is not a timestamp",
                where="timestamp",
                hint=f"{EXPECTED}; leave it out to use the file's name or time",
            )
        )
    return timestamp


def _read_models(document: Mapping[str, Any], fields: Fields, refuse: Refuse) -> tuple[Model, ...]:
    interval = _interval(document.get("validation_interval"), "validation_interval", refuse)
    container = _model_container(document, refuse)
    if container is None:
        return ()
    entries = document[container]
    if len(entries) > MAX_MODELS:
        refuse(
            RejectSummary(
                f"{len(entries)} models, more than {MAX_MODELS}", where=container, hint="split the run into several"
            )
        )
        return ()
    if not entries:
        refuse(RejectSummary("no models", where=container, hint="a summary needs at least one"))
    known = (fields.known_flat, fields.series, SERIES_CONTAINERS)
    if not any(has_known_metric(entry, *known) for entry in _entries(entries)):
        first = next(
            ((place, entry) for place, _, entry in _placed(container, entries) if isinstance(entry, dict)), None
        )
        if first is not None:
            raise foreign(document, *first, fields.gates)
    models = [
        _read_model(entry, place, key, fields, interval, refuse) for place, key, entry in _placed(container, entries)
    ]
    _check_each_its_own(models, refuse)
    return tuple(models)


def _placed(container: str, entries: Any) -> Iterable[tuple[str, str | None, Any]]:
    """Each model with its place and, if it stands under one, its key."""
    if isinstance(entries, dict):
        return ((join_place(container, key), key, entry) for key, entry in entries.items())
    return ((f"{container}[{index}]", None, entry) for index, entry in enumerate(entries))


def _check_each_its_own(models: Iterable[Model], refuse: Refuse) -> None:
    """No symbol twice, nor two that Unicode takes for the same text (NFC). Upper and lower case differ.

    One symbol alone is kept as it is written: what it is called in the archive is what the trainer called it.
    """
    seen: dict[str, str] = {}
    for model in models:
        symbol = model.symbol
        form = symbol if symbol.isascii() else unicodedata.normalize("NFC", symbol)
        if form in seen and symbol:  # none: it was refused before
            refuse(_symbol_twice(symbol) if seen[form] == symbol else _twins(seen[form], symbol))
        seen[form] = symbol


def _model_container(document: Mapping[str, Any], refuse: Refuse) -> str | None:
    present = [name for name in MODEL_CONTAINERS if isinstance(document.get(name), list | dict)]
    # A trainer may list its symbols as text beside the results; only objects are models.
    holding = [name for name in present if any(isinstance(entry, dict) for entry in _entries(document[name]))]
    candidates = holding or present
    if not candidates:
        refuse(
            RejectSummary(
                f"no models{what_it_holds(document)}",
                hint='keep them in "models", "results" or "symbols", as a list or an object keyed by symbol',
            )
        )
    elif len(candidates) > 1:
        first, second = candidates[:2]
        refuse(RejectSummary(f"both {first} and {second} could hold the models", hint="keep one of them"))
    else:
        return candidates[0]
    return None


def _entries(container: Any) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


_UNREAD: Final = Model("", (), (), None, None)
"""What stands for a model that is none, while its summary's other problems are taken down."""


def _read_model(
    entry: Any,
    place: str,
    key: str | None,
    fields: Fields,
    run_interval: int | None,
    refuse: Refuse,
) -> Model:
    if not isinstance(entry, dict):
        refuse(RejectSummary(f"expected an object, got {kind_of(entry)}", where=place))
        return _UNREAD
    symbol = _symbol(entry, place, key, refuse)
    name, lists, is_flat = _lists(entry, place, fields, refuse)
    flat_history = None if fields.history_field is None else entry.get(fields.history_field)
    contradictions: tuple[str, ...] = ()
    if is_flat:
        history = _history(flat_history, place, fields.history_field, refuse)
        values = tuple(
            [
                value
                if type(value := entry.get(gate.argument)) is float
                else _number(value, f"{place}.{gate.argument}", refuse)
                for gate in fields.gates
            ]
        )
        at = fields.history_at
        if lists is not None or (history and at is not None and history[-1] != values[at]):
            contradictions = contradictions_of_figures(values, flat_history, name, lists or {}, fields)
        beside = number_list(lists.get(fields.history_series)) if lists is not None and fields.history_series else None
        if flat_history is None and beside:
            history = [math.nan if point is None else point for point in beside]
    else:
        lists = lists or {}
        inner = f"{place}.{name}"
        course = None if fields.history_series is None else lists.get(fields.history_series)
        if course is None or type(course) in {int, float}:  # a figure without its course, or neither
            history = _history(flat_history, place, fields.history_field, refuse)
        else:
            history = _history(course, inner, fields.history_series, refuse)
        values = tuple([_last(lists, gate.series, inner, fields, refuse) for gate in fields.gates])
        contradictions = contradictions_of_lists(name, lists, flat_history, fields)
    interval = entry.get("validation_interval")
    return Model(  # by position: by name it takes twice as long
        symbol,
        values,
        history,
        _checkpoints(entry.get("checkpoints"), history, place, refuse),
        run_interval if interval is None else _interval(interval, f"{place}.validation_interval", refuse),
        lists,
        contradictions,
        is_flat,
        other_figures(entry, lists or {}, fields),
    )


def _symbol(entry: Mapping[str, Any], place: str, key: str | None, refuse: Refuse) -> str:
    symbol = entry.get("symbol")
    if symbol is None:
        symbol = key
    if symbol is None:
        refuse(RejectSummary("missing", where=f"{place}.symbol", hint="every model needs its own symbol"))
        return ""
    if not isinstance(symbol, str):
        refuse(RejectSummary(f"expected text, got {kind_of(symbol)}", where=f"{place}.symbol"))
        return ""
    if key is not None and symbol != key:
        refuse(
            RejectSummary(
                f"says {quote(symbol)}, but the model stands under {quote(key)}",
                where=f"{place}.symbol",
                hint="one of the two is wrong",
            )
        )
        return ""
    _check_name(symbol, f"{place}.symbol", refuse)
    return symbol


def _symbol_twice(symbol: str) -> RejectSummary:
    name = shorten(symbol) if symbol.isprintable() else quote(symbol)
    return RejectSummary(f"two models are called {name}", hint=f"give each its own symbol, such as {name}_1Hour")


def _keys_twice(error: KeyTwice) -> RejectSummary:
    """The same, where it is a symbol's key that stands twice in words that say so."""
    (what, where, hint), *others = [
        _symbol_twice(key).problems[0] if problem.where in MODEL_CONTAINERS else problem
        for problem, key in zip(error.problems, error.keys, strict=True)
    ]
    return RejectSummary(what, where=where, hint=hint, others=others, more=error.more)


def _twins(one: str, other: str) -> RejectSummary:
    """Both as escapes: as they stand, nobody could tell one from the other."""
    return RejectSummary(
        f"two models have names that look the same: {json.dumps(one)} and {json.dumps(other)}",
        hint="write names in one form of Unicode (NFC), and give each model its own",
    )


def _lists(entry: Mapping[str, Any], place: str, fields: Fields, refuse: Refuse) -> tuple[str, Lists | None, bool]:
    """The model's object of lists, with its name, and whether the model is in the flat layout.

    Beside flat figures, what is no object of lists is a field like any other that nobody knows.
    """
    is_flat = not fields.flat.isdisjoint(entry)
    for name in SERIES_CONTAINERS:
        lists = entry.get(name)
        if isinstance(lists, dict):
            return name, lists, is_flat
        if lists is not None and not is_flat:
            refuse(RejectSummary(f"expected an object of lists, got {kind_of(lists)}", where=f"{place}.{name}"))
    return "", None, True


def _last(lists: Mapping[str, Any], name: str, place: str, fields: Fields, refuse: Refuse) -> float | None:
    """The last of a list over validation points; a number in its place is the final figure itself."""
    points = lists.get(name)
    if points is None:
        return None
    if not isinstance(points, list):
        if type(points) in {int, float}:
            return _number(points, f"{place}.{name}", refuse)
        if name != fields.history_series:  # that one was read as the history before
            refuse(RejectSummary(f"expected a list of numbers, got {kind_of(points)}", where=f"{place}.{name}"))
        return None
    if not points:
        return None
    last = points[-1]
    if type(last) is float:
        return last
    return _number(last, f"{place}.{name}[{len(points) - 1}]", _pass_over if name == fields.history_series else refuse)


def _pass_over(_error: RejectSummary) -> None:
    """It is taken down elsewhere."""


_REFUSED: Final[Sequence[float]] = []
"""The history of a model whose history is no list; known by what it is, not by what is in it."""


def _history(points: Any, place: str, field: str | None, refuse: Refuse) -> Sequence[float]:
    if points is None:
        return ()
    if not isinstance(points, list):
        refuse(RejectSummary(f"expected a list of numbers, got {kind_of(points)}", where=f"{place}.{field}"))
        return _REFUSED
    if set(map(type, points)) <= {float}:
        return points
    numbers = (_number(point, f"{place}.{field}[{index}]", refuse) for index, point in enumerate(points))
    return [math.nan if number is None else number for number in numbers]


def _checkpoints(ids: Any, history: Sequence[float], place: str, refuse: Refuse) -> Sequence[Checkpoint] | None:
    if ids is None:
        return None
    where = f"{place}.checkpoints"
    if not isinstance(ids, list):
        refuse(RejectSummary(f"expected a list of checkpoint ids, got {kind_of(ids)}", where=where))
        return None
    if len(ids) != len(history) and history is not _REFUSED:
        refuse(
            RejectSummary(
                f"{len(ids)} ids for {len(history)} points of fitness history", where=where, hint="give one id a point"
            )
        )
    is_whole = True
    for index, checkpoint in enumerate(ids):
        if checkpoint is None:
            is_whole = False
        elif isinstance(checkpoint, str):
            _check_name(checkpoint, f"{where}[{index}]", refuse)
        elif isinstance(checkpoint, bool) or not isinstance(checkpoint, int):
            refuse(
                RejectSummary(f"expected a whole number or text, got {kind_of(checkpoint)}", where=f"{where}[{index}]")
            )
        elif not 0 <= checkpoint <= _MAX_INTEGER:
            refuse(RejectSummary("expected a number from 0 to 2^53", where=f"{where}[{index}]"))
    return ids if is_whole else [NOT_KEPT if checkpoint is None else checkpoint for checkpoint in ids]


_MAX_INTEGER: Final = 2**53
"""Largest whole number that every JSON reader keeps exactly."""


_LONGEST_INTERVAL: Final = 10**9
"""Updates between two validation points; times the points of the largest file it still fits 64 bits."""


def _interval(value: Any, where: str, refuse: Refuse) -> int | None:
    number = _number(value, where, refuse)
    if number is None:
        return None
    if not (1 <= number <= _LONGEST_INTERVAL and number.is_integer()):  # NaN fails both
        refuse(
            RejectSummary(
                f"{value!r} is not a whole number of updates" if math.isfinite(number) else "not a finite number",
                where=where,
                hint="give the updates between two validation points, such as 50",
            )
        )
        return None
    return int(number)


def _reward_scale(document: Mapping[str, Any], refuse: Refuse) -> float | None:
    scale = _number(document.get("reward_scale"), "reward_scale", refuse)
    if scale is not None and not math.isfinite(scale):
        refuse(RejectSummary(f"{scale} is not a finite number", where="reward_scale", hint="leave it out if unknown"))
    return scale


def _run_name(document: Mapping[str, Any], refuse: Refuse) -> str | None:
    name = _optional_text(document, "run_name", refuse)
    if name is not None:
        _check_text(name, "run_name", MAX_RUN_NAME, refuse)
    return name


def _optional_text(document: Mapping[str, Any], name: str, refuse: Refuse) -> str | None:
    text = document.get(name)
    if text is None or isinstance(text, str):
        return text
    hint = EXPECTED if name == "timestamp" else ""
    refuse(RejectSummary(f"expected text, got {kind_of(text)}", where=name, hint=hint))
    return None


def _check_name(name: str, where: str, refuse: Refuse) -> None:
    """Of a model or a checkpoint: what people and scripts tell apart, so that nothing in it may be out of sight."""
    if not _check_text(name, where, MAX_SYMBOL, refuse) or name.isascii():
        return
    if (found := _INVISIBLE.search(name)) is not None:
        called = unicodedata.name(found[0], "character")
        refuse(
            RejectSummary(
                f"character {found.start()} is the invisible {called} (U+{ord(found[0]):04X})",
                where=where,
                hint="leave it out: names that differ by it look the same",
            )
        )


def _check_text(text: str, where: str, longest: int, refuse: Refuse) -> bool:
    """Whether nothing in it was refused so far."""
    if not 1 <= len(text) <= longest:
        refuse(RejectSummary(f"has {len(text)} characters", where=where, hint=f"1 to {longest} are allowed"))
        return False
    if text.isprintable():
        return True
    for index, character in enumerate(text):
        if unicodedata.category(character) in _FORBIDDEN_CATEGORIES or character in _BIDI_CONTROLS:
            refuse(
                RejectSummary(
                    f"character {index} is the control character U+{ord(character):04X}",
                    where=where,
                    hint="leave it out",
                )
            )
            return False
    return True


def _number(value: Any, where: str, refuse: Refuse) -> float | None:
    """The number as a float; None for null or missing. A whole number beyond floats is infinite."""
    if value is None or type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        refuse(RejectSummary(f"expected a number, got {kind_of(value)}", where=where))
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
