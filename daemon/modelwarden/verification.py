"""Whether an archive is what it says: every file read again, the index and the catalog held against the folders.

The rule: verifying changes nothing, holds no lock and may run beside a daemon. What could be a commit under way is
looked at again until it has had time to end.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from modelwarden.archive.decisions import REVIEWS, Kept, faults_in, read_all, read_head
from modelwarden.archive.encoding import encode_assessments, encode_entry
from modelwarden.archive.folders import REJECTED
from modelwarden.archive.index import INDEX_FILE, Index
from modelwarden.archive.numbered import file_name
from modelwarden.archive.pruned import PRUNED, read_pruned
from modelwarden.archive.publishing import MARKER_FILE, Archive
from modelwarden.archive.record import (
    ASSESSMENTS_FILE,
    REPORT_FILE,
    RUN_FILES,
    SUMMARY_FILE,
    decode_assessments,
    decode_head,
)
from modelwarden.archive.tree import Tree
from modelwarden.cores import Shown, ask_all_cores, unseen
from modelwarden.errors import ModelwardenError, RejectSummary
from modelwarden.filesystems import doubt_of_locks, show_path
from modelwarden.gate.assessment import Assessment, count_by_classification
from modelwarden.gate.decision import Decision
from modelwarden.gate.gating import Verdict, assess_summary, judge
from modelwarden.gate.run import RunRecord, class_counts
from modelwarden.gate.summary import parse_summary
from modelwarden.gate.thresholds import RULE
from modelwarden.state.catalog import Catalog, MissingRun
from modelwarden.state.decided import Decided
from modelwarden.state.rows import model_rows

if TYPE_CHECKING:
    from modelwarden.gate.policy import Policy

COMMIT_SECONDS: Final = 10.0
"""How long a commit under way may take from the first rename to the state's transaction."""

_POLL_SECONDS: Final = 0.2
_REINDEX: Final = "`modelwarden reindex` makes it again"
_FIND: Final = (
    "restore it from a backup, or leave its summary in a watched folder again; if it is gone on purpose: "
    "`modelwarden reindex --forget-missing`"
)
_BY_HAND: Final = "remove it when no host has this archive open: a lock may not tell of other hosts here"
_JUDGE_AGAIN: Final = "move the folder away and drop its summary.json into a watched folder: it is judged anew"
_RESTORE: Final = "restore the folder from a backup, or move it away and drop the trainer's file again"


class Finding(NamedTuple):
    """Something that is not as it should be.

    Attributes:
        where: a run, or a file of the archive.
        what: what is wrong.
        mend: what puts it right.
    """

    where: str
    what: str
    mend: str


_Read = tuple[RunRecord, int] | Finding
"""A run whose files agree, with the hash of its models' rows (the rows of all runs would fill the memory); or what is
wrong."""


class Report(NamedTuple):
    """What a verification comes to.

    Attributes:
        runs: how many folders were read.
        findings: what is wrong; empty if all is well.
    """

    runs: int
    findings: list[Finding]


def verify(
    archive: Archive,
    catalog: Catalog,
    *,
    patience: float = COMMIT_SECONDS,
    decided: Decided | None = None,
    shown: Shown = unseen,
) -> Report:
    """Read the whole archive again.

    Args:
        archive: opened, and not yet reconciled: that would mend what is to be found.
        catalog: of the same archive.
        patience: seconds before what may be a commit under way counts as wrong.
        decided: what the state knows, and knew, of decisions; None: it is not asked.
        shown: shows how far it is.
    """
    findings: list[Finding] = []
    runs: dict[str, RunRecord] = {}
    rows: dict[str, int] = {}
    policies: dict[Policy, Policy] = {}
    owner_of: dict[str, str] = {}
    names = sorted(archive.tree.run_names())
    for name, read in shown(ask_all_cores(partial(_verify_run, archive.tree), names), len(names), "reading"):
        if isinstance(read, Finding):
            findings.append(read)
            continue
        run, rows[name] = read
        run = runs[name] = run._replace(policy=policies.setdefault(run.policy, run.policy))
        if (twin := owner_of.setdefault(run.sha256, name)) != name:
            findings.append(Finding(name, f"the same bytes are archived as {twin}", "move one of the two away"))
    findings += _verify_rejected(archive.tree.path_of(REJECTED), shown)
    findings += _verify_reviews(archive, runs)
    if decided is not None:
        findings += _patiently(lambda: _verify_known_reviews(archive, decided), patience)
    findings += _patiently(lambda: _verify_pruned(archive, catalog, runs), patience)
    findings += _patiently(lambda: _verify_staging(archive), patience)
    findings += _patiently(lambda: _verify_derived(archive, catalog, runs, rows, shown), patience)
    return Report(len(names), findings)


