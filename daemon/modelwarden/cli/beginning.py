"""`config init`: a config file for what is found here, with every setting explained.

The rule: nothing is asked, nothing that is there is changed, and what is written is right: it is read back at once.
"""

import json
import os
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Final

import typer

from modelwarden.archive.identity import has_identity
from modelwarden.cli.answers import print_answer
from modelwarden.cli.options import Json
from modelwarden.config import load_settings
from modelwarden.config.places import state_dir_of
from modelwarden.config.schema import example_text
from modelwarden.config.whereabouts import DEFAULT_ARCHIVE
from modelwarden.durable import refusal
from modelwarden.errors import RejectSummary, StopService
from modelwarden.filesystems import network_file_system, show_path
from modelwarden.gate.policy import Policy
from modelwarden.gate.summary import parse_summary
from modelwarden.intake.reading import Whole, read_whole
from modelwarden.intake.scan import Root, Scan

MOST_FOLDERS: Final = 200
"""Folders that are looked into for summaries."""

MOST_FILES: Final = 20
"""Files of each that are tried."""

_MOST_BYTES: Final = 1 << 24
_WATCHED: Final = "training_output"
_LOCAL_STATE: Final = "/var/lib/modelwarden"


def config_init(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What is written; it must not be there.")] = "config.toml",
    watch: Annotated[
        str | None,
        typer.Option("--watch", metavar="DIR", help="The folder to watch.", show_default="where summaries lie here"),
    ] = None,
    archive: Annotated[
        str | None, typer.Option("--archive", metavar="DIR", help="The archive.", show_default="the one that is here")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a commented config file for what is found in this folder.

    Example: modelwarden config init
    """
    path = os.path.abspath(file)
    here = os.path.dirname(path)
    archive_dir = archive or _found_archive(here) or DEFAULT_ARCHIVE
    watched = [watch] if watch is not None else _found_summaries(here, archive_dir) or [_WATCHED]
    text = _text(here, watched, archive_dir)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)  # it may hold URLs
    except FileExistsError:
        raise StopService("is there already", where=show_path(path), hint="name another file, or edit it") from None
    except OSError as error:
        raise refusal("write", path, error) from error
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(text)
    settings, _ = load_settings(path)
    if as_json:
        print_answer(
            file=show_path(path),
            folders=[show_path(each.path) for each in settings.watch],
            archive=show_path(settings.archive_dir),
            state=show_path(state_dir_of(settings.archive_dir, settings.state_dir)),
        )
        return
    typer.echo(f"{show_path(path)}:")
    for table in settings.watch:
        there = "" if os.path.isdir(table.path) else ", made at the start"
        typer.echo(f"  watches  {show_path(table.path)}{there}")
    typer.echo(f"  archive  {show_path(settings.archive_dir)}")
    if settings.state_dir is not None:
        typer.echo(f"  state    {show_path(settings.state_dir)}: the archive is on a network")
    typer.echo("Begin with: modelwarden run --config " + show_path(file))


def _found_archive(here: str) -> str | None:
    """An archive beside the file, by its identity."""
    names = sorted(_folders(here))
    return next((name for name in names if has_identity(os.path.join(here, name))), None)


def _found_summaries(here: str, archive_dir: str) -> list[str]:
    """The folders beside the file, or below them, in which a summary lies; the archive is none."""
    excluded = os.path.realpath(os.path.join(here, archive_dir))
    found: list[str] = []
    for name in islice(sorted(_folders(here)), MOST_FOLDERS):
        folder = os.path.realpath(os.path.join(here, name))
        if folder != excluded and not name.startswith(".") and _holds_summary(folder):
            found.append(name)
    return found


def _folders(here: str) -> Iterator[str]:
    try:
        with os.scandir(here) as entries:
            yield from (entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return


def _holds_summary(folder: str) -> bool:
    policy = Policy.from_config()
    for path, _ in islice(Scan(Root(folder)), MOST_FILES):
        match read_whole(path, _MOST_BYTES):
            case Whole(data, _):
                try:
                    parse_summary(data, policy)
                except RejectSummary:
                    continue
                return True
            case _:
                continue
    return False


def _text(here: str, watched: list[str], archive_dir: str) -> str:
    """The example with what was found in the place of what it has."""
    text = example_text()
    first, *others = watched
    made = "" if os.path.isdir(os.path.join(here, first)) else "create = true              # make the folder at start\n"
    tables = "".join(f"\n[[watch]]\npath = {_quoted(other)}\n" for other in others)
    lines = []
    for line in text.splitlines(keepends=True):
        if line.startswith("archive_dir = "):
            lines.append(f"archive_dir = {_quoted(archive_dir)}\n")
        elif line.startswith("# state_dir = ") and network_file_system(os.path.join(here, archive_dir)) is not None:
            lines.append(f"state_dir = {_quoted(_LOCAL_STATE)}\n")
        elif line.startswith("path = "):
            lines.append(f"path = {_quoted(first)}\n{made}")
        elif line.startswith("create = "):
            continue
        elif line.startswith("[intake]"):
            lines.append(f"{tables.lstrip()}{chr(10) if tables else ''}{line}")
        else:
            lines.append(line)
    return "".join(lines)


def _quoted(text: str) -> str:
    """As TOML has it."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
