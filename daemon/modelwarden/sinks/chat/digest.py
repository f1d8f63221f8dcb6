"""What a message says: from a run and its assessments to a page, and to title and text. Pure.

The rule: the text is plain, and whoever sends it declares it plain, so nothing from a summary is markup; every figure
comes with the bound that it missed; a long list is cut, with a count of what was left out.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from types import MappingProxyType
from typing import Final, NamedTuple

from modelwarden.gate.assessment import CHANGED, CLASSIFICATIONS, Assessment, Band, Classification, Flag
from modelwarden.gate.decision import REVIEWED
from modelwarden.gate.policy import Policy
from modelwarden.gate.wording import checkpoint_advice, metric_comparisons
from modelwarden.sinks.chat.page import (
    Figure,
    Page,
    Row,
    Section,
    clipped,
    render_text,
    render_title,
    shown,
)

MODELS_NAMED: Final = 10
"""Most models of one class that a message names; fewer if the text would grow too long."""

RUNS_NAMED: Final = 20
"""Most runs that a message standing for many names, and most models of one class."""

PICTURE_FILE: Final = "fitness.png"
"""What the picture of a message is called."""

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


class Severity(StrEnum):
    """How much a message is to alarm: a service may show it as a colour or a sound. The names are Apprise's."""

    SUCCESS = "success"
    INFO = "info"
    WARNING = "warning"
    FAILURE = "failure"


_NUMBERED: Final = re.compile(r"(?:[\W_]+[\d\W_T]*\d[\d\W_T]*Z?)$")
"""A number, a date or a time at the end of a name, with what parts it from the name."""

_SEVERITIES: Final = {
    Classification.DROP: Severity.WARNING,  # must not be deployed
    Classification.REVIEW: Severity.INFO,  # waits for a person
    Classification.APPROVED: Severity.SUCCESS,
}
"""What a run's message is by the worst class of which it names models, worst first."""


class Message(NamedTuple):
    """What is sent.

    Attributes:
        title: at most 150 characters.
        body: plain text, at most 3,000 characters.
        page: what both say, for services that show a document: it is written when it is sent; None if there is none.
        picture: a PNG for services that take attachments; b"" if there is none.
        mark: short and the same in every repeat; "" if it can't be repeated.
        severity: how much it is to alarm.
        thread: what it belongs to, the same for all messages of a series of runs; "" for nothing.
        caption: what the picture shows, if there is one.
    """

    title: str
    body: str
    page: Page | None = None
    picture: bytes = b""
    mark: str = ""
    severity: Severity = Severity.INFO
    thread: str = ""
    caption: str = ""


class ModelChange(NamedTuple):
    """A model whose class is another than in its symbol's last run before.

    Attributes:
        model: as it is now.
        before: its class in that run.
        other_policy: whether that run was judged by another policy.
    """

    model: Assessment
    before: Classification
    other_policy: bool


class RunNews(NamedTuple):
    """What a digest needs of a run.

    Attributes:
        timestamp: the run's name.
        run_name: the trainer's name for it, or None.
        host: where it was archived.
        report: the path of recommendations.md.
        counts: models per class, of those that the destination asked for by symbol.
        policy: what judged.
        assessments: of the classes that the destination asked for as many, from the first on, as a message may name;
            with histories if a plot is wanted.
        series: what it is one of; see series_of.
        changes: of the models whose class is another than before as many as a message may name.
        changed: how many those are of each class that they have now.
        supersedes: the run that the same file was before, or None.
    """

    timestamp: str
    run_name: str | None
    host: str
    report: str
    counts: Mapping[Classification, int]
    policy: Policy
    assessments: Sequence[Assessment]
    series: str = ""
    changes: Sequence[ModelChange] = ()
    changed: Mapping[Classification, int] = MappingProxyType({})
    supersedes: str | None = None


def series_of(run_name: str | None, source: str) -> str:
    """What a run is one of: the trainer's name for it without a number or date at its end, else its source's folder."""
    stem = _NUMBERED.sub("", run_name or "")
    return stem or source.rpartition("/")[0]


def run_message(news: RunNews, on: Collection[str], *, repeated: bool = False, stands_for: str = "") -> Message:
    """The digest of one run for a destination that asked for these classes; see Page for whom it may stand."""
    named = [("run name", news.run_name)] if news.run_name is not None else []
    named += [("supersedes", news.supersedes)] if news.supersedes is not None else []
    page = Page(
        lead=_tallies([news]),
        subject=f"run {news.timestamp}",
        host=news.host,
        sections=(
            *_changed_section([news], on, MODELS_NAMED),
            *_sections([news], on, MODELS_NAMED, _model_row),
        ),
        facts=(*named, ("host", news.host), ("report", news.report)),
    )
    return _message(page._replace(stands_for=stands_for), repeated, _severity([news], on), news.series)