def _patiently(look: Callable[[], list[Finding]], patience: float) -> list[Finding]:
    """What a look still finds when a commit that was under way has ended."""
    end = time.monotonic() + patience
    while (found := look()) and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
    return found


def _verify_run(tree: Tree, name: str) -> _Read:
    """A run whose files agree with one another, or the first thing that is wrong."""
    missing = [file for file in RUN_FILES if not os.path.isfile(os.path.join(tree.path_of(name), file))]
    if missing:
        return Finding(name, f"has no {', '.join(missing)}", _RESTORE)
    try:
        summary = tree.read(name, SUMMARY_FILE)
        report = tree.read(name, REPORT_FILE)
        recorded = tree.read(name, ASSESSMENTS_FILE)
        run, assessments, is_certain = _judgement(summary, recorded)
        if run.original is not None and not os.path.isfile(os.path.join(tree.path_of(name), run.original)):
            return Finding(name, f"has no {show_path(run.original)}", _RESTORE)
        original = summary if run.original is None else tree.read(name, run.original)
    except ModelwardenError as error:
        return Finding(name, str(error), "give the right to read it, or look at the disk's health")
    except ValueError as error:
        return Finding(name, f"{ASSESSMENTS_FILE}: {error}", _JUDGE_AGAIN)
    found = _disagreement(name, original, summary, run, None if is_certain else assessments, report)
    return found or (run, hash(tuple(model_rows(assessments))))


def _judgement(summary: bytes, recorded: bytes) -> tuple[RunRecord, list[Assessment], bool]:
    """The run, its judgement, and whether that is what its summary says under its policy.

    The summary is judged and written anew: if that gives the recorded bytes, nothing else need be compared.

    Raises:
        ValueError: the bytes are damaged.
    """
    run = decode_head(recorded)
    if run.policy.rule == RULE:
        with suppress(RejectSummary):
            judged = assess_summary(parse_summary(summary, run.policy), run.policy)
            if encode_assessments(run._replace(**class_counts(judged)), judged) == recorded:
                return run, judged, True
    return *decode_assessments(recorded), False


def _disagreement(
    name: str,
    original: bytes,
    summary: bytes,
    run: RunRecord,
    assessments: list[Assessment] | None,
    report: bytes,
) -> Finding | None:
    """The first thing in which a run's files do not agree; no assessments: they agree with the summary."""
    if run.timestamp != name:
        return Finding(name, f"{ASSESSMENTS_FILE} says it is {run.timestamp}", f"name the folder {run.timestamp}")
    if (found := hashlib.sha256(original).hexdigest()) != run.sha256:
        return Finding(
            name,
            f"{run.original or SUMMARY_FILE} has sha256 {found[:16]}..., not {run.sha256[:16]}... as recorded",
            _RESTORE,
        )
    if assessments is not None and (what := _verify_judgement(summary, run, assessments)) is not None:
        return Finding(name, f"{ASSESSMENTS_FILE}: {what}", _JUDGE_AGAIN)
    if run.timestamp.encode() not in report or run.sha256.encode() not in report:
        return Finding(name, f"{REPORT_FILE} is not this run's", _JUDGE_AGAIN)
    return None


