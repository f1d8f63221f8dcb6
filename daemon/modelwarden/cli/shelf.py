"""`rejected`: the files that were no summaries: which, why, and another try.

The rule: what was kept is kept until it is archived; a try that fails changes nothing.
"""

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from modelwarden.archive.outcomes import AlreadyArchived, Archived, Outcome, Postponed, Pruned, Rejected, Unfinished
from modelwarden.archive.shelf import Shelved, find_shelved, is_whole, read_as_found, shelved
from modelwarden.cli.answers import print_answer
from modelwarden.cli.asking import NOTHING, when
from modelwarden.cli.lines import clipped, counted, wrapped
from modelwarden.cli.moments import age
from modelwarden.cli.options import Archive, Config, Json, archive_for_asking, names_another, settings_for_asking
from modelwarden.cli.progress import Bar
from modelwarden.cli.screen import is_terminal, paged, styled, visible, width
from modelwarden.cli.tables import print_facts, print_table
from modelwarden.errors import ModelwardenError, RejectSummary, StopService
from modelwarden.filesystems import show_path

if TYPE_CHECKING:
    from modelwarden.pipeline.policies import Policies
    from modelwarden.pipeline.walk import Pipeline

STILL_REJECTED: Final = 1
"""Exit code of `retry` if a file is no summary still."""

ARCHIVED: Final = "archived"
ALREADY_ARCHIVED: Final = "already archived"
REJECTED: Final = "rejected"
NOT_ARCHIVED: Final = "not archived"
OUTCOMES: Final = (ARCHIVED, ALREADY_ARCHIVED, REJECTED, NOT_ARCHIVED)
"""What answers call what became of a file."""

_LONGEST: Final = 100
_HEAD: Final = 400

rejected_commands = typer.Typer(invoke_without_command=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="As listed, or its beginning.")]


@rejected_commands.callback()
def rejected(context: typer.Context, config: Config = None, archive: Archive = None, as_json: Json = False) -> None:
    """What was no summary: list it, see why, try again.

    Alone it lists the files that were rejected, each with the first reason. Exit code 1 if there are none.

    Example: modelwarden rejected
    """
    if names_another(context):
        return
    now = time.time()
    found = shelved(archive_for_asking(config, archive).archive_dir)
    if as_json:
        print_answer(rejected=[_shelved_json(each) for each in found])
    elif found:
        with paged():
            print_table(
                ("id", "rejected", "file", "reason"),
                [
                    (each.id, when(each.rejected_at, now), os.path.basename(each.path) or "(from Python)", _first(each))
                    for each in found
                ],
                short=("file",),
            )
    else:
        typer.echo("nothing was rejected")
    if not found:
        raise typer.Exit(NOTHING)


def _first(each: Shelved) -> str:
    """The first reason, and how many there are."""
    first, *others = each.reason.splitlines() or [""]
    shown = clipped(first, _LONGEST) if is_terminal() else first
    return shown + _and_more(others)


def _and_more(lines: Sequence[str]) -> str:
    return f" (and {counted(len(lines), 'more line')})" if lines else ""


def _shelved_json(each: Shelved) -> dict[str, object]:
    return (
        {"file": show_path(each.path)} | each._asdict() | {"problems": [problem._asdict() for problem in each.problems]}
    )


@rejected_commands.command("show")
def rejected_show(identity: Id, config: Config = None, archive: Archive = None, as_json: Json = False) -> None:
    """Show a rejected file and all that is wrong with it.

    Also where it was, and how it begins.

    Example: modelwarden rejected show 3f2a
    """
    root = archive_for_asking(config, archive).archive_dir
    each = find_shelved(root, identity)
    data = read_as_found(root, each.id)
    if as_json:
        print_answer(rejected=[_shelved_json(each)])
        return
    with paged():
        typer.echo(styled(each.id, "bold"))
        kept = "" if is_whole(each, data) else f", {len(data)} kept"
        ago = f" ({age(each.rejected_at, time.time())})" if is_terminal() else ""
        print_facts(
            (
                ("file", each.path or "a call from Python"),
                ("rejected", f"{each.rejected_at}{ago}"),
                ("size", f"{each.size} bytes{kept}"),
                ("sha256", each.sha256),
            )
        )
        typer.echo(styled("why", "bold"))
        for line in each.reason.splitlines():
            first, *more = wrapped(visible(line), min(width(), _LONGEST) - 4)
            typer.echo(f"  - {first}")
            for other in more:
                typer.echo(f"    {other}")
        typer.echo(styled("begins with", "bold"))
        for line in data[:_HEAD].decode("utf-8", "backslashreplace").splitlines()[:10]:
            typer.echo(f"  {clipped(visible(line), width() - 2)}")


