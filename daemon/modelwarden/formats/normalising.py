"""What a format's program made of a file, as a summary's bytes: names cleaned, figures and checkpoints checked. Pure.

The rule: a figure is a number as the trainer wrote it, or it is missing; one outside its domain is in a unit that the
format does not read, and refuses the file. NaN and infinities stay what they are.
"""

import json
import math
import sys
import unicodedata
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
        history: the policy's: its checkpoints are the summary's, and the best is found by it if the program names none;
            "" if the policy has none, None if no policy is known.
        better: which way that one improves.
    """

    if_complete: bool = False
    only_best: bool = False
    at_saved: bool = False
    history: str | None = None
    better: Better = Better.HIGHER


class Torn(RejectSummary):
    """The bytes end before they can be read: the file may still be being written."""


class NotFinal(NamedTuple):
    """The program says that the training goes on."""


def summary_of(made: Sequence[Any], format_: Format, wish: Wish, kept: frozenset[str] | None) -> bytes | NotFinal:
    """The summary's bytes.

    Args:
        made: all that the program put out.
        format_: whose program.
        wish: what the settings ask for.
        kept: the checkpoints that lie where the format looks for them; None if it looks for none.

    Raises:
        RejectSummary: it is no summary, or a figure is outside its domain.
    """
    if len(made) != 1 or not isinstance(made[0], dict):
        found = f"{len(made)} values" if len(made) != 1 else kind_of(made[0])
        raise _of_program(f"puts out {found}, not one object")
    document = made[0]
    if wish.if_complete and document.get("complete") is not True:
        return NotFinal()
    models = document.get("models")
    if not isinstance(models, list) or not all(isinstance(each, dict) for each in models):
        raise _of_program("puts out no list of models")
    if not models:
        raise RejectSummary("there is no model in it that ended")
    if wish.only_best and len(models) > 1:
        models = [_best(models, wish)]
    summary = {
        "run_name": _clean(document.get("run_name"), LONGEST_RUN_NAME),
        "timestamp": document.get("timestamp"),
        "models": [_model(each, format_, wish, kept, at) for at, each in enumerate(models)],
    }
    return json.dumps({name: value for name, value in summary.items() if value is not None}).encode()


def _of_program(words: str) -> RejectSummary:
    return RejectSummary(f"the format's program {words}", hint="it makes {models: [{symbol, metrics}]}")


def _model(
    made: Mapping[str, Any], format_: Format, wish: Wish, kept: frozenset[str] | None, at: int
) -> Mapping[str, Any]:
    symbol = _clean(made.get("symbol"), LONGEST_SYMBOL) or f"model-{at}"
    metrics = made.get("metrics")
    if not isinstance(metrics, dict):
        raise _of_program(f"gives model {at} no object of metrics")
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
    points, end = len(ids), ids.index(checkpoint) + 1
    return {name: each[:end] if len(each) == points else each for name, each in figures.items()}, ids[:end]


def _best(models: Sequence[Mapping[str, Any]], wish: Wish) -> Mapping[str, Any]:
    """The best of several models: the last that the program calls so, else by the history's metric."""
    named = [each for each in models if each.get("best") is True]
    if named:
        return named[-1]
    judged = [(figure, each) for each in models if (figure := _last_finite(each, wish.history)) is not None]
    if not judged:
        raise RejectSummary(
            'models = "best", and no model is said to be it',
            hint="give the policy a history that the models have" if wish.history else 'or set models = "all"',
        )
    choose: Callable[..., tuple[float, Mapping[str, Any]]] = min if wish.better is Better.LOWER else max
    return choose(judged, key=lambda pair: pair[0])[1]


def _last_finite(model: Mapping[str, Any], metric: str | None) -> float | None:
    metrics = model.get("metrics")
    points = _figures(metrics[metric]) if isinstance(metrics, dict) and metric in metrics else []
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
