"""From the bytes of a summary to its models, or the reason why not.

The rule: everything in a summary is data from a stranger. Whatever the bytes are, the outcome is a `Summary` or
a `RejectSummary` that names the place and what to do; never another exception, never a guess.
"""

import json
import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelwarden.errors import Problem, RejectSummary
from modelwarden.gate.foreign import Foreign, foreign, has_known_metric, what_it_holds
from modelwarden.gate.json_object import PROBLEMS_NAMED, KeyTwice, join_place, quote, read_object, shorten
from modelwarden.gate.model_entry import SERIES_CONTAINERS, Model, read_model
from modelwarden.gate.policy import Policy
from modelwarden.gate.series import (
    Fields,
    fields_of,
)
from modelwarden.gate.timestamp import EXPECTED, parse_timestamp
from modelwarden.gate.values import Refuse, check_text, raise_at_once, read_interval, read_number, read_text

MAX_RUN_NAME: Final = 256
"""Longest run name, in characters."""

MAX_MODELS: Final = 20_000
"""Most models of one summary: each takes some 3 kB while it is judged, and a summary may be no bomb."""

PROBLEMS_COUNTED: Final = 100_000
"""How many more are counted: a file may be made of nothing else."""

MODEL_CONTAINERS: Final = ("models", "results", "symbols")
"""Where a summary may keep its models, in the order in which they are looked for."""

_DEFAULT: Final = Policy.from_config()


@dataclass(frozen=True, slots=True)
class Summary:
    """One training run as the trainer reported it.

    Attributes:
        models: at least one, each with its own symbol, in the order of the file.
        timestamp: `YYYYMMDD_HHMMSS`, or None if the summary names none.
        run_name: the trainer's name for the run, or None.
        reward_scale: what the drawdown proxy was computed with, or None if the summary is silent.
    """

    models: tuple[Model, ...]
    timestamp: str | None
    run_name: str | None
    reward_scale: float | None


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
        return _read(document, fields, raise_at_once)
    except Foreign:
        raise
    except RejectSummary:
        raise _all_problems(document, fields) from None


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
    written = read_text(document, "timestamp", refuse, EXPECTED)
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
    interval = read_interval(document.get("validation_interval"), "validation_interval", refuse)
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
        read_model(entry, place, key, fields, interval, refuse) for place, key, entry in _placed(container, entries)
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


def _symbol_twice(symbol: str) -> RejectSummary:
    name = shorten(symbol) if symbol.isprintable() else quote(symbol)
    return RejectSummary(f"two models are called {name}", hint=f"give each its own symbol, such as {name}_1Hour")


def _keys_twice(error: KeyTwice) -> RejectSummary:
    """The same, if it is a symbol's key that stands twice in words that say so."""
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


def _reward_scale(document: Mapping[str, Any], refuse: Refuse) -> float | None:
    scale = read_number(document.get("reward_scale"), "reward_scale", refuse)
    if scale is not None and not math.isfinite(scale):
        refuse(RejectSummary(f"{scale} is not a finite number", where="reward_scale", hint="leave it out if unknown"))
    return scale


def _run_name(document: Mapping[str, Any], refuse: Refuse) -> str | None:
    name = read_text(document, "run_name", refuse)
    if name is not None:
        check_text(name, "run_name", MAX_RUN_NAME, refuse)
    return name