def many_runs_message(
    news: Sequence[RunNews], on: Collection[str], *, repeated: bool = False, stands_for: str = ""
) -> Message:
    """One message that stands for many runs: what changed over all of them, then their approved models."""
    hosts = sorted({one.host for one in news})
    reports = {one.report.replace(one.timestamp, "RUN") for one in news}
    facts = [("host", hosts[0])] if len(hosts) == 1 else []
    facts += [("reports", report) for report in reports if len(reports) == 1]
    page = Page(
        lead=_tallies(news),
        subject=f"{len(news)} runs",
        host=hosts[0] if len(hosts) == 1 else f"{len(hosts)} hosts",
        sections=(
            *_changed_section(news, on, RUNS_NAMED),
            *_sections(news, on, RUNS_NAMED, _short_row),
            Section("Runs", len(news), tuple(_run_row(one, hosts) for one in news[:RUNS_NAMED]), of="run"),
        ),
        facts=tuple(facts),
    )
    series = {one.series for one in news}
    return _message(
        page._replace(stands_for=stands_for),
        repeated,
        _severity(news, on),
        series.pop() if len(series) == 1 else "runs",
    )


def rejected_message(texts: Sequence[str], *, repeated: bool = False, host: str = "", stands_for: str = "") -> Message:
    """One message for rejected files.

    Args:
        texts: of each, a line each: the file, the reason, where it is kept and `host: ...`.
        repeated: whether it may have arrived before.
        host: where it was, if the texts don't say.
        stands_for: for whom it stands, see Page.
    """
    reports = [_Report.of(text, host) for text in texts]
    names = [report.what.rpartition("/")[2] for report in reports[:MODELS_NAMED]]
    if len(reports) == 1:
        subject, said = names[0], "".join(reports[0].lines[:1])
    else:
        subject, said = f"{len(reports)} summaries", ", ".join(names)
    page = _page_of_reports("REJECTED", subject, said, reports, map(_rejection, reports))
    return _message(page._replace(stands_for=stands_for), repeated, Severity.FAILURE, "rejected summaries")


def problem_message(texts: Sequence[str], *, repeated: bool = False, host: str = "", stands_for: str = "") -> Message:
    """One message for what keeps the daemon from its work.

    Args:
        texts: of each, a line each: what is wrong, for the title; what else there is to say; and `host: ...`.
        repeated: whether it may have arrived before.
        host: where it is, if the texts don't say.
        stands_for: for whom it stands, see Page.
    """
    reports = [_Report.of(text, host) for text in texts]
    if len(reports) == 1:
        what, lines, _ = reports[0]
        page = _page_of_reports("PROBLEM", what, "", reports, ["\n".join(lines)])
        if not lines or shown(what) not in render_title(page):  # there must be a text, and all must be said somewhere
            page = page._replace(texts=("\n".join((what, *lines)),))
        return _message(page._replace(stands_for=stands_for), repeated, Severity.FAILURE, "problems")
    said = "; ".join(report.what for report in reports[:MODELS_NAMED])
    told = ("\n".join((report.what, *report.lines)) for report in reports)
    page = _page_of_reports("PROBLEM", f"{len(reports)} reports", said, reports, told)
    return _message(page._replace(stands_for=stands_for), repeated, Severity.FAILURE, "problems")


def reviewed_message(texts: Sequence[str], *, repeated: bool = False, host: str = "", stands_for: str = "") -> Message:
    """One message for what people decided about models.

    Args:
        texts: of each, a line each: the model and what was decided, for the title; the reason; and `host: ...`.
        repeated: whether it may have arrived before.
        host: where it is, if the texts don't say.
        stands_for: for whom it stands, see Page.
    """
    reports = [_Report.of(text, host) for text in texts]
    one = len(reports) == 1
    subject = reports[0].what if one else f"{len(reports)} decisions"
    said = "" if one else "; ".join(report.what for report in reports[:MODELS_NAMED])
    told = ("\n".join((report.what, *report.lines)) for report in reports)
    page = _page_of_reports(REVIEWED, subject, said, reports, told)
    return _message(page._replace(stands_for=stands_for), repeated, Severity.INFO, "reviews")


class _Report(NamedTuple):
    """What happened beside the runs, as the outbox has it.

    Attributes:
        what: the first line: a file that was rejected, or what is wrong.
        lines: the others.
        host: where; "" if that is not known.
    """

    what: str
    lines: tuple[str, ...]
    host: str

    @classmethod
    def of(cls, text: str, host: str) -> "_Report":
        """From the text of an outbox row, whose last line may name the host."""
        what, *lines = [line.strip() for line in text.strip().split("\n")]
        if lines and lines[-1].startswith(_HOST_LINE):
            host = lines.pop().removeprefix(_HOST_LINE)
        return cls(what or "no details", tuple(lines), host)


_HOST_LINE: Final = "host: "
_LONGEST_PATH: Final = 300
"""What the first line keeps of a rejected file's path: the reason stands behind it."""


