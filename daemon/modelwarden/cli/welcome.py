"""The first lines of `run` for a person at a terminal: what it does here, for whom, and what to do next.

The rule: it says what counts, not what was asked for, and a command that it names works as it stands there.
"""

import os
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Final

from modelwarden.config import Settings, WatchTable
from modelwarden.filesystems import show_path
from modelwarden.gate.policy import DEFAULT_NAME
from modelwarden.wiring.policies import policies_of

WIDTH: Final = 80
_UNDER: Final = " " * 12
_WHOLE: Final = "\0"
"""Stands for a blank at which no line is broken."""


def first_lines(
    settings: Settings, path: str | None, program: str, options: Sequence[str], *, once: bool
) -> Iterator[str]:
    """The lines, none wider than WIDTH unless a path or a name is.

    Args:
        settings: those that count.
        path: the file that they came from.
        program: what was typed to start it.
        options: what makes another command find the same archive, as it was typed.
        once: whether it ends when everything that is there is dealt with.
    """
    yield f"modelwarden {version('modelwarden')}: judges what trainers leave, archives it, tells the team"
    for table in settings.watch:
        yield f"  watches   {show_path(table.path)}{_remarks(table)}"
    yield f"  archive   {show_path(settings.archive_dir)}"
    policies = policies_of(settings)
    for name in dict.fromkeys(table.policy for table in settings.watch):
        policy = policies.by_name[name]
        called = "" if name == DEFAULT_NAME else f" ({show_path(name)})"
        yield f"  policy    {policy.id}{called}: a model is APPROVED with"
        bounds = [f"{gate.label} {gate.signs[0]} {gate.approve:g}".replace(" ", _WHOLE) for gate in policy.gates]
        for line in textwrap.wrap(", ".join(bounds), WIDTH, initial_indent=_UNDER, subsequent_indent=_UNDER):
            yield line.replace(_WHOLE, " ")
    names = [each.name for each in settings.notify.destination]
    yield (
        f"  tells     {', '.join(names)}" if names else "  tells     nobody yet: [[notify.destination]] in the settings"
    )
    yield f"  settings  {show_path(path) if path else 'defaults, environment and options'}"
    if once:
        yield "It deals with what is there, then ends."
        return
    folder = "the watched folder" if len(settings.watch) == 1 else "a watched folder"
    yield f"Leave a summary in {folder}. In another terminal, see what came of it:"
    yield f"  {shlex.join([program, 'runs', *options])}"
    if path is None:
        yield "All that can be set, to begin a config file with:"
        yield f"  {shlex.join([program, 'config', 'example'])}"
    yield "Ctrl-C stops it. What happens from here on:"


def _remarks(table: WatchTable) -> str:
    remarks = [] if table.patterns == ("*.json",) else [", ".join(table.patterns)]
    remarks += [] if os.path.isdir(table.path) else ["not there yet: make it"]
    return f" ({'; '.join(remarks)})" if remarks else ""
