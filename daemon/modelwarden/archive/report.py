"""recommendations.md: the report a person reads. Pure: from a run and its assessments to Markdown.

The rule: what comes from a summary (symbols, run names, checkpoint ids) is shown in code spans and nowhere else, so
it can't be markup; the file is UTF-8 and a symbol may hold any character.
"""

import math
import re
from codecs import charmap_decode
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice, pairwise
from typing import Final

from modelwarden.gate.assessment import CLASSIFICATIONS, Assessment, Classification
from modelwarden.gate.gates import Better, Override
from modelwarden.gate.policy import Policy
from modelwarden.gate.run import RunRecord
from modelwarden.gate.wording import checkpoint_advice, metric_comparisons

SPARK_LEVELS: Final = "▁▂▃▄▅▆▇█"
SPARK_MISSING: Final = "·"
SPARK_WIDTH: Final = 40
"""Most characters a spark line takes; a longer history is thinned, its peak kept."""

MOST_OTHERS: Final = 8
"""Figures without a gate that are shown of a model; all that were kept stand in model_assessments.json."""

_HEADINGS: Final = {
    Classification.APPROVED: "may be deployed",
    Classification.REVIEW: "a person decides",
    Classification.DROP: "do not deploy",
}
_BACKTICKS: Final = re.compile("`+")


def render_report(run: RunRecord, assessments: Sequence[Assessment]) -> str:
    """The whole report, ending in a newline."""
    lines = [*_head_lines(run)]
    of_class: dict[Classification, list[str]] = {each: [] for each in CLASSIFICATIONS}
    policy = run.policy
    for model in assessments:
        _tell_model(of_class[model.classification], model, policy)
    for classification, told in of_class.items():
        heading = f"## {classification} ({run.counts[classification]}): {_HEADINGS[classification]}"
        lines += ("", heading, "", *(told or ("None.",)))
    lines += _policy_lines(policy)
    lines.append("")
    return "\n".join(lines)


def _head_lines(run: RunRecord) -> Iterator[str]:
    yield f"# Run {run.timestamp}"
    yield ""
    yield " · ".join(f"**{count} {name}**" for name, count in run.counts.items()) + _of_models(run.models)
    yield ""
    if run.run_name is not None:
        yield f"- run name: {code_span(run.run_name)}"
    yield f"- archived: {run.archived_at} by {code_span(run.archived_by)}"
    if run.is_ahead:
        yield "- **dated ahead**: its timestamp lies more than a day after it was archived. Is a clock wrong?"
    if run.source.path:
        yield f"- source: {code_span(run.source.path)}"
    yield f"- sha256: `{run.sha256}`"
    if run.format is not None and run.original is not None:
        yield f"- read as `{run.format}` from {code_span(run.original)}"
    if run.supersedes is not None:
        yield f"- supersedes run {run.supersedes}: the trainer wrote the same file again"


def _of_models(count: int) -> str:
    return " of 1 model" if count == 1 else f" of {count} models"


def _tell_model(lines: list[str], model: Assessment, policy: Policy) -> None:
    """Add a model's lines."""
    told = (*model.flags, *model.remarks) if model.best_idx is None else model.flags
    flags = f" ({', '.join(told)})" if told else ""
    lines.append(f"- **{code_span(model.symbol)}**{flags}")
    if model.use_checkpoint:
        advice = checkpoint_advice(model, policy, quote=code_span)
        lines.append(f"  - {advice._replace(use=f'**{advice.use}**') if advice.use else advice}")
    if model.history:
        lines.append(f"  - {spark_line(model.history)} {_span_of(model)}")
    if model.classification is Classification.APPROVED:
        lines.append(f"  - {', '.join(metric_comparisons(model, policy))}")
    lines += ["  - " + reason for reason in model.reasons]
    if model.others:
        shown = [f"{code_span(name)} {value:.4g}" for name, value in islice(model.others.items(), MOST_OTHERS)]
        more = len(model.others) - len(shown)
        lines.append(f"  - not judged: {', '.join(shown)}{f' and {more} more' if more else ''}")


def _span_of(model: Assessment) -> str:
    history = model.history
    if model.peak is None:
        return "no usable point"
    first, last = history[0], history[-1]
    if not math.isfinite(first + last):
        usable = [point for point in history if math.isfinite(point)]
        first, last = usable[0], usable[-1]
    return f"{first:.3g} → {last:.3g}, peak {model.peak:.3g}, {len(history)} points"


