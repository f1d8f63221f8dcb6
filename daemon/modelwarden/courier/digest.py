"""What a message says: from a run and its assessments to a title and a text. Pure.

The rule: the text is plain, and whoever sends it declares it plain, so nothing from a summary is markup; every figure
comes with the bound that it missed; a long list is cut, with a count of what was left out.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from modelwarden.gate.assessment import CLASSIFICATIONS, Assessment, Band, Classification, Flag
from modelwarden.gate.policy import Policy
from modelwarden.gate.wording import checkpoint_advice, metric_comparisons

MODELS_NAMED: Final = 10
"""Most models of one class that a message names (Slack shows 3,000 characters of a section)."""

RUNS_NAMED: Final = 20
"""Most runs that a message standing for many names."""

REPEAT_MARK: Final = "(possible repeat) "

SEPARATOR: Final = " · "

_DECIDING: Final = {
    Classification.APPROVED: (Band.APPROVED,),
    Classification.REVIEW: (Band.REVIEW,),
    Classification.DROP: (Band.DROP, Band.INVALID),
}
"""The bands whose figures decided a class."""


class Message(NamedTuple):
    """What is sent."""

    title: str
    body: str


class RunNews(NamedTuple):
    """What a digest needs of a run.

    Attributes:
        timestamp: the run's name.
        run_name: the trainer's name for it, or None.
        host: where it was archived.
        report: the path of recommendations.md.
        counts: models per class.
        policy: what judged.
        assessments: of the classes that the destination asked for, at least.
    """

    timestamp: str
    run_name: str | None
    host: str
    report: str
    counts: Mapping[Classification, int]
    policy: Policy
    assessments: Sequence[Assessment]


def run_message(news: RunNews, on: Collection[str], *, repeated: bool = False) -> Message:
    """The digest of one run for a destination that asked for these classes."""
    return Message(_mark(f"{_counts(news.counts)}: run {news.timestamp}", repeated), "\n".join(_run_lines(news, on)))


def many_runs_message(news: Sequence[RunNews], on: Collection[str], *, repeated: bool = False) -> Message:
    """One message that stands for many runs, the approved models of all of them first."""
    totals = {each: sum(one.counts[each] for one in news) for each in CLASSIFICATIONS}
    lines: list[str] = []
    for classification in CLASSIFICATIONS:
        if classification not in on:
            continue
        named = [
            f"{model.symbol} ({one.timestamp})"
            for one in news
            for model in one.assessments
            if model.classification is classification
        ]
        if named:
            lines += [
                f"{classification} ({len(named)})",
                *_cut([f"- {name}" for name in named], RUNS_NAMED),
                "",
            ]
    lines.append("Runs")
    lines += _cut([f"- {one.timestamp}: {_counts(one.counts)}" for one in news], RUNS_NAMED)
    return Message(_mark(f"{_counts(totals)}: {len(news)} runs", repeated), "\n".join(lines))


def rejected_message(texts: Sequence[str], *, repeated: bool = False) -> Message:
    """One message for rejected files; a text is the file, the reason and where it is kept, a line each."""
    title = "REJECTED: a summary" if len(texts) == 1 else f"REJECTED: {len(texts)} summaries"
    return Message(_mark(title, repeated), "\n\n".join(_cut(list(texts), MODELS_NAMED)))


def _run_lines(news: RunNews, on: Collection[str]) -> Iterator[str]:
    for classification in CLASSIFICATIONS:
        if classification not in on:
            continue
        models = [model for model in news.assessments if model.classification is classification]
        if not models:
            continue
        yield f"{classification} ({len(models)})"
        yield from _cut([_model_line(model, news.policy) for model in models], MODELS_NAMED)
        yield ""
    if news.run_name is not None:
        yield f"run name: {news.run_name}"
    yield f"host: {news.host}"
    yield f"report: {news.report}"


def _model_line(model: Assessment, policy: Policy) -> str:
    parts = metric_comparisons(model, policy, _DECIDING[model.classification])
    if Flag.UNCALIBRATED_REWARD_SCALE in model.flags:
        parts.append("uncalibrated reward scale")
    if Flag.UNSTABLE_TRAINING in model.flags:
        parts.append("unstable training")
    if model.use_checkpoint:
        parts.append(checkpoint_advice(model))
    return f"- {model.symbol}: {', '.join(parts)}"


def _counts(counts: Mapping[Classification, int]) -> str:
    return SEPARATOR.join(f"{classification} {counts[classification]}" for classification in CLASSIFICATIONS)


def _cut(entries: list[str], most: int) -> list[str]:
    if len(entries) <= most:
        return entries
    return [*entries[:most], f"… and {len(entries) - most} more"]


def _mark(title: str, repeated: bool) -> str:
    return f"{REPEAT_MARK}{title}" if repeated else title
