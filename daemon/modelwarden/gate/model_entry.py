"""One model of a summary: from its entry, in either layout, to a `Model`. Pure.

The rule: an entry is data from a stranger. What is wrong in it is handed to `refuse` with its place; what it says
twice, and differently, is kept and told.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from modelwarden.errors import RejectSummary
from modelwarden.gate.assessment import NOT_KEPT, Checkpoint
from modelwarden.gate.json_object import kind_of, quote
from modelwarden.gate.series import (
    Fields,
    Lists,
    contradictions_of_figures,
    contradictions_of_lists,
    number_list,
    other_figures,
)
from modelwarden.gate.values import Refuse, check_name, read_interval, read_number

SERIES_CONTAINERS: Final = ("validation_metrics", "metrics")
"""Where a model may keep its lists over validation points. Validation first: a model that has both is judged
on what it did not train on."""

_NO_OTHERS: Final[Mapping[str, float]] = {}


class Model(NamedTuple):
    """One model as the trainer reported it.

    Attributes:
        symbol: 1..128 characters, none of them a control character or invisible. As the trainer wrote it.
        values: the final figure per metric gate, in the table's order; None if missing.
        history: the history's metric over the validation points; NaN if a point is missing or null.
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


_UNREAD: Final = Model("", (), (), None, None)
"""What stands for a model that is none, while its summary's other problems are taken down."""


def read_model(
    entry: Any,
    place: str,
    key: str | None,
    fields: Fields,
    run_interval: int | None,
    refuse: Refuse,
) -> Model:
    """The model in an entry.

    Args:
        entry: what stands there.
        place: where that is.
        key: the symbol that it stands under, in an object of models.
        fields: what the policy asks for.
        run_interval: the updates between two validation points, if the model does not say so itself.
        refuse: what becomes of a problem.
    """
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
                else read_number(value, f"{place}.{gate.argument}", refuse)
                for gate in fields.gates
            ]
        )
        at = fields.history_at
        if lists is not None or (history and at is not None and history[-1] != values[at]):
            contradictions = contradictions_of_figures(values, flat_history, name, lists or {}, fields)
        beside = number_list(lists.get(fields.history_series)) if lists is not None and fields.history_series else None
        if flat_history is None and beside:
            history = [math.nan if point is None else point for point in beside]
        if lists is not None and None in values:
            found, whole = _with_listed(values, name, lists, place, fields, refuse)
            contradictions += tuple(
                f"{gate.argument} is null, but {name}.{gate.series} ends at {final!r}"
                for gate, value, final in zip(fields.gates, values, found, strict=True)
                if value is None and final is not None and gate.argument in entry
            )
            missing = [gate for gate, value in zip(fields.gates, values, strict=True) if value is None]
            if any(whole.get(gate.series) is not None for gate in missing):
                values, lists, is_flat = found, whole, False
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
        run_interval if interval is None else read_interval(interval, f"{place}.validation_interval", refuse),
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
    check_name(symbol, f"{place}.symbol", refuse)
    return symbol


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


def _with_listed(
    values: tuple[float | None, ...], name: str, lists: Lists, place: str, fields: Fields, refuse: Refuse
) -> tuple[tuple[float | None, ...], Lists]:
    """Final figures with those that stand in the lists alone, for a policy may let a missing metric pass.

    The lists come back with the final figures that they lack, so that the model can be judged at its best point, too.
    """
    whole = dict(lists)
    found = list(values)
    for at, (gate, value) in enumerate(zip(fields.gates, values, strict=True)):
        if value is None:
            found[at] = _last(lists, gate.series, f"{place}.{name}", fields, refuse)
        elif lists.get(gate.series) is None:
            whole[gate.series] = value
    return tuple(found), whole


def _last(lists: Mapping[str, Any], name: str, place: str, fields: Fields, refuse: Refuse) -> float | None:
    """The last of a list over validation points; a number in its place is the final figure itself."""
    points = lists.get(name)
    if points is None:
        return None
    if not isinstance(points, list):
        if type(points) in {int, float}:
            return read_number(points, f"{place}.{name}", refuse)
        if name != fields.history_series:  # that one was read as the history before
            refuse(RejectSummary(f"expected a list of numbers, got {kind_of(points)}", where=f"{place}.{name}"))
        return None
    if not points:
        return None
    last = points[-1]
    if type(last) is float:
        return last
    of_history = name == fields.history_series
    return read_number(last, f"{place}.{name}[{len(points) - 1}]", _pass_over if of_history else refuse)


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
    numbers = (read_number(point, f"{place}.{field}[{index}]", refuse) for index, point in enumerate(points))
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
            check_name(checkpoint, f"{where}[{index}]", refuse)
        elif isinstance(checkpoint, bool) or not isinstance(checkpoint, int):
            refuse(
                RejectSummary(f"expected a whole number or text, got {kind_of(checkpoint)}", where=f"{where}[{index}]")
            )
        elif not 0 <= checkpoint <= _MAX_INTEGER:
            refuse(RejectSummary("expected a number from 0 to 2^53", where=f"{where}[{index}]"))
    return ids if is_whole else [NOT_KEPT if checkpoint is None else checkpoint for checkpoint in ids]


_MAX_INTEGER: Final = 2**53
"""Largest whole number that every JSON reader keeps exactly."""
