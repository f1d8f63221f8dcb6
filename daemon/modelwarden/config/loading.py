"""Where settings come from, and the one message that tells all that is wrong with them.

The rule: nothing starts on settings that are not wholly understood, and whoever asks for them gets the same answer.
Each mistake is told once, with the file and line, the variable or the option that it came from; a destination's URL is
a secret and is never part of a message.
"""

import copy
import math
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ValidationError

from modelwarden.config.agreement import contradictions_of
from modelwarden.config.environment import read_environment
from modelwarden.config.formats import absolute_files, with_patterns
from modelwarden.config.model import Settings
from modelwarden.config.toml_file import Place, TomlFile, read_toml
from modelwarden.config.urls import destination_of
from modelwarden.config.whereabouts import CONFIG_VARIABLE, find_config
from modelwarden.config.wrong_settings import Problem, complaints_of, fields_of, is_set, kind_at, path_of
from modelwarden.errors import StopService
from modelwarden.filesystems import show_path

HINT: Final = "`modelwarden config example` prints every setting"

Urls = Literal["written", "all"]
"""Which URLs a command can judge: those that stand in the settings, or those in files and credentials as well."""

_SUBSTITUTES: Final = {"path": "/unknown", "name": "unknown"}
"""What stands for a required setting that is wrong, so that the others can be looked at."""

_ATTEMPTS: Final = 3


def load_settings(
    given: str | None = None,
    *,
    watch: str | None = None,
    archive: str | None = None,
    urls: Urls = "written",
    asks_apprise: bool = False,
) -> tuple[Settings, str | None]:
    """Given a config file, or a folder to watch and an archive, return the settings and the file they came from.

    The command line outranks the environment, the environment the file. Paths in the file are relative to it, all
    others to the current folder; all are returned absolute.

    Args:
        given: a config file.
        watch: a folder to watch, instead of all that are configured.
        archive: the archive, instead of the one that is configured.
        urls: which URLs are judged.
        asks_apprise: whether URLs are judged even if nothing else is wrong: for who delivers, or says whether one can.
            Apprise takes a quarter of a second and 45 MiB.

    Raises:
        StopService: anything is wrong; one message names everything.
    """
    path = None if watch is not None and given is None else find_config(given)
    layers = _Layers.read(path, watch, archive)
    complaints = _Complaints(layers)
    settings = complaints.settings_as_far_as_known()
    if settings is not None:
        settings = with_patterns(layers.with_absolute_paths(settings))
        if layers.file.unsure is not None:
            for problem in contradictions_of(settings):
                complaints.add(problem)
        if (complaints.lines or asks_apprise) and settings.notify.destination:
            for problem in _refused_urls(settings, urls):
                complaints.add(problem)
    if complaints.lines or settings is None:
        raise StopService(
            "\n".join(["the settings are wrong:", *complaints.in_order(), HINT]),
            where=(show_path(path) or "--config")
            if path is not None and path != os.devnull  # a daemon without a file gives its courier that one
            else "command line"
            if watch is not None or archive is not None
            else "environment",
        )
    return settings, path


def sources(given: str | None = None, *, archive: str | None = None) -> Callable[[Place], str]:
    """From a setting's place to where its value comes from: the file and line, a variable, an option, or the default.

    Args:
        given: a config file, as for `load_settings`.
        archive: likewise.
    """
    path = find_config(given)
    layers = _Layers.read(path, None, archive)

    def source_of(place: Place) -> str:
        if (origin := layers.origin_of(place)) is not None:
            return origin if origin.startswith("-") else f"${origin}"
        if path is None or not is_set(place, layers.values):
            return "default"
        above = (place[:length] for length in range(len(place), 0, -1))
        line = next((layers.file.lines[each] for each in above if each in layers.file.lines), None)
        return show_path(path) if line is None else f"{show_path(path)}:{line}"

    return source_of