def _verify_judgement(summary: bytes, run: RunRecord, assessments: list[Assessment]) -> str | None:
    """What the recorded judgement gets wrong: the summary under the recorded policy must come to it."""
    if dict(run.counts) != dict(count_by_classification(assessments)):
        return "the counts are not those of its models"
    if run.policy.rule != RULE:
        return _verify_recorded_figures(run, assessments)
    try:
        judged = assess_summary(parse_summary(summary, run.policy), run.policy)
    except RejectSummary as error:
        return f"{SUMMARY_FILE} is no summary ({error})"
    if [model.symbol for model in judged] != [model.symbol for model in assessments]:
        return f"its models are not those of {SUMMARY_FILE}"
    for mine, recorded in zip(judged, assessments, strict=True):
        if (said := _said(mine)) != _said(recorded):
            return f"{recorded.symbol} is recorded as {_said(recorded)} and its figures say {said}"
    return None


def _verify_recorded_figures(run: RunRecord, assessments: list[Assessment]) -> str | None:
    """The same by the recorded figures alone: under another revision of the rule the summary may read differently."""
    for model in assessments:
        mine = judge(model.values, model.decline, model.largest_fall, run.reward_scale, run.policy)
        if (mine.classification, mine.flags) != (model.classification, model.flags):
            return f"{model.symbol} is recorded as {_verdict(model)} and its figures say {_verdict(mine)}"
    return None


def _said(model: Assessment) -> str:
    """All that must agree of a judgement: the verdict, and what is said of the checkpoints."""
    words = [_verdict(model)]
    if model.at_checkpoint is not None:
        words.append(f"{model.at_checkpoint.classification} at its peak")
    if model.last_checkpoint is not None:
        words.append(f"last checkpoint {model.last_checkpoint}")
    return ", ".join(words)


def _verdict(model: Assessment | Verdict) -> str:
    return " ".join([model.classification, *model.flags])


