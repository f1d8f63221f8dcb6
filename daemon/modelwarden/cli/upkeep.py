"""`verify`, `reindex` and `config check`: seeing whether things are right, and putting them right."""

from typing import Annotated

import typer

from modelwarden.cli.options import Archive, Config, Json, settings_for_asking
from modelwarden.cli.tables import print_json, print_table
from modelwarden.service.config import load_settings, others_can_read
from modelwarden.service.wiring import destinations_of, open_pipeline, policy_of, state_dir_of
from modelwarden.verification import verify as verify_archive

NOT_RIGHT = 1
"""Exit code of `verify` where something is wrong."""

config_commands = typer.Typer(help="The settings.", no_args_is_help=True)


def reindex(config: Config = None, archive: Archive = None) -> None:
    """Make index.json and the catalog again."""
    settings = settings_for_asking(config, archive)
    with open_pipeline(settings, announces=False) as pipeline:
        pipeline.rebuild()
        typer.echo(f"{len(pipeline.archive)} runs in {pipeline.archive.root}/index.json and in the catalog")


def verify(config: Config = None, archive: Archive = None, as_json: Json = False) -> None:
    """Read the whole archive again and say what is wrong. Exit code 1 where anything is."""
    settings = settings_for_asking(config, archive)
    with open_pipeline(settings, announces=False) as pipeline:
        runs, findings = verify_archive(pipeline.archive, pipeline.catalog)
        if as_json:
            print_json({"runs": runs, "findings": [finding._asdict() for finding in findings]})
        elif findings:
            print_table(("where", "what is wrong", "what mends it"), findings)
            typer.echo(f"{runs} runs read, {len(findings)} finding{'s' if len(findings) > 1 else ''}")
        else:
            typer.echo(f"{runs} runs read, all whole; index and catalog say the same")
    if findings:
        raise typer.Exit(NOT_RIGHT)


@config_commands.command("check")
def config_check(
    file: Annotated[str | None, typer.Argument(metavar="[FILE]", help="As with --config.")] = None,
    config: Config = None,
) -> None:
    """Say whether the settings are right, and what they come to. Exit code 2 where they are wrong."""
    settings, path = load_settings(file or config)
    destinations_of(settings)
    policy = policy_of(settings)
    if others_can_read(path, settings):
        typer.echo(f"modelwarden: {path}: holds a URL and everybody can read it: chmod 640", err=True)
    typer.echo(f"{path or 'no file: defaults and environment'}: right")
    print_table(
        ("setting", "value"),
        [
            *(("watch", f"{each.path} ({', '.join(each.patterns)})") for each in settings.watch),
            ("archive_dir", settings.archive_dir),
            ("state_dir", state_dir_of(settings.archive_dir, settings.state_dir)),
            ("policy", policy.id),
            *(("destination", f"{each.name}: {', '.join(each.on)}") for each in settings.notify.destination),
        ],
    )
