"""Whether settings that are right each by itself are right together, and with what is on this host.

The rule: a contradiction names every setting that it rests on, so that it is told only if all of these are known.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import fields
from importlib.util import find_spec
from typing import Final

from modelwarden.archive.folders import REJECTED, STAGING
from modelwarden.config.formats import problems_of_formats
from modelwarden.config.model import DestinationTable, MetricsTable, Settings, WatchTable
from modelwarden.config.toml_file import Place
from modelwarden.config.wrong_settings import Problem, closest
from modelwarden.filesystems import show_path
from modelwarden.formats.finality import is_plain_name
from modelwarden.gate.policy import DEFAULT_NAME
from modelwarden.gate.soundness import PolicyError
from modelwarden.gate.thresholds import ModelGatingConfig
from modelwarden.gate.timestamp import is_run_name
from modelwarden.intake.scan import is_inside


def contradictions_of(settings: Settings) -> Iterator[Problem]:
    """All that does not go together. The settings' paths are absolute."""
    yield from _of_thresholds(settings)
    yield from _of_policies(settings)
    yield from problems_of_formats(settings)
    yield from _of_folders(settings)
    yield from _of_watches(settings)
    yield from _of_destinations(settings.notify.destination)
    yield from _of_metrics(settings.metrics)


def watched_twice(settings: Settings) -> Iterator[tuple[str, str]]:
    """Folders that lie in another that is watched with all below it and for the same files, with that other.

    It does no harm, since a file is known by its path, and may be meant: only one of the two may expect summaries.
    """
    for inner in settings.watch:
        for outer in settings.watch:
            below = _real(inner) != _real(outer) and is_inside(_real(inner), _real(outer))
            if outer.recursive and below and set(inner.patterns) & set(outer.patterns):
                yield inner.path, outer.path


def _of_thresholds(settings: Settings) -> Iterator[Problem]:
    try:
        settings.gate.thresholds()
    except ValueError as error:
        names = [field.name for field in fields(ModelGatingConfig)]
        for words in re.split(rf"; (?=(?:{'|'.join(names)})\b)", str(error)):
            places = tuple(("gate", name) for name in re.findall(r"\w+", words) if name in names)
            yield Problem(places or (("gate",),), words)


def _of_policies(settings: Settings) -> Iterator[Problem]:
    """Policies that contradict themselves or have no name of their own, and folders that name none."""
    names = [DEFAULT_NAME]
    for at, table in enumerate(settings.policy):
        if table.name == DEFAULT_NAME:
            said = f'"{DEFAULT_NAME}" is the policy that [gate] sets: give this one another name'
            yield Problem((("policy", at, "name"),), said)
        elif table.name in names:
            yield Problem((("policy", at, "name"),), f'there is a policy "{table.name}" already')
        names.append(table.name)
        try:
            table.resolved()
        except PolicyError as error:
            for place, said in error.problems:
                if place != ("name",):  # told above, or by the setting itself
                    yield Problem((("policy", at, *place),), said, _rests_on(("policy", at), place))
    for at, watch in enumerate(settings.watch):
        if watch.policy not in names:
            near = closest(watch.policy, names)
            hint = f'; did you mean "{near}"?' if near else f"; there are {', '.join(names)}"
            yield Problem((("watch", at, "policy"),), f'there is no policy "{watch.policy}"{hint}')


def _rests_on(policy: Place, place: Place) -> tuple[Place, ...]:
    """What else must be right in a policy before it may be said to contradict itself there."""
    if place[0] == "gate" and len(place) > 1:
        return tuple((*policy, *place[:2], name) for name in ("metric", "approve", "review", "better", "least", "most"))
    return tuple((*policy, name) for name in ("gate", "history", "better"))


def _of_folders(settings: Settings) -> Iterator[Problem]:
    for name in ("archive_dir", "state_dir"):
        folder = getattr(settings, name)
        if folder is not None and (file := _file_at(folder)) is not None:
            yield Problem(((name,),), f"{show_path(file)} is a file: name a folder")


def _of_watches(settings: Settings) -> Iterator[Problem]:
    archive = os.path.realpath(settings.archive_dir)
    for number, each in enumerate(settings.watch):
        place: Place = ("watch", number, "path")
        yield from _of_patterns(each, ("watch", number))
        if (file := _file_at(each.path)) is not None:
            yield Problem((place,), f"{show_path(file)} is a file: name the folder that it lies in")
            continue
        if _real(each) == archive:
            words = "the same folder as archive_dir: keep what trainers leave apart from it"
            yield Problem((place, ("archive_dir",)), words)
        elif is_inside(_real(each), archive) and _is_ours(os.path.relpath(_real(each), archive).split("/")[0]):
            words = "a folder that modelwarden makes in archive_dir: keep what trainers leave apart from it"
            yield Problem((place, ("archive_dir",)), words)
        if settings.state_dir is not None and is_inside(_real(each), os.path.realpath(settings.state_dir)):
            words = "the same folder as state_dir, or in it: keep what trainers leave apart from it"
            yield Problem((place, ("state_dir",)), words)
        for earlier, other in enumerate(settings.watch[:number]):
            if _real(each) == _real(other) and (both := _patterns(each) & _patterns(other)):
                words = f"the same folder as watch[{earlier}].path: one table is enough"
                if each.format != other.format:
                    words = (
                        f"the same folder as watch[{earlier}].path, and both take {min(both)}: "
                        "give each patterns of its own, such as NAME/*.json"
                    )
                rests_on: tuple[Place, ...] = tuple(
                    ("watch", at, name) for at in (earlier, number) for name in ("patterns", "format")
                )
                yield Problem((place, ("watch", earlier, "path")), words, rests_on)
                break


