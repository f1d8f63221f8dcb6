"""What a message says: from a run and its assessments to a page, and to title, text and HTML. Pure.

The rule: the text is plain, and whoever sends it declares it plain, so nothing from a summary is markup; every figure
comes with the bound that it missed; a long list is cut, with a count of what was left out.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple

from modelwarden.courier.page import Figure, Page, Row, Section, fitted, render_html, render_text, render_title, shown
from modelwarden.gate.assessment import CLASSIFICATIONS, Assessment, Band, Classification, Flag
from modelwarden.gate.policy import Policy
from modelwarden.gate.wording import checkpoint_advice, metric_comparisons

MODELS_NAMED: Final = 10
"""Most models of one class that a message names; fewer where the text would grow too long."""

RUNS_NAMED: Final = 20
"""Most runs that a message standing for many names, and most models of one class."""

_DECIDING: Final = {
    Classification.APPROVED: (Band.APPROVED,),
    Classification.REVIEW: (Band.REVIEW,),
    Classification.DROP: (Band.DROP, Band.INVALID),
}
"""The bands whose figures decided a class."""

_REMARKS: Final = {
    Flag.UNCALIBRATED_REWARD_SCALE: "uncalibrated reward scale",
    Flag.UNSTABLE_TRAINING: "unstable training",
}
"""The flags that no figure and no advice speaks of."""


class Message(NamedTuple):
    """What is sent.

    Attributes:
        title: at most 150 characters.
        body: plain text, at most 3,000 characters.
        html: the same as a document, for services that show one; "" where there is none.
        picture: a PNG for services that take attachments; b"" where there is none.
        mark: short and the same in every repeat; "" where it can't be repeated.
    """

    title: str
    body: str
    html: str = ""
    picture: bytes = b""
    mark: str = ""


class RunNews(NamedTuple):
    """What a digest needs of a run.

    Attributes:
        timestamp: the run's name.
        run_name: the trainer's name for it, or None.
        host: where it was archived.
        report: the path of recommendations.md.
        counts: models per class.
        policy: what judged.
        assessments: of the classes that the destination asked for, at least; with histories, where a plot is wanted.
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
    named = () if news.run_name is None else (("run name", news.run_name),)
    page = Page(
        lead=_tallies(news.counts),
        subject=f"run {news.timestamp}",
        host=news.host,
        sections=tuple(_sections([news], on, MODELS_NAMED, _model_row)),
        facts=(*named, ("host", news.host), ("report", news.report)),
    )
    return _message(page, repeated)


def many_runs_message(news: Sequence[RunNews], on: Collection[str], *, repeated: bool = False) -> Message:
    """One message that stands for many runs, the approved models of all of them first."""
    hosts = sorted({one.host for one in news})
    reports = {one.report.replace(one.timestamp, "RUN") for one in news}
    facts = [("host", hosts[0])] if len(hosts) == 1 else []
    facts += [("reports", report) for report in reports if len(reports) == 1]
    page = Page(
        lead=_tallies({each: sum(one.counts[each] for one in news) for each in CLASSIFICATIONS}),
        subject=f"{len(news)} runs",
        host=hosts[0] if len(hosts) == 1 else f"{len(hosts)} hosts",
        sections=(
            *_sections(news, on, RUNS_NAMED, _short_row),
            Section("Runs", len(news), tuple(_run_row(one, hosts) for one in news[:RUNS_NAMED]), of="run"),
        ),
        facts=tuple(facts),
    )
    return _message(page, repeated)


def rejected_message(texts: Sequence[str], *, repeated: bool = False, host: str = "") -> Message:
    """One message for rejected files; a text is the file, the reason and where it is kept, a line each."""
    subject = "a summary" if len(texts) == 1 else f"{len(texts)} summaries"
    return _message(_page_of_texts("REJECTED", subject, host, texts), repeated)


def problem_message(texts: Sequence[str], *, repeated: bool = False, host: str = "") -> Message:
    """One message for what keeps the daemon from its work; the first line of a text says what, for the title."""
    subject = (
        (texts[0].strip() or "no details").splitlines()[0].rstrip() if len(texts) == 1 else f"{len(texts)} reports"
    )
    return _message(_page_of_texts("PROBLEM", subject, host, texts), repeated)


def _message(page: Page, repeated: bool) -> Message:
    page = fitted(page)
    return Message(render_title(page, repeated=repeated), render_text(page), render_html(page))


def _page_of_texts(kind: str, subject: str, host: str, texts: Sequence[str]) -> Page:
    return Page((kind,), subject, host, texts=tuple(texts[:MODELS_NAMED]), texts_total=len(texts))


def _tallies(counts: Mapping[Classification, int]) -> tuple[str, ...]:
    return tuple(f"{classification} {counts[classification]}" for classification in CLASSIFICATIONS)


def _sections(
    news: Sequence[RunNews],
    on: Collection[str],
    most: int,
    row_of: Callable[[Assessment, RunNews], Row],
) -> list[Section]:
    """A section a class that was asked for and has models, best first."""
    sections = []
    for classification in CLASSIFICATIONS:
        if classification not in on:
            continue
        models = [(one, model) for one in news for model in one.assessments if model.classification is classification]
        if models:
            rows = tuple(row_of(model, one) for one, model in models[:most])
            sections.append(Section(classification, len(models), rows))
    return sections


def _model_row(model: Assessment, news: RunNews) -> Row:
    """A model among those of its run."""
    remarks = tuple(words for flag, words in _REMARKS.items() if flag in model.flags)
    return Row(model.symbol, _deciding_figures(model, news.policy), remarks, _advice(model))


def _short_row(model: Assessment, news: RunNews) -> Row:
    """A model among those of many runs."""
    return Row(model.symbol, (Figure("run", news.timestamp),), advice=_advice(model))


def _advice(model: Assessment) -> str:
    return checkpoint_advice(model, quote=shown) if model.use_checkpoint else ""


def _deciding_figures(model: Assessment, policy: Policy) -> tuple[Figure, ...]:
    """The figures that decided, each beside the bound that it met or missed."""
    bands = _DECIDING[model.classification]
    deciding = [
        (gate.label, band, value)
        for gate, band, value in zip(policy.gates, model.bands, model.values, strict=True)
        if band in bands
    ]
    comparisons = metric_comparisons(model, policy, bands)
    figures = []
    for (label, band, value), comparison in zip(deciding, comparisons, strict=True):
        said = comparison.removeprefix(f"{label} ")
        if band is Band.INVALID or value == math.inf:
            figures.append(Figure(label, said))  # a sentence: there is nothing to compare
        else:
            figures.append(Figure(label, *said.split(" ", 1)))
    return tuple(figures)


def _run_row(news: RunNews, hosts: Sequence[str]) -> Row:
    counts = tuple(Figure(each, str(news.counts[each])) for each in CLASSIFICATIONS)
    return Row(news.timestamp, counts, () if len(hosts) == 1 else (f"host {news.host}",))