def _verify_rejected(shelf: str, shown: Shown) -> Iterator[Finding]:
    """Each rejected file's bytes and reason."""
    names = sorted(os.listdir(shelf)) if os.path.isdir(shelf) else []
    for name in shown(names, len(names), "reading what was rejected"):
        where = f"{REJECTED}/{name}"
        try:
            with open(os.path.join(shelf, name, "as_found"), "rb") as stream:
                sha256 = hashlib.sha256(stream.read()).hexdigest()
            with open(os.path.join(shelf, name, "reason.json"), "rb") as stream:
                recorded = json.load(stream)["sha256"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            yield Finding(where, f"can't be read ({error})", "move it away: it is kept for people alone")
        else:
            if sha256 != recorded:
                yield Finding(where, "as_found has other bytes than were rejected", "move it away")


def _verify_reviews(archive: Archive, runs: Mapping[str, RunRecord]) -> list[Finding]:
    """The chain of decisions, and each of them held against its run: what no commit under way explains."""
    head = read_head(archive.root)  # before the files: what is decided meanwhile is behind it
    kept = read_all(archive.root)
    findings = [Finding(each.where, each.what, _BACKUP) for each in faults_in(kept, head) if not each.is_derived]
    for each in kept:
        run = runs.get(each.run)
        if run is not None and each.decision is not None and not each.problem:
            findings += _verify_decision(each, each.decision, run)
    return findings


def _verify_known_reviews(archive: Archive, decided: Decided) -> list[Finding]:
    """The head of the chain and the catalog, which follow from the files; and what the state saw that is not there."""
    head = read_head(archive.root)
    kept = read_all(archive.root)
    findings = [Finding(each.where, each.what, _REINDEX) for each in faults_in(kept, head) if each.is_derived]
    there = {each.digest for each in kept if not each.problem}
    seen = decided.seen()
    if new := len(there - {each.digest for each in seen if each.is_kept}):
        findings.append(Finding(f"{REVIEWS}/", f"{new} are not in the catalog", _REINDEX))
    files = {each.where for each in kept}
    for each in seen:
        if each.digest not in there:
            where = f"{REVIEWS}/{each.run}/{file_name(each.number)}"
            what = "was altered: it is not what this state saw there" if where in files else "was removed"
            findings.append(Finding(where, what, f"{_BACKUP}; if it is gone for good: {_FORGET}"))
    return findings


def _verify_pruned(archive: Archive, catalog: Catalog, runs: Mapping[str, RunRecord]) -> list[Finding]:
    """The record of what was removed on purpose, and the catalog, which follows from it."""
    files = list(read_pruned(archive.root))
    findings = [
        Finding(each.where, each.problem, f"{_BACKUP}, or remove it: {_RECORD}") for each in files if each.problem
    ]
    recorded = {run.sha256 for each in files for run in each.runs}
    here, listed = {run.sha256 for run in runs.values()}, catalog.pruned().keys()
    if new := len(recorded - here - listed):
        findings.append(Finding(f"{PRUNED}/", f"{new} are not in the catalog", _REINDEX))
    if gone := len(listed - here - recorded):
        what = f"{gone} that this state knows are not recorded: their summaries would be archived again"
        findings.append(Finding(f"{PRUNED}/", what, f"{_BACKUP}, or: {_RECORD}; if on purpose: {_FORGET}"))
    return findings


def _verify_decision(kept: Kept, decision: Decision, run: RunRecord) -> list[Finding]:
    """Whether a decision says of its run what the run says of itself."""
    if decision.sha256 == run.sha256 and decision.policy != run.policy.id:
        return [
            Finding(kept.where, f"names policy {decision.policy}, and the run was judged by {run.policy.id}", _BACKUP)
        ]
    return []


_BACKUP: Final = "restore the file from a backup"
_FORGET: Final = "`modelwarden reindex --forget-missing`"
_RECORD: Final = "`modelwarden reindex` records again what this state knows"


def _verify_staging(archive: Archive) -> list[Finding]:
    """What dead processes left half made. A process that starts makes its folder and locks it a moment later."""
    doubt = doubt_of_locks(archive.root)
    mend = "`modelwarden reindex` removes it" if doubt is None else f"{_BY_HAND} ({doubt})"
    return [
        Finding(each.where, f"left by a process that is gone: {each.runs} staged runs, {each.size} bytes", mend)
        for each in archive.tree.abandoned()
    ]


def _verify_derived(
    archive: Archive, catalog: Catalog, runs: Mapping[str, RunRecord], rows: Mapping[str, int], shown: Shown
) -> list[Finding]:
    """The index and the catalog against the runs that are whole. Runs that came since are no finding."""
    findings = []
    there = set(archive.tree.run_names())
    if os.path.lexists(archive.tree.path_of(MARKER_FILE)):
        findings.append(Finding(MARKER_FILE, "a commit was begun and did not end", "the next start ends it"))
    index = Index(archive.root, archive.tree.private(INDEX_FILE))
    if not index.load():
        findings.append(Finding(INDEX_FILE, "is missing, or not what is written", _REINDEX))
        return findings
    in_index = {name: index.line(name) for name in index.names()}
    in_catalog = catalog.names()
    for name, run in shown(runs.items(), len(runs), "comparing"):
        if name not in there:
            continue  # moved away meanwhile
        if name not in in_index:
            findings.append(Finding(name, f"is not in {INDEX_FILE}", _REINDEX))
        elif in_index[name] != encode_entry(run):
            findings.append(Finding(name, f"its line in {INDEX_FILE} is not what its files say", _REINDEX))
        if name not in in_catalog:
            findings.append(Finding(name, "is not in the catalog", _REINDEX))
        elif catalog.run(name) != run or hash(tuple(catalog.rows(name))) != rows[name]:
            findings.append(Finding(name, "the catalog has other figures than its files", _REINDEX))
    findings += [Finding(name, f"is in {INDEX_FILE} and not there", _REINDEX) for name in in_index if name not in there]
    gone = [row for name in sorted(in_catalog - there) if (row := catalog.run(name)) is not None]
    missing = [*catalog.missing(), *(MissingRun(row.timestamp, row.sha256, row.source.path) for row in gone)]
    here = {run.sha256 for name, run in runs.items() if name in there}
    findings += [
        Finding(each.timestamp, f"is missing: sha256 {each.sha256}, archived from {_source(each)}", _FIND)
        for each in missing
        if each.sha256 not in here and archive.pruned.find(each.sha256) is None
    ]
    return findings


def _source(run: MissingRun) -> str:
    return show_path(run.source) or "a call from Python"