@rejected_commands.command("retry")
def rejected_retry(
    identity: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="Which one.", show_default=False),
    ] = None,
    all_of_them: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    config: Config = None,
    archive: Archive = None,
    as_json: Json = False,
) -> None:
    """Judge once more what was kept.

    After a mend of the settings, or by a newer version. What is a summary now is archived as if it had just come, and
    leaves the shelf. A trainer's file that was written again needs none of this: it is looked at by itself. Exit code 1
    if one is no summary still.

    Example: modelwarden rejected retry --all
    """
    settings = settings_for_asking(config, archive)
    if (identity is None) is not all_of_them:
        raise StopService("name one ID, or --all", where="rejected retry")
    wanted = shelved(settings.archive_dir) if identity is None else [find_shelved(settings.archive_dir, identity)]
    if not wanted:
        if as_json:
            print_answer(files=[])
        else:
            typer.echo("nothing was rejected")
        return
    from modelwarden.service.logs import configure_logs  # noqa: PLC0415 - listing needs none of it
    from modelwarden.wiring.pipeline import open_pipeline  # noqa: PLC0415 - likewise
    from modelwarden.wiring.policies import policies_of  # noqa: PLC0415 - likewise

    configure_logs("error", settings.log.format)
    tried: list[tuple[Shelved, _Tried]] = []
    policies = policies_of(settings)
    with (
        Bar("trying again", len(wanted)) as bar,
        open_pipeline(settings, announces=False, policies=policies, progress=bar.alive) as pipeline,
    ):
        pipeline.upkeep.recover()
        for each in wanted:
            came = _retry(pipeline, policies, settings.intake.max_bytes, each)
            bar.step()
            tried.append((each, came))
            if not as_json:
                bar.say(f"{each.id} {visible(os.path.basename(each.path))}: {visible(came.said)}")
    if as_json:
        print_answer(files=[{"id": each.id, "file": show_path(each.path)} | came._asdict() for each, came in tried])
    if not all(came.is_done for _, came in tried):
        raise typer.Exit(STILL_REJECTED)


class _Tried(NamedTuple):
    """What became of a file that was tried again.

    Attributes:
        outcome: as `outcome_of` has it.
        run: the run that it is, if it is one.
        said: the same in words.
    """

    outcome: str
    run: str | None
    said: str

    @property
    def is_done(self) -> bool:
        """Whether it has left the shelf."""
        return self.run is not None


def _retry(pipeline: "Pipeline", policies: "Policies", max_bytes: int, each: Shelved) -> _Tried:
    """What became of it."""
    from modelwarden.cli.translating import translated  # noqa: PLC0415 - likewise
    from modelwarden.pipeline.walk import Found  # noqa: PLC0415 - likewise

    try:
        data = read_as_found(pipeline.archive.root, each.id)
        if not is_whole(each, data):
            said = "only its beginning was kept: leave the whole file in a watched folder again"
            return _Tried(NOT_ARCHIVED, None, said)
        found = translated(Found(each.path, data, None), policies, max_bytes)
        if found is None:
            raise AssertionError("nobody asked whether the training ended")
        (outcome,) = pipeline.process([found], final=True, on_purpose=True)
        if isinstance(outcome, Archived | AlreadyArchived):
            pipeline.archive.tree.take_off_shelf(each.id)
    except RejectSummary as error:
        return _Tried(REJECTED, None, str(error))
    except ModelwardenError as error:
        return _Tried(NOT_ARCHIVED, None, str(error))
    return _Tried(outcome_of(outcome), run_of(outcome), said_of(outcome))


def outcome_of(outcome: Outcome) -> str:
    """What became of a summary, in a word or two; one of OUTCOMES."""
    match outcome:
        case Archived():
            return ARCHIVED
        case AlreadyArchived():
            return ALREADY_ARCHIVED
        case Postponed():
            return NOT_ARCHIVED
        case _:
            return REJECTED


def run_of(outcome: Outcome) -> str | None:
    """The run that a summary is, if it is one."""
    match outcome:
        case Archived(run):
            return run.timestamp
        case AlreadyArchived(name):
            return name
        case _:
            return None


def said_of(outcome: Outcome) -> str:
    """What became of a summary, for a person."""
    match outcome:
        case Archived(run):
            counts = ", ".join(f"{count} {each}" for each, count in run.counts.items())
            return f"archived as {run.timestamp}: {counts}"
        case AlreadyArchived(name):
            return f"archived already, as {name}"
        case Pruned(name):
            return f"pruned, as {name}"
        case Rejected(error) | Unfinished(error):
            first, *more = str(error).splitlines()
            return f"rejected: {first}{_and_more(more)}"
        case Postponed(error):
            return f"not now: {error}"
