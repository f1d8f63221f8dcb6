"""What a format's program made of a file, as a summary's bytes: names cleaned, figures and checkpoints checked. Pure.

The rule: a figure is a number as the trainer wrote it, or it is missing; one outside its domain is in a unit that the
format does not read, and refuses the file. NaN and infinities stay what they are.
"""

import json
import math
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from modelwarden.errors import RejectSummary
from modelwarden.formats.description import Format, MetricRule
from modelwarden.gate.gates import LARGEST_FIGURE, Better
from modelwarden.gate.json_object import kind_of, quote

DIVERGED: Final = "diverged_figures"
"""The metric that counts, at each point, the figures that must be finite and are not."""

LONGEST_SYMBOL: Final = 128
LONGEST_RUN_NAME: Final = 256

_TOLERANCE: Final = 1e-6
"""What single precision adds to a mean of ones; a wrong unit is off by a hundred."""

_LARGEST_EXACT: Final = 2**53
_WORDS: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""What the program's last step calls what JSON can't hold."""


class Wish(NamedTuple):
    """What the settings ask of the files of a folder.

    Attributes:
        if_complete: whether a file counts only once its program says that the training ended.
        only_best: whether of several models the best alone is judged.
        at_saved: whether a model counts as ended at the checkpoint that the trainer says it kept.
        at_best: whether a model is judged at the best point of its course.
        history: the policy's: its checkpoints are the summary's, and the best is found by it if the program names none;
            "" if the policy has none, None if no policy is known.
        better: which way that one improves.
        run_name: of a group of files.
    """

    if_complete: bool = False
    only_best: bool = False
    at_saved: bool = False
    at_best: bool = False
    history: str | None = None
    better: Better = Better.HIGHER
    run_name: str = ""


class Part(NamedTuple):
    """What the program made of one file.

    Attributes:
        name: the file's path from the folder of the group that it belongs to; "" of a file alone.
        made: all that the program put out.
        kept: the checkpoints that lie where the format looks for them; None if it looks for none.
    """

    name: str
    made: Sequence[Any]
    kept: frozenset[str] | None = None


class _Model(NamedTuple):
    """A model as the program made it, and the part that it is of."""

    made: Mapping[str, Any]
    part: Part


class Torn(RejectSummary):
    """The bytes end before they can be read: the file may still be being written."""


class NotFinal(NamedTuple):
    """The program says that the training goes on."""


def summary_of(parts: Sequence[Part], format_: Format, wish: Wish) -> bytes | NotFinal:
    """The summary's bytes.

    Args:
        parts: what the program made of the file, or of each file of a group.
        format_: whose program.
        wish: what the settings ask for.

    Raises:
        RejectSummary: it is no summary, or a figure is outside its domain.
    """
    documents = [_document(part) for part in parts]
    if wish.if_complete and any(each.get("complete") is not True for each in documents):
        return NotFinal()
    models = [_Model(each, part) for part, made in zip(parts, documents, strict=True) for each in made["models"]]
    if not models:
        raise RejectSummary("there is no model in it that ended")
    is_group = any(part.name for part in parts)
    if wish.only_best and len(models) > 1:
        models = [_best(models, wish, is_group=is_group)]
    symbols = _symbols(models)
    summary = {
        "run_name": _clean(wish.run_name if is_group else documents[0].get("run_name"), LONGEST_RUN_NAME),
        "timestamp": _timestamp(documents),
        "models": [_model(each, format_, wish, symbol) for each, symbol in zip(models, symbols, strict=True)],
    }
    return json.dumps({name: value for name, value in summary.items() if value is not None}).encode()


def _document(part: Part) -> Mapping[str, Any]:
    made, where = part.made, part.name
    if len(made) != 1 or not isinstance(made[0], dict):
        found = f"{len(made)} values" if len(made) != 1 else kind_of(made[0])
        raise _of_program(f"puts out {found}, not one object", where)
    document: Mapping[str, Any] = made[0]
    models = document.get("models")
    if not isinstance(models, list) or not all(isinstance(each, dict) for each in models):
        raise _of_program("puts out no list of models", where)
    return document


def _timestamp(documents: Sequence[Mapping[str, Any]]) -> Any:
    """The run's; of several files the latest, if each has one."""
    found = [each.get("timestamp") for each in documents]
    if len(found) == 1:
        return found[0]
    texts = [each for each in found if isinstance(each, str)]
    return max(texts) if len(texts) == len(found) else None


