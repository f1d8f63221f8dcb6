"""What a format is: which files, read how, by which program to which figures, and when they are final. Pure.

The rule: a format is data. A trainer's name stands in a data file or in the settings, and in no code.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from modelwarden.formats.finality import EXPECTED, Condition, is_plain_name, parse_condition
from modelwarden.gate.gates import LARGEST_FIGURE, Better

READERS: Final = ("json", "jsonl", "csv", "tsv", "npz", "yaml", "zip")
"""How bytes become a document; see `readers`."""

LONGEST_PROGRAM: Final = 64 * 1024

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_KEPT: Final = re.compile(r"(?:(?:\.\.|[^/{}]+)/)*[^/{}]*\{\}[^/{}]*")


class MetricRule(NamedTuple):
    """What is known of a metric, whoever trains.

    Attributes:
        name: a shell pattern of its names.
        better: which way it improves; None: that depends on who trains.
        least: its domain begins here,
        most: and ends here. A figure outside is in another unit than the format reads: the file is refused.
        sound: whether a model of which this is NaN or infinite has diverged, whatever its other figures say.
    """

    name: str
    better: Better | None = None
    least: float = -LARGEST_FIGURE
    most: float = LARGEST_FIGURE
    sound: bool = False


@dataclass(frozen=True)
class Format:
    """How one kind of a trainer's file becomes a summary.

    Attributes:
        name: what the settings call it.
        title: whose file it is, for people.
        files: shell patterns of its path's end; one that begins with `!` takes away what it fits.
        reader: one of READERS.
        program: jq; from what was read to a summary.
        final: when the file is final; any of these.
        last_line: a regular expression that the last line of a log must fit before it is worth reading; "": any.
        goal: a regular expression of the number that the last line's must reach, or be one short of, before that; each
            is in the first brackets of its expression. "": the last line tells by itself.
        goal_in: the file, from the log's folder, whose beginning has that number; "": the log's own has it.
        together: shell patterns, from the file's folder, of the files that belong to it: the run is all of them.
        members: shell patterns of what is read of a ZIP file.
        kept: where a checkpoint `{}` lies, from the file's folder; any of these. Empty: there is nothing to look for.
        metrics: what is known of its metrics; the first that fits a name counts.
        notes: what to know, for people.
    """

    name: str
    title: str
    files: tuple[str, ...]
    reader: str
    program: str
    final: tuple[str, ...] = ("parses",)
    last_line: str = ""
    goal: str = ""
    goal_in: str = ""
    together: tuple[str, ...] = ()
    members: tuple[str, ...] = ("*",)
    kept: tuple[str, ...] = ()
    metrics: tuple[MetricRule, ...] = ()
    notes: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Shell patterns of the names alone: what a folder is looked through for."""
        return tuple(dict.fromkeys(each.rpartition("/")[2] for each in self.files if not each.startswith("!")))

    @property
    def conditions(self) -> Sequence[Condition]:
        """The same as `final`, parsed."""
        return tuple(map(parse_condition, self.final))

    def takes(self, path: str) -> bool:
        """Whether a file of this path is one of its files."""
        taken = False
        for each in self.files:
            if _fits_end(path, each.removeprefix("!")):
                if each.startswith("!"):
                    return False
                taken = True
        return taken

    def rule_of(self, metric: str) -> MetricRule | None:
        """What is known of the metric."""
        return next((each for each in self.metrics if fnmatchcase(metric, each.name)), None)


def _fits_end(path: str, pattern: str) -> bool:
    """Whether the path's last parts, as many as the pattern has, fit it part by part."""
    parts, wanted = path.split("/"), pattern.split("/")
    return len(parts) >= len(wanted) and all(map(fnmatchcase, parts[-len(wanted) :], wanted))


Place = tuple[str | int, ...]
"""Where something of a format stands."""


def problems_of(format_: Format) -> Iterator[tuple[Place, str]]:
    """All that is wrong with a format, by the place where it stands; whether its program compiles is not asked."""
    if not _NAME.fullmatch(format_.name):
        yield ("name",), "1 to 64 small letters, digits, dots, hyphens and underscores, the first a letter or a digit"
    if format_.reader not in READERS:
        yield ("reader",), f"there is no reader of this name; there are {', '.join(READERS)}"
    if not any(not each.startswith("!") for each in format_.files):
        yield ("files",), "name at least one pattern of a file"
    if not 1 <= len(format_.program.strip()) <= LONGEST_PROGRAM:
        yield ("program",), f"has {len(format_.program)} characters: 1 to {LONGEST_PROGRAM} are allowed"
    yield from _problems_of_last_line(format_)
    yield from problems_of_final(format_.final)
    yield from _problems_of_paths(format_)
    for at, rule in enumerate(format_.metrics):
        if rule.least > rule.most:
            yield ("metric", at), f"least = {rule.least!r} is above most = {rule.most!r}"


def _problems_of_last_line(format_: Format) -> Iterator[tuple[Place, str]]:
    for name, expression in (("last_line", format_.last_line), ("goal", format_.goal)):
        try:
            groups = re.compile(expression).groups
        except re.error as error:
            yield (name,), f"is no regular expression: {error}"
            continue
        if format_.goal and not groups:
            yield (name,), "put the number in brackets, such as epoch=([0-9]+): goal and last_line both have one"
    if format_.goal_in and not format_.goal:
        yield ("goal_in",), "is where the goal is: say which number that is, goal = 'epochs: ([0-9]+)'"
    elif format_.goal_in and not is_plain_name(format_.goal_in):
        yield ("goal_in",), "lies outside the file's folder: name what is in it, or below"


def problems_of_final(final: Sequence[str]) -> Iterator[tuple[Place, str]]:
    """What is wrong with conditions as they are written."""
    for at, each in enumerate(final):
        try:
            parse_condition(each)
        except ValueError as error:
            yield ("final", at), str(error)
    if not final:
        yield ("final",), EXPECTED


def _problems_of_paths(format_: Format) -> Iterator[tuple[Place, str]]:
    for at, each in enumerate(format_.files):
        if not all(part not in {"", ".", ".."} for part in each.removeprefix("!").split("/")):
            yield ("files", at), "is the end of a path, such as result.json or logs/*.csv: it begins with a name"
    for at, each in enumerate(format_.together):
        if each.startswith("/") or ".." in each.split("/"):
            yield ("together", at), "lies outside the file's folder: name what is in it, or below"
    if format_.together and format_.reader != "zip":
        yield ("reader",), 'several files together are read as "zip": each by the ending of its name'
    for at, each in enumerate(format_.kept):
        if not _KEPT.fullmatch(each):
            yield ("kept", at), "a path from the file's folder with one {} in its last part, such as weights/{}.pt"


def format_of(values: Mapping[str, Any]) -> Format:
    """The format that a data file of the wheel holds. What is in it was tried before it was shipped."""
    fields = {name: tuple(each) if isinstance(each, list) else each for name, each in values.items()}
    rules = [
        MetricRule(**{**rule, "better": Better(rule["better"]) if "better" in rule else None})
        for rule in fields.pop("metric", ())
    ]
    return Format(**fields, metrics=tuple(rules))  # type: ignore[arg-type] # as TOML has them
