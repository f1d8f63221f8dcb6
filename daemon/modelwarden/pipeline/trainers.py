"""A trainer's file on its way to a summary: the files that belong to it, the checkpoints that are there, the figures.

The rule: nothing from a file is ever a path. What lies beside it is listed, below the watched folder alone, and read
as the file itself is: no link is followed, and nothing is written.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from modelwarden.errors import RejectSummary
from modelwarden.filesystems import path_text, show_path
from modelwarden.fingerprint import Fingerprint
from modelwarden.formats.bundle import bundle
from modelwarden.formats.description import Format
from modelwarden.formats.normalising import DIVERGED, NotFinal, Wish
from modelwarden.formats.sandbox import translate
from modelwarden.formats.worker import Order
from modelwarden.gate.gates import JudgeAt
from modelwarden.gate.json_object import quote, read_object
from modelwarden.gate.policy import Policy
from modelwarden.intake.reading import Whole, read_whole
from modelwarden.intake.scan import is_inside
from modelwarden.pipeline.groups import (
    MOST_FILES,
    Group,
    fingerprint_of,
    group_at,
    group_of,
    insist_on,
    read_group,
    unread,
)
from modelwarden.pipeline.policies import JudgedFolder


class Question(NamedTuple):
    """What the worker is asked about a file, or about the files of a group.

    Attributes:
        order: what it is to do.
        data: the trainer's bytes: of the file, or of all that belongs to the run in one ZIP file.
        name: what these are called.
        policy: what will judge them; None: nothing.
    """

    order: Order
    data: bytes
    name: str
    policy: Policy | None


class Translated(NamedTuple):
    """A trainer's file as a summary.

    Attributes:
        summary: the summary's bytes.
        original: the trainer's, as of Question.
        name: what these are called.
    """

    summary: bytes
    original: bytes
    name: str


def question_about(
    path: str,
    data: bytes,
    folder: JudgedFolder,
    policy: Policy | None,
    max_bytes: int,
    *,
    if_complete: bool = False,
    fingerprint: Fingerprint | None = None,
) -> Question:
    """The question about one file.

    Args:
        path: the file.
        data: its bytes.
        folder: that it was taken from.
        policy: what will judge it; None: nothing.
        max_bytes: cap on the bytes of a run's files together.
        if_complete: whether it counts only once its program says that the training ended.
        fingerprint: the file's, when it was read; None: how it is now does not matter.

    Raises:
        Changed: it, or what belongs to it, is not as it was when it was read.
        Torn: what belongs to it could not be read.
        RejectSummary: it is too much.
    """
    format_, name = _format_of(folder), os.path.basename(path)
    if format_.together:
        data, name = read_together(path, data, format_, max_bytes, fingerprint), f"{name}.zip"
    kept = checkpoints_there(path, format_, folder.path)
    wish = _wish(folder, policy, if_complete=if_complete)
    order = Order(format_, path_text(path), wish, None if kept is None else {"": kept})
    return Question(order, data, name, policy)


def question_about_group(
    group: Group, folder: JudgedFolder, policy: Policy | None, max_bytes: int, *, if_complete: bool = False
) -> Question:
    """The question about a group. Arguments and errors as of `question_about`."""
    format_, data = _format_of(folder), read_group(group, max_bytes)
    kept: dict[str, frozenset[str]] = {}
    for path, _ in group.files:
        if (there := checkpoints_there(path, format_, folder.path)) is not None:
            kept[group.name_of(path)] = there
    name = os.path.basename(group.folder) or "run"
    wish = _wish(folder, policy, if_complete=if_complete)._replace(run_name=path_text(name))
    order = Order(format_, path_text(group.folder), wish, kept or None, group=True)
    return Question(order, data, f"{name}.zip", policy)


def answer_to(question: Question, waits: Callable[[], bool] = lambda: True) -> Translated | NotFinal:
    """What the worker makes of it.

    Raises:
        RetryLater: nobody waited; see `Sandbox.translate`.
        Torn: it, or what belongs to it, ends too early.
        RejectSummary: it is nothing that the format reads.
    """
    made = translate(question.order, question.data, waits)
    if isinstance(made, NotFinal):
        return made
    if question.policy is not None:
        _insist_on_gated_metric(made, question.policy)
    return Translated(made, question.data, question.name)


def translate_file(
    path: str,
    data: bytes,
    folder: JudgedFolder,
    policy: Policy | None,
    max_bytes: int,
    *,
    if_complete: bool = False,
    fingerprint: Fingerprint | None = None,
) -> Translated | NotFinal:
    """What a file of a folder with a format comes to; of one whose files are in groups, what its group does.

    Arguments as of `question_about`, errors as of that and of `answer_to`.
    """
    if not folder.group:
        return answer_to(
            question_about(path, data, folder, policy, max_bytes, if_complete=if_complete, fingerprint=fingerprint)
        )
    group = group_at(group_of(path, folder), folder, _format_of(folder).takes)
    return answer_to(question_about_group(group, folder, policy, max_bytes, if_complete=if_complete))


def _format_of(folder: JudgedFolder) -> Format:
    if folder.format is None:
        raise AssertionError("a folder without a format has summaries")
    return folder.format


def _wish(folder: JudgedFolder, policy: Policy | None, *, if_complete: bool) -> Wish:
    wish = Wish(if_complete=if_complete, only_best=folder.only_best)
    if policy is None:
        return wish
    return wish._replace(
        at_saved=policy.judge_at is JudgeAt.SAVED,
        at_best=policy.judge_at is JudgeAt.BEST,
        history=policy.history or "",
        better=policy.history_better,
    )


def _insist_on_gated_metric(summary: bytes, policy: Policy) -> None:
    """Raise if nothing of a file is judged: in the words of the policy and of the file, not of the summary."""
    metrics = dict.fromkeys(name for model in read_object(summary)["models"] for name in model["metrics"])
    metrics.pop(DIVERGED, None)
    gates = [gate for gate in policy.gates if gate.metric != DIVERGED]
    if any(gate.series in metrics for gate in gates):
        return
    shown = ", ".join(quote(name) for name in list(metrics)[:_METRICS_SHOWN])
    more = f" and {len(metrics) - _METRICS_SHOWN} others" if len(metrics) > _METRICS_SHOWN else ""
    raise RejectSummary(
        f"no model has a metric of the policy {policy.name!r}, which gates {', '.join(gate.metric for gate in gates)}",
        hint=f"the file has {shown}{more}" if metrics else "",
    )


_METRICS_SHOWN: Final = 12


def translate_whole(path: str, data: bytes, folder: JudgedFolder, policy: Policy | None, max_bytes: int) -> bytes:
    """The summary that a file comes to as it is, whether its training ended or not. Raises as `translate_file`."""
    match translate_file(path, data, folder, policy, max_bytes):
        case Translated(summary):
            return summary
        case NotFinal():
            raise AssertionError("nobody asked")


def read_together(
    path: str, data: bytes, format_: Format, max_bytes: int, fingerprint: Fingerprint | None = None
) -> bytes:
    """The bytes of all files of a run, in one: the file's own, and those of the files that belong to it.

    Raises:
        Changed: one of them is not as it was when it was read; the file itself, by the fingerprint that is given.
        Torn: one of them could not be read; it may be whole the next time.
        RejectSummary: they are too many, or too large.
    """
    top = os.path.dirname(path)
    files = {path_text(os.path.basename(path)): data}
    size = len(data)
    read = [] if fingerprint is None else [(path, fingerprint)]
    for below in _below(top, format_.together):
        match read_whole(os.path.join(top, below), max_bytes):
            case Whole(other, as_read):
                read.append((os.path.join(top, below), as_read))
                files[path_text(below)] = other
                size += len(other)
            case problem:
                raise unread(problem, show_path(below), max_bytes)
        if size > max_bytes or len(files) > MOST_FILES:
            raise RejectSummary(
                f"the files of the run are {len(files)} and {size} bytes or more",
                hint=f"max_bytes = {max_bytes} is the most in bytes, {MOST_FILES} in files",
            )
    for each, as_read in read:
        insist_on(as_read, fingerprint_of(each), show_path(os.path.relpath(each, top)))
    return bundle(files)


def _below(top: str, patterns: Sequence[str]) -> Iterator[str]:
    """The files below a folder whose paths from there fit a pattern; `**` stands for any number of folders."""
    fits = [_expression(each) for each in patterns]
    for folder, folders, names in os.walk(top):
        inner = os.path.relpath(folder, top)
        depth = 0 if inner == "." else inner.count("/") + 1
        folders[:] = sorted(each for each in folders if any(_may_lead(pattern, inner, each) for pattern in patterns))
        if depth > _DEEPEST:
            folders.clear()
        for name in sorted(names):
            below = name if inner == "." else f"{inner}/{name}"
            if any(each.fullmatch(below) for each in fits):
                yield below


_DEEPEST: Final = 16


def _may_lead(pattern: str, inner: str, name: str) -> bool:
    """Whether a folder may hold what a pattern means: by its first parts, as far as none of them is `**`."""
    parts = [name] if inner == "." else [*inner.split("/"), name]
    wanted = pattern.split("/")[:-1]
    for part, want in zip(parts, wanted, strict=False):
        if want == "**":
            return True
        if not fnmatchcase(part, want):
            return False
    return len(parts) <= len(wanted)


def _expression(pattern: str) -> re.Pattern[str]:
    parts = [
        "(?:[^/]+/)*" if part == "**" else re.escape(part).replace(r"\*", "[^/]*").replace(r"\?", "[^/]") + "/"
        for part in pattern.split("/")
    ]
    return re.compile("".join(parts).removesuffix("/"), re.DOTALL)


def checkpoints_there(path: str, format_: Format, top: str) -> frozenset[str] | None:
    """The names of the checkpoints that lie where the format looks for them; None if it looks for none."""
    if not format_.kept:
        return None
    found: set[str] = set()
    root = os.path.realpath(top)
    for pattern in format_.kept:
        before, _, last = pattern.rpartition("/")
        begin, _, end = last.partition("{}")
        folder = os.path.realpath(os.path.join(os.path.dirname(path), before))
        if is_inside(folder, root):
            found |= {
                name[len(begin) : len(name) - len(end)]
                for name in _names(folder)
                if name.startswith(begin) and name.endswith(end) and len(name) > len(begin) + len(end)
            }
    return frozenset(found)


def _names(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            for entry, _ in zip(entries, range(MOST_FILES), strict=False):
                yield path_text(entry.name)
    except OSError:
        return