def spark_line(history: Sequence[float]) -> str:
    """The history as a line of blocks from its lowest to its highest point, `·` if a point is missing."""
    points = _thin(history)
    if math.isfinite(sum(points)):
        return _blocks(points)
    drawn = iter(_blocks([point for point in points if math.isfinite(point)]))
    return "".join(next(drawn) if math.isfinite(point) else SPARK_MISSING for point in points)


def _blocks(points: Sequence[float]) -> str:
    """A block a point; all points finite."""
    if not points:
        return ""
    low, high = min(points), max(points)
    if low == high:
        return SPARK_LEVELS[3] * len(points)
    if (span := high - low) < _LARGEST_SPAN and span >= _SMALLEST_SPAN:
        scale = _TOP / span
        return charmap_decode(bytes([int((point - low) * scale + 0.5) for point in points]), "strict", SPARK_LEVELS)[0]
    # Quartered: the difference of the two largest floats, and its multiples, must not overflow.
    base, span = low / 4, high / 4 - low / 4
    if span < _SMALLEST_SPAN:  # its parts would not be told apart
        return "".join([SPARK_LEVELS[_TOP if point > low else 0] for point in points])
    scale = _TOP / span
    return "".join([SPARK_LEVELS[int((point / 4 - base) * scale + 0.5)] for point in points])


_TOP: Final = len(SPARK_LEVELS) - 1
_SMALLEST_SPAN: Final = 1e-300
_LARGEST_SPAN: Final = 1e300


def _thin(history: Sequence[float]) -> Sequence[float]:
    """At most SPARK_WIDTH points: the highest of each stretch, so that the peak stays in sight."""
    count = len(history)
    if count <= SPARK_WIDTH:
        return history
    edges = [count * step // SPARK_WIDTH for step in range(SPARK_WIDTH + 1)]
    stretches = (history[start:end] for start, end in pairwise(edges))
    return [max((point for point in each if math.isfinite(point)), default=math.nan) for each in stretches]


def code_span(text: str) -> str:
    """The text as a Markdown code span that shows it to the letter, whatever it holds."""
    if "`" not in text and text.isprintable() and (text.strip() == text or not text.strip(" ")):
        return f"`{text}`"
    # Control characters can come from a file's name; a line break would end the span's paragraph.
    text = "".join(each if each.isprintable() or each == "\u200d" else f"\\u{ord(each):04x}" for each in text)
    longest = max((len(run) for run in _BACKTICKS.findall(text)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}"


@lru_cache(maxsize=64)
def _policy_lines(policy: Policy) -> Sequence[str]:
    lines = ["", f"## Policy `{policy.id}`", "", "| metric | APPROVED | REVIEW | DROP |", "|---|---|---|---|"]
    for gate in policy.gates:
        within, beyond = gate.signs
        lines.append(
            f"| {_cell(gate.label)} | {within} {gate.approve!r} | {within} {gate.review!r} | {beyond} {gate.review!r} |"
        )
    for override in policy.overrides:
        lines += ("", f"For {', '.join(map(code_span, override.symbols))}: {_bounds_of(override, policy)}.")
    if policy.history is not None:
        lines += ("", _history_line(policy))
    return lines


def _history_line(policy: Policy) -> str:
    label = policy.history_label
    if policy.history_better is Better.LOWER:
        decline, fall = "of its lowest above it", f"a rise of more than {policy.oscillation:.4g} of a running low"
    else:
        decline, fall = "of the peak below it", f"a fall of more than {policy.oscillation:.4g} of a running peak"
    declines = f"FITNESS_DECLINE: final {label} more than {policy.decline:.4g} {decline}."
    return f"A model's class is its worst band. {declines} UNSTABLE_TRAINING: {fall}."


def _bounds_of(override: Override, policy: Policy) -> str:
    bounds = [
        f"{_cell(gate.label)} {gate.signs[0]} {each[gate.metric]!r} for {classification}"
        for classification, each in (("APPROVED", override.approve), ("REVIEW", override.review))
        for gate in policy.gates
        if gate.metric in each
    ]
    return ", ".join(bounds)


def _cell(text: str) -> str:
    """A name from the settings in a table: nothing of it is markup."""
    return _MARKUP.sub(r"\\\g<0>", text)


_MARKUP: Final = re.compile(r"[\\`*_{}\[\]<>#+!|~]")
