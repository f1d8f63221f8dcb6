"""`completion`: what makes a shell complete commands, options and names; `complete` tells it the names.

The rule: asking writes nothing. What can't be asked is answered by nothing, without a complaint: somebody is in the
middle of a line.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Final

import typer

from modelwarden.cli.options import archive_for_asking
from modelwarden.cli.shell_scripts import Shell, script
from modelwarden.cli.tree import read_tree
from modelwarden.config.places import known_state_dir
from modelwarden.questions import Questions, asking

MOST_NAMES: Final = 500
"""Nobody reads more. The youngest runs are offered."""


def completion(
    context: typer.Context,
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print what makes a shell complete commands.

    bash: into ~/.local/share/bash-completion/completions, as modelwarden. zsh: into a folder of $fpath, as
    _modelwarden. fish: into ~/.config/fish/completions, as modelwarden.fish.

    Example: modelwarden completion fish > ~/.config/fish/completions/modelwarden.fish
    """
    typer.echo(script(shell, read_tree(context.find_root().command)), nl=False)


def complete(
    kind: Annotated[str, typer.Argument(metavar="KIND")],
    start: Annotated[str, typer.Argument(metavar="START")],
    line: Annotated[list[str] | None, typer.Argument(metavar="WORD")] = None,
) -> None:
    """Print the names that begin so, a line each: runs, symbols or destinations of the archive that the line names.

    Example: modelwarden complete RUN 2024
    """
    try:
        for name in _names(kind, _option(line or (), "--config", "-c"), _option(line or (), "--archive")):
            if name.startswith(start) and name.isprintable():  # a line is a name, and a terminal's to show
                typer.echo(name)
    except BrokenPipeError:
        raise
    except Exception:  # noqa: BLE001 - whatever it is: a shell asks, and nobody reads
        sys.stdout.flush()


def _option(line: Sequence[str], *names: str) -> str | None:
    """The value of an option on the line that is typed; a leading ~ is what the shell would make of it."""
    for word, value in pairwise(line):
        if word in names:
            return os.path.expanduser(value)
    return None


def _names(kind: str, config: str | None, archive: str | None) -> Iterable[str]:
    """All names of a kind, or of several: RUN+SYMBOL."""
    if kind == "DEST":
        from modelwarden.config import load_settings  # noqa: PLC0415 - the archive's names need none of it

        return [each.name for each in load_settings(config, archive=archive)[0].notify.destination]
    if kind == "FLAG-METRIC":
        from modelwarden.cli.meanings import meanings  # noqa: PLC0415 - likewise
        from modelwarden.config import load_settings  # noqa: PLC0415 - likewise

        policies = load_settings(config, archive=archive)[0].policies().values()
        return dict.fromkeys(each.name for policy in policies for each in meanings(policy))
    found = archive_for_asking(config, archive)
    if kind == "ID":
        from modelwarden.archive.shelf import shelved  # noqa: PLC0415 - likewise

        return [each.id for each in shelved(found.archive_dir)]
    with asking(found.archive_dir, known_state_dir(found)) as questions:
        return [name for each in kind.split("+") for name in _asked(each, questions)]


def _asked(kind: str, questions: Questions) -> Iterable[str]:
    if kind == "RUN":
        return questions.names(MOST_NAMES)
    return questions.symbols() if kind == "SYMBOL" else []
