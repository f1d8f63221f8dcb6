"""The formats that the settings may name: those that come with modelwarden, and the administrator's own.

The rule: a format of one's own is held to what a preset is held to, wherever it is written, before it reads anything.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from modelwarden.config.model import FormatTable, Settings, WatchTable
from modelwarden.config.toml_file import Place
from modelwarden.config.wrong_settings import Problem, closest
from modelwarden.filesystems import show_path
from modelwarden.formats.description import Format, MetricRule, problems_of, problems_of_final
from modelwarden.formats.finality import parse_condition
from modelwarden.formats.fitting import disagreements
from modelwarden.formats.shelf import presets
from modelwarden.gate.gates import Better
from modelwarden.gate.policy import DEFAULT_NAME
from modelwarden.gate.soundness import PolicyError

_NEEDED: Final = ("files", "reader", "program")
_RESTS_ON: Final[Mapping[Place, Sequence[str]]] = {("goal_in",): ("goal",)}
_MOST_BYTES: Final = 1 << 20


class WrongFormat(Exception):
    """A `[[format]]` makes no format.

    Attributes:
        problems: where, inside its table, and what.
        rests_on: settings of the table; if one of them is wrong by itself, nothing may be said.
    """

    def __init__(self, *problems: tuple[Place, str], rests_on: Sequence[str] = ()) -> None:
        super().__init__(*(words for _, words in problems))
        self.problems = problems
        self.rests_on = rests_on


class Known(NamedTuple):
    """The formats that a folder may name.

    Attributes:
        formats: by name; the presets, and the administrator's own that are right.
        problems: what is wrong with the others.
    """

    formats: Mapping[str, Format]
    problems: tuple[Problem, ...]


def known_formats(settings: Settings) -> Known:
    """All of them. A file that a `[[format]]` names is read here."""
    formats = dict(presets())
    problems: list[Problem] = []
    for at, table in enumerate(settings.format):
        if problems and table.like is not None and table.like not in formats:
            continue  # it may be like one of those
        try:
            made = _made_of(table, formats)
            formats[made.name] = made
        except WrongFormat as error:
            for place, words in error.problems:
                names = (*error.rests_on, *_RESTS_ON.get(place, ()))
                rests_on: tuple[Place, ...] = tuple(("format", at, name) for name in names)
                if place == ("like",):
                    rests_on = _names_of(settings)
                problems.append(Problem((("format", at, *place),), words, rests_on))
    return Known(formats, tuple(problems))


def _made_of(table: FormatTable, known: Mapping[str, Format]) -> Format:
    others = sorted(name for name in table.model_fields_set if name != "file")
    if table.file is not None and others:
        raise WrongFormat(((others[0],), "stands in the file: name the file alone, or write all of it here"))
    made = _resolved(table, known) if table.file is None else _read(table.file, known)
    if made.name in known:
        words = "comes with modelwarden" if made.name in presets() else "is there already"
        place: Place = ("name",) if table.file is None else ("file",)
        raise WrongFormat((place, f'a format "{made.name}" {words}: give this one another name'))
    return made


def _read(path: str, known: Mapping[str, Format]) -> Format:
    """The format in a file. Whatever is wrong there is told of the setting that names it."""

    def wrong(words: str) -> WrongFormat:
        return WrongFormat((("file",), f"{show_path(path)}: {words}"))

    try:
        with open(path, "rb") as stream:
            values = tomllib.loads(stream.read(_MOST_BYTES).decode())
        table = FormatTable.model_validate(values)
    except OSError as error:
        raise wrong(f"can't be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise wrong(f"not TOML: {error}" if isinstance(error, tomllib.TOMLDecodeError) else "not TOML") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        said = "there is no such setting" if first["type"] == "extra_forbidden" else first["msg"]
        raise wrong(f"{place}: {said}") from None
    if table.file is not None:
        raise wrong("file: a format's file names no other")
    try:
        return _resolved(table, known)
    except WrongFormat as error:
        inner, words = error.problems[0]
        raise wrong(": ".join(part for part in (".".join(map(str, inner)), words) if part)) from None


def _resolved(table: FormatTable, known: Mapping[str, Format]) -> Format:
    values: dict[str, Any] = {}
    if table.like is not None:
        if table.like not in known:
            raise WrongFormat((("like",), _no_such(table.like, known)))
        values |= vars(known[table.like])
    if not table.name:
        raise WrongFormat(((), "needs a name, or a file"), rests_on=("name", "file"))
    given = {name: getattr(table, name) for name in table.model_fields_set}
    values |= {name: each for name, each in given.items() if name not in {"like", "metric", "file"}}
    if "metric" in given:
        values["metrics"] = tuple(_rule(each) for each in table.metric)
    if missing := [name for name in _NEEDED if name not in values]:
        words = f"needs {' and '.join(missing)}, or a format that it is like"
        raise WrongFormat(((), words), rests_on=(*missing, "like"))
    made = Format(**{"title": table.name, **values})
    if problems := [*problems_of(made)]:
        raise WrongFormat(*problems)
    from modelwarden.formats.sandbox import complaint_about  # noqa: PLC0415 - brings the worker's side along

    if complaint := complaint_about(made.program):
        raise WrongFormat((("program",), complaint))
    return made


def _rule(table: Any) -> MetricRule:
    bounds = {name: each for name in ("least", "most") if (each := getattr(table, name)) is not None}
    return MetricRule(table.name, None if table.better is None else Better(table.better), sound=table.sound, **bounds)


def problems_of_formats(settings: Settings) -> Iterator[Problem]:
    """What is wrong with the formats, and with the folders that name one."""
    if not settings.format and all(watch.format is None for watch in settings.watch):  # nearly always
        for at, watch in enumerate(settings.watch):
            yield from _needs_format(watch, ("watch", at), settings)
        return
    from modelwarden.formats.sandbox import missing_extra  # noqa: PLC0415 - brings the worker's side along

    known = known_formats(settings)
    yield from known.problems
    told_of_extra = False
    for at, watch in enumerate(settings.watch):
        place: Place = ("watch", at)
        if watch.format is None:
            yield from _needs_format(watch, place, settings)
            continue
        if (format_ := known.formats.get(watch.format)) is None:
            if not known.problems:  # else it may be one of those
                yield Problem(((*place, "format"),), _no_such(watch.format, known.formats), _names_of(settings))
            continue
        if (missing := missing_extra()) and not told_of_extra:
            told_of_extra = True
            hint = 'pip install "modelwarden[formats]"'
            yield Problem(((*place, "format"),), f"needs {', '.join(missing)}, which is not installed: {hint}")
        yield from _of_final(watch, format_, place)
        if watch.group is not None:
            own = tuple(("format", i, "final") for i, each in enumerate(settings.format) if each.name == watch.format)
            yield from _of_group(watch, format_, place, own)
        yield from _of_policy(watch, format_, place, settings)


def _of_final(watch: WatchTable, format_: Format, place: Place) -> Iterator[Problem]:
    """What is no condition; and conditions of which none ever holds, so that nothing would be judged.

    What a preset's program never says is known, also if it is a user's that is like it.
    """
    wrong = [*problems_of_final(watch.final or format_.final)]
    for inner, words in wrong:
        yield Problem(((*place, *inner),), words)
    if wrong or not all(parse_condition(each).complete for each in watch.final or format_.final):
        return
    silent = (each for each in presets().values() if not any(parse_condition(said).complete for said in each.final))
    if any(format_.program == each.program for each in silent):
        words = f'{format_.name} does not say that a training ended: give "quiet:30m", or "marker:NAME"'
        yield Problem(((*place, "final" if watch.final else "format"),), words, ((*place, "format"),))


def _of_group(watch: WatchTable, format_: Format, place: Place, own: Sequence[Place]) -> Iterator[Problem]:
    """What is wrong with a run of several files; `own` is where the format is described, if that is in the settings."""
    group = ((*place, "group"),)
    if format_.together:
        words = f"{format_.name} reads several files as one already: leave this out"
        yield Problem(group, words, ((*place, "format"),))
        return  # then nothing else is asked of a group
    if watch.group != "." and not watch.recursive:
        yield Problem(
            group, "is above a file that lies in a folder below: set recursive = true", ((*place, "recursive"),)
        )
    final = watch.final or format_.final
    if not [*problems_of_final(final)] and not all(c.quiet or c.marker for c in map(parse_condition, final)):
        words = 'is final when no more files come: set final = "quiet:30m", "complete and quiet:10m" or "marker:NAME"'
        yield Problem(group, words, ((*place, "final"), *own))


def _needs_format(watch: WatchTable, place: Place, settings: Settings) -> Iterator[Problem]:
    for name in ("final", "models", "group"):
        if getattr(watch, name) != WatchTable.model_fields[name].default:
            yield Problem(
                ((*place, name),), "is of a folder with a format: say which, or leave this out", ((*place, "format"),)
            )
    for at, policy in enumerate(settings.policy):
        if policy.name == watch.policy and policy.judge_at == "saved":
            words = 'judge_at = "saved" is for folders with a format: a summary does not say what was kept'
            yield Problem((("policy", at, "judge_at"), (*place, "policy")), words, ((*place, "format"),))


def _of_policy(watch: WatchTable, format_: Format, place: Place, settings: Settings) -> Iterator[Problem]:
    """Where the policy of a folder is not for its format."""
    if watch.policy == DEFAULT_NAME:
        if format_.name in presets():
            words = f"needs a policy of its own: {DEFAULT_NAME} gates fitness, and {format_.name} has none"
            yield Problem(((*place, "format"),), words, ((*place, "policy"),))
        return
    for at, table in enumerate(settings.policy):
        if table.name != watch.policy:
            continue
        try:
            policy = table.resolved()
        except PolicyError:
            return  # told elsewhere
        for gate, words in disagreements(policy, format_):
            said = gate is not None and "better" in table.gate[gate].model_fields_set
            inner: Place = ("better",) if gate is None else ("gate", gate, "better" if said else "metric")
            yield Problem((("policy", at, *inner), (*place, "format")), words)


def _names_of(settings: Settings) -> tuple[Place, ...]:
    """Where the names of all formats stand, without which nobody can say that there is none of a name."""
    return (("format",), *(("format", at, "name") for at in range(len(settings.format))))


def _no_such(name: str, known: Mapping[str, Format]) -> str:
    meant = " or ".join(f'"{each}"' for each in meant_formats(name, known))
    return f'there is no format "{name}"' + (
        f"; did you mean {meant}?" if meant else "; `modelwarden formats` lists them"
    )


_SHORTEST: Final = 3
"""Letters from which on a part of a name says what is meant."""


def meant_formats(name: str, known: Mapping[str, Format]) -> Sequence[str]:
    """The formats that a person may have meant who wrote a library's name, or misspelt one; none if none is close."""
    part = _letters(name)
    if len(part) >= _SHORTEST:
        named = [each for each, format_ in known.items() if part in _letters(f"{each} {format_.title}")]
        if named:
            return named[:_SHORTEST]
    near = closest(name, known)
    return () if near is None else (near,)


def _letters(text: str) -> str:
    return "".join(each for each in text.lower() if each.isalnum())


def with_patterns(settings: Settings) -> Settings:
    """The settings with the patterns of a format for each folder that has one and names no others."""
    if all(watch.format is None for watch in settings.watch):
        return settings
    formats = known_formats(settings).formats
    watch: list[WatchTable] = []
    for each in settings.watch:
        format_ = None if each.format is None else formats.get(each.format)
        takes_all = format_ is not None and "patterns" not in each.model_fields_set
        watch.append(each.model_copy(update={"patterns": format_.files}) if format_ and takes_all else each)
    return settings.model_copy(update={"watch": tuple(watch)})


def absolute_files(settings: Settings, absolute: Any) -> tuple[FormatTable, ...]:
    """The tables with the paths of their files made absolute."""
    return tuple(
        each if each.file is None else each.model_copy(update={"file": absolute(each.file, "format", at, "file")})
        for at, each in enumerate(settings.format)
    )