def _real(table: WatchTable) -> str:
    return os.path.realpath(table.path)


def _patterns(table: WatchTable) -> set[str]:
    """Of the files that it takes; none if that is its format's to say and the format is not known."""
    is_known = table.format is None or "patterns" in table.model_fields_set
    return {each for each in table.patterns if not each.startswith("!")} if is_known else set()


def _of_patterns(table: WatchTable, place: Place) -> Iterator[Problem]:
    """Patterns that no file fits: to watch for them is to be silent for ever."""
    rests_on = ((*place, "format"),)
    for at, pattern in enumerate(table.patterns):
        if table.format is None and ("/" in pattern or pattern.startswith("!")):
            words = "is of the file's name alone, since the folder has no format: write it without / and !"
        elif not is_plain_name(pattern.removeprefix("!")):
            words = "is the end of a path, such as result.json or logs/*.csv: it begins with a name"
        else:
            continue
        yield Problem(((*place, "patterns", at),), words, rests_on)
    if table.format is not None and all(each.startswith("!") for each in table.patterns):
        yield Problem(((*place, "patterns"),), "take all away: name at least one pattern of a file", rests_on)


def _file_at(path: str) -> str | None:
    """The file that stands where a folder is to be, or where one above it is; None if nothing is in the way."""
    while not os.path.exists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return None if os.path.isdir(path) else path


def _is_ours(name: str) -> bool:
    """Whether modelwarden makes this folder in an archive; others may lie there."""
    return is_run_name(name) or name in {REJECTED, STAGING, ".state"}


def _of_destinations(tables: tuple[DestinationTable, ...]) -> Iterator[Problem]:
    names = [each.name for each in tables]
    for number, each in enumerate(tables):
        table: Place = ("notify", "destination", number)
        yield from _of_kind(each, table)
        for what in _NEEDS_ONE_OF[each.kind]:
            ways = (what, f"{what}_file", f"{what}_credential")
            given = [way for way in ways if getattr(each, way) is not None]
            if len(given) != 1:
                instead = f"not {' and '.join(given)}" if given else "and has none"
                places = tuple((*table, way) for way in given) or (table,)
                words = f"needs one of {ways[0]}, {ways[1]} and {ways[2]}, {instead}"
                yield Problem(places, words, tuple((*table, way) for way in ("kind", *ways)))
        first = names.index(each.name)
        if first < number:
            words = f"also the name of destination[{first}]: a message is known by its destination's name"
            yield Problem(((*table, "name"), ("notify", "destination", first, "name")), words)
        if each.fallback == each.name:
            yield Problem(((*table, "fallback"), (*table, "name")), "the destination itself: name another")
        elif each.fallback is not None and each.fallback not in names:
            yield Problem(((*table, "fallback"),), _no_such(each.fallback, names, each.name), _names_of(tables))
    yield from _rings_of(tables, names)


def _of_metrics(table: MetricsTable) -> Iterator[Problem]:
    """A package that is not there, and a file that can't be one."""
    asked: list[Place] = [("metrics", name) for name in ("file", "listen") if getattr(table, name) is not None]
    if asked and find_spec("prometheus_client") is None:
        yield Problem(tuple(asked), "prometheus-client is not installed: `pip install 'modelwarden[metrics]'`")
    if table.file is not None and os.path.isdir(table.file):
        yield Problem((("metrics", "file"),), f"{show_path(table.file)} is a folder: name a file in it")


_NEEDS_ONE_OF: Final = {"chat": ("url",), "file": (), "webhook": ("url", "secret")}
"""What a kind of destination is told directly, in a file or in a credential."""

_URL: Final = ("url", "url_file", "url_credential")
_SECRET: Final = ("secret", "secret_file", "secret_credential")
_OF_KIND: Final = {"chat": _URL, "file": ("path",), "webhook": (*_URL, *_SECRET)}
"""The settings that only some kinds of destination have."""


def _of_kind(each: DestinationTable, table: Place) -> Iterator[Problem]:
    """What a destination of its kind has no use for, or lacks."""
    for name in dict.fromkeys(name for names in _OF_KIND.values() for name in names):
        if name not in _OF_KIND[each.kind] and getattr(each, name) is not None:
            words = f'not for a destination of kind = "{each.kind}"'
            yield Problem(((*table, name), (*table, "kind")), words)
    if each.kind == "file" and each.path is None:
        yield Problem((table,), 'needs a path: kind = "file" appends to a file', ((*table, "path"), (*table, "kind")))


def _names_of(tables: tuple[DestinationTable, ...]) -> tuple[Place, ...]:
    return tuple(("notify", "destination", number, "name") for number in range(len(tables)))


def _no_such(fallback: str, names: list[str], own: str) -> str:
    others = [name for name in names if name != own]
    suggested = closest(fallback, others)
    if suggested is not None:
        return f"no destination has this name; did you mean {suggested}?"
    return f"no destination has this name; the others are: {', '.join(others)}" if others else "there is no other"


def _rings_of(tables: tuple[DestinationTable, ...], names: list[str]) -> Iterator[Problem]:
    """Destinations that stand in for one another in a circle: if all fail, each waits for the next for ever."""
    told: set[int] = set()
    for start in range(len(tables)):
        ring = [start]
        while (after := tables[ring[-1]].fallback) is not None and after in names and names.index(after) not in ring:
            ring.append(names.index(after))
        if after == names[start] and len(ring) > 1 and not told & set(ring):
            told |= set(ring)
            places = tuple(("notify", "destination", number, "fallback") for number in ring)
            circle = " -> ".join(names[number] for number in [*ring, start])
            yield Problem(places, f"a ring of fallbacks, {circle}: let the last have none")