def _symbols(models: Sequence[_Model]) -> Sequence[str]:
    """The models' names. Those of a group that have one in common are told apart by the files that they are of."""
    symbols = [_clean(each.made.get("symbol"), LONGEST_SYMBOL) or f"model-{at}" for at, each in enumerate(models)]
    times = Counter(symbols)
    if len(times) == len(symbols):
        return symbols
    of_part = Counter(each.part.name for each in models)
    told: list[str] = []
    for symbol, (_, part) in zip(symbols, models, strict=True):
        if times[symbol] > 1 and part.name:
            stem = part.name.rpartition(".")[0] or part.name
            told.append(_clean(stem if of_part[part.name] == 1 else f"{stem}/{symbol}", LONGEST_SYMBOL) or symbol)
        else:
            told.append(symbol)
    return told


def _of_program(words: str, where: str = "") -> RejectSummary:
    return RejectSummary(f"the format's program {words}", where=where, hint="it makes {models: [{symbol, metrics}]}")


def _model(model: _Model, format_: Format, wish: Wish, symbol: str) -> Mapping[str, Any]:
    made, kept = model.made, model.part.kept
    metrics = made.get("metrics")
    if not isinstance(metrics, dict):
        raise _of_program(f"gives {quote(symbol)} no object of metrics", model.part.name)
    figures = {name: _figures(each) for name, each in metrics.items()}
    ids = made.get("checkpoints")
    ids = [_checkpoint(each) for each in ids] if isinstance(ids, list) else None
    for name, points in figures.items():
        _insist_on_domain(name, points, format_.rule_of(name), symbol)
    sound = [points for name, points in figures.items() if (rule := format_.rule_of(name)) and rule.sound]
    if sound:
        figures |= _diverged(sound)
    if wish.at_saved:
        figures, ids = _up_to_saved(made.get("saved"), figures, ids, symbol)
    most = max(map(len, figures.values()), default=0)
    written: dict[str, Any] = {
        "symbol": symbol,
        # A figure that was measured once is no course.
        "metrics": {
            name: points[0] if len(points) == 1 < most else points for name, points in figures.items() if points
        },
    }
    course = most if wish.history is None else len(figures.get(wish.history, ()))
    if ids and len(ids) == most == course:
        last = {each: at for at, each in enumerate(ids)}  # of two of one name the later took the earlier one's place
        ids = [each if last[each] == at else None for at, each in enumerate(ids)]
        written["checkpoints"] = [each if kept is None or str(each) in kept else None for each in ids]
    return written


def _figures(made: Any) -> list[float | None]:
    return [_figure(each) for each in made] if isinstance(made, list) else [_figure(made)]


def _figure(made: Any) -> float | None:
    """The figure; None for what is none. The largest float is what an infinity became on its way."""
    if isinstance(made, str):
        return _WORDS.get(made)
    if isinstance(made, bool) or not isinstance(made, int | float):
        return None
    try:
        figure = float(made)
    except OverflowError:
        figure = math.inf if made > 0 else -math.inf
    return math.copysign(math.inf, figure) if abs(figure) >= sys.float_info.max else figure


def _checkpoint(made: Any) -> int | str | None:
    """The checkpoint's id; None for what is none, or what can't be told exactly."""
    if isinstance(made, str):
        return _clean(made, LONGEST_SYMBOL)
    if isinstance(made, float) and made.is_integer():
        made = int(made)
    if isinstance(made, bool) or not isinstance(made, int) or not 0 <= made < _LARGEST_EXACT:
        return None
    return made