@dataclass(frozen=True)
class _Layers:
    """All that settings come from.

    Attributes:
        file: what the config file holds, if there is one.
        folder: where it lies.
        trouble: why it can't be read, or "".
        values: the document that all layers make together.
        origins: for what does not come from the file, the variable or the option that it came from.
        wrong_variables: variables that set nothing.
    """

    file: TomlFile
    folder: str
    trouble: str
    values: dict[str, Any]
    origins: Mapping[Place, str]
    wrong_variables: Mapping[str, str]

    @classmethod
    def read(cls, path: str | None, watch: str | None, archive: str | None) -> "_Layers":
        """Read them, each as far as it can be read."""
        file, folder, trouble = TomlFile({}, {}, (), frozenset()), "", ""
        if path is not None:
            try:
                with open(path, "rb") as stream:
                    file = read_toml(stream.read())
                folder = str(Path(path).resolve().parent)
            except OSError as error:
                file = file._replace(unsure=None)
                trouble = f"can't be read ({error.strerror}): name one with --config or ${CONFIG_VARIABLE}"
        variables = read_environment(os.environ)
        values: dict[str, Any] = copy.deepcopy(file.values)
        _merge(values, variables.values)
        origins = dict(variables.names)
        typed = {"watch": None if watch is None else [{"path": watch}], "archive_dir": archive}
        for (name, value), option in zip(typed.items(), ("--watch", "--archive"), strict=True):
            if value is not None:
                values[name] = value
                origins[(name,)] = option
        return cls(file, folder, trouble, values, origins, variables.wrong)

    def origin_of(self, place: Place) -> str | None:
        """The variable or the option that set this, or what it stands in; None if that is the file or nobody."""
        return next((self.origins[place[:n]] for n in range(1, len(place) + 1) if place[:n] in self.origins), None)

    def lines_of(self, places: Sequence[Place]) -> list[int]:
        """The lines of those of the places that the file sets; if it sets none, of what the first would stand in."""
        ours = [place for place in places if self.origin_of(place) is None]
        exact = sorted({self.file.lines[place] for place in ours if place in self.file.lines})
        if exact or ours[:1] != list(places[:1]) or any(self.origin_of(place) for place in places):
            return exact
        above = (places[0][:length] for length in range(len(places[0]) - 1, 0, -1))
        return [self.file.lines[place] for place in above if place in self.file.lines][:1]

    def with_absolute_paths(self, settings: Settings) -> Settings:
        """The settings with every path absolute."""

        def absolute(path: str, *place: str | int) -> str:
            is_of_file = self.origin_of(place) is None and is_set(place, self.values)
            return os.path.abspath(os.path.join(self.folder, path) if is_of_file else path)

        destinations = tuple(
            each.model_copy(
                update={
                    name: absolute(path, "notify", "destination", number, name)
                    for name in ("url_file", "secret_file", "path")
                    if (path := getattr(each, name)) is not None
                }
            )
            for number, each in enumerate(settings.notify.destination)
        )
        update = {
            "archive_dir": absolute(settings.archive_dir, "archive_dir"),
            "state_dir": None if settings.state_dir is None else absolute(settings.state_dir, "state_dir"),
            "watch": tuple(
                each.model_copy(update={"path": absolute(each.path, "watch", number, "path")})
                for number, each in enumerate(settings.watch)
            ),
            "format": absolute_files(settings, absolute),
            "notify": settings.notify.model_copy(update={"destination": destinations}),
            "metrics": settings.metrics
            if settings.metrics.file is None
            else settings.metrics.model_copy(update={"file": absolute(settings.metrics.file, "metrics", "file")}),
        }
        return settings.model_copy(update=update)


