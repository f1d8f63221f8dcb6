"""`verify`, `reindex` and `adopt`: seeing whether the archive is right, and putting it right."""

from typing import Annotated

import typer

from modelwarden.archive.folders import oldest_first
from modelwarden.cli.answers import print_answer
from modelwarden.cli.lines import counted
from modelwarden.cli.options import Archive, Config, Json, settings_for_asking
from modelwarden.cli.progress import shown
from modelwarden.cli.tables import print_table
from modelwarden.config import load_settings
from modelwarden.filesystems import show_path
from modelwarden.service.logs import configure_logs
from modelwarden.verification import verify as verify_archive
from modelwarden.wiring.pipeline import open_pipeline

NOT_RIGHT = 1
"""Exit code of `verify` if something is wrong."""


def reindex(
    config: Config = None,
    archive: Archive = None,
    forget_missing: Annotated[
        bool, typer.Option("--forget-missing", help="Also let go of runs and decisions that are not there any more.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make index.json and the catalog again; clear away leftovers.

    Example: modelwarden reindex
    """
    settings = settings_for_asking(config, archive)
    configure_logs("warning", settings.log.format)
    with open_pipeline(settings, announces=False) as pipeline:
        forgotten = pipeline.upkeep.rebuild(forgets=forget_missing, shown=shown)
        count, root = len(pipeline.archive), pipeline.archive.root
        missing = [each.timestamp for each in pipeline.recorder.catalog.missing()]
    if as_json:
        print_answer(archive=show_path(root), runs=count, forgotten=forgotten, missing=missing)
        return
    typer.echo(f"{counted(count, 'run')} in {root}/index.json and in the catalog")
    if forgotten:
        typer.echo(f"forgot {forgotten} that {'is' if forgotten == 1 else 'are'} missing")
    elif missing:
        typer.echo(f"{len(missing)} that were in the archive are missing: see `modelwarden verify`")


def adopt(config: Config = None, archive: Archive = None, as_json: Json = False) -> None:
    """Take what is in archive_dir for the archive from now on.

    That is for another archive, a new one, or one whose identity file was lost. A daemon that waits for its archive
    goes on with this one within seconds. Summaries that are still in a watched folder and are not in this archive are
    archived again; nothing is announced twice.

    Example: modelwarden adopt --archive /mnt/models/archive
    """
    settings, _ = load_settings(config, archive=archive)
    configure_logs("warning", settings.log.format)
    with open_pipeline(settings, announces=False, adopts=True) as pipeline:
        identity = pipeline.upkeep.adopt()
        there = set(pipeline.archive.tree.run_names())
        missing = sorted(pipeline.recorder.catalog.names() - there, key=oldest_first)
    root = show_path(settings.archive_dir)
    if as_json:
        print_answer(archive=root, archive_id=identity, runs=len(there), missing=missing)
        return
    typer.echo(f"{root} is the archive from now on: {identity}, {counted(len(there), 'run')}")
    if missing:
        unseen = counted(len(missing), "run that this state knows is", "runs that this state knows are")
        typer.echo(f"{unseen} not in it: `modelwarden verify` names what is missing")


def verify(config: Config = None, archive: Archive = None, as_json: Json = False) -> None:
    """Read the whole archive again and say what is wrong.

    Exit code 1 if anything is.

    Example: modelwarden verify
    """
    settings = settings_for_asking(config, archive)
    configure_logs("warning", settings.log.format)
    with open_pipeline(settings, announces=False) as pipeline:
        pipeline.upkeep.recognise(mends=False)
        runs, findings = verify_archive(
            pipeline.archive, pipeline.recorder.catalog, decided=pipeline.recorder.decided, shown=shown
        )
        if as_json:
            print_answer(runs=runs, findings=[finding._asdict() for finding in findings])
        elif findings:
            print_table(("where", "what is wrong", "what mends it"), findings)
            typer.echo(f"{counted(runs, 'run')} read, {counted(len(findings), 'finding')}")
        else:
            typer.echo(f"{counted(runs, 'run')} read, all whole; index and catalog say the same")
    if findings:
        raise typer.Exit(NOT_RIGHT)