def _insist_on_domain(name: str, points: Sequence[float | None], rule: MetricRule | None, symbol: str) -> None:
    if rule is None or (rule.least == -LARGEST_FIGURE and rule.most == LARGEST_FIGURE):
        return
    for at, point in enumerate(points):
        if point is None or not math.isfinite(point):
            continue
        if not rule.least - _TOLERANCE <= point <= rule.most + _TOLERANCE:
            least = "" if rule.least == -LARGEST_FIGURE else f"{rule.least:g}"
            most = "" if rule.most == LARGEST_FIGURE else f"{rule.most:g}"
            raise RejectSummary(
                f"{point!r} is outside {least}..{most}",
                where=f"{quote(symbol)}: {quote(name)}" + (f"[{at}]" if len(points) > 1 else ""),
                hint="the file is of another version, or in another unit, than the format reads",
            )


def _diverged(sound: Sequence[Sequence[float | None]]) -> Mapping[str, list[float | None]]:
    """At each point, how many of the figures that must be finite are not; what is missing says nothing.

    Nothing is said of a point at which all are finite: a model is never approved because it did not diverge. What was
    measured once, or less often than the rest, counts at the last points: it was measured at the end.
    """
    most = max(map(len, sound))
    counts = [0.0] * most
    for points in sound:
        for at, figure in enumerate(points, most - len(points)):
            counts[at] += figure is not None and not math.isfinite(figure)
    return {DIVERGED: [count or None for count in counts]} if any(counts) else {}


def _up_to_saved(
    saved: Any, figures: Mapping[str, list[float | None]], ids: list[int | str | None] | None, symbol: str
) -> tuple[dict[str, list[float | None]], list[int | str | None] | None]:
    """The course up to the checkpoint that the trainer kept: what came after it is in no model that is left."""
    checkpoint = _checkpoint(saved)
    if checkpoint is None or ids is None or checkpoint not in ids:
        raise RejectSummary(
            "the file does not say which checkpoint was kept, or has no figures of it",
            where=quote(symbol),
            hint='judge_at = "last" or "best" needs no such word of the trainer\'s',
        )
    points, end = len(ids), len(ids) - ids[::-1].index(checkpoint)  # of two of one name the later took its place
    return {name: each[:end] if len(each) == points else each for name, each in figures.items()}, ids[:end]


def _best(models: Sequence[_Model], wish: Wish, *, is_group: bool) -> _Model:
    """The best of several models: the last that the program calls so, else by the history's metric.

    A program that sees one file of several can't know which model is the best of all.
    """
    named = [] if is_group else [each for each in models if each.made.get("best") is True]
    if named:
        return named[-1]
    judged = [(figure, each) for each in models if (figure := _figure_of(each.made, wish)) is not None]
    if not judged:
        raise RejectSummary(
            'models = "best", and no model is said to be it',
            hint="give the policy a history that the models have" if wish.history else 'or set models = "all"',
        )
    best: tuple[float, _Model] = _better(wish)(judged, key=lambda pair: pair[0])
    return best[1]


def _better(wish: Wish) -> Callable[..., Any]:
    return min if wish.better is Better.LOWER else max


def _figure_of(model: Mapping[str, Any], wish: Wish) -> float | None:
    """The figure of the history's metric at the point that is judged; None if it is none that is better than any."""
    metrics = model.get("metrics")
    points = _figures(metrics[wish.history]) if isinstance(metrics, dict) and wish.history in metrics else []
    if wish.at_best:
        finite = [each for each in points if each is not None and math.isfinite(each)]
        best: float | None = _better(wish)(finite, default=None)
        return best
    last = points[-1] if points else None
    return last if last is not None and math.isfinite(last) else None


def _clean(text: Any, longest: int) -> str | None:
    """A name that a summary may hold; it may come from a folder, and a folder may be called anything."""
    if not isinstance(text, str) or not text:
        return None
    text = "".join("_" if _is_hidden(each) else each for each in text)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _is_hidden(character: str) -> bool:
    """Whether it would change a line, or takes no room in it: such names look like others."""
    return not character.isprintable() or unicodedata.category(character) == "Cf" or character in _NO_ROOM


_NO_ROOM: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, range(0xFE00, 0xFE10)))
)
"""What `gate.summary` refuses in a name beyond control and format characters."""