class _Complaints:
    """The lines of the message.

    Args:
        layers: what the settings come from.

    Attributes:
        lines: each complaint with what it is sorted by.
    """

    def __init__(self, layers: _Layers) -> None:
        self._layers = layers
        self._bad: frozenset[Place] = frozenset()
        self.lines: list[tuple[float, str]] = []
        if layers.trouble:
            self.lines.append((0, layers.trouble))
        for line, words in layers.file.faults:
            self.lines.append((line or 0, f"line {line}: not TOML: {words}" if line else f"not TOML: {words}"))
        for name, words in layers.wrong_variables.items():
            self.lines.append((math.inf, f"{name}: {words}"))

    def in_order(self) -> Iterator[str]:
        """As the file has them, then what comes from elsewhere; each once."""
        for line in dict.fromkeys(text for _, text in sorted(self.lines, key=itemgetter(0))):
            yield f"  {line}"

    def settings_as_far_as_known(self) -> Settings | None:
        """The settings, with a default or a substitute for each that is wrong by itself; None if nothing is known."""
        values = copy.deepcopy(self._layers.values)
        for attempt in range(_ATTEMPTS):
            try:
                return Settings.model_validate(values)
            except ValidationError as error:
                found = complaints_of(error, values)
                if not attempt:
                    for problem in found.problems:
                        if not (problem.rests_on and self._is_unsure(problem)):
                            self._tell(problem)
                self._bad |= found.bad
                for place in found.bad:
                    _substitute(values, place)
        return None

    def add(self, problem: Problem) -> None:
        """Tell of a problem, unless something that it rests on is wrong by itself or could not be read."""
        rests_on = (*problem.places, *problem.rests_on)
        if not self._is_unsure(problem) and not any(
            place[: len(bad)] == bad for place in rests_on for bad in self._bad
        ):
            self._tell(problem)

    def _is_unsure(self, problem: Problem) -> bool:
        unsure = self._layers.file.unsure
        return unsure is None or any(place[-1] in unsure for place in (*problem.places, *problem.rests_on))

    def _tell(self, problem: Problem) -> None:
        numbers = self._layers.lines_of(problem.places)
        origins = dict.fromkeys(origin for place in problem.places if (origin := self._layers.origin_of(place)))
        lines = [f"line{'s' if len(numbers) > 1 else ''} {' and '.join(map(str, numbers))}"] if numbers else []
        text = ": ".join([" and ".join([*lines, *origins]), path_of(problem.places[0]), problem.words])
        self.lines.append((numbers[0] if numbers else math.inf, text.removeprefix(": ")))


def _merge(values: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        inner = values.get(key)
        if isinstance(inner, dict) and isinstance(value, dict):
            _merge(inner, value)
        else:
            values[key] = value


def _substitute(values: dict[str, Any], place: Place) -> None:
    """Leave a setting out, so that its default counts; one that must be there gets a substitute."""
    *above, last = place
    holder: Any = values
    for part in above:
        try:
            holder = holder[part]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(holder, list) and isinstance(last, int):
        holder[last] = {name: _SUBSTITUTES[name] for name in fields_of(kind_at(place)) if name in _SUBSTITUTES}
    elif isinstance(holder, dict) and last in _SUBSTITUTES and last in fields_of(kind_at(tuple(above))):
        holder[last] = _SUBSTITUTES[str(last)]
    elif isinstance(holder, dict):
        holder.pop(last, None)


def _refused_urls(settings: Settings, urls: Urls) -> Iterator[Problem]:
    """The URLs that can't be read, or that Apprise does not understand, by their destinations."""
    from modelwarden.sinks.redactor import Redactor  # noqa: PLC0415 - brings the courier along

    redactor = Redactor()
    for number, table in enumerate(settings.notify.destination):
        ways = [way for way in ("url", "url_file", "url_credential", "path") if getattr(table, way) is not None]
        if len(ways) != 1 or (ways != ["url"] and urls != "all") or (table.kind == "file") != (ways == ["path"]):
            continue
        secrets = [way for way in ("secret", "secret_file", "secret_credential") if getattr(table, way) is not None]
        if table.kind == "webhook" and (len(secrets) != 1 or (secrets != ["secret"] and urls != "all")):
            continue
        try:
            destination_of(table, redactor)
        except StopService as error:
            where = error.where if table.name != _SUBSTITUTES["name"] else ""
            words = ": ".join(part for part in (where, error.what, error.hint) if part)
            yield Problem((("notify", "destination", number, ways[0]),), words)


def exposed(path: str | None, settings: Settings) -> list[str]:
    """The files that hold a destination's URL or secret, and that everybody on the host may read."""
    destinations = settings.notify.destination
    told = [text.get_secret_value() for each in destinations for text in (each.url, each.secret) if text is not None]
    files = [file for each in destinations for file in (each.url_file, each.secret_file) if file is not None]
    if path is not None and told and any(text in _text_of(path) for text in told):  # else they are the environment's
        files.insert(0, path)
    return [file for file in dict.fromkeys(files) if _everybody_reads(file)]


def _everybody_reads(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and bool(mode & 0o004)


def _text_of(path: str) -> str:
    with open(path, encoding="utf-8") as stream:
        return stream.read()