def _rejection(report: _Report) -> str:
    """A rejected file: which, where and why in the first line."""
    place = " on ".join(filter(None, (clipped(shown(report.what), _LONGEST_PATH), report.host)))
    return "\n".join((": ".join((place, *report.lines[:1])), *report.lines[1:]))


def _page_of_reports(kind: str, subject: str, said: str, reports: Sequence[_Report], texts: Iterable[str]) -> Page:
    hosts = sorted({report.host for report in reports} - {""})
    return Page(
        lead=(kind,),
        subject=subject,
        host=hosts[0] if len(hosts) == 1 else f"{len(hosts)} hosts" if hosts else "",
        texts=tuple(islice(texts, MODELS_NAMED)),
        texts_total=len(reports),
        said=said,
    )


def _message(page: Page, repeated: bool, severity: Severity, belongs_to: str) -> Message:
    return Message(
        title=render_title(page, repeated=repeated),
        body=render_text(page),
        page=page,
        severity=severity,
        thread=f"{belongs_to} on {page.host}",
    )


def _severity(news: Sequence[RunNews], on: Collection[str]) -> Severity:
    """By the worst class of what was asked for."""

    def is_told(classification: Classification) -> bool:
        return (classification in on and any(one.counts[classification] for one in news)) or (
            CHANGED in on and any(one.changed.get(classification) for one in news)
        )

    return next((severity for each, severity in _SEVERITIES.items() if is_told(each)), Severity.INFO)


def _tallies(news: Sequence[RunNews]) -> tuple[str, ...]:
    """The counts of all, as a title begins; of what changed only if anything did."""
    counts = tuple(f"{each} {sum(one.counts[each] for one in news)}" for each in CLASSIFICATIONS)
    changed = _changed(news)
    return (*counts, f"{CHANGED} {changed}") if changed else counts


def _changed(news: Sequence[RunNews]) -> int:
    return sum(sum(one.changed.values()) for one in news)


def _changed_section(news: Sequence[RunNews], on: Collection[str], most: int) -> tuple[Section, ...]:
    """What changed, if anything did."""
    total = _changed(news)
    changes = ((change, one) for one in news for change in one.changes)
    rows = tuple(_change_row(change, one, on, alone=len(news) == 1) for change, one in islice(changes, most))
    return (Section(CHANGED, total, rows),) if total else ()


def _change_row(change: ModelChange, news: RunNews, on: Collection[str], *, alone: bool) -> Row:
    """From which class to which, and why unless a list below says it."""
    model = change.model
    figures = [Figure("", f"{change.before} -> {model.classification}")]
    remarks = ("judged by another policy before",) if change.other_policy else ()
    if not alone:
        figures.append(Figure("run", news.timestamp))
    if not alone or model.classification in on:
        return Row(model.symbol, tuple(figures), remarks)
    figures += _deciding_figures(model, news.policy)
    return _advised(Row(model.symbol, tuple(figures), (*remarks, *_contradictions(model))), model, news)


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
        total = sum(one.counts[classification] for one in news)
        if total:
            models = ((model, one) for one in news for model in one.assessments)
            rows = (row_of(model, one) for model, one in models if model.classification is classification)
            sections.append(Section(classification, total, tuple(islice(rows, most))))
    return sections


def _model_row(model: Assessment, news: RunNews) -> Row:
    """A model among those of its run."""
    remarks = [words for flag, words in _REMARKS.items() if flag in model.flags]
    return _advised(
        Row(model.symbol, _deciding_figures(model, news.policy), (*remarks, *_contradictions(model))), model, news
    )


def _contradictions(model: Assessment) -> tuple[str, ...]:
    """The first thing that its summary says of it twice, and differently, with the count of the others."""
    if not model.contradictions:
        return ()
    first, *others = model.contradictions
    return (f"figures contradict each other: {first}{f' (and {len(others)} more)' if others else ''}",)


def _short_row(model: Assessment, news: RunNews) -> Row:
    """A model among those of many runs."""
    return _advised(Row(model.symbol, (Figure("run", news.timestamp),)), model, news)


def _advised(row: Row, model: Assessment, news: RunNews) -> Row:
    """The row with what is to be done about the checkpoint, or with what is to be known of it if nothing is."""
    use, note = checkpoint_advice(model, news.policy, quote=shown)
    if use:
        return row._replace(advice=use, caveat=note)
    return row._replace(remarks=(*row.remarks, note)) if note else row


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
        if band is Band.INVALID or value is None or value == math.inf:
            figures.append(Figure(label, said))  # a sentence: there is nothing to compare
        else:
            figures.append(Figure(label, *said.split(" ", 1)))
    return tuple(figures)


def _run_row(news: RunNews, hosts: Sequence[str]) -> Row:
    counts = tuple(Figure(each, str(news.counts[each])) for each in CLASSIFICATIONS)
    return Row(news.timestamp, counts, () if len(hosts) == 1 else (f"host {news.host}",))
